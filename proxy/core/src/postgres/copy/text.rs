//! The text format: a line a row, backslashes as escapes.

use bytes::{BufMut, BytesMut};

use super::{CopyForm, Field, Row, RowKind, Value, line_content_end};

/// The end of the first row, behind its line feed. A line feed behind a backslash is data.
pub(super) fn row_end(data: &[u8], scanned: &mut usize) -> Option<usize> {
    while let Some(length) = memchr::memchr(b'\n', &data[*scanned..]) {
        let line_feed = *scanned + length;
        *scanned = line_feed + 1;
        let backslashes = data[..line_feed].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes.is_multiple_of(2) {
            return Some(*scanned);
        }
    }
    *scanned = data.len();
    None
}

pub(super) fn take_apart(row: &mut Row, form: &CopyForm, first: bool) -> RowKind {
    let content_end = line_content_end(&row.bytes);
    let Row { bytes, fields, decoded } = row;
    let content = &bytes[..content_end];
    if content == b"\\." {
        return RowKind::Frame;
    }
    let mut start = 0;
    let mut escaped = false;
    let mut at = 0;
    loop {
        let next = memchr::memchr2(form.delimiter, b'\\', &content[at..]).map(|length| at + length);
        match next {
            Some(backslash) if content[backslash] == b'\\' => {
                escaped = true;
                at = (backslash + 2).min(content.len());
            }
            _ => {
                let end = next.unwrap_or(content.len());
                fields.push(field(content, start..end, form, escaped.then_some(&mut *decoded)));
                let Some(delimiter) = next else { break };
                start = delimiter + 1;
                at = start;
                escaped = false;
            }
        }
    }
    if first && form.header { RowKind::Header } else { RowKind::Values }
}

/// NULL is told by the text before escapes are read.
fn field(
    content: &[u8],
    raw: std::ops::Range<usize>,
    form: &CopyForm,
    decoded: Option<&mut Vec<u8>>,
) -> Field {
    let text = &content[raw.clone()];
    let value = match decoded {
        _ if text == form.null => Value::Null,
        None => Value::Raw(raw.clone()),
        Some(decoded) => {
            let begin = decoded.len();
            unescape(text, decoded);
            Value::Decoded(begin..decoded.len())
        }
    };
    Field { raw, value }
}

fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let Some((&escape, after)) = rest.split_first().filter(|_| byte == b'\\') else {
            out.push(byte);
            continue;
        };
        rest = after;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let digits = rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let value = rest[..digits]
                    .iter()
                    .fold(u32::from(escape - b'0'), |value, digit| value * 8 + u32::from(digit - b'0'));
                // As PostgreSQL does: the low eight bits.
                out.push(value.to_le_bytes()[0]);
                rest = &rest[digits..];
            }
            b'x' => {
                let digits = rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
                let hex = std::str::from_utf8(&rest[..digits]).expect("hex digits are ASCII");
                out.push(u8::from_str_radix(hex, 16).unwrap_or(b'x'));
                rest = &rest[digits..];
            }
            other => out.push(other),
        }
    }
}

pub(super) fn write_value(text: &[u8], form: &CopyForm, out: &mut BytesMut) {
    for &byte in text {
        let escape = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            byte if byte == form.delimiter => byte,
            byte => {
                out.put_u8(byte);
                continue;
            }
        };
        out.put_u8(b'\\');
        out.put_u8(escape);
    }
}
