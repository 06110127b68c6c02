use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use retrace_proto::Id;
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};

use crate::contract::check_size;
use crate::{Append, AppendError, EventLog, ReadError};

mod faults;
mod state;

pub use faults::{Faults, Gate};
use state::{Fault, Held, State, lock};

/// A log in memory, for tests of everything that uses a log. It is deterministic: no threads, and a clock that stands
/// still until [`MemoryLog::set_now`] moves it.
///
/// Unlike the embedded log it goes on after a failed append, as the contract allows: it is the harder log to be right on.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    partitions: [u32; 2],
    state: Arc<Mutex<State>>,
}

impl MemoryLog {
    /// Where its clock stands at first: 2026-01-01T00:00:00Z.
    pub const STARTS_AT_UNIX_US: i64 = 1_767_225_600_000_000;

    /// A log with one partition per topic.
    #[must_use]
    pub fn new() -> Self {
        Self::with_partitions(1, 1)
    }

    /// A log with so many partitions.
    ///
    /// # Panics
    /// If a topic would have none.
    #[must_use]
    pub fn with_partitions(events: u32, control: u32) -> Self {
        assert!(events > 0 && control > 0, "a topic has at least one partition");
        let partitions = [events, control];
        let all = Topic::ALL.into_iter().zip(partitions).flat_map(|(topic, partitions)| {
            (0..partitions).map(move |partition| TopicPartition { topic, partition })
        });
        Self { partitions, state: Arc::new(Mutex::new(State::new(all, Self::STARTS_AT_UNIX_US))) }
    }

    /// Sets the clock, in microseconds since the Unix epoch. Append times never go backwards, whatever is set.
    pub fn set_now(&self, unix_us: i64) {
        lock(&self.state).now_unix_us = unix_us;
    }

    /// The handle that makes it fail.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults(Arc::clone(&self.state))
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.partitions[topic as usize]
    }

    fn topic_id(&self, topic: Topic) -> Id {
        Id::from_parts(1_767_225_600_000, [topic as u8 + 1; 10])
    }

    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        if let Err(error) = check_size(&key, &value) {
            return Append::ready(Err(error));
        }
        let mut state = lock(&self.state);
        if state.is_closed {
            return Append::ready(Err(AppendError::Closed));
        }
        if !state.partitions.contains_key(&to) {
            return Append::ready(Err(AppendError::Refused));
        }
        let fault = state.script.pop_front().unwrap_or(Fault::Pass);
        let (resolver, append) = Append::waiting();
        let record = Record { offset: 0, appended_at_unix_us: 0, key, value };
        state.accept(Held { to, record, resolver, fault });
        append
    }

    async fn read(
        &self,
        from: TopicPartition,
        start_inclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        lock(&self.state).readable(from)?.read(start_inclusive, bytes_max)
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        Ok(lock(&self.state).readable(of)?.offsets())
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        let past = {
            let state = lock(&self.state);
            let partition = state.partitions.get(&of).ok_or(ReadError::UnknownPartition(of))?;
            partition.end.wait_past(end_exclusive)
        };
        past.await
    }

    /// What a gate holds is refused.
    fn close(&self) {
        lock(&self.state).close();
    }

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        lock(&self.state).readable(of)?.truncate_below(offset);
        Ok(())
    }
}
