//! A client's way in: TLS, who it is, and to which target.

use std::sync::Arc;

use bytes::Bytes;
use retrace_access::{Authenticated, Refused, ScramError};
use retrace_proto::Masked;
use retrace_proto::wire::{Asserted, login_refused::Reason};
use retrace_proxy_core::postgres::message::{Severity, error_response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::gateway::{Gateway, Target};
use crate::startup::{self, Startup, StartupError, StartupParameters};

/// How many questions about encryption a client may ask before it must go on.
const ENCRYPTION_QUESTIONS_MAX: u32 = 2;

/// A client that is let in.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) who: Authenticated,
    pub(crate) target: Arc<Target>,
    pub(crate) startup: StartupParameters,
    pub(crate) asserted: Masked<Vec<Asserted>>,
}

/// What became of a connection's first messages.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It wants to log in, inside TLS.
    Login(Box<TlsStream<TcpStream>>, StartupParameters),
    /// It was a cancel request, which is never answered.
    Cancelled,
}

/// A login that is refused: for the record, and for the client if it is to be told.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) asserted: Masked<Vec<Asserted>>,
    pub(crate) principal: Option<retrace_proto::wire::Principal>,
    pub(crate) answer: Option<Bytes>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, answer: Option<Bytes>) -> Self {
        Self { reason, asserted: Masked::from_iter([]), principal: None, answer }
    }

    fn told(reason: Reason, sqlstate: &str, message: &str, hint: &str) -> Self {
        Self::new(reason, Some(error_response(Severity::Fatal, sqlstate, message, hint)))
    }
}

impl From<StartupError> for Refusal {
    fn from(error: StartupError) -> Self {
        match error {
            // To whom the protocol is foreign, an answer in it says nothing.
            StartupError::Io(_) | StartupError::Malformed => Self::new(Reason::Protocol, None),
            StartupError::Version { .. } => {
                Self::told(Reason::Unsupported, "0A000", &format!("retrace: {error}"), "Use protocol 3.0.")
            }
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        StartupError::from(error).into()
    }
}

/// Reads a connection's first messages up to the login inside TLS.
pub(crate) async fn open(
    gateway: &Gateway,
    mut stream: TcpStream,
) -> Result<Opened, (Refusal, Option<TcpStream>)> {
    for _ in 0..=ENCRYPTION_QUESTIONS_MAX {
        match startup::read_startup(&mut stream).await {
            Ok(Startup::SslRequest) => {
                return open_tls(gateway, stream).await.map_err(|refusal| (refusal, None));
            }
            Ok(Startup::GssRequest) => {
                if let Err(error) = stream.write_all(b"N").await {
                    return Err((error.into(), None));
                }
            }
            Ok(Startup::Cancel { process_id, secret }) => {
                gateway.cancels.cancel(process_id, secret);
                return Ok(Opened::Cancelled);
            }
            Ok(Startup::Login(_)) => {
                let refusal = Refusal::told(
                    Reason::Protocol,
                    "28000",
                    "retrace: this gate speaks TLS only",
                    "Connect with sslmode=require, or sslmode=verify-full and the gate's ca.pem.",
                );
                return Err((refusal, Some(stream)));
            }
            Err(error) => return Err((error.into(), Some(stream))),
        }
    }
    Err((Refusal::new(Reason::Protocol, None), None))
}

async fn open_tls(gateway: &Gateway, mut stream: TcpStream) -> Result<Opened, Refusal> {
    stream.write_all(b"S").await?;
    let mut stream = Box::new(gateway.tls.accept(stream).await?);
    match startup::read_startup(&mut stream).await? {
        Startup::Login(startup) => Ok(Opened::Login(stream, startup)),
        Startup::Cancel { process_id, secret } => {
            gateway.cancels.cancel(process_id, secret);
            Ok(Opened::Cancelled)
        }
        Startup::SslRequest | Startup::GssRequest => Err(Refusal::new(Reason::Protocol, None)),
    }
}

/// Finds out who the client is and which target it may have. Which targets there are is told to nobody before that.
pub(crate) async fn authenticate(
    gateway: &Gateway,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    startup: StartupParameters,
) -> Result<Login, Refusal> {
    let asserted = asserted(gateway, &startup);
    let user = startup.value("user").unwrap_or_default().to_owned();
    let database = startup.value("database").unwrap_or(&user).to_owned();
    let with = |refusal: Refusal| Refusal { asserted: asserted.clone(), ..refusal };

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
    negotiate(stream, &startup).await.map_err(|error| with(error.into()))?;
    let who = prove(gateway, stream, &user).await.map_err(with)?;
    let target = gateway.targets.get(&database).filter(|target| who.principal.may_use(&target.name));
    let Some(target) = target.cloned() else {
        // The same answer whether there is no such target or it is not this principal's.
        let refusal = Refusal::told(
            Reason::Target,
            "3D000",
            &format!("retrace: there is no target \"{database}\" for \"{user}\""),
            "The database name is the name of a target; ask whoever runs the gate which are yours.",
        );
        return Err(Refusal { principal: Some(who.to_wire()), ..with(refusal) });
    };
    Ok(Login { who, target, startup, asserted })
}

/// Answers a client that speaks a newer minor version or asks for options: 3.0, and none of them.
async fn negotiate(
    stream: &mut (impl AsyncWrite + Unpin),
    startup: &StartupParameters,
) -> Result<(), std::io::Error> {
    if startup.minor == 0 && startup.protocol_options.is_empty() {
        return Ok(());
    }
    let mut body = (3_u32 << 16).to_be_bytes().to_vec();
    let count = u32::try_from(startup.protocol_options.len()).expect("bounded by the startup message");
    body.extend_from_slice(&count.to_be_bytes());
    for option in &startup.protocol_options {
        body.extend_from_slice(option.as_bytes());
        body.push(0);
    }
    stream.write_all(&startup::message(b'v', &body)).await
}

/// SASL with SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL wraps it.
async fn prove(
    gateway: &Gateway,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &str,
) -> Result<Authenticated, Refusal> {
    const MECHANISM: &[u8] = b"SCRAM-SHA-256";
    let mut scram = gateway.directory.scram(user);

    let offer = [&10_u32.to_be_bytes()[..], MECHANISM, b"\0\0"].concat();
    send(stream, &offer).await?;
    let initial = receive(stream).await?;
    let (mechanism, first) = split_initial(&initial).ok_or_else(malformed)?;
    if mechanism != MECHANISM {
        return Err(malformed());
    }
    let answer = scram.handle_client_first(first, &clock::random()).map_err(|error| refused(&error, user))?;
    send(stream, &[&11_u32.to_be_bytes()[..], &answer].concat()).await?;

    let last = receive(stream).await?;
    let now_unix_s = clock::unix_us() / 1_000_000;
    let (answer, who) =
        scram.handle_client_final(&last, now_unix_s).map_err(|error| refused(&error, user))?;
    send(stream, &[&12_u32.to_be_bytes()[..], &answer].concat()).await?;
    Ok(who)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<(), Refusal> {
    stream.write_all(&startup::message(b'R', body)).await?;
    Ok(stream.flush().await?)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Refusal> {
    match startup::read_message(stream).await? {
        (b'p', body) => Ok(body),
        _ => Err(malformed()),
    }
}

/// SASLInitialResponse: the mechanism, and the first message behind its length.
fn split_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&body[..end], &body[end + 1..]);
    let (length, first) = rest.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == first.len()).then_some((mechanism, first))
}

fn malformed() -> Refusal {
    Refusal::told(Reason::Protocol, "08P01", "retrace: a message of the login is malformed", "")
}

fn refused(error: &ScramError, user: &str) -> Refusal {
    let reason = match error {
        ScramError::Refused(Refused::Credential) => {
            return Refusal::told(
                Reason::Credential,
                "28P01",
                &format!("password authentication failed for user \"{user}\""),
                "The password is an access token (rt_…) of this principal that is neither expired nor revoked.",
            );
        }
        ScramError::ChannelBinding => Reason::Unsupported,
        ScramError::Refused(_) => Reason::Credential,
        _ => Reason::Protocol,
    };
    Refusal::told(reason, "28P01", &format!("retrace: {error}"), "")
}

/// What the client says of itself and asks for its session, masked. Nothing of it is believed.
fn asserted(gateway: &Gateway, startup: &StartupParameters) -> Masked<Vec<Asserted>> {
    let masked = |(name, value): &(String, String)| gateway.masks_everything.mask_asserted(name, value);
    startup.parameters.iter().map(masked).collect()
}
