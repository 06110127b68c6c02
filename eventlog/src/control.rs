use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::ControlSignature;
use retrace_proto::{Event, Id, Subject};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::{Append, AppendError, EventLog, InstanceStream, ReadError, partition_for};

/// How long ago it may be that a process knew every control record. One that knows less counts its log as down.
pub const CONTROL_LAG_MAX: Duration = Duration::from_secs(5);

/// How often the end of the control topic is asked for while nothing comes.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before reading is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of control records asked for at once.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Whether a partition of a control topic of so many is for cancels: the last one is, and nothing else belongs there. They
/// may be many and are good for a moment, so nobody reads them from the beginning. A topic of one partition has everything in
/// it, and this is `None`.
#[must_use]
pub fn is_for_cancels(partition: u32, partitions: u32) -> Option<bool> {
    (partitions > 1).then(|| partition == partitions - 1)
}

/// Whether orders that are good for longer than a moment may be in a topic partition of a log whose control topic has so many:
/// where cancels are, which may be many, there is nothing else.
#[must_use]
pub fn may_have_orders(at: TopicPartition, partitions: u32) -> bool {
    at.topic == Topic::Control && is_for_cancels(at.partition, partitions) != Some(true)
}

/// Reads the control topic from its beginning, cancels from now, and on as it grows.
#[derive(Debug)]
pub struct ControlFollower {
    log: Arc<dyn EventLog>,
    /// The next offset of each topic partition.
    positions: Vec<(TopicPartition, u64)>,
    has_begun: bool,
    /// When the topic was last known to have nothing that has not been handed over. It rings for everything that is read.
    current_at: watch::Sender<Option<Instant>>,
    periods: Periods,
}

/// The times of a follower.
#[derive(Clone, Copy, Debug)]
struct Periods {
    lag_max: Duration,
    confirm: Duration,
    retry: Duration,
}

/// How far a [`ControlFollower`] is. Clones follow the same one.
#[derive(Clone, Debug)]
pub struct ControlLag {
    current_at: watch::Receiver<Option<Instant>>,
    lag_max: Duration,
}

impl ControlLag {
    /// Whether every control record is known that was durable [`CONTROL_LAG_MAX`] ago.
    #[must_use]
    pub fn is_current(&self) -> bool {
        is_recent(*self.current_at.borrow(), self.lag_max)
    }

    /// Registers how long ago every control record was known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Resolves once it is so; never if the follower has ended before.
    pub async fn current(mut self) {
        if self.current_at.wait_for(|at| is_recent(*at, self.lag_max)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves once every control record is known that was durable before now; `false` if that is not so within `wait_max`.
    pub async fn current_as_of_now(mut self, wait_max: Duration) -> bool {
        let asked_at = Instant::now();
        let is_known = |at: &Option<Instant>| at.is_some_and(|at| at >= asked_at);
        matches!(timeout(wait_max, self.current_at.wait_for(is_known)).await, Ok(Ok(_)))
    }

    /// Resolves once it is so, however much there is to read; `false` if nothing was read for `stuck_after`.
    pub async fn current_unless_stuck(mut self, stuck_after: Duration) -> bool {
        while !self.is_current() {
            if !matches!(timeout(stuck_after, self.current_at.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}

/// Nothing is told before the topic was read to its end for the first time.
impl Collector for ControlLag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(at) = *self.current_at.borrow() else { return Ok(()) };
        let help = "How long ago every order was known; nothing passes beyond 5 seconds";
        let kind = <ConstGauge<f64> as TypedMetric>::TYPE;
        debug_assert!(matches!(kind, MetricType::Gauge));
        let lag = encoder.encode_descriptor("retrace_control_lag", help, Some(&Unit::Seconds), kind)?;
        ConstGauge::new(at.elapsed().as_secs_f64()).encode(lag)
    }
}

fn is_recent(at: Option<Instant>, lag_max: Duration) -> bool {
    at.is_some_and(|at| at.elapsed() <= lag_max)
}

impl ControlFollower {
    /// A follower that has read nothing yet.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        let partitions = 0..log.partitions(Topic::Control);
        let at = |partition| (TopicPartition { topic: Topic::Control, partition }, 0);
        let periods = Periods { lag_max: CONTROL_LAG_MAX, confirm: CONFIRM_INTERVAL, retry: RETRY_PAUSE };
        let positions = partitions.map(at).collect();
        Self { positions, log, has_begun: false, current_at: watch::Sender::default(), periods }
    }

    /// Tells how far it is.
    #[must_use]
    pub fn lag(&self) -> ControlLag {
        ControlLag { current_at: self.current_at.subscribe(), lag_max: self.periods.lag_max }
    }

    /// Hands every control record over, those of a topic partition in order, until `stop` resolves. What cannot be read now
    /// is tried again, while [`ControlLag`] tells.
    ///
    /// # Errors
    /// [`ReadError::AboveEnd`] if the log has lost its end: an alarm, and never a reason to start over.
    /// [`ReadError::Changed`] if it is not the log that it was. [`ReadError::Closed`] if it was closed.
    pub async fn run(
        mut self,
        mut obey: impl FnMut(TopicPartition, &Record),
        stop: impl Future<Output = ()>,
    ) -> Result<(), ReadError> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let began = Instant::now();
            let caught_up = self.catch_up(&mut obey).await;
            let pause = match caught_up {
                // What took long to learn is old already.
                Ok(()) => self.periods.confirm.saturating_sub(began.elapsed()),
                Err(error @ (ReadError::AboveEnd { .. } | ReadError::Changed | ReadError::Closed)) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(%error, "the control topic cannot be read now");
                    self.periods.retry
                }
            };
            let log = Arc::clone(&self.log);
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = sleep(pause) => {}
                // Not worth more than a look: whatever is the matter shows there.
                _ = log.wait_past_any(&self.positions), if caught_up.is_ok() => {}
            }
        }
    }

    /// Reads to the ends as they are now.
    async fn catch_up(&mut self, obey: &mut impl FnMut(TopicPartition, &Record)) -> Result<(), ReadError> {
        let asked_at = Instant::now();
        let at: Vec<_> = self.positions.iter().map(|(at, _)| *at).collect();
        let ranges = self.log.offsets_of(&at).await?;
        if !self.has_begun {
            let partitions = self.log.partitions(Topic::Control);
            for ((at, position), (_, range)) in self.positions.iter_mut().zip(&ranges) {
                if is_for_cancels(at.partition, partitions) == Some(true) {
                    *position = range.end;
                }
            }
            self.has_begun = true;
        }
        for ((at, position), (_, range)) in self.positions.iter_mut().zip(ranges) {
            if range.end < *position {
                return Err(ReadError::AboveEnd { end: range.end });
            }
            // What the log let go of is out of date.
            *position = range.start.max(*position);
            while *position < range.end {
                let records = self.log.read(*at, *position, READ_BYTES_MAX).await?;
                for record in &records {
                    obey(*at, record);
                    *position = record.offset + 1;
                }
                self.current_at.send_modify(|_| {});
            }
        }
        self.current_at.send_replace(Some(asked_at));
        Ok(())
    }
}

/// Signs the bytes of an envelope that goes to a partition of the control topic.
pub type ControlSign = Box<dyn Fn(u32, &[u8]) -> ControlSignature + Send + Sync>;

/// Writes the control records of one process start, signed.
///
/// They are a stream of their own, and one more in each partition in which records must stand in one order with those of
/// others. If a record of a stream fails, the next one begins another stream.
pub struct ControlWriter {
    log: Arc<dyn EventLog>,
    instance: String,
    clock: fn() -> i64,
    new_id: fn() -> Id,
    /// Whether it writes cancels, and nothing else.
    for_cancels: bool,
    sign: ControlSign,
    streams: Mutex<HashMap<Order, InstanceStream>>,
}

/// Among which records the order of one matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Order {
    /// Its writer's own, whatever they are about.
    OfWriter,
    /// All of this partition.
    OfPartition(u32),
}

/// The process start that writes control records.
#[derive(Clone, Debug)]
pub struct ControlOrigin {
    /// What it is called.
    pub instance: String,
    /// The wall clock, in microseconds since the Unix epoch.
    pub clock: fn() -> i64,
    /// A source of new ids.
    pub new_id: fn() -> Id,
}

impl ControlWriter {
    /// A writer of cancels, or of everything else. Nothing is written yet.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, origin: ControlOrigin, for_cancels: bool, sign: ControlSign) -> Self {
        let ControlOrigin { instance, clock, new_id } = origin;
        Self { log, instance, clock, new_id, for_cancels, sign, streams: Mutex::default() }
    }

    /// The partition of what has this id, among those that have orders or among those that have cancels.
    fn partition_of(&self, id: Id) -> u32 {
        match self.log.partitions(Topic::Control) {
            1 => 0,
            partitions if self.for_cancels => partitions - 1,
            partitions => partition_for(id, partitions - 1),
        }
    }

    /// Seals, signs and queues a control record. Returns where its offset counts.
    pub fn record(&self, about: Subject, event: Event) -> (TopicPartition, Append) {
        self.record_in(Order::OfWriter, about, event)
    }

    /// The same in the partition where all records of `review` stand in one order, whoever writes them.
    pub fn record_of(&self, review: Id, about: Subject, event: Event) -> (TopicPartition, Append) {
        self.record_in(Order::OfPartition(self.partition_of(review)), about, event)
    }

    fn record_in(&self, order: Order, about: Subject, event: Event) -> (TopicPartition, Append) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, stream| !stream.is_poisoned());
        let stream = streams.entry(order).or_insert_with(|| {
            let (log, instance) = (Arc::clone(&self.log), self.instance.clone());
            let stream_id = (self.new_id)();
            let partition = match order {
                Order::OfWriter => self.partition_of(stream_id),
                Order::OfPartition(partition) => partition,
            };
            let at = TopicPartition { topic: Topic::Control, partition };
            InstanceStream::open_at(at, log, instance, self.clock, stream_id)
        });
        let at = stream.topic_partition();
        (at, stream.record_signed(about, event, &|unsigned| (self.sign)(at.partition, unsigned)))
    }

    /// Records, and waits no longer than this. Returns where the record is.
    ///
    /// What becomes of it is learnt however long that takes and whoever still asks: a record that nobody follows to its end
    /// would count as one that waits, and its process as one that is not ready, until the next one of this writer.
    ///
    /// # Errors
    /// [`AppendError::Unknown`] also if it takes longer: it may be written yet.
    pub async fn record_within(
        &self,
        wait_max: Duration,
        about: Subject,
        event: Event,
    ) -> Result<(TopicPartition, u64), AppendError> {
        Self::settle(wait_max, self.record(about, event)).await
    }

    /// The same of [`ControlWriter::record_of`].
    ///
    /// # Errors
    /// Likewise.
    pub async fn record_of_within(
        &self,
        wait_max: Duration,
        review: Id,
        about: Subject,
        event: Event,
    ) -> Result<(TopicPartition, u64), AppendError> {
        Self::settle(wait_max, self.record_of(review, about, event)).await
    }

    async fn settle(
        wait_max: Duration,
        (at, append): (TopicPartition, Append),
    ) -> Result<(TopicPartition, u64), AppendError> {
        let recording = tokio::spawn(append);
        match timeout(wait_max, recording).await {
            Ok(Ok(outcome)) => outcome.map(|offset| (at, offset)),
            // It panicked, the runtime ends, or it takes too long.
            Ok(Err(_)) | Err(_) => Err(AppendError::Unknown),
        }
    }
}

impl std::fmt::Debug for ControlWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlWriter").field("instance", &self.instance).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
