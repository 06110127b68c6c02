//! Numbers of payment cards.
//!
//! # What counts
//! 12 to 19 digits (ISO/IEC 7812-1) of a length that the issuer of their first digits uses ([`issuer`]), with a right
//! check digit (Luhn). Digits of any script count. Up to [`SEPARATORS_MAX`](super::separators::SEPARATORS_MAX) spaces, dashes, dots, slashes, plus signs,
//! underscores, line breaks, also as JSON, URL and HTML write them, may stand between two digits. They cut a number
//! into groups, and every sequence of whole groups is tried: if all but the last have four digits or more, for every
//! length an issuer uses; otherwise only if the same separator stands everywhere, and for the usual lengths. Letters
//! beside a number do not protect it. Also found: numbers padded with zeros on the left, and a number that a `float8`
//! prints with an exponent (`4.111111111111111e+15`). A run of more than 19 digits is hidden whole if a card of a usual
//! length begins or ends it, as when an expiry date was appended; so is one of 18 or 19 digits that a card of 15 or 16
//! begins, as when a security code was.
//!
//! # What does not
//! * The fraction of a decimal number, alone or with its integer part: `0.4111111111111111`. An average has 16 of
//!   these digits, and every thirtieth average would be hidden. The integer part alone does count, and if it is a card the
//!   fraction does too: `4111111111111111.4012888888881881` is two.
//! * 12 or 13 digits after a plus sign: a telephone number (E.164).
//! * Digits within a UUID or within hex of the length of a digest or after `\x`, if a letter is among them.
//! * A card within a longer run of digits but at neither end of it; groups in mixed separators of odd sizes.
//! * UATP (prefix 1), since account numbers of other kinds look like it too often.
//!
//! # False positives
//! Of numbers with random digits, 4 % of those with 16 digits are taken for a card, 8 % of those with 19 and at most 3 %
//! of every other length: a test counts the issuers' share, of which Luhn lets a tenth through. Identifiers of
//! that kind are hidden now and then; that is the price of not missing a card. Lists of numbers in one value have more
//! such chances than single ones.

mod issuer;

mod group;

mod scan;

pub(super) use scan::Scanner;

use super::chars;
use super::separators::separator;

/// Fewest digits of a card.
const DIGITS_MIN: usize = 12;
/// Most digits of a card.
const DIGITS_MAX: usize = 19;
/// Digits that a partial mask keeps.
const VISIBLE_DIGITS: usize = 4;

/// A piece of a matched number.
enum Piece {
    /// A digit's value.
    Digit(u8),
    /// Anything else.
    Other,
}

/// Takes a matched number apart; each piece with its bytes.
fn pieces(matched: &[u8]) -> impl Iterator<Item = (Piece, &[u8])> {
    let mut rest = matched;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, len) = match chars::digit(rest) {
            Some((value, len)) => (Piece::Digit(value), len),
            None => (Piece::Other, separator(rest).max(1)),
        };
        let (bytes, after) = rest.split_at(len);
        rest = after;
        Some((piece, bytes))
    })
}

/// The digits alone, without zeros before the first other one. A number with an exponent is written out.
pub(super) fn canonical(matched: &[u8]) -> Vec<u8> {
    let mut digits = Vec::with_capacity(matched.len());
    let mut fraction_start = None;
    let mut exponent_start = None;
    for (piece, bytes) in pieces(matched) {
        match (piece, bytes) {
            (Piece::Digit(value), _) => digits.push(b'0' + value),
            (Piece::Other, b".") => fraction_start = Some(digits.len()),
            (Piece::Other, b"e" | b"E") => exponent_start = Some(digits.len()),
            (Piece::Other, _) => {}
        }
    }
    if let Some(at) = exponent_start {
        let exponent = digits
            .split_off(at)
            .iter()
            .fold(0_usize, |sum, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
        let integer_digits = fraction_start.unwrap_or(digits.len());
        digits.resize(integer_digits.saturating_add(exponent).min(DIGITS_MAX), b'0');
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros);
    digits
}

/// Every digit but the last four becomes `*`; the rest stays.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    let digits = pieces(matched).filter(|(piece, _)| matches!(piece, Piece::Digit(_))).count();
    let mut hidden = digits.saturating_sub(VISIBLE_DIGITS);
    for (piece, bytes) in pieces(matched) {
        match piece {
            Piece::Digit(_) if hidden > 0 => {
                hidden -= 1;
                out.push(b'*');
            }
            _ => out.extend_from_slice(bytes),
        }
    }
}
