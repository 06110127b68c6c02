use std::fmt;

use arrow::array::RecordBatch;
use retrace_proto::log::{Record, TopicPartition};
use retrace_proto::{Envelope, Recorded};

use crate::lift;
use crate::schema::{self, Row};

/// What became of a record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// An event.
    Event,
    /// The very event of an earlier offset, kept so that offsets stay gap-free. Views leave it out.
    Duplicate,
    /// A record that could not be opened, or may not stand where it stands, kept with its reason.
    DeadLetter,
}

impl RowKind {
    /// The value of the column `row_kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RowKind::Event => "event",
            RowKind::Duplicate => "duplicate",
            RowKind::DeadLetter => "dead_letter",
        }
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Records of the log on their way to a batch: every record pushed is exactly one row.
///
/// Each row is rebuilt and compared while it is pushed. Where the bytes differ (an unknown field, another order of
/// fields) the record's own bytes are kept in `raw`, so nothing this type accepts can fail to come back.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    bytes: usize,
}

impl Rows {
    /// No rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the record's envelope; what does not open becomes a dead letter with the reason.
    pub fn push(&mut self, at: TopicPartition, record: &Record) {
        match Envelope::open(record.value.clone()) {
            Ok(recorded) => self.push_opened(at, record, recorded),
            Err(error) => self.push_dead_letter(at, record, &error.to_string()),
        }
    }

    /// Like [`Rows::push`], for a record whose envelope the caller has opened already.
    pub fn push_opened(&mut self, at: TopicPartition, record: &Record, recorded: Recorded) {
        self.add(record, lift::event(at, record, recorded, RowKind::Event));
    }

    /// The record of an event that an earlier offset already holds.
    pub fn push_duplicate(&mut self, at: TopicPartition, record: &Record, recorded: Recorded) {
        self.add(record, lift::event(at, record, recorded, RowKind::Duplicate));
    }

    /// A record that is kept for its bytes alone. `reason` must hold no value of the traffic.
    pub fn push_dead_letter(&mut self, at: TopicPartition, record: &Record, reason: &str) {
        self.add(record, lift::dead_letter(at, record, reason));
    }

    fn add(&mut self, record: &Record, row: Row) {
        self.bytes += record.key.len() + record.value.len();
        self.rows.push(row);
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of the keys and values pushed, which is about what the rows take in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Seals the rows as a batch of [`schema`](crate::schema()), in the order they were pushed.
    ///
    /// # Panics
    /// If one column passes 2 GiB, which a caller that bounds [`Rows::bytes`] cannot reach.
    #[must_use]
    pub fn finish(self) -> RecordBatch {
        schema::batch(&self.rows)
    }
}
