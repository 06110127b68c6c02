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
/// They are a stream of their own. If a record of it fails, the next one begins another stream.
pub struct ControlWriter {
    log: Arc<dyn EventLog>,
    instance: String,
    clock: fn() -> i64,
    new_id: fn() -> Id,
    /// Whether it writes cancels, and nothing else.
    for_cancels: bool,
    sign: ControlSign,
    stream: Mutex<Option<InstanceStream>>,
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
        Self { log, instance, clock, new_id, for_cancels, sign, stream: Mutex::new(None) }
    }

    fn place(&self, stream_id: Id) -> TopicPartition {
        let partition = match self.log.partitions(Topic::Control) {
            1 => 0,
            partitions if self.for_cancels => partitions - 1,
            partitions => partition_for(stream_id, partitions - 1),
        };
        TopicPartition { topic: Topic::Control, partition }
    }

    /// Seals, signs and queues a control record. Returns where its offset counts.
    pub fn record(&self, about: Subject, event: Event) -> (TopicPartition, Append) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let is_usable = stream.as_ref().is_some_and(|stream| !stream.is_poisoned());
        if !is_usable {
            *stream = None;
        }
        let stream = stream.get_or_insert_with(|| {
            let (log, instance) = (Arc::clone(&self.log), self.instance.clone());
            let stream_id = (self.new_id)();
            InstanceStream::open_at(self.place(stream_id), log, instance, self.clock, stream_id)
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
        let (at, append) = self.record(about, event);
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
mod tests {
    use bytes::Bytes;
    use retrace_proto::{Envelope, Masked};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::{MemoryLog, WatchedLog};

    const CONTROL: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

    #[test]
    fn orders_may_be_everywhere_in_the_control_topic_but_among_cancels() {
        let may =
            |topic, partition, partitions| may_have_orders(TopicPartition { topic, partition }, partitions);
        assert!(may(Topic::Control, 0, 1), "everything is in the only one");
        assert!(may(Topic::Control, 0, 3) && may(Topic::Control, 1, 3) && !may(Topic::Control, 2, 3));
        assert!(!may(Topic::Events, 0, 3));
    }

    async fn append(log: &MemoryLog, value: &'static [u8]) {
        log.append(CONTROL, Bytes::new(), Bytes::from_static(value)).await.unwrap();
    }

    /// A follower of a log, what it hands over, and what ends it.
    struct Following {
        lag: ControlLag,
        obeyed: mpsc::UnboundedReceiver<Bytes>,
        ended: tokio::task::JoinHandle<Result<(), ReadError>>,
        stop: oneshot::Sender<()>,
    }

    fn follow(log: &MemoryLog, periods: Option<Periods>) -> Following {
        let mut follower = ControlFollower::new(Arc::new(log.clone()));
        follower.periods = periods.unwrap_or(follower.periods);
        let lag = follower.lag();
        let (hand_over, obeyed) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let obey = move |_at, record: &Record| hand_over.send(record.value.clone()).unwrap();
        let ended = tokio::spawn(follower.run(obey, async { drop(stopped.await) }));
        Following { lag, obeyed, ended, stop }
    }

    #[tokio::test]
    async fn it_is_current_once_everything_was_handed_over_and_goes_on_as_the_topic_grows() {
        let log = MemoryLog::new();
        append(&log, b"a").await;
        let mut following = follow(&log, None);
        assert!(!following.lag.is_current());
        following.lag.clone().current().await;
        assert_eq!(following.obeyed.try_recv().unwrap(), "a");
        append(&log, b"b").await;
        assert_eq!(following.obeyed.recv().await.unwrap(), "b");
        following.stop.send(()).unwrap();
        assert_eq!(following.ended.await.unwrap(), Ok(()));
        assert!(following.obeyed.recv().await.is_none(), "nothing twice");
    }

    #[tokio::test]
    async fn it_is_current_while_nothing_comes_and_not_while_the_log_does_not_answer() {
        let log = MemoryLog::new();
        let [lag_max, confirm, retry] = [500, 5, 5].map(Duration::from_millis);
        let following = follow(&log, Some(Periods { lag_max, confirm, retry }));
        following.lag.clone().current().await;
        let first = following.lag.current_at.borrow().unwrap();
        let mut current_at = following.lag.current_at.clone();
        current_at.wait_for(|at| at.unwrap() > first + lag_max).await.unwrap();
        assert!(following.lag.is_current(), "though no record came for as long as it may lag");

        // At one in 5 ms they outlast by far what it may lag.
        log.faults().fail_next_reads(400, ReadError::Unavailable);
        while following.lag.is_current() {
            tokio::task::yield_now().await;
        }
        following.lag.clone().current().await;
        assert!(following.lag.is_current(), "once the log answers again");
    }

    #[tokio::test]
    async fn cancels_are_read_from_now_on_and_everything_else_from_the_beginning() {
        let log = MemoryLog::with_partitions(1, 3);
        let at = |partition| TopicPartition { topic: Topic::Control, partition };
        let new_id = || Id::from_parts(1, [0; 10]);
        let writer = |for_cancels| {
            let origin = ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id };
            let unsigned = Box::new(|_, _: &[u8]| ControlSignature::default());
            ControlWriter::new(Arc::new(log.clone()), origin, for_cancels, unsigned)
        };
        let (orders, cancels) = (writer(false), writer(true));
        let write = async |writer: &ControlWriter| {
            let event = Event::token_revoked("abcd".to_owned(), Masked::default());
            let (at, append) = writer.record(Subject::default(), event);
            append.await.unwrap();
            at
        };
        assert_eq!(write(&cancels).await, at(2));
        assert!(write(&orders).await != at(2));
        let mut following = follow(&log, None);
        assert!(following.lag.clone().current_unless_stuck(Duration::from_secs(30)).await);
        let first = Envelope::open(following.obeyed.recv().await.unwrap()).unwrap();
        assert_eq!(first.header().stream_seq, 0);
        assert!(following.obeyed.try_recv().is_err(), "the cancel of before is not read");
        write(&cancels).await;
        let next = Envelope::open(following.obeyed.recv().await.unwrap()).unwrap();
        assert_eq!(next.header().stream_seq, 1);
    }

    #[tokio::test]
    async fn a_log_that_gives_nothing_is_told_from_one_that_has_much() {
        let log = MemoryLog::new();
        log.faults().fail_next_reads(100_000, ReadError::Unavailable);
        let following = follow(&log, None);
        assert!(!following.lag.clone().current_unless_stuck(Duration::from_millis(50)).await);
    }

    #[tokio::test]
    async fn a_log_that_has_lost_its_end_ends_it() {
        let log = MemoryLog::new();
        append(&log, b"a").await;
        let mut follower = ControlFollower::new(Arc::new(log));
        follower.positions[0].1 = 2;
        let ended = follower.run(|_, _| {}, std::future::pending()).await;
        assert_eq!(ended, Err(ReadError::AboveEnd { end: 1 }));
    }

    #[tokio::test]
    async fn a_record_that_took_too_long_waits_no_more_once_it_is_decided() {
        let inner = MemoryLog::new();
        let log = Arc::new(WatchedLog::new(Arc::new(inner.clone())));
        let origin =
            ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id: || Id::from_parts(1, [0; 10]) };
        let unsigned = Box::new(|_, _: &[u8]| ControlSignature::default());
        let writer = ControlWriter::new(log.clone(), origin, false, unsigned);
        let record = |wait_max| {
            let event = Event::token_revoked("abcd".to_owned(), Masked::default());
            writer.record_within(wait_max, Subject::default(), event)
        };
        assert_eq!(record(Duration::from_secs(60)).await, Ok((CONTROL, 0)));
        let held = inner.faults().hold();
        assert_eq!(record(Duration::from_millis(1)).await, Err(AppendError::Unknown));
        let mut registry = Registry::default();
        log.watch().register(&mut registry);
        let nothing_waits = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text.contains("\nretrace_log_waiting_bytes 0\n")
        };
        assert!(!nothing_waits());
        held.open();
        let decided = async {
            while !nothing_waits() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), decided).await.expect("nobody asks for it, and it is decided");
        assert_eq!(record(Duration::from_secs(60)).await, Ok((CONTROL, 2)));
    }

    #[tokio::test]
    async fn control_records_are_one_signed_stream_until_one_fails() {
        let log = MemoryLog::new();
        let sign = |partition: u32, unsigned: &[u8]| ControlSignature {
            key_id: format!("{partition} {}", unsigned.len()),
            ..ControlSignature::default()
        };
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let new_id = || Id::from_parts(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed), [0; 10]);
        let origin = ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id };
        let writer = ControlWriter::new(Arc::new(log.clone()), origin, false, Box::new(sign));
        let record = || {
            let event = Event::token_revoked("abcd".to_owned(), Masked::default());
            writer.record(Subject::default(), event)
        };
        for offset in 0..2 {
            let (at, append) = record();
            assert_eq!((at, append.await), (CONTROL, Ok(offset)));
        }
        log.faults().fail_next(1, AppendError::Unknown);
        assert_eq!(record().1.await, Err(AppendError::Unknown));
        assert_eq!(record().1.await, Ok(2));
        let records = log.read(CONTROL, 0, usize::MAX).await.unwrap();
        let opened: Vec<_> =
            records.into_iter().map(|record| Envelope::open(record.value).unwrap()).collect();
        let places =
            opened.iter().map(|event| (event.stream_id().unix_ms().unwrap(), event.header().stream_seq));
        assert_eq!(places.collect::<Vec<_>>(), [(1, 0), (1, 1), (2, 0)]);
        for event in &opened {
            let expected = format!("0 {}", event.unsigned_bytes().len());
            assert_eq!(event.signature().unwrap().key_id, expected);
            assert_eq!(event.header().proxy_id, "test");
        }
    }
}
