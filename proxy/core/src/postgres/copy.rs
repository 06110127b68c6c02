//! The data of COPY: cut into rows and fields as PostgreSQL cuts it, and written again where a field changed ("COPY", file
//! formats, PostgreSQL documentation).
//!
//! The data is a byte stream of its own inside of CopyData messages, which may be cut anywhere. A row is looked at once it
//! is whole.

mod binary;
mod csv;
mod text;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use retrace_proto::wire::CopyFormat;

/// How the data of one COPY is written, as its statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyForm {
    pub(crate) direction: CopyDirection,
    pub(crate) format: CopyFormat,
    pub(crate) delimiter: u8,
    pub(crate) null: Vec<u8>,
    /// Whether the first row names the columns.
    pub(crate) header: bool,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    /// Names of the columns, if the statement gives them.
    pub(crate) columns: Vec<String>,
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyDirection {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// What a whole row of the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// The names of the columns.
    Header,
    /// Values.
    Values,
    /// Neither: the signature or the trailer of the binary format, or the end marker of the text formats.
    Frame,
}

/// One field of a row. Ranges are of the row's bytes, or of the buffer of decoded values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) raw: Range<usize>,
    pub(crate) value: Value,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// As it stands in the row.
    Raw(Range<usize>),
    /// Freed of quotes or escapes.
    Decoded(Range<usize>),
}

/// A row taken apart. The buffers serve one row after the other.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) bytes: Bytes,
    pub(crate) fields: Vec<Field>,
    decoded: Vec<u8>,
}

impl Row {
    /// The value of a field; `None` is NULL.
    pub(crate) fn value(&self, field: &Field) -> Option<&[u8]> {
        match &field.value {
            Value::Null => None,
            Value::Raw(range) => Some(&self.bytes[range.clone()]),
            Value::Decoded(range) => Some(&self.decoded[range.clone()]),
        }
    }
}

/// Why data cannot be cut into rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyError {
    /// A row is longer than the limit.
    RowTooLong,
    /// The binary format does not hold what it says.
    Malformed,
}

/// Cuts the data of one COPY.
#[derive(Debug)]
pub(crate) struct CopyReader {
    form: CopyForm,
    row_bytes_max: usize,
    /// What came last and is not cut yet, while nothing is carried over.
    data: Bytes,
    /// A row that is not whole, and what came behind it.
    carried: BytesMut,
    /// How far the row that is not whole was looked at.
    scanned: usize,
    in_quotes: bool,
    rows: u64,
}

impl CopyReader {
    pub(crate) fn new(form: CopyForm, row_bytes_max: usize) -> Self {
        Self {
            form,
            row_bytes_max,
            data: Bytes::new(),
            carried: BytesMut::new(),
            scanned: 0,
            in_quotes: false,
            rows: 0,
        }
    }

    pub(crate) fn form(&self) -> &CopyForm {
        &self.form
    }

    /// Takes data in, split anywhere.
    pub(crate) fn push(&mut self, data: Bytes) {
        if self.carried.is_empty() && self.data.is_empty() {
            self.data = data;
        } else {
            self.carry();
            self.carried.extend_from_slice(&data);
        }
    }

    /// Whether everything that came was cut.
    pub(crate) fn is_between_rows(&self) -> bool {
        self.data.is_empty() && self.carried.is_empty()
    }

    /// The next whole row, taken apart into `row`; `None` until more data comes.
    pub(crate) fn poll_row(&mut self, row: &mut Row) -> Result<Option<RowKind>, CopyError> {
        let waiting = if self.carried.is_empty() { &self.data[..] } else { &self.carried[..] };
        if waiting.is_empty() {
            return Ok(None);
        }
        let end = match self.form.format {
            CopyFormat::Binary => binary::row_end(waiting, self.rows == 0)?,
            CopyFormat::Csv => csv::row_end(waiting, &self.form, &mut self.scanned, &mut self.in_quotes),
            _ => text::row_end(waiting, &mut self.scanned),
        };
        match end {
            Some(end) => self.take_row(end, row).map(Some),
            None if waiting.len() > self.row_bytes_max => Err(CopyError::RowTooLong),
            None => {
                self.carry();
                Ok(None)
            }
        }
    }

    /// The data is over: what is left is the last row, which has no end of line. `None` if nothing is left.
    pub(crate) fn finish(&mut self, row: &mut Row) -> Result<Option<RowKind>, CopyError> {
        self.carry();
        match self.carried.len() {
            0 => Ok(None),
            _ if self.form.format == CopyFormat::Binary => Err(CopyError::Malformed),
            rest => self.take_row(rest, row).map(Some),
        }
    }

    /// Everything that came and was not cut, as it came.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.carry();
        self.scanned = 0;
        self.carried.split().freeze()
    }

    fn carry(&mut self) {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.carried.extend_from_slice(&data);
        }
    }

    fn take_row(&mut self, end: usize, row: &mut Row) -> Result<RowKind, CopyError> {
        row.bytes = if self.carried.is_empty() {
            self.data.split_to(end)
        } else {
            self.carried.split_to(end).freeze()
        };
        row.fields.clear();
        row.decoded.clear();
        self.scanned = 0;
        self.in_quotes = false;
        let first = self.rows == 0;
        self.rows += 1;
        match self.form.format {
            CopyFormat::Binary => binary::take_apart(row, first),
            CopyFormat::Csv => Ok(csv::take_apart(row, &self.form, first)),
            _ => Ok(text::take_apart(row, &self.form, first)),
        }
    }
}

/// What stands in a field's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewValue {
    AsItCame,
    Null,
    Text(Vec<u8>),
}

/// Writes a row again, with other values for its fields. The binary format has types that a text does not fit, so there
/// everything but NULL is left out as NULL.
pub(crate) fn write_row(row: &Row, form: &CopyForm, values: &[NewValue], out: &mut BytesMut) {
    let mut at = 0;
    for (field, value) in row.fields.iter().zip(values) {
        out.extend_from_slice(&row.bytes[at..field.raw.start]);
        at = field.raw.end;
        let text = match value {
            NewValue::AsItCame => {
                out.extend_from_slice(&row.bytes[field.raw.clone()]);
                continue;
            }
            NewValue::Null => None,
            NewValue::Text(text) => Some(text.as_slice()),
        };
        match (form.format, text) {
            (CopyFormat::Binary, _) => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            (_, None) => out.extend_from_slice(&form.null),
            (CopyFormat::Csv, Some(text)) => csv::write_value(text, form, out),
            (_, Some(text)) => text::write_value(text, form, out),
        }
    }
    out.extend_from_slice(&row.bytes[at..]);
}

/// Where a line's content ends, before its line break.
fn line_content_end(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests;
