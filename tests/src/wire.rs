//! A client that says what no driver would: whole messages, parts of messages, and bytes that are none.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{self, ScramSha256};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::Gate;
use crate::client::Tls;

/// How long a read may wait before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// `SSLRequest` (PostgreSQL, section 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Longest message a test expects, in bytes; a length beyond it is taken for a lie.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse, such as `C` for the code or `M` for the message.
    #[must_use]
    pub fn field(&self, code: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        let field = fields.find(|field| field.first() == Some(&code))?;
        Some(String::from_utf8_lossy(&field[1..]).into_owned())
    }
}

/// An encrypted connection to a gate, message by message.
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Wire {
    /// Connects and encrypts; nothing is said yet.
    pub fn open(gate: &Gate) -> io::Result<Self> {
        Self::open_at(gate, gate.port())
    }

    /// The same at another gate with this one's certificate.
    pub fn open_at(gate: &Gate, port: u16) -> io::Result<Self> {
        let mut plain = TcpStream::connect(("127.0.0.1", port))?;
        plain.set_read_timeout(Some(PATIENCE))?;
        plain.set_write_timeout(Some(PATIENCE))?;
        plain.set_nodelay(true)?;
        plain.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        plain.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Err(io::Error::other("the gate does not offer TLS"));
        }
        let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
        let session =
            ClientConnection::new(Tls::trusting(&gate.ca()).settings(), name).map_err(io::Error::other)?;
        Ok(Self { stream: StreamOwned::new(session, plain) })
    }

    /// Connects and signs in as `dev` at the target `shop`; reads up to the first ReadyForQuery.
    pub fn signed_in(gate: &Gate) -> io::Result<Self> {
        let mut wire = Self::open(gate)?;
        wire.send_raw(&startup(&[("user", "dev"), ("database", "shop")]))?;
        wire.authenticate(&gate.dev_token())?;
        wire.read_until(b'Z')?;
        Ok(wire)
    }

    /// How long a write may wait from now on.
    pub fn limit_writes(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.sock.set_write_timeout(Some(patience))
    }

    /// Answers the gate's SCRAM-SHA-256 (RFC 5802) up to AuthenticationOk.
    pub fn authenticate(&mut self, token: &str) -> io::Result<()> {
        self.authentication(10)?;
        let mut scram = ScramSha256::new(token.as_bytes(), sasl::ChannelBinding::unsupported());
        let first = scram.message().to_vec();
        let mut initial = b"SCRAM-SHA-256\0".to_vec();
        initial.extend(u32::try_from(first.len()).map_err(io::Error::other)?.to_be_bytes());
        initial.extend(first);
        self.send(b'p', &initial)?;
        scram.update(&self.authentication(11)?)?;
        let last = scram.message().to_vec();
        self.send(b'p', &last)?;
        scram.finish(&self.authentication(12)?)?;
        self.authentication(0).map(drop)
    }

    /// The rest of an authentication message, which must be of `kind`.
    fn authentication(&mut self, kind: u32) -> io::Result<Vec<u8>> {
        let message = self.read()?;
        let code = message.field(b'C');
        match message.body.split_first_chunk() {
            Some((found, rest)) if message.tag == b'R' && u32::from_be_bytes(*found) == kind => {
                Ok(rest.to_vec())
            }
            _ => Err(io::Error::other(format!("{:?} {code:?}", char::from(message.tag)))),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        let mut bytes = vec![tag];
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        self.send_raw(&bytes)
    }

    /// Sends bytes, whatever they mean.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a simple query and reads its whole answer.
    pub fn query(&mut self, statement: &str) -> io::Result<Vec<Message>> {
        self.send(b'Q', format!("{statement}\0").as_bytes())?;
        self.read_until(b'Z')
    }

    /// Reads a message.
    pub fn read(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(io::Error::other("the length is a lie"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag, body })
    }

    /// Reads up to and with the first message of `tag`.
    pub fn read_until(&mut self, tag: u8) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            let last = message.tag == tag;
            messages.push(message);
            if last {
                return Ok(messages);
            }
        }
    }

    /// Reads what comes until the gate closes the connection; fails if it does not within the patience of a read.
    pub fn read_to_close(&mut self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            match self.read() {
                Ok(message) => messages.push(message),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(error);
                }
                Err(_) => return Ok(messages),
            }
        }
    }
}

/// A StartupMessage of protocol 3.0.
#[must_use]
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in parameters {
        body.extend(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("a test's startup message is short");
    [length.to_be_bytes().as_slice(), &body].concat()
}

/// A CancelRequest for a backend's key.
#[must_use]
pub fn cancel_request(process_id: u32, secret: u32) -> Vec<u8> {
    [16_u32, 80_877_102, process_id, secret].iter().flat_map(|number| number.to_be_bytes()).collect()
}
