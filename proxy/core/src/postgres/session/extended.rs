//! The extended protocol: messages that wait for the Execute, Flush or Sync that makes them a unit.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use retrace_policy::decide::{Denial, HELD, STATEMENTS_TOO_LARGE, Verdict};
use retrace_policy::facts::{Facts, Unparsable};
use retrace_policy::statement::redefined_names;
use retrace_proto::wire::{self, command_received::Kind};

use super::client::ASKED_BYTES_MAX;
use super::expect::{Copied, Expect, Expected, Portal, Ran, Statement};
use super::grants::Bound;
use super::record::Command;
use super::refuse::Fault;
use super::{CLIENT_QUEUE_BYTES_MAX, Session};
use crate::Now;
use crate::postgres::frame::Frame;
use crate::postgres::message::{self, Bind, Execute, Named, Parse};

/// Messages that may wait for the Execute, Flush or Sync that makes them a unit.
const PENDING_MESSAGES_MAX: usize = 1024;

impl Session {
    pub(super) fn client_parses(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
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

    pub(super) fn client_binds(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
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
        if !portal.name.is_empty()
            && let verdict @ Verdict::Deny(_) = self.ruled_portal(now, facts_of(&portal))
        {
            return self.deny_bind(now, &portal, frame.wire_len(), &verdict);
        }
        self.push_pending(now, frame, Expect::Bind(Arc::new(portal)))
    }

    /// Refuses to bind a portal with a name.
    fn deny_bind(&mut self, now: Now, portal: &Portal, bytes: usize, verdict: &Verdict) -> Result<(), Fault> {
        self.flush_pending(now)?;
        let command_seq =
            self.record_prepare(now, portal.statement.clone(), Some(portal), (bytes, verdict))?;
        match verdict {
            Verdict::Deny(denial) => self.refuse_extended(now, command_seq, denial),
            Verdict::Allow | Verdict::Hold(_) => Ok(()),
        }
    }

    pub(super) fn client_describes(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
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

    pub(super) fn client_closes(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let named = Named::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        let (Named::Statement(name) | Named::Portal(name)) = named;
        check_name(name)?;
        let expect = match named {
            Named::Statement(name) => Expect::CloseStatement(Bytes::copy_from_slice(name)),
            Named::Portal(name) => Expect::ClosePortal(Bytes::copy_from_slice(name)),
        };
        self.push_pending(now, frame, expect)
    }

    pub(super) fn client_executes(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let execute = Execute::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        check_name(execute.portal)?;
        let portal = self.portal_named(execute.portal);
        if !self.pending_belongs_to(portal.as_ref()) {
            self.flush_pending(now)?;
        }
        let statement = portal.as_ref().and_then(|portal| portal.statement.clone());
        let understood = self.understood_now(portal.as_deref());
        let verdict = self.may_run(now, &understood);
        if let Verdict::Deny(denial) = &verdict {
            return match self.is_of_hold() {
                true => self.deny_granted(now, denial),
                false => self.deny_execute(now, portal.as_deref(), &execute, denial),
            };
        }
        if std::mem::take(&mut self.withdrawn) {
            return self.withdraw_execute(now, portal.as_deref(), &execute, frame.wire_len());
        }
        let facts = understood.facts.as_ref().ok();
        if let Verdict::Hold(terms) = &verdict {
            // Who decides must see what runs, and with which values.
            if statement.is_none() || !self.shows_parameters(portal.as_deref())? {
                return self.deny_execute(now, portal.as_deref(), &execute, &HELD);
            }
            let bytes = self.pending_bytes + frame.wire_len();
            let command_seq = self.record_execute(now, portal.as_deref(), &execute, (bytes, &verdict))?;
            let bound = bound(portal.as_deref(), facts, command_seq);
            let bound_to = self.bound_to(&bound, terms).ok_or(Fault::Seal)?;
            return self.hold_command(now, frame, (command_seq, false), (terms.clone(), bound_to));
        }
        let redefined = statement
            .map(|statement| redefined_names(&statement.sql, self.backslash).into())
            .unwrap_or_default();
        self.describe_unless_asked(execute.portal);
        let (command_seq, chunks) = match self.take_granted() {
            Some(granted) => granted,
            None => {
                let bytes = self.pending_bytes + frame.wire_len();
                let command_seq =
                    self.record_execute(now, portal.as_deref(), &execute, (bytes, &Verdict::Allow))?;
                (command_seq, self.chunks_since(command_seq))
            }
        };
        self.rules.note_run(facts, command_seq);
        self.pending.push(frame.into_bytes());
        let ran = Ran {
            redefined,
            terms: understood.terms.clone(),
            copied: Copied { chunks, ..Copied::default() },
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

    pub(super) fn client_syncs(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
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
        let bytes = self.pending_bytes;
        self.record_prepare(now, bound.or(named), portal.as_deref(), (bytes, &Verdict::Allow))
    }

    pub(super) fn push_pending_unit(&mut self, now: Now, command_seq: u64) {
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

    /// What a client sends on after a refusal is skipped; an Execute among it is recorded as asked and not forwarded.
    pub(super) fn record_skipped(&mut self, now: Now, frame: &Frame) -> Result<(), Fault> {
        if frame.tag() != b'E' {
            return Ok(());
        }
        let execute = Execute::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        // Its Bind was skipped too, so nothing is known of what it would have run.
        let command_seq = self.record_execute(now, None, &execute, (frame.wire_len(), &Verdict::Allow))?;
        self.record_refused(now, command_seq, wire::command_refused::Reason::Skipped, ("", ""))?;
        Ok(())
    }
}

/// What is known of what a portal runs; nothing of a statement that SQL prepared.
fn facts_of(portal: &Portal) -> Result<&Arc<Facts>, Unparsable> {
    match &portal.statement {
        Some(statement) => statement.understood.facts.as_ref().map_err(|why| *why),
        None => Err(Unparsable::Syntax),
    }
}

/// What a grant to run a portal is for: its text, and the values that were bound to it.
fn bound<'a>(portal: Option<&'a Portal>, facts: Option<&'a Arc<Facts>>, command_seq: u64) -> Bound<'a> {
    let statement = portal.and_then(|portal| portal.statement.as_deref());
    Bound {
        facts,
        sql: statement.map_or(&b""[..], |statement| &statement.sql),
        values: portal.and_then(|portal| Bind::behind_names(&portal.bind).ok()).unwrap_or_default(),
        type_oids: statement.map_or(&[][..], |statement| &statement.declared_type_oids),
        command_seq,
    }
}

/// Longest name of a prepared statement or portal, in bytes. PostgreSQL cuts off what is longer, so that two names become
/// one (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.len() > NAME_BYTES_MAX { Err(Fault::NameTooLong) } else { Ok(()) }
}
