use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use retrace_kafka_admin::{AdminError, End, TopicShape, offsets, topic_shapes};
use retrace_proto::Id;
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::contract::check_size;
use crate::{Append, AppendError, EventLog, ReadError};

mod options;

mod open_error;

mod listener;

mod topics;

mod open;

mod group;

mod producer;

mod readers;

pub use open_error::KafkaOpenError;
pub use options::KafkaOptions;

use group::Member;
use listener::Listener;
use open::{find, library, reach};
use producer::{Deliveries, Lane, Producer};
use readers::{Failure, Readers};
use topics::Found;

/// How long a question to the brokers may take while the log is in use.
const ASK_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long one attempt at it may: a broker that died is waited for no longer, since another one leads soon.
const ASK_ONCE_MAX: Duration = Duration::from_millis(1500);

/// How long a leader that has let go of records waits until its followers have.
const FOLLOWERS_WAIT_MAX: Duration = Duration::from_secs(1);

/// The pause before the brokers are asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// How long closing waits for what is on its way.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often the end is asked for while somebody waits for records of others.
const END_POLL_PERIOD: Duration = Duration::from_millis(100);

/// The log on an Apache Kafka cluster, shared by any number of processes.
///
/// A record is durable once all in-sync replicas hold it, at least `min.insync.replicas` of them (`acks=all`). Offsets
/// are dense because nothing here writes in transactions. What is appended is sent in order and without duplicates by
/// the library's idempotent producer; a record that could not be acknowledged yet is tried for as long as the log is
/// open, so its deadline must be the caller's own.
///
/// The end of a topic partition is what its leader says. A leader that is cut off from the others, and does not know
/// yet that it was replaced, says less than there is: for the seconds until it learns it, a reader that reaches only
/// that broker misses what was written elsewhere.
///
/// A topic whose partitions become more, or that is deleted and made anew, is another log: whoever asks where it ends is
/// told, and from then on everything that reads says [`ReadError::Changed`]. It takes a restart of the process.
///
/// Append times are the brokers' clocks in milliseconds: when another broker becomes leader they can step back.
///
/// Dropping it closes it, and blocks until what is on its way is acknowledged, for ten seconds at most.
pub struct KafkaLog {
    /// There until this is dropped, as is `admin`.
    shared: Option<Arc<Shared>>,
    admin: Option<AdminClient<Listener>>,
    topic_ids: [Id; 2],
    /// How this process joins the group of ingest, and its membership once it did.
    member_config: ClientConfig,
    member: Mutex<Option<Member>>,
    is_closed: AtomicBool,
}

/// What is used from threads that wait for brokers.
struct Shared {
    producer: Producer,
    readers: Readers,
    lanes: [Vec<Arc<Lane>>; 2],
    /// The topics as they were at the start, in the order of [`Topic::ALL`].
    topics: Vec<Found>,
    /// Whether one of them was seen to be another since.
    is_changed: AtomicBool,
}

impl KafkaLog {
    /// Connects, makes the topics that are not there, and refuses those on which the log's promises would not hold.
    pub async fn open(options: &KafkaOptions) -> Result<Self, KafkaOpenError> {
        let servers = options.client.get("bootstrap.servers").cloned().unwrap_or_default();
        let config = options.producer()?;
        let admin_config = config.clone();
        let readers = Readers::new(options.reader()?);
        let producer = Producer::new(config, options.queue_bytes_max).map_err(library)?;
        let producer = reach(producer, servers).await?;
        let admin =
            AdminClient::from_config_and_context(&admin_config, Listener::default()).map_err(library)?;
        let mut found = Vec::new();
        for topic in Topic::ALL {
            found.push(find(&producer, &admin, options, topic).await?);
        }
        let lanes = Topic::ALL.map(|topic| {
            let Found { name, shape } = &found[topic as usize];
            let partitions = 0..i32::try_from(shape.partitions).unwrap_or(i32::MAX);
            partitions.map(|partition| Arc::new(Lane::new(Arc::clone(name), partition))).collect()
        });
        let topic_ids = Topic::ALL.map(|topic| found[topic as usize].id());
        let is_changed = AtomicBool::new(false);
        let shared = Arc::new(Shared { producer, readers, lanes, topics: found, is_changed });
        let member_config = options.member()?;
        let (member, is_closed) = (Mutex::new(None), AtomicBool::new(false));
        let (shared, admin) = (Some(shared), Some(admin));
        Ok(Self { shared, admin, topic_ids, member_config, member, is_closed })
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.as_ref().expect("only dropping takes it")
    }

    fn admin(&self) -> &AdminClient<Listener> {
        self.admin.as_ref().expect("only dropping takes it")
    }

    fn member(&self) -> MutexGuard<'_, Option<Member>> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, of: TopicPartition) -> Result<&Arc<Lane>, ReadError> {
        let lane = self.shared().lanes[of.topic as usize].get(of.partition as usize);
        lane.ok_or(ReadError::UnknownPartition(of))
    }

    fn open_lane(&self, of: TopicPartition) -> Result<Arc<Lane>, ReadError> {
        let lane = self.lane(of)?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(ReadError::Closed);
        }
        self.shared().check_unchanged()?;
        Ok(Arc::clone(lane))
    }
}

/// Runs what waits for brokers where waiting is allowed.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(run).await.unwrap_or(Err(ReadError::Unavailable))
}

impl Shared {
    /// First offset kept and end, as the leader has them now.
    fn range(&self, lane: &Arc<Lane>) -> Result<OffsetRange, ReadError> {
        let ranges = self.ranges(std::slice::from_ref(lane))?;
        ranges.into_iter().next().ok_or(ReadError::Unavailable)
    }

    /// The same of many topic partitions.
    fn ranges(&self, lanes: &[Arc<Lane>]) -> Result<Vec<OffsetRange>, ReadError> {
        let deadline = Instant::now() + ASK_WAIT_MAX;
        // First, since of a topic that has fewer partitions now not all can be asked.
        self.check_shapes(lanes, deadline)?;
        // The ends are asked for last, so that none can lie below its start.
        let starts = self.ask(lanes, End::Earliest, deadline)?;
        let ends = self.ends(lanes, deadline)?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| start..end).collect())
    }

    /// The ends of many topic partitions, which are known from then on.
    fn ends(&self, lanes: &[Arc<Lane>], deadline: Instant) -> Result<Vec<u64>, ReadError> {
        let ends = self.ask(lanes, End::Latest, deadline)?;
        lanes.iter().zip(&ends).for_each(|(lane, end)| lane.known_end.raise(*end));
        Ok(ends)
    }

    /// Asks each broker once for all that it leads.
    fn ask(&self, lanes: &[Arc<Lane>], end: End, deadline: Instant) -> Result<Vec<u64>, ReadError> {
        let of: Vec<_> = lanes.iter().map(|lane| (&*lane.topic, lane.partition)).collect();
        self.ask_until(deadline, |client, timeout| offsets(client, &of, end, timeout))
    }

    /// Asks, and again until the deadline.
    fn ask_until<T>(
        &self,
        deadline: Instant,
        ask: impl Fn(&Client<Deliveries>, Duration) -> Result<T, AdminError>,
    ) -> Result<T, ReadError> {
        let connection = self.producer.connection();
        let client = producer::client(&connection);
        // While leaders change, some of them do not answer: that passes within seconds.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match ask(client, left.min(ASK_ONCE_MAX)) {
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() >= deadline => {
                    tracing::warn!(%error, "the brokers did not tell where the log begins and ends");
                    return Err(ReadError::Unavailable);
                }
                Err(error) => tracing::debug!(%error, "the brokers are asked again"),
            }
            thread::sleep(ASK_PAUSE);
            // The library does not ask by itself who leads now if a leader said that it is of another epoch.
            if let Err(error) = client.fetch_metadata(None, left.min(ASK_ONCE_MAX)) {
                tracing::debug!(%error, "nobody says who leads");
            }
        }
    }

    /// Whether the topics of these lanes are still what they were. What was durable before this is called in a partition
    /// that was added makes it fail.
    fn check_shapes(&self, lanes: &[Arc<Lane>], deadline: Instant) -> Result<(), ReadError> {
        let known = || self.topics.iter().filter(|known| lanes.iter().any(|lane| lane.topic == known.name));
        let names: Vec<_> = known().map(|known| &*known.name).collect();
        let now = self.ask_until(deadline, |client, timeout| topic_shapes(client, &names, timeout))?;
        // A broker that says fewer has not heard of the others yet: none is ever taken away.
        let differs = |known: &Found, now: &TopicShape| {
            known.shape.id != now.id || known.shape.partitions < now.partitions
        };
        for (known, now) in known().zip(now).filter(|(known, now)| differs(known, now)) {
            if !self.is_changed.swap(true, Ordering::AcqRel) {
                let (topic, before) = (&*known.name, &known.shape);
                tracing::error!(topic, ?before, ?now, "the topic is not what it was: restart this process");
            }
        }
        self.check_unchanged()
    }

    fn check_unchanged(&self) -> Result<(), ReadError> {
        if self.is_changed.load(Ordering::Acquire) { Err(ReadError::Changed) } else { Ok(()) }
    }

    /// What is known to be there is read without asking first; the brokers are asked where that does not suffice.
    fn read(&self, lane: &Arc<Lane>, start: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let known_end = lane.known_end.now();
        if start < known_end {
            match self.readers.read(lane, start..known_end, bytes_max) {
                Ok(records) => return Ok(records),
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::OutOfRange) => {}
            }
        }
        let range = self.range(lane)?;
        if start < range.start {
            return Err(ReadError::BelowStart { start: range.start });
        }
        if start > range.end {
            return Err(ReadError::AboveEnd { end: range.end });
        }
        if start == range.end {
            return Ok(Vec::new());
        }
        self.readers.read(lane, start..range.end, bytes_max).map_err(|failure| match failure {
            // It held that offset a moment ago: another question will tell.
            Failure::OutOfRange => ReadError::Unavailable,
            Failure::Error(error) => error,
        })
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("topic_ids", &self.topic_ids).finish_non_exhaustive()
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.close();
        let clients = (self.shared.take(), self.admin.take());
        end_in_time(move || drop(clients));
    }
}

/// Ends clients of the library, or leaves them behind. Each waits for a thread of its own, and these wait by the clock of the
/// day: one that was set back by an hour keeps them for an hour.
fn end_in_time(end: impl FnOnce() + Send + 'static) {
    let (ends, ended) = mpsc::channel();
    let ending = thread::Builder::new().name("kafka-end".to_owned()).spawn(move || {
        end();
        // Nobody waits any more for what comes too late.
        let _ = ends.send(());
    });
    if ending.is_ok() && ended.recv_timeout(CLOSE_WAIT_MAX).is_err() {
        tracing::warn!("a client of the brokers did not end in time and is left behind");
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        u32::try_from(self.shared().lanes[topic as usize].len()).unwrap_or(u32::MAX)
    }

    fn topic_id(&self, topic: Topic) -> Id {
        self.topic_ids[topic as usize]
    }

    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        if let Err(error) = check_size(&key, &value) {
            return Append::ready(Err(error));
        }
        match self.lane(to) {
            Ok(lane) => self.shared().producer.append(lane, &key, &value),
            Err(_) => Append::ready(Err(AppendError::Refused)),
        }
    }

    async fn read(
        &self,
        from: TopicPartition,
        start_inclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let (shared, lane) = (Arc::clone(self.shared()), self.open_lane(from)?);
        blocking(move || shared.read(&lane, start_inclusive, bytes_max)).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        let (shared, lane) = (Arc::clone(self.shared()), self.open_lane(of)?);
        blocking(move || shared.range(&lane)).await
    }

    async fn offsets_of(
        &self,
        of: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, OffsetRange)>, ReadError> {
        let lanes = of.iter().map(|at| self.open_lane(*at)).collect::<Result<Vec<_>, _>>()?;
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(self.shared());
        let ranges = blocking(move || shared.ranges(&lanes)).await?;
        Ok(of.iter().copied().zip(ranges).collect())
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.wait_past_any(&[(of, end_exclusive)]).await
    }

    /// The brokers are asked for all of them at once.
    async fn wait_past_any(&self, ends: &[(TopicPartition, u64)]) -> Result<(), ReadError> {
        let lanes = ends.iter().map(|(of, _)| self.lane(*of).cloned()).collect::<Result<Vec<_>, _>>()?;
        let own = lanes.iter().zip(ends).map(|(lane, (_, end))| Box::pin(lane.known_end.wait_past(*end)));
        let mut own: FuturesUnordered<_> = own.collect();
        if own.is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                biased;
                Some(known) = own.next() => return known,
                () = sleep(END_POLL_PERIOD) => {}
            }
            self.shared().check_unchanged()?;
            let (shared, lanes) = (Arc::clone(self.shared()), lanes.clone());
            // Ends that cannot be told now are asked for again: whoever waits has no other use for them.
            if let Err(error) = blocking(move || shared.ends(&lanes, Instant::now() + ASK_WAIT_MAX)).await {
                tracing::trace!(%error, "the ends are not known");
            }
        }
    }

    fn ingest_share(&self) -> Result<watch::Receiver<Vec<TopicPartition>>, ReadError> {
        let mut member = self.member();
        if let Some(member) = &*member {
            return Ok(member.share());
        }
        let control = &self.shared().lanes[Topic::Control as usize][0].topic;
        match Member::join(&self.member_config, control, Topic::ALL.map(|topic| self.partitions(topic))) {
            Ok(joined) => Ok(member.insert(joined).share()),
            Err(error) => {
                tracing::error!(%error, "this process could not join the group of ingest");
                Err(ReadError::Unavailable)
            }
        }
    }

    fn is_share_assigned(&self) -> bool {
        self.member().as_ref().is_some_and(Member::is_assigned)
    }

    fn is_shared(&self) -> bool {
        true
    }

    /// What is not acknowledged within ten seconds is given up.
    fn close(&self) {
        if let Some(member) = self.member().take() {
            end_in_time(move || drop(member));
        }
        self.is_closed.store(true, Ordering::Release);
        self.shared().producer.close(CLOSE_WAIT_MAX);
        self.shared().lanes.iter().flatten().for_each(|lane| lane.known_end.stop());
    }

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.truncate_each_below(&[(of, offset)]).await
    }

    /// Each leader is asked once for all that it leads: a broker answers a connection's requests one after the other, and
    /// this one only when the followers know.
    async fn truncate_each_below(&self, below: &[(TopicPartition, u64)]) -> Result<(), ReadError> {
        let (mut offsets, mut outcome) = (TopicPartitionList::new(), Ok(()));
        for (of, offset) in below {
            let added = self.open_lane(*of).and_then(|lane| {
                let offset = i64::try_from(*offset).map_err(|_| ReadError::Unavailable)?;
                let added = offsets.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(offset));
                added.map_err(|_| ReadError::Unavailable)
            });
            outcome = outcome.and(added);
        }
        if offsets.count() == 0 {
            return outcome;
        }
        let options = AdminOptions::new()
            .request_timeout(Some(ASK_WAIT_MAX))
            .operation_timeout(Some(FOLLOWERS_WAIT_MAX));
        let keeps = match self.admin().delete_records(&offsets, &options).await {
            Ok(deleted) => deleted.elements().iter().any(keeps_records),
            Err(error) => {
                tracing::debug!(%error, "no records were let go of");
                true
            }
        };
        outcome.and(if keeps { Err(ReadError::Unavailable) } else { Ok(()) })
    }
}

/// Whether a leader has not let go of what it was asked to. Above the end there is nothing to let go of, and whoever reads
/// there is told so. When time is up the leader has done it, and not every follower.
fn keeps_records(of: &TopicPartitionListElem<'_>) -> bool {
    let Err(error) = of.error() else { return false };
    let done = [RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::RequestTimedOut];
    let keeps = error.rdkafka_error_code().is_none_or(|code| !done.contains(&code));
    if keeps {
        tracing::debug!(%error, topic = of.topic(), partition = of.partition(), "records were not let go of");
    }
    keeps
}
