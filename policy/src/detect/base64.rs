//! Base64 (RFC 4648) in either alphabet, read without caring about the padding.

/// What stands in [`SEXTETS`] for a byte of neither alphabet.
const NONE: u8 = 0xff;

/// The six bits of each character of the standard and the URL-safe alphabet.
const SEXTETS: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        table[byte] = match it {
            b'A'..=b'Z' => it - b'A',
            b'a'..=b'z' => it - b'a' + 26,
            b'0'..=b'9' => it - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => NONE,
        };
        byte += 1;
    }
    table
};

/// Whether a byte is a character of one of the alphabets.
pub(crate) fn is_digit(byte: u8) -> bool {
    SEXTETS[usize::from(byte)] != NONE
}

/// Appends the bytes that the characters stand for; others among them are left out.
pub(crate) fn decode_into(text: &[u8], out: &mut Vec<u8>) {
    let mut bits: u32 = 0;
    let mut count = 0;
    for sextet in text.iter().map(|byte| SEXTETS[usize::from(*byte)]).filter(|sextet| *sextet != NONE) {
        bits = bits << 6 | u32::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
}
