//! A session that goes no faster than its principal may.
//!
//! A command waits for its turn before it is taken up: it has no record yet, and so has nothing that could pass unrecorded;
//! what the client sends on is not read meanwhile. Bytes are paid for behind: how many come is known when they have come.
//! So neither side is read until those are paid for, and a session is ahead of its principal's bucket by one read at most.
//! Whatever waits holds up nothing but itself: what was forwarded is answered, kills and cancels come by another way, and
//! a client's farewell needs no turn. A command that is cancelled waits no more, and does not run.

use std::sync::Arc;

use super::{Session, Slowed, Tally};
use crate::Now;
use crate::buckets::{Bucket, Buckets, Turn};
use crate::postgres::frame::Frame;

/// How long to wait at most before looking again whether a turn has come: the pace may have changed, in microseconds.
const LOOK_AGAIN_US_MAX: u64 = 1_000_000;

/// Where the session stands before its principal's buckets.
#[derive(Debug)]
pub(super) struct Pacing {
    buckets: Arc<Buckets>,
    /// The turn of its next command, if that was asked for.
    command: Option<Place>,
    /// The turn after what it has read, unless that has come.
    bytes: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting { turn: Turn, since_us: u64, look_us: u64 },
    Come,
}

impl Place {
    /// A place that was just taken.
    fn of(turn: Turn, bucket: &Bucket, now_us: u64) -> Self {
        match bucket.wait_us(now_us, turn) {
            0 => Self::Come,
            wait_us => Self::Waiting { turn, since_us: now_us, look_us: look_us(now_us, wait_us) },
        }
    }

    /// Looks whether the turn has come. If it just did, gives how long that took.
    fn look(&mut self, bucket: &Bucket, now_us: u64) -> Option<u64> {
        let Self::Waiting { turn, since_us, look_us: look } = self else { return None };
        match bucket.wait_us(now_us, *turn) {
            0 => {
                let waited_us = now_us.saturating_sub(*since_us);
                *self = Self::Come;
                Some(waited_us)
            }
            wait_us => {
                *look = look_us(now_us, wait_us);
                None
            }
        }
    }
}

fn look_us(now_us: u64, wait_us: u64) -> u64 {
    now_us.saturating_add(wait_us.min(LOOK_AGAIN_US_MAX))
}

impl Pacing {
    /// Begins at the end of the queue of bytes: a session of its own is no way around what others owe.
    pub(super) fn new(buckets: Arc<Buckets>, now_us: u64, tally: &mut Tally) -> Self {
        let mut pacing = Self { buckets, command: None, bytes: None };
        pacing.charge_bytes(now_us, 0, tally);
        pacing
    }

    /// Sees whose turn has come.
    pub(super) fn note_time(&mut self, now_us: u64, tally: &mut Tally) {
        if let Some(waited_us) = self.command.as_mut().and_then(|it| it.look(&self.buckets.commands, now_us))
        {
            tally.waited_us.push((Slowed::ByCommands, waited_us));
        }
        if let Some(waited_us) = self.bytes.as_mut().and_then(|it| it.look(&self.buckets.bytes, now_us)) {
            tally.waited_us.push((Slowed::ByBytes, waited_us));
            self.bytes = None;
        }
    }

    /// Whether the next command may be taken up. If it was not asked before, it queues.
    fn has_turn(&mut self, now_us: u64, tally: &mut Tally) -> bool {
        if self.command.is_none() {
            let Some(turn) = self.buckets.commands.take(now_us, 1) else { return true };
            let place = Place::of(turn, &self.buckets.commands, now_us);
            if matches!(place, Place::Waiting { .. }) {
                tally.slowed.push(Slowed::ByCommands);
            }
            self.command = Some(place);
        }
        matches!(self.command, Some(Place::Come))
    }

    /// Whether the next command was kept back, and nothing but its turn is missing.
    pub(super) fn awaits_turn(&self) -> bool {
        matches!(self.command, Some(Place::Waiting { .. }))
    }

    /// A command is recorded. One that came with another, such as statements that are prepared and then left for others,
    /// had no turn: it is paid for by those that follow.
    pub(super) fn spend_turn(&mut self, now_us: u64) {
        if matches!(self.command, Some(Place::Come)) {
            self.command = None;
        } else {
            let _ = self.buckets.commands.take(now_us, 1);
        }
    }

    /// The command that waits is taken up, since it will not run. Its turn is spent all the same.
    pub(super) fn end_turn_wait(&mut self, now_us: u64, tally: &mut Tally) {
        if let Some(Place::Waiting { since_us, .. }) = self.command {
            self.command = Some(Place::Come);
            tally.waited_us.push((Slowed::ByCommands, now_us.saturating_sub(since_us)));
        }
    }

    /// So many bytes were read, of either side.
    pub(super) fn charge_bytes(&mut self, now_us: u64, bytes: usize, tally: &mut Tally) {
        let Some(turn) = self.buckets.bytes.take(now_us, bytes as u64) else { return };
        let next = Place::of(turn, &self.buckets.bytes, now_us);
        match (&mut self.bytes, next) {
            // What came while it waited, on the way already, lengthens the wait.
            (
                Some(Place::Waiting { turn, look_us, .. }),
                Place::Waiting { turn: later, look_us: look, .. },
            ) => {
                (*turn, *look_us) = (later, look);
            }
            (_, Place::Waiting { .. }) => {
                tally.slowed.push(Slowed::ByBytes);
                self.bytes = Some(next);
            }
            (_, Place::Come) => {}
        }
    }

    /// Whether bytes were read that are not paid for.
    pub(super) fn owes_bytes(&self) -> bool {
        self.bytes.is_some()
    }

    /// When to look again whether a turn has come, if one is waited for.
    pub(super) fn look_us(&self) -> Option<u64> {
        let look = |place: &Place| match place {
            Place::Waiting { look_us, .. } => Some(*look_us),
            Place::Come => None,
        };
        self.command.iter().chain(&self.bytes).filter_map(look).min()
    }

    /// The session ends, whatever it waits for.
    pub(super) fn end(&mut self, now_us: u64, tally: &mut Tally) {
        for (place, by) in [(self.command.take(), Slowed::ByCommands), (self.bytes.take(), Slowed::ByBytes)] {
            if let Some(Place::Waiting { since_us, .. }) = place {
                tally.waited_us.push((by, now_us.saturating_sub(since_us)));
            }
        }
    }
}

impl Session {
    /// Whether a message begins a command, or ends one that it has none of, whose turn has not come.
    pub(super) fn must_await_turn(&mut self, now: Now, frame: &Frame) -> bool {
        let is_of_a_command = match frame.tag() {
            _ if self.copying_in.is_some() || self.withdrawn || self.is_of_hold() => false,
            b'E' => true,
            // What is skipped has no record, but for what would run.
            _ if self.client_skips => false,
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'C' => true,
            b'S' | b'H' => !self.pending.is_empty(),
            _ => false,
        };
        is_of_a_command && !self.pacing.has_turn(now.monotonic_us, &mut self.tally)
    }
}
