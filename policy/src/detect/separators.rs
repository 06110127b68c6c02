//! What people write between the groups of a number.

use super::chars;

/// Most separators between two digits of a card.
pub(super) const SEPARATORS_MAX: usize = 4;

/// Bytes of the separators that `text` begins with, at most [`SEPARATORS_MAX`] of them.
pub(super) fn separators(text: &[u8]) -> usize {
    match text {
        [] => return 0,
        // The most frequent case by far: one sign, and on it goes.
        [b' ' | b'-' | b'.' | b'/', b'0'..=b'9', ..] => return 1,
        [first, ..] if !may_separate(*first) => return 0,
        _ => {}
    }
    let mut bytes = 0;
    for _ in 0..SEPARATORS_MAX {
        match separator(&text[bytes..]) {
            0 => break,
            len => bytes += len,
        }
    }
    bytes
}

/// Whether a separator may begin with this byte.
fn may_separate(byte: u8) -> bool {
    const MAY: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let it = byte as u8;
            table[byte] = matches!(
                it,
                b' ' | b'-'
                    | b'.'
                    | b'/'
                    | b'_'
                    | b'+'
                    | b'\t'
                    | b'\n'
                    | b'\r'
                    | b'\\'
                    | b'%'
                    | b'&'
                    | 0x80..
            );
            byte += 1;
        }
        table
    };
    MAY[usize::from(byte)]
}

/// Bytes of the one separator that `text` begins with, 0 if there is none.
pub(super) fn separator(text: &[u8]) -> usize {
    let Some(byte) = text.first() else { return 0 };
    match byte {
        b' ' | b'-' | b'.' | b'/' | b'_' | b'+' | b'\t' | b'\n' | b'\r' => 1,
        b'\\' => match (text.get(1), chars::json_escape(text).and_then(char::from_u32)) {
            (Some(b'n' | b'r' | b't'), _) => 2,
            (_, Some(character)) if is_separator(character) => 6,
            _ => 0,
        },
        b'%' if text.starts_with(b"%C2%A0") => 6,
        b'%' => match chars::percent_escape(text) {
            Some(b' ' | b'-' | b'.' | b'/' | b'+' | b'\t' | b'\n' | b'\r') => 3,
            _ => 0,
        },
        b'&' if text.starts_with(b"&nbsp;") || text.starts_with(b"&#160;") => 6,
        // Latin-1 and Windows-1252: a no-break space, a soft hyphen, dashes.
        0x96 | 0x97 | 0xa0 | 0xad => 1,
        0xc2.. => match chars::first(text) {
            Some((character, len)) if is_separator(character) => len,
            _ => 0,
        },
        _ => 0,
    }
}

/// Spaces, dashes, dots and marks without width beyond ASCII.
fn is_separator(character: char) -> bool {
    matches!(character,
        '\u{a0}' | '\u{ad}' | '\u{b7}' | '\u{1680}' | '\u{2000}'..='\u{2015}' | '\u{2022}' | '\u{2024}' | '\u{2027}'
        | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202f}' | '\u{2043}' | '\u{205f}'..='\u{2064}'
        | '\u{2066}'..='\u{2069}' | '\u{2212}' | '\u{3000}' | '\u{30fb}' | '\u{fe58}' | '\u{fe63}' | '\u{feff}'
        | '\u{ff0d}' | '\u{ff0e}' | '\u{ff0f}')
}

/// Bytes of the one separator within a line that `text` begins with, 0 if there is none: a space, dash, dot or slash in any
/// of their forms. Numbers shorter than a card are not joined over line breaks, tabs and signs.
pub(super) fn tight(text: &[u8]) -> usize {
    match text {
        [b' ' | b'-' | b'.' | b'/', ..] => 1,
        [b'\\', b'u', ..] | [b'%', b'1'..=b'9' | b'A'..=b'F', ..] | [b'&' | 0x80.., ..] => separator(text),
        _ => 0,
    }
}
