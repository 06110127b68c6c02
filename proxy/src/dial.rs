//! The way to a target, with the gate's credential. What goes wrong here is told to a client without address or
//! credential.

mod error;
mod prove;
mod stream;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use retrace_access::tls::server_end_point;
use retrace_access::{Credential, Loan};
use retrace_proxy_core::postgres::CancelKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gateway::{ALPN, Target, TargetEncryption};
use crate::socket;
use crate::startup::{self, StartupParameters};

pub(crate) use error::DialError;
use prove::{Privacy, Prover, Step};
pub(crate) use stream::TargetStream;

/// Messages that a target may send before it is ready.
const MESSAGES_BEFORE_READY_MAX: usize = 1000;

/// Messages that a target may send before it has let the gate in.
const LOGIN_MESSAGES_MAX: usize = 16;

/// A target that is ready for a session.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) ready: Ready,
    /// What the gate logged in by, which is given back when the session ends.
    pub(crate) loan: Loan,
}

/// A connection to a target that has let the gate in.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) stream: TargetStream,
    pub(crate) settings: Vec<(Bytes, Bytes)>,
    pub(crate) cancel: CancelKey,
}

/// Connects, logs in, and waits until the target is ready. A credential that the target refuses may just have been changed, so
/// another one, if there is one, is tried once.
pub(crate) async fn dial(target: &Target, startup: &StartupParameters) -> Result<Dialled, DialError> {
    let loan = target.credential.lend().await?;
    let refused = match log_in(target, startup, loan.credential()).await {
        Err(error) if error.is_of_credential() => error,
        outcome => return Ok(Dialled { ready: outcome?, loan }),
    };
    let Some(other) = target.credential.lend_other(&loan).await? else { return Err(refused) };
    drop(loan);
    let ready = log_in(target, startup, other.credential()).await?;
    Ok(Dialled { ready, loan: other })
}

async fn log_in(
    target: &Target,
    startup: &StartupParameters,
    credential: &Credential,
) -> Result<Ready, DialError> {
    let mut link = connect(target).await?;
    link.stream.write_all(&login_message(target, startup, &credential.user)).await?;
    link.stream.flush().await?;
    authenticate(target, credential, &mut link).await?;
    let mut ready = Ready { stream: link.stream, settings: Vec::new(), cancel: CancelKey::default() };
    for _ in 0..MESSAGES_BEFORE_READY_MAX {
        match read(&mut ready.stream).await? {
            (b'S', body) => ready.settings.push(setting(&body)?),
            (b'K', body) => ready.cancel = startup::cancel_key(&body)?,
            (b'Z', _) => return Ok(ready),
            (b'N', _) => {}
            _ => break,
        }
    }
    Err(DialError::Protocol)
}

/// Tells the target to cancel what a connection does. Like any client's, the request is not answered.
pub(crate) async fn cancel(target: &Target, key: &CancelKey) -> Result<(), DialError> {
    let mut stream = connect(target).await?.stream;
    stream.write_all(&startup::cancel_request(key)).await?;
    stream.shutdown().await?;
    Ok(())
}

/// A connection to a target on which nothing has been said yet, and what a proof on it is worth.
struct Link {
    stream: TargetStream,
    privacy: Privacy,
    /// What a proof can be bound to.
    end_point: Option<Vec<u8>>,
}

async fn connect(target: &Target) -> Result<Link, DialError> {
    let mut stream = TcpStream::connect(&target.address).await?;
    socket::prepare(&stream);
    let is_local = stream.peer_addr()?.ip().to_canonical().is_loopback();
    let privacy = if is_local { Privacy::Local } else { Privacy::Exposed };
    let TargetEncryption::Tls(tls) = &target.encryption else {
        return Ok(Link { stream: TargetStream::Cleartext(stream), privacy, end_point: None });
    };
    if !tls.direct {
        ask_for_tls(&mut stream).await?;
    }
    let connector = TlsConnector::from(tls.config.clone());
    let stream = connector.connect(tls.server_name.clone(), stream).await?;
    let session = stream.get_ref().1;
    // Without it, the other end may be a server of another protocol that was sent a login.
    if tls.direct && session.alpn_protocol() != Some(ALPN) {
        return Err(DialError::NoDirectTls);
    }
    let end_point = session.peer_certificates().and_then(|chain| server_end_point(chain.first()?));
    let privacy = if tls.verifies { Privacy::Verified } else { privacy };
    Ok(Link { stream: TargetStream::Tls(Box::new(stream)), privacy, end_point })
}

/// Reads one byte and no more, so that nothing said in cleartext is taken for something said in TLS.
async fn ask_for_tls(stream: &mut TcpStream) -> Result<(), DialError> {
    stream.write_all(&startup::ssl_request()).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        _ => Err(DialError::NoTls),
    }
}

/// The gate's own user and the target's own database; whatever else the client set for its session. Of options of the
/// protocol none is passed on, since none is known here.
fn login_message(target: &Target, startup: &StartupParameters, user: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut put = |name: &str, value: &str| {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    };
    put("user", user);
    put("database", &target.database);
    for (name, value) in &startup.parameters {
        if !matches!(name.as_str(), "user" | "database" | "replication") {
            put(name, value);
        }
    }
    body.push(0);
    startup::startup_message(startup::version(target.protocol_minor_max), &body)
}

/// Proves that the gate may log in, in the way that the target asks for.
async fn authenticate(target: &Target, credential: &Credential, link: &mut Link) -> Result<(), DialError> {
    let mut prover = Prover::new(target.auth, credential, link.privacy, link.end_point.take());
    for message in 0..LOGIN_MESSAGES_MAX {
        let body = match read(&mut link.stream).await? {
            (b'R', body) => body,
            (b'v', body) if message == 0 => {
                accept_version(&body, target.protocol_minor_max)?;
                continue;
            }
            _ => break,
        };
        match prover.handle(&body)? {
            Step::Send(answer) => {
                link.stream.write_all(answer.expose()).await?;
                link.stream.flush().await?;
            }
            Step::Wait => {}
            Step::In => return Ok(()),
        }
    }
    Err(DialError::Protocol)
}

/// NegotiateProtocolVersion: a target that was asked for more may say that it speaks 3.0, and refuse no option, since none
/// was asked for. What follows differs in the length of cancel keys alone, and they are taken as they come.
fn accept_version(body: &[u8], asked_minor: u16) -> Result<(), DialError> {
    let speaks_3_0_alone = [startup::version(0).to_be_bytes(), [0; 4]].concat();
    if asked_minor > 0 && body == speaks_3_0_alone { Ok(()) } else { Err(DialError::Protocol) }
}

/// Reads one message; an error of the target's is one here.
async fn read(stream: &mut TargetStream) -> Result<(u8, Vec<u8>), DialError> {
    let (tag, body) = startup::read_message(stream).await?;
    if tag == b'E' {
        return Err(DialError::of_target(sqlstate(&body)));
    }
    Ok((tag, body))
}

/// The code of an ErrorResponse, if it has the form of one.
pub(crate) fn sqlstate(body: &[u8]) -> String {
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"C"))
        .filter(|code| code.len() == 5 && code.iter().all(u8::is_ascii_alphanumeric))
        .map_or_else(|| "unknown".to_owned(), |code| String::from_utf8_lossy(code).into_owned())
}

fn setting(body: &[u8]) -> Result<(Bytes, Bytes), DialError> {
    let mut texts = body.split(|byte| *byte == 0);
    let (Some(name), Some(value)) = (texts.next(), texts.next()) else {
        return Err(DialError::Protocol);
    };
    Ok((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)))
}
