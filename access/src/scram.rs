//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677), as PostgreSQL speaks them.
//!
//! This is ours rather than a library's, because one exchange must match any of a principal's up to eight live tokens:
//! they share salt and iterations, so that the client's proof can be held against the stored key of each. Libraries check
//! against one.
//!
//! The user's name comes from PostgreSQL's startup message; the `n=` of SCRAM is ignored, as PostgreSQL does. Tokens are
//! ASCII, on which SASLprep (RFC 4013) does nothing.
//!
//! Where the listener's certificate has a hash to bind to ([`crate::tls::server_end_point`]), the PLUS mechanism is offered
//! too: the client's proof then covers the certificate that the client saw, so that nobody in between can pass it on. A
//! client that could bind and believes that we cannot (`y`) was lied to, and is refused.
//!
//! What an attacker sees: a user that does not exist, one without tokens and one with the wrong token get the same
//! messages, after the same number of the same computations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConditionallySelectable};

use crate::directory::{Directory, Refused};
use crate::principal::Authenticated;
use crate::token::TokenEntry;
use crate::token_file::TOKENS_LIVE_MAX;
use crate::verifier::{KEY_BYTES, Key, hmac, proves};

mod message;

use message::{ClientFinal, ClientFirst, Header};

/// One SCRAM exchange, without I/O: two messages in, two out. After an error it takes no more.
pub struct ScramServer {
    directory: Directory,
    user: String,
    /// Hash of the certificate that the client was shown; `None` where there is nothing to bind to.
    end_point: Option<Vec<u8>>,
    mechanism: Mechanism,
    state: State,
}

/// A way to prove a token without showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Plain,
    /// SCRAM-SHA-256-PLUS: bound to the certificate of the TLS connection.
    Plus,
}

impl Mechanism {
    /// Its name in SASL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "SCRAM-SHA-256",
            Self::Plus => "SCRAM-SHA-256-PLUS",
        }
    }
}

enum State {
    Begun,
    Challenged(Challenge),
    Over,
}

/// What of the first two messages the client's proof must cover.
struct Challenge {
    /// `c=` as this client must send it: its own header back, so that nobody changed it on the way.
    channel_binding: String,
    nonce: String,
    client_first_bare: String,
    server_first: String,
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramError {
    /// The message is not what RFC 5802 has in this place.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client asks for a mechanism that was not offered.
    #[error(
        "this authentication mechanism was not offered here: SCRAM-SHA-256 is, and over TLS mostly SCRAM-SHA-256-PLUS"
    )]
    Mechanism,
    /// The client's binding is not of the mechanism it chose, or of a type that is not offered.
    #[error("channel binding: {0}")]
    ChannelBinding(&'static str),
    /// The client can bind to the TLS channel and believes that we cannot, though we offered it: somebody between changed
    /// the offer.
    #[error("channel binding was offered and did not reach this client: the connection may be intercepted")]
    Downgrade,
    /// The client bound itself to another certificate than the one we showed: it talks to somebody else.
    #[error("this client saw another certificate than this gate's: the connection may be intercepted")]
    OtherCertificate,
    /// A message more than an exchange has, or in the wrong order.
    #[error("a SCRAM message out of order")]
    OutOfOrder,
    /// The messages were in order and the login is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl ScramServer {
    pub(crate) fn new(directory: Directory, user: String) -> Self {
        Self { directory, user, end_point: None, mechanism: Mechanism::Plain, state: State::Begun }
    }

    /// Offers the PLUS mechanism too, bound to this hash of the certificate that the client was shown.
    #[must_use]
    pub fn bound_to(mut self, end_point: Option<&[u8]>) -> Self {
        self.end_point = end_point.map(<[u8]>::to_vec);
        self
    }

    /// What to offer, the strongest first. The same to everybody, whether the user exists or not.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [Mechanism] {
        match self.end_point {
            Some(_) => &[Mechanism::Plus, Mechanism::Plain],
            None => &[Mechanism::Plain],
        }
    }

    /// Takes the client's choice among what was offered, by its name in SASL. Without a choice it is SCRAM-SHA-256.
    pub fn choose(&mut self, name: &[u8]) -> Result<(), ScramError> {
        let chosen = self.mechanisms().iter().find(|offered| offered.name().as_bytes() == name);
        self.mechanism = *chosen.ok_or(ScramError::Mechanism)?;
        Ok(())
    }

    /// Takes the client's first message and gives the answer to it. `server_nonce` is random and used once.
    pub fn handle_client_first(
        &mut self,
        message: &[u8],
        server_nonce: &[u8; 18],
    ) -> Result<Vec<u8>, ScramError> {
        let State::Begun = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::OutOfOrder);
        };
        let first = ClientFirst::parse(message)?;
        let channel_binding = self.channel_binding(&first.header)?;
        let (salt, iterations) = self.directory.challenge(&self.user)?;
        let nonce = format!("{}{}", first.nonce, STANDARD.encode(server_nonce));
        let server_first = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let answer = server_first.clone().into_bytes();
        self.state = State::Challenged(Challenge {
            channel_binding,
            nonce,
            client_first_bare: first.bare.to_owned(),
            server_first,
        });
        Ok(answer)
    }

    /// Takes the client's last message: the proof. Gives the gateway's own proof, to be sent, and who it is.
    ///
    /// The tokens are those of this moment, so one revoked since the first message does not match.
    pub fn handle_client_final(
        &mut self,
        message: &[u8],
        now_unix_s: i64,
    ) -> Result<(Vec<u8>, Authenticated), ScramError> {
        let State::Challenged(challenge) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::OutOfOrder);
        };
        let last = ClientFinal::parse(message)?;
        if last.channel_binding != challenge.channel_binding {
            return Err(match self.mechanism {
                Mechanism::Plain => {
                    ScramError::Malformed("the channel binding is not that of the first message")
                }
                Mechanism::Plus => ScramError::OtherCertificate,
            });
        }
        if last.nonce != challenge.nonce {
            return Err(ScramError::Malformed("the nonce is not the one of this exchange"));
        }
        let auth_message =
            format!("{},{},{}", challenge.client_first_bare, challenge.server_first, last.without_proof);
        let entries = self.directory.tokens_now()?;
        let live: Vec<&TokenEntry> = entries
            .iter()
            .filter(|entry| entry.principal == self.user && entry.is_live(now_unix_s))
            .collect();
        let entry = proved(&live, &last.proof, auth_message.as_bytes()).ok_or(Refused::Credential)?;
        let authenticated = self.directory.authenticated(entry).ok_or(Refused::Credential)?;
        let signature = hmac(&entry.verifier.server_key, &[auth_message.as_bytes()]);
        Ok((format!("v={}", STANDARD.encode(signature)).into_bytes(), authenticated))
    }
}

impl ScramServer {
    /// What `c=` must be in the client's last message: its header, and behind it what it binds to, in base64. Refuses a
    /// header that does not go with the mechanism (RFC 5802, section 6).
    fn channel_binding(&self, header: &Header<'_>) -> Result<String, ScramError> {
        match (header, self.mechanism, &self.end_point) {
            (Header::None, Mechanism::Plain, _) => Ok(STANDARD.encode("n,,")),
            (Header::Unoffered, Mechanism::Plain, None) => Ok(STANDARD.encode("y,,")),
            (Header::Unoffered, Mechanism::Plain, Some(_)) => Err(ScramError::Downgrade),
            (Header::Type("tls-server-end-point"), Mechanism::Plus, Some(end_point)) => {
                Ok(STANDARD.encode([b"p=tls-server-end-point,,", end_point.as_slice()].concat()))
            }
            (Header::Type(_), Mechanism::Plus, _) => {
                Err(ScramError::ChannelBinding("tls-server-end-point alone is offered"))
            }
            (Header::Type(_), Mechanism::Plain, _) => {
                Err(ScramError::ChannelBinding("SCRAM-SHA-256 has none, SCRAM-SHA-256-PLUS has"))
            }
            (Header::None | Header::Unoffered, Mechanism::Plus, _) => {
                Err(ScramError::ChannelBinding("SCRAM-SHA-256-PLUS was chosen and nothing is bound"))
            }
        }
    }
}

/// The token that the proof was made with. Every token is tried whichever matches, and missing ones are made up, so that
/// neither which token it was nor how many there are shows in the time.
fn proved<'a>(live: &[&'a TokenEntry], proof: &Key, auth_message: &[u8]) -> Option<&'a TokenEntry> {
    const NOBODY: Key = [0; KEY_BYTES];
    let mut found = u32::MAX;
    for slot in 0..live.len().max(TOKENS_LIVE_MAX) {
        let entry = live.get(slot);
        let stored_key = entry.map_or(&NOBODY, |entry| &entry.verifier.stored_key);
        let is_token = Choice::from(u8::from(entry.is_some()));
        let index = u32::try_from(slot).expect("a file holds fewer tokens");
        found.conditional_assign(&index, proves(proof, stored_key, auth_message) & is_token);
    }
    live.get(usize::try_from(found).ok()?).copied()
}

#[cfg(test)]
mod tests;
