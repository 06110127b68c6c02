//! The messages before a session, read exactly: not one byte beyond each, so that nothing sent before TLS is taken for
//! something sent inside it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest startup message, as a PostgreSQL server has it, in bytes.
const STARTUP_BYTES_MAX: usize = 10_000;

/// Longest message of a login, in bytes.
const LOGIN_MESSAGE_BYTES_MAX: usize = 16 * 1024;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const MAJOR_VERSION: u32 = 3;

/// What a client begins with.
#[derive(Debug)]
pub(crate) enum Startup {
    /// May I speak TLS?
    SslRequest,
    /// May I speak GSSAPI encryption?
    GssRequest,
    /// Cancel what that connection does.
    Cancel { process_id: u32, secret: u32 },
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
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client asks for a replication connection.
    pub(crate) fn wants_replication(&self) -> bool {
        self.value("replication")
            .is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0" | "f" | "n"))
    }
}

/// Why a startup cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    #[error("the connection ended")]
    Io(#[from] io::Error),
    #[error("not the PostgreSQL protocol")]
    Malformed,
    #[error("protocol version {major}.{minor} is not spoken here")]
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
        (CANCEL_REQUEST, &[a, b, c, d, e, f, g, h]) => Ok(Startup::Cancel {
            process_id: u32::from_be_bytes([a, b, c, d]),
            secret: u32::from_be_bytes([e, f, g, h]),
        }),
        // A key of another length is of no session here; whoever sends it learns nothing.
        (CANCEL_REQUEST, _) => Ok(Startup::Cancel { process_id: u32::MAX, secret: 0 }),
        (version, rest) if version >> 16 == MAJOR_VERSION => {
            parse_parameters(u16::try_from(version & 0xffff).expect("16 bits"), rest).map(Startup::Login)
        }
        (version, _) => Err(StartupError::Version {
            major: u16::try_from(version >> 16).expect("16 bits"),
            minor: u16::try_from(version & 0xffff).expect("16 bits"),
        }),
    }
}

fn parse_parameters(minor: u16, body: &[u8]) -> Result<StartupParameters, StartupError> {
    let mut startup = StartupParameters { minor, ..StartupParameters::default() };
    let mut texts = body.split(|byte| *byte == 0);
    loop {
        let name = texts.next().ok_or(StartupError::Malformed)?;
        if name.is_empty() {
            return Ok(startup);
        }
        let value = texts.next().ok_or(StartupError::Malformed)?;
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return Err(StartupError::Malformed);
        };
        if name.starts_with("_pq_.") {
            startup.protocol_options.push(name.to_owned());
        } else {
            startup.parameters.push((name.to_owned(), value.to_owned()));
        }
    }
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
pub(crate) fn cancel_request(process_id: u32, secret: &[u8]) -> Vec<u8> {
    let mut body = process_id.to_be_bytes().to_vec();
    body.extend_from_slice(secret);
    startup_message(CANCEL_REQUEST, &body)
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
        let cases: [&[u8]; 6] = [
            b"\x00\x00\x00\x04",
            b"\xff\xff\xff\xff\x00\x03\x00\x00",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
            &startup_message(3 << 16, b"user\0dev"),
            &startup_message(3 << 16, b"user\0\xff\0\0"),
            &startup_message(3 << 16, b""),
        ];
        for bytes in cases {
            // Two of them are cut short, which is an error of the connection.
            assert!(read(bytes).await.is_err() || bytes.len() == 8, "{bytes:?}");
        }
        assert!(matches!(
            read(&startup_message(2 << 16, b"")).await,
            Err(StartupError::Version { major: 2, minor: 0 })
        ));
    }
}
