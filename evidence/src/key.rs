use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer};
use sha2::{Digest, Sha256};

/// Length of the secret a signing key is made from, in bytes (RFC 8032, section 5.1.5).
pub const SEED_BYTES: usize = 32;

/// How much of the SHA-256 of a public key names it, in bytes.
pub(crate) const KEY_ID_BYTES: usize = 8;

/// Length of a signature, in bytes.
pub(crate) const SIGNATURE_BYTES: usize = ed25519_dalek::SIGNATURE_LENGTH;

/// Signs. It does not print, and is overwritten in memory when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a seed, [`SEED_BYTES`] random bytes that are kept secret.
    ///
    /// # Errors
    /// If the seed has another length.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        let seed: &[u8; SEED_BYTES] = seed.try_into().map_err(|_| KeyError::Seed)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// Its other half, for whoever checks.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; Signature::BYTE_SIZE] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[signing key of {}]", self.public().id())
    }
}

/// Checks what a [`SigningKey`] signed. As text it is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// What events call it: the first 8 bytes of its SHA-256, in hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..KEY_ID_BYTES])
    }

    /// Strict, so that no second signature of the same message passes for the first.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = from_hex(text.trim()).ok_or(KeyError::Public)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Public)?;
        // Under a weak key anybody's signature may hold.
        if key.is_weak() { Err(KeyError::Public) } else { Ok(Self(key)) }
    }
}

/// Why bytes are not a key. Says nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a seed.
    #[error("a signing key is made from {SEED_BYTES} bytes")]
    Seed,
    /// Not a public key.
    #[error(
        "not an Ed25519 public key: 64 hexadecimal digits are expected, as `retrace heads-key` and `retrace review-key` print them"
    )]
    Public,
}

/// The public keys that a reader believes.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<(String, PublicKey)>);

impl TrustedKeys {
    /// Whether a key of this id signed the message. An id is short, so more than one key may have it.
    pub(crate) fn verify(&self, key_id: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|(id, key)| id == key_id && key.verify(message, signature))
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), key)).collect())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

    /// RFC 8032, section 7.1, test 1.
    #[test]
    fn keys_and_signatures_are_those_of_the_rfc() {
        let key = SigningKey::from_seed(&from_hex::<32>(SEED).unwrap()).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(hex(&key.sign(b"")), SIGNATURE);
        let public: PublicKey = PUBLIC.parse().unwrap();
        assert!(public.verify(b"", &from_hex::<64>(SIGNATURE).unwrap()));
        assert!(!public.verify(b"x", &from_hex::<64>(SIGNATURE).unwrap()));
        assert!(!public.verify(b"", b""));
    }

    #[test]
    fn a_signing_key_does_not_print() {
        let key = SigningKey::from_seed(&from_hex::<32>(SEED).unwrap()).unwrap();
        let printed = format!("{key:?}");
        assert_eq!(printed, format!("[signing key of {}]", key.public().id()));
        assert!(!printed.contains(&SEED[..8]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(SigningKey::from_seed(b"short").unwrap_err(), KeyError::Seed);
        let weak = "01".to_owned() + &"00".repeat(31);
        for text in ["", "d75a", &PUBLIC[1..], &format!("{}é", &PUBLIC[2..]), &weak] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Public), "{text}");
        }
    }
}
