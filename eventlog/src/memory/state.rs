use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use retrace_proto::log::{OffsetRange, Record, TopicPartition};
use tokio::sync::watch;

use crate::append::Resolver;
use crate::durable_end::DurableEnd;
use crate::{AppendError, ReadError};

/// What befalls one append.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Pass,
    Fail(AppendError),
    FailPersisted(AppendError),
    Hang,
}

/// An append that the gate holds back.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) to: TopicPartition,
    pub(super) record: Record,
    pub(super) resolver: Resolver,
    pub(super) fault: Fault,
}

/// Everything the in-memory log knows, under one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    pub(super) script: VecDeque<Fault>,
    pub(super) read_faults: VecDeque<ReadError>,
    pub(super) is_held: bool,
    pub(super) is_closed: bool,
    pub(super) held: VecDeque<Held>,
    pub(super) held_count: watch::Sender<usize>,
    pub(super) now_unix_us: i64,
    hung: Vec<Resolver>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) start: u64,
    pub(super) records: VecDeque<Record>,
    pub(super) end: DurableEnd,
}

/// A test that panicked while it held the lock has failed already; the others may go on.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(partitions: impl Iterator<Item = TopicPartition>, now_unix_us: i64) -> Self {
        let empty = || Partition { start: 0, records: VecDeque::new(), end: DurableEnd::new(0) };
        Self {
            partitions: partitions.map(|partition| (partition, empty())).collect(),
            script: VecDeque::new(),
            read_faults: VecDeque::new(),
            is_held: false,
            is_closed: false,
            held: VecDeque::new(),
            held_count: watch::Sender::new(0),
            now_unix_us,
            hung: Vec::new(),
        }
    }

    /// Queues behind the gate, or settles at once.
    pub(super) fn accept(&mut self, append: Held) {
        if !self.is_held {
            return self.settle(append);
        }
        self.held.push_back(append);
        self.held_count.send_replace(self.held.len());
    }

    pub(super) fn release(&mut self, appends: usize) -> usize {
        let released = appends.min(self.held.len());
        for _ in 0..released {
            let append = self.held.pop_front().expect("as many are held");
            self.settle(append);
        }
        self.held_count.send_replace(self.held.len());
        released
    }

    fn settle(&mut self, append: Held) {
        let Held { to, record, resolver, fault } = append;
        match fault {
            Fault::Pass => {
                let offset = self.write(to, record);
                resolver.resolve(Ok(offset));
            }
            Fault::Fail(error) => resolver.resolve(Err(error)),
            Fault::FailPersisted(error) => {
                self.write(to, record);
                resolver.resolve(Err(error));
            }
            Fault::Hang => self.hung.push(resolver),
        }
    }

    fn write(&mut self, to: TopicPartition, mut record: Record) -> u64 {
        let partition = self.partitions.get_mut(&to).expect("append checked that it is there");
        let offset = partition.end.now();
        record.offset = offset;
        record.appended_at_unix_us =
            partition.records.back().map_or(i64::MIN, |last| last.appended_at_unix_us).max(self.now_unix_us);
        partition.records.push_back(record);
        partition.end.advance(offset + 1);
        offset
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
        for append in self.held.drain(..) {
            append.resolver.resolve(Err(AppendError::Refused));
        }
        self.held_count.send_replace(0);
        self.partitions.values().for_each(|partition| partition.end.stop());
    }

    /// The topic partition, unless the script says that reading fails.
    pub(super) fn readable(&mut self, of: TopicPartition) -> Result<&mut Partition, ReadError> {
        if self.is_closed {
            return Err(ReadError::Closed);
        }
        if let Some(error) = self.read_faults.pop_front() {
            return Err(error);
        }
        self.partitions.get_mut(&of).ok_or(ReadError::UnknownPartition(of))
    }
}

impl Partition {
    pub(super) fn offsets(&self) -> OffsetRange {
        self.start..self.end.now()
    }

    pub(super) fn read(&self, start_inclusive: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let OffsetRange { start, end } = self.offsets();
        if start_inclusive < start {
            return Err(ReadError::BelowStart { start });
        }
        if start_inclusive > end {
            return Err(ReadError::AboveEnd { end });
        }
        let skip = usize::try_from(start_inclusive - start).expect("the records are in memory");
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let is_first = bytes == 0;
            bytes += record.key.len() + record.value.len();
            is_first || bytes <= bytes_max
        };
        Ok(self.records.iter().skip(skip).take_while(fits).cloned().collect())
    }

    pub(super) fn truncate_below(&mut self, offset: u64) {
        let start = offset.clamp(self.start, self.end.now());
        let dropped = usize::try_from(start - self.start).expect("the records are in memory");
        self.records.drain(..dropped);
        self.start = start;
    }
}
