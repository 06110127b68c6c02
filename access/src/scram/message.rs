//! The two messages of a client (RFC 5802, section 7), read and nothing more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ScramError;
use crate::verifier::Key;

/// The longest message of a client, in bytes. Clients in use send under 200.
const CLIENT_MESSAGE_BYTES_MAX: usize = 2048;
/// The longest nonce of a client, in bytes. Clients in use send 18 to 36.
const CLIENT_NONCE_BYTES_MAX: usize = 256;

/// What a client says of channel binding.
#[derive(Debug)]
pub(super) enum Header<'a> {
    /// `n`: it has none.
    None,
    /// `y`: it has, and believes that we have none.
    Unoffered,
    /// `p=`: it binds by this type.
    Type(&'a str),
}

/// `n,,n=user,r=nonce`.
pub(super) struct ClientFirst<'a> {
    pub(super) header: Header<'a>,
    /// The message without its header.
    pub(super) bare: &'a str,
    /// The client's part of the nonce.
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Malformed("no header"))?;
        let header = match (flag, flag.strip_prefix("p=")) {
            ("n", _) => Header::None,
            ("y", _) => Header::Unoffered,
            (_, Some(kind)) => Header::Type(kind),
            _ => return Err(ScramError::Malformed("unknown channel binding flag")),
        };
        let bare = rest
            .strip_prefix(',')
            .ok_or(ScramError::Malformed("acting as another user is not offered in SCRAM"))?;
        let mut attributes = bare.split(',');
        let user = attributes.next().unwrap_or_default();
        if user.starts_with("m=") {
            return Err(ScramError::Malformed("a mandatory extension that is not known here"));
        }
        user.strip_prefix("n=").ok_or(ScramError::Malformed("no user"))?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or(ScramError::Malformed("no nonce"))?;
        Ok(Self { header, bare, nonce })
    }
}

/// `c=biws,r=nonce,p=proof`.
pub(super) struct ClientFinal<'a> {
    pub(super) channel_binding: &'a str,
    pub(super) nonce: &'a str,
    /// The message up to the comma before the proof.
    pub(super) without_proof: &'a str,
    pub(super) proof: Key,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof"))?;
        let proof = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or(ScramError::Malformed("the proof is not 32 bytes in base64"))?;
        let mut attributes = without_proof.split(',');
        let channel_binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        let channel_binding = channel_binding.ok_or(ScramError::Malformed("no channel binding"))?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.ok_or(ScramError::Malformed("no nonce"))?;
        Ok(Self { channel_binding, nonce, without_proof, proof })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > CLIENT_MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed("longer than 2048 bytes"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// Printable ASCII but for the comma (RFC 5802, section 7).
fn is_nonce(text: &str) -> bool {
    (1..=CLIENT_NONCE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, 0x21..=0x2b | 0x2d..=0x7e))
}
