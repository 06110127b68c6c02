//! The record of a command: its texts, masked, and its facts.

use std::borrow::Cow;
use std::sync::Arc;

use retrace_policy::decide::{Denial, Verdict};
use retrace_policy::mask::command::{CommandIn, ParameterIn, ParameterText};
use retrace_policy::rules::of_policy;
use retrace_proto::wire::{self, WireFormat, command_received::Kind};
use retrace_proto::{CommandReceived, Event};

use super::Session;
use super::expect::{Portal, Statement};
use super::refuse::Fault;
use crate::Now;
use crate::postgres::message::{Bind, Execute};
use crate::postgres::types;

/// A command on its way into the record.
pub(super) struct Command<'a> {
    pub(super) kind: Kind,
    pub(super) statement: &'a [u8],
    pub(super) statement_name: &'a [u8],
    pub(super) portal_name: &'a [u8],
    pub(super) parameters: &'a [ParameterIn<'a>],
    pub(super) verdict: &'a Verdict,
    pub(super) bytes: usize,
    pub(super) row_limit: u32,
}

impl Session {
    pub(super) fn record_execute(
        &mut self,
        now: Now,
        portal: Option<&Portal>,
        execute: &Execute<'_>,
        (bytes, verdict): (usize, &Verdict),
    ) -> Result<u64, Fault> {
        let statement = portal.and_then(|portal| portal.statement.as_deref());
        let mut printed = Vec::new();
        let values = self.print_parameters(portal, &mut printed)?;
        let parameters: Vec<_> = values.iter().map(|value| value.borrow(&printed)).collect();
        let command = Command {
            kind: Kind::Execute,
            statement: statement.map_or(&b""[..], |statement| &statement.sql),
            statement_name: portal.map_or(&b""[..], |portal| &portal.statement_name),
            portal_name: execute.portal,
            parameters: &parameters,
            verdict,
            bytes,
            row_limit: execute.row_limit,
        };
        self.record_command(now, &command)
    }

    /// CommandChunk events sealed since the event with this number, which was sealed last before them.
    pub(super) fn chunks_since(&self, command_seq: u64) -> u32 {
        u32::try_from(self.audit.end() - command_seq - 1).expect("bounded by the limit on frames")
    }

    pub(super) fn record_prepare(
        &mut self,
        now: Now,
        statement: Option<Arc<Statement>>,
        portal: Option<&Portal>,
        (bytes, verdict): (usize, &Verdict),
    ) -> Result<u64, Fault> {
        let mut printed = Vec::new();
        let values = self.print_parameters(portal, &mut printed)?;
        let parameters: Vec<_> = values.iter().map(|value| value.borrow(&printed)).collect();
        let statement = statement.as_deref();
        let statement_name = statement.map(|statement| &statement.name);
        let command = Command {
            kind: Kind::Prepare,
            statement: statement.map_or(&b""[..], |statement| &statement.sql),
            statement_name: statement_name
                .or(portal.map(|portal| &portal.statement_name))
                .map_or(&b""[..], |name| name),
            portal_name: portal.map_or(&b""[..], |portal| &portal.name),
            parameters: &parameters,
            verdict,
            bytes,
            row_limit: 0,
        };
        self.record_command(now, &command)
    }

    /// Whether the bound values stand in the record as what they are: the type of each that came in binary is known, or it is shown
    /// as bytes.
    pub(super) fn shows_parameters(&self, portal: Option<&Portal>) -> Result<bool, Fault> {
        let Some(portal) = portal else { return Ok(true) };
        let bind = Bind::decode(&portal.bind).map_err(|_| Fault::ClientMessage)?;
        let mut scratch = Vec::new();
        let mut is_shown = |(index, value): (usize, Option<&[u8]>)| {
            let type_oid =
                portal.statement.as_ref().map_or(0, |statement| statement.parameter_type_oid(index));
            match (value, bind.formats.of(index)) {
                (Some(value), WireFormat::Binary) if is_printable(value) => {
                    scratch.clear();
                    !matches!(type_oid, 0 | UNKNOWN_OID)
                        && types::print_binary(type_oid, value, &self.settings, &mut scratch).is_ok()
                }
                _ => true,
            }
        };
        Ok(bind.values.iter().copied().enumerate().all(&mut is_shown))
    }

    /// Prints the bound values one after the other into `printed`.
    fn print_parameters<'a>(
        &self,
        portal: Option<&'a Portal>,
        printed: &mut Vec<u8>,
    ) -> Result<Vec<PrintedParameter<'a>>, Fault> {
        let Some(portal) = portal else { return Ok(Vec::new()) };
        let printed_bytes_max = types::printed_bytes_max(portal.bind.len());
        let bind = Bind::decode(&portal.bind).map_err(|_| Fault::ClientMessage)?;
        let values = bind.values.into_iter().enumerate().map(|(index, value)| {
            let type_oid =
                portal.statement.as_ref().map_or(0, |statement| statement.parameter_type_oid(index));
            let wire_format = bind.formats.of(index);
            let start = printed.len();
            let text = match (value, wire_format) {
                (None, _) => Text::Null,
                (Some(value), WireFormat::Text) => Text::AsSent(value),
                (Some(value), WireFormat::Binary) if printed.len() > printed_bytes_max => Text::Opaque(value),
                (Some(value), WireFormat::Binary) => {
                    match types::print_binary(type_oid, value, &self.settings, printed) {
                        Ok(()) => Text::Printed(start..printed.len()),
                        Err(_) => {
                            printed.truncate(start);
                            if is_printable(value) { Text::AsSent(value) } else { Text::Opaque(value) }
                        }
                    }
                }
            };
            PrintedParameter { type_oid, wire_format, text }
        });
        Ok(values.collect())
    }

    /// Seals the command's events. Returns the sequence number of the first.
    pub(super) fn record_command(&mut self, now: Now, command: &Command<'_>) -> Result<u64, Fault> {
        let out = self.masker.mask_command(&CommandIn {
            statement: command.statement,
            backslash: self.backslash,
            statement_name: command.statement_name,
            portal_name: command.portal_name,
            parameters: command.parameters,
        });
        let (effect, rule, reason) = match command.verdict {
            Verdict::Allow => (wire::decision::Effect::Allow, Cow::Borrowed(""), ""),
            Verdict::Deny(Denial { rule, message, .. }) => {
                (wire::decision::Effect::Deny, Cow::Borrowed(&**rule), &**message)
            }
            Verdict::Hold(terms) => {
                let first = terms.first().expect("at least one rule holds it");
                (wire::decision::Effect::Hold, of_policy(&first.rule).into(), first.text.as_str())
            }
        };
        let facts = CommandReceived {
            kind: command.kind,
            decision: wire::Decision {
                effect: effect.into(),
                rule: rule.into_owned(),
                reason: reason.to_owned(),
            },
            policy_version: self.policy_version.clone(),
            command_bytes: command.bytes as u64,
            chunks: u32::try_from(out.chunks.len()).expect("bounded by the limit on frames"),
            row_limit: command.row_limit,
        };
        self.tally.count_command(out.texts.get());
        let command_seq = self.audit.end();
        self.append(now, Some(command_seq), Event::command_received(facts, out.texts))?;
        for chunk in out.chunks {
            self.append(now, Some(command_seq), Event::command_chunk(chunk))?;
        }
        self.commands += 1;
        self.pacing.spend_turn(now.monotonic_us);
        Ok(command_seq)
    }
}

/// The pseudo-type of literals whose type PostgreSQL infers from their use.
const UNKNOWN_OID: u32 = 705;

/// A bound value, printed or as sent.
struct PrintedParameter<'a> {
    type_oid: u32,
    wire_format: WireFormat,
    text: Text<'a>,
}

enum Text<'a> {
    Null,
    AsSent(&'a [u8]),
    /// A range of the buffer of printed values.
    Printed(std::ops::Range<usize>),
    Opaque(&'a [u8]),
}

impl PrintedParameter<'_> {
    fn borrow<'b>(&'b self, printed: &'b [u8]) -> ParameterIn<'b> {
        let text = match &self.text {
            Text::Null => ParameterText::Null,
            Text::AsSent(value) => ParameterText::Printed(value),
            Text::Printed(range) => ParameterText::Printed(&printed[range.clone()]),
            Text::Opaque(value) => ParameterText::Opaque(value),
        };
        ParameterIn { type_oid: self.type_oid, wire_format: self.wire_format, text }
    }
}

/// Whether a value of an unknown type is plain text: many types send their text as their binary form. One that holds
/// numbers in binary has zero bytes or other control characters among them.
pub(super) fn is_printable(value: &[u8]) -> bool {
    std::str::from_utf8(value)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
}
