//! What the client sends, until it is a unit with its record in the gate.

use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::decide::Verdict;
use retrace_policy::statement::redefined_names;
use retrace_proto::wire::{self, command_received::Kind};

use super::expect::{
    Copied, Expect, Expected, Portal, Ran, Statement, find_portal, find_statement, is_undecided,
};
use super::gate::Unit;
use super::grants::Bound;
use super::record::Command;
use super::refuse::Fault;
use super::{Session, State};
use crate::Now;
use crate::postgres::frame::Frame;
use crate::postgres::message::{self, Bind, Execute, Named};

/// Statements and bound values that are asked for and not answered, in bytes, above which the target is told to answer and
/// further ones wait for it.
pub(super) const ASKED_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Session {
    pub(super) fn handle_client_bytes(&mut self, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        self.client_bytes += bytes.len() as u64;
        self.pacing.charge_bytes(now.monotonic_us, bytes.len(), &mut self.tally);
        self.client.push(bytes);
        Ok(())
    }

    /// Takes up the client's messages, as far as they may be.
    pub(super) fn handle_client_frames(&mut self, now: Now) -> Result<(), Fault> {
        if self.client_gone {
            self.leave_hold(now)?;
        }
        while self.state == State::Open
            && !self.client_done
            && !self.is_held()
            && !self.is_behind()
            && !self.owes_too_many()
        {
            let frame = match self.client_stalled.take() {
                Some(frame) => Some(frame),
                None => self.client.poll_frame().map_err(Fault::ClientFrame)?,
            };
            let Some(frame) = frame else { break };
            if self.must_wait(&frame)?
                || self.must_await_turn(now, &frame)
                || (!self.client_skips && self.must_be_analysed(now, &frame)?)
            {
                self.client_stalled = Some(frame);
                if self.asked_bytes >= ASKED_BYTES_MAX {
                    // Without a Flush behind what was asked, the target may keep its answers.
                    self.flush_pending(now)?;
                }
                break;
            }
            self.take_up(now, frame)?;
        }
        if self.state != State::Open {
            return Ok(());
        }
        self.flush_copied(now)?;
        if self.client_gone && !self.is_behind() && !self.owes_too_many() && self.client_stalled.is_none() {
            self.client_terminates(now)?;
        }
        Ok(())
    }

    /// Whether a message names something that an answer still owed decides about.
    fn must_wait(&self, frame: &Frame) -> Result<bool, Fault> {
        let malformed = |_| Fault::ClientMessage;
        let body = frame.body();
        // What comes behind a COPY from the client is either its data or is not, as the target says.
        if !matches!(frame.tag(), b'H' | b'X') && self.copy_in_is_undecided() {
            return Ok(true);
        }
        if self.copying_in.is_some() {
            return Ok(false);
        }
        let answers_come = !self.expected.is_empty() || self.gate.units().len() > 0;
        if matches!(frame.tag(), b'P' | b'B') && self.asked_bytes >= ASKED_BYTES_MAX && answers_come {
            return Ok(true);
        }
        Ok(match frame.tag() {
            b'B' => self.statement_is_undecided(Bind::statement_name(body).map_err(malformed)?),
            b'E' => self.portal_is_undecided(Execute::decode(body).map_err(malformed)?.portal),
            b'D' => match Named::decode(body).map_err(malformed)? {
                Named::Statement(name) => self.statement_is_undecided(name),
                Named::Portal(_) => false,
            },
            _ => false,
        })
    }

    fn statement_is_undecided(&self, name: &[u8]) -> bool {
        is_undecided(self.newest_first(), |expect| match expect {
            Expect::Parse(statement) => *statement.name == *name,
            Expect::CloseStatement(closed) => **closed == *name,
            Expect::Query(ran) | Expect::Execute(ran) => {
                ran.redefined.iter().any(|other| **other == *name || other == b"all")
            }
            _ => false,
        })
    }

    fn portal_is_undecided(&self, name: &[u8]) -> bool {
        is_undecided(self.newest_first(), |expect| match expect {
            Expect::Bind(portal) => *portal.name == *name,
            // SQL can close a portal and declare a cursor of the same name.
            Expect::Query(_) => !name.is_empty(),
            Expect::ClosePortal(closed) => **closed == *name,
            _ => false,
        })
    }

    /// A client that goes without a word is answered for all the same: what it asked is carried out and recorded, as long as
    /// the answers are no longer than [`ORPHAN_BYTES_MAX`](super::ORPHAN_BYTES_MAX). Beyond that the connection to the target
    /// is closed, which is how a target learns that a client of its own is gone.
    pub(super) fn handle_client_closed(&mut self) -> Result<(), Fault> {
        self.client_gone = true;
        self.gate.drop_replies();
        Ok(())
    }

    pub(super) fn client_terminates(&mut self, now: Now) -> Result<(), Fault> {
        if !self.client_done {
            self.flush_copied(now)?;
            self.client_done = true;
            self.flush_pending(now)?;
            self.push_unit(now, vec![message::terminate()], Vec::new(), None);
        }
        Ok(())
    }

    pub(super) fn handle_client_frame(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        if self.client_skips && !matches!(frame.tag(), b'S' | b'X') {
            self.abandon_hold(now, wire::command_refused::Reason::Skipped)?;
            return self.record_skipped(now, &frame);
        }
        if self.copying_in.is_some() {
            return self.client_copies(now, frame);
        }
        match frame.tag() {
            b'Q' => self.client_queries(now, frame),
            b'P' => self.client_parses(now, frame),
            b'B' => self.client_binds(now, frame),
            b'D' => self.client_describes(now, frame),
            b'C' => self.client_closes(now, frame),
            b'E' => self.client_executes(now, frame),
            b'S' => self.client_syncs(now, frame),
            b'H' => {
                self.flush_pending(now)?;
                self.push_unit(now, vec![frame.into_bytes()], Vec::new(), None);
                Ok(())
            }
            b'F' => self.client_calls_function(now, frame),
            b'X' => self.client_terminates(now),
            // Outside of a COPY a server drops these.
            b'd' | b'c' | b'f' => Ok(()),
            _ => Err(Fault::ClientMessage),
        }
    }

    fn client_queries(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        self.flush_pending(now)?;
        let sql = message::query(frame.body()).map_err(|_| Fault::ClientMessage)?;
        let understood = self.understand(sql);
        let verdict = self.may_run(now, &understood);
        if let Verdict::Deny(denial) = &verdict
            && self.is_of_hold()
        {
            return self.deny_granted(now, denial);
        }
        let command = Command {
            kind: Kind::SimpleQuery,
            statement: sql,
            statement_name: b"",
            portal_name: b"",
            parameters: &[],
            verdict: &verdict,
            bytes: frame.wire_len(),
            row_limit: 0,
        };
        let (command_seq, chunks) = match self.take_granted() {
            Some(granted) => granted,
            None => {
                let command_seq = self.record_command(now, &command)?;
                (command_seq, self.chunks_since(command_seq))
            }
        };
        match verdict {
            Verdict::Allow | Verdict::Hold(_) if std::mem::take(&mut self.withdrawn) => {
                self.refuse_cancelled(now, command_seq, true)
            }
            Verdict::Hold(terms) => {
                let facts = understood.facts.as_ref().ok();
                let bound = Bound { facts, sql, values: b"", type_oids: &[], command_seq };
                let bound_to = self.bound_to(&bound, &terms).ok_or(Fault::Seal)?;
                self.hold_command(now, frame, (command_seq, true), (terms, bound_to))
            }
            Verdict::Allow => {
                self.remember_names(&understood);
                self.rules.note_run(understood.facts.as_ref().ok(), command_seq);
                let ran = Ran {
                    redefined: redefined_names(sql, self.backslash).into(),
                    terms: understood.terms.clone(),
                    copied: Copied { chunks, ..Copied::default() },
                    moves: self.rules.moves(understood.facts.as_ref().ok()),
                    is_function_call: false,
                };
                let expects = vec![Expected {
                    expect: Expect::Query(Box::new(ran)),
                    command_seq: Some(command_seq),
                    ends_command: true,
                }];
                self.push_unit(now, vec![frame.into_bytes()], expects, Some(command_seq));
                Ok(())
            }
            Verdict::Deny(denial) => self.refuse_simple(now, command_seq, &denial),
        }
    }

    /// Puts messages into the gate, behind every event sealed so far that something waits for.
    pub(super) fn push_unit(
        &mut self,
        now: Now,
        bytes: Vec<Bytes>,
        expects: Vec<Expected>,
        command_seq: Option<u64>,
    ) {
        let simple = matches!(expects.first(), Some(Expected { expect: Expect::Query(_), .. }));
        self.gate.push_unit(Unit {
            needs: self.awaited_end,
            since_us: now.monotonic_us,
            bytes,
            expects,
            command_seq,
            simple,
        });
    }

    pub(super) fn statement_named(&self, name: &[u8]) -> Option<Arc<Statement>> {
        find_statement(self.newest_first(), &self.confirmed, name)
    }

    pub(super) fn portal_named(&self, name: &[u8]) -> Option<Arc<Portal>> {
        find_portal(self.newest_first(), &self.confirmed, name)
    }

    /// Everything asked and not answered, the last first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Expected> {
        let waiting = self.gate.units().rev().flat_map(|unit| unit.expects.iter().rev());
        self.pending_expects.iter().rev().chain(waiting).chain(self.expected.iter().rev())
    }
}
