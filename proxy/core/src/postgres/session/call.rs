//! The function-call message, which large objects of libpq still use: one function by its OID, with one value back.

use std::sync::Arc;

use retrace_policy::decide::{FUNCTION_CALL, Verdict};
use retrace_policy::facts::Unparsable;
use retrace_policy::mask::command::{ParameterIn, ParameterText};
use retrace_policy::mask::{Cell, ClientText, ColumnText};
use retrace_proto::wire::{WireFormat, command_received::Kind};

use super::Session;
use super::expect::{Copied, Expect, Expected, Ran, Redefined};
use super::record::{Command, is_printable};
use super::refuse::Fault;
use super::rules::{Run, cannot_wait};
use super::understand::Terms;
use crate::Now;
use crate::postgres::frame::Frame;
use crate::postgres::message::{self, FunctionCall};

impl Session {
    pub(super) fn client_calls_function(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        self.flush_pending(now)?;
        let call = FunctionCall::decode(frame.body()).map_err(|_| Fault::ClientMessage)?;
        let arguments = call.arguments.iter().enumerate();
        let parameters: Vec<_> =
            arguments.map(|(index, value)| argument(*value, call.formats.of(index))).collect();
        let statement = format!("function {}", call.function_oid);
        let verdict = match self.has_column_masks() {
            true => Verdict::Deny(FUNCTION_CALL),
            // A function by its OID, which no rule knows.
            false => cannot_wait(self.ruled(now, Err(Unparsable::Syntax), Run::Now)),
        };
        let command = Command {
            kind: Kind::FunctionCall,
            statement: statement.as_bytes(),
            statement_name: b"",
            portal_name: b"",
            parameters: &parameters,
            verdict: &verdict,
            bytes: frame.wire_len(),
            row_limit: 0,
        };
        let command_seq = self.record_command(now, &command)?;
        if let Verdict::Deny(denial) = verdict {
            return self.refuse_simple(now, command_seq, &denial);
        }
        if std::mem::take(&mut self.withdrawn) {
            return self.refuse_cancelled(now, command_seq, true);
        }
        self.rules.note_run(None, command_seq);
        let ran = Ran {
            redefined: Redefined::default(),
            terms: Arc::new(Terms::STRICTEST),
            copied: Copied { chunks: self.chunks_since(command_seq), ..Copied::default() },
            moves: self.rules.moves(None),
            is_function_call: true,
        };
        let expects = vec![Expected {
            expect: Expect::Query(Box::new(ran)),
            command_seq: Some(command_seq),
            ends_command: true,
        }];
        self.push_unit(now, vec![frame.into_bytes()], expects, Some(command_seq));
        Ok(())
    }

    /// FunctionCallResponse: a value of a type that the wire does not name.
    pub(super) fn target_returns(&mut self, now: Now, frame: Frame) -> Result<(), Fault> {
        match self.expected.front().map(|expected| &expected.expect) {
            Some(Expect::Query(ran)) if ran.is_function_call => {}
            _ => return Err(Fault::TargetMessage),
        }
        let value = message::function_result(frame.body()).map_err(|_| Fault::TargetMessage)?;
        if let Some(command) = self.in_flight.front_mut() {
            command.rows += 1;
        }
        self.note_row(frame.wire_bytes());
        self.content.begin_row(1);
        let cell = match value {
            None => Cell::Null,
            Some(value) if is_printable(value) => Cell::Printed(value, ColumnText::Any),
            Some(value) => Cell::Opaque(value),
        };
        let bytes = match self.content.cell(cell) {
            ClientText::AsItCame => frame.bytes(),
            ClientText::Null => message::function_call_response(None),
            ClientText::Replaced(text) => message::function_call_response(Some(text)),
        };
        self.record_full(now)?;
        self.hold(bytes);
        Ok(())
    }
}

fn argument(value: Option<&[u8]>, wire_format: WireFormat) -> ParameterIn<'_> {
    let text = match value {
        None => ParameterText::Null,
        Some(value) if wire_format == WireFormat::Text || is_printable(value) => {
            ParameterText::Printed(value)
        }
        Some(value) => ParameterText::Opaque(value),
    };
    ParameterIn { type_oid: 0, wire_format, text }
}
