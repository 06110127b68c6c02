//! JSON Web Tokens (RFC 7519).
//!
//! # What counts
//! Three parts of base64url with dots between them (JWS, RFC 7515) whose first one decodes to a JSON object that has a
//! member `alg`; or five (JWE, RFC 7516) if it has `enc` as well. Payload or signature may be empty (detached content,
//! `"alg": "none"`), not both.
//!
//! # What does not
//! The JSON serializations, a token whose header is cut off or longer than [`HEADER_BYTES_MAX`].
//!
//! # False positives
//! None to speak of.

use super::{Detector, Finding, base64, chars};

/// Longest header that is decoded, in bytes of base64: one with a chain of certificates in it has a few thousand.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How a header can begin that is a JSON object: `{"`, or with white space after the bracket.
pub(super) const ANCHORS: [&str; 5] = ["eyJ", "eyA", "ewo", "ew0", "ewk"];

/// The token whose header begins at `start`. Returns where it ends, or where the header ends if it is none: no other
/// token begins before that.
pub(super) fn find_at(text: &[u8], start: usize, found: &mut Vec<Finding>) -> usize {
    let header = part(&text[start..]);
    let header_end = start + header;
    let is_header = chars::is_word_start(text, start)
        && header <= HEADER_BYTES_MAX
        && text.get(header_end) == Some(&b'.');
    if !is_header {
        return header_end;
    }
    let mut json = Vec::with_capacity(header);
    base64::decode_into(&text[start..header_end], &mut json);
    if !is_object_with(&json, b"\"alg\"") {
        return header_end;
    }
    let Some((mut end, is_empty)) = parts(text, header_end, 2) else { return header_end };
    if is_object_with(&json, b"\"enc\"")
        && let Some((of_five, _)) = parts(text, header_end, 4)
    {
        end = of_five;
    } else if is_empty {
        return header_end;
    }
    found.push(Finding { detector: Detector::Jwt, range: start..end });
    end
}

/// Where so many parts end, each after a dot, and whether all are empty.
fn parts(text: &[u8], mut at: usize, count: usize) -> Option<(usize, bool)> {
    let mut is_empty = true;
    for _ in 0..count {
        let rest = text[at..].strip_prefix(b".")?;
        let len = part(rest);
        is_empty &= len == 0;
        at += 1 + len;
    }
    Some((at, is_empty))
}

fn part(text: &[u8]) -> usize {
    chars::run(text, usize::MAX, is_part)
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_object_with(json: &[u8], member: &[u8]) -> bool {
    let json = json.trim_ascii();
    json.starts_with(b"{")
        && json.ends_with(b"}")
        && std::str::from_utf8(json).is_ok()
        && memchr::memmem::find(json, member).is_some()
}

/// The header, which names an algorithm and a key; nothing of the claims and the signature.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&matched[..part(matched)]);
    out.extend_from_slice(b".***");
}
