//! What the client sends, until it is a unit with its record in the gate.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use retrace_policy::decide::{Denial, STATEMENTS_TOO_LARGE, Verdict};
use retrace_policy::statement::redefined_names;
use retrace_proto::wire::{self, command_received::Kind};

use super::expect::{
    Copied, Expect, Expected, Portal, Ran, Statement, find_portal, find_statement, is_undecided,
};
use super::gate::Unit;
use super::record::Command;
use super::refuse::Fault;
use super::{CLIENT_QUEUE_BYTES_MAX, Session, State};
use crate::Now;
use crate::postgres::frame::Frame;
use crate::postgres::message::{self, Bind, Execute, Named, Parse};

/// Messages that may wait for the Execute, Flush or Sync that makes them a unit.
const PENDING_MESSAGES_MAX: usize = 1024;

/// Statements and bound values that are asked for and not answered, in bytes, above which the target is told to answer and
/// further ones wait for it.
const ASKED_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Session {
    pub(super) fn handle_client_bytes(&mut self, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        self.client_bytes += bytes.len() as u64;
        self.pacing.charge_bytes(now.monotonic_us, bytes.len(), &mut self.tally);
        self.client.push(bytes);
        Ok(())
    }

    /// Takes up the client's messages, as far as they may be.
    pub(super) fn handle_client_frames(&mut self, now: Now) -> Result<(), Fault> {
        while self.state == State::Open && !self.client_done && !self.is_behind() && !self.owes_too_many() {
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
        let command_seq = self.record_command(now, &command)?;
        match verdict {
            Verdict::Allow if std::mem::take(&mut self.withdrawn) => {
                self.refuse_cancelled(now, command_seq, true)
            }
            Verdict::Allow => {
                self.remember_names(&understood);
                let ran = Ran {
                    redefined: redefined_names(sql, self.backslash).into(),
                    terms: understood.terms.clone(),
                    copied: Copied { chunks: self.chunks_since(command_seq), ..Copied::default() },
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

    fn client_parses(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let parse = Parse::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        check_name(parse.name)?;
        // Each statement has a record of its own: planning it can have effects.
        if self
            .pending_expects
            .iter()
            .any(|expected| matches!(expected.expect, Expect::Parse(_) | Expect::Bind(_)))
        {
            self.flush_pending(now)?;
        }
        let bytes = frame.wire_len();
        let understood = self.understand(parse.sql);
        let mut verdict = self.may_prepare(now, &understood);
        if self.confirmed.bytes() + bytes > self.limits.kept_bytes_max {
            verdict = Verdict::Deny(STATEMENTS_TOO_LARGE);
        }
        if let Verdict::Deny(denial) = &verdict {
            self.flush_pending(now)?;
            let command = Command {
                kind: Kind::Prepare,
                statement: parse.sql,
                statement_name: parse.name,
                portal_name: b"",
                parameters: &[],
                verdict: &verdict,
                bytes,
                row_limit: 0,
            };
            let command_seq = self.record_command(now, &command)?;
            return self.refuse_extended(now, command_seq, denial);
        }
        self.remember_parsed(parse.name, &understood);
        let statement = Statement {
            name: Bytes::copy_from_slice(parse.name),
            sql: Bytes::copy_from_slice(parse.sql),
            declared_type_oids: parse.type_oids,
            understood,
            parameter_type_oids: OnceLock::new(),
        };
        self.push_pending(now, frame, Expect::Parse(Arc::new(statement)))
    }

    fn client_binds(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let bind = Bind::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        if self.confirmed.bytes() + frame.wire_len() > self.limits.kept_bytes_max {
            return Err(Fault::KeptTooLarge);
        }
        check_name(bind.portal)?;
        check_name(bind.statement)?;
        let statement = self.statement_named(bind.statement);
        let belongs = self.pending_expects.iter().all(|expected| match &expected.expect {
            Expect::Parse(parsed) => {
                statement.as_ref().is_some_and(|statement| Arc::ptr_eq(parsed, statement))
            }
            Expect::Bind(_) => false,
            _ => true,
        });
        if !belongs {
            self.flush_pending(now)?;
        }
        let portal = Portal {
            name: Bytes::copy_from_slice(bind.portal),
            statement,
            statement_name: Bytes::copy_from_slice(bind.statement),
            bind: Bytes::copy_from_slice(frame.body()),
        };
        self.push_pending(now, frame, Expect::Bind(Arc::new(portal)))
    }

    fn client_describes(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let expect = match Named::decode(frame.body()).map_err(|_| Fault::ClientMessage)? {
            Named::Statement(name) => {
                check_name(name)?;
                Expect::DescribeStatement(self.statement_named(name))
            }
            Named::Portal(name) => {
                check_name(name)?;
                Expect::DescribePortal { name: Bytes::copy_from_slice(name), injected: false }
            }
        };
        self.push_pending(now, frame, expect)
    }

    fn client_closes(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let named = Named::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        let (Named::Statement(name) | Named::Portal(name)) = named;
        check_name(name)?;
        let expect = match named {
            Named::Statement(name) => Expect::CloseStatement(Bytes::copy_from_slice(name)),
            Named::Portal(name) => Expect::ClosePortal(Bytes::copy_from_slice(name)),
        };
        self.push_pending(now, frame, expect)
    }

    fn client_executes(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let execute = Execute::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        check_name(execute.portal)?;
        let portal = self.portal_named(execute.portal);
        if !self.pending_belongs_to(portal.as_ref()) {
            self.flush_pending(now)?;
        }
        let statement = portal.as_ref().and_then(|portal| portal.statement.clone());
        let understood = self.understood_now(portal.as_deref());
        if let Verdict::Deny(denial) = self.may_run(now, &understood) {
            return self.deny_execute(now, portal.as_deref(), &execute, &denial);
        }
        if std::mem::take(&mut self.withdrawn) {
            return self.withdraw_execute(now, portal.as_deref(), &execute, frame.wire_len());
        }
        let redefined = statement
            .map(|statement| redefined_names(&statement.sql, self.backslash).into())
            .unwrap_or_default();
        self.describe_unless_asked(execute.portal);
        let command_seq = {
            let bytes = self.pending_bytes + frame.wire_len();
            self.record_execute(now, portal.as_deref(), &execute, (bytes, &Verdict::Allow))?
        };
        self.pending.push(frame.into_bytes());
        let ran = Ran {
            redefined,
            terms: understood.terms.clone(),
            copied: Copied { chunks: self.chunks_since(command_seq), ..Copied::default() },
            moves: self.rules.moves(understood.facts.as_ref().ok()),
            is_function_call: false,
        };
        self.pending_expects.push(Expected {
            expect: Expect::Execute(Box::new(ran)),
            command_seq: None,
            ends_command: false,
        });
        self.push_pending_unit(now, command_seq);
        Ok(())
    }

    /// Refuses to run a portal; what led to it is a command of its own.
    fn deny_execute(
        &mut self,
        now: Now,
        portal: Option<&Portal>,
        execute: &Execute<'_>,
        denial: &Denial,
    ) -> Result<(), Fault> {
        self.flush_pending(now)?;
        let command_seq = self.record_execute(now, portal, execute, (0, &Verdict::Deny(denial.clone())))?;
        self.refuse_extended(now, command_seq, denial)
    }

    fn client_syncs(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        self.flush_pending(now)?;
        self.client_skips = false;
        let expects = vec![Expected { expect: Expect::Sync, command_seq: None, ends_command: false }];
        self.push_unit(now, vec![frame.into_bytes()], expects, None);
        Ok(())
    }

    /// Whether every statement and portal that is about to be sent is the one that runs.
    fn pending_belongs_to(&self, portal: Option<&Arc<Portal>>) -> bool {
        self.pending_expects.iter().all(|expected| match &expected.expect {
            Expect::Bind(bound) => portal.is_some_and(|portal| Arc::ptr_eq(bound, portal)),
            Expect::Parse(parsed) => portal
                .and_then(|portal| portal.statement.as_ref())
                .is_some_and(|statement| Arc::ptr_eq(parsed, statement)),
            _ => true,
        })
    }

    /// Rows are read by what the target says of their portal right before they come, and by nothing older: SQL can put
    /// another cursor or statement behind a name. Where the client does not ask, the gate does.
    fn describe_unless_asked(&mut self, portal_name: &[u8]) {
        let described_last = self
            .pending_expects
            .iter()
            .rev()
            .take_while(|expected| !matches!(expected.expect, Expect::Bind(_) | Expect::ClosePortal(_)))
            .find_map(|expected| match &expected.expect {
                Expect::DescribePortal { name, .. } => Some(name),
                _ => None,
            });
        if described_last.is_some_and(|name| **name == *portal_name) {
            return;
        }
        self.pending.push(message::describe_portal(portal_name));
        self.pending_expects.push(Expected {
            expect: Expect::DescribePortal { name: Bytes::copy_from_slice(portal_name), injected: true },
            command_seq: None,
            ends_command: false,
        });
    }

    fn push_pending(&mut self, now: Now, frame: Frame, expect: Expect) -> Result<(), Fault> {
        self.pending_bytes += frame.wire_len();
        self.pending.push(frame.into_bytes());
        let expected = Expected { expect, command_seq: None, ends_command: false };
        self.asked_bytes += expected.kept_bytes();
        self.pending_expects.push(expected);
        let is_much =
            self.pending.len() >= PENDING_MESSAGES_MAX || self.pending_bytes >= CLIENT_QUEUE_BYTES_MAX;
        if is_much && !self.withdrawn {
            self.flush_pending(now)?;
        }
        Ok(())
    }

    /// Messages that no Execute came for are a command of their own: they can fail, lock and call functions too.
    pub(super) fn flush_pending(&mut self, now: Now) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let command_seq = self.record_pending(now)?;
        self.push_pending_unit(now, command_seq);
        Ok(())
    }

    /// Records what no Execute came for.
    pub(super) fn record_pending(&mut self, now: Now) -> Result<u64, Fault> {
        let portal = self.pending_expects.iter().find_map(|expected| match &expected.expect {
            Expect::Bind(portal) => Some(portal.clone()),
            _ => None,
        });
        let named = self.pending_expects.iter().find_map(|expected| match &expected.expect {
            Expect::Parse(statement) => Some(statement.clone()),
            Expect::DescribeStatement(statement) => statement.clone(),
            _ => None,
        });
        let bound = portal.as_ref().and_then(|portal| portal.statement.clone());
        self.record_prepare(now, bound.or(named), portal.as_deref(), self.pending_bytes)
    }

    fn push_pending_unit(&mut self, now: Now, command_seq: u64) {
        let mut bytes = std::mem::take(&mut self.pending);
        let mut expects = std::mem::take(&mut self.pending_expects);
        self.pending_bytes = 0;
        for expected in &mut expects {
            expected.command_seq = Some(command_seq);
        }
        if let Some(last) = expects.last_mut() {
            last.ends_command = true;
        }
        if self.asked_bytes >= ASKED_BYTES_MAX {
            // The client may not say so before its batch is whole; the target would keep its answers until then.
            bytes.push(message::flush());
        }
        self.push_unit(now, bytes, expects, Some(command_seq));
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

    /// What a client sends on after a refusal is skipped; an Execute among it is recorded as asked and not forwarded.
    fn record_skipped(&mut self, now: Now, frame: &Frame) -> Result<(), Fault> {
        if frame.tag() != b'E' {
            return Ok(());
        }
        let execute = Execute::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        // Its Bind was skipped too, so nothing is known of what it would have run.
        let command_seq = self.record_execute(now, None, &execute, (frame.wire_len(), &Verdict::Allow))?;
        self.record_refused(now, command_seq, wire::command_refused::Reason::Skipped, ("", ""))?;
        Ok(())
    }

    fn statement_named(&self, name: &[u8]) -> Option<Arc<Statement>> {
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

/// Longest name of a prepared statement or portal, in bytes. PostgreSQL cuts off what is longer, so that two names become
/// one (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.len() > NAME_BYTES_MAX { Err(Fault::NameTooLong) } else { Ok(()) }
}
