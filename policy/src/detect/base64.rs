//! Base64 (RFC 4648) in either alphabet, read without caring about the padding.

/// The six bits of a character of the standard or the URL-safe alphabet.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Whether a byte is a character of one of the alphabets.
pub(crate) fn is_digit(byte: u8) -> bool {
    const IS_DIGIT: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let it = byte as u8;
            table[byte] = it.is_ascii_alphanumeric() || matches!(it, b'+' | b'-' | b'/' | b'_');
            byte += 1;
        }
        table
    };
    IS_DIGIT[usize::from(byte)]
}

/// Appends the bytes that the characters stand for; others among them are left out.
pub(crate) fn decode_into(text: &[u8], out: &mut Vec<u8>) {
    let mut bits: u32 = 0;
    let mut count = 0;
    for sextet in text.iter().filter_map(|byte| sextet(*byte)) {
        bits = bits << 6 | u32::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
}
