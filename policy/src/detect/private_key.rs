//! Private keys.
//!
//! # What counts
//! * PEM (RFC 7468) and what looks like it (OpenSSH, OpenPGP, `---- BEGIN SSH2 …`): from `BEGIN … PRIVATE KEY` up to the
//!   matching end, or to the end of the text if there is none. Lines may end in `\n` written as two characters; spaces
//!   may be written as URLs do.
//! * PuTTY's files, from `PuTTY-User-Key-File-` to the line with their MAC, or to the end of the text.
//! * age's secret keys (`AGE-SECRET-KEY-1…`).
//!
//! # What does not
//! A key's base64 without its first line, keys as JSON (RFC 7517), bare DER.
//!
//! # False positives
//! Text that quotes the first line of a key without having one is hidden from there on.

use std::ops::Range;

use memchr::memmem;

use super::{Detector, Finding, chars};

/// What each form has in it.
pub(super) const ANCHORS: [&str; 3] = ["PRIVATE", "PuTTY-User-Key-File-", "AGE-SECRET-KEY-"];

/// How far before `PRIVATE` a block may begin, in bytes.
const LABEL_BYTES_MAX: usize = 64;
/// Longest MAC of a PuTTY file, in bytes.
const MAC_BYTES_MAX: usize = 160;
/// Fewest characters after the prefix of an age key; it has 58 (Bech32).
const AGE_CHARS_MIN: usize = 40;
/// Most characters after the prefix of an age key; the post-quantum ones have about 2,000.
const AGE_CHARS_MAX: usize = 4096;

/// The key around the anchor that begins at `at`. Returns where to look for the next one.
pub(super) fn find_at(text: &[u8], at: usize, found: &mut Vec<Finding>) -> usize {
    let range = match text[at..] {
        [b'P', b'R', ..] => pem(text, at),
        [b'P', ..] => Some(at..putty_end(text, at)),
        _ => age(text, at),
    };
    let Some(range) = range else { return at + 1 };
    let end = range.end;
    found.push(Finding { detector: Detector::PrivateKey, range });
    end
}

/// A space, also as a URL writes it.
fn space(text: &[u8]) -> usize {
    match text {
        [b' ' | b'+' | b'_', ..] => 1,
        [b'%', b'2', b'0', ..] => 3,
        _ => 0,
    }
}

fn pem(text: &[u8], at: usize) -> Option<Range<usize>> {
    let after = at + b"PRIVATE".len();
    let gap = space(&text[after..]);
    if gap == 0 || !text[after + gap..].starts_with(b"KEY") {
        return None;
    }
    let floor = at.saturating_sub(LABEL_BYTES_MAX);
    let begin = floor + memmem::rfind(&text[floor..at], b"BEGIN")?;
    let dashes = chars::run_back(&text[floor..begin], |byte| matches!(byte, b'-' | b' ' | b'+'));
    let start = begin - dashes + chars::run(&text[begin - dashes..begin], dashes, |byte| byte != b'-');
    if start == begin {
        return None;
    }
    let body = after + gap + b"KEY".len();
    Some(start..pem_end(text, body))
}

/// Behind the line that ends the block, or the end of the text.
fn pem_end(text: &[u8], body: usize) -> usize {
    let mut at = body;
    while let Some(end) = memmem::find(&text[at..], b"END") {
        at += end + b"END".len();
        let line = &text[at..text.len().min(at + LABEL_BYTES_MAX)];
        if let Some(key) = memmem::find(line, b"PRIVATE") {
            let key = at + key + b"PRIVATE".len();
            let rest = &text[key..];
            let label = chars::run(rest, LABEL_BYTES_MAX, |byte| {
                byte.is_ascii_uppercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b' ' | b'+' | b'%' | b'_')
            });
            return key + label + chars::run(&rest[label..], 5, |byte| byte == b'-');
        }
    }
    text.len()
}

/// Behind the MAC of a PuTTY file, or the end of the text.
fn putty_end(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memmem::find(&text[at..], b"Private-") {
        at += found + b"Private-".len();
        let rest = &text[at..];
        if let Some(mac) = rest.strip_prefix(b"MAC:").or_else(|| rest.strip_prefix(b"Hash:")) {
            let end = text.len() - mac.len();
            return end + chars::run(mac, MAC_BYTES_MAX, |byte| byte == b' ' || byte.is_ascii_hexdigit());
        }
    }
    text.len()
}

fn age(text: &[u8], at: usize) -> Option<Range<usize>> {
    let prefix = "AGE-SECRET-KEY-".len();
    let key =
        chars::run(&text[at + prefix..], AGE_CHARS_MAX, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (key >= AGE_CHARS_MIN).then_some(at..at + prefix + key)
}

/// The key without line breaks and spaces.
pub(super) fn canonical(matched: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(matched.len());
    let mut rest = matched;
    while let Some(byte) = rest.first() {
        let len = match rest {
            [b'\\', b'n' | b'r' | b't', ..] => 2,
            _ => {
                if !byte.is_ascii_whitespace() {
                    canonical.push(*byte);
                }
                1
            }
        };
        rest = &rest[len..];
    }
    canonical
}
