//! What is kept of a token: enough to check it, not enough to use it (RFC 5802, section 3).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// How long every key, hash and proof of SCRAM-SHA-256 is, in bytes.
pub(crate) const KEY_BYTES: usize = 32;

/// A key, hash, proof or signature of SCRAM-SHA-256.
pub(crate) type Key = [u8; KEY_BYTES];

/// HMAC-SHA-256 over the parts, one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

/// The keys that check one token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    /// SHA-256 of the key that only the token's holder can compute.
    pub(crate) stored_key: Key,
    /// With which the gateway proves that it knows this verifier.
    pub(crate) server_key: Key,
    /// SHA-256 of the token's secret part. No salt and no rounds: the secret is 256 random bits, which no search finds.
    pub(crate) secret_sha256: Key,
}

impl Verifier {
    /// Derives the verifier. `password` is what a client types, the whole text; `secret` its last part.
    pub(crate) fn derive(password: &[u8], secret: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, salted.as_mut());
        let client_key = Zeroizing::new(hmac(salted.as_ref(), &[b"Client Key"]));
        Self {
            stored_key: sha256(client_key.as_ref()),
            server_key: hmac(salted.as_ref(), &[b"Server Key"]),
            secret_sha256: sha256(secret),
        }
    }
}

/// Whether the proof was made with the key behind `stored_key`, in a time that does not depend on the answer.
pub(crate) fn proves(proof: &Key, stored_key: &Key, auth_message: &[u8]) -> Choice {
    let mut client_key = Zeroizing::new(hmac(stored_key, &[auth_message]));
    for (byte, proof) in client_key.iter_mut().zip(proof) {
        *byte ^= proof;
    }
    sha256(client_key.as_ref()).ct_eq(stored_key)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_specification_verifies() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive(b"pencil", b"", &salt, 4096);
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let proof: Key = proof.try_into().unwrap();
        assert!(bool::from(proves(&proof, &verifier.stored_key, auth_message.as_bytes())));
        assert!(!bool::from(proves(&proof, &verifier.stored_key, b"another exchange")));
        let signature = hmac(&verifier.server_key, &[auth_message.as_bytes()]);
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
