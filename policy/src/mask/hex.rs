use std::ops::Range;

/// Fewest hex digits that are looked into: the shortest address has six characters.
const DIGITS_MIN: usize = 12;

/// The runs of `\x` and hex digits, as PostgreSQL prints a bytea wherever one stands: alone, in an array, in a row, in JSON,
/// in an error's detail. Each with the bytes it shows.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = (Range<usize>, Vec<u8>)> + '_ {
    memchr::memchr_iter(b'\\', text).filter_map(|start| {
        let digits = text[start + 1..].strip_prefix(b"x")?;
        let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if count < DIGITS_MIN {
            return None;
        }
        let even = count - count % 2;
        let decoded = digits[..even].chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1]));
        Some((start..start + 2 + count, decoded.collect()))
    })
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
