//! International bank account numbers (ISO 13616).
//!
//! # What counts
//! A country of the registry, two check digits, letters and digits up to the country's length, right by mod 97
//! (ISO/IEC 7064), in capitals or small letters; either in one run or in groups of four with one separator between two
//! of them. No letter or digit stands beside it.
//!
//! # What does not
//! Numbers of domestic accounts, a number in groups of another size, one that another letter or digit touches.
//!
//! # False positives
//! One in 97 words that begin like a number and have its length.

use super::separators::tight;
use super::{Detector, Finding, chars};

/// Characters of the longest number.
const CHARS_MAX: usize = 34;
/// Characters of a group in print.
const GROUP_CHARS: usize = 4;
/// Characters at its end that a partial mask keeps.
const VISIBLE_CHARS: usize = 4;

/// How many characters a country's numbers have: SWIFT's IBAN registry, and countries that use the form without being
/// in it.
const LENGTHS: [(&[u8; 2], usize); 113] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AO", 25),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BF", 28),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BJ", 28),
    (b"BR", 29),
    (b"BY", 28),
    (b"CF", 27),
    (b"CG", 27),
    (b"CH", 21),
    (b"CI", 28),
    (b"CM", 27),
    (b"CR", 22),
    (b"CV", 25),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"DZ", 26),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GA", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GQ", 27),
    (b"GR", 27),
    (b"GT", 28),
    (b"GW", 25),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IR", 26),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KM", 27),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MA", 28),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MG", 27),
    (b"MK", 19),
    (b"ML", 28),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"MZ", 25),
    (b"NE", 28),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PF", 27),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SN", 28),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TD", 27),
    (b"TG", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
    (b"YT", 27),
];

/// The number whose check digits begin at `digits`.
pub(super) fn find_at(text: &[u8], digits: usize, found: &mut Vec<Finding>) {
    let Some(start) = digits.checked_sub(2) else { return };
    let Some(country) =
        text[start..].first_chunk::<2>().map(|country| country.map(|byte| byte.to_ascii_uppercase()))
    else {
        return;
    };
    if !country.iter().all(u8::is_ascii_uppercase) || !chars::is_word_start(text, start) {
        return;
    }
    let Ok(index) = LENGTHS.binary_search_by(|(of, _)| (**of).cmp(&country)) else { return };
    if let Some(end) = end_of_number(text, start, LENGTHS[index].1) {
        found.push(Finding { detector: Detector::Iban, range: start..end });
    }
}

/// Where a number of so many characters ends that begins at `start`, if its check is right.
fn end_of_number(text: &[u8], start: usize, length: usize) -> Option<usize> {
    let mut number = [0; CHARS_MAX];
    let mut in_groups = false;
    let mut at = start;
    for (index, place) in number.iter_mut().take(length).enumerate() {
        // Whether it is printed in groups shows at the first place for a separator.
        if index > 0 && index % GROUP_CHARS == 0 && (in_groups || index == GROUP_CHARS) {
            let gap = tight(&text[at..]);
            if gap == 0 && in_groups {
                return None;
            }
            in_groups = gap > 0;
            at += gap;
        }
        *place = *text.get(at).filter(|byte| byte.is_ascii_alphanumeric())?;
        at += 1;
    }
    (chars::is_word_end(text, at) && is_right(&number[..length])).then_some(at)
}

/// Mod 97 over the number with its first four characters at the end; letters count as 10 to 35.
fn is_right(number: &[u8]) -> bool {
    if !number[2].is_ascii_digit() || !number[3].is_ascii_digit() {
        return false;
    }
    let (first, rest) = number.split_at(4);
    let remainder = rest.iter().chain(first).fold(0_u32, |sum, byte| match char::from(*byte).to_digit(36) {
        Some(value @ 10..) => (sum * 100 + value) % 97,
        value => (sum * 10 + value.unwrap_or(0)) % 97,
    });
    remainder == 1
}

/// The country and the last four characters; the rest becomes `*`, separators stay.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    super::written::hide_all_but(matched, 2, VISIBLE_CHARS, out);
}
