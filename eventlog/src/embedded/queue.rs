use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::append::Resolver;
use crate::{Append, AppendError};

/// What a waiting record costs beside its key and value, in bytes: it bounds how many small ones may wait.
const PENDING_OVERHEAD_BYTES: usize = 128;

/// A record that waits for its group.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) resolver: Resolver,
}

impl Pending {
    fn cost_bytes(&self) -> usize {
        self.key.len() + self.value.len() + PENDING_OVERHEAD_BYTES
    }
}

/// The bounded queue between everyone who appends to a topic partition and its one writer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    pending: VecDeque<Pending>,
    /// Of what waits and of the group being written.
    bytes: usize,
    is_open: bool,
}

/// Records that are written together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) records: Vec<Pending>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        let state = State { pending: VecDeque::new(), bytes: 0, is_open: true };
        Self { state: Mutex::new(state), arrived: Condvar::new(), bytes_max }
    }

    /// Queues a record, or refuses it in the call.
    pub(super) fn push(&self, key: Bytes, value: Bytes) -> Append {
        let (resolver, append) = Append::waiting();
        let pending = Pending { key, value, resolver };
        let bytes = pending.cost_bytes();
        let mut state = self.lock();
        if !state.is_open {
            return Append::ready(Err(AppendError::Closed));
        }
        if state.bytes + bytes > self.bytes_max {
            return Append::ready(Err(AppendError::Full));
        }
        state.bytes += bytes;
        state.pending.push_back(pending);
        let was_empty = state.pending.len() == 1;
        drop(state);
        // The writer sleeps only on an empty queue.
        if was_empty {
            self.arrived.notify_one();
        }
        append
    }

    /// The oldest records, up to `bytes_max` of them and at least one. Waits for one; `None` once the queue is closed
    /// and empty.
    pub(super) fn take_group(&self, bytes_max: usize) -> Option<Group> {
        let waits = |state: &mut State| state.pending.is_empty() && state.is_open;
        let mut state = self.arrived.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        let mut group = Group { records: Vec::new(), bytes: 0 };
        while let Some(next) = state.pending.front() {
            let bytes = group.bytes + next.cost_bytes();
            if bytes > bytes_max && !group.records.is_empty() {
                break;
            }
            group.bytes = bytes;
            group.records.extend(state.pending.pop_front());
        }
        (!group.records.is_empty()).then_some(group)
    }

    /// Resolves a group with what became of it, the first record at `first_offset`.
    pub(super) fn resolve(&self, group: Group, outcome: Result<u64, AppendError>) {
        self.lock().bytes -= group.bytes;
        for (index, pending) in (0..).zip(group.records) {
            pending.resolver.resolve(outcome.map(|first_offset| first_offset + index));
        }
    }

    /// Takes no more; what is queued will be written.
    pub(super) fn close(&self) {
        self.lock().is_open = false;
        self.arrived.notify_one();
    }

    /// Takes no more, and refuses what is queued: it will surely not be written.
    pub(super) fn fail(&self) {
        let mut state = self.lock();
        state.is_open = false;
        state.bytes = 0;
        for pending in std::mem::take(&mut state.pending) {
            pending.resolver.resolve(Err(AppendError::Refused));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
