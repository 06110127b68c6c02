use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use retrace_proto::Id;
use retrace_proto::log::{Record, TopicPartition};

use crate::lift;
use crate::schema::{Content, Row, schema};

/// The columns that together are the record.
const NEEDED: [&str; 28] = [
    "retention_class",
    "topic",
    "topic_partition",
    "log_offset",
    "appended_at",
    "schema_version",
    "stream_id",
    "stream_kind",
    "stream_seq",
    "prev_hash",
    "session_id",
    "connection_id",
    "command_seq",
    "channel",
    "occurred_at",
    "proxy_id",
    "principal",
    "principal_kind",
    "on_behalf_of",
    "token_id",
    "target",
    "protocol",
    "durability",
    "statement",
    "response_text",
    "payload",
    "raw",
    "key",
];

/// Why a row did not give its record back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The batch was projected too far.
    #[error("column {name} is missing: select every column that a record is made of (RowReader::columns)")]
    MissingColumn {
        /// The column.
        name: &'static str,
    },
    /// The batch's column cannot be read as the table's.
    #[error("column {name} has a type that is not the table's: read it from the table `events`")]
    WrongType {
        /// The column.
        name: &'static str,
    },
    /// No such row.
    #[error("row {row} is past the batch's {rows} rows")]
    NoSuchRow {
        /// The row asked for, 0-based.
        row: usize,
        /// How many there are.
        rows: usize,
    },
    /// A row that [`Rows`](crate::Rows) did not write, or that was changed since: evidence that cannot be trusted.
    #[error(
        "row {row} does not hold a whole record: the file was not written by retrace, or was changed since"
    )]
    Damaged {
        /// The row, 0-based.
        row: usize,
    },
}

/// Gives back the log's records from a batch of rows, whichever engine read it.
#[derive(Debug)]
pub struct RowReader {
    columns: Vec<ArrayRef>,
    rows: usize,
}

impl RowReader {
    /// The names of the columns that [`RowReader::new`] needs; their order and what else is there do not matter.
    #[must_use]
    pub fn columns() -> &'static [&'static str] {
        &NEEDED
    }

    /// Finds the columns. Views, dictionaries and large strings are turned into the table's own types first.
    pub fn new(batch: &RecordBatch) -> Result<Self, RowError> {
        let table = schema();
        let column = |name: &'static str| {
            let found = batch.column_by_name(name).ok_or(RowError::MissingColumn { name })?;
            let field = table.field_with_name(name).expect("every needed column is of the table");
            cast(found, field.data_type()).map_err(|_| RowError::WrongType { name })
        };
        let columns = NEEDED.into_iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: batch.num_rows() })
    }

    /// The record's value, bit for bit what the log had: of events, duplicates and dead letters alike.
    pub fn envelope_bytes(&self, row: usize) -> Result<Bytes, RowError> {
        self.check(row)?;
        lift::rebuild(&self.row(row)).ok_or(RowError::Damaged { row })
    }

    /// The whole record and where it stood.
    pub fn record(&self, row: usize) -> Result<(TopicPartition, Record), RowError> {
        self.check(row)?;
        let read = self.row(row);
        let damaged = || RowError::Damaged { row };
        let value = lift::rebuild(&read).ok_or_else(damaged)?;
        let key = match (&read.key, &read.stream_id) {
            (Some(key), _) => Bytes::copy_from_slice(key),
            (None, Some(stream)) => stream.parse::<Id>().map_err(|_| damaged())?.to_bytes(),
            (None, None) => return Err(damaged()),
        };
        let at = TopicPartition {
            topic: read.topic.parse().map_err(|_| damaged())?,
            partition: u32::try_from(read.topic_partition).map_err(|_| damaged())?,
        };
        let offset = u64::try_from(read.log_offset).map_err(|_| damaged())?;
        Ok((at, Record { offset, appended_at_unix_us: read.appended_at, key, value }))
    }

    fn check(&self, row: usize) -> Result<(), RowError> {
        if row < self.rows { Ok(()) } else { Err(RowError::NoSuchRow { row, rows: self.rows }) }
    }

    fn column(&self, name: &str) -> &ArrayRef {
        let index = NEEDED.iter().position(|needed| *needed == name);
        &self.columns[index.expect("only needed columns are read")]
    }

    fn text(&self, name: &str, row: usize) -> Option<String> {
        let column = self.column(name);
        column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
    }

    fn binary(&self, name: &str, row: usize) -> Option<Vec<u8>> {
        let column = self.column(name);
        column.is_valid(row).then(|| column.as_binary::<i32>().value(row).to_vec())
    }

    fn long(&self, name: &str, row: usize) -> Option<i64> {
        let column = self.column(name);
        column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
    }

    fn int(&self, name: &str, row: usize) -> Option<i32> {
        let column = self.column(name);
        column.is_valid(row).then(|| column.as_primitive::<Int32Type>().value(row))
    }

    fn time(&self, name: &str, row: usize) -> Option<i64> {
        let column = self.column(name);
        column.is_valid(row).then(|| column.as_primitive::<TimestampMicrosecondType>().value(row))
    }

    /// The part of a row that its record is made of. What is null where it may not be counts as damaged later.
    fn row(&self, row: usize) -> Row {
        Row {
            retention_class: self.text("retention_class", row).unwrap_or_default(),
            topic: self.text("topic", row).unwrap_or_default(),
            topic_partition: self.int("topic_partition", row).unwrap_or(-1),
            log_offset: self.long("log_offset", row).unwrap_or(-1),
            appended_at: self.time("appended_at", row).unwrap_or_default(),
            schema_version: self.int("schema_version", row),
            stream_id: self.text("stream_id", row),
            stream_kind: self.text("stream_kind", row),
            stream_seq: self.long("stream_seq", row),
            prev_hash: self.binary("prev_hash", row),
            session_id: self.text("session_id", row),
            connection_id: self.text("connection_id", row),
            command_seq: self.long("command_seq", row),
            channel: self.long("channel", row),
            occurred_at: self.time("occurred_at", row),
            proxy_id: self.text("proxy_id", row),
            principal: self.text("principal", row),
            principal_kind: self.text("principal_kind", row),
            on_behalf_of: self.text("on_behalf_of", row),
            token_id: self.text("token_id", row),
            target: self.text("target", row),
            protocol: self.text("protocol", row),
            durability: self.text("durability", row),
            content: Content {
                statement: self.text("statement", row),
                response_text: self.text("response_text", row),
                ..Content::default()
            },
            payload: self.binary("payload", row),
            raw: self.binary("raw", row),
            key: self.binary("key", row),
            ..Row::default()
        }
    }
}

/// The record's value of one row, bit for bit what the log had. For many rows of a batch use one [`RowReader`].
pub fn envelope_bytes(batch: &RecordBatch, row: usize) -> Result<Bytes, RowError> {
    RowReader::new(batch)?.envelope_bytes(row)
}
