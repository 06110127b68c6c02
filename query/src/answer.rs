use std::fmt;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::stream::BoxStream;
use retrace_proto::log::{Record, TopicPartition};

use crate::{Cut, QueryError, Removed};

/// The rows of a statement as they come.
pub type Batches = BoxStream<'static, Result<RecordBatch, QueryError>>;

/// Recorded events as they come.
pub type Events = BoxStream<'static, Result<EventRecord, QueryError>>;

/// What a statement answers, whether it was asked in this process or over the network.
pub struct SqlAnswer {
    /// Up to where the answer saw the log.
    pub cut: Cut,
    /// What retention has removed below the cut; `None` if nothing ever.
    pub removed: Option<Removed>,
    /// The columns, known before the first row.
    pub schema: SchemaRef,
    /// The rows. The answer is whole only if the stream ends without an error.
    pub batches: Batches,
}

/// The events that a session read or a tail gives.
pub struct EventsAnswer {
    /// For a session: up to where the answer saw the log. For a tail: from where on it gives events.
    pub cut: Cut,
    /// What retention has removed; `None` if nothing ever, and for a tail.
    pub removed: Option<Removed>,
    /// The events. A session's are whole only if the stream ends without an error; a tail does not end by itself.
    pub events: Events,
}

/// One event as the log kept it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Where it stands in the log.
    pub at: TopicPartition,
    /// Its offset there.
    pub offset: u64,
    /// The log's clock when it accepted the event, in microseconds since the Unix epoch.
    pub appended_at_unix_us: i64,
    /// The sealed bytes, for [`retrace_proto::Envelope::open`] and for whoever checks the chain.
    pub envelope: Bytes,
}

impl EventRecord {
    pub(crate) fn new(at: TopicPartition, record: Record) -> Self {
        let Record { offset, appended_at_unix_us, value, .. } = record;
        Self { at, offset, appended_at_unix_us, envelope: value }
    }
}

impl fmt::Debug for SqlAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlAnswer").field("cut", &self.cut).finish_non_exhaustive()
    }
}

impl fmt::Debug for EventsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsAnswer").field("cut", &self.cut).finish_non_exhaustive()
    }
}
