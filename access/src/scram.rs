//! SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677), as PostgreSQL speaks it.
//!
//! This is ours rather than a library's, because one exchange must match any of a principal's up to eight live tokens:
//! they share salt and iterations, so that the client's proof can be held against the stored key of each. Libraries check
//! against one.
//!
//! The user's name comes from PostgreSQL's startup message; the `n=` of SCRAM is ignored, as PostgreSQL does. Tokens are
//! ASCII, on which SASLprep (RFC 4013) does nothing. Channel binding is not offered yet, so a client may say that it has
//! none (`n`) or that it believes we have none (`y`), and `p=` is refused.
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

use message::{ClientFinal, ClientFirst};

/// One SCRAM exchange, without I/O: two messages in, two out. After an error it takes no more.
pub struct ScramServer {
    directory: Directory,
    user: String,
    state: State,
}

enum State {
    Begun,
    Challenged(Challenge),
    Over,
}

/// What of the first two messages the client's proof must cover.
struct Challenge {
    /// `c=` as this client must send it: its own header back, so that nobody changed it on the way.
    channel_binding: &'static str,
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
    /// The client insists on binding to the TLS channel.
    #[error("channel binding is not offered here: connect with channel_binding=disable or prefer")]
    ChannelBinding,
    /// A message more than an exchange has, or in the wrong order.
    #[error("a SCRAM message out of order")]
    OutOfOrder,
    /// The messages were in order and the login is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl ScramServer {
    pub(crate) fn new(directory: Directory, user: String) -> Self {
        Self { directory, user, state: State::Begun }
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
        let (salt, iterations) = self.directory.challenge(&self.user)?;
        let nonce = format!("{}{}", first.nonce, STANDARD.encode(server_nonce));
        let server_first = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let answer = server_first.clone().into_bytes();
        self.state = State::Challenged(Challenge {
            channel_binding: first.channel_binding,
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
            return Err(ScramError::Malformed("the channel binding is not that of the first message"));
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
