//! COPY between client and target. Each row is data like any other: looked at, masked on its way to the client, recorded
//! before it moves on.

use std::sync::Arc;

use bytes::BytesMut;
use retrace_policy::columns::{CopyColumn, UnknownOrigins};
use retrace_policy::mask::{Cell, ClientText, ColumnText, ContentBuilder, HiddenColumn};
use retrace_proto::Event;
use retrace_proto::limits::CHUNK_BYTES_MAX;
use retrace_proto::wire::{Column, CopyFormat, RecordResponses, WireFormat, command_refused};

use super::expect::{Copied, Expect, Ran};
use super::omit::Omitted;
use super::record::is_printable;
use super::refuse::Fault;
use super::{Beyond, Session};
use crate::Now;
use crate::postgres::copy::{
    CopyDirection, CopyError, CopyForm, CopyReader, NewValue, Row, RowKind, write_row,
};
use crate::postgres::frame::{CLIENT_FRAME_BYTES_MAX, Frame, Reader, TARGET_FRAME_BYTES_MAX};
use crate::postgres::message;

/// A COPY under way.
#[derive(Debug)]
pub(super) struct Copying {
    reader: CopyReader,
    row: Row,
    /// Data of the client that is recorded and not in the gate yet, in its next message.
    recorded: BytesMut,
    /// Data of the client in its command so far, in bytes.
    data_bytes: u64,
    /// The chunk that comes next in its command.
    chunk_index: u32,
    /// What is passed on without being kept.
    omitted: Omitted,
    refused: bool,
    /// Which columns are hidden; columns beyond these are not.
    hidden: Vec<Option<HiddenColumn>>,
}

impl Copying {
    fn new(form: &CopyForm, row_bytes_max: usize, copied: Copied) -> Box<Self> {
        Box::new(Self {
            reader: CopyReader::new(form.clone(), row_bytes_max),
            row: Row::default(),
            recorded: BytesMut::new(),
            data_bytes: copied.data_bytes,
            chunk_index: copied.chunks,
            omitted: Omitted::default(),
            refused: false,
            hidden: Vec::new(),
        })
    }

    /// A field of a column that the record or the client may not have is hidden.
    fn cell<'a>(&self, index: usize, content: &'a mut ContentBuilder) -> ClientText<'a> {
        let row = &self.row;
        let binary = self.reader.form().format == CopyFormat::Binary;
        let cell = cell(row.value(&row.fields[index]), binary);
        // A row that does not have the columns of its COPY, or a line end within, may be cut in another way by the target.
        let line = row.bytes.strip_suffix(b"\n").unwrap_or(&row.bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let fits = row.fields.len() == self.hidden.len() && (binary || memchr::memchr(b'\r', line).is_none());
        let hidden = match self.hidden.get(index) {
            _ if self.hidden.is_empty() => None,
            Some(hidden) if fits => hidden.as_ref(),
            _ => Some(&HiddenColumn::UnknownOrigin),
        };
        match hidden {
            None => content.cell(cell),
            Some(hidden) => content.hidden_cell(cell, hidden),
        }
    }
}

impl Session {
    /// CopyInResponse or CopyOutResponse: the statement that is being answered said that it would come.
    pub(super) fn target_begins_copy(&mut self, frame: Frame) -> Result<(), Fault> {
        let direction = if frame.tag() == b'G' { CopyDirection::In } else { CopyDirection::Out };
        let copy = self.begin_next_copy().filter(|(form, _)| form.direction == direction);
        let Some((form, copied)) = copy else { return Err(Fault::CopyBegan) };
        let mut reader = Reader::new(frame.body());
        let binary = reader.u8().map_err(|_| Fault::TargetMessage)? == 1;
        let count = reader.count(2).map_err(|_| Fault::TargetMessage)?;
        if binary != (form.format == CopyFormat::Binary) {
            return Err(Fault::CopyBegan);
        }
        match direction {
            CopyDirection::In => {
                let mut copying = Copying::new(&form, CLIENT_FRAME_BYTES_MAX, copied);
                copying.hidden = self.hidden_of_copy(count);
                self.copying_in = Some(copying);
            }
            CopyDirection::Out => {
                // A header names them better.
                if !form.header {
                    let names = self.names_of_copy(&form, count);
                    let columns = names.iter().map(|name| copy_column(&form, name)).collect();
                    self.content.copy_columns(columns, form.format);
                }
                let mut copying = Copying::new(&form, TARGET_FRAME_BYTES_MAX, Copied::default());
                copying.hidden = self.hidden_of_copy(count);
                self.copying_out = Some(copying);
            }
        }
        self.hold(frame.into_bytes());
        Ok(())
    }

    /// The COPY that the target begins now: each of a statement's begins once, in order.
    fn begin_next_copy(&mut self) -> Option<(Arc<CopyForm>, Copied)> {
        let ran = self.ran_now()?;
        let form = ran.terms.copies.get(ran.copied.begun)?.clone();
        ran.copied.begun += 1;
        Some((form, ran.copied))
    }

    /// The statement that is being answered.
    fn ran_now(&mut self) -> Option<&mut Ran> {
        match &mut self.expected.front_mut()?.expect {
            Expect::Query(ran) | Expect::Execute(ran) => Some(&mut **ran),
            _ => None,
        }
    }

    /// Which of the data's columns are hidden, by the catalogue's order. None are if the list is empty.
    fn hidden_of_copy(&self, count: usize) -> Vec<Option<HiddenColumn>> {
        let terms = self.terms_that_apply();
        match &terms.copy_columns {
            _ if !self.has_column_masks() => Vec::new(),
            Some(columns) if columns.len() == count => columns.iter().map(hidden_column).collect(),
            None if terms.unknown_origins == UnknownOrigins::Pass => Vec::new(),
            _ => vec![Some(HiddenColumn::UnknownOrigin); count.max(1)],
        }
    }

    /// Whether the target may be about to begin a COPY from the client, so that what the client means by its next messages
    /// is not known yet.
    pub(super) fn copy_in_is_undecided(&self) -> bool {
        self.copying_in.is_none()
            && self.newest_first().any(|expected| match &expected.expect {
                Expect::Query(ran) | Expect::Execute(ran) => {
                    ran.terms.last_copy_in.is_some_and(|last| last >= ran.copied.begun)
                }
                _ => false,
            })
    }

    /// A message of the client while it sends COPY data.
    pub(super) fn client_copies(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        match frame.tag() {
            b'd' => self.client_sends_copy_data(now, frame),
            b'c' | b'f' => self.client_ends_copy(now, frame),
            // A server drops these here.
            b'S' | b'H' => Ok(()),
            b'X' => self.client_terminates(now),
            _ => Err(Fault::ClientMessage),
        }
    }

    fn client_sends_copy_data(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let Some(mut copying) = self.copying_in.take() else { return Ok(()) };
        let outcome = self.take_copy_data(now, &mut copying, &frame);
        self.copying_in = Some(copying);
        outcome
    }

    fn take_copy_data(&mut self, now: Now, copying: &mut Copying, frame: &Frame) -> Result<(), Fault> {
        if copying.refused {
            return Ok(());
        }
        copying.data_bytes += frame.body().len() as u64;
        if copying.data_bytes > self.limits.command_recorded_bytes_max {
            return self.copy_is_beyond(now, copying, frame);
        }
        let body = frame.bytes().slice(message::HEADER_BYTES..);
        copying.reader.push(body);
        loop {
            match copying.reader.poll_row(&mut copying.row) {
                Ok(Some(kind)) => record_copied(&mut self.copied, copying, kind),
                Ok(None) => break,
                Err(CopyError::RowTooLong) => return Err(Fault::CopyRowTooLong),
                Err(CopyError::Malformed) => {
                    // The target will say what is wrong with it.
                    copying.row.bytes = copying.reader.take_rest();
                    record_uncut(&mut self.copied, &copying.row.bytes);
                }
            }
            copying.recorded.extend_from_slice(&copying.row.bytes);
            if copying.recorded.len() >= CHUNK_BYTES_MAX {
                self.forward_copied(now, copying)?;
            }
        }
        Ok(())
    }

    /// Data beyond what the record takes: the target's configuration says what becomes of it.
    fn copy_is_beyond(&mut self, now: Now, copying: &mut Copying, frame: &Frame) -> Result<(), Fault> {
        if self.recording.beyond == Beyond::Refuse {
            self.forward_copied(now, copying)?;
            copying.refused = true;
            let command_seq = self.in_flight.front().map_or(0, |command| command.seq);
            let reason = command_refused::Reason::LimitExceeded;
            self.record_refused_after(now, command_seq, reason, "54000")?;
            let told = format!(
                "retrace: the data of this COPY is longer than the {} bytes that are recorded",
                self.limits.command_recorded_bytes_max
            );
            self.push_unit(now, vec![message::copy_fail(told.as_bytes())], Vec::new(), None);
            return Ok(());
        }
        let rest = copying.reader.take_rest();
        for data in [&rest[..], frame.body()] {
            copying.omitted.push(&self.recording.key, 0, data);
            copying.recorded.extend_from_slice(data);
        }
        if copying.recorded.len() >= CHUNK_BYTES_MAX {
            self.forward_copied(now, copying)?;
        }
        Ok(())
    }

    /// Seals the rows that are whole, and lets their data go behind that.
    pub(super) fn flush_copied(&mut self, now: Now) -> Result<(), Fault> {
        let Some(mut copying) = self.copying_in.take() else { return Ok(()) };
        let outcome = self.forward_copied(now, &mut copying);
        self.copying_in = Some(copying);
        outcome
    }

    fn forward_copied(&mut self, now: Now, copying: &mut Copying) -> Result<(), Fault> {
        if copying.recorded.is_empty() {
            return Ok(());
        }
        let data = copying.recorded.split().freeze();
        let command_seq = self.in_flight.front().map(|command| command.seq);
        let mut data_bytes = data.len() as u64;
        while !self.copied.is_empty() {
            let content = self.copied.poll_full().unwrap_or_else(|| self.copied.take());
            self.tally.count_content(content.get());
            let event = Event::copy_chunk(copying.chunk_index, data_bytes, content);
            self.append(now, command_seq, event)?;
            copying.chunk_index += 1;
            data_bytes = 0;
        }
        if let Some(omitted) = copying.omitted.take_command(&self.recording.key) {
            self.append(now, command_seq, Event::command_omitted(omitted))?;
        }
        let (chunks, data_bytes) = (copying.chunk_index, copying.data_bytes);
        if let Some(ran) = self.ran_now() {
            ran.copied = Copied { chunks, data_bytes, ..ran.copied };
        }
        self.push_unit(now, vec![message::copy_data(&data)], Vec::new(), None);
        Ok(())
    }

    fn client_ends_copy(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let Some(mut copying) = self.copying_in.take() else { return Ok(()) };
        if copying.refused {
            return Ok(());
        }
        match copying.reader.finish(&mut copying.row) {
            Ok(None) => {}
            Ok(Some(kind)) => {
                record_copied(&mut self.copied, &copying, kind);
                copying.recorded.extend_from_slice(&copying.row.bytes);
            }
            Err(_) => {
                copying.row.bytes = copying.reader.take_rest();
                record_uncut(&mut self.copied, &copying.row.bytes);
                copying.recorded.extend_from_slice(&copying.row.bytes);
            }
        }
        self.forward_copied(now, &mut copying)?;
        self.push_unit(now, vec![frame.into_bytes()], Vec::new(), None);
        Ok(())
    }

    /// CopyData of the target: rows for the client.
    pub(super) fn target_sends_copy_data(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let Some(mut copying) = self.copying_out.take() else { return Err(Fault::TargetMessage) };
        let was_between_rows = copying.reader.is_between_rows();
        let mut out = BytesMut::new();
        let mut changed = false;
        copying.reader.push(frame.bytes().slice(message::HEADER_BYTES..));
        while let Some(kind) = copying.reader.poll_row(&mut copying.row).map_err(copy_fault)? {
            changed |= self.pass_copied(&copying, kind, &mut out);
            self.record_full(now)?;
        }
        let as_it_came = !changed && was_between_rows && copying.reader.is_between_rows();
        self.copying_out = Some(copying);
        if as_it_came {
            self.hold(frame.into_bytes());
        } else if !out.is_empty() {
            self.hold(message::copy_data(&out));
        }
        Ok(())
    }

    /// Records one row and appends what the client may see of it. Returns whether that is something else.
    fn pass_copied(&mut self, copying: &Copying, kind: RowKind, out: &mut BytesMut) -> bool {
        let row = &copying.row;
        if kind == RowKind::Frame {
            record_frame(&mut self.content, copying);
            out.extend_from_slice(&row.bytes);
            return false;
        }
        if kind == RowKind::Header {
            return self.pass_header(copying, out);
        }
        if let Some(command) = self.in_flight.front_mut() {
            command.rows += 1;
        }
        self.note_row(&row.bytes);
        self.content.begin_row(row.fields.len());
        let mut values: Option<Vec<NewValue>> = None;
        for index in 0..row.fields.len() {
            let value = match copying.cell(index, &mut self.content) {
                ClientText::AsItCame => NewValue::AsItCame,
                ClientText::Null => NewValue::Null,
                ClientText::Replaced(text) => NewValue::Text(text.to_vec()),
            };
            if value != NewValue::AsItCame || values.is_some() {
                values.get_or_insert_with(|| vec![NewValue::AsItCame; index]).push(value);
            }
        }
        match &values {
            None => out.extend_from_slice(&row.bytes),
            Some(values) => write_row(row, copying.reader.form(), values, out),
        }
        values.is_some()
    }

    /// Records the names of the columns and appends what the client may see of them.
    fn pass_header(&mut self, copying: &Copying, out: &mut BytesMut) -> bool {
        let (row, form) = (&copying.row, copying.reader.form());
        let names = row.fields.iter().map(|field| copy_column(form, row.value(field).unwrap_or_default()));
        match self.content.copy_columns(names.collect(), form.format) {
            None => out.extend_from_slice(&row.bytes),
            Some(names) => {
                let names: Vec<_> = names.into_iter().map(NewValue::Text).collect();
                write_row(row, form, &names, out);
                return true;
            }
        }
        false
    }

    /// The names of a COPY's columns, as far as the catalogue or the statement has them.
    fn names_of_copy(&self, form: &CopyForm, count: usize) -> Vec<Vec<u8>> {
        let known = self.terms_that_apply().copy_columns.as_ref().filter(|columns| columns.len() == count);
        let name = |index: usize| match known {
            Some(columns) => columns[index].name.clone().into_bytes(),
            None => form.columns.get(index).cloned().unwrap_or_default().into_bytes(),
        };
        (0..count).map(name).collect()
    }

    /// A COPY that is under way is over: its statement ended or failed. What the client still sends of it, the target drops.
    pub(super) fn end_copy(&mut self) {
        self.copying_out = None;
        if self.copying_in.take().is_some() {
            self.copied = ContentBuilder::new(self.masker.clone(), RecordResponses::Full);
        }
    }

    /// CopyDone of the target.
    pub(super) fn target_ends_copy(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let Some(mut copying) = self.copying_out.take() else { return Err(Fault::TargetMessage) };
        if let Some(kind) = copying.reader.finish(&mut copying.row).map_err(copy_fault)? {
            let mut out = BytesMut::new();
            self.pass_copied(&copying, kind, &mut out);
            self.record_full(now)?;
            self.hold(message::copy_data(&out));
        }
        self.hold(frame.into_bytes());
        Ok(())
    }
}

fn hidden_column(column: &CopyColumn) -> Option<HiddenColumn> {
    let unknown = || column.redact.then_some(HiddenColumn::UnknownOrigin);
    column.rule.clone().map(HiddenColumn::Rule).or_else(unknown)
}

/// A field as the record wants it. The wire does not say its type.
fn cell(value: Option<&[u8]>, binary: bool) -> Cell<'_> {
    match value {
        None => Cell::Null,
        Some(value) if binary && !is_printable(value) => Cell::Opaque(value),
        Some(value) => Cell::Printed(value, ColumnText::Any),
    }
}

fn record_copied(copied: &mut ContentBuilder, copying: &Copying, kind: RowKind) {
    if kind == RowKind::Frame {
        return record_frame(copied, copying);
    }
    let count = copying.row.fields.len();
    copied.begin_row(count);
    for index in 0..count {
        copying.cell(index, copied);
    }
}

/// A plain signature and the trailer of the binary format say nothing and are not kept. An extended signature is, and so is
/// the text formats' end marker, which newer servers read as data in CSV.
fn record_frame(content: &mut ContentBuilder, copying: &Copying) {
    let bytes = &copying.row.bytes;
    match copying.reader.form().format {
        CopyFormat::Binary if bytes.len() <= PLAIN_SIGNATURE_BYTES => {}
        CopyFormat::Binary => record_uncut(content, bytes),
        _ => {
            content.begin_row(1);
            content.cell(cell(Some(bytes.trim_ascii_end()), false));
        }
    }
}

/// The signature of the binary format with its flags and the length of an extension that is empty.
const PLAIN_SIGNATURE_BYTES: usize = 19;

/// Data that is not of its format is one value.
fn record_uncut(copied: &mut ContentBuilder, data: &[u8]) {
    copied.begin_row(1);
    copied.cell(Cell::Opaque(data));
}

fn copy_fault(error: CopyError) -> Fault {
    match error {
        CopyError::RowTooLong => Fault::CopyRowTooLong,
        CopyError::Malformed => Fault::TargetMessage,
    }
}

/// A column, of which the wire says no more than how it is written.
fn copy_column<'a>(form: &CopyForm, name: &'a [u8]) -> (Column, &'a [u8]) {
    let wire_format = if form.format == CopyFormat::Binary { WireFormat::Binary } else { WireFormat::Text };
    (Column { wire_format: wire_format.into(), ..Column::default() }, name)
}
