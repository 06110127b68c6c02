//! A cancel request: what runs is cancelled at the target, and what was not taken up yet is refused here.
//!
//! A command that waits for its turn has not been seen by the target, so a cancel that were passed on would find nothing, or
//! the command after it. It is taken up at once instead, recorded as it was asked, and refused as a server does whose
//! statement is cancelled: with 57014, up to the next Sync, and with the transaction that may be open.

use retrace_policy::decide::Verdict;
use retrace_proto::Event;
use retrace_proto::wire::{self, command_refused::Reason};

use super::Session;
use super::expect::{Expect, Expected, Portal};
use super::refuse::Fault;
use crate::Now;
use crate::postgres::frame::Frame;
use crate::postgres::message::{Execute, Severity, error_response};

impl Session {
    pub(super) fn handle_cancel(
        &mut self,
        now: Now,
        control: Option<wire::ControlReference>,
    ) -> Result<(), Fault> {
        let is_idle = self.expected.is_empty() && self.gate.units().len() == 0;
        if self.is_of_hold() && (is_idle || self.is_in_batch_that_runs()) {
            let end = self.append(now, None, Event::cancel_applied(control))?;
            if !is_idle {
                self.cancel_needs = self.cancel_needs.or(Some(end));
            }
            return self.cancel_hold(now);
        }
        let withdraws = self.may_withdraw() && (is_idle || self.is_in_batch_that_runs());
        if (self.cancel_needs.is_some() || self.withdrawn) && !withdraws {
            return Ok(());
        }
        let command_seq = self.in_flight.front().map(|command| command.seq);
        let end = self.append(now, command_seq, Event::cancel_applied(control))?;
        if !(withdraws && is_idle) {
            self.cancel_needs = self.cancel_needs.or(Some(end));
        }
        if withdraws {
            self.pacing.end_turn_wait(now.monotonic_us, &mut self.tally);
            self.withdrawn = self.pending.is_empty();
            self.withdraw_pending(now)?;
        }
        Ok(())
    }

    /// Whether a message waits that begins a command, or is of one that is not whole.
    fn may_withdraw(&self) -> bool {
        let stalled = self.client_stalled.as_ref();
        let is_of_command = stalled.is_some_and(|frame| !matches!(frame.tag(), b'd' | b'c' | b'f' | b'X'));
        is_of_command && !self.client_skips && !self.withdrawn && !self.is_of_hold()
    }

    /// Whether an error of what runs takes with it what waits: no Sync is between them.
    fn is_in_batch_that_runs(&self) -> bool {
        let of_units = || self.gate.units().find_map(|unit| unit.command_seq);
        let Some(runs) = self.in_flight.front().map(|command| command.seq).or_else(of_units) else {
            return false;
        };
        let in_batch = |expected: &&Expected| !matches!(expected.expect, Expect::Sync | Expect::Query(_));
        self.newest_first().take_while(in_batch).any(|expected| expected.command_seq == Some(runs))
    }

    /// Takes up a message of the client, which may be one that was cancelled while it waited.
    pub(super) fn take_up(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        self.handle_client_frame(now, frame)?;
        if std::mem::take(&mut self.withdrawn) {
            self.withdraw_pending(now)?;
        }
        Ok(())
    }

    /// Records what waits for the message that would make it a unit, and refuses it with all that comes up to the Sync.
    fn withdraw_pending(&mut self, now: Now) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let command_seq = self.record_pending(now)?;
        self.drop_pending();
        self.refuse_cancelled(now, command_seq, false)
    }

    /// Records an Execute of what was bound before, and refuses it.
    pub(super) fn withdraw_execute(
        &mut self,
        now: Now,
        portal: Option<&Portal>,
        execute: &Execute<'_>,
        bytes: usize,
    ) -> Result<(), Fault> {
        let command_seq = self.record_execute(now, portal, execute, (bytes, &Verdict::Allow))?;
        self.refuse_cancelled(now, command_seq, false)
    }

    /// Refuses a command that was cancelled before anything of it was forwarded.
    pub(super) fn refuse_cancelled(&mut self, now: Now, command_seq: u64, simple: bool) -> Result<(), Fault> {
        let end = self.record_refused(now, command_seq, Reason::Cancelled, (SQLSTATE, ""))?;
        self.reply_needs = end;
        let error = error_response(Severity::Error, SQLSTATE, CANCELLED, "");
        let unit = self.refusal_unit(now, end, error, simple);
        self.gate.push_unit(unit);
        self.client_skips = !simple;
        Ok(())
    }

    /// Forgets what waits for the message that would make it a unit.
    pub(super) fn drop_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending_expects);
        self.asked_bytes -= pending.iter().map(Expected::kept_bytes).sum::<usize>();
        self.pending.clear();
        self.pending_bytes = 0;
    }
}

/// Query canceled.
const SQLSTATE: &str = "57014";
const CANCELLED: &str = "retrace: the command was cancelled while it waited at the gate; it was not executed";
