//! What passes without being kept, as a target's configuration allows: counted, and hashed under a key.

use retrace_policy::keyed::{HashKey, KeyedHasher};
use retrace_proto::Event;
use retrace_proto::limits::CHUNK_BYTES_MAX;
use retrace_proto::wire::{self, RecordResponses};

use super::Session;
use super::refuse::Fault;
use crate::Now;

/// How much of a session is recorded.
#[derive(Clone, Debug)]
pub struct Recording {
    /// How much of the responses.
    pub responses: RecordResponses,
    /// What becomes of command data beyond [`SessionLimits::command_recorded_bytes_max`](super::SessionLimits).
    pub beyond: Beyond,
    /// The key of hashes over what is not kept.
    pub key: HashKey,
}

/// What becomes of command data that is more than the record takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// The command is refused.
    #[default]
    Refuse,
    /// It passes, hashed and counted.
    Omit,
}

/// What was not kept since this was last said.
#[derive(Debug, Default)]
pub(super) struct Omitted {
    hasher: Option<KeyedHasher>,
    rows: u64,
    bytes: u64,
}

impl Omitted {
    pub(super) fn push(&mut self, key: &HashKey, rows: u64, bytes: &[u8]) {
        self.hasher.get_or_insert_with(|| key.begin()).update(bytes);
        self.rows += rows;
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hasher.is_none()
    }

    /// As a part of a command; `None` if everything was kept.
    pub(super) fn take_command(&mut self, key: &HashKey) -> Option<wire::CommandOmitted> {
        let Self { hasher, bytes, .. } = std::mem::take(self);
        Some(wire::CommandOmitted { data_bytes: bytes, hash: Some(key.finish(hasher?)) })
    }

    /// As a part of a response; `None` if everything was kept.
    fn take_response(&mut self, key: &HashKey) -> Option<wire::ResponseOmitted> {
        let Self { hasher, rows, bytes } = std::mem::take(self);
        Some(wire::ResponseOmitted { rows, row_bytes: bytes, hash: Some(key.finish(hasher?)) })
    }
}

impl Session {
    /// Notes a row that passes, where rows are not kept whole.
    pub(super) fn note_row(&mut self, bytes: &[u8]) {
        if self.recording.responses != RecordResponses::Full {
            self.omitted.push(&self.recording.key, 1, bytes);
        }
    }

    /// Whether as much was left out as one event stands for.
    pub(super) fn omits_a_chunk(&self) -> bool {
        self.omitted.bytes >= CHUNK_BYTES_MAX as u64
    }

    /// Seals what was left out so far of the response that is being answered.
    pub(super) fn record_omitted(&mut self, now: Now) -> Result<(), Fault> {
        if let Some(omitted) = self.omitted.take_response(&self.recording.key) {
            let command_seq = self.in_flight.front().map(|command| command.seq).or(self.last_answered_seq);
            self.append_answer(now, command_seq, Event::response_omitted(omitted))?;
        }
        Ok(())
    }
}
