//! What SCRAM binds itself to: a hash of the server's certificate (RFC 5929, section 4.1). PostgreSQL uses it in TLS 1.3
//! as well.
//!
//! Which hash is said by the certificate's own signature algorithm, so that is read here, and nothing else of it.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// Identifiers of hashes and of signature algorithms, as DER has them (RFC 3279, RFC 4055, RFC 5758).
mod oid {
    pub(super) const MD5_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];
    pub(super) const SHA1_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
    pub(super) const PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    pub(super) const SHA256_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    pub(super) const SHA384_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
    pub(super) const SHA512_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
    pub(super) const SHA224_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 14];
    pub(super) const SHA1_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    pub(super) const SHA224_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1];
    pub(super) const SHA256_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    pub(super) const SHA384_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    pub(super) const SHA512_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    pub(super) const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
    pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    pub(super) const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    pub(super) const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
    pub(super) const SHA224: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 4];
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The first field of RSASSA-PSS's parameters: which hash.
const PSS_HASH: u8 = 0xa0;

/// What a connection with this server certificate is bound to. `None` where the certificate's signature names no hash that
/// both sides would take, as Ed25519 does not: such a connection cannot be bound, in PostgreSQL neither.
#[must_use]
pub fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Some(match signature_hash(certificate)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    /// Itself, and in place of MD5 and SHA-1.
    Sha256,
    Sha384,
    Sha512,
}

/// The hash of a certificate's signature.
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (_to_be_signed, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (name, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    match name {
        oid::SHA224_RSA | oid::SHA224_ECDSA => Some(Hash::Sha224),
        oid::MD5_RSA | oid::SHA1_RSA | oid::SHA256_RSA | oid::SHA1_ECDSA | oid::SHA256_ECDSA => {
            Some(Hash::Sha256)
        }
        oid::SHA384_RSA | oid::SHA384_ECDSA => Some(Hash::Sha384),
        oid::SHA512_RSA | oid::SHA512_ECDSA => Some(Hash::Sha512),
        oid::PSS => pss_hash(parameters),
        _ => None,
    }
}

/// The hash that RSASSA-PSS was used with; SHA-1 where it says none (RFC 4055, section 3.1).
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (fields, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(fields, PSS_HASH) else { return Some(Hash::Sha256) };
    let (algorithm, _) = element(hash, SEQUENCE)?;
    let (name, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    match name {
        oid::SHA224 => Some(Hash::Sha224),
        oid::SHA1 | oid::SHA256 => Some(Hash::Sha256),
        oid::SHA384 => Some(Hash::Sha384),
        oid::SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// Content and rest of a DER element with this tag (X.690, section 8.1); `None` if it is another, or is cut short.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // A certificate of more than 2^24 bytes is none.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn certificate(algorithm: &'static SignatureAlgorithm) -> CertificateDer<'static> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    /// A certificate's outline with this signature algorithm.
    fn outline(algorithm: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            [&[tag, length], content].concat()
        };
        let to_be_signed = wrap(SEQUENCE, &[2, 1, 0]);
        wrap(SEQUENCE, &[to_be_signed, wrap(SEQUENCE, algorithm), vec![3, 1, 0]].concat())
    }

    #[test]
    fn the_hash_is_that_of_the_certificates_own_signature() {
        let certificate_256 = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(server_end_point(&certificate_256).unwrap(), Sha256::digest(&certificate_256).to_vec());
        let certificate_384 = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(server_end_point(&certificate_384).unwrap(), Sha384::digest(&certificate_384).to_vec());
        assert_eq!(server_end_point(&certificate(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn weak_hashes_give_way_to_sha_256_and_the_others_are_taken_as_they_are() {
        let rsa = |last: u8| [&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last][..], &[5, 0]].concat();
        let hashes = [4, 5, 11, 12, 13, 14].map(|last| signature_hash(&outline(&rsa(last))).unwrap());
        use Hash::{Sha224, Sha256, Sha384, Sha512};
        assert_eq!(hashes, [Sha256, Sha256, Sha256, Sha384, Sha512, Sha224]);
        assert_eq!(signature_hash(&outline(&rsa(1))), None);
    }

    #[test]
    fn rsa_pss_says_its_hash_in_its_parameters() {
        let pss = |parameters: &[u8]| {
            let algorithm = [&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10][..], parameters].concat();
            signature_hash(&outline(&algorithm))
        };
        let with = |hash: u8| {
            pss(&[0x30, 0x11, 0xa0, 0x0f, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, hash, 5, 0])
        };
        assert_eq!(pss(&[0x30, 0]), Some(Hash::Sha256));
        assert_eq!(
            [1, 2, 3, 4].map(with),
            [Hash::Sha256, Hash::Sha384, Hash::Sha512, Hash::Sha224].map(Some)
        );
        assert_eq!(with(9), None);
        assert_eq!(pss(&[]), None);
    }

    #[test]
    fn what_is_no_certificate_is_bound_to_nothing() {
        let certificate = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        for cut in 0..certificate.len() {
            // Behind the algorithm nothing is read, so a cut there shows only in the outer length.
            assert_eq!(signature_hash(&certificate[..cut]), None, "{cut}");
        }
        for bytes in [&[0x30, 0x80][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0xff], b"GET /"] {
            assert_eq!(signature_hash(bytes), None);
        }
    }
}
