//! E-mail addresses.
//!
//! # What counts
//! A local part, an at-sign, and a domain with a dot in it. The at-sign may also be written as URL (`%40`), JSON
//! (`\u0040`) or HTML (`&#64;`, `&#x40;`, `&commat;`) do, or fullwidth.
//!
//! * The local part is a dot-atom (RFC 5321 section 4.1.2, RFC 5322 section 3.4.1) of any length, letters of any script
//!   included (RFC 6531), or a quoted string of up to [`QUOTED_BYTES_MAX`] bytes. Of the signs that the standard allows
//!   there, those that more often stand beside an address than in one end it: `=` and `/ ? & { } |` and the backquote;
//!   others only count between two letters or digits. `name=` before an address is left out unless it looks like a
//!   variable return path (`bounce+john=example.com@…`).
//! * The domain is labels of letters, digits, hyphens and underscores up to 63 bytes, of any script, the last one of
//!   two letters or more or punycode (RFC 5890), 255 bytes in all; or an address literal (`[192.0.2.1]`).
//! * Where writing without spaces (Chinese, Japanese, Korean) touches Latin letters, the address ends.
//!
//! # What does not
//! Domains without a dot, bare IP addresses and versions (`package@1.2.3`), addresses taken apart (`john at
//! example.com`, `john @ example.com`, comments in brackets), emoji in the local part.

mod parts;

use super::{Detector, Finding, chars};

/// Longest quoted local part that is recognised; the standard allows 64 in all.
const QUOTED_BYTES_MAX: usize = 128;
/// Longest domain (RFC 5321 section 4.5.3.1.2).
const DOMAIN_BYTES_MAX: usize = 255;
/// Longest label (RFC 1035 section 2.3.4), in bytes of UTF-8 here.
const LABEL_BYTES_MAX: usize = 63;
/// Shortest address: `a@b.cd`.
const ADDRESS_BYTES_MIN: usize = 6;
/// What stands for the hidden part of the local part.
const HIDDEN: &[u8] = b"***";

/// How an at-sign is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Plain,
    Percent,
    Json,
    Html,
}

/// The ways to write an at-sign, by their first byte.
const AT_SIGNS: [(&[u8], At); 7] = [
    (b"@", At::Plain),
    (b"%40", At::Percent),
    (b"\\u0040", At::Json),
    (b"&#64;", At::Html),
    (b"&#x40;", At::Html),
    (b"&commat;", At::Html),
    ("\u{ff20}".as_bytes(), At::Plain),
];

/// The at-sign that `text` begins with, and its length in bytes.
fn at_sign(text: &[u8]) -> Option<(At, usize)> {
    AT_SIGNS
        .iter()
        .find(|(sign, _)| text.get(..sign.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(sign)))
        .map(|(sign, at)| (*at, sign.len()))
}

/// Where at-signs may begin, in order: two vectorised searches side by side.
fn candidates(text: &[u8]) -> impl Iterator<Item = usize> {
    let mut frequent = memchr::memchr3_iter(b'@', b'%', b'\\', text).peekable();
    let mut rare = memchr::memchr2_iter(b'&', 0xef, text).peekable();
    std::iter::from_fn(move || match (frequent.peek(), rare.peek()) {
        (Some(a), Some(b)) if b < a => rare.next(),
        (Some(_), _) => frequent.next(),
        (None, _) => rare.next(),
    })
}

/// Appends every address of `text`.
///
/// Linear: a local part is walked back to the at-sign of the same kind before it at most, a domain forward by
/// [`DOMAIN_BYTES_MAX`] at most and never over an at-sign.
pub(super) fn find(text: &[u8], found: &mut Vec<Finding>) {
    if text.len() < ADDRESS_BYTES_MIN {
        return;
    }
    for start in candidates(text) {
        let Some((at, len)) = at_sign(&text[start..]) else { continue };
        let Some(domain) = parts::domain(&text[start + len..]) else { continue };
        let Some(local) = parts::local(&text[..start], at) else { continue };
        if !is_masked(&text[local..start]) {
            found.push(Finding { detector: Detector::Email, range: local..start + len + domain });
        }
    }
}

/// Whether a local part is what [`partial`] leaves of one.
fn is_masked(local: &[u8]) -> bool {
    match local.strip_suffix(HIDDEN) {
        Some([_]) => true,
        Some(rest) => chars::last(rest).is_some_and(|(_, len)| len == rest.len()),
        None => false,
    }
}

/// Takes a matched address apart at its last at-sign: local part, at-sign, domain.
fn split(matched: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let last = candidates(matched)
        .filter_map(|start| at_sign(&matched[start..]).map(|(_, len)| (start, len)))
        .last();
    let (start, len) = last.unwrap_or((matched.len(), 0));
    (&matched[..start], &matched[start..start + len], &matched[start + len..])
}

/// The first character of the local part if it has another one, three stars, and the domain as it is.
///
/// Quotes go. A first character that is written as an escape is hidden too.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    let (local, at, domain) = split(matched);
    let local = parts::unquoted(local);
    let first = match local.first() {
        None | Some(b'%' | b'\\' | b'&' | b'*') => 0,
        Some(_) => chars::first(local).map_or(1, |(_, len)| len),
    };
    let is_kept = local.len() > first
        && (local[..first].first().is_some_and(u8::is_ascii_alphanumeric)
            || chars::first(local).is_some_and(|(character, _)| character.is_alphabetic()));
    if is_kept {
        out.extend_from_slice(&local[..first]);
    }
    out.extend_from_slice(HIDDEN);
    out.extend_from_slice(at);
    out.extend_from_slice(domain);
}

/// `local@domain`, quotes and escapes undone, in lower case.
pub(super) fn canonical(matched: &[u8]) -> Vec<u8> {
    let (local, at, domain) = split(matched);
    let is_percent = at == b"%40";
    let mut address = parts::plain(parts::unquoted(local), is_percent);
    address.push(b'@');
    address.extend(parts::plain(domain, is_percent));
    match std::str::from_utf8(&address) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => address.to_ascii_lowercase(),
    }
}
