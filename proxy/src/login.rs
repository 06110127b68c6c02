//! A client's way in: TLS, who it is, and to which target.

mod limited;
mod prove;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use retrace_access::{Authenticated, CurrentTls};
use retrace_policy::rules::{Action, Question, Ruling};
use retrace_proto::Masked;
use retrace_proto::wire::{Asserted, login_refused::Reason};
use retrace_proxy_core::postgres::SessionRules;
use retrace_proxy_core::postgres::message::{Severity, error_response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::gateway::{ALPN, Gateway, Target};
use crate::loaded::Loaded;
use crate::refusals::Kind;
use crate::source::Source;
use crate::startup::{self, Startup, StartupError, StartupParameters};

pub(crate) use limited::take_seat;

/// The first byte of TLS: the type of a record with a handshake. No startup message begins so, being far too short.
const TLS_HANDSHAKE: [u8; 1] = [0x16];

/// How many questions about encryption a client may ask before it must go on.
const ENCRYPTION_QUESTIONS_MAX: u32 = 2;

/// A client that is let in.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) who: Authenticated,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) target: Arc<Target>,
    pub(crate) rules: SessionRules,
    pub(crate) startup: StartupParameters,
    pub(crate) asserted: Masked<Vec<Asserted>>,
}

/// What became of a connection's first messages.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It wants to log in, inside TLS.
    Login(Box<TlsStream<TcpStream>>, Arc<CurrentTls>, StartupParameters),
    /// It was a cancel request, which is never answered.
    Cancelled,
}

/// A login that is refused: for the record, and for the client if it is to be told.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) asserted: Masked<Vec<Asserted>>,
    pub(crate) principal: Option<Box<retrace_proto::wire::Principal>>,
    pub(crate) answer: Option<Bytes>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, answer: Option<Bytes>) -> Self {
        Self { reason, asserted: Masked::from_iter([]), principal: None, answer }
    }

    /// What makes it like others.
    pub(crate) fn kind(&self, source: Source) -> Kind {
        let is_of_a_stranger = self.principal.is_none() && self.asserted.get().is_empty();
        let principal = self.principal.as_deref().cloned();
        Kind { reason: self.reason, source: Some(source), principal, is_of_a_stranger }
    }

    pub(crate) fn told(reason: Reason, sqlstate: &str, message: &str, hint: &str) -> Self {
        Self::new(reason, Some(error_response(Severity::Fatal, sqlstate, message, hint)))
    }
}

impl From<StartupError> for Refusal {
    fn from(error: StartupError) -> Self {
        match error {
            // To whom the protocol is foreign, an answer in it says nothing.
            StartupError::Io(_) | StartupError::Malformed => Self::new(Reason::Protocol, None),
            StartupError::Parameters => {
                Self::told(Reason::Protocol, "08P01", &format!("retrace: {error}"), "")
            }
            StartupError::Version { major, .. } => {
                let hint = "Use protocol 3.0 or 3.2, as every client since PostgreSQL 7.4 does.";
                let mut refusal =
                    Self::told(Reason::Unsupported, "0A000", &format!("retrace: {error}"), hint);
                if major < 3 {
                    // Until protocol 3 an error was its letter and a text.
                    refusal.answer = Some(format!("EFATAL:  retrace: {error}\n\0").into());
                }
                refusal
            }
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        StartupError::from(error).into()
    }
}

/// A connection that is not let in, on which its client can be told why.
pub(crate) type Unadmitted = Box<dyn AsyncWrite + Send + Unpin>;

/// Reads a connection's first messages up to the login inside TLS.
pub(crate) async fn open(
    gateway: &Gateway,
    mut stream: TcpStream,
) -> Result<Opened, (Refusal, Option<Unadmitted>)> {
    let mut first = [0];
    if matches!(stream.peek(&mut first).await, Ok(1)) && first == TLS_HANDSHAKE {
        return open_tls(gateway, stream, Asked::Directly).await;
    }
    for _ in 0..=ENCRYPTION_QUESTIONS_MAX {
        match startup::read_startup(&mut stream).await {
            Ok(Startup::SslRequest) => {
                if let Err(error) = stream.write_all(b"S").await {
                    return Err((error.into(), None));
                }
                return open_tls(gateway, stream, Asked::First).await;
            }
            Ok(Startup::GssRequest) => {
                if let Err(error) = stream.write_all(b"N").await {
                    return Err((error.into(), None));
                }
            }
            Ok(Startup::Cancel(key)) => {
                gateway.cancel(&key).await;
                return Ok(Opened::Cancelled);
            }
            Ok(Startup::Login(_)) => {
                let refusal = Refusal::told(
                    Reason::Protocol,
                    "28000",
                    "retrace: this gate speaks TLS only",
                    "Connect with sslmode=require, or sslmode=verify-full and the gate's ca.pem.",
                );
                return Err((refusal, Some(Box::new(stream))));
            }
            Err(error) => return Err((error.into(), Some(Box::new(stream)))),
        }
    }
    Err((Refusal::new(Reason::Protocol, None), None))
}

/// How a client came to TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// By SSLRequest.
    First,
    /// By beginning with it, as PostgreSQL 17 can.
    Directly,
}

/// Speaks TLS. Nothing that came before it was read ahead: what a client, or somebody between, sent in cleartext behind
/// SSLRequest is taken for TLS, which it is not, and never for something said inside.
async fn open_tls(
    gateway: &Gateway,
    stream: TcpStream,
    asked: Asked,
) -> Result<Opened, (Refusal, Option<Unadmitted>)> {
    let tls = gateway.tls.now();
    let accepted = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream).await;
    let mut stream = Box::new(accepted.map_err(|error| (error.into(), None))?);
    // A client that does not say that it means PostgreSQL may have been led here by somebody, and gets no word that it
    // could take for another protocol's.
    if asked == Asked::Directly && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err((Refusal::new(Reason::Protocol, None), None));
    }
    match startup::read_startup(&mut stream).await {
        Ok(Startup::Login(startup)) => Ok(Opened::Login(stream, tls, startup)),
        Ok(Startup::Cancel(key)) => {
            gateway.cancel(&key).await;
            // TLS is ended in its own way, by which the client sees that its request has come.
            let _ = stream.shutdown().await;
            Ok(Opened::Cancelled)
        }
        Ok(Startup::SslRequest | Startup::GssRequest) => Err((Refusal::new(Reason::Protocol, None), None)),
        Err(error) => Err((error.into(), Some(stream))),
    }
}

/// Finds out who the client is and which target it may have. Which targets there are is told to nobody before that.
pub(crate) async fn authenticate(
    gateway: &Gateway,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    tls: &CurrentTls,
    startup: StartupParameters,
    address: IpAddr,
) -> Result<Login, Refusal> {
    let source = Source::of(address);
    let asserted = asserted(gateway, &startup);
    let user = startup.value("user").unwrap_or_default().to_owned();
    let database = startup.value("database").unwrap_or(&user).to_owned();
    let with = |refusal: Refusal| Refusal { asserted: asserted.clone(), ..refusal };

    limited::source_may_log_in(gateway, source).map_err(with)?;
    if user.is_empty() {
        return Err(with(Refusal::told(Reason::Protocol, "28000", "retrace: no user name was sent", "")));
    }
    if startup.wants_replication() {
        return Err(with(Refusal::told(
            Reason::Unsupported,
            "0A000",
            "retrace: replication is not supported through this gate",
            "Connect to the server itself for replication.",
        )));
    }
    limited::user_may_try(gateway, &user, source).map_err(with)?;
    negotiate(stream, &startup).await.map_err(|error| with(error.into()))?;
    let proving = prove::Proving { user: &user, source, end_point: tls.end_point.as_deref() };
    let who = prove::prove(gateway, stream, &proving).await.map_err(with)?;
    let Some((loaded, who)) = gateway.latest.admit(who, &gateway.directory) else {
        return Err(with(prove::wrong_credential(&user)));
    };
    let target = loaded.targets.get(&database);
    let Some((target, rules)) =
        target.and_then(|target| may_connect(gateway, &loaded, &who, target, address))
    else {
        // The same answer whether there is no such target or it is not this principal's.
        let refusal = Refusal::told(
            Reason::Target,
            "3D000",
            &format!("retrace: there is no target \"{database}\" for \"{user}\""),
            "The database name is the name of a target; ask whoever runs the gate which are yours.",
        );
        return Err(Refusal { principal: Some(Box::new(who.to_wire())), ..with(refusal) });
    };
    Ok(Login { who, loaded, target, rules, startup, asserted })
}

/// The target with the rules that concern the session, if they let it begin.
fn may_connect(
    gateway: &Gateway,
    loaded: &Loaded,
    who: &Authenticated,
    target: &Arc<Target>,
    address: IpAddr,
) -> Option<(Arc<Target>, SessionRules)> {
    let client_address = Some(address.to_canonical());
    let scope = loaded.policy.scope(&who.principal.name, &target.name);
    let moment = scope.moment(clock::unix_us());
    let ruling = scope.decide(Action::Connect, &Question { client_address, moment, statement: None });
    let rules =
        SessionRules { scope: Arc::new(scope), client_address, grants_key: gateway.grants_key.clone() };
    (ruling == Ruling::Allow).then(|| (target.clone(), rules))
}

/// Answers a client that speaks a newer minor version or asks for options: what is spoken here, and none of them.
async fn negotiate(
    stream: &mut (impl AsyncWrite + Unpin),
    startup: &StartupParameters,
) -> Result<(), std::io::Error> {
    if startup.minor == startup.spoken_minor() && startup.protocol_options.is_empty() {
        return Ok(());
    }
    let mut body = startup::version(startup.spoken_minor()).to_be_bytes().to_vec();
    let count = u32::try_from(startup.protocol_options.len()).expect("bounded by the startup message");
    body.extend_from_slice(&count.to_be_bytes());
    for option in &startup.protocol_options {
        body.extend_from_slice(option.as_bytes());
        body.push(0);
    }
    stream.write_all(&startup::message(b'v', &body)).await
}

/// What the client says of itself and asks for its session, masked. Nothing of it is believed.
fn asserted(gateway: &Gateway, startup: &StartupParameters) -> Masked<Vec<Asserted>> {
    let masked = |(name, value): &(String, String)| gateway.masks_everything.mask_asserted(name, value);
    startup.parameters.iter().map(masked).collect()
}

#[cfg(test)]
mod tests;
