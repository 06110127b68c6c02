//! A long session goes on as another one, so that none grows without end: the connection lives on, its stream does not.

use retrace_proto::wire::{self, session_closed::Reason};
use retrace_proto::{Event, StreamWriter};

use super::{Output, Session, State};
use crate::Now;

impl Session {
    /// Asks for the next stream if this one is long or old enough, at a moment when nothing of it is open.
    pub(super) fn roll_if_due(&mut self, now: Now) {
        if !self.roll_asked && self.is_due(now) && self.is_between_exchanges() {
            self.roll_asked = true;
            self.outputs.push_back(Output::WantsStream);
        }
    }

    fn is_due(&self, now: Now) -> bool {
        self.audit.end() >= self.limits.session_events_max || now.monotonic_us >= self.roll_due_us()
    }

    /// When the session is old enough, on the monotonic clock in microseconds.
    pub(super) fn roll_due_us(&self) -> u64 {
        self.opened_us.saturating_add(self.limits.session_us_max)
    }

    /// Whether every command that was taken up is answered, every answer recorded, and every record durable. A command that
    /// only waits for its turn is of the next exchange: where there is always one, the session still goes on as another.
    pub(super) fn is_between_exchanges(&self) -> bool {
        (self.client_stalled.is_none() || self.pacing.awaits_turn())
            && self.has_no_exchange()
            && self.gate.is_settled()
    }

    /// Whether the client has the answer to everything it asked.
    pub(super) fn is_answered(&self) -> bool {
        self.client_stalled.is_none() && self.has_no_exchange()
    }

    /// Whether nothing is under way but a command that people are to decide about, which takes longer than an end may.
    pub(super) fn only_waits_for_people(&self) -> bool {
        self.is_held() && self.has_nothing_under_way()
    }

    fn has_no_exchange(&self) -> bool {
        self.pending.is_empty() && self.has_nothing_under_way()
    }

    fn has_nothing_under_way(&self) -> bool {
        self.state == State::Open
            && !self.client_done
            && self.expected.is_empty()
            && self.in_flight.is_empty()
            && self.held.is_empty()
            && self.cancel_needs.is_none()
            && self.gate.units().len() == 0
            && !self.gate.replies_wait()
            && self.nothing_to_record()
    }

    /// Closes the stream and goes on with the next one.
    pub(super) fn handle_next_stream(&mut self, now: Now, stream: StreamWriter) {
        self.roll_asked = false;
        if !self.is_due(now) || !self.is_between_exchanges() {
            return;
        }
        let outcome = self.roll(now, stream);
        if let Err(fault) = outcome {
            self.fail(now, fault);
        }
    }

    fn roll(&mut self, now: Now, stream: StreamWriter) -> Result<(), super::refuse::Fault> {
        let closed = wire::SessionClosed {
            reason: Reason::Rolled.into(),
            commands: std::mem::take(&mut self.commands),
            client_bytes: std::mem::take(&mut self.client_bytes),
            target_bytes: std::mem::take(&mut self.target_bytes),
        };
        self.append(now, None, Event::session_closed(closed))?;
        self.tally.closed.push(Reason::Rolled);
        let next = stream.stream_id();
        let before = self.audit.go_on(stream);
        self.gate.begin_stream();
        self.last_answered_seq = None;
        self.opened_us = now.monotonic_us;
        self.outputs.push_back(Output::BeginStream(next));
        let opened = wire::SessionOpened { continues: before.to_bytes(), ..(*self.opened).clone() };
        let event = Event::session_opened(opened, self.asserted.clone(), std::iter::empty().collect());
        self.reply_needs = self.append(now, None, event)?;
        Ok(())
    }
}
