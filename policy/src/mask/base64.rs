use std::ops::Range;

use crate::detect::base64::{decode_into, is_digit};

/// Fewest characters that are looked into; they hold twelve bytes.
const CHARS_MIN: usize = 16;
/// Characters that hold three bytes.
const QUAD: usize = 4;
/// Bytes that must be text for the rest to be decoded.
const TEXT_BYTES: usize = CHARS_MIN / 4 * 3;

/// The runs of base64 in either alphabet that hold text, each with the bytes it stands for. Lines that break after a
/// multiple of four characters are one run, as PostgreSQL's `encode` and mail write it.
///
/// What does not begin with twelve bytes of text is not base64 but a long word, a path or a digest, or holds something
/// that is not text: of runs of random characters one in about 10,000 passes, and is then only hidden if a detector finds
/// something in it. So a value within binary data within base64 is not found. Linear: a run is walked and decoded once.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = (Range<usize>, Vec<u8>)> + '_ {
    let mut at = 0;
    let mut first = Vec::with_capacity(TEXT_BYTES);
    std::iter::from_fn(move || {
        while let Some(window) = text.get(at..).and_then(|rest| rest.first_chunk::<CHARS_MIN>()) {
            if let Some(other) = last_other(window) {
                at += other + 1;
                continue;
            }
            let start = at;
            at = end_of_run(text, start);
            first.clear();
            decode_into(&text[start..start + QUAD], &mut first);
            if !begins_text(&first) {
                continue;
            }
            decode_into(&text[start + QUAD..start + CHARS_MIN], &mut first);
            if begins_text(&first) {
                let mut decoded = Vec::with_capacity((at - start) / 4 * 3);
                decode_lines(&text[start..at], &mut decoded);
                let padding = text[at..].iter().take(2).take_while(|byte| **byte == b'=').count();
                return Some((start..at + padding, decoded));
            }
        }
        None
    })
}

/// Where the last byte stands that is no character of base64.
fn last_other(window: &[u8; CHARS_MIN]) -> Option<usize> {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let [_, .., last] = window.as_chunks::<8>().0 else { return None };
    let word = u64::from_le_bytes(*last);
    // Spaces, quotes and letters beyond ASCII are most of them: below `+` or from 128 on, all eight looked at together.
    let from_plus = (word & !HIGH_BITS) + u64::from_le_bytes([0x80 - b'+'; 8]);
    let others = (!from_plus | word) & HIGH_BITS;
    if others != 0 {
        return Some(CHARS_MIN - 1 - others.leading_zeros() as usize / 8);
    }
    window.iter().rposition(|byte| !is_digit(*byte))
}

fn end_of_run(text: &[u8], start: usize) -> usize {
    let mut at = start;
    loop {
        let len = text[at..].iter().take_while(|byte| is_digit(**byte)).count();
        at += len;
        let next_line = at + line_break(&text[at..]);
        let goes_on = len >= CHARS_MIN && len.is_multiple_of(4) && next_line > at;
        if !goes_on || !text.get(next_line).is_some_and(|byte| is_digit(*byte)) {
            return at;
        }
        at = next_line;
    }
}

/// A line break, also as JSON and `E''` write it.
fn line_break(text: &[u8]) -> usize {
    [&b"\n"[..], b"\r\n", b"\\n", b"\\r\\n"]
        .into_iter()
        .find(|line_break| text.starts_with(line_break))
        .map_or(0, <[u8]>::len)
}

fn decode_lines(mut run: &[u8], out: &mut Vec<u8>) {
    while !run.is_empty() {
        let len = run.iter().take_while(|byte| is_digit(**byte)).count();
        decode_into(&run[..len], out);
        run = &run[len..];
        run = &run[line_break(run).min(run.len())..];
    }
}

/// Whether bytes are text whose last character may be cut off.
fn begins_text(bytes: &[u8]) -> bool {
    let is_utf8 = std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && bytes.iter().all(|byte| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r'))
}
