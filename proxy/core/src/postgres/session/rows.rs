//! Rows: printed for the record, masked for both, passed on as they came wherever nothing had to change.

use bytes::{BufMut, Bytes};
use retrace_policy::catalogue::Origin;
use retrace_policy::columns::UnknownOrigins;
use retrace_policy::mask::{Cell, ClientText, ColumnText, ContentBuilder, HiddenColumn};
use retrace_proto::wire::{Column, WireFormat};

use super::Session;
use super::record::is_printable;
use super::refuse::Fault;
use crate::postgres::frame::{Frame, Reader};
use crate::postgres::message::MessageWriter;
use crate::postgres::types::{self, Settings, TypeClass};

/// The OID of jsonb, whose binary form is its text behind one byte of version.
const JSONB_OID: u32 = 3802;

/// How to read the rows of one result, as its RowDescription says.
#[derive(Debug, Default)]
pub(super) struct Layout(Vec<LayoutColumn>);

#[derive(Clone, Debug)]
struct LayoutColumn {
    type_oid: u32,
    wire_format: WireFormat,
    allows: ColumnText,
    hidden: Option<HiddenColumn>,
}

impl Session {
    /// How to read and mask the rows of a result with these columns.
    pub(super) fn layout_of(&self, columns: &[(Column, &[u8])]) -> Layout {
        let column = |(column, _): &(Column, &[u8])| LayoutColumn {
            hidden: self.hidden_column(column),
            ..LayoutColumn::new(column.type_oid, column.wire_format())
        };
        Layout(columns.iter().map(column).collect())
    }

    fn hidden_column(&self, column: &Column) -> Option<HiddenColumn> {
        if !self.has_column_masks() {
            return None;
        }
        let unknown = || {
            let redacts = self.terms_that_apply().unknown_origins == UnknownOrigins::Redact;
            redacts.then_some(HiddenColumn::UnknownOrigin)
        };
        let Some(columns) = &self.columns.now else { return Some(HiddenColumn::UnknownOrigin) };
        // Numbers below zero are ctid and its like.
        let number = u16::try_from(column.origin_column).map_or(0, u16::cast_signed);
        match columns.resolved.origin(&columns.catalogue, column.origin_table_oid, number) {
            Origin::Plain => None,
            Origin::Masked(rule) => Some(HiddenColumn::Rule(rule.clone())),
            Origin::Unknown => unknown(),
        }
    }
}

impl LayoutColumn {
    fn new(type_oid: u32, wire_format: WireFormat) -> Self {
        let allows = match types::class(type_oid) {
            TypeClass::Text | TypeClass::Unknown => ColumnText::Any,
            TypeClass::Json => ColumnText::Json,
            TypeClass::Other => ColumnText::Typed,
        };
        Self { type_oid, wire_format, allows, hidden: None }
    }
}

/// Buffers that live as long as the session, so that a row costs no allocation of its own.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    printed: Vec<u8>,
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
    if count != layout.0.len() {
        return Err(Fault::TargetMessage);
    }
    content.begin_row(count);
    let mut budget_bytes = types::printed_bytes_max(frame.wire_len());
    let mut rewritten: Option<MessageWriter> = None;
    let mut unchanged_end = 2;
    for column in &layout.0 {
        let value = reader.value().map_err(|_| Fault::TargetMessage)?;
        let cell = match value {
            Some(value) if budget_bytes == 0 && column.wire_format == WireFormat::Binary => {
                Cell::Opaque(value)
            }
            value => cell(value, column, settings, scratch),
        };
        if let Cell::Printed(text, _) = cell {
            budget_bytes = budget_bytes.saturating_sub(text.len());
        }
        let client = match &column.hidden {
            None => content.cell(cell),
            Some(hidden) => content.hidden_cell(cell, hidden),
        };
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
    column: &LayoutColumn,
    settings: &Settings,
    scratch: &'a mut Scratch,
) -> Cell<'a> {
    let Some(value) = value else { return Cell::Null };
    if column.wire_format == WireFormat::Text {
        return Cell::Printed(value, column.allows);
    }
    scratch.printed.clear();
    match types::print_binary(column.type_oid, value, settings, &mut scratch.printed) {
        Ok(()) => Cell::Printed(&scratch.printed, column.allows),
        Err(types::NotPrintable::Unknown) if is_printable(value) => Cell::Printed(value, column.allows),
        Err(_) => Cell::Opaque(value),
    }
}

fn write_value(out: &mut MessageWriter, value: Option<&[u8]>, client: ClientText<'_>, column: &LayoutColumn) {
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
