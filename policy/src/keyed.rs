//! Hashes of bytes that may hold what must not be known: keyed, so that they tell nothing without the key (HMAC-SHA-256,
//! RFC 2104). With the key, someone who has the bytes can show that they are the ones that passed.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use retrace_proto::wire::KeyedHash;
use sha2::Sha256;

/// The key of hashes over bytes of one sort, and its name. It does not print.
#[derive(Clone)]
pub struct HashKey {
    mac: Hmac<Sha256>,
    id: String,
}

impl HashKey {
    /// Derives the key of hashes over omitted bytes, and its name, from a gateway's key, of any length.
    #[must_use]
    pub fn new(gateway_key: &[u8]) -> Self {
        Self::derived(gateway_key, "retrace omitted bytes")
    }

    /// The key of hashes over what a grant is for.
    #[must_use]
    pub fn of_grants(gateway_key: &[u8]) -> Self {
        Self::derived(gateway_key, "retrace grants")
    }

    fn derived(gateway_key: &[u8], purpose: &str) -> Self {
        let derive = |purpose: &str| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(gateway_key).expect("HMAC takes a key of any length");
            mac.update(purpose.as_bytes());
            mac.finalize().into_bytes()
        };
        let key = derive(purpose);
        let id =
            derive(&format!("{purpose}: key id"))[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { mac: Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"), id }
    }

    /// Begins a hash.
    #[must_use]
    pub fn begin(&self) -> KeyedHasher {
        KeyedHasher(self.mac.clone())
    }

    /// Ends a hash, with the key's name.
    #[must_use]
    pub fn finish(&self, hasher: KeyedHasher) -> KeyedHash {
        KeyedHash { key_id: self.id.clone(), hmac_sha256: hasher.0.finalize().into_bytes().to_vec().into() }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey({})", self.id)
    }
}

/// A hash under way. It does not print.
#[derive(Clone)]
pub struct KeyedHasher(Hmac<Sha256>);

impl KeyedHasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Takes in a field: its length, then its bytes, so that no two rows of fields are the same bytes.
    pub fn field(&mut self, bytes: &[u8]) {
        self.update(&(bytes.len() as u64).to_be_bytes());
        self.update(bytes);
    }
}

impl fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHasher([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_bytes_under_its_key_however_they_are_split() {
        let of = |key: &[u8], pieces: &[&[u8]]| {
            let key = HashKey::new(key);
            let mut hasher = key.begin();
            pieces.iter().for_each(|piece| hasher.update(piece));
            key.finish(hasher)
        };
        let hash = of(b"one", &[b"ab", b"c"]);
        assert_eq!(hash, of(b"one", &[b"abc"]));
        assert_ne!(hash.hmac_sha256, of(b"one", &[b"abd"]).hmac_sha256);
        let other = of(b"two", &[b"abc"]);
        assert!(hash.hmac_sha256 != other.hmac_sha256 && hash.key_id != other.key_id);
    }
}
