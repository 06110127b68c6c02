//! What the target answers: matched to what was asked, masked, recorded, held until the record is durable.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::columns::Diagnostics;
use retrace_policy::statement::Backslash;
use retrace_proto::wire::{self, command_completed::Status, session_closed::Reason};
use retrace_proto::{Event, Masked};

use super::expect::{Expect, Expected};
use super::gate::Unit;
use super::refuse::Fault;
use super::rules::Moves;
use super::{Greeting, InFlight, Session, State, rows};
use crate::Now;
use crate::postgres::frame::{Frame, Reader};
use crate::postgres::message;

impl Session {
    /// The first event, and what ends the client's login once it is durable.
    pub(super) fn greet(
        &mut self,
        now: Now,
        greeting: &Greeting,
        opened: wire::SessionOpened,
        asserted: Masked<Vec<wire::Asserted>>,
    ) {
        const AUTHENTICATION_OK: &[u8] = b"R\x00\x00\x00\x08\x00\x00\x00\x00";
        const READY_FOR_QUERY_IDLE: &[u8] = b"Z\x00\x00\x00\x05I";
        self.hold(Bytes::from_static(AUTHENTICATION_OK));
        let mut settings = Vec::with_capacity(greeting.settings.len());
        for (name, value) in &greeting.settings {
            self.note_setting(name, value);
            let (masked, for_client) = self.masker.mask_setting(name, value);
            settings.push(masked);
            self.hold(message::parameter_status(name, for_client.as_deref().unwrap_or(value)));
        }
        self.hold(message::backend_key_data(&greeting.cancel_key));
        self.hold(Bytes::from_static(READY_FOR_QUERY_IDLE));
        let event = Event::session_opened(opened, asserted, settings.into_iter().collect());
        match self.append(now, None, event) {
            Ok(end) => self.reply_needs = end,
            Err(fault) => return self.fail(now, fault),
        }
        self.let_go_held(now);
    }

    /// Writes a unit to the target and owes the client its answers.
    pub(super) fn forward(&mut self, now: Now, unit: Unit) {
        if self.target_skips && self.expected.is_empty() && unit.simple && unit.command_seq.is_none() {
            // The target skips up to the client's own Sync, and so must what stands for the client's message.
            return;
        }
        for bytes in unit.bytes {
            self.outputs.push_back(super::Output::ToTarget(bytes));
        }
        if let Some(seq) = unit.command_seq {
            self.tally.waits_us.push(now.monotonic_us.saturating_sub(unit.since_us));
            self.in_flight.push_back(InFlight { seq, forwarded_us: now.monotonic_us, ..InFlight::default() });
        }
        self.expected.extend(unit.expects);
        if self.target_skips
            && let Err(fault) = self.pop_to_sync(now)
        {
            self.fail(now, fault);
        }
    }

    pub(super) fn handle_target_bytes(&mut self, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        self.target_bytes += bytes.len() as u64;
        self.pacing.charge_bytes(now.monotonic_us, bytes.len(), &mut self.tally);
        self.last_target_us = now.monotonic_us;
        if self.client_gone {
            self.orphan_bytes += bytes.len();
            if self.orphan_bytes > super::ORPHAN_BYTES_MAX {
                return Err(Fault::ClientGone);
            }
        }
        self.target.push(bytes);
        Ok(())
    }

    /// Takes up the target's messages, as far as they may be.
    pub(super) fn handle_target_frames(&mut self, now: Now) -> Result<(), Fault> {
        while self.state == State::Open
            && !self.is_behind()
            && let Some(frame) = self.target.poll_frame().map_err(Fault::TargetFrame)?
        {
            if let Some(command) = self.in_flight.front_mut() {
                command.response_bytes += frame.wire_len() as u64;
            }
            self.handle_target_frame(now, frame)?;
        }
        if self.nothing_to_record() {
            self.let_go_held(now);
        }
        if self.target_closed && !self.is_behind() && self.state == State::Open {
            return self.end_with_target(now);
        }
        Ok(())
    }

    fn end_with_target(&mut self, now: Now) -> Result<(), Fault> {
        if self.client_done {
            return self.finish(now, Reason::ClientClosed);
        }
        if !self.fatal_passed_on {
            return Err(Fault::TargetGone);
        }
        self.finish(now, Reason::TargetClosed)
    }

    fn handle_target_frame(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        match frame.tag() {
            b'D' => self.target_sends_row(now, frame),
            b'C' => self.target_ends_statement(now, frame),
            b'T' => self.target_describes_rows(now, frame),
            b'Z' => self.target_is_ready(now, frame),
            b'1' | b'2' | b'3' => self.target_confirms(now, frame),
            b'n' => self.target_has_no_rows(now, frame),
            b't' => self.target_describes_parameters(now, frame),
            b's' => {
                self.content.portal_suspended();
                self.end_execute(now, frame.into_bytes(), Status::Suspended)
            }
            b'I' => {
                self.content.empty_query();
                self.end_execute(now, frame.into_bytes(), Status::Ok)
            }
            b'E' | b'N' => self.target_reports(now, frame),
            b'S' => self.target_changes_setting(now, frame),
            b'A' => self.target_notifies(now, &frame),
            b'G' | b'H' => self.target_begins_copy(frame),
            b'd' => self.target_sends_copy_data(now, frame),
            b'c' => self.target_ends_copy(now, frame),
            b'V' => self.target_returns(now, frame),
            b'W' => Err(Fault::CopyBegan),
            _ => Err(Fault::TargetMessage),
        }
    }

    fn target_sends_row(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        // Every Execute has its portal described right before it. A description alone asks for no rows.
        let answers = self
            .expected
            .front()
            .is_some_and(|it| matches!(it.expect, Expect::Query(_) | Expect::Execute(_)));
        let Some(layout) = self.layout.clone().filter(|_| answers) else { return Err(Fault::TargetMessage) };
        if let Some(command) = self.in_flight.front_mut() {
            command.rows += 1;
        }
        self.note_row(frame.wire_bytes());
        let bytes = rows::pass(&mut self.content, &mut self.row_scratch, &layout, &self.settings, frame)?;
        self.record_full(now)?;
        self.hold(bytes);
        Ok(())
    }

    fn target_describes_rows(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let described = message::row_description(frame.body()).map_err(|_| Fault::TargetMessage)?;
        let layout = Arc::new(self.layout_of(&described));
        let bytes = match self.content.columns(described) {
            Some(names) => message::rename_columns(frame.body(), &names).map_err(|_| Fault::TargetMessage)?,
            None => frame.bytes(),
        };
        match self.expected.front().map(|expected| &expected.expect) {
            Some(Expect::Query(_)) => {
                self.layout = Some(layout);
                self.record_full(now)?;
                self.hold(bytes);
                Ok(())
            }
            Some(Expect::DescribeStatement(_)) => {
                self.record_full(now)?;
                self.hold(bytes);
                self.answered(now)
            }
            Some(Expect::DescribePortal { injected, .. }) => {
                let injected = *injected;
                self.record_full(now)?;
                if !injected {
                    self.hold(bytes);
                }
                self.layout = Some(layout);
                self.answered(now)
            }
            _ => Err(Fault::TargetMessage),
        }
    }

    fn target_has_no_rows(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        match self.expected.front().map(|expected| &expected.expect) {
            Some(Expect::DescribeStatement(_)) => self.hold(frame.into_bytes()),
            Some(Expect::DescribePortal { injected, .. }) => {
                if !*injected {
                    self.hold(frame.into_bytes());
                }
                self.layout = None;
            }
            _ => return Err(Fault::TargetMessage),
        }
        self.answered(now)
    }

    fn target_describes_parameters(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let oids = message::parameter_description(frame.body()).map_err(|_| Fault::TargetMessage)?;
        let Some(Expected { expect: Expect::DescribeStatement(statement), .. }) = self.expected.front()
        else {
            return Err(Fault::TargetMessage);
        };
        if let Some(statement) = statement {
            let _ = statement.parameter_type_oids.set(oids.clone());
        }
        self.content.parameter_types(oids);
        self.record_full(now)?;
        self.hold(frame.into_bytes());
        Ok(())
    }

    /// ParseComplete, BindComplete, CloseComplete.
    fn target_confirms(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        match (frame.tag(), self.expected.front().map(|expected| &expected.expect)) {
            (b'1', Some(Expect::Parse(statement))) => self.confirmed.insert_statement(statement.clone()),
            (b'2', Some(Expect::Bind(portal))) => self.confirmed.insert_portal(portal.clone()),
            (b'3', Some(Expect::CloseStatement(name))) => self.confirmed.remove_statement(name),
            (b'3', Some(Expect::ClosePortal(name))) => self.confirmed.remove_portal(name),
            _ => return Err(Fault::TargetMessage),
        }
        self.hold(frame.into_bytes());
        self.answered(now)
    }

    fn target_ends_statement(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let mut reader = Reader::new(frame.body());
        let tag = reader.c_str().map_err(|_| Fault::TargetMessage)?;
        self.forget_redefined(tag);
        self.end_copy();
        self.note_tag(tag);
        let bytes = match self.content.command_tag(tag) {
            Some(masked) => message::command_complete(&masked),
            None => frame.into_bytes(),
        };
        self.end_execute(now, bytes, Status::Ok)
    }

    /// SQL has its own ways to give a name another meaning. What is not known for sure is forgotten.
    fn forget_redefined(&mut self, tag: &[u8]) {
        let redefined = match self.expected.front_mut().map(|expected| &mut expected.expect) {
            Some(Expect::Query(ran) | Expect::Execute(ran))
                if matches!(tag, b"DEALLOCATE" | b"PREPARE" | b"DEALLOCATE ALL") =>
            {
                ran.redefined.pop_front()
            }
            _ => None,
        };
        match (tag, redefined) {
            (b"DEALLOCATE" | b"PREPARE", Some(name)) if name != b"all" => {
                self.confirmed.remove_statement(&name);
            }
            (b"DEALLOCATE" | b"PREPARE" | b"DEALLOCATE ALL" | b"DISCARD ALL", _) => {
                self.confirmed.clear_statements();
            }
            (b"CLOSE CURSOR" | b"CLOSE CURSOR ALL" | b"DECLARE CURSOR", _) => self.confirmed.clear_portals(),
            _ => {}
        }
    }

    /// An Execute ends with this message; a simple query goes on with its next statement.
    fn end_execute(&mut self, now: Now, bytes: Bytes, status: Status) -> Result<(), Fault> {
        self.record_full(now)?;
        self.hold(bytes);
        self.layout = None;
        match self.expected.front().map(|expected| &expected.expect) {
            Some(Expect::Query(_)) => Ok(()),
            Some(Expect::Execute(_)) => {
                let answered = self.pop_expected();
                if let Some(Expect::Execute(ran)) = answered.as_ref().map(|answered| &answered.expect) {
                    self.rules.note_executed(ran.moves);
                }
                let ends = answered.is_some_and(|answered| answered.ends_command);
                if ends { self.complete(now, status, "") } else { Ok(()) }
            }
            _ => Err(Fault::TargetMessage),
        }
    }

    fn target_is_ready(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let status = match frame.body() {
            b"I" => "I",
            b"T" => "T",
            b"E" => "E",
            _ => return Err(Fault::TargetMessage),
        };
        let answered = self.pop_expected().map(|expected| expected.expect);
        let moved = match &answered {
            Some(Expect::Query(ran)) => ran.moves,
            _ => Moves::default(),
        };
        self.rules.note_ready(status == "I", moved);
        if status == "I" {
            self.note_transaction_end();
            self.confirmed.clear_portals();
        }
        self.target_skips = false;
        self.layout = None;
        self.hold(frame.into_bytes());
        match answered {
            Some(Expect::Query(_)) => {
                self.confirmed.remove_statement(b"");
                self.confirmed.remove_portal(b"");
                let failed = self.in_flight.front().is_some_and(|command| command.failed);
                self.complete(now, if failed { Status::Error } else { Status::Ok }, status)
            }
            Some(Expect::Sync) => Ok(()),
            _ => Err(Fault::TargetMessage),
        }
    }

    fn target_reports(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let is_error = frame.tag() == b'E';
        let fields = message::diagnostic(frame.body()).map_err(|_| Fault::TargetMessage)?;
        let fatal = is_error
            && fields.iter().any(|(code, text)| *code == b'V' && matches!(*text, b"FATAL" | b"PANIC"));
        if is_error
            && !fatal
            && let Some(Expected { expect: Expect::Refusal(error), .. }) = self.expected.front()
        {
            // The error that the gate provoked; its own stands in its place.
            let error = error.clone();
            self.hold(error);
            return self.skip_to_sync(now);
        }
        let hidden = self.diagnostics_are_hidden().then(|| hide_texts(&fields));
        let shown = hidden.as_deref().unwrap_or(&fields);
        let bytes = match (self.content.diagnostic(is_error, shown), &hidden) {
            (Some(fields), _) => {
                message::with_fields(frame.tag(), fields.iter().map(|(code, text)| (*code, text.as_slice())))
            }
            (None, Some(fields)) => message::with_fields(frame.tag(), fields.iter().copied()),
            (None, None) => frame.into_bytes(),
        };
        self.fatal_passed_on |= fatal;
        if is_error {
            self.end_copy();
        }
        self.record_full(now)?;
        self.hold(bytes);
        match self.expected.front() {
            Some(Expected { expect: Expect::Query(_), .. }) => {
                if let Some(command) = self.in_flight.front_mut() {
                    command.failed |= is_error;
                }
                Ok(())
            }
            Some(Expected { command_seq: Some(_), .. }) if is_error && !fatal => {
                self.complete_failed(now)?;
                self.skip_to_sync(now)
            }
            Some(Expected { command_seq: Some(_), .. }) => Ok(()),
            _ => self.record_async(now),
        }
    }

    fn target_changes_setting(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        let mut reader = Reader::new(frame.body());
        let (Ok(name), Ok(value)) = (reader.c_str(), reader.c_str()) else {
            return Err(Fault::TargetMessage);
        };
        self.note_setting(name, value);
        let bytes = match self.content.setting(name, value) {
            Some(masked) => message::parameter_status(name, &masked),
            None => frame.bytes(),
        };
        self.record_full(now)?;
        self.hold(bytes);
        self.record_async_if_idle(now)
    }

    fn target_notifies(&mut self, now: Now, frame: &Frame) -> Result<(), Fault> {
        let mut reader = Reader::new(frame.body());
        let (Ok(process_id), Ok(channel), Ok(payload)) = (reader.u32(), reader.c_str(), reader.c_str())
        else {
            return Err(Fault::TargetMessage);
        };
        let bytes = match self.content.notification(process_id, channel, payload) {
            Some((channel, payload)) => message::notification(process_id, &channel, &payload),
            None => frame.bytes(),
        };
        self.record_full(now)?;
        self.hold(bytes);
        self.record_async_if_idle(now)
    }

    /// Settings that change how statements and values are read.
    fn note_setting(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return;
        };
        if name == "client_encoding" {
            self.encoding_is_utf8 = matches!(value, "UTF8" | "UNICODE" | "SQL_ASCII");
        }
        if name == "standard_conforming_strings" {
            self.backslash = if value == "on" { Backslash::Plain } else { Backslash::Escape };
        }
        // Where letters may be other bytes, constants may end elsewhere too.
        // A text on its way may be overtaken by the change back, so what was once so counts for good.
        if !self.encoding_is_utf8 || self.backslash == Backslash::Escape {
            self.columns.names.backslash = Backslash::Escape;
        }
        self.settings.apply(name, value);
    }

    fn record_async_if_idle(&mut self, now: Now) -> Result<(), Fault> {
        let idle = self.expected.front().is_none_or(|expected| expected.command_seq.is_none());
        if idle { self.record_async(now) } else { Ok(()) }
    }

    /// Records what the target said while no command was being answered.
    fn record_async(&mut self, now: Now) -> Result<(), Fault> {
        let content = self.content.take();
        self.tally.count_content(content.get());
        self.content.take_end();
        let belongs_to = self.expected.front().and(self.last_answered_seq);
        self.append_answer(now, belongs_to, Event::async_message(content))?;
        self.let_go_held(now);
        Ok(())
    }

    /// Takes the first answer owed off the list.
    fn pop_expected(&mut self) -> Option<Expected> {
        let expected = self.expected.pop_front()?;
        if let Expect::Query(ran) | Expect::Execute(ran) = &expected.expect {
            self.columns.tainted |= self.columns.has_masks && ran.terms.diagnostics == Diagnostics::Redact;
        }
        self.asked_bytes -= expected.kept_bytes();
        Some(expected)
    }

    /// Takes away every unit that waits for the target; none of them was forwarded.
    pub(super) fn take_units(&mut self) -> VecDeque<Unit> {
        let units = self.gate.take_units();
        let expects = units.iter().flat_map(|unit| &unit.expects);
        self.asked_bytes -= expects.map(Expected::kept_bytes).sum::<usize>();
        units
    }

    /// The first answer owed has come.
    fn answered(&mut self, now: Now) -> Result<(), Fault> {
        self.record_full(now)?;
        match self.pop_expected() {
            Some(Expected { ends_command: true, .. }) => self.complete(now, Status::Ok, ""),
            _ => Ok(()),
        }
    }

    /// The command that is being answered failed.
    fn complete_failed(&mut self, now: Now) -> Result<(), Fault> {
        let failed_seq = self.in_flight.front().map(|command| command.seq);
        while self.expected.front().is_some_and(|expected| expected.command_seq == failed_seq) {
            self.pop_expected();
        }
        self.complete(now, Status::Error, "")
    }

    /// After an error the target skips everything up to the next Sync.
    fn skip_to_sync(&mut self, now: Now) -> Result<(), Fault> {
        self.target_skips = true;
        self.layout = None;
        self.pop_to_sync(now)?;
        self.skip_hold(now)
    }

    fn pop_to_sync(&mut self, now: Now) -> Result<(), Fault> {
        while self.expected.front().is_some_and(|expected| !matches!(expected.expect, Expect::Sync)) {
            let skipped = self.pop_expected();
            if skipped.is_some_and(|expected| expected.ends_command) {
                self.complete(now, Status::Skipped, "")?;
            }
        }
        Ok(())
    }
}

/// What is left of an error or notice that may hold values of masked columns: its code, and the names of what it is about.
fn hide_texts<'a>(fields: &[(u8, &'a [u8])]) -> Vec<(u8, &'a [u8])> {
    const HIDDEN: &[u8] =
        b"retrace: the text of this message is hidden, since it may hold a value of a masked column";
    let shown = |(code, text): &(u8, &'a [u8])| match code {
        b'M' => Some((*code, HIDDEN)),
        b'S' | b'V' | b'C' | b'P' | b's' | b't' | b'c' | b'd' | b'n' => Some((*code, *text)),
        _ => None,
    };
    fields.iter().filter_map(shown).collect()
}
