//! Rows: printed for the record, masked for both, passed on as they came wherever nothing had to change.

use bytes::{BufMut, Bytes};
use retrace_policy::mask::{Cell, ClientText, ColumnText, ContentBuilder};
use retrace_proto::wire::WireFormat;

use super::client::is_printable;
use super::expect::Columns;
use super::refuse::Fault;
use crate::postgres::frame::{Frame, Reader};
use crate::postgres::message::{Formats, MessageWriter};
use crate::postgres::types::{self, Settings, TypeClass};

/// The OID of bytea. As text it is hex, which hides what it holds from who looks at the text.
pub(super) const BYTEA_OID: u32 = 17;

/// The OID of jsonb, whose binary form is its text behind one byte of version.
const JSONB_OID: u32 = 3802;

/// How to read the rows of one result.
#[derive(Debug)]
pub(super) struct Layout {
    columns: Vec<LayoutColumn>,
    /// Where nothing is known of the columns: how each is sent.
    formats: Formats,
}

#[derive(Clone, Copy, Debug)]
struct LayoutColumn {
    type_oid: u32,
    wire_format: WireFormat,
    allows: ColumnText,
}

impl Layout {
    /// The rows of a simple query, as their RowDescription says.
    pub(super) fn of_result(columns: &Columns) -> Self {
        let columns = columns
            .0
            .iter()
            .map(|(column, _)| LayoutColumn::new(column.type_oid, column.wire_format()))
            .collect();
        Self { columns, formats: Formats::default() }
    }

    /// The rows of an Execute: types as the statement was described, formats as its Bind asked.
    pub(super) fn of_columns(columns: Option<&Columns>, formats: &Formats) -> Self {
        let columns = columns.map_or(&[][..], |columns| &columns.0);
        let columns = columns
            .iter()
            .enumerate()
            .map(|(index, (column, _))| LayoutColumn::new(column.type_oid, formats.of(index)))
            .collect();
        Self { columns, formats: formats.clone() }
    }

    fn of(&self, index: usize) -> LayoutColumn {
        self.columns.get(index).copied().unwrap_or_else(|| LayoutColumn::new(0, self.formats.of(index)))
    }
}

impl LayoutColumn {
    fn new(type_oid: u32, wire_format: WireFormat) -> Self {
        let allows = match types::class(type_oid) {
            TypeClass::Text | TypeClass::Unknown => ColumnText::Any,
            TypeClass::Json => ColumnText::Json,
            TypeClass::Other => ColumnText::Typed,
        };
        Self { type_oid, wire_format, allows }
    }
}

/// Buffers that live as long as the session, so that a row costs no allocation of its own.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    printed: Vec<u8>,
    raw: Vec<u8>,
}

/// Records one DataRow and returns what the client may see of it.
pub(super) fn pass(
    content: &mut ContentBuilder,
    scratch: &mut Scratch,
    layout: &Layout,
    settings: &Settings,
    frame: Frame,
) -> Result<Bytes, Fault> {
    let mut reader = Reader::new(frame.body());
    let count = reader.count(4).map_err(|_| Fault::TargetMessage)?;
    content.begin_row(count);
    let mut rewritten: Option<MessageWriter> = None;
    let mut unchanged_end = 2;
    for index in 0..count {
        let value = reader.value().map_err(|_| Fault::TargetMessage)?;
        let column = layout.of(index);
        let cell = cell(value, column, settings, scratch);
        let client = content.cell(cell);
        if client != ClientText::AsItCame && rewritten.is_none() {
            let mut out = MessageWriter::new(b'D');
            out.bytes.put_slice(&frame.body()[..unchanged_end]);
            rewritten = Some(out);
        }
        if let Some(out) = &mut rewritten {
            write_value(out, value, client, column);
        }
        unchanged_end += 4 + value.map_or(0, <[u8]>::len);
    }
    reader.end().map_err(|_| Fault::TargetMessage)?;
    Ok(match rewritten {
        Some(out) => out.finish(),
        None => frame.into_bytes(),
    })
}

/// A value as the record wants it.
fn cell<'a>(
    value: Option<&'a [u8]>,
    column: LayoutColumn,
    settings: &Settings,
    scratch: &'a mut Scratch,
) -> Cell<'a> {
    let Some(value) = value else { return Cell::Null };
    if column.wire_format == WireFormat::Text {
        if column.type_oid == BYTEA_OID && unhex(value, &mut scratch.raw) {
            return Cell::Bytes { printed: value, raw: &scratch.raw };
        }
        return Cell::Printed(value, column.allows);
    }
    scratch.printed.clear();
    match types::print_binary(column.type_oid, value, settings, &mut scratch.printed) {
        Ok(()) if column.type_oid == BYTEA_OID => Cell::Bytes { printed: &scratch.printed, raw: value },
        Ok(()) => Cell::Printed(&scratch.printed, column.allows),
        Err(types::NotPrintable::Unknown) if is_printable(value) => Cell::Printed(value, column.allows),
        Err(_) => Cell::Opaque(value),
    }
}

/// The bytes of a bytea in hex format; `false` if it is in the older escape format, which shows them.
pub(super) fn unhex(text: &[u8], raw: &mut Vec<u8>) -> bool {
    let Some(digits) = text.strip_prefix(b"\\x") else { return false };
    raw.clear();
    for pair in digits.chunks(2) {
        let &[high, low] = pair else { return false };
        let (Some(high), Some(low)) = (char::from(high).to_digit(16), char::from(low).to_digit(16)) else {
            return false;
        };
        raw.push(u8::try_from(high * 16 + low).expect("two hex digits are a byte"));
    }
    true
}

fn write_value(out: &mut MessageWriter, value: Option<&[u8]>, client: ClientText<'_>, column: LayoutColumn) {
    let jsonb_binary = column.type_oid == JSONB_OID && column.wire_format == WireFormat::Binary;
    let (version, text): (&[u8], Option<&[u8]>) = match client {
        ClientText::AsItCame => (b"", value),
        ClientText::Null => (b"", None),
        ClientText::Replaced(text) if jsonb_binary => (b"\x01", Some(text)),
        ClientText::Replaced(text) => (b"", Some(text)),
    };
    match text {
        None => out.bytes.put_i32(-1),
        Some(text) => {
            let length = version.len() + text.len();
            out.bytes.put_u32(u32::try_from(length).expect("bounded by the limit on frames"));
            out.bytes.put_slice(version);
            out.bytes.put_slice(text);
        }
    }
}
