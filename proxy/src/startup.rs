//! The messages before a session, read exactly: not one byte beyond each, so that nothing sent before TLS is taken for
//! something sent inside it.

use std::io;

use retrace_proxy_core::postgres::CancelKey;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest startup message, as a PostgreSQL server has it, in bytes.
const STARTUP_BYTES_MAX: usize = 10_000;

/// Longest message of a login, in bytes.
const LOGIN_MESSAGE_BYTES_MAX: usize = 16 * 1024;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const MAJOR_VERSION: u32 = 3;

/// The newest minor version of protocol 3 that is spoken here. 3.1 was never made; 3.2 is 3.0 with long cancel keys.
pub(crate) const NEWEST_MINOR_VERSION: u16 = 2;

/// Longest secret of a cancel key, as protocol 3.2 has it, in bytes.
pub(crate) const CANCEL_SECRET_BYTES_MAX: usize = 256;

/// What a client begins with.
#[derive(Debug)]
pub(crate) enum Startup {
    /// May I speak TLS?
    SslRequest,
    /// May I speak GSSAPI encryption?
    GssRequest,
    /// Cancel what the connection with this key does.
    Cancel(CancelKey),
    /// Let me in.
    Login(StartupParameters),
}

/// What a client asks for at its login.
#[derive(Debug, Default)]
pub(crate) struct StartupParameters {
    /// The minor version of protocol 3.
    pub(crate) minor: u16,
    /// Options of the protocol (`_pq_.…`) by name; none is known here.
    pub(crate) protocol_options: Vec<String>,
    /// Name and value, in order.
    pub(crate) parameters: Vec<(String, String)>,
}

impl StartupParameters {
    /// The minor version that is spoken with this client: what it asks for, as far as we have it.
    pub(crate) fn spoken_minor(&self) -> u16 {
        self.minor.min(NEWEST_MINOR_VERSION)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client asks for a replication connection: as a server reads it, whatever does not say no.
    pub(crate) fn wants_replication(&self) -> bool {
        self.parameters.iter().any(|(name, value)| name == "replication" && !says_no(value))
    }
}

/// Whether PostgreSQL reads this as a Boolean that is false: whole or shortened, in upper or lower case.
fn says_no(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let shortens = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    value == "0" || shortens("false", 1) || shortens("no", 1) || shortens("off", 2)
}

/// Why a startup cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    #[error("the connection ended")]
    Io(#[from] io::Error),
    #[error("not the PostgreSQL protocol")]
    Malformed,
    #[error("the startup message is not laid out as protocol 3 has it, or is not UTF-8")]
    Parameters,
    #[error("protocol version {major}.{minor} is not spoken here: 3.0 and 3.2 are")]
    Version { major: u16, minor: u16 },
}

/// Reads what a client begins with.
pub(crate) async fn read_startup(stream: &mut (impl AsyncRead + Unpin)) -> Result<Startup, StartupError> {
    let length = stream.read_u32().await? as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(StartupError::Malformed);
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    let (code, rest) = body.split_first_chunk::<4>().ok_or(StartupError::Malformed)?;
    match (u32::from_be_bytes(*code), rest) {
        (SSL_REQUEST, []) => Ok(Startup::SslRequest),
        (GSS_ENCRYPTION_REQUEST, []) => Ok(Startup::GssRequest),
        (CANCEL_REQUEST, body) => cancel_key(body).map(Startup::Cancel),
        (version, rest) if version >> 16 == MAJOR_VERSION => {
            parse_parameters(u16::try_from(version & 0xffff).expect("16 bits"), rest).map(Startup::Login)
        }
        (version, _) => Err(StartupError::Version {
            major: u16::try_from(version >> 16).expect("16 bits"),
            minor: u16::try_from(version & 0xffff).expect("16 bits"),
        }),
    }
}

/// Process id and secret.
pub(crate) fn cancel_key(body: &[u8]) -> Result<CancelKey, StartupError> {
    let (process_id, secret) = body.split_first_chunk::<4>().ok_or(StartupError::Malformed)?;
    if secret.len() > CANCEL_SECRET_BYTES_MAX {
        return Err(StartupError::Malformed);
    }
    Ok(CancelKey { process_id: u32::from_be_bytes(*process_id), secret: secret.to_vec() })
}

fn parse_parameters(minor: u16, body: &[u8]) -> Result<StartupParameters, StartupError> {
    let mut startup = StartupParameters { minor, ..StartupParameters::default() };
    let Some((0, mut rest)) = body.split_last() else { return Err(StartupError::Parameters) };
    while !rest.is_empty() {
        let (name, after) = text(rest)?;
        let (value, after) = text(after)?;
        rest = after;
        if name.is_empty() {
            return Err(StartupError::Parameters);
        }
        if name.starts_with("_pq_.") {
            startup.protocol_options.push(name.to_owned());
        } else {
            startup.parameters.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(startup)
}

/// A text up to its zero byte, and what follows.
fn text(bytes: &[u8]) -> Result<(&str, &[u8]), StartupError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(StartupError::Parameters)?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| StartupError::Parameters)?;
    Ok((text, &bytes[end + 1..]))
}

/// Reads one message of a login: its tag and its body.
pub(crate) async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(u8, Vec<u8>), StartupError> {
    let tag = stream.read_u8().await?;
    let length = stream.read_u32().await? as usize;
    if !(4..=LOGIN_MESSAGE_BYTES_MAX).contains(&length) {
        return Err(StartupError::Malformed);
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// A message from tag and body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.push(tag);
    bytes.extend_from_slice(&length(body.len() + 4));
    bytes.extend_from_slice(body);
    bytes
}

/// A message without a tag, as a connection begins.
pub(crate) fn startup_message(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + body.len());
    bytes.extend_from_slice(&length(body.len() + 8));
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Asks a server for TLS.
pub(crate) fn ssl_request() -> Vec<u8> {
    startup_message(SSL_REQUEST, &[])
}

/// Asks a server to cancel.
pub(crate) fn cancel_request(key: &CancelKey) -> Vec<u8> {
    let mut body = key.process_id.to_be_bytes().to_vec();
    body.extend_from_slice(&key.secret);
    startup_message(CANCEL_REQUEST, &body)
}

/// The version of protocol 3 with this minor one, as messages have it.
pub(crate) fn version(minor: u16) -> u32 {
    MAJOR_VERSION << 16 | u32::from(minor)
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("bounded by what a login sends").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Startup, StartupError> {
        read_startup(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn a_login_gives_its_parameters() {
        let bytes = startup_message(3 << 16, b"user\0dev\0database\0shop\0_pq_.x\x001\0\0");
        let Ok(Startup::Login(startup)) = read(&bytes).await else { panic!("not a login") };
        assert_eq!(startup.value("user"), Some("dev"));
        assert_eq!(startup.value("database"), Some("shop"));
        assert_eq!(startup.protocol_options, ["_pq_.x"]);
    }

    #[tokio::test]
    async fn what_is_no_startup_is_refused() {
        let cases: [&[u8]; 9] = [
            b"\x00\x00\x00\x04",
            b"\xff\xff\xff\xff\x00\x03\x00\x00",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
            &startup_message(3 << 16, b"user\0dev"),
            &startup_message(3 << 16, b"user\0dev\0"),
            &startup_message(3 << 16, b"user\0\xff\0\0"),
            &startup_message(3 << 16, b"user\0dev\0\0x\0"),
            &startup_message(3 << 16, b"\0\0\0"),
            &startup_message(3 << 16, b""),
        ];
        for bytes in cases {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
        for (code, major, minor) in
            [(2 << 16, 2, 0), (0, 0, 0), (4 << 16 | 1, 4, 1), (80_877_105, 1234, 5681)]
        {
            let version = read(&startup_message(code, b"")).await;
            let Err(StartupError::Version { major: found, minor: its }) = version else { panic!("{code}") };
            assert_eq!((found, its), (major, minor));
        }
    }

    #[tokio::test]
    async fn cancel_keys_of_every_length_up_to_256_bytes_are_read() {
        for length in [0, 4, 32, 256] {
            let key = CancelKey { process_id: 7, secret: vec![1; length] };
            let Ok(Startup::Cancel(read)) = read(&cancel_request(&key)).await else { panic!("{length}") };
            assert_eq!((read.process_id, read.secret.len()), (7, length));
        }
        let key = CancelKey { process_id: 7, secret: vec![1; 257] };
        assert!(read(&cancel_request(&key)).await.is_err());
        assert!(read(&startup_message(CANCEL_REQUEST, &[0, 0, 1])).await.is_err());
    }

    #[test]
    fn the_minor_version_is_what_both_sides_have() {
        for (asked, spoken) in [(0, 0), (2, 2), (3, 2), (9999, 2)] {
            let startup = StartupParameters { minor: asked, ..StartupParameters::default() };
            assert_eq!(startup.spoken_minor(), spoken);
        }
    }

    #[test]
    fn replication_is_asked_for_by_whatever_a_server_does_not_read_as_no() {
        let wants = |values: &[&str]| {
            let parameters = values.iter().map(|value| ("replication".to_owned(), (*value).to_owned()));
            StartupParameters { parameters: parameters.collect(), ..StartupParameters::default() }
                .wants_replication()
        };
        for yes in ["database", "true", "TRUE", "t", "on", "yes", "y", "1", "", "o", "2", " false", "none"] {
            assert!(wants(&[yes]), "{yes}");
        }
        for no in ["false", "False", "f", "fal", "off", "OF", "no", "n", "0"] {
            assert!(!wants(&[no]), "{no}");
        }
        assert!(!wants(&[]));
        assert!(
            wants(&["off", "on"]) && wants(&["on", "off"]),
            "the last wins at a server, either is too much here"
        );
    }
}
