use std::time::Instant;

use retrace_proto::log::TopicPartition;

/// How far ingest is, as of its latest step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// One for each topic partition; empty until the first step.
    pub partitions: Vec<PartitionStatus>,
    /// Since when every step fails, if they do.
    pub failing_since: Option<Instant>,
}

impl Status {
    /// Records that are durable in the log and not yet in the table.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        self.partitions.iter().map(PartitionStatus::lag_records).sum()
    }
}

/// How far ingest is with one topic partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub at: TopicPartition,
    /// The table's next offset.
    pub position: u64,
    /// The log's durable end when the step began.
    pub log_end: u64,
}

impl PartitionStatus {
    /// Records between the two.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        self.log_end.saturating_sub(self.position)
    }
}
