//! What stands in a value's place so that equal values can still be joined and counted.

use crate::detect::Detector;

/// Letters and digits of a token that hold its 128 bits: 22 × log₂ 62 is 130.9.
const TOKEN_CHARS: usize = 22;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Within which values are equal if their tokens are.
///
/// The token of a value in one domain says nothing of the same value in another one: what a detector found and what
/// stands in a masked column never share a token, and neither do columns of two domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenDomain<'a> {
    /// What a detector found, wherever it stood.
    Detector(Detector),
    /// Values of columns that are meant to be joined with each other.
    Column(&'a str),
}

impl TokenDomain<'_> {
    /// What a token says of what it stands for.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Detector(detector) => detector.name(),
            Self::Column(_) => "column",
        }
    }

    /// The domain as the MAC takes it: no domain's bytes begin another one's, since a name's length goes before it.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (sort, name): (&[u8], _) = match self {
            Self::Detector(detector) => (b"detector", detector.name()),
            Self::Column(name) => (b"column", name),
        };
        [sort, &(name.len() as u64).to_be_bytes(), name.as_bytes()].concat()
    }
}

/// Appends `tok_<kind>_` and 22 letters and digits.
pub(super) fn write(kind: &str, bits: [u8; 16], out: &mut Vec<u8>) {
    let mut rest = u128::from_be_bytes(bits);
    let mut letters = [b'0'; TOKEN_CHARS];
    for letter in letters.iter_mut().rev() {
        *letter = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    out.extend_from_slice(b"tok_");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'_');
    out.extend_from_slice(&letters);
}
