//! Envelope to row and back. One function each way, and the way there ends by walking back and comparing.

use std::mem::take;

use bytes::Bytes;
use prost::Message;
use retrace_proto::log::{Record, TopicPartition};
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{self, ResponsePart, ResultRows};
use retrace_proto::{Id, Recorded};

use crate::names::{name_of, number_of};
use crate::rows::RowKind;
use crate::schema::{Content, Row};

/// How far a session's id may lie from the log's append time for the id to give the day, in microseconds.
const ID_APPEND_DISTANCE_US_MAX: u64 = 10 * 60 * 1_000_000;

const DAY_US: i64 = 86_400_000_000;

/// The days of the years 1 to 9999, which every engine can print.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// The retention class of what names none.
const RETENTION_DEFAULT: &str = "standard";

/// The row of an event or of its duplicate.
pub(crate) fn event(at: TopicPartition, record: &Record, recorded: Recorded, kind: RowKind) -> Row {
    let mut row = placed(at, record, kind);
    let day_of = recorded.session_id().unwrap_or_else(|| recorded.stream_id());
    if let Some(day) = day_of_id(day_of, record.appended_at_unix_us) {
        row.session_date = day;
        row.date_from_append = false;
    }
    row.event_type = Some(recorded.event_type());
    row.stream_id = Some(recorded.stream_id().to_string());
    row.session_id = recorded.session_id().map(|id| id.to_string());
    row.connection_id = recorded.connection_id().map(|id| id.to_string());
    row.hash = Some(recorded.hash().as_bytes().to_vec());
    let (header, signature, mut payload) = recorded.into_parts();
    let unspecified = header.retention_class == 0;
    if record.key != header.stream_id {
        row.key = Some(record.key.to_vec());
    }
    lift_header(&mut row, header);
    row.content = lift_content(&mut payload);
    let header = unspecified.then(wire::Header::default);
    let rest = wire::Envelope { header, signature, payload: Some(payload) };
    row.payload = Some(rest.encode_to_vec());
    if rebuild(&row).as_deref() != Some(&record.value[..]) {
        row.payload = None;
        row.raw = Some(record.value.to_vec());
    }
    row
}

/// The row of a record that is kept for its bytes.
pub(crate) fn dead_letter(at: TopicPartition, record: &Record, reason: &str) -> Row {
    let mut row = placed(at, record, RowKind::DeadLetter);
    row.dead_letter_reason = Some(reason.to_owned());
    row.raw = Some(record.value.to_vec());
    row.key = Some(record.key.to_vec());
    row
}

/// What every row has: its place in the log, and the day of its append until a better one is known.
fn placed(at: TopicPartition, record: &Record, kind: RowKind) -> Row {
    Row {
        session_date: day(record.appended_at_unix_us),
        retention_class: RETENTION_DEFAULT.to_owned(),
        topic: at.topic.name().to_owned(),
        topic_partition: i32::try_from(at.partition).expect("a log has fewer than 2^31 partitions"),
        log_offset: i64::try_from(record.offset).expect("offsets count up from 0"),
        appended_at: record.appended_at_unix_us,
        row_kind: kind.as_str(),
        date_from_append: true,
        ..Row::default()
    }
}

pub(crate) fn day(unix_us: i64) -> i32 {
    let days = unix_us.div_euclid(DAY_US).clamp(*DAYS.start(), *DAYS.end());
    i32::try_from(days).expect("clamped to the years 1 to 9999")
}

/// The day that a UUIDv7 names, if it is near enough to the append time to be believed.
fn day_of_id(id: Id, appended_at_unix_us: i64) -> Option<i32> {
    let unix_us = i64::try_from(id.unix_ms()?).ok()?.checked_mul(1000)?;
    let near = unix_us.abs_diff(appended_at_unix_us) <= ID_APPEND_DISTANCE_US_MAX;
    near.then(|| day(unix_us))
}

/// Numbers past the column's range are cut; [`rebuild`] then differs and the bytes are kept.
fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time every engine can print; one out of range is cut like [`long`].
fn printable(unix_us: i64) -> i64 {
    unix_us.clamp(*DAYS.start() * DAY_US, (*DAYS.end() + 1) * DAY_US - 1)
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn lift_header(row: &mut Row, header: wire::Header) {
    let filled = |text: String| (!text.is_empty()).then_some(text);
    row.schema_version = i32::try_from(header.schema_version).ok();
    row.stream_kind = name_of::<wire::StreamKind>(header.stream_kind);
    row.stream_seq = Some(long(header.stream_seq));
    row.prev_hash = (!header.prev_hash.is_empty()).then(|| header.prev_hash.to_vec());
    row.command_seq = header.command_seq.map(long);
    row.channel = header.channel.map(i64::from);
    row.occurred_at = Some(printable(header.occurred_at_unix_us));
    row.proxy_id = filled(header.proxy_id);
    row.target = filled(header.target);
    row.protocol = name_of::<wire::Protocol>(header.protocol);
    row.durability = name_of::<wire::Durability>(header.durability);
    if let Some(class) = name_of::<wire::RetentionClass>(header.retention_class) {
        row.retention_class = class;
    }
    if let Some(principal) = header.principal {
        row.principal = Some(principal.name);
        row.principal_kind = name_of::<wire::PrincipalKind>(principal.kind);
        row.on_behalf_of = filled(principal.on_behalf_of);
        row.token_id = filled(principal.token_id);
    }
}

/// Fills the content columns. The statement and the cells are moved out of the payload, the rest is copied.
fn lift_content(payload: &mut Payload) -> Content {
    let mut content = copy_content(payload);
    content.statement = statement_mut(payload).map(take);
    if let Some(parts) = parts_mut(payload) {
        content.error_message = error_message(parts);
    }
    content.response_text = take_cells(&mut result_rows(payload));
    content
}

fn copy_content(payload: &Payload) -> Content {
    let mut content = Content::default();
    match payload {
        Payload::CommandReceived(command) => {
            content.command_kind = name_of::<wire::command_received::Kind>(command.kind);
            if let Some(decision) = &command.decision {
                content.decision = name_of::<wire::decision::Effect>(decision.effect);
                content.decision_rule = filled(&decision.rule);
            }
        }
        Payload::CommandRefused(refused) => {
            content.refused_reason = name_of::<wire::command_refused::Reason>(refused.reason);
            content.forwarded = name_of::<wire::command_refused::Forwarded>(refused.forwarded);
            content.sqlstate = filled(&refused.sqlstate);
            content.decision_rule = filled(&refused.rule);
        }
        Payload::CommandCompleted(completed) => {
            content.status = name_of::<wire::command_completed::Status>(completed.status);
            content.sqlstate = filled(&completed.sqlstate);
            content.command_tag = filled(&completed.command_tag);
            content.row_count = Some(long(completed.rows));
            content.response_bytes = Some(long(completed.response_bytes));
            content.duration_us = Some(long(completed.duration_us));
        }
        Payload::LoginRefused(refused) => {
            content.refused_reason = name_of::<wire::login_refused::Reason>(refused.reason);
        }
        Payload::SessionClosed(closed) => {
            content.status = name_of::<wire::session_closed::Reason>(closed.reason);
        }
        Payload::ResponseOmitted(omitted) => {
            content.row_count = Some(long(omitted.rows));
            content.response_bytes = Some(long(omitted.row_bytes));
        }
        Payload::StreamHeads(heads) => {
            content.row_count = Some(long(heads.heads.len() as u64));
        }
        Payload::EvidenceRead(read) => {
            content.command_kind = name_of::<wire::evidence_read::Kind>(read.kind);
        }
        Payload::RetentionApplied(applied) => {
            content.row_count = Some(long(applied.rows_removed));
        }
        Payload::ReviewRequested(requested) => {
            content.decision_rule = requested.terms.first().and_then(|terms| filled(&terms.rule));
        }
        Payload::ReviewDecided(decided) => {
            content.decision = name_of::<wire::review_decided::Verdict>(decided.verdict);
        }
        Payload::ReviewApplied(applied) => {
            content.status = name_of::<wire::review_applied::Outcome>(applied.outcome);
        }
        Payload::EvidenceReadCompleted(read) => {
            content.status = name_of::<wire::evidence_read_completed::Status>(read.status);
            content.row_count = Some(long(read.rows));
            content.duration_us = Some(long(read.duration_us));
        }
        _ => {}
    }
    content
}

/// The text that the column `statement` holds in place of the payload.
fn statement_mut(payload: &mut Payload) -> Option<&mut String> {
    match payload {
        Payload::CommandReceived(command) => command.statement.as_mut().map(|text| &mut text.text),
        Payload::CommandChunk(chunk) => Some(&mut chunk.statement),
        Payload::EvidenceRead(read) => Some(&mut read.statement),
        Payload::KillRequested(kill) => Some(&mut kill.reason),
        Payload::TokenRevoked(revoked) => Some(&mut revoked.reason),
        Payload::ReviewDecided(decided) => Some(&mut decided.reason),
        Payload::ReviewWithdrawn(withdrawn) => Some(&mut withdrawn.reason),
        Payload::LegalHoldSet(hold) => Some(&mut hold.reason),
        Payload::LegalHoldLifted(hold) => Some(&mut hold.reason),
        _ => None,
    }
}

/// The response parts, whose cells the column `response_text` holds in place of the payload.
fn parts_mut(payload: &mut Payload) -> Option<&mut Vec<ResponsePart>> {
    match payload {
        Payload::ResponseChunk(chunk) => Some(&mut chunk.parts),
        Payload::CommandCompleted(completed) => Some(&mut completed.parts),
        Payload::AsyncMessage(message) => Some(&mut message.parts),
        _ => None,
    }
}

fn error_message(parts: &[ResponsePart]) -> Option<String> {
    parts.iter().find_map(|part| match &part.part {
        Some(Part::Diagnostic(diagnostic)) if diagnostic.is_error => Some(diagnostic.message.clone()),
        _ => None,
    })
}

/// The rows whose cells `response_text` holds: those of a response, or those that a COPY FROM STDIN sends.
fn result_rows(payload: &mut Payload) -> Vec<&mut ResultRows> {
    if let Payload::CommandChunk(chunk) = payload {
        return chunk.copy_rows.iter_mut().collect();
    }
    let parts = parts_mut(payload).map(|parts| parts.iter_mut()).into_iter().flatten();
    let rows = parts.filter_map(|part| match &mut part.part {
        Some(Part::Rows(rows)) => Some(rows),
        _ => None,
    });
    rows.collect()
}

/// For each cell what stands before it in `response_text` and how many bytes it has.
///
/// A tab between cells, a line feed between rows and between parts, nothing before a part that goes on from the one
/// before. NULL is an empty cell. Cells that end a row begun earlier are taken to be those in excess of whole rows.
fn layout(rows: &ResultRows, first: bool) -> impl Iterator<Item = (Option<u8>, usize)> {
    let columns = (rows.column_count as usize).max(1);
    let whole = columns.saturating_mul(rows.row_count as usize);
    let lead = if rows.continued { rows.cell_bytes.len().saturating_sub(whole) } else { 0 };
    let continued = rows.continued;
    rows.cell_bytes.iter().enumerate().map(move |(index, bytes)| {
        let row_begins = index >= lead && (index - lead).is_multiple_of(columns);
        let before = match index {
            0 if first || continued => None,
            0 => Some(b'\n'),
            _ if row_begins => Some(b'\n'),
            _ => Some(b'\t'),
        };
        (before, usize::try_from(*bytes).unwrap_or(0))
    })
}

/// Moves the cells of every part into one searchable text; the lengths stay. `None` if the event has no rows.
///
/// Where lengths and cells do not fit each other, the text is still there to be searched, and [`rebuild`] differs.
fn take_cells(all: &mut [&mut ResultRows]) -> Option<String> {
    let mut text = Vec::new();
    let mut first = true;
    for rows in all {
        let cells = take(&mut rows.cells);
        let mut rest = cells.as_bytes();
        for (before, bytes) in layout(rows, first) {
            text.extend(before);
            let (cell, after) = rest.split_at(bytes.min(rest.len()));
            text.extend_from_slice(cell);
            rest = after;
        }
        text.extend_from_slice(rest);
        first = false;
    }
    if first {
        return None;
    }
    Some(
        String::from_utf8(text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// The reverse of [`take_cells`]. `None` if the text is not of these parts.
fn put_cells(all: &mut [&mut ResultRows], text: &str) -> Option<()> {
    let mut rest = text.as_bytes();
    let mut first = true;
    for rows in all {
        let mut cells = Vec::new();
        for (before, bytes) in layout(rows, first) {
            rest = rest.get(usize::from(before.is_some())..)?;
            cells.extend_from_slice(rest.get(..bytes)?);
            rest = &rest[bytes..];
        }
        rows.cells = String::from_utf8(cells).ok()?;
        first = false;
    }
    rest.is_empty().then_some(())
}

/// The record's value: `raw` if it is there, else the envelope put together again. `None` if the row is not whole.
pub(crate) fn rebuild(row: &Row) -> Option<Bytes> {
    if let Some(raw) = &row.raw {
        return Some(Bytes::copy_from_slice(raw));
    }
    let mut envelope = wire::Envelope::decode(row.payload.as_deref()?).ok()?;
    let payload = envelope.payload.as_mut()?;
    if let Some(statement) = statement_mut(payload) {
        *statement = row.content.statement.clone().unwrap_or_default();
    }
    if let Some(text) = &row.content.response_text {
        put_cells(&mut result_rows(payload), text)?;
    }
    // A header left in the payload, always empty, says that the event names no retention class.
    let unspecified = envelope.header.is_some();
    let class = (!unspecified).then_some(row.retention_class.as_str());
    envelope.header = Some(rebuild_header(row, class)?);
    Some(Bytes::from(envelope.encode_to_vec()))
}

fn rebuild_header(row: &Row, retention_class: Option<&str>) -> Option<wire::Header> {
    let principal = match &row.principal {
        None => None,
        Some(name) => Some(wire::Principal {
            name: name.clone(),
            kind: number_of::<wire::PrincipalKind>(row.principal_kind.as_deref())?,
            on_behalf_of: row.on_behalf_of.clone().unwrap_or_default(),
            token_id: row.token_id.clone().unwrap_or_default(),
        }),
    };
    Some(wire::Header {
        schema_version: u32::try_from(row.schema_version?).ok()?,
        stream_id: id_bytes(row.stream_id.as_deref())?,
        stream_kind: number_of::<wire::StreamKind>(row.stream_kind.as_deref())?,
        stream_seq: u64::try_from(row.stream_seq?).ok()?,
        prev_hash: row.prev_hash.clone().unwrap_or_default().into(),
        session_id: id_bytes(row.session_id.as_deref())?,
        connection_id: id_bytes(row.connection_id.as_deref())?,
        command_seq: row.command_seq.map(u64::try_from).transpose().ok()?,
        channel: row.channel.map(u32::try_from).transpose().ok()?,
        occurred_at_unix_us: row.occurred_at?,
        proxy_id: row.proxy_id.clone().unwrap_or_default(),
        principal,
        target: row.target.clone().unwrap_or_default(),
        protocol: number_of::<wire::Protocol>(row.protocol.as_deref())?,
        durability: number_of::<wire::Durability>(row.durability.as_deref())?,
        retention_class: number_of::<wire::RetentionClass>(retention_class)?,
    })
}

fn id_bytes(text: Option<&str>) -> Option<Bytes> {
    match text {
        None => Some(Bytes::new()),
        Some(text) => text.parse::<Id>().ok().map(Id::to_bytes),
    }
}
