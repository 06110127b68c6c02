//! The CSV format as PostgreSQL reads and writes it: quotes may begin and end anywhere in a field, and hold line breaks.

use bytes::{BufMut, BytesMut};

use super::{CopyForm, Field, Row, RowKind, Value, line_content_end};

/// The end of the first row, behind its line feed. A line feed in quotes is data.
pub(super) fn row_end(
    data: &[u8],
    form: &CopyForm,
    scanned: &mut usize,
    in_quotes: &mut bool,
) -> Option<usize> {
    loop {
        let from = (*scanned).min(data.len());
        let at = from + memchr::memchr3(form.quote, form.escape, b'\n', &data[from..])?;
        let byte = data[at];
        if *in_quotes && byte == form.escape && form.escape != form.quote {
            // What is escaped may not have come yet.
            let next = *data.get(at + 1)?;
            *scanned = at + 1 + usize::from(next == form.quote || next == form.escape);
            continue;
        }
        *scanned = at + 1;
        match byte {
            b'\n' if !*in_quotes => return Some(at + 1),
            byte if byte == form.quote => *in_quotes = !*in_quotes,
            _ => {}
        }
    }
}

pub(super) fn take_apart(row: &mut Row, form: &CopyForm, first: bool) -> RowKind {
    let content_end = line_content_end(&row.bytes);
    let Row { bytes, fields, decoded } = row;
    let content = &bytes[..content_end];
    if content == b"\\." {
        return RowKind::Frame;
    }
    let mut start = 0;
    loop {
        let (end, value) = field(content, start, form, decoded);
        fields.push(Field { raw: start..end, value });
        if end >= content.len() {
            break;
        }
        start = end + 1;
    }
    if first && form.header { RowKind::Header } else { RowKind::Values }
}

/// The end of the field that begins at `start`, and its value. Only a field without any quote can be NULL.
fn field(content: &[u8], start: usize, form: &CopyForm, decoded: &mut Vec<u8>) -> (usize, Value) {
    let plain = memchr::memchr2(form.delimiter, form.quote, &content[start..]).map(|length| start + length);
    if plain.is_none_or(|at| content[at] == form.delimiter) {
        let end = plain.unwrap_or(content.len());
        let value = if content[start..end] == form.null { Value::Null } else { Value::Raw(start..end) };
        return (end, value);
    }
    let begin = decoded.len();
    let mut in_quotes = false;
    let mut at = start;
    while let Some(&byte) = content.get(at) {
        let next = content.get(at + 1).copied();
        let escapes = next.is_some_and(|next| next == form.quote || next == form.escape);
        match byte {
            byte if in_quotes && byte == form.escape && escapes => {
                decoded.extend(next);
                at += 2;
                continue;
            }
            byte if byte == form.quote => in_quotes = !in_quotes,
            byte if byte == form.delimiter && !in_quotes => break,
            byte => decoded.push(byte),
        }
        at += 1;
    }
    (at, Value::Decoded(begin..decoded.len()))
}

/// A value in quotes, so that it is never read as NULL, an end marker, or more than one field.
pub(super) fn write_value(text: &[u8], form: &CopyForm, out: &mut BytesMut) {
    out.put_u8(form.quote);
    for &byte in text {
        if byte == form.quote || byte == form.escape {
            out.put_u8(form.escape);
        }
        out.put_u8(byte);
    }
    out.put_u8(form.quote);
}
