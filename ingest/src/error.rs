use retrace_eventlog::ReadError;
use retrace_lake::{CommitError, LakeError, Miscount};
use retrace_proto::log::TopicPartition;
use retrace_proto::{Id, OpenError};

/// Why a step was not done. [`IngestError::is_transient`] says whether doing it again can help.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// An evidence alarm: the log has lost its end, or is another log.
    #[error(
        "{at}: the log ends at offset {end}, but the table holds everything below {position}: records are missing \
         or this is another log; find out which before anything is written (nothing was reset)"
    )]
    LogBehind {
        /// Where.
        at: TopicPartition,
        /// The table's next offset.
        position: u64,
        /// The log's end.
        end: u64,
    },
    /// An evidence alarm: the log has let go of records that the table never got.
    #[error(
        "{at}: the log starts at offset {start}, but the table has only what is below {position}: the records \
         between are lost; restore the log or the table from a copy (nothing was skipped)"
    )]
    RecordsLost {
        /// Where.
        at: TopicPartition,
        /// The table's next offset.
        position: u64,
        /// The log's first offset.
        start: u64,
    },
    /// Files were taken out of the table, or put into it, by somebody else.
    #[error("{0} (nothing was written)")]
    Miscount(Miscount),
    /// An evidence alarm: the table was filled from another log, whose offsets would be given out again.
    #[error(
        "the table holds records of topic {topic_id}, which this log does not have: log and table do not belong \
         together; restore the log, or begin a new table in another folder (nothing was written)"
    )]
    ForeignLog {
        /// The topic that the table knows.
        topic_id: Id,
    },
    /// The log broke its contract that offsets are dense.
    #[error(
        "{at}: the log gave offset {found} where {expected} was due; check the log (nothing was skipped)"
    )]
    Gap {
        /// Where.
        at: TopicPartition,
        /// The offset due.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
    /// The log has a record that only a later release understands. As a dead letter it would be in no view for good.
    #[error(
        "{at}: the record at offset {offset} is of a later release, and stays in the log until ingest is upgraded (nothing was \
         skipped); if no process of yours is of a later release, somebody else wrote it: `\"{at}\" = {}` under \
         [ingest.dead_letters_below] keeps it as a dead letter",
        offset + 1
    )]
    Newer {
        /// Where.
        at: TopicPartition,
        /// Its offset.
        offset: u64,
        /// Which version it names.
        #[source]
        source: OpenError,
    },
    /// The table refused or failed a commit.
    #[error("the rows could not be committed")]
    Commit {
        /// What the table said; it names a second ingest if there is one.
        #[source]
        source: CommitError,
    },
    /// The table could not be read or written.
    #[error("the lake could not be read or written")]
    Lake {
        /// What it said.
        #[source]
        source: LakeError,
    },
    /// The process is not let in among those that divide the log.
    #[error("this process could not ask for a share of the log to ingest: see the log output for why")]
    Share {
        /// What the log said.
        #[source]
        source: ReadError,
    },
    /// The log did not say where it begins and ends.
    #[error("the log did not say where its topic partitions begin and end")]
    Offsets {
        /// What it said.
        #[source]
        source: ReadError,
    },
    /// The log could not be read.
    #[error("{at}: the log could not be read")]
    Log {
        /// Where.
        at: TopicPartition,
        /// What it said.
        #[source]
        source: ReadError,
    },
}

impl IngestError {
    /// Whether the same step may succeed later. What is not transient needs a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            IngestError::Commit { source: CommitError::Retry { source } } => {
                !matches!(source, LakeError::Newer { .. } | LakeError::Foreign)
            }
            IngestError::Commit { .. } => false,
            IngestError::Lake { source } => {
                matches!(source, LakeError::Store { .. } | LakeError::Delta { .. })
            }
            IngestError::Log { source, .. } | IngestError::Offsets { source } => {
                matches!(source, ReadError::Unavailable)
            }
            IngestError::Share { .. }
            | IngestError::LogBehind { .. }
            | IngestError::RecordsLost { .. }
            | IngestError::Miscount(_)
            | IngestError::ForeignLog { .. }
            | IngestError::Gap { .. }
            | IngestError::Newer { .. } => false,
        }
    }

    /// Whether another ingest moved a position that this one holds.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, IngestError::Commit { source: CommitError::Fenced { .. } })
    }
}
