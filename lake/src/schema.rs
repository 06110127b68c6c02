use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The columns by which the table is partitioned. Delta keeps their values in the path and the log, not in the files.
pub const PARTITION_COLUMNS: [&str; 2] = ["session_date", "retention_class"];

/// The time zone of every timestamp.
pub(crate) const UTC: &str = "UTC";

/// One row in memory: what a record of the log becomes. The fields are the columns, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) session_date: i32,
    pub(crate) retention_class: String,
    pub(crate) topic: String,
    pub(crate) topic_partition: i32,
    pub(crate) log_offset: i64,
    pub(crate) appended_at: i64,
    pub(crate) row_kind: &'static str,
    pub(crate) dead_letter_reason: Option<String>,
    pub(crate) date_from_append: bool,
    pub(crate) schema_version: Option<i32>,
    pub(crate) stream_id: Option<String>,
    pub(crate) stream_kind: Option<String>,
    pub(crate) stream_seq: Option<i64>,
    pub(crate) prev_hash: Option<Vec<u8>>,
    pub(crate) hash: Option<Vec<u8>>,
    pub(crate) session_id: Option<String>,
    pub(crate) connection_id: Option<String>,
    pub(crate) command_seq: Option<i64>,
    pub(crate) channel: Option<i64>,
    pub(crate) occurred_at: Option<i64>,
    pub(crate) proxy_id: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) principal_kind: Option<String>,
    pub(crate) on_behalf_of: Option<String>,
    pub(crate) token_id: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) durability: Option<String>,
    pub(crate) event_type: Option<&'static str>,
    pub(crate) content: Content,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) raw: Option<Vec<u8>>,
    pub(crate) key: Option<Vec<u8>>,
}

/// The columns lifted out of the payload, so that SQL can ask for them by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) command_kind: Option<String>,
    pub(crate) statement: Option<String>,
    pub(crate) decision: Option<String>,
    pub(crate) decision_rule: Option<String>,
    pub(crate) refused_reason: Option<String>,
    pub(crate) forwarded: Option<String>,
    pub(crate) sqlstate: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) command_tag: Option<String>,
    pub(crate) row_count: Option<i64>,
    pub(crate) response_bytes: Option<i64>,
    pub(crate) duration_us: Option<i64>,
    pub(crate) error_message: Option<String>,
    pub(crate) response_text: Option<String>,
}

/// A column's type together with where its value stands in a [`Row`].
#[derive(Clone, Copy)]
enum Cell {
    Text(fn(&Row) -> Option<&str>),
    Bytes(fn(&Row) -> Option<&[u8]>),
    Long(fn(&Row) -> Option<i64>),
    Int(fn(&Row) -> Option<i32>),
    /// Microseconds since the Unix epoch.
    Time(fn(&Row) -> Option<i64>),
    /// Days since the Unix epoch.
    Date(fn(&Row) -> i32),
    Flag(fn(&Row) -> bool),
}

use Cell::{Bytes, Date, Flag, Int, Long, Text, Time};

/// The table. A name or type here is never changed; columns are only added, at the end.
const COLUMNS: [(&str, Cell); 46] = [
    ("session_date", Date(|row| row.session_date)),
    ("retention_class", Text(|row| Some(&row.retention_class))),
    ("topic", Text(|row| Some(&row.topic))),
    ("topic_partition", Int(|row| Some(row.topic_partition))),
    ("log_offset", Long(|row| Some(row.log_offset))),
    ("appended_at", Time(|row| Some(row.appended_at))),
    ("row_kind", Text(|row| Some(row.row_kind))),
    ("dead_letter_reason", Text(|row| row.dead_letter_reason.as_deref())),
    ("date_from_append", Flag(|row| row.date_from_append)),
    ("schema_version", Int(|row| row.schema_version)),
    ("stream_id", Text(|row| row.stream_id.as_deref())),
    ("stream_kind", Text(|row| row.stream_kind.as_deref())),
    ("stream_seq", Long(|row| row.stream_seq)),
    ("prev_hash", Bytes(|row| row.prev_hash.as_deref())),
    ("hash", Bytes(|row| row.hash.as_deref())),
    ("session_id", Text(|row| row.session_id.as_deref())),
    ("connection_id", Text(|row| row.connection_id.as_deref())),
    ("command_seq", Long(|row| row.command_seq)),
    ("channel", Long(|row| row.channel)),
    ("occurred_at", Time(|row| row.occurred_at)),
    ("proxy_id", Text(|row| row.proxy_id.as_deref())),
    ("principal", Text(|row| row.principal.as_deref())),
    ("principal_kind", Text(|row| row.principal_kind.as_deref())),
    ("on_behalf_of", Text(|row| row.on_behalf_of.as_deref())),
    ("token_id", Text(|row| row.token_id.as_deref())),
    ("target", Text(|row| row.target.as_deref())),
    ("protocol", Text(|row| row.protocol.as_deref())),
    ("durability", Text(|row| row.durability.as_deref())),
    ("event_type", Text(|row| row.event_type)),
    ("command_kind", Text(|row| row.content.command_kind.as_deref())),
    ("statement", Text(|row| row.content.statement.as_deref())),
    ("decision", Text(|row| row.content.decision.as_deref())),
    ("decision_rule", Text(|row| row.content.decision_rule.as_deref())),
    ("refused_reason", Text(|row| row.content.refused_reason.as_deref())),
    ("forwarded", Text(|row| row.content.forwarded.as_deref())),
    ("sqlstate", Text(|row| row.content.sqlstate.as_deref())),
    ("status", Text(|row| row.content.status.as_deref())),
    ("command_tag", Text(|row| row.content.command_tag.as_deref())),
    ("row_count", Long(|row| row.content.row_count)),
    ("response_bytes", Long(|row| row.content.response_bytes)),
    ("duration_us", Long(|row| row.content.duration_us)),
    ("error_message", Text(|row| row.content.error_message.as_deref())),
    ("response_text", Text(|row| row.content.response_text.as_deref())),
    ("payload", Bytes(|row| row.payload.as_deref())),
    ("raw", Bytes(|row| row.raw.as_deref())),
    ("key", Bytes(|row| row.key.as_deref())),
];

impl Cell {
    fn data_type(self) -> DataType {
        match self {
            Text(_) => DataType::Utf8,
            Bytes(_) => DataType::Binary,
            Long(_) => DataType::Int64,
            Int(_) => DataType::Int32,
            Time(_) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Date(_) => DataType::Date32,
            Flag(_) => DataType::Boolean,
        }
    }

    fn array(self, rows: &[Row]) -> ArrayRef {
        match self {
            Text(of) => Arc::new(StringArray::from_iter(rows.iter().map(of))),
            Bytes(of) => Arc::new(BinaryArray::from_iter(rows.iter().map(of))),
            Long(of) => Arc::new(Int64Array::from_iter(rows.iter().map(of))),
            Int(of) => Arc::new(Int32Array::from_iter(rows.iter().map(of))),
            Time(of) => {
                Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(of)).with_timezone(UTC))
            }
            Date(of) => Arc::new(Date32Array::from_iter_values(rows.iter().map(of))),
            Flag(of) => Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(of(row))))),
        }
    }
}

/// The schema of the table `events`, partition columns included.
///
/// Every column may be null as far as other engines know; only those of the log's own (topic to row kind) never are.
#[must_use]
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |(name, cell): &(&str, Cell)| Field::new(*name, cell.data_type(), true);
        Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// The schema of a data file: the table's without its [`PARTITION_COLUMNS`].
#[must_use]
pub fn file_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let table = schema();
        let kept = table.fields().iter().filter(|field| !PARTITION_COLUMNS.contains(&field.name().as_str()));
        Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// The rows as a batch of [`schema`].
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let columns = COLUMNS.iter().map(|(_, cell)| cell.array(rows)).collect();
    RecordBatch::try_new(schema(), columns).expect("schema and arrays come from the same list")
}
