//! Tokens: their text, and what is kept of each.

use std::fmt;

use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::secret::Secret;
use crate::verifier::Verifier;

/// How many rounds of PBKDF2 a client makes. The minimum of RFC 7677: the secret is 256 random bits, which rounds cannot
/// make harder to guess.
pub(crate) const ITERATIONS: u32 = 4096;
/// How long a salt is, in bytes.
pub(crate) const SALT_BYTES: usize = 16;

const PREFIX: &str = "rt_";
const ID_CHARS: usize = 8;
/// 43 of 62 letters and digits hold 256 bits.
const SECRET_CHARS: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What is kept of a token. The token itself is shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// Names the token in lists, in events and to `revoke`: eight hexadecimal digits, not secret.
    pub id: String,
    /// Whose it is.
    pub principal: String,
    /// When it was made, in seconds since the Unix epoch.
    pub created_unix_s: i64,
    /// From when on it is refused, in seconds since the Unix epoch.
    pub expires_unix_s: i64,
    /// When it was revoked, in seconds since the Unix epoch, if it was.
    pub revoked_unix_s: Option<i64>,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) iterations: u32,
    pub(crate) verifier: Verifier,
}

impl TokenEntry {
    /// Whether the token is accepted at this second: neither revoked nor expired.
    #[must_use]
    pub fn is_live(&self, now_unix_s: i64) -> bool {
        self.revoked_unix_s.is_none() && now_unix_s < self.expires_unix_s
    }
}

impl fmt::Debug for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEntry")
            .field("id", &self.id)
            .field("principal", &self.principal)
            .field("created_unix_s", &self.created_unix_s)
            .field("expires_unix_s", &self.expires_unix_s)
            .field("revoked_unix_s", &self.revoked_unix_s)
            .finish_non_exhaustive()
    }
}

/// A token's text taken apart: `rt_<id>_<secret>`.
pub(crate) struct TokenText<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
}

impl<'a> TokenText<'a> {
    /// Takes a text apart; `None` if it is not a token. Exact lengths, so nothing longer is looked at.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let secret_is_one =
            secret.len() == SECRET_CHARS && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_id(id) && secret_is_one).then_some(Self { id, secret })
    }
}

/// Whether this can be a token's id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A random id.
pub(crate) fn new_id() -> Result<String, FileError> {
    Ok(format!("{:08x}", u32::from_be_bytes(files::random()?)))
}

/// A random secret for the id: the whole text, and the verifier of it.
pub(crate) fn new_token(
    id: &str,
    salt: &[u8; SALT_BYTES],
    iterations: u32,
) -> Result<(Secret, Verifier), FileError> {
    let mut text = Vec::with_capacity(PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS);
    text.extend_from_slice(PREFIX.as_bytes());
    text.extend_from_slice(id.as_bytes());
    text.push(b'_');
    let secret_at = text.len();
    while text.len() < secret_at + SECRET_CHARS {
        let missing = secret_at + SECRET_CHARS - text.len();
        let random = Zeroizing::new(files::random::<SECRET_CHARS>()?);
        text.extend(random.iter().filter_map(|byte| letter(*byte)).take(missing));
    }
    let text = Secret::new(text);
    let verifier = Verifier::derive(text.expose(), &text.expose()[secret_at..], salt, iterations);
    Ok((text, verifier))
}

/// One of the 62 letters and digits, all equally likely; `None` for the bytes that would make some likelier.
fn letter(byte: u8) -> Option<u8> {
    let fair = usize::from(byte) < 256 / ALPHABET.len() * ALPHABET.len();
    fair.then(|| ALPHABET[usize::from(byte) % ALPHABET.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_tokens_are_read_back_and_differ() {
        let salt = [7; SALT_BYTES];
        let (first, verifier) = new_token("0a1b2c3d", &salt, ITERATIONS).unwrap();
        let (second, _) = new_token("0a1b2c3d", &salt, ITERATIONS).unwrap();
        assert_ne!(first.expose(), second.expose());
        let text = std::str::from_utf8(first.expose()).unwrap();
        let parsed = TokenText::parse(text).unwrap();
        assert_eq!((parsed.id, parsed.secret.len()), ("0a1b2c3d", 43));
        let derived = Verifier::derive(text.as_bytes(), parsed.secret.as_bytes(), &salt, ITERATIONS);
        assert!(derived == verifier);
        assert!(is_id(&new_id().unwrap()));
    }

    #[test]
    fn every_letter_is_equally_likely() {
        let mut counts = [0; 256];
        (0..=255).filter_map(letter).for_each(|letter| counts[usize::from(letter)] += 1);
        assert!(ALPHABET.iter().all(|letter| counts[usize::from(*letter)] == 4));
        assert_eq!(counts.iter().sum::<usize>(), 248);
    }

    #[test]
    fn texts_that_are_no_tokens_are_not_read() {
        let secret = "a".repeat(43);
        assert!(TokenText::parse(&format!("rt_0a1b2c3d_{secret}")).is_some());
        for text in [
            String::new(),
            "rt_".into(),
            format!("rt_0a1b2c3d{secret}"),
            format!("RT_0a1b2c3d_{secret}"),
            format!("rt_0A1b2c3d_{secret}"),
            format!("rt_0a1b2c3_{secret}"),
            format!("rt_0a1b2c3d_{secret}a"),
            format!("rt_0a1b2c3d_{}_", &secret[1..]),
            format!("rt_0a1b2c3d_{secret} "),
            format!("rt_0a1b2c3d_{}é", &secret[2..]),
        ] {
            assert!(TokenText::parse(&text).is_none(), "{text}");
        }
    }
}
