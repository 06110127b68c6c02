//! The binary format: a signature, rows of counted fields, a trailer.

use super::{CopyError, Field, Row, RowKind, Value};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Flags and the length of the header's extension.
const HEADER_REST_BYTES: usize = 8;

/// Longest extension of the header, in bytes. PostgreSQL writes none.
const EXTENSION_BYTES_MAX: usize = 64 * 1024;

/// The end of the first row: of the header if `first`.
pub(super) fn row_end(data: &[u8], first: bool) -> Result<Option<usize>, CopyError> {
    if first {
        return header_end(data);
    }
    let Some((count, rest)) = data.split_first_chunk::<2>() else { return Ok(None) };
    let count = i16::from_be_bytes(*count);
    if count < 0 {
        return if count == -1 { Ok(Some(2)) } else { Err(CopyError::Malformed) };
    }
    let mut at = data.len() - rest.len();
    for _ in 0..count {
        match field_end(data, at)? {
            Some(end) if end <= data.len() => at = end,
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn header_end(data: &[u8]) -> Result<Option<usize>, CopyError> {
    let known = data.len().min(SIGNATURE.len());
    if data[..known] != SIGNATURE[..known] {
        return Err(CopyError::Malformed);
    }
    let fixed = SIGNATURE.len() + HEADER_REST_BYTES;
    let Some(length) = data.get(fixed - 4..fixed).and_then(|bytes| bytes.first_chunk::<4>()) else {
        return Ok(None);
    };
    let extension = u32::from_be_bytes(*length) as usize;
    if extension > EXTENSION_BYTES_MAX {
        return Err(CopyError::Malformed);
    }
    let end = fixed + extension;
    Ok((end <= data.len()).then_some(end))
}

/// The end of the field at `at`; `None` if its length has not come.
fn field_end(data: &[u8], at: usize) -> Result<Option<usize>, CopyError> {
    let Some(length) = data.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>()) else {
        return Ok(None);
    };
    match i32::from_be_bytes(*length) {
        -1 => Ok(Some(at + 4)),
        length => {
            let length = usize::try_from(length).map_err(|_| CopyError::Malformed)?;
            Ok(Some(at + 4 + length))
        }
    }
}

pub(super) fn take_apart(row: &mut Row, first: bool) -> Result<RowKind, CopyError> {
    if first || row.bytes.len() == 2 {
        return Ok(RowKind::Frame);
    }
    let mut at = 2;
    while at < row.bytes.len() {
        let end = field_end(&row.bytes, at)?.ok_or(CopyError::Malformed)?;
        let is_null = row.bytes[at..].starts_with(&(-1_i32).to_be_bytes());
        let value = if is_null { Value::Null } else { Value::Raw(at + 4..end) };
        row.fields.push(Field { raw: at..end, value });
        at = end;
    }
    Ok(RowKind::Values)
}
