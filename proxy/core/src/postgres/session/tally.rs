//! What the shell counts of a session, and cannot see by itself.

use retrace_proto::wire::{Mask, MaskKind, command_refused, response_part::Part, session_closed};
use retrace_proto::{CommandTexts, ResponseContent};

use super::Session;

/// Kinds of masks, each at its number.
const KINDS: usize = MaskKind::UnknownOrigin as usize + 1;

/// What slows a session down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slowed {
    /// Its principal sends more commands than it may.
    ByCommands,
    /// More bytes pass than may.
    ByBytes,
}

/// What a session did since the shell last looked; it takes out what it has counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// For each command that was forwarded, how long it had waited for its record, in microseconds.
    pub waits_us: Vec<u64>,
    /// For each command that was refused, why.
    pub refused: Vec<command_refused::Reason>,
    /// For each stream that was closed, why.
    pub closed: Vec<session_closed::Reason>,
    /// Each time that the session began to wait for its principal's buckets, for which.
    pub slowed: Vec<Slowed>,
    /// Each time that it had waited, for which and how long, in microseconds.
    pub waited_us: Vec<(Slowed, u64)>,
    masked: Option<[u64; KINDS]>,
}

impl Tally {
    /// Values that were masked in the record, by kind, and how many no event lists by their kind.
    pub fn take_masked(&mut self) -> impl Iterator<Item = (MaskKind, u64)> + use<> {
        let counts = self.masked.take().into_iter().flatten();
        let kinds = (0..).zip(counts).filter(|(_, count)| *count > 0);
        kinds.map(|(kind, count)| (MaskKind::try_from(kind).unwrap_or(MaskKind::Unspecified), count))
    }

    fn count(&mut self, masks: &[Mask], omitted: u32) {
        if masks.is_empty() && omitted == 0 {
            return;
        }
        let counts = self.masked.get_or_insert_default();
        counts[MaskKind::Unspecified as usize] += u64::from(omitted);
        for mask in masks {
            counts[mask.kind() as usize] += 1;
        }
    }

    /// Counts what was masked in a command.
    pub(super) fn count_command(&mut self, texts: &CommandTexts) {
        self.count(&texts.masks, texts.masks_omitted);
    }

    /// Counts what was masked in a part of a response, or of data that a client copies.
    pub(super) fn count_content(&mut self, content: &ResponseContent) {
        for part in &content.parts {
            match &part.part {
                Some(Part::Rows(rows)) => self.count(&rows.masks, rows.masks_omitted),
                Some(Part::Diagnostic(diagnostic)) => self.count(&diagnostic.masks, 0),
                _ => {}
            }
        }
    }
}

impl Session {
    /// What it did since this was last looked at.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
