//! Characters of bytes that may or may not be UTF-8.

use std::ops::Range;

/// The character that `text` begins with and its length in bytes, if it is one.
pub(super) fn first(text: &[u8]) -> Option<(char, usize)> {
    let len = match *text.first()? {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let character = std::str::from_utf8(text.get(..len)?).ok()?.chars().next()?;
    Some((character, len))
}

/// The character that `text` ends with and its length in bytes, if it is one.
pub(super) fn last(text: &[u8]) -> Option<(char, usize)> {
    (1..=text.len().min(4)).find_map(|len| {
        let (character, read) = first(&text[text.len() - len..])?;
        (read == len).then_some((character, len))
    })
}

/// Zero of each set of decimal digits (Unicode's general category Nd) that people write numbers in.
const DIGIT_ZEROS: [u32; 24] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0e50,
    0x0ed0, 0x0f20, 0x1040, 0x17e0, 0x1810, 0xff10, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6,
];

/// Whether a digit may begin with this byte. Made to be vectorised; the lead bytes of Chinese, Japanese and Korean
/// letters are none of these.
pub(super) fn may_be_digit(byte: u8) -> bool {
    (byte.wrapping_sub(b'0') < 10) | (byte.wrapping_sub(0xd9) < 9) | (byte >= 0xef)
}

/// The decimal digit that `text` begins with, and its length in bytes.
pub(super) fn digit(text: &[u8]) -> Option<(u8, usize)> {
    let byte = *text.first()?;
    if byte.is_ascii_digit() {
        return Some((byte - b'0', 1));
    }
    if !may_be_digit(byte) {
        return None;
    }
    let (character, len) = first(text)?;
    DIGIT_ZEROS
        .iter()
        .map(|zero| u32::from(character).wrapping_sub(*zero))
        .find_map(|value| u8::try_from(value).ok().filter(|value| *value < 10))
        .map(|value| (value, len))
}

/// The code of the JSON escape `\uXXXX` that `text` begins with.
pub(super) fn json_escape(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    hex(digits)
}

/// The value of the percent escape `%XX` that `text` begins with.
pub(super) fn percent_escape(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"%")?.get(..2)?;
    hex(digits).and_then(|value| u8::try_from(value).ok())
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

/// The run of bytes around `at` for which `is_part` holds, looking back no further than `floor`.
pub(super) fn run_around(text: &[u8], at: usize, floor: usize, is_part: fn(u8) -> bool) -> Range<usize> {
    let back = text[floor..at].iter().rev().take_while(|byte| is_part(**byte)).count();
    let forth = text[at..].iter().take_while(|byte| is_part(**byte)).count();
    at - back..at + forth
}

/// Whether a word may begin at `at`: no letter or digit stands before it, or one that belongs to an escape.
pub(super) fn is_word_start(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    before.last().is_none_or(|byte| !byte.is_ascii_alphanumeric()) || ends_in_escape(before)
}

/// Whether `text` ends in an escape of a string (`\n`), of JSON (`\u0020`) or of a URL (`%20`).
fn ends_in_escape(text: &[u8]) -> bool {
    let len = text.len();
    matches!(text, [.., b'\\', b'n' | b'r' | b't'])
        || len >= 3 && percent_escape(&text[len - 3..]).is_some()
        || len >= 6 && json_escape(&text[len - 6..]).is_some()
}

/// Whether a word may end at `at`: no letter or digit stands there.
pub(super) fn is_word_end(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric())
}

/// How many bytes `text` begins with for which `is_part` holds, counting up to `max`.
pub(super) fn run(text: &[u8], max: usize, is_part: impl Fn(u8) -> bool) -> usize {
    text.iter().take(max).take_while(|byte| is_part(**byte)).count()
}

/// How many bytes `text` ends with for which `is_part` holds.
pub(super) fn run_back(text: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    text.iter().rev().take_while(|byte| is_part(**byte)).count()
}
