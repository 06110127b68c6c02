//! A client's way in: TLS, and who it is.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use retrace_access::{Authenticated, Refused, ScramError};
use retrace_proto::wire::login_refused::Reason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::cancel::Cancels;
use super::error::Failure;
use super::message::{self, malformed, put, put_text};
use crate::door::Door;

/// Longest startup message, as a PostgreSQL server has it, and longest message of a login, in bytes.
const STARTUP_BYTES_MAX: usize = 10_000;
const LOGIN_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// How many questions about encryption a client may ask before it must go on.
const ENCRYPTION_QUESTIONS_MAX: u32 = 2;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

const MECHANISM: &[u8] = b"SCRAM-SHA-256";

/// The newest minor version of protocol 3 that is spoken here: that of long cancel keys.
const NEWEST_MINOR_VERSION: u32 = 2;

/// A client that is let in.
pub(super) struct Login {
    pub(super) who: Authenticated,
    pub(super) application_name: String,
    /// Whether it takes a cancel key of more than four bytes.
    pub(super) takes_long_key: bool,
}

/// What a client begins with.
pub(super) enum Startup {
    Ssl,
    Gss,
    Cancel { process_id: u32, key: Bytes },
    Login { minor: u32, parameters: Vec<(String, String)> },
}

/// What became of a connection's first messages.
pub(super) enum Opened {
    /// It wants to log in, inside TLS.
    Login(Box<TlsStream<TcpStream>>, u32, Vec<(String, String)>),
    /// It was a cancel request, which is never answered.
    Cancelled,
}

/// Why a client is not let in: what is recorded and what it is told.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) failure: Failure,
}

impl Refusal {
    pub(super) fn new(reason: Reason, failure: Failure) -> Self {
        Self { reason, failure }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { reason: Reason::Protocol, failure }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Reads a connection's first messages up to the login inside TLS, exactly: not one byte beyond each, so that nothing
/// sent before TLS is taken for something sent inside it.
pub(super) async fn open(
    mut stream: TcpStream,
    tls: &TlsAcceptor,
    cancels: &Cancels,
) -> Result<Opened, (Refusal, Option<TcpStream>)> {
    for _ in 0..=ENCRYPTION_QUESTIONS_MAX {
        match read_startup(&mut stream).await {
            Ok(Startup::Ssl) => {
                return open_tls(stream, tls, cancels).await.map_err(|refusal| (refusal, None));
            }
            Ok(Startup::Gss) => {
                if let Err(error) = stream.write_all(b"N").await {
                    return Err((error.into(), None));
                }
            }
            Ok(Startup::Cancel { process_id, key }) => {
                cancels.cancel(process_id, &key);
                return Ok(Opened::Cancelled);
            }
            Ok(Startup::Login { .. }) => {
                let failure = Failure::fatal("28000", "the evidence is read over TLS only".to_owned())
                    .hinting(
                        "Connect with sslmode=require, or sslmode=verify-full and the gateway's ca.pem.",
                    );
                return Err((failure.into(), Some(stream)));
            }
            Err(failure) => return Err((failure.into(), Some(stream))),
        }
    }
    Err((malformed().into(), None))
}

async fn open_tls(mut stream: TcpStream, tls: &TlsAcceptor, cancels: &Cancels) -> Result<Opened, Refusal> {
    stream.write_all(b"S").await?;
    let mut stream = Box::new(tls.accept(stream).await?);
    match read_startup(&mut stream).await? {
        Startup::Login { minor, parameters } => Ok(Opened::Login(stream, minor, parameters)),
        Startup::Cancel { process_id, key } => {
            cancels.cancel(process_id, &key);
            Ok(Opened::Cancelled)
        }
        Startup::Ssl | Startup::Gss => Err(malformed().into()),
    }
}

async fn read_startup(stream: &mut (impl AsyncRead + Unpin)) -> Result<Startup, Failure> {
    let length = stream.read_u32().await? as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(malformed());
    }
    let mut body = BytesMut::zeroed(length - 4);
    stream.read_exact(&mut body).await?;
    let mut body = body.freeze();
    match body.get_u32() {
        SSL_REQUEST => Ok(Startup::Ssl),
        GSS_REQUEST => Ok(Startup::Gss),
        CANCEL_REQUEST if body.len() >= 8 => Ok(Startup::Cancel { process_id: body.get_u32(), key: body }),
        version if version >> 16 == 3 => Ok(Startup::Login {
            minor: version & 0xffff,
            parameters: parameters(&body).ok_or_else(malformed)?,
        }),
        _ => Err(Failure::fatal("0A000", "this server speaks PostgreSQL's protocol 3".to_owned())),
    }
}

/// Names and values, each ended by a zero, and a zero at the end of all.
fn parameters(body: &[u8]) -> Option<Vec<(String, String)>> {
    let mut texts = std::str::from_utf8(body.strip_suffix(b"\0\0")?).ok()?.split('\0');
    let mut parameters = Vec::new();
    while let Some(name) = texts.next() {
        parameters.push((name.to_owned(), texts.next()?.to_owned()));
    }
    Some(parameters)
}

/// Finds out who the client is. Whether they may read, each statement is asked anew.
pub(super) async fn authenticate(
    door: &Door,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    minor: u32,
    parameters: &[(String, String)],
) -> Result<Login, Refusal> {
    let value = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let user = value("user");
    if user.is_empty() {
        return Err(Failure::fatal("28000", "no user name was sent".to_owned()).into());
    }
    if !matches!(value("replication"), "" | "false" | "off" | "no" | "0") {
        let failure = Failure::fatal("0A000", "there is nothing to replicate here".to_owned());
        return Err(Refusal::new(Reason::Unsupported, failure));
    }
    negotiate(stream, minor, parameters).await?;
    if let Err(error) = door.knows_orders() {
        return Err(Failure::fatal("57P03", error.to_string()).into());
    }
    let who = prove(door, stream, user).await?;
    let application_name = value("application_name").to_owned();
    Ok(Login { who, application_name, takes_long_key: minor >= NEWEST_MINOR_VERSION })
}

/// Answers a client that speaks a newer minor version or asks for options: ours, and none of them.
async fn negotiate(
    stream: &mut (impl AsyncWrite + Unpin),
    minor: u32,
    parameters: &[(String, String)],
) -> Result<(), Failure> {
    let options: Vec<&str> =
        parameters.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
    if minor <= NEWEST_MINOR_VERSION && options.is_empty() {
        return Ok(());
    }
    let mut out = BytesMut::new();
    put(&mut out, b'v', |out| {
        out.put_u32(3 << 16 | minor.min(NEWEST_MINOR_VERSION));
        out.put_u32(u32::try_from(options.len()).expect("bounded by the startup message"));
        options.iter().for_each(|option| put_text(out, option));
    });
    Ok(stream.write_all(&out).await?)
}

/// SASL with SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL wraps it.
async fn prove(
    door: &Door,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &str,
) -> Result<Authenticated, Refusal> {
    let mut scram = door.directory().scram(user);
    send(stream, 10, &[MECHANISM, b"\0\0"].concat()).await?;
    let initial = receive(stream).await?;
    let (mechanism, first) = split_initial(&initial).ok_or_else(malformed)?;
    if mechanism != MECHANISM {
        return Err(malformed().into());
    }
    let mut nonce = [0; 18];
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    let answer = scram.handle_client_first(first, &nonce).map_err(|error| refused(&error, user))?;
    send(stream, 11, &answer).await?;

    let last = receive(stream).await?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_unix_s = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let (answer, who) =
        scram.handle_client_final(&last, now_unix_s).map_err(|error| refused(&error, user))?;
    send(stream, 12, &answer).await?;
    Ok(who)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), kind: u32, body: &[u8]) -> Result<(), Failure> {
    let mut out = BytesMut::new();
    put(&mut out, b'R', |out| {
        out.put_u32(kind);
        out.put_slice(body);
    });
    stream.write_all(&out).await?;
    Ok(stream.flush().await?)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Failure> {
    match message::read(stream, LOGIN_MESSAGE_BYTES_MAX).await? {
        Some((b'p', body)) => Ok(body),
        Some(_) => Err(malformed()),
        None => Err(Failure::gone()),
    }
}

/// SASLInitialResponse: the mechanism, and the first message behind its length.
fn split_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&body[..end], &body[end + 1..]);
    let (length, first) = rest.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == first.len()).then_some((mechanism, first))
}

fn refused(error: &ScramError, user: &str) -> Refusal {
    let reason = match error {
        ScramError::Refused(Refused::Credential) => {
            let problem = format!("password authentication failed for user \"{user}\"");
            let failure = Failure::fatal("28P01", problem).hinting(
                "The password is an access token (rt_…) of this principal that is neither expired nor revoked.",
            );
            return Refusal::new(Reason::Credential, failure);
        }
        ScramError::ChannelBinding(_) => Reason::Unsupported,
        ScramError::Refused(_) => Reason::Credential,
        _ => Reason::Protocol,
    };
    Refusal::new(reason, Failure::fatal("28P01", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn startup(bytes: &[u8]) -> Result<Startup, Failure> {
        read_startup(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn a_startup_is_read_exactly() {
        let login = b"\0\0\0\x16\0\x03\0\x02user\0ann\0a\0b\0\0";
        let Ok(Startup::Login { minor: 2, parameters }) = startup(login).await else { panic!("a login") };
        assert_eq!(parameters, [("user".into(), "ann".into()), ("a".into(), "b".into())]);
        let cancel = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09";
        let Ok(Startup::Cancel { process_id: 7, key }) = startup(cancel).await else { panic!("a cancel") };
        assert_eq!(&key[..], b"\0\0\0\x09");
        for wrong in [
            &b"\0\0\0\x04"[..],
            b"\x7f\xff\xff\xff\0\x03\0\0",
            b"\0\0\0\x0d\0\x03\0\0user\0",
            b"\0\0\0\x0e\0\x03\0\0user\0\0",
            b"\0\0\0\x09\0\x02\0\0\0",
            b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x07",
        ] {
            assert!(startup(wrong).await.is_err(), "{wrong:?}");
        }
    }
}
