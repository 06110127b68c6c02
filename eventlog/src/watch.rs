//! Whether the log takes what it is given, and how fast.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use retrace_proto::Id;
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use tokio::sync::watch;

use crate::append::Outcome;
use crate::{Append, AppendError, EventLog, ReadError, Timing};

/// Seconds that are told apart among the records under way: 18 hours. One under way for longer is taken for a younger
/// one.
const SECONDS_MAX: u64 = 65_536;

/// What a process knows of its log from the records it appends.
#[derive(Debug)]
pub struct LogWatch {
    began: Instant,
    /// Records under way, by the second in which they were appended.
    under_way: Box<[AtomicU32]>,
    bytes: Gauge<i64, AtomicI64>,
    durable: Timing,
    failures: Family<FailureLabels, Counter>,
    /// When a record became durable, and when one failed, last: in microseconds since the beginning; 0 is never.
    last_durable_us: AtomicU64,
    last_failed_us: AtomicU64,
}

/// How the log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// What was appended became durable, and nothing waits for long.
    Writable,
    /// A record waits for longer than it may.
    Late {
        /// For how long.
        waits: Duration,
    },
    /// The latest record that is decided failed.
    Failed {
        /// How long ago.
        ago: Duration,
    },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    kind: &'static str,
}

impl Default for LogWatch {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            under_way: (0..SECONDS_MAX).map(|_| AtomicU32::new(0)).collect(),
            bytes: Gauge::default(),
            durable: Timing::default(),
            failures: Family::default(),
            last_durable_us: AtomicU64::new(0),
            last_failed_us: AtomicU64::new(0),
        }
    }
}

impl LogWatch {
    /// How the log does, where a record should wait no longer than `wait_max`, of minutes at most.
    #[must_use]
    pub fn state(&self, wait_max: Duration) -> LogState {
        let now = self.began.elapsed();
        let second = now.as_secs();
        // A second ends after its last record began to wait.
        let late = (wait_max.as_secs() + 1..SECONDS_MAX.min(second + 1)).rev();
        let mut late = late.filter(|ago| self.second(second - ago).load(Ordering::Relaxed) > 0);
        if let Some(ago) = late.next() {
            return LogState::Late { waits: Duration::from_secs(ago) };
        }
        let failed_us = self.last_failed_us.load(Ordering::Relaxed);
        if failed_us > self.last_durable_us.load(Ordering::Relaxed) {
            return LogState::Failed { ago: now.saturating_sub(Duration::from_micros(failed_us)) };
        }
        LogState::Writable
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        let log = registry.sub_registry_with_prefix("retrace_log");
        let help = "How long records took to become durable in the log";
        log.register_with_unit("append", help, Unit::Seconds, self.durable.clone());
        let help = "Records that did not become durable, or of which nobody knows, by kind";
        log.register("append_failures", help, self.failures.clone());
        let help = "Bytes of records that are appended and not durable yet";
        log.register_with_unit("waiting", help, Unit::Bytes, self.bytes.clone());
        for error in [AppendError::Full, AppendError::Refused, AppendError::Unknown, AppendError::Closed] {
            drop(self.failures.get_or_create(&FailureLabels { kind: kind(error) }));
        }
    }

    fn second(&self, second: u64) -> &AtomicU32 {
        let at = usize::try_from(second % SECONDS_MAX).expect("a remainder is below its divisor");
        &self.under_way[at]
    }

    fn us_since_began(&self, at: Instant) -> u64 {
        // Never 0, which is never.
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX).max(1)
    }
}

fn kind(error: AppendError) -> &'static str {
    match error {
        AppendError::Full => "full",
        AppendError::TooLarge { .. } => "too_large",
        AppendError::Refused => "refused",
        AppendError::Unknown => "unknown",
        AppendError::Closed => "closed",
    }
}

/// A record under way, as its log's watch sees it. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Observed {
    watch: Arc<LogWatch>,
    at: Instant,
    second: u64,
    bytes: i64,
}

impl Observed {
    fn begin(watch: Arc<LogWatch>, bytes: usize) -> Self {
        let at = Instant::now();
        let second = at.saturating_duration_since(watch.began).as_secs();
        watch.second(second).fetch_add(1, Ordering::Relaxed);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        watch.bytes.inc_by(bytes);
        Self { watch, at, second, bytes }
    }

    /// What became of it, and when, if that is known better than now.
    pub(crate) fn resolved(self, outcome: Outcome, at: Option<Instant>) {
        let at = at.unwrap_or_else(Instant::now);
        let us = self.watch.us_since_began(at);
        match outcome {
            Ok(_offset) => {
                self.watch.durable.note(at.saturating_duration_since(self.at));
                self.watch.last_durable_us.fetch_max(us, Ordering::Relaxed);
            }
            Err(error) => {
                self.watch.failures.get_or_create(&FailureLabels { kind: kind(error) }).inc();
                // A record that is too large says nothing of the log.
                if !matches!(error, AppendError::TooLarge { .. }) {
                    self.watch.last_failed_us.fetch_max(us, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.watch.second(self.second).fetch_sub(1, Ordering::Relaxed);
        self.watch.bytes.dec_by(self.bytes);
    }
}

/// A log and what is known of it from what is appended through this.
#[derive(Debug)]
pub struct WatchedLog {
    log: Arc<dyn EventLog>,
    watch: Arc<LogWatch>,
}

impl WatchedLog {
    /// Watches a log.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, watch: Arc::default() }
    }

    /// What is known of it.
    #[must_use]
    pub fn watch(&self) -> Arc<LogWatch> {
        Arc::clone(&self.watch)
    }

    fn observe(&self, bytes: usize) -> Observed {
        Observed::begin(Arc::clone(&self.watch), bytes)
    }
}

#[async_trait]
impl EventLog for WatchedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }

    fn topic_id(&self, topic: Topic) -> Id {
        self.log.topic_id(topic)
    }

    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        let observed = self.observe(key.len() + value.len());
        self.log.append(to, key, value).observed(observed)
    }

    fn append_unhurried(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        let observed = self.observe(key.len() + value.len());
        self.log.append_unhurried(to, key, value).observed(observed)
    }

    async fn read(
        &self,
        from: TopicPartition,
        start_inclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(from, start_inclusive, bytes_max).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        self.log.offsets(of).await
    }

    async fn offsets_of(
        &self,
        of: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, OffsetRange)>, ReadError> {
        self.log.offsets_of(of).await
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.log.wait_past(of, end_exclusive).await
    }

    async fn wait_past_any(&self, ends: &[(TopicPartition, u64)]) -> Result<(), ReadError> {
        self.log.wait_past_any(ends).await
    }

    fn ingest_share(&self) -> Result<watch::Receiver<Vec<TopicPartition>>, ReadError> {
        self.log.ingest_share()
    }

    fn is_share_assigned(&self) -> bool {
        self.log.is_share_assigned()
    }

    fn is_shared(&self) -> bool {
        self.log.is_shared()
    }

    fn close(&self) {
        self.log.close();
    }

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.log.truncate_below(of, offset).await
    }

    async fn truncate_each_below(&self, below: &[(TopicPartition, u64)]) -> Result<(), ReadError> {
        self.log.truncate_each_below(below).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::MemoryLog;

    const TO: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };
    const WAIT_MAX: Duration = Duration::from_secs(10);

    fn append(log: &WatchedLog) -> Append {
        log.append(TO, Bytes::from_static(b"key"), Bytes::from_static(b"value"))
    }

    fn text(log: &WatchedLog) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        log.watch.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn assert_counted(log: &WatchedLog, lines: &[&str]) {
        let text = text(log);
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line} is not in:\n{text}");
        }
    }

    #[tokio::test]
    async fn what_is_durable_what_failed_and_what_waits_is_counted() {
        let inner = MemoryLog::new();
        let log = WatchedLog::new(Arc::new(inner.clone()));
        append(&log).await.unwrap();
        assert_eq!(log.watch.state(WAIT_MAX), LogState::Writable);
        inner.faults().fail_next(1, AppendError::Refused);
        assert_eq!(append(&log).await, Err(AppendError::Refused));
        assert!(matches!(log.watch.state(WAIT_MAX), LogState::Failed { .. }));
        let held = inner.faults().hold();
        let (waits, dropped) = (append(&log), append(&log));
        let failed = "retrace_log_append_failures_total{kind=\"refused\"} 1";
        let durable = "retrace_log_append_seconds_count 1";
        assert_counted(&log, &[failed, durable, "retrace_log_waiting_bytes 16"]);
        drop(dropped);
        assert_counted(&log, &["retrace_log_waiting_bytes 8"]);
        held.open();
        waits.await.unwrap();
        assert_counted(&log, &["retrace_log_append_seconds_count 2", "retrace_log_waiting_bytes 0"]);
        assert_eq!(log.watch.state(WAIT_MAX), LogState::Writable, "a record came through since");
    }

    #[tokio::test]
    async fn a_record_that_waits_too_long_is_late_although_others_come_through() {
        let inner = MemoryLog::new();
        let mut log = WatchedLog::new(Arc::new(inner.clone()));
        let held = inner.faults().hold();
        let waits = append(&log);
        // As if it had been appended half a minute ago.
        let watch = LogWatch { began: Instant::now() - Duration::from_secs(30), ..LogWatch::default() };
        watch.second(0).fetch_add(1, Ordering::Relaxed);
        log.watch = Arc::new(watch);
        held.open();
        append(&log).await.unwrap();
        let LogState::Late { waits: late } = log.watch.state(WAIT_MAX) else { panic!("it is late") };
        assert!(late >= Duration::from_secs(30));
        assert_eq!(log.watch.state(Duration::from_secs(3600)), LogState::Writable);
        log.watch.second(0).fetch_sub(1, Ordering::Relaxed);
        assert_eq!(log.watch.state(WAIT_MAX), LogState::Writable);
        let _ = waits.now_or_never();
    }
}
