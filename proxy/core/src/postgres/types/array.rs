use std::io::Write as _;

use super::kind::Kind;
use super::{NotPrintable, Reader, Settings, print_scalar, printed_bytes_max};

/// Most dimensions of an array (`MAXDIM`).
const DIMENSIONS_MAX: usize = 6;

/// One dimension: how many elements, and the subscript of the first.
struct Dimension {
    count: usize,
    first: i32,
}

/// `array_out`: braces around each dimension, quotes where an element would be misread, subscripts if not from 1.
pub(super) fn print(value: &[u8], settings: &Settings, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    let mut reader = Reader(value);
    let dimensions_count = usize::try_from(reader.i32()?).map_err(|_| NotPrintable::Malformed)?;
    let flags = reader.i32()?;
    let element_oid = u32::from_be_bytes(reader.take()?);
    if dimensions_count > DIMENSIONS_MAX || !matches!(flags, 0 | 1) {
        return Err(NotPrintable::Malformed);
    }
    let kind = match Kind::of(element_oid) {
        None => return Err(NotPrintable::Unknown),
        Some(Kind::Array) => return Err(NotPrintable::Malformed),
        Some(kind) => kind,
    };
    let dimensions = dimensions(&mut reader, dimensions_count)?;
    if dimensions.iter().any(|dimension| dimension.count == 0) || dimensions.is_empty() {
        out.extend_from_slice(b"{}");
        return reader.end();
    }
    if dimensions.iter().any(|dimension| dimension.first != 1) {
        subscripts(&dimensions, out)?;
    }
    let mut element = Vec::new();
    let out_bytes_max = out.len() + printed_bytes_max(value.len());
    let mut at = vec![0_usize; dimensions.len()];
    out.extend(std::iter::repeat_n(b'{', dimensions.len()));
    loop {
        print_element(kind, &mut reader, settings, &mut element, out)?;
        if out.len() > out_bytes_max {
            return Err(NotPrintable::Unknown);
        }
        // The next element: close the dimensions that are full, open them anew.
        let mut level = dimensions.len();
        while level > 0 && at[level - 1] + 1 == dimensions[level - 1].count {
            level -= 1;
            at[level] = 0;
            out.push(b'}');
        }
        if level == 0 {
            return reader.end();
        }
        at[level - 1] += 1;
        out.push(b',');
        out.extend(std::iter::repeat_n(b'{', dimensions.len() - level));
    }
}

/// Reads the dimensions. Each element takes four bytes at least, so more of them than that is a lie.
fn dimensions(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Dimension>, NotPrintable> {
    let mut dimensions = Vec::with_capacity(count);
    let mut elements = 1_usize;
    for _ in 0..count {
        let size = usize::try_from(reader.i32()?).map_err(|_| NotPrintable::Malformed)?;
        let first = reader.i32()?;
        elements = elements.checked_mul(size).ok_or(NotPrintable::Malformed)?;
        dimensions.push(Dimension { count: size, first });
    }
    if elements > reader.0.len() / 4 {
        let is_empty = dimensions.is_empty();
        return if is_empty { Ok(dimensions) } else { Err(NotPrintable::Malformed) };
    }
    Ok(dimensions)
}

fn subscripts(dimensions: &[Dimension], out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    for dimension in dimensions {
        let count = i64::try_from(dimension.count).map_err(|_| NotPrintable::Malformed)?;
        let last = i64::from(dimension.first) + count - 1;
        write!(out, "[{}:{last}]", dimension.first).expect("a vector takes every write");
    }
    out.push(b'=');
    Ok(())
}

fn print_element(
    kind: Kind,
    reader: &mut Reader<'_>,
    settings: &Settings,
    element: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), NotPrintable> {
    let len = reader.i32()?;
    if len == -1 {
        out.extend_from_slice(b"NULL");
        return Ok(());
    }
    let len = usize::try_from(len).map_err(|_| NotPrintable::Malformed)?;
    element.clear();
    print_scalar(kind, reader.bytes(len)?, settings, element)?;
    if !needs_quotes(element) {
        out.extend_from_slice(element);
        return Ok(());
    }
    out.push(b'"');
    for byte in element.iter() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
    Ok(())
}

fn needs_quotes(element: &[u8]) -> bool {
    element.is_empty()
        || element.eq_ignore_ascii_case(b"null")
        || element.iter().any(|byte| b"\"\\{}, \t\n\r\x0b\x0c".contains(byte))
}
