//! Refusals and ends: what the client is told when a command may not run, the log cannot answer, or a side misbehaves.

use bytes::Bytes;
use retrace_policy::decide::Denial;
use retrace_proto::Event;
use retrace_proto::wire::{self, command_refused, session_closed::Reason};

use super::expect::{Expect, Expected};
use super::gate::Unit;
use super::{Leave, Output, Session, State};
use crate::Now;
use crate::postgres::frame::FrameError;
use crate::postgres::message::{self, Severity, error_response};

/// Why the session cannot go on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The client's bytes cannot be cut.
    ClientFrame(FrameError),
    /// The client sent what the protocol does not have, or not here.
    ClientMessage,
    /// The target's bytes cannot be cut.
    TargetFrame(FrameError),
    /// The target sent what the protocol does not have, or not here.
    TargetMessage,
    /// The target went without a word.
    TargetGone,
    /// The client is gone, and the target goes on answering it.
    ClientGone,
    /// COPY began although no statement said so.
    CopyBegan,
    /// A row of COPY data is longer than the gate takes.
    CopyRowTooLong,
    /// Bound values take more memory than a session may.
    KeptTooLarge,
    /// A name is longer than the target tells apart.
    NameTooLong,
    /// An event could not be sealed.
    Seal,
    /// The instance stops, or the credential ends.
    Shutdown(Leave),
    /// A control record wants the session to end.
    Killed,
}

impl Fault {
    /// The code, the message and the hint for the client, and the reason for the record.
    fn told(&self) -> (&'static str, String, &'static str, Reason) {
        match self {
            Self::ClientFrame(FrameError::TooLong { frame_bytes_max }) => (
                "54000",
                format!("retrace: a message is longer than {frame_bytes_max} bytes"),
                "Send large values in smaller statements.",
                Reason::LimitExceeded,
            ),
            Self::ClientFrame(FrameError::Malformed) | Self::ClientMessage => (
                "08P01",
                "retrace: the client sent a message that the protocol does not allow here".to_owned(),
                "",
                Reason::ProtocolViolation,
            ),
            Self::TargetFrame(FrameError::TooLong { frame_bytes_max }) => (
                "54000",
                format!("retrace: the target sent a message longer than {frame_bytes_max} bytes"),
                "Read large values in pieces, for example with substring().",
                Reason::LimitExceeded,
            ),
            Self::TargetFrame(FrameError::Malformed) | Self::TargetMessage => (
                "08P01",
                "retrace: the target sent a message that the gate does not expect here; outcome unknown"
                    .to_owned(),
                "",
                Reason::ProtocolViolation,
            ),
            Self::TargetGone => (
                "08006",
                "retrace: the target closed the connection; the outcome of an unanswered command is unknown"
                    .to_owned(),
                "",
                Reason::TargetClosed,
            ),
            // Nobody is left to be told.
            Self::ClientGone => ("08006", String::new(), "", Reason::ClientClosed),
            Self::CopyBegan => (
                "0A000",
                "retrace: the target began a COPY that no statement asked for; outcome unknown".to_owned(),
                "",
                Reason::ProtocolViolation,
            ),
            Self::CopyRowTooLong => (
                "54000",
                "retrace: a row of this COPY is longer than the gate takes; outcome unknown".to_owned(),
                "Move large values one by one, for example with INSERT and substring().",
                Reason::LimitExceeded,
            ),
            Self::KeptTooLarge => (
                "54000",
                "retrace: the prepared statements and bound values of this session are too large".to_owned(),
                "Close prepared statements that are no longer needed, and bind smaller values.",
                Reason::LimitExceeded,
            ),
            Self::NameTooLong => (
                "42622",
                "retrace: a name of a prepared statement or portal is longer than 63 bytes".to_owned(),
                "PostgreSQL cuts longer names off, so that two of them become one. Use shorter names.",
                Reason::LimitExceeded,
            ),
            Self::Seal => (
                "XX000",
                "retrace: the gate could not record this command; outcome unknown".to_owned(),
                "",
                Reason::Internal,
            ),
            Self::Shutdown(leave) => leaving(*leave),
            Self::Killed => ("57P01", KILLED.to_owned(), KILLED_HINT, Reason::Killed),
        }
    }
}

fn leaving(leave: Leave) -> (&'static str, String, &'static str, Reason) {
    let (message, hint, reason) = match leave {
        Leave::Instance => (SHUTDOWN, SHUTDOWN_HINT, Reason::Shutdown),
        Leave::Credential => (CREDENTIAL_ENDED, CREDENTIAL_ENDED_HINT, Reason::CredentialEnded),
    };
    ("57P01", message.to_owned(), hint, reason)
}

fn reason_of(denial: &Denial) -> command_refused::Reason {
    match denial.sqlstate {
        "0A000" => command_refused::Reason::Unsupported,
        "54000" => command_refused::Reason::LimitExceeded,
        _ => command_refused::Reason::Denied,
    }
}

impl Session {
    /// Refuses a simple query. The refusal is made real at the target: a Bind that must fail ends a transaction that may
    /// be open, and the Sync behind it brings the target's own transaction status.
    pub(super) fn refuse_simple(&mut self, now: Now, command_seq: u64, denial: &Denial) -> Result<(), Fault> {
        self.refuse_recorded(now, command_seq, (reason_of(denial), denial), true)
    }

    /// Refuses a message of the extended protocol; what the client sends up to its Sync is skipped.
    pub(super) fn refuse_extended(
        &mut self,
        now: Now,
        command_seq: u64,
        denial: &Denial,
    ) -> Result<(), Fault> {
        self.refuse_recorded(now, command_seq, (reason_of(denial), denial), false)
    }

    /// Refuses a command, for this reason and in these words.
    pub(super) fn refuse_recorded(
        &mut self,
        now: Now,
        command_seq: u64,
        (reason, denial): (command_refused::Reason, &Denial),
        simple: bool,
    ) -> Result<(), Fault> {
        let end = self.record_refused(now, command_seq, reason, (denial.sqlstate, &denial.rule))?;
        self.reply_needs = end;
        let error = error_response(Severity::Error, denial.sqlstate, &denial.message, &denial.hint);
        let unit = self.refusal_unit(now, self.audit.end(), error, simple);
        self.gate.push_unit(unit);
        self.client_skips |= !simple;
        Ok(())
    }

    /// Records that a command was refused after a part of it was forwarded.
    pub(super) fn record_refused_after(
        &mut self,
        now: Now,
        command_seq: u64,
        reason: command_refused::Reason,
        sqlstate: &str,
    ) -> Result<u64, Fault> {
        let refused = wire::CommandRefused {
            reason: reason.into(),
            forwarded: command_refused::Forwarded::Unknown.into(),
            sqlstate: sqlstate.to_owned(),
            rule: String::new(),
        };
        self.tally.refused.push(reason);
        self.append(now, Some(command_seq), Event::command_refused(refused))
    }

    pub(super) fn record_refused(
        &mut self,
        now: Now,
        command_seq: u64,
        reason: command_refused::Reason,
        (sqlstate, rule): (&str, &str),
    ) -> Result<u64, Fault> {
        let refused = wire::CommandRefused {
            reason: reason.into(),
            forwarded: command_refused::Forwarded::No.into(),
            sqlstate: sqlstate.to_owned(),
            rule: rule.to_owned(),
        };
        self.tally.refused.push(reason);
        self.append(now, Some(command_seq), Event::command_refused(refused))
    }

    pub(super) fn refusal_unit(&self, now: Now, needs: u64, error: Bytes, simple: bool) -> Unit {
        let mut bytes = vec![message::impossible_bind(&self.impossible_name)];
        let mut expects =
            vec![Expected { expect: Expect::Refusal(error), command_seq: None, ends_command: false }];
        if simple {
            bytes.push(message::sync());
            expects.push(Expected { expect: Expect::Sync, command_seq: None, ends_command: false });
        }
        Unit { needs, since_us: now.monotonic_us, bytes, expects, command_seq: None, simple }
    }

    pub(super) fn handle_deadline(&mut self, now: Now) -> Result<(), Fault> {
        let late = self
            .log_awaited_since_us()
            .is_some_and(|since| now.monotonic_us >= since + self.limits.log_wait_us_max);
        if late {
            return self.log_is_late(now);
        }
        if self.state == State::Open {
            self.end_hold_if_due(now)?;
        }
        let silent = now.monotonic_us >= self.last_target_us + super::SILENCE_US;
        if silent && !self.held.is_empty() && self.state == State::Open {
            return self.cut_chunk(now);
        }
        Ok(())
    }

    /// Whether anything was forwarded whose answer the client does not have. What waits before the first command is only
    /// the end of the login.
    fn outcome_is_open(&self) -> bool {
        let unanswered = !self.expected.is_empty() || self.gate.replies_wait() || !self.held.is_empty();
        unanswered && self.commands > 0
    }

    /// A record is not durable in time. What was not forwarded is refused and the session goes on; if an answer is
    /// open, nobody can say more than that its outcome is unknown.
    fn log_is_late(&mut self, now: Now) -> Result<(), Fault> {
        if self.state != State::Open
            || self.outcome_is_open()
            || self.gate.replies_wait()
            || self.gate.units().len() == 0
            || self.gate.lags()
        {
            self.end_unrecorded(now);
            return Ok(());
        }
        let error = error_response(Severity::Error, "57P03", NOT_EXECUTED, LOG_HINT);
        let units = self.take_units();
        let mut refused_extended = false;
        for unit in units {
            if let Some(command_seq) = unit.command_seq {
                let reason = command_refused::Reason::LogUnavailable;
                self.record_refused(now, command_seq, reason, ("57P03", ""))?;
            }
            let is_sync = matches!(unit.expects.first(), Some(Expected { expect: Expect::Sync, .. }));
            // The refusals go at once: their records queue behind what is late.
            let needs = self.gate.durable_end();
            if unit.simple {
                let refusal = self.refusal_unit(now, needs, error.clone(), true);
                self.gate.push_unit(refusal);
            } else if is_sync || unit.expects.is_empty() {
                refused_extended &= !is_sync;
                self.gate.push_unit(Unit { needs, ..unit });
            } else if !std::mem::replace(&mut refused_extended, true) {
                let refusal = self.refusal_unit(now, needs, error.clone(), false);
                self.gate.push_unit(refusal);
            }
        }
        if let Some((command_seq, simple)) = self.take_hold() {
            // It waits for the same log, and nobody was asked about it yet.
            let reason = command_refused::Reason::LogUnavailable;
            self.record_refused(now, command_seq, reason, ("57P03", ""))?;
            if simple || !refused_extended {
                let refusal = self.refusal_unit(now, self.gate.durable_end(), error.clone(), simple);
                self.gate.push_unit(refusal);
            }
            refused_extended |= !simple;
        }
        if refused_extended {
            // What was sent ahead of an Execute that will be skipped is skipped with it.
            self.client_skips = true;
            self.drop_pending();
        }
        self.reply_needs = self.gate.durable_end();
        Ok(())
    }

    /// The log failed the stream: it gets no further event, so the session ends.
    pub(super) fn log_failed(&mut self, now: Now) {
        self.poisoned = true;
        if self.state != State::Closed {
            self.end_unrecorded(now);
        }
    }

    /// Ends the session although the end of its record is not durable, saying what that means for the client.
    fn end_unrecorded(&mut self, now: Now) {
        let (sqlstate, message) =
            if self.outcome_is_open() { ("08007", OUTCOME_UNKNOWN) } else { ("57P03", NOT_EXECUTED) };
        let open = self.state == State::Open;
        // A session that is ending may still have its last word in the gate.
        let is_owed_a_word = open || self.gate.replies_wait();
        self.held.clear();
        self.held_bytes = 0;
        self.gate.drop_replies();
        if is_owed_a_word && !self.client_gone {
            let error = error_response(Severity::Fatal, sqlstate, message, LOG_HINT);
            self.outputs.push_back(Output::ToClient(error));
        }
        if open {
            // Behind what is late, if the log comes back.
            let _ = self.finish(now, Reason::LogFailed);
            self.held.clear();
            self.gate.drop_replies();
        }
        self.state = State::Closed;
        self.outputs.push_back(Output::Close);
    }

    /// Ends a session that has nothing under way, where it must end. A transaction that is open is rolled back by the target,
    /// as it is when a server stops fast.
    pub(super) fn end_if_drained(&mut self, now: Now) {
        if let Some(leave) = self.draining
            && (self.is_answered() || self.only_waits_for_people())
        {
            self.fail(now, Fault::Shutdown(leave));
            self.release(now);
        }
    }

    /// Ends the session over a fault, with a word to the client behind what it still gets.
    pub(super) fn fail(&mut self, now: Now, fault: Fault) {
        if self.state != State::Open {
            return;
        }
        let (sqlstate, message, hint, reason) = fault.told();
        // What is held has no record yet. It gets one if that can be sealed, else it does not go.
        if matches!(fault, Fault::Seal) || self.cut_chunk(now).is_err() {
            self.held.clear();
            self.held_bytes = 0;
        }
        let error = error_response(Severity::Fatal, sqlstate, &message, hint);
        let needs = self.reply_needs;
        if self.finish(now, reason).is_err() {
            // Not even the end can be recorded: nothing but the error goes.
            self.poisoned = true;
            self.state = State::Closing;
        }
        self.held.clear();
        if !self.client_gone {
            self.gate.push_reply(needs, now.monotonic_us, error);
        }
    }
}

const SHUTDOWN: &str = "retrace: terminating connection due to administrator command";
const SHUTDOWN_HINT: &str =
    "Retrace is shutting down. Connect again: another gate, or this one once it is back, takes you on.";
const CREDENTIAL_ENDED: &str =
    "retrace: terminating connection, since the gate's credential for this target comes to its end";
const CREDENTIAL_ENDED_HINT: &str = "Connect again: the gate has another one by then.";
const KILLED: &str =
    "retrace: this session was killed by an administrator; the outcome of an unanswered command is unknown";
const KILLED_HINT: &str = "Ask whoever runs the gate for the reason.";
const NOT_EXECUTED: &str =
    "retrace: the record of this command could not be made durable in time; it was not executed";
const OUTCOME_UNKNOWN: &str =
    "retrace: the record of this command could not be made durable in time; outcome unknown";
const LOG_HINT: &str =
    "The gate lets nothing pass unrecorded. Try again; if this goes on, look at the gate's log.";
