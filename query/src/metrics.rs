use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use retrace_eventlog::Timing;
use retrace_proto::wire::evidence_read_completed::Status;

/// What the query service counts, for Prometheus. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueryMetrics {
    reads: Family<ReadLabels, Counter>,
    durations: Family<DoorLabel, Timing>,
    rows: Counter,
    tail_bytes: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReadLabels {
    door: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DoorLabel {
    door: &'static str,
}

impl QueryMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("retrace_query");
        let help = "Reads of the evidence that ended, by door and by how they ended";
        all.register("reads", help, self.reads.clone());
        let help = "How long reads took, their rows' way to the client included, by door";
        all.register_with_unit("duration", help, Unit::Seconds, self.durations.clone());
        all.register("rows", "Rows that left", self.rows.clone());
        let help = "Bytes of the log's tail, as rows in memory, that reads took beside the table";
        all.register_with_unit("tail", help, Unit::Bytes, self.tail_bytes.clone());
    }

    /// Counts a read that ended.
    pub(crate) fn ended(&self, door: &'static str, status: Status, rows: u64, took: Duration) {
        let status = match status {
            Status::Ok => "ok",
            Status::Denied => "denied",
            Status::Abandoned => "abandoned",
            Status::Error | Status::Unspecified => "error",
        };
        self.reads.get_or_create(&ReadLabels { door, status }).inc();
        self.durations.get_or_create(&DoorLabel { door }).note(took);
        self.rows.inc_by(rows);
    }

    /// Counts what a read took of the log.
    pub(crate) fn took_tail(&self, bytes: u64) {
        self.tail_bytes.inc_by(bytes);
    }
}
