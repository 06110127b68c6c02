//! The way to a target, with the gate's credential. What goes wrong here is told to a client without address or
//! credential.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::{Target, TargetEncryption};
use crate::socket;
use crate::startup::{self, StartupError, StartupParameters};

/// Messages that a target may send before it is ready.
const MESSAGES_BEFORE_READY_MAX: usize = 1000;

/// A target that is ready for a session.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: TargetStream,
    pub(crate) settings: Vec<(Bytes, Bytes)>,
    pub(crate) cancel: CancelKey,
}

/// What the target gave to cancel with. It does not print.
#[derive(Clone, Default)]
pub(crate) struct CancelKey {
    process_id: u32,
    secret: Vec<u8>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CancelKey([secret])")
    }
}

/// Why a target is not ready. No variant holds what the target said, an address or a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("it cannot be reached ({})", .0.kind())]
    Io(#[from] io::Error),
    #[error("it does not speak TLS")]
    NoTls,
    #[error("it asks for an authentication this gate does not do over this connection")]
    Authentication,
    #[error("it refuses the gate's login (SQLSTATE {sqlstate})")]
    Refused { sqlstate: String },
    #[error("it does not answer as a PostgreSQL server does")]
    Protocol,
    #[error("it was not ready in time")]
    Deadline,
}

impl From<StartupError> for DialError {
    fn from(error: StartupError) -> Self {
        match error {
            StartupError::Io(error) => Self::Io(error),
            _ => Self::Protocol,
        }
    }
}

/// Connects, logs in, and waits until the target is ready.
pub(crate) async fn dial(target: &Target, startup: &StartupParameters) -> Result<Dialled, DialError> {
    let mut stream = connect(target).await?;
    stream.write_all(&login_message(target, startup)).await?;
    stream.flush().await?;
    authenticate(target, &mut stream).await?;
    let mut dialled = Dialled { stream, settings: Vec::new(), cancel: CancelKey::default() };
    for _ in 0..MESSAGES_BEFORE_READY_MAX {
        match read(&mut dialled.stream).await? {
            (b'S', body) => dialled.settings.push(setting(&body)?),
            (b'K', body) => {
                let (process_id, secret) = body.split_first_chunk::<4>().ok_or(DialError::Protocol)?;
                dialled.cancel =
                    CancelKey { process_id: u32::from_be_bytes(*process_id), secret: secret.to_vec() };
            }
            (b'Z', _) => return Ok(dialled),
            (b'N', _) => {}
            _ => break,
        }
    }
    Err(DialError::Protocol)
}

/// Tells the target to cancel what a connection does. Like any client's, the request is not answered.
pub(crate) async fn cancel(target: &Target, key: &CancelKey) -> Result<(), DialError> {
    let mut stream = connect(target).await?;
    stream.write_all(&startup::cancel_request(key.process_id, &key.secret)).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn connect(target: &Target) -> Result<TargetStream, DialError> {
    let mut stream = TcpStream::connect(&target.address).await?;
    socket::prepare(&stream);
    let TargetEncryption::Tls { config, server_name } = &target.encryption else {
        return Ok(TargetStream::Cleartext(stream));
    };
    stream.write_all(&startup::ssl_request()).await?;
    let mut answer = [0];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await?;
    if answer != *b"S" {
        return Err(DialError::NoTls);
    }
    let connector = TlsConnector::from(config.clone());
    Ok(TargetStream::Tls(Box::new(connector.connect(server_name.clone(), stream).await?)))
}

/// The gate's own user and the target's own database; whatever else the client set for its session.
fn login_message(target: &Target, startup: &StartupParameters) -> Vec<u8> {
    let mut body = Vec::new();
    let mut put = |name: &str, value: &str| {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    };
    put("user", &target.user);
    put("database", &target.database);
    for (name, value) in &startup.parameters {
        if !matches!(name.as_str(), "user" | "database" | "replication") {
            put(name, value);
        }
    }
    body.push(0);
    startup::startup_message(3 << 16, &body)
}

async fn authenticate(target: &Target, stream: &mut TargetStream) -> Result<(), DialError> {
    let mut scram: Option<ScramSha256> = None;
    loop {
        let (b'R', body) = read(stream).await? else { return Err(DialError::Protocol) };
        let (kind, rest) = body.split_first_chunk::<4>().ok_or(DialError::Protocol)?;
        match (u32::from_be_bytes(*kind), &mut scram) {
            // Ok: a server that is asked for no proof is the target's own choice.
            (0, _) => return Ok(()),
            // A password as it is: only where nobody can listen.
            (3, None) if matches!(stream, TargetStream::Tls(_)) => {
                let password = [target.password.expose(), b"\0"].concat();
                send(stream, &password).await?;
            }
            (10, None) => {
                let offered = rest.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes());
                if !offered {
                    return Err(DialError::Authentication);
                }
                let exchange = ScramSha256::new(target.password.expose(), ChannelBinding::unsupported());
                let first = exchange.message();
                let length = u32::try_from(first.len()).expect("a short message").to_be_bytes();
                let initial = [SCRAM_SHA_256.as_bytes(), b"\0", &length[..], first].concat();
                send(stream, &initial).await?;
                scram = Some(exchange);
            }
            (11, Some(exchange)) => {
                exchange.update(rest).map_err(|_| DialError::Protocol)?;
                let last = exchange.message().to_vec();
                send(stream, &last).await?;
            }
            // The server proves that it knows the password too.
            (12, Some(exchange)) => exchange.finish(rest).map_err(|_| DialError::Protocol)?,
            _ => return Err(DialError::Authentication),
        }
    }
}

async fn send(stream: &mut TargetStream, body: &[u8]) -> Result<(), DialError> {
    stream.write_all(&startup::message(b'p', body)).await?;
    Ok(stream.flush().await?)
}

/// Reads one message; an error of the target's is one here.
async fn read(stream: &mut TargetStream) -> Result<(u8, Vec<u8>), DialError> {
    let (tag, body) = startup::read_message(stream).await?;
    if tag == b'E' {
        return Err(DialError::Refused { sqlstate: sqlstate(&body) });
    }
    Ok((tag, body))
}

/// The code of an ErrorResponse, if it has the form of one.
fn sqlstate(body: &[u8]) -> String {
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

/// A connection to a target, encrypted or not.
#[derive(Debug)]
pub(crate) enum TargetStream {
    Cleartext(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for TargetStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Cleartext(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for TargetStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Cleartext(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Cleartext(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Cleartext(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
