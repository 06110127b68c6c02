//! Letters and digits of a value as it is written, without its separators.

use super::chars;
use super::separators::separator;

/// Takes a value apart into single letters and digits and what stands between them.
fn pieces(matched: &[u8]) -> impl Iterator<Item = (Option<u8>, &[u8])> {
    let mut rest = matched;
    std::iter::from_fn(move || {
        let byte = *rest.first()?;
        let (character, len) = match byte {
            b'%' if chars::percent_escape(rest).is_some() => (None, 3),
            b'&' | b'\\' => (None, separator(rest).max(1)),
            _ => (Some(byte).filter(u8::is_ascii_alphanumeric), 1),
        };
        let (bytes, after) = rest.split_at(len);
        rest = after;
        Some((character, bytes))
    })
}

/// The letters and digits alone, in capitals.
pub(super) fn canonical(matched: &[u8]) -> Vec<u8> {
    pieces(matched).filter_map(|(character, _)| character).map(|byte| byte.to_ascii_uppercase()).collect()
}

/// Every letter and digit but so many at the begin and at the end becomes `*`; what stands between them stays.
///
/// A value that has no more of them than would be shown is hidden whole.
pub(super) fn hide_all_but(matched: &[u8], first: usize, last: usize, out: &mut Vec<u8>) {
    let total = pieces(matched).filter(|(character, _)| character.is_some()).count();
    let (first, last) = if total > first + last { (first, last) } else { (0, 0) };
    let mut index = 0;
    for (character, bytes) in pieces(matched) {
        let Some(byte) = character else {
            out.extend_from_slice(bytes);
            continue;
        };
        let is_shown = index < first || index >= total - last;
        out.push(if is_shown { byte } else { b'*' });
        index += 1;
    }
}
