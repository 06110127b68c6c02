//! Envelopes of every payload, at random.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use retrace_lake::{DataFile, PARTITION_COLUMNS, Table};
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{self, ResponsePart};
use retrace_proto::{
    CommandReceived, CommandTexts, Envelope, Event, Id, Masked, ResponseContent, ResponseEnd, StreamWriter,
    Subject,
};

pub(crate) const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };

/// 2026-11-24 12:00 UTC.
pub(crate) const NOON_US: i64 = 1_795_521_600_000_000;

pub(crate) fn id(unix_us: i64, seed: u8) -> Id {
    Id::from_parts(u64::try_from(unix_us / 1000).expect("after 1970"), [seed; 10])
}

pub(crate) fn record(offset: u64, stream: Id, value: Bytes) -> Record {
    let appended_at_unix_us = NOON_US + i64::try_from(offset).expect("small");
    Record { offset, appended_at_unix_us, key: stream.to_bytes(), value }
}

pub(crate) fn rows_part(columns: u32, cells: &[Option<&str>]) -> ResponsePart {
    let cell_bytes =
        cells.iter().map(|cell| cell.map_or(-1, |text| i32::try_from(text.len()).expect("short")));
    part(Part::Rows(wire::ResultRows {
        row_count: u32::try_from(cells.len()).expect("few") / columns.max(1),
        column_count: columns,
        cell_bytes: cell_bytes.collect(),
        cells: cells.iter().flatten().copied().collect(),
        ..wire::ResultRows::default()
    }))
}

pub(crate) fn part(part: Part) -> ResponsePart {
    ResponsePart { part: Some(part) }
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z\t\n\u{e9}\u{1f600}]{0,12}"]
}

fn any_part() -> impl Strategy<Value = ResponsePart> {
    let cell = prop::option::of(text());
    let rows = (0u32..4, prop::collection::vec(cell, 0..9), any::<bool>(), 0u32..5);
    prop_oneof![
        rows.prop_map(|(columns, cells, continued, row_count)| {
            let cells: Vec<_> = cells.iter().map(Option::as_deref).collect();
            let mut made = rows_part(columns, &cells);
            if let Some(Part::Rows(rows)) = &mut made.part {
                rows.continued = continued;
                rows.row_count = row_count;
            }
            made
        }),
        // Lengths that lie about their cells, or cut a character.
        (prop::collection::vec(-3i32..9, 0..5), text()).prop_map(|(cell_bytes, cells)| {
            part(Part::Rows(wire::ResultRows {
                column_count: 2,
                cell_bytes,
                cells,
                ..wire::ResultRows::default()
            }))
        }),
        (any::<bool>(), text()).prop_map(|(is_error, message)| {
            part(Part::Diagnostic(wire::Diagnostic { is_error, message, ..wire::Diagnostic::default() }))
        }),
        text().prop_map(|tag| part(Part::CommandTag(tag))),
        Just(ResponsePart { part: None }),
    ]
}

fn content() -> impl Strategy<Value = Masked<ResponseContent>> {
    prop::collection::vec(any_part(), 0..5).prop_map(|parts| {
        Masked::by_masking(ResponseContent { parts, fingerprints: vec![Bytes::from_static(b"f")] })
    })
}

fn command_received(statement: String, bytes: u64) -> Event {
    let facts = CommandReceived {
        kind: wire::command_received::Kind::Execute,
        decision: wire::Decision { effect: 1, rule: statement.clone(), reason: String::new() },
        command_bytes: bytes,
        ..CommandReceived::default()
    };
    let texts = CommandTexts {
        statement: wire::Text { text: statement, escaped: bytes.is_multiple_of(2) },
        ..CommandTexts::default()
    };
    Event::command_received(facts, Masked::by_masking(texts))
}

/// One event of each payload type.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let stream = id(NOON_US, 9);
    prop_oneof![
        text().prop_map(|server_version| Event::session_opened(
            wire::SessionOpened { server_version, ..wire::SessionOpened::default() },
            Masked::default(),
            Masked::default()
        )),
        (-1i32..12)
            .prop_map(|reason| Event::session_closed(wire::SessionClosed { reason, ..Default::default() })),
        (0i32..9).prop_map(|reason| Event::login_refused(
            wire::LoginRefused { reason, ..Default::default() },
            Masked::default()
        )),
        (text(), any::<u64>()).prop_map(|(statement, bytes)| command_received(statement, bytes)),
        (text(), text()).prop_map(|(statement, parameter)| Event::command_chunk(Masked::by_masking(
            wire::CommandChunk { statement, parameter, ..Default::default() }
        ))),
        (0i32..12, 0i32..3, text()).prop_map(|(reason, forwarded, sqlstate)| Event::command_refused(
            wire::CommandRefused { reason, forwarded, sqlstate, rule: String::new() }
        )),
        (any::<u32>(), content()).prop_map(|(index, content)| Event::response_chunk(index, content)),
        (content(), any::<u64>(), 0i32..7, text()).prop_map(|(content, rows, status, command_tag)| {
            let facts = wire::CommandCompleted { status, rows, duration_us: rows, ..Default::default() };
            let end = ResponseEnd { command_tag, sqlstate: String::new() };
            Event::command_completed(facts, content, Masked::by_masking(end))
        }),
        content().prop_map(Event::async_message),
        text().prop_map(Event::policy_loaded),
        Just(Event::cancel_applied(None)),
        text().prop_map(|reason| Event::kill_requested(None, Masked::by_masking(reason))),
        text().prop_map(|reason| Event::token_revoked("abcd".to_owned(), Masked::by_masking(reason))),
        text().prop_map(|reason| {
            let on = wire::legal_hold_set::On::Target("shop".to_owned());
            Event::legal_hold_set(id(NOON_US, 1), on, Masked::by_masking(reason))
        }),
        text().prop_map(|reason| Event::legal_hold_lifted(id(NOON_US, 1), Masked::by_masking(reason))),
        Just(Event::cancel_requested(7, None)),
        Just(Event::kill_applied(wire::ControlReference::default())),
        (text(), 0i32..5).prop_map(|(statement, kind)| Event::evidence_read(
            wire::EvidenceRead { kind, ..Default::default() },
            Masked::by_masking(statement)
        )),
        any::<u64>().prop_map(|rows| Event::evidence_read_completed(wire::EvidenceReadCompleted {
            rows,
            ..Default::default()
        })),
        text().prop_map(|version| Event::instance_started(wire::InstanceStarted { version, roles: vec![] })),
        prop::option::of(any::<u64>()).prop_map(move |seq| Event::stream_aborted(stream, seq)),
    ]
}

pub(crate) fn subject() -> impl Strategy<Value = Subject> {
    let principal = prop::option::of((text(), 0i32..5, text()));
    (any::<bool>(), text(), principal, text(), 0i32..4).prop_map(
        |(session, proxy_id, principal, target, class)| Subject {
            session_id: session.then(|| id(NOON_US, 1)),
            connection_id: session.then(|| id(NOON_US, 2)),
            proxy_id,
            principal: principal.map(|(name, kind, token_id)| wire::Principal {
                name,
                kind,
                on_behalf_of: String::new(),
                token_id,
            }),
            target,
            protocol: wire::Protocol::Postgres,
            durability: wire::Durability::Exchange,
            retention_class: wire::RetentionClass::try_from(class).expect("a class"),
        },
    )
}

/// Seals the events as one stream and appends them from offset 0.
pub(crate) fn sealed(
    stream: Id,
    subject: &Subject,
    occurred_at_unix_us: i64,
    events: Vec<Event>,
) -> Vec<Record> {
    let mut writer = StreamWriter::new(stream, wire::StreamKind::Session);
    let seal = |(offset, event)| {
        let command_seq = (offset % 2 == 1).then_some(offset);
        let envelope =
            Envelope::seal(&mut writer, subject, command_seq, occurred_at_unix_us, event).expect("small");
        record(offset, stream, envelope.bytes().clone())
    };
    (0..).zip(events).map(seal).collect()
}

/// Makes of a file what a later release may write, with a column more.
pub(crate) async fn add_a_column(table: &Table, file: &mut DataFile) {
    let batches = table.read(file).await.expect("readable");
    let schema = batches[0].schema();
    let added = Field::new("of_a_later_release", DataType::Int32, true);
    let kept = |field: &FieldRef| !PARTITION_COLUMNS.contains(&field.name().as_str());
    let fields = schema.fields().iter().filter(|field| kept(field)).cloned().chain([Arc::new(added)]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut encoder = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None).expect("an encoder");
    for batch in batches {
        let added: ArrayRef = Arc::new(Int32Array::from_value(7, batch.num_rows()));
        let columns =
            schema.fields().iter().map(|field| batch.column_by_name(field.name()).unwrap_or(&added));
        let columns = columns.cloned().collect();
        encoder
            .write(&RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns"))
            .expect("encoded");
    }
    let bytes = encoder.into_inner().expect("encoded");
    file.bytes = bytes.len() as u64;
    table.store().put(&file.path, bytes.into()).await.expect("put");
}
