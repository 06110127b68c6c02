use super::{At, DOMAIN_BYTES_MAX, LABEL_BYTES_MAX, QUOTED_BYTES_MAX};
use crate::detect::chars;

/// Where the local part before an at-sign begins. `before` ends where the at-sign begins.
pub(super) fn local(before: &[u8], at: At) -> Option<usize> {
    if before.last() == Some(&b'"') {
        return quoted(before);
    }
    let start = trim(before, walk_back(before, at));
    (start < before.len()).then_some(start)
}

/// Back over everything that may stand in a dot-atom.
fn walk_back(before: &[u8], at: At) -> usize {
    let mut start = before.len();
    let mut near_is_dense = None;
    while let Some((len, is_dense)) = last_atom_character(&before[..start], at) {
        // Where the script changes from Latin to one without spaces, another word begins.
        let near_is_dense = *near_is_dense.get_or_insert(is_dense);
        if is_dense && !near_is_dense {
            break;
        }
        start -= len;
    }
    start
}

/// Bytes of the last character if it may stand in a dot-atom, and whether its script is written without spaces.
fn last_atom_character(text: &[u8], at: At) -> Option<(usize, bool)> {
    let byte = *text.last()?;
    if text.len() >= 3 && at == At::Percent {
        let escape = &text[text.len() - 3..];
        if let Some(value) = chars::percent_escape(escape) {
            let is_part = value >= 0x80 || is_escaped_atom(value);
            return is_part.then_some((3, false));
        }
    }
    if byte.is_ascii_hexdigit() && text.len() >= 6 {
        let escape = &text[text.len() - 6..];
        if let Some(code) = chars::json_escape(escape) {
            let is_part = match char::from_u32(code) {
                Some(character) if character.is_ascii() => u8::try_from(code).is_ok_and(is_escaped_atom),
                Some(character) => is_word(character),
                // Half of a surrogate pair.
                None => true,
            };
            return is_part.then_some((6, false));
        }
    }
    if byte.is_ascii() {
        let is_escape = matches!(byte, b'n' | b'r' | b't') && text.ends_with(&[b'\\', byte]);
        return (is_atom(byte) && !is_delimiter(byte) && !is_escape).then_some((1, false));
    }
    match chars::last(text) {
        Some((character, len)) => is_word(character).then_some((len, is_dense(character))),
        // Latin-1: its letters, none of its signs.
        None => (byte >= 0xc0).then_some((1, false)),
    }
}

/// `atext` of RFC 5322 section 3.2.3, and the dot.
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Signs that an atom may hold but that more often stand beside an address. `=` is looked at by [`trim`].
fn is_delimiter(byte: u8) -> bool {
    b"/?&{}|`".contains(&byte)
}

/// Signs that are part of the address when they are escaped: a quote or `=` was escaped to stand beside it.
fn is_escaped_atom(byte: u8) -> bool {
    is_atom(byte) && !is_delimiter(byte) && !matches!(byte, b'\'' | b'=')
}

/// Letters, digits and marks beyond ASCII, and what else is no space and no punctuation.
fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}')
}

/// Scripts that are written without spaces between words: kana, Chinese characters, hangul, fullwidth forms.
fn is_dense(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

/// Leaves out a name and `=` before the address, and signs that do not begin one.
fn trim(before: &[u8], start: usize) -> usize {
    // Only the part from `start` on is looked at: what stands before may be long, and is asked about for every at-sign.
    let last_dot = before[start..].iter().rposition(|byte| *byte == b'.').map_or(0, |dot| start + dot);
    let mut name_start = start;
    let mut is_return_path = false;
    for (index, byte) in before.iter().enumerate().skip(start) {
        match byte {
            b'+' | b'-' => is_return_path = true,
            b'=' if !(is_return_path && last_dot > index) => {
                name_start = index + 1;
                is_return_path = false;
            }
            _ => {}
        }
    }
    let start = name_start;
    let signs = before[start..]
        .iter()
        .take_while(|byte| {
            byte.is_ascii() && !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'%' | b'\\')
        })
        .count();
    start + signs
}

/// Where a quoted local part begins, its quote and the backslash before that included.
fn quoted(before: &[u8]) -> Option<usize> {
    let is_escaped = before.ends_with(b"\\\"");
    let close = before.len() - if is_escaped { 2 } else { 1 };
    let floor = close.saturating_sub(QUOTED_BYTES_MAX);
    let mut at = close;
    while at > floor {
        at -= 1;
        match before[at] {
            b'\r' | b'\n' => return None,
            b'"' => {
                let escaped = at > 0 && before[at - 1] == b'\\';
                let start = at - usize::from(escaped);
                if escaped == is_escaped {
                    // Right after a word it is more likely the end of another string.
                    let is_opening = start.checked_sub(1).is_none_or(|last| {
                        let last = before[last];
                        !(last.is_ascii_alphanumeric()
                            || b"\\.!?)]}".contains(&last)
                            || last == b'"' && !is_escaped)
                    });
                    return (is_opening && at + 1 < close).then_some(start);
                }
                at = start;
            }
            _ => {}
        }
    }
    None
}

/// A local part without its quotes.
pub(super) fn unquoted(local: &[u8]) -> &[u8] {
    let strip = |quote: &[u8]| local.strip_prefix(quote)?.strip_suffix(quote);
    strip(b"\\\"").or_else(|| strip(b"\"")).unwrap_or(local)
}

/// The length of the domain that `after` begins with.
pub(super) fn domain(after: &[u8]) -> Option<usize> {
    if after.first() == Some(&b'[') {
        return literal(after);
    }
    let mut best = None;
    let mut at = 0;
    loop {
        let label = label(&after[at..]);
        if label == 0 || label > LABEL_BYTES_MAX || at + label > DOMAIN_BYTES_MAX {
            return best;
        }
        if at > 0
            && let Some(len) = top_level(&after[at..at + label])
        {
            best = Some(at + len);
        }
        at += label;
        if after.get(at) != Some(&b'.') {
            return best;
        }
        at += 1;
    }
}

/// The length of the label that `text` begins with, not much over the longest one that is allowed.
fn label(text: &[u8]) -> usize {
    let mut len = 0;
    let mut begins_dense = None;
    while len <= LABEL_BYTES_MAX {
        let Some((step, is_dense)) = first_label_character(&text[len..]) else { break };
        let begins_dense = *begins_dense.get_or_insert(is_dense);
        if is_dense && !begins_dense {
            break;
        }
        len += step;
    }
    if text.first() == Some(&b'-') { 0 } else { len }
}

fn first_label_character(text: &[u8]) -> Option<(usize, bool)> {
    let byte = *text.first()?;
    match byte {
        _ if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') => Some((1, false)),
        b'\\' => {
            let character = chars::json_escape(text).and_then(char::from_u32)?;
            (!character.is_ascii() && is_word(character)).then_some((6, false))
        }
        b'%' => chars::percent_escape(text).filter(|value| *value >= 0x80).map(|_| (3, false)),
        0..=0x7f => None,
        _ => match chars::first(text) {
            Some((character, len)) => is_word(character).then_some((len, is_dense(character))),
            None => (byte >= 0xc0).then_some((1, false)),
        },
    }
}

/// How much of a label can be a top level domain: two letters or more, or punycode.
fn top_level(label: &[u8]) -> Option<usize> {
    if label.len() > 4 && label[..4].eq_ignore_ascii_case(b"xn--") {
        let len = label.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
        return (len > 4).then_some(len);
    }
    let letters = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii() || matches!(byte, b'\\' | b'%');
    let escapes = label.iter().any(|byte| matches!(byte, b'\\' | b'%'));
    let len = if escapes { label.len() } else { label.iter().take_while(|byte| letters(byte)).count() };
    (len >= 2).then_some(len)
}

/// The length of an address literal (RFC 5321 section 4.1.3).
fn literal(text: &[u8]) -> Option<usize> {
    let inner = &text[1..];
    let inner = inner.strip_prefix(b"IPv6:").unwrap_or(inner);
    let len = inner
        .iter()
        .take(DOMAIN_BYTES_MAX)
        .take_while(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'))
        .count();
    let dots = inner[..len].iter().filter(|byte| matches!(byte, b'.' | b':')).count();
    let total = text.len() - inner.len() + len + 1;
    (dots >= 2 && inner.get(len) == Some(&b']')).then_some(total)
}

/// Undoes the escapes of JSON, and those of URLs if the at-sign was one.
pub(super) fn plain(part: &[u8], is_percent: bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some(byte) = rest.first() {
        let len = if let Some(character) = chars::json_escape(rest).and_then(char::from_u32) {
            plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            6
        } else if let Some(value) = chars::percent_escape(rest).filter(|_| is_percent) {
            plain.push(value);
            3
        } else {
            plain.push(*byte);
            1
        };
        rest = &rest[len..];
    }
    plain
}
