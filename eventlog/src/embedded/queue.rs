use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::append::Resolver;
use crate::contract::UNHURRIED_WAIT_MAX;
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
    unhurried_wait_max: Duration,
}

#[derive(Debug)]
struct State {
    pending: VecDeque<Pending>,
    /// Of what waits and of the group being written.
    bytes: usize,
    is_open: bool,
    /// Whether somebody waits for one of what waits.
    is_hurried: bool,
}

/// When a record is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurry {
    /// As soon as the writer is free.
    Now,
    /// Within [`UNHURRIED_WAIT_MAX`].
    Soon,
}

/// Records that are written together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) records: Vec<Pending>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        let state = State { pending: VecDeque::new(), bytes: 0, is_open: true, is_hurried: false };
        let unhurried_wait_max = UNHURRIED_WAIT_MAX;
        Self { state: Mutex::new(state), arrived: Condvar::new(), bytes_max, unhurried_wait_max }
    }

    /// Queues a record, or refuses it in the call.
    pub(super) fn push(&self, key: Bytes, value: Bytes, hurry: Hurry) -> Append {
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
        let hurries = hurry == Hurry::Now && !std::mem::replace(&mut state.is_hurried, true);
        drop(state);
        // The writer sleeps only on an empty queue, or on one without hurry.
        if was_empty || hurries {
            self.arrived.notify_one();
        }
        append
    }

    /// The oldest records, up to `bytes_max` of them and at least one. Waits for one, and for more where nobody is in a
    /// hurry; `None` once the queue is closed and empty.
    pub(super) fn take_group(&self, bytes_max: usize) -> Option<Group> {
        let empty = |state: &mut State| state.pending.is_empty() && state.is_open;
        let state = self.arrived.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        let unhurried = |state: &mut State| !state.is_hurried && state.is_open;
        let waited = self.arrived.wait_timeout_while(state, self.unhurried_wait_max, unhurried);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut group = Group { records: Vec::new(), bytes: 0 };
        while let Some(next) = state.pending.front() {
            let bytes = group.bytes + next.cost_bytes();
            if bytes > bytes_max && !group.records.is_empty() {
                break;
            }
            group.bytes = bytes;
            group.records.extend(state.pending.pop_front());
        }
        state.is_hurried &= !state.pending.is_empty();
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn push(queue: &Queue, hurry: Hurry) -> Append {
        queue.push(Bytes::new(), Bytes::new(), hurry)
    }

    #[test]
    fn a_hurried_record_takes_those_before_it_along() {
        let queue = Queue::new(usize::MAX);
        let appends = [Hurry::Soon, Hurry::Soon, Hurry::Now].map(|hurry| push(&queue, hurry));
        assert_eq!(queue.take_group(usize::MAX).unwrap().records.len(), appends.len());
        assert!(!queue.lock().is_hurried);
    }

    #[test]
    fn what_a_full_group_leaves_behind_is_still_in_a_hurry() {
        let queue = Queue::new(usize::MAX);
        let _appends = [Hurry::Soon, Hurry::Now].map(|hurry| push(&queue, hurry));
        assert_eq!(queue.take_group(1).unwrap().records.len(), 1);
        assert!(queue.lock().is_hurried);
        assert_eq!(queue.take_group(1).unwrap().records.len(), 1);
    }

    /// How many records a writer takes that waits for more of them longer than any test, once `act` has been.
    fn taken_after(act: impl FnOnce(&Queue)) -> usize {
        let queue = Queue { unhurried_wait_max: Duration::from_secs(3600), ..Queue::new(usize::MAX) };
        let (taken, writer) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let queue = &queue;
            scope.spawn(move || {
                taken.send(queue.take_group(usize::MAX).map_or(0, |group| group.records.len()))
            });
            act(queue);
            let taken = writer.recv_timeout(Duration::from_secs(30));
            queue.fail();
            queue.arrived.notify_one();
            taken.expect("the writer is woken")
        })
    }

    #[test]
    fn a_writer_that_waits_for_more_is_woken_by_a_hurried_record_and_by_the_end() {
        // The writer begins to wait before or after each of the two acts, as the time between them has it.
        for turns in 0..100 {
            let let_pass = || (0..turns * 10_000).for_each(|_| std::hint::spin_loop());
            let taken = taken_after(|queue| {
                let _append = push(queue, Hurry::Soon);
                let_pass();
                let _append = push(queue, Hurry::Now);
            });
            assert!((1..=2).contains(&taken));
            let taken = taken_after(|queue| {
                let _append = push(queue, Hurry::Soon);
                let_pass();
                queue.close();
            });
            assert_eq!(taken, 1);
        }
    }

    #[test]
    fn records_without_hurry_are_written_all_the_same() {
        let queue = Queue::new(usize::MAX);
        let _append = push(&queue, Hurry::Soon);
        assert_eq!(queue.take_group(usize::MAX).unwrap().records.len(), 1);
        let _append = push(&queue, Hurry::Soon);
        queue.close();
        assert_eq!(queue.take_group(usize::MAX).unwrap().records.len(), 1);
        assert!(queue.take_group(usize::MAX).is_none());
    }
}
