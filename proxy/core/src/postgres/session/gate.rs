//! Where commands and responses wait for their records (promise P1).

use std::collections::VecDeque;

use bytes::Bytes;

use super::expect::Expected;

/// Messages for the target that go together, once every event below `needs` is durable.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) needs: u64,
    pub(super) since_us: u64,
    pub(super) bytes: Vec<Bytes>,
    pub(super) expects: Vec<Expected>,
    /// The command whose record it waits for, if it waits for one.
    pub(super) command_seq: Option<u64>,
    /// Whether the client waits for one ReadyForQuery after it.
    pub(super) simple: bool,
}

impl Unit {
    fn len(&self) -> usize {
        self.bytes.iter().map(Bytes::len).sum()
    }
}

/// Bytes for the client that go once every event below `needs` is durable.
#[derive(Debug)]
struct Reply {
    needs: u64,
    since_us: u64,
    bytes: Bytes,
}

/// An event that is sealed and not durable.
#[derive(Debug)]
struct Undurable {
    bytes: usize,
    since_us: u64,
}

/// The two queues and the one position they wait for.
#[derive(Debug, Default)]
pub(super) struct Gate {
    durable_end: u64,
    /// What is sealed and not durable, the first at `durable_end`.
    undurable: VecDeque<Undurable>,
    undurable_bytes: usize,
    to_target: VecDeque<Unit>,
    to_target_bytes: usize,
    to_target_answers: usize,
    to_client: VecDeque<Reply>,
    to_client_bytes: usize,
}

impl Gate {
    /// Every event below `end` is durable.
    pub(super) fn advance(&mut self, end: u64) {
        while self.durable_end < end
            && let Some(event) = self.undurable.pop_front()
        {
            self.undurable_bytes -= event.bytes;
            self.durable_end += 1;
        }
        debug_assert!(self.durable_end >= end, "only what was sealed is durable");
    }

    /// An event was sealed, of this size.
    pub(super) fn push_sealed(&mut self, bytes: usize, since_us: u64) {
        self.undurable.push_back(Undurable { bytes, since_us });
        self.undurable_bytes += bytes;
    }

    /// When the oldest event that is not durable was sealed.
    pub(super) fn undurable_since_us(&self) -> Option<u64> {
        self.undurable.front().map(|event| event.since_us)
    }

    /// Events that are sealed and not durable, in bytes.
    pub(super) fn undurable_bytes(&self) -> usize {
        self.undurable_bytes
    }

    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end
    }

    pub(super) fn push_unit(&mut self, unit: Unit) {
        self.to_target_bytes += unit.len();
        self.to_target_answers += unit.expects.len();
        self.to_target.push_back(unit);
    }

    pub(super) fn push_reply(&mut self, needs: u64, since_us: u64, bytes: Bytes) {
        self.to_client_bytes += bytes.len();
        self.to_client.push_back(Reply { needs, since_us, bytes });
    }

    /// The next unit that may go to the target.
    pub(super) fn pop_unit(&mut self) -> Option<Unit> {
        if self.to_target.front()?.needs > self.durable_end {
            return None;
        }
        let unit = self.to_target.pop_front()?;
        self.to_target_bytes -= unit.len();
        self.to_target_answers -= unit.expects.len();
        Some(unit)
    }

    /// The next bytes that may go to the client.
    pub(super) fn pop_reply(&mut self) -> Option<Bytes> {
        if self.to_client.front()?.needs > self.durable_end {
            return None;
        }
        let reply = self.to_client.pop_front()?;
        self.to_client_bytes -= reply.bytes.len();
        Some(reply.bytes)
    }

    /// Takes away every unit that waits; none of them was forwarded.
    pub(super) fn take_units(&mut self) -> VecDeque<Unit> {
        self.to_target_bytes = 0;
        self.to_target_answers = 0;
        std::mem::take(&mut self.to_target)
    }

    /// Nobody is left to reply to.
    pub(super) fn drop_replies(&mut self) {
        self.to_client.clear();
        self.to_client_bytes = 0;
    }

    /// When what waits longest began to wait.
    pub(super) fn waiting_since_us(&self) -> Option<u64> {
        let unit = self.to_target.front().filter(|unit| unit.needs > self.durable_end);
        let reply = self.to_client.front();
        unit.map(|unit| unit.since_us).into_iter().chain(reply.map(|reply| reply.since_us)).min()
    }

    pub(super) fn replies_wait(&self) -> bool {
        !self.to_client.is_empty()
    }

    pub(super) fn units(&self) -> impl DoubleEndedIterator<Item = &Unit> + ExactSizeIterator {
        self.to_target.iter()
    }

    pub(super) fn to_target_bytes(&self) -> usize {
        self.to_target_bytes
    }

    pub(super) fn to_target_answers(&self) -> usize {
        self.to_target_answers
    }

    pub(super) fn to_client_bytes(&self) -> usize {
        self.to_client_bytes
    }
}
