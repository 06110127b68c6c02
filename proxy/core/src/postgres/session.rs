mod call;
mod cancel;
mod client;
mod copy;
mod expect;
mod extended;
mod gate;
mod grants;
mod hold;
mod interface;
mod omit;
mod opening;
mod pacing;
mod record;
mod refuse;
mod reply;
mod roll;
mod rows;
mod rules;
mod tally;
mod target;
mod understand;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::mask::{ContentBuilder, Masker};
use retrace_policy::statement::Backslash;
use retrace_proto::wire::{self, RecordResponses, command_completed, session_closed};
use retrace_proto::{Event, Masked};

use self::copy::Copying;
use self::expect::{Confirmed, Expected};
use self::gate::Gate;
use self::hold::Held;
use self::omit::Omitted;
use self::pacing::Pacing;
use self::refuse::Fault;
use self::rules::RuleState;
use self::understand::ColumnState;
use super::frame::{CLIENT_FRAME_BYTES_MAX, Frame, Framer, TARGET_FRAME_BYTES_MAX};
use super::types::Settings;
use crate::Now;
use crate::audit::Audit;
use crate::guesses::Guesses;

pub use self::hold::{HeldCommand, Reviewed};
pub use self::interface::{Input, Leave, LogFailure, Output};
pub use self::omit::{Beyond, Recording};
pub use self::opening::{Greeting, Opening, SessionLimits};
pub use self::rules::SessionRules;
pub use self::tally::{Slowed, Tally};
pub use self::understand::{Analysed, Columns};

/// Bytes of a client that wait for their records, above which reading the client stops.
const CLIENT_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Answers owed by the target, above which reading the client stops. With this many on the way, the target has more
/// than its own output buffer to say, so that it says it.
const EXPECTED_ANSWERS_MAX: usize = 4096;

/// Silence of the target after which what it said so far is recorded and passed on, in microseconds.
const SILENCE_US: u64 = 2_000;

/// What a target may answer to a client that is gone, in bytes: enough for what changes something, and too little for one
/// that asked for much and left to keep target and log busy.
const ORPHAN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A command that was forwarded and is not answered yet.
#[derive(Debug, Default)]
struct InFlight {
    seq: u64,
    forwarded_us: u64,
    chunks: u32,
    rows: u64,
    response_bytes: u64,
    failed: bool,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its last event is sealed; recorded replies still go out.
    Closing,
    Closed,
}

/// One client connection to one target: the machine that the module's documentation describes.
///
/// Call [`Session::handle`] with each [`Input`], then [`Session::poll_output`] until it gives `None`.
#[derive(Debug)]
pub struct Session {
    state: State,
    audit: Audit,
    poisoned: bool,
    /// Why it ends once nothing is under way.
    draining: Option<Leave>,
    gate: Gate,
    outputs: VecDeque<Output>,
    masker: Arc<Masker>,
    recording: Recording,
    policy_version: String,
    impossible_name: String,
    limits: SessionLimits,

    client: Framer,
    /// A message of the client that cannot be understood before the target has answered what came before it.
    client_stalled: Option<Frame>,
    client_done: bool,
    client_gone: bool,
    /// What the target has sent since the client is gone.
    orphan_bytes: usize,
    /// Messages that wait for the Execute, Flush or Sync that makes them a unit.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    pending_expects: Vec<Expected>,
    /// A refusal is on its way: what the client sends up to its next Sync is skipped, as a server would.
    client_skips: bool,

    target: Framer,
    target_closed: bool,
    /// The target skips what it gets up to the next Sync.
    target_skips: bool,
    expected: VecDeque<Expected>,
    in_flight: VecDeque<InFlight>,
    /// The command that was answered last.
    last_answered_seq: Option<u64>,
    confirmed: Confirmed,
    settings: Settings,
    backslash: Backslash,
    /// Columns of the result that is being sent, for rows to be read by: as the target described them last.
    layout: Option<Arc<rows::Layout>>,
    /// What statements and bound values take that are asked for and not answered, in bytes.
    asked_bytes: usize,
    content: ContentBuilder,
    /// What the session began with, for the one that goes on from it.
    opened: Box<wire::SessionOpened>,
    asserted: Masked<Vec<wire::Asserted>>,
    opened_us: u64,
    roll_asked: bool,
    columns: ColumnState,
    rules: RuleState,
    /// The command that waits for people, whose message is `client_stalled`.
    hold: Option<Box<Held>>,
    guesses: Arc<Guesses>,
    pacing: Pacing,
    encoding_is_utf8: bool,
    omitted: Omitted,
    copying_in: Option<Box<Copying>>,
    copying_out: Option<Box<Copying>>,
    /// Rows of a COPY from the client that are not sealed yet.
    copied: ContentBuilder,
    /// Bytes for the client whose content is not sealed yet.
    held: Vec<Bytes>,
    held_bytes: usize,
    last_target_us: u64,
    /// Every event below this must be durable before what is held may go.
    reply_needs: u64,
    /// Behind the last event that something waits for.
    awaited_end: u64,
    cancel_needs: Option<u64>,
    /// The message that waits to be taken up was cancelled: it is recorded and refused.
    withdrawn: bool,
    row_scratch: rows::Scratch,

    commands: u64,
    client_bytes: u64,
    target_bytes: u64,
    fatal_passed_on: bool,
    tally: Tally,
}

impl Session {
    /// Opens the session: its first event, and behind it the end of the client's login.
    #[must_use]
    pub fn open(opening: Opening, now: Now) -> Self {
        let Opening {
            stream, subject, masker, recording, greeting, opened, asserted, policy_version, ..
        } = opening;
        let mut tally = Tally::default();
        let opened = wire::SessionOpened { record_responses: recording.responses.into(), ..opened };
        let mut session = Self {
            state: State::Open,
            gate: Gate::new(subject.durability),
            audit: Audit::new(stream, subject),
            poisoned: false,
            draining: None,
            outputs: VecDeque::new(),
            content: ContentBuilder::new(masker.clone(), recording.responses),
            copied: ContentBuilder::new(masker.clone(), RecordResponses::Full),
            masker,
            recording,
            opened: Box::new(opened.clone()),
            asserted: asserted.clone(),
            opened_us: now.monotonic_us,
            roll_asked: false,
            columns: ColumnState::new(opening.has_column_masks),
            rules: RuleState::new(opening.rules, asserted.get()),
            hold: None,
            guesses: opening.guesses,
            pacing: Pacing::new(opening.buckets, now.monotonic_us, &mut tally),
            encoding_is_utf8: true,
            omitted: Omitted::default(),
            copying_in: None,
            copying_out: None,
            policy_version,
            impossible_name: opening.impossible_name,
            limits: opening.limits,
            client: Framer::new(CLIENT_FRAME_BYTES_MAX),
            client_stalled: None,
            client_done: false,
            client_gone: false,
            orphan_bytes: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            pending_expects: Vec::new(),
            client_skips: false,
            target: Framer::new(TARGET_FRAME_BYTES_MAX),
            target_closed: false,
            target_skips: false,
            expected: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_answered_seq: None,
            confirmed: Confirmed::default(),
            settings: Settings::default(),
            backslash: Backslash::Plain,
            layout: None,
            asked_bytes: 0,
            held: Vec::new(),
            held_bytes: 0,
            last_target_us: now.monotonic_us,
            reply_needs: 0,
            awaited_end: 0,
            cancel_needs: None,
            withdrawn: false,
            row_scratch: rows::Scratch::default(),
            commands: 0,
            client_bytes: 0,
            target_bytes: 0,
            fatal_passed_on: false,
            tally,
        };
        session.greet(now, &greeting, opened, asserted);
        session.release(now);
        session
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.gate.note_time(now.monotonic_us);
        self.pacing.note_time(now.monotonic_us, &mut self.tally);
        let outcome = match input {
            Input::Durable { end } => {
                self.gate.advance(end);
                self.gate.note_time(now.monotonic_us);
                Ok(())
            }
            Input::LogFailed(LogFailure::Permanent) => {
                self.log_failed(now);
                Ok(())
            }
            Input::DeadlinePassed => self.handle_deadline(now),
            _ if self.state != State::Open => Ok(()),
            Input::ClientBytes(bytes) => self.handle_client_bytes(now, bytes),
            Input::Analysed(analysed) => {
                self.handle_analysed(now, analysed);
                Ok(())
            }
            Input::Ruled(rules, policy_version) => {
                self.handle_ruled(rules, policy_version);
                Ok(())
            }
            Input::Reviewed(reviewed) => self.handle_reviewed(now, reviewed),
            Input::NextStream(stream) => {
                self.handle_next_stream(now, stream);
                Ok(())
            }
            Input::ClientClosed => self.handle_client_closed(),
            Input::TargetBytes(bytes) => self.handle_target_bytes(now, bytes),
            Input::TargetClosed => {
                self.target_closed = true;
                Ok(())
            }
            Input::CancelRequested(control) => self.handle_cancel(now, control),
            Input::Killed(control) => self.handle_kill(now, control),
            Input::Drain(leave) => {
                self.draining = self.draining.or(Some(leave));
                Ok(())
            }
            Input::OrdersKnown(known) => {
                self.gate.hold_commands(!known);
                Ok(())
            }
            Input::Shutdown(leave) => Err(Fault::Shutdown(leave)),
        };
        if let Err(fault) = outcome.and_then(|()| self.go_on(now)) {
            self.fail(now, fault);
        }
        self.release(now);
        self.end_if_drained(now);
        self.roll_if_due(now);
    }

    /// Takes up messages that have arrived and had to wait.
    fn go_on(&mut self, now: Now) -> Result<(), Fault> {
        self.handle_target_frames(now)?;
        self.handle_client_frames(now)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::DeadlinePassed`] is due, on the monotonic clock in microseconds; `None` while nothing waits.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<u64> {
        if self.state == State::Closed {
            return None;
        }
        let log = self.log_awaited_since_us().map(|since| since + self.limits.log_wait_us_max);
        let holds = self.state == State::Open && !self.held.is_empty();
        let silent = holds.then_some(self.last_target_us + SILENCE_US);
        let lag = self.gate.lag_deadline_us().filter(|_| self.state == State::Open);
        let roll = (!self.roll_asked && self.is_between_exchanges()).then(|| self.roll_due_us());
        let turn = self.pacing.look_us().filter(|_| self.state == State::Open);
        let hold = self.hold_deadline_us().filter(|_| self.state == State::Open);
        log.into_iter().chain(hold).chain(silent).chain(lag).chain(roll).chain(turn).min()
    }

    /// Whether the client's bytes are wanted now.
    #[must_use]
    pub fn wants_client_bytes(&self) -> bool {
        self.state == State::Open
            && !self.client_done
            // While it is held, reading on is how it shows that the client is gone.
            && (self.client_stalled.is_none() || self.is_held())
            && !self.pacing.owes_bytes()
            && !self.is_behind()
            && self.client_queue_bytes() < CLIENT_QUEUE_BYTES_MAX
            && !self.owes_too_many()
            && self.expected.len() + self.gate.units().len() < EXPECTED_ANSWERS_MAX
    }

    /// What of the client waits to be taken up or forwarded. Of a message that is not whole any amount may, up to the longest
    /// that there is.
    fn client_queue_bytes(&self) -> usize {
        let behind_hold = if self.is_held() { self.client.pending_bytes() } else { 0 };
        self.gate.to_target_bytes() + self.pending_bytes + behind_hold
    }

    /// Whether the target's bytes are wanted now; `unsent_bytes` is what the shell has not yet written to the client.
    #[must_use]
    pub fn wants_target_bytes(&self, unsent_bytes: usize) -> bool {
        let held_bytes = self.held_bytes + self.gate.to_client_bytes() + unsent_bytes;
        self.state == State::Open
            && !self.pacing.owes_bytes()
            && !self.is_behind()
            && (self.client_gone || held_bytes < self.limits.held_bytes_max)
    }

    /// Since when something waits for the log: a unit, a reply, or, where the log is behind, both sides.
    fn log_awaited_since_us(&self) -> Option<u64> {
        let behind = self.gate.undurable_since_us().filter(|_| self.is_behind());
        self.gate.waiting_since_us().into_iter().chain(behind).chain(self.hold_awaits_log_since_us()).min()
    }

    /// Whether the log is so far behind that nothing more may be sealed.
    fn is_behind(&self) -> bool {
        self.gate.is_behind()
    }

    /// Whether the target owes so many answers that nothing more is asked of it.
    fn owes_too_many(&self) -> bool {
        self.expected.len() + self.gate.to_target_answers() >= EXPECTED_ANSWERS_MAX
    }

    /// The sequence number below which every event is durable, as far as the session was told.
    #[must_use]
    pub fn durable_end(&self) -> u64 {
        self.gate.durable_end()
    }

    /// Seals an event and hands it out for the log. Returns the end of the stream with it.
    fn append(&mut self, now: Now, command_seq: Option<u64>, event: Event) -> Result<u64, Fault> {
        self.append_as(now, command_seq, event, self.gate.commands_wait())
    }

    /// The same for a part of an answer, which what is held goes behind.
    fn append_answer(&mut self, now: Now, command_seq: Option<u64>, event: Event) -> Result<(), Fault> {
        self.reply_needs = self.append_as(now, command_seq, event, self.gate.responses_wait())?;
        Ok(())
    }

    fn append_as(
        &mut self,
        now: Now,
        command_seq: Option<u64>,
        event: Event,
        awaited: bool,
    ) -> Result<u64, Fault> {
        if !self.poisoned {
            let envelope = self.audit.seal(now, command_seq, event).map_err(|_| Fault::Seal)?;
            self.gate.push_sealed(envelope.bytes().len(), now.monotonic_us);
            self.outputs.push_back(Output::Append { envelope, awaited });
            if awaited {
                self.awaited_end = self.audit.end();
            }
        }
        Ok(self.audit.end())
    }

    /// Lets go what the gate no longer holds.
    fn release(&mut self, now: Now) {
        self.ask_once_recorded();
        while let Some(unit) = self.gate.pop_unit() {
            self.forward(now, unit);
        }
        while let Some(bytes) = self.gate.pop_reply() {
            if !self.client_gone {
                self.outputs.push_back(Output::ToClient(bytes));
            }
        }
        if self.state == State::Open && self.cancel_needs.is_some_and(|needs| self.gate.is_met(needs)) {
            self.cancel_needs = None;
            self.outputs.push_back(Output::ForwardCancel);
        }
        if self.state == State::Closing && !self.gate.replies_wait() {
            self.state = State::Closed;
            self.outputs.push_back(Output::Close);
        }
    }

    /// What runs at the target is cancelled at once: that somebody wants it is durable in the control topic.
    fn handle_kill(&mut self, now: Now, control: wire::ControlReference) -> Result<(), Fault> {
        self.append(now, None, Event::kill_applied(control))?;
        if !self.in_flight.is_empty() {
            self.outputs.push_back(Output::ForwardCancel);
        }
        Err(Fault::Killed)
    }

    /// Seals the session's last events: what is unanswered is abandoned, and the stream is closed.
    fn finish(&mut self, now: Now, reason: session_closed::Reason) -> Result<(), Fault> {
        self.state = State::Closing;
        self.tally.closed.push(reason);
        self.pacing.end(now.monotonic_us, &mut self.tally);
        let refused = match reason {
            session_closed::Reason::Killed => wire::command_refused::Reason::Killed,
            _ => wire::command_refused::Reason::Cancelled,
        };
        self.abandon_hold(now, refused)?;
        for unit in self.take_units() {
            if let Some(command_seq) = unit.command_seq {
                self.record_refused(now, command_seq, refused, ("", ""))?;
            }
        }
        while !self.in_flight.is_empty() {
            self.complete(now, command_completed::Status::Abandoned, "")?;
        }
        let closed = wire::SessionClosed {
            reason: reason.into(),
            commands: self.commands,
            client_bytes: self.client_bytes,
            target_bytes: self.target_bytes,
        };
        self.append(now, None, Event::session_closed(closed))?;
        Ok(())
    }
}
