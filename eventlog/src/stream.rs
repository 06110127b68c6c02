use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::Shared;
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::StreamKind;
use retrace_proto::{Envelope, Event, Hash, Id, SealError, Sign, StreamWriter, Subject};
use twox_hash::XxHash64;

use crate::{Append, AppendError, EventLog};

/// The partition of [`Topic::Events`] that a stream keeps for life: XXH64 (seed 0) of its id, modulo `partitions`.
///
/// Every writer uses this one function, so a stream is found where any version put it.
///
/// # Panics
/// If `partitions` is 0.
#[must_use]
pub fn partition_for(stream: Id, partitions: u32) -> u32 {
    assert!(partitions > 0, "a topic has at least one partition");
    let hash = XxHash64::oneshot(0, stream.as_bytes());
    u32::try_from(hash % u64::from(partitions)).expect("a remainder is below its divisor")
}

/// The stream that one process start writes: that it started, what it loaded, whom it refused, what was read of it.
///
/// Sealing and queueing happen under one lock, so the order of the stream is the order of the log. After a record of it
/// failed the stream is poisoned for good: what comes later is refused with [`AppendError::Closed`] and not sealed, since
/// a reader could not tell a gap from a removal.
#[derive(Debug)]
pub struct InstanceStream {
    log: Arc<dyn EventLog>,
    partition: TopicPartition,
    stream_id: Id,
    instance: String,
    clock: fn() -> i64,
    state: Mutex<State>,
}

/// Where the next event of a stream will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextPlace {
    /// Its number.
    pub seq: u64,
    /// The hash of the event before; `None` if it is the first.
    pub prev_hash: Option<Hash>,
    /// Its time, in microseconds since the Unix epoch.
    pub occurred_at_unix_us: i64,
}

#[derive(Debug)]
struct State {
    writer: StreamWriter,
    /// Records not known to be durable, oldest first.
    under_way: VecDeque<Shared<Box<Append>>>,
    is_poisoned: bool,
}

impl InstanceStream {
    /// Begins the stream `stream_id` of the process start called `instance`, with the wall clock in microseconds since
    /// the Unix epoch. The id must be new. Nothing is written yet.
    #[must_use]
    pub fn open(log: Arc<dyn EventLog>, instance: String, clock: fn() -> i64, stream_id: Id) -> Self {
        let partition = partition_for(stream_id, log.partitions(Topic::Events));
        Self::open_at(TopicPartition { topic: Topic::Events, partition }, log, instance, clock, stream_id)
    }

    /// The same in a certain topic partition.
    pub(crate) fn open_at(
        partition: TopicPartition,
        log: Arc<dyn EventLog>,
        instance: String,
        clock: fn() -> i64,
        stream_id: Id,
    ) -> Self {
        let state = State {
            writer: StreamWriter::new(stream_id, StreamKind::Instance),
            under_way: VecDeque::new(),
            is_poisoned: false,
        };
        Self { log, partition, stream_id, instance, clock, state: Mutex::new(state) }
    }

    /// Its id.
    #[must_use]
    pub fn stream_id(&self) -> Id {
        self.stream_id
    }

    /// Where it is written.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        self.partition
    }

    /// Whether a record of it failed. The process should say that it is not ready, and stop.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.lock().observe()
    }

    /// Seals `event` as the stream's next and queues it. `about.proxy_id` is overwritten with the instance's name.
    ///
    /// An event too large to seal is refused with [`AppendError::TooLarge`]; the stream goes on, since it has no gap.
    pub fn record(&self, about: Subject, event: Event) -> Append {
        self.record_with(about, |_place| event)
    }

    /// Like [`InstanceStream::record`], for an event that says where it stands: it is made once that is known. Nothing
    /// else of the stream can be recorded meanwhile.
    pub fn record_with(&self, about: Subject, event: impl FnOnce(NextPlace) -> Event) -> Append {
        self.seal_with(about, |writer, about, place| {
            Envelope::seal(writer, about, None, place.occurred_at_unix_us, event(place))
        })
    }

    /// Like [`InstanceStream::record`], for a control record.
    pub(crate) fn record_signed(&self, about: Subject, event: Event, sign: Sign<'_>) -> Append {
        self.seal_with(about, |writer, about, place| {
            Envelope::seal_signed(writer, about, place.occurred_at_unix_us, event, sign)
        })
    }

    fn seal_with(
        &self,
        mut about: Subject,
        seal: impl FnOnce(&mut StreamWriter, &Subject, NextPlace) -> Result<Envelope, SealError>,
    ) -> Append {
        about.proxy_id.clone_from(&self.instance);
        let mut state = self.lock();
        if state.observe() {
            return Append::ready(Err(AppendError::Closed));
        }
        let occurred_at_unix_us = (self.clock)();
        let place = NextPlace {
            seq: state.writer.next_seq(),
            prev_hash: state.writer.prev_hash(),
            occurred_at_unix_us,
        };
        let envelope = match seal(&mut state.writer, &about, place) {
            Ok(envelope) => envelope,
            Err(SealError::TooLarge { bytes }) => {
                let bytes_max = crate::VALUE_BYTES_MAX;
                return Append::ready(Err(AppendError::TooLarge { bytes, bytes_max }));
            }
        };
        let append = self.log.append(self.partition, self.stream_id.to_bytes(), envelope.bytes().clone());
        let (append, seen) = append.shared();
        state.watch(seen);
        append
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|panicked| {
            let mut state = PoisonError::into_inner(panicked);
            // An event may have been sealed and not queued.
            state.is_poisoned = true;
            state
        })
    }
}

impl State {
    /// Keeps an eye on a record. One that was refused in the call is known at once; the others resolve in order.
    fn watch(&mut self, append: Shared<Box<Append>>) {
        match append.clone().now_or_never() {
            Some(outcome) => self.is_poisoned |= outcome.is_err(),
            None => self.under_way.push_back(append),
        }
    }

    /// Learns what became of the records under way. Whether one failed.
    fn observe(&mut self) -> bool {
        while let Some(outcome) = self.under_way.front().and_then(|append| append.clone().now_or_never()) {
            self.under_way.pop_front();
            self.is_poisoned |= outcome.is_err();
        }
        self.is_poisoned
    }
}
