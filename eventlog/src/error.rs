use retrace_proto::log::TopicPartition;

/// Why a record is not known to be in the log. Each is permanent for the stream it belongs to: see the contract of
/// [`EventLog`](crate::EventLog).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits to be written; the record was not queued.
    #[error("the log's queue is full: it accepts less than is appended; the record was not written")]
    Full,
    /// The record is longer than any log takes; it was not queued.
    #[error("a part of the record is {bytes} bytes, the limit is {bytes_max}: cut it into chunks")]
    TooLarge {
        /// Length of the key or of the value.
        bytes: usize,
        /// What it may be.
        bytes_max: usize,
    },
    /// Surely not written.
    #[error("the log refused the record; it was not written")]
    Refused,
    /// It may be in the log, now or after a restart.
    #[error("the outcome is unknown: the record may or may not have been written")]
    Unknown,
    /// The log, or this topic partition of it, takes no more; the record was not queued.
    #[error(
        "the log is closed for appends; the record was not written: see the log output for why, and restart"
    )]
    Closed,
}

/// Why there is nothing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The records asked for were truncated. The lake has them.
    #[error("the log starts at offset {start}: older records are in the lake")]
    BelowStart {
        /// The first offset kept.
        start: u64,
    },
    /// The position asked for is beyond all that is durable. A position that came from a durable record cannot be:
    /// records are missing. Stop; do not start over.
    #[error(
        "the log ends at offset {end}, below the position asked for: records are missing, or this is another log"
    )]
    AboveEnd {
        /// The durable end.
        end: u64,
    },
    /// The topic has fewer partitions.
    #[error("the log has no topic partition {0}")]
    UnknownPartition(TopicPartition),
    /// A record is there but not as it was written. It is never given out.
    #[error("the log's record at offset {offset} is damaged: restore the segment that holds it from a copy")]
    Damaged {
        /// The first offset that cannot be read.
        offset: u64,
    },
    /// A topic has other partitions than it had when the log was opened, or was deleted and made anew. What was written to
    /// partitions that are not known here would be missing, so nothing is given out any more.
    #[error(
        "a topic of the log has other partitions than when this process started, or was made anew: restart the process"
    )]
    Changed,
    /// It did not answer this time; try again.
    #[error("the log could not be read: try again, and see the log output for why")]
    Unavailable,
    /// The log was closed, or what is waited for cannot happen any more.
    #[error("the log is closed")]
    Closed,
}
