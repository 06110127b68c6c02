//! How far each stream of this gate is durable, told by its outbox and read by whoever signs heads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use retrace_evidence::Head;
use retrace_proto::{Hash, Id};

/// The streams of a gate that are open, or were when heads were last taken. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct OpenStreams(Arc<Mutex<BTreeMap<Id, Arc<Slot>>>>);

/// One stream's end. Its outbox writes it a few times per exchange, so the lock is all but never waited for.
#[derive(Debug, Default)]
struct Slot {
    durable: Mutex<Option<(u64, Hash)>>,
    is_closed: AtomicBool,
}

impl OpenStreams {
    /// Counts a stream among the open ones, until what is returned is dropped.
    pub(crate) fn open(&self, stream_id: Id) -> StreamEnd {
        let slot = Arc::<Slot>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream_id, slot.clone());
        StreamEnd(slot)
    }

    /// Where each stream with a durable event stands, by stream id. A stream that has closed is in it once more, with its
    /// final head, and then no longer.
    pub(crate) fn take_heads(&self) -> Vec<Head> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heads = Vec::with_capacity(streams.len());
        streams.retain(|stream_id, slot| {
            // Asked first: a stream that closes in between is taken once more.
            let is_closed = slot.is_closed.load(Ordering::Acquire);
            if let Some((end_exclusive, hash)) = *slot.durable.lock().unwrap_or_else(PoisonError::into_inner)
            {
                heads.push(Head::new(*stream_id, end_exclusive, hash));
            }
            !is_closed
        });
        heads
    }
}

/// The outbox's end of an open stream. Dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct StreamEnd(Arc<Slot>);

impl StreamEnd {
    /// Every event below `end_exclusive` is durable, and the last of them has this hash.
    pub(crate) fn moved(&self, end_exclusive: u64, hash: Hash) {
        *self.0.durable.lock().unwrap_or_else(PoisonError::into_inner) = Some((end_exclusive, hash));
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Id {
        Id::from_parts(number, [0; 10])
    }

    fn ends(streams: &OpenStreams) -> Vec<(Id, u64)> {
        streams.take_heads().iter().map(|head| (head.stream_id, head.end_exclusive)).collect()
    }

    #[test]
    fn a_stream_is_named_while_it_is_open_and_once_after() {
        let streams = OpenStreams::default();
        let (second, first) = (streams.open(id(2)), streams.open(id(1)));
        assert_eq!(ends(&streams), [], "nothing of them is durable");
        first.moved(3, Hash::of(b"a"));
        second.moved(1, Hash::of(b"b"));
        assert_eq!(ends(&streams), [(id(1), 3), (id(2), 1)]);
        first.moved(4, Hash::of(b"c"));
        drop(first);
        assert_eq!(ends(&streams), [(id(1), 4), (id(2), 1)]);
        assert_eq!(ends(&streams), [(id(2), 1)]);
        drop(second);
        assert_eq!(ends(&streams), [(id(2), 1)]);
        assert_eq!(ends(&streams), []);
    }
}
