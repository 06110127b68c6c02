//! Where commands and responses wait for their records (promise P1).

use std::collections::VecDeque;

use bytes::Bytes;
use retrace_proto::wire::Durability;

use super::expect::Expected;

/// Events that may be sealed and not yet durable, in bytes, above which neither side is listened to. A few bytes of a peer
/// can be many of a record.
const UNDURABLE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The same where nothing waits for its record: how far the record may lag behind what passed.
const RELAXED_UNDURABLE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a record may lag behind where nothing waits for it, in microseconds. Then everything waits until it is there.
const RELAXED_LAG_US_MAX: u64 = 1_000_000;

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
#[derive(Debug)]
pub(super) struct Gate {
    /// By the target's durability.
    commands_wait: bool,
    /// For now, whatever that is.
    commands_held: bool,
    responses_wait: bool,
    /// The record lags too far behind what passed without waiting.
    lags: bool,
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
    /// A gate at which nothing waits yet.
    pub(super) fn new(durability: Durability) -> Self {
        Self {
            commands_wait: durability != Durability::Relaxed,
            commands_held: false,
            responses_wait: !matches!(durability, Durability::Relaxed | Durability::Command),
            lags: false,
            durable_end: 0,
            undurable: VecDeque::new(),
            undurable_bytes: 0,
            to_target: VecDeque::new(),
            to_target_bytes: 0,
            to_target_answers: 0,
            to_client: VecDeque::new(),
            to_client_bytes: 0,
        }
    }

    /// Whether commands wait for their records.
    pub(super) fn commands_wait(&self) -> bool {
        self.commands_wait || self.commands_held
    }

    /// Lets commands from now on wait for their records though they need not, or no longer.
    pub(super) fn hold_commands(&mut self, held: bool) {
        self.commands_held = held;
    }

    /// Whether responses do.
    pub(super) fn responses_wait(&self) -> bool {
        self.responses_wait
    }

    /// The stream goes on as another one, of which nothing is sealed yet. All of the old one but its end is durable.
    pub(super) fn begin_stream(&mut self) {
        self.durable_end = 0;
        self.undurable.clear();
        self.undurable_bytes = 0;
    }

    /// Sees whether the record lags too far behind. Where everything waits for its record it cannot.
    pub(super) fn note_time(&mut self, now_us: u64) {
        self.lags = !self.commands_wait()
            && (self.undurable_bytes >= RELAXED_UNDURABLE_BYTES_MAX
                || self.undurable_since_us().is_some_and(|since| now_us >= since + RELAXED_LAG_US_MAX));
    }

    /// Whether the record lags too far behind what passed without waiting.
    pub(super) fn lags(&self) -> bool {
        self.lags
    }

    /// When the record will lag too far behind, if it does not move.
    pub(super) fn lag_deadline_us(&self) -> Option<u64> {
        let waits = self.commands_wait() || self.lags;
        if waits { None } else { self.undurable_since_us().map(|since| since + RELAXED_LAG_US_MAX) }
    }

    /// Whether the log is so far behind that nothing more may be sealed.
    pub(super) fn is_behind(&self) -> bool {
        let bytes_max = if self.commands_wait() { UNDURABLE_BYTES_MAX } else { RELAXED_UNDURABLE_BYTES_MAX };
        self.lags || self.undurable_bytes >= bytes_max
    }

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

    /// Whether every event sealed so far is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.undurable.is_empty()
    }

    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end
    }

    pub(super) fn push_unit(&mut self, mut unit: Unit) {
        if !self.commands_wait() {
            unit.needs = 0;
        }
        self.to_target_bytes += unit.len();
        self.to_target_answers += unit.expects.len();
        self.to_target.push_back(unit);
    }

    pub(super) fn push_reply(&mut self, needs: u64, since_us: u64, bytes: Bytes) {
        let needs = if self.responses_wait { needs } else { 0 };
        self.to_client_bytes += bytes.len();
        self.to_client.push_back(Reply { needs, since_us, bytes });
    }

    /// The next unit that may go to the target.
    pub(super) fn pop_unit(&mut self) -> Option<Unit> {
        if self.lags || self.to_target.front()?.needs > self.durable_end {
            return None;
        }
        let unit = self.to_target.pop_front()?;
        self.to_target_bytes -= unit.len();
        self.to_target_answers -= unit.expects.len();
        Some(unit)
    }

    /// The next bytes that may go to the client.
    pub(super) fn pop_reply(&mut self) -> Option<Bytes> {
        if self.lags || self.to_client.front()?.needs > self.durable_end {
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
        let unit = self.to_target.front().filter(|unit| self.lags || unit.needs > self.durable_end);
        let reply = self.to_client.front();
        unit.map(|unit| unit.since_us).into_iter().chain(reply.map(|reply| reply.since_us)).min()
    }

    /// Whether an event of the session's own acts, such as a cancel, may have its effect.
    pub(super) fn is_met(&self, needs: u64) -> bool {
        !self.commands_wait || needs <= self.durable_end
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
