use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
use retrace_eventlog::Timing;
use retrace_lake::Compacted;
use tokio::sync::watch;

use crate::{Retained, Status};

/// What ingest counts, for Prometheus. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct IngestMetrics {
    /// How long a commit took that came through.
    pub(crate) commit: Timing,
    pub(crate) rows: Counter,
    pub(crate) bytes: Counter,
    pub(crate) retried: Counter,
    pub(crate) fenced: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) compaction: CompactionMetrics,
    pub(crate) retention: RetentionMetrics,
}

/// What the merging of files counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct CompactionMetrics {
    /// How long a merge took that came through, its commit included.
    merge: Timing,
    merged: Counter,
    written: Counter,
    rows: Counter,
    bytes: Counter,
    left_alone: Counter,
    pub(crate) failures: Counter,
}

impl CompactionMetrics {
    pub(crate) fn note(&self, compacted: &Compacted, took: Duration) {
        self.merge.note(took);
        self.merged.inc_by(compacted.merged as u64);
        self.written.inc_by(compacted.written as u64);
        self.rows.inc_by(compacted.rows);
        self.bytes.inc_by(compacted.bytes);
        self.left_alone.inc_by(compacted.left_alone as u64);
    }

    fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("retrace_compaction");
        let help = "How long merges of data files took, with their commits";
        all.register_with_unit("merge", help, Unit::Seconds, self.merge.clone());
        all.register("files_merged", "Data files that were merged into others", self.merged.clone());
        all.register("files_written", "Data files that others were merged into", self.written.clone());
        all.register("rows", "Rows that were written again", self.rows.clone());
        let help = "Bytes of data files that others were merged into";
        all.register_with_unit("written", help, Unit::Bytes, self.bytes.clone());
        let help = "Data files that cannot be merged: damaged ones and those of a later release";
        all.register("files_left_alone", help, self.left_alone.clone());
        all.register("failures", "Merges that failed", self.failures.clone());
    }
}

/// What the removal of expired events counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetentionMetrics {
    rows: Counter,
    unfit: Gauge,
    holds: Gauge,
    pub(crate) failures: Counter,
}

impl RetentionMetrics {
    pub(crate) fn note(&self, retained: &Retained) {
        self.rows.inc_by(retained.rows_removed);
        self.unfit.set(i64::try_from(retained.unfit).unwrap_or(i64::MAX));
        self.holds.set(i64::try_from(retained.holds).unwrap_or(i64::MAX));
    }

    fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("retrace_retention");
        all.register("rows_removed", "Rows that had expired and were removed", self.rows.clone());
        let help =
            "Data files of which nobody knows what has expired: damaged ones and those of a later release";
        all.register("files_unfit", help, self.unfit.clone());
        all.register("holds", "Legal holds in force, as of the latest look", self.holds.clone());
        let help = "Times that expired events could not be removed";
        all.register("failures", help, self.failures.clone());
    }
}

impl IngestMetrics {
    pub(crate) fn register(&self, registry: &mut Registry, status: watch::Receiver<Status>) {
        let all = registry.sub_registry_with_prefix("retrace_ingest");
        let help = "How long commits of the table took that came through";
        all.register_with_unit("commit", help, Unit::Seconds, self.commit.clone());
        all.register("rows", "Rows that were committed", self.rows.clone());
        let help = "Bytes of data files that were committed";
        all.register_with_unit("files", help, Unit::Bytes, self.bytes.clone());
        let help = "Steps that failed in passing and were tried again";
        all.register("retries", help, self.retried.clone());
        let help = "Commits that were fenced, since another process went on";
        all.register("fenced", help, self.fenced.clone());
        let help = "Records that could not be opened and became dead letters";
        all.register("dead_letters", help, self.dead_letters.clone());
        let help = "Records that were in the log twice and became marked rows";
        all.register("duplicates", help, self.duplicates.clone());
        self.compaction.register(registry);
        self.retention.register(registry);
        registry.register_collector(Box::new(Lag(status)));
    }
}

/// Records that are durable and not in the table, as of the latest step.
#[derive(Debug)]
struct Lag(watch::Receiver<Status>);

impl Collector for Lag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.0.borrow().clone();
        let help = "Records that are durable in the log and not in the table, by topic partition";
        let kind = <ConstGauge<i64> as TypedMetric>::TYPE;
        debug_assert!(matches!(kind, MetricType::Gauge));
        let mut lag = encoder.encode_descriptor("retrace_ingest_lag_records", help, None, kind)?;
        for partition in &status.partitions {
            let records = i64::try_from(partition.lag_records()).unwrap_or(i64::MAX);
            let labels = [
                ("topic", partition.at.topic.name().to_owned()),
                ("partition", partition.at.partition.to_string()),
            ];
            ConstGauge::new(records).encode(lag.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
