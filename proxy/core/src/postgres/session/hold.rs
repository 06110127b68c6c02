//! A command that waits for people to decide about it.
//!
//! It is recorded as any other, and goes no further: neither it nor anything of its batch that was not forwarded before it, so
//! that nothing of it keeps locks. The client's next messages queue behind it. Once its record is durable the shell has people
//! asked; once that is durable the client is told. What is granted is decided about once more and then forwarded.
//!
//! Nothing that happens here lets it pass but a grant: a client that goes, a cancel, a kill, the end of its wait and any failure
//! end in its refusal.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retrace_policy::decide::{CHANGED, Denial, Verdict};
use retrace_policy::rules::HoldTerms;
use retrace_proto::wire::review_applied::Outcome;
use retrace_proto::wire::{self, ControlReference, command_refused::Reason};
use retrace_proto::{Event, Hash, Id};

use super::expect::Expect;
use super::refuse::Fault;
use super::{Output, Session};
use crate::Now;
use crate::postgres::frame::Frame;
use crate::postgres::message::notice_response;

/// A command that waits.
#[derive(Debug)]
pub(super) struct Held {
    command: HeldCommand,
    /// Whether it came as a simple query.
    simple: bool,
    /// When it stops waiting, on the monotonic clock in microseconds.
    until_us: u64,
    since_us: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its record is not durable yet.
    Recorded,
    /// People are being asked.
    Asked,
    /// The client was told.
    Told,
    /// It may run.
    Granted,
}

/// What people are asked to decide about.
#[derive(Clone, Debug)]
pub struct HeldCommand {
    /// The stream of its session.
    pub stream_id: Id,
    /// The number of its `CommandReceived`.
    pub command_seq: u64,
    /// How many `CommandChunk` events that has.
    pub chunks: u32,
    /// The hash of the last of these events.
    pub last_hash: Hash,
    /// What a grant is for.
    pub bound_to: wire::KeyedHash,
    /// What the rules ask for, at least one.
    pub terms: Vec<Arc<HoldTerms>>,
    /// Whether a transaction is open meanwhile, or may be.
    pub in_transaction: bool,
    /// The commands before it that may give it another meaning, by the numbers of their `CommandReceived`: the first ones, and 0 if
    /// something of the kind was said at the login.
    pub said_seqs: Vec<u64>,
    /// How many there were.
    pub said: u64,
    /// Hash of the configuration that asks for it.
    pub policy_version: String,
}

/// What becomes of a command that waits, as the shell finds out.
#[derive(Clone, Debug, PartialEq)]
pub enum Reviewed {
    /// That people are to decide is durable.
    Asked {
        /// Which review it is.
        review_id: Id,
    },
    /// They approved.
    Granted {
        /// Which review.
        review_id: Id,
        /// The record that settled it.
        decision: ControlReference,
        /// The record by which this run has the grant, if that is good for one.
        used: Option<ControlReference>,
    },
    /// Somebody rejected it.
    Rejected {
        /// Which review.
        review_id: Id,
        /// The record that says so.
        decision: ControlReference,
    },
    /// The review was withdrawn.
    Withdrawn {
        /// Which review.
        review_id: Id,
    },
    /// Nobody can decide about it any more.
    Lapsed {
        /// Which review.
        review_id: Id,
    },
    /// The log did not take what it must, or nobody knows.
    Unavailable,
    /// Its principal has too many open reviews.
    TooMany,
}

impl HeldCommand {
    /// How long it waits in its client's connection: as long as each rule lets it.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.least(|terms| terms.wait)
    }

    /// How long it may be decided about.
    #[must_use]
    pub fn open(&self) -> Duration {
        self.least(|terms| terms.open)
    }

    /// How long an approval is good.
    #[must_use]
    pub fn grant(&self) -> Duration {
        self.least(|terms| terms.grant)
    }

    /// Whether an approval is good for one run, which any of the rules may want.
    #[must_use]
    pub fn once(&self) -> bool {
        self.terms.iter().any(|terms| terms.once)
    }

    fn least(&self, of: impl Fn(&HoldTerms) -> Duration) -> Duration {
        self.terms.iter().map(|terms| of(terms)).min().unwrap_or_default()
    }
}

impl Session {
    /// Whether the next message of the client waits for people.
    pub(super) fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|held| held.stage != Stage::Granted)
    }

    /// Whether a message was taken up before, and recorded.
    pub(super) fn is_of_hold(&self) -> bool {
        self.hold.is_some()
    }

    /// When the hold ends, or the log is asked whether the command is on record.
    pub(super) fn hold_deadline_us(&self) -> Option<u64> {
        self.hold.as_ref().filter(|held| held.stage != Stage::Granted).map(|held| held.until_us)
    }

    /// Since when the record of what is held is waited for.
    pub(super) fn hold_awaits_log_since_us(&self) -> Option<u64> {
        self.hold.as_ref().filter(|held| held.stage == Stage::Recorded).map(|held| held.since_us)
    }

    /// What was held and may run now has its record, with so many chunks.
    pub(super) fn take_granted(&mut self) -> Option<(u64, u32)> {
        let held = self.hold.take_if(|held| held.stage == Stage::Granted)?;
        Some((held.command.command_seq, held.command.chunks))
    }

    /// What is held is allowed once all was granted that its rules ask for now. They are asked again when it is released, and may
    /// have changed.
    pub(super) fn granted(&self, verdict: Verdict) -> Verdict {
        match (&self.hold, verdict) {
            (Some(held), Verdict::Hold(terms)) if held.stage == Stage::Granted => {
                let is_approved = terms.iter().all(|terms| held.command.terms.contains(terms));
                if is_approved { Verdict::Allow } else { Verdict::Deny(CHANGED) }
            }
            (_, verdict) => verdict,
        }
    }

    /// Holds a command that was just recorded, and its message with it.
    pub(super) fn hold_command(
        &mut self,
        now: Now,
        frame: Frame,
        (command_seq, simple): (u64, bool),
        (terms, bound_to): (Vec<Arc<HoldTerms>>, wire::KeyedHash),
    ) -> Result<(), Fault> {
        let command = HeldCommand {
            stream_id: self.audit.stream_id(),
            command_seq,
            chunks: self.chunks_since(command_seq),
            last_hash: self.audit.last_hash().ok_or(Fault::Seal)?,
            bound_to,
            terms,
            in_transaction: self.may_be_in_transaction(),
            said_seqs: self.rules.said().seqs.clone(),
            said: self.rules.said().count,
            policy_version: self.policy_version.clone(),
        };
        let wait = command.wait().min(command.open());
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.client_stalled = Some(frame);
        self.hold = Some(Box::new(Held {
            simple,
            until_us: now.monotonic_us.saturating_add(wait_us),
            since_us: now.monotonic_us,
            stage: Stage::Recorded,
            command,
        }));
        self.ask_once_recorded();
        Ok(())
    }

    /// Has people asked once what they are to decide about is durable, whatever else may pass without.
    pub(super) fn ask_once_recorded(&mut self) {
        let durable_end = self.gate.durable_end();
        if let Some(held) = &mut self.hold
            && held.stage == Stage::Recorded
            && held.command.command_seq + u64::from(held.command.chunks) < durable_end
        {
            held.stage = Stage::Asked;
            self.outputs.push_back(Output::AskReview(Box::new(held.command.clone())));
        }
    }

    /// Takes in what the shell found out.
    pub(super) fn handle_reviewed(&mut self, now: Now, reviewed: Reviewed) -> Result<(), Fault> {
        let Some(held) = self.hold.as_mut().filter(|held| matches!(held.stage, Stage::Asked | Stage::Told))
        else {
            return Ok(());
        };
        let command_seq = held.command.command_seq;
        match reviewed {
            Reviewed::Asked { review_id } => {
                held.stage = Stage::Told;
                let notice = notice(review_id, &held.command);
                self.say(now, notice)
            }
            Reviewed::Granted { review_id, decision, used } => {
                held.stage = Stage::Granted;
                self.applied(now, command_seq, (review_id, Outcome::Granted), (decision, used))
            }
            Reviewed::Rejected { review_id, decision } => {
                self.applied(now, command_seq, (review_id, Outcome::Rejected), (decision, None))?;
                self.end_hold(now, Reason::Rejected, &rejected(review_id))
            }
            Reviewed::Withdrawn { review_id } => self.end_hold(now, Reason::Withdrawn, &withdrawn(review_id)),
            Reviewed::Lapsed { review_id } => self.end_hold(now, Reason::Lapsed, &lapsed(Some(review_id))),
            Reviewed::Unavailable => self.end_hold(now, Reason::LogUnavailable, &UNAVAILABLE),
            Reviewed::TooMany => self.end_hold(now, Reason::LimitExceeded, &TOO_MANY),
        }
    }

    fn applied(
        &mut self,
        now: Now,
        command_seq: u64,
        (review_id, outcome): (Id, Outcome),
        (decision, used): (ControlReference, Option<ControlReference>),
    ) -> Result<(), Fault> {
        let applied = wire::ReviewApplied {
            review_id: review_id.to_bytes(),
            outcome: outcome.into(),
            decision: Some(decision),
            used,
        };
        self.append(now, Some(command_seq), Event::review_applied(applied)).map(drop)
    }

    /// Says something to the client beside its answers, behind what was said before.
    fn say(&mut self, now: Now, notice: Bytes) -> Result<(), Fault> {
        self.cut_chunk(now)?;
        self.gate.push_reply(self.reply_needs, now.monotonic_us, notice);
        Ok(())
    }

    /// The wait is over.
    pub(super) fn end_hold_if_due(&mut self, now: Now) -> Result<(), Fault> {
        match self.hold_deadline_us() {
            Some(until_us) if now.monotonic_us >= until_us => {
                self.end_hold(now, Reason::Lapsed, &lapsed(None))
            }
            _ => Ok(()),
        }
    }

    /// The target skips what comes up to the next Sync, and so what is held of the same batch.
    pub(super) fn skip_hold(&mut self, now: Now) -> Result<(), Fault> {
        let ends_batch = |expect: &Expect| matches!(expect, Expect::Sync | Expect::Query(_));
        let is_of_batch = !self.newest_first().any(|expected| ends_batch(&expected.expect));
        if let Some(held) = self.hold.take_if(|held| is_of_batch && !held.simple) {
            self.outputs.push_back(Output::LeaveReview);
            self.record_refused(now, held.command.command_seq, Reason::Skipped, ("", ""))?;
            self.client_stalled = None;
            self.drop_pending();
            self.client_skips = true;
        }
        Ok(())
    }

    /// The client cancels what is held. It does not run, and nobody is to decide about it any more.
    pub(super) fn cancel_hold(&mut self, now: Now) -> Result<(), Fault> {
        self.outputs.push_back(Output::WithdrawReview);
        self.end_hold(now, Reason::Withdrawn, &CANCELLED)
    }

    /// Nobody is there any more to run it for. It may be decided about all the same, for whoever asks again.
    pub(super) fn leave_hold(&mut self, now: Now) -> Result<(), Fault> {
        if let Some(held) = self.hold.take() {
            self.outputs.push_back(Output::LeaveReview);
            self.client_stalled = None;
            self.client.clear();
            self.drop_pending();
            self.record_refused(now, held.command.command_seq, Reason::Withdrawn, ("", ""))?;
        }
        Ok(())
    }

    /// Records that what is held does not run, as the session ends.
    pub(super) fn abandon_hold(&mut self, now: Now, reason: Reason) -> Result<(), Fault> {
        if let Some(held) = self.hold.take() {
            self.outputs.push_back(Output::LeaveReview);
            self.record_refused(now, held.command.command_seq, reason, ("", ""))?;
        }
        Ok(())
    }

    /// Takes away what is held and its message, which is refused by who calls. Gives its number, and whether it is a simple query.
    pub(super) fn take_hold(&mut self) -> Option<(u64, bool)> {
        let held = self.hold.take()?;
        self.outputs.push_back(Output::LeaveReview);
        self.client_stalled = None;
        Some((held.command.command_seq, held.simple))
    }

    /// Refuses what is held.
    fn end_hold(&mut self, now: Now, reason: Reason, denial: &Denial) -> Result<(), Fault> {
        let Some((command_seq, simple)) = self.take_hold() else { return Ok(()) };
        if !simple {
            // What led to it is a command of its own, as it is where a rule denies.
            self.flush_pending(now)?;
        }
        self.refuse_recorded(now, command_seq, (reason, denial), simple)
    }

    /// Refuses what was granted and is now denied after all.
    pub(super) fn deny_granted(&mut self, now: Now, denial: &Denial) -> Result<(), Fault> {
        self.end_hold(now, Reason::Denied, denial)
    }
}

/// What the client is told.
fn notice(review_id: Id, command: &HeldCommand) -> Bytes {
    let texts: Vec<_> = command.terms.iter().map(|terms| terms.text.as_str()).collect();
    let message = format!("retrace: held for review {review_id}: {}", texts.join("; "));
    let asks = |terms: &Arc<HoldTerms>| {
        let reviewers: Vec<_> = terms.reviewers.iter().map(ToString::to_string).collect();
        let of = match terms.approvals {
            1 => "an approval of".to_owned(),
            count => format!("{count} approvals of"),
        };
        format!("The rule \"{}\" asks for {of} {}.", terms.rule, reviewers.join(" or "))
    };
    let mut detail: Vec<_> = command.terms.iter().map(asks).collect();
    detail.push(format!(
        "It waits {}, and may be decided for {}.",
        humantime::format_duration(command.wait()),
        humantime::format_duration(command.open()),
    ));
    if command.in_transaction {
        detail.push("The transaction stays open meanwhile, with its locks.".to_owned());
    }
    let hint = format!("Reviewers: retrace reviews {review_id}, then retrace approve or reject.");
    notice_response("01000", &message, &detail.join(" "), &hint)
}

fn rejected(review_id: Id) -> Denial {
    Denial {
        rule: "".into(),
        sqlstate: "42501",
        message: format!("retrace: review {review_id} rejected this; it was not executed").into(),
        hint: "retrace reviews says who, and why.".into(),
    }
}

fn withdrawn(review_id: Id) -> Denial {
    Denial {
        rule: "".into(),
        sqlstate: "57014",
        message: format!("retrace: review {review_id} was withdrawn; it was not executed").into(),
        hint: "Send it again to have it reviewed again.".into(),
    }
}

fn lapsed(review_id: Option<Id>) -> Denial {
    let which = review_id.map(|id| format!(" of review {id}")).unwrap_or_default();
    Denial {
        rule: "".into(),
        sqlstate: "57014",
        message: format!("retrace: nobody decided in time{which}; it was not executed").into(),
        hint: "Send it again: it runs at once if it was approved meanwhile, and else is held again.".into(),
    }
}

const CANCELLED: Denial = Denial {
    rule: std::borrow::Cow::Borrowed(""),
    sqlstate: "57014",
    message: std::borrow::Cow::Borrowed(
        "retrace: the command was cancelled while it waited for its review; it was not executed",
    ),
    hint: std::borrow::Cow::Borrowed(""),
};

const UNAVAILABLE: Denial = Denial {
    rule: std::borrow::Cow::Borrowed(""),
    sqlstate: "57P03",
    message: std::borrow::Cow::Borrowed(
        "retrace: this needs a review, and what belongs to it could not be made durable; it was not executed",
    ),
    hint: std::borrow::Cow::Borrowed("Try again; if this goes on, look at the gate's log."),
};

const TOO_MANY: Denial = Denial {
    rule: std::borrow::Cow::Borrowed(""),
    sqlstate: "54000",
    message: std::borrow::Cow::Borrowed(
        "retrace: this needs a review, and you have as many open ones as you may; it was not executed",
    ),
    hint: std::borrow::Cow::Borrowed("Wait until some are decided, or cancel what waits."),
};
