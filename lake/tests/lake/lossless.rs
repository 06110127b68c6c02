//! Every record comes back from its row bit for bit, whatever it was and whichever way the row went.

use bytes::Bytes;
use object_store::memory::InMemory;
use proptest::prelude::*;
use prost::Message;
use retrace_lake::{RowKind, RowReader, Rows, Table, envelope_bytes};
use retrace_proto::log::Record;
use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{self, envelope::Payload};
use retrace_proto::{Envelope, Event, Hash, Masked, ResponseContent, StreamWriter, Subject};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type};

use crate::support::{EVENTS, NOON_US, event, id, part, record, rows_part, sealed, subject, text};

fn batch_of(records: &[Record]) -> RecordBatch {
    let mut rows = Rows::new();
    records.iter().for_each(|record| rows.push(EVENTS, record));
    assert_eq!(rows.len(), records.len());
    rows.finish()
}

fn text_at(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(column).expect(column).as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn assert_same(batch: &RecordBatch, records: &[Record]) {
    let reader = RowReader::new(batch).expect("all columns");
    for (row, record) in records.iter().enumerate() {
        assert_eq!(reader.record(row).expect("whole"), (EVENTS, record.clone()));
    }
}

/// Through files and back, in the order of the log.
async fn through_parquet(table: &Table, batch: RecordBatch) -> Vec<Record> {
    let mut records = Vec::new();
    let files = table.data_files().add(batch).await.expect("encoded");
    for file in files.finish().await.expect("written") {
        for batch in table.read(&file).await.expect("readable") {
            let reader = RowReader::new(&batch).expect("all columns");
            records.extend((0..batch.num_rows()).map(|row| reader.record(row).expect("whole").1));
        }
    }
    records.sort_by_key(|record| record.offset);
    records
}

async fn memory_table() -> Table {
    Table::open_or_create_in(Arc::new(InMemory::new()), "memory:///").await.expect("a table")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_of_events_comes_back_bit_for_bit(
        events in prop::collection::vec(event(), 1..8), subject in subject(), occurred_at in any::<i64>(),
    ) {
        let records = sealed(id(NOON_US, 0), &subject, occurred_at, events);
        let batch = batch_of(&records);
        assert_same(&batch, &records);
        for row in 0..records.len() {
            let kind = text_at(&batch, "row_kind", row);
            prop_assert_eq!(kind.as_deref(), Some("event"));
        }
    }

    #[test]
    fn mutated_and_random_records_come_back_bit_for_bit(
        event in event(), subject in subject(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        noise in prop::collection::vec(any::<u8>(), 0..64), key in prop::collection::vec(any::<u8>(), 0..20),
        appended_at in any::<i64>(),
    ) {
        let mut records = sealed(id(NOON_US, 0), &subject, NOON_US, vec![event]);
        let mut mutated = records[0].value.to_vec();
        let place = at.index(mutated.len());
        mutated[place] = byte;
        let appended = [records[0].value.to_vec(), noise.clone()].concat();
        for (offset, value) in (1..).zip([mutated, appended, noise]) {
            let key = Bytes::from(key.clone());
            records.push(Record { offset, appended_at_unix_us: appended_at, key, value: value.into() });
        }
        assert_same(&batch_of(&records), &records);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_come_back_through_parquet(
        events in prop::collection::vec(event(), 1..20), subject in subject(), noise in text(),
    ) {
        let mut records = sealed(id(NOON_US, 0), &subject, NOON_US, events);
        records.push(record(records.len() as u64, id(NOON_US, 3), Bytes::from(noise)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let back = runtime.block_on(async { through_parquet(&memory_table().await, batch_of(&records)).await });
        prop_assert_eq!(back, records);
    }
}

fn one_result() -> Event {
    let content = ResponseContent {
        parts: vec![
            rows_part(2, &[Some("1"), Some("Ada"), Some("2"), None]),
            rows_part(2, &[Some("3"), Some("")]),
            part(Part::CommandTag("SELECT 3".to_owned())),
        ],
        fingerprints: vec![],
    };
    Event::response_chunk(0, Masked::by_masking(content))
}

#[test]
fn cells_become_searchable_text_and_leave_the_payload() {
    let records = sealed(id(NOON_US, 0), &Subject::default(), NOON_US, vec![one_result()]);
    let batch = batch_of(&records);
    assert_eq!(text_at(&batch, "response_text", 0).as_deref(), Some("1\tAda\n2\t\n3\t"));
    assert!(batch.column_by_name("raw").expect("raw").is_null(0));
    let payload = batch.column_by_name("payload").expect("payload").as_binary::<i32>().value(0).to_vec();
    assert!(!payload.windows(3).any(|bytes| bytes == b"Ada"), "the cell is stored twice");
    assert_same(&batch, &records);
}

#[test]
fn an_unknown_field_is_kept_in_raw_and_the_columns_stay_useful() {
    let mut records = sealed(id(NOON_US, 0), &Subject::default(), NOON_US, vec![one_result()]);
    let unknown_field_99 = [0x98, 0x06, 0x01];
    records[0].value = [records[0].value.to_vec(), unknown_field_99.to_vec()].concat().into();
    let batch = batch_of(&records);
    assert!(batch.column_by_name("raw").expect("raw").is_valid(0));
    assert!(batch.column_by_name("payload").expect("payload").is_null(0));
    assert_eq!(text_at(&batch, "response_text", 0).as_deref(), Some("1\tAda\n2\t\n3\t"));
    assert_same(&batch, &records);
}

#[test]
fn events_without_retention_class_need_no_raw() {
    let events = vec![Event::policy_loaded("v1".to_owned()), Event::policy_loaded(String::new())];
    let batch = batch_of(&sealed(id(NOON_US, 0), &Subject::default(), NOON_US, events));
    assert_eq!(batch.column_by_name("raw").expect("raw").null_count(), 2);
    assert_eq!(text_at(&batch, "retention_class", 0).as_deref(), Some("standard"));
}

#[test]
fn an_absent_statement_differs_from_an_empty_one() {
    let header = |records: &[Record]| wire::Envelope::decode(records[0].value.clone()).expect("ours").header;
    let records =
        sealed(id(NOON_US, 0), &Subject::default(), NOON_US, vec![Event::policy_loaded(String::new())]);
    let mut made = Vec::new();
    for (offset, statement) in [(0, None), (1, Some(wire::Text::default()))] {
        let payload = Payload::CommandReceived(wire::CommandReceived { statement, ..Default::default() });
        let envelope = wire::Envelope { header: header(&records), signature: None, payload: Some(payload) };
        made.push(record(offset, id(NOON_US, 0), envelope.encode_to_vec().into()));
    }
    let batch = batch_of(&made);
    assert_eq!(text_at(&batch, "statement", 0), None);
    assert_eq!(text_at(&batch, "statement", 1).as_deref(), Some(""));
    assert_same(&batch, &made);
}

#[test]
fn a_signature_comes_back_with_its_event() {
    let stream = id(NOON_US, 3);
    let mut writer = StreamWriter::new(stream, wire::StreamKind::Instance);
    let sign = |unsigned: &[u8]| wire::ControlSignature {
        role: wire::KeyRole::Query.into(),
        key_id: "00".to_owned(),
        signature: Bytes::copy_from_slice(Hash::of(unsigned).as_bytes()),
    };
    let event = Event::kill_requested(None, Masked::by_masking("incident 42".to_owned()));
    let sealed = Envelope::seal_signed(&mut writer, &Subject::default(), NOON_US, event, &sign);
    let records = [record(0, stream, sealed.expect("small").bytes().clone())];
    let batch = batch_of(&records);
    assert_same(&batch, &records);
    assert_eq!(text_at(&batch, "statement", 0).as_deref(), Some("incident 42"));
    assert!(batch.column_by_name("raw").expect("a column").is_null(0), "its columns are enough");
}

#[test]
fn a_record_that_does_not_open_is_a_dead_letter_with_its_reason() {
    let records = [record(0, id(NOON_US, 0), Bytes::from_static(b"not an envelope"))];
    let batch = batch_of(&records);
    assert_eq!(text_at(&batch, "row_kind", 0).as_deref(), Some(RowKind::DeadLetter.as_str()));
    assert_eq!(text_at(&batch, "dead_letter_reason", 0).as_deref(), Some("the record is not an envelope"));
    assert_eq!(envelope_bytes(&batch, 0).expect("kept"), records[0].value);
}

#[test]
fn the_day_is_the_sessions_if_it_began_within_ten_minutes_of_the_append() {
    let midnight = NOON_US - NOON_US % 86_400_000_000;
    let minute = 60_000_000;
    // The session's distance from the append, in minutes, and the day expected: 0 the append's, -1 the one before.
    for (distance, expected_day, from_append) in
        [(-2, -1, false), (-10, -1, false), (-11, 0, true), (9, 0, false)]
    {
        let stream = id(midnight + distance * minute, 0);
        let mut records =
            sealed(stream, &Subject::default(), NOON_US, vec![Event::policy_loaded(String::new())]);
        records[0].appended_at_unix_us = midnight;
        let batch = batch_of(&records);
        let day = batch.column_by_name("session_date").expect("a day").as_primitive::<Date32Type>().value(0);
        let append_day = i32::try_from(midnight / 86_400_000_000).expect("small");
        assert_eq!(day - append_day, expected_day, "{distance} minutes");
        let flag = batch.column_by_name("date_from_append").expect("a flag").as_boolean().value(0);
        assert_eq!(flag, from_append, "{distance} minutes");
    }
}

#[test]
fn other_engines_string_types_are_read() {
    let records = sealed(id(NOON_US, 0), &Subject::default(), NOON_US, vec![one_result()]);
    let batch = batch_of(&records);
    let cast = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8 => arrow::compute::cast(column, &DataType::Utf8View).expect("castable"),
        DataType::Binary => arrow::compute::cast(column, &DataType::BinaryView).expect("castable"),
        _ => Arc::clone(column),
    };
    let schema = batch.schema();
    let columns =
        schema.fields().iter().zip(batch.columns()).map(|(field, column)| (field.name(), cast(column), true));
    assert_same(&RecordBatch::try_from_iter_with_nullable(columns).expect("same lengths"), &records);
}
