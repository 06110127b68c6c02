//! What a client sends, as the record may keep it.
//!
//! In a statement something is replaced only inside one token: a string constant, a number, a quoted name or a
//! comment. So a masked statement still has every token of the one that ran, and nothing can hide between two of them.

use std::ops::Range;

use retrace_proto::limits::CHUNK_BYTES_MAX;
use retrace_proto::wire::{self, CommandChunk, MaskAction, Parameter, Text};
use retrace_proto::{CommandTexts, Masked};

use super::{Hit, MaskList, Masker, Place, Sink, UNREADABLE, into_text};
use crate::statement::{Backslash, TokenKind, tokens};

/// Most masks that a command's event lists one by one; the rest are counted.
pub const MASKS_PER_COMMAND_MAX: usize = 400;

/// What a parameter costs in an event beside its value, in bytes, at most.
const PARAMETER_EXTRA_BYTES: usize = 24;

/// A bound value as the record wants it.
#[derive(Clone, Copy, Debug)]
pub enum ParameterText<'a> {
    /// NULL.
    Null,
    /// As PostgreSQL would print it.
    Printed(&'a [u8]),
    /// Of a type this gate cannot print.
    Opaque(&'a [u8]),
}

/// One bound value with what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct ParameterIn<'a> {
    /// Its type, 0 if unknown.
    pub type_oid: u32,
    /// How the client sent it.
    pub wire_format: wire::WireFormat,
    /// The value.
    pub text: ParameterText<'a>,
}

/// The texts of a command as they came.
#[derive(Clone, Copy, Debug)]
pub struct CommandIn<'a> {
    /// The statement.
    pub statement: &'a [u8],
    /// How the target reads its string constants.
    pub backslash: Backslash,
    /// Name of the prepared statement, if it has one.
    pub statement_name: &'a [u8],
    /// Name of the portal, if it has one.
    pub portal_name: &'a [u8],
    /// Bound values.
    pub parameters: &'a [ParameterIn<'a>],
}

/// A command's texts for the record: those of its first event, and the chunks that follow.
#[derive(Clone, Debug)]
pub struct CommandOut {
    /// For the `CommandReceived`.
    pub texts: Masked<CommandTexts>,
    /// One event each.
    pub chunks: Vec<Masked<CommandChunk>>,
}

impl Masker {
    /// Masks a command and cuts it into as many events as its size asks for.
    #[must_use]
    pub fn mask_command(&self, command: &CommandIn<'_>) -> CommandOut {
        let mut masks = MaskList::default();
        masks.begin_value(MASKS_PER_COMMAND_MAX);
        let mut packer = Packer::default();

        let statement = self.mask_statement(command.statement, command.backslash, &mut masks);
        let (statement, escaped) = into_text(&statement);
        packer.statement(&statement);
        for (index, parameter) in command.parameters.iter().enumerate() {
            packer.parameter(index, self.mask_parameter(super::bounded(index), parameter, &mut masks));
        }

        let texts = CommandTexts {
            statement: Text { text: packer.first_statement, escaped },
            parameters: packer.first_parameters,
            statement_name: self.mask_name(command.statement_name),
            portal_name: self.mask_name(command.portal_name),
            masks: masks.masks,
            fingerprints: masks.fingerprints.take(),
            masks_omitted: masks.omitted,
        };
        CommandOut {
            texts: Masked::by_masking(texts),
            chunks: packer.chunks.into_iter().map(Masked::by_masking).collect(),
        }
    }

    fn mask_statement(&self, sql: &[u8], backslash: Backslash, masks: &mut MaskList) -> Vec<u8> {
        let whole = self.hits(sql);
        if whole.is_empty() && !may_hide_across_quotes(sql) {
            return sql.to_vec();
        }
        let mut rest = &whole[..];
        let mut out = Vec::with_capacity(sql.len());
        let mut at = 0;
        for token in tokens(sql, backslash) {
            if matches!(token.kind, TokenKind::Semicolon | TokenKind::Other | TokenKind::Parameter) {
                continue;
            }
            out.extend_from_slice(&sql[at..token.range.start]);
            let text = &sql[token.range.clone()];
            let past = rest.iter().take_while(|hit| hit.range.end <= token.range.start).count();
            rest = &rest[past..];
            let hits = self.hits_of_token(sql, &token.range, rest);
            let place = Place { offset_bytes: super::bounded(out.len()), ..Place::default() };
            if !self.replace_hits(text, &hits, Sink { place, out: &mut out, masks }) {
                out.extend_from_slice(text);
            }
            at = token.range.end;
        }
        out.extend_from_slice(&sql[at..]);
        out
    }

    /// What is found in a token by itself, and what the statement around it makes of it: a word beside a number may say
    /// what it is, and a number may reach over several tokens. Of such a number every part is hidden. Nothing longer
    /// is: who writes the begin of a private key into a comment must not hide the constants behind it from the record.
    fn hits_of_token(&self, sql: &[u8], token: &Range<usize>, whole: &[Hit]) -> Vec<Hit> {
        let text = &sql[token.clone()];
        let mut hits = self.hits(text);
        if let Some(last) = hits.last_mut() {
            // What goes on to the end of its text does not go over the quote.
            last.range.end = last.range.end.min(text.len() - closing_bytes(text)).max(last.range.start);
        }
        let alone = hits.len();
        for hit in whole.iter().take_while(|hit| hit.range.start < token.end) {
            let range =
                hit.range.start.max(token.start) - token.start..hit.range.end.min(token.end) - token.start;
            let before = hits[..alone].partition_point(|known| known.range.start <= range.start);
            let is_known = before.checked_sub(1).is_some_and(|last| hits[last].range.end >= range.end);
            if is_known {
                continue;
            }
            let is_part = range.len() < hit.range.len();
            if is_part && !hit.detector.is_of_numbers() {
                continue;
            }
            let action = if is_part { MaskAction::Redact } else { hit.action };
            let decoded = hit.decoded.clone().or_else(|| is_part.then(|| sql[hit.range.clone()].to_vec()));
            hits.push(Hit { range, action, decoded, ..hit.clone() });
        }
        if hits.len() > alone { super::joined(hits) } else { hits }
    }

    fn mask_parameter(&self, index: u32, parameter: &ParameterIn<'_>, masks: &mut MaskList) -> Parameter {
        let place = Place { row: 1, column: index, offset_bytes: 0 };
        let (value, hex) = match parameter.text {
            ParameterText::Null => (None, false),
            ParameterText::Printed(text) => {
                let mut out = Vec::new();
                let masked = self.mask_into(text, Sink { place, out: &mut out, masks });
                let masked = if masked { &out[..] } else { text };
                (Some(into_text(masked).0), false)
            }
            ParameterText::Opaque(_) if !self.is_empty() => {
                masks.push_unreadable(place, UNREADABLE.len());
                (Some(UNREADABLE.to_owned()), false)
            }
            ParameterText::Opaque(bytes) => (Some(super::content::hex(bytes)), true),
        };
        Parameter { type_oid: parameter.type_oid, wire_format: parameter.wire_format.into(), value, hex }
    }

    fn mask_name(&self, name: &[u8]) -> String {
        self.mask_string(&into_text(name).0).into_inner()
    }
}

/// How many bytes close a token: a quote, the end of a comment, or the tag of a constant in dollars.
fn closing_bytes(token: &[u8]) -> usize {
    match token {
        [b'/', b'*', .., b'*', b'/'] => 2,
        [.., b'\'' | b'"'] if token.len() > 1 => 1,
        [b'$', rest @ .., b'$'] => rest.iter().rev().position(|byte| *byte == b'$').map_or(0, |tag| tag + 2),
        _ => 0,
    }
}

/// Whether a constant may spell a value that the plain bytes do not show as one: a doubled quote stands for one.
fn may_hide_across_quotes(sql: &[u8]) -> bool {
    memchr::memchr_iter(b'\'', sql).any(|at| sql.get(at + 1) == Some(&b'\''))
}

/// Cuts a command so that its first event and each chunk stay within [`CHUNK_BYTES_MAX`].
#[derive(Default)]
struct Packer {
    first_statement: String,
    first_parameters: Vec<Parameter>,
    chunks: Vec<CommandChunk>,
    /// Bytes in the event that is being filled: the first one, or the last chunk.
    filled_bytes: usize,
}

impl Packer {
    fn statement(&mut self, text: &str) {
        let (first, mut rest) = text.split_at(text.floor_char_boundary(CHUNK_BYTES_MAX));
        first.clone_into(&mut self.first_statement);
        self.filled_bytes = first.len();
        while !rest.is_empty() {
            let (next, after) = rest.split_at(rest.floor_char_boundary(CHUNK_BYTES_MAX));
            self.begin_chunk(next.len()).statement = next.to_owned();
            rest = after;
        }
    }

    fn parameter(&mut self, index: usize, mut parameter: Parameter) {
        let value_bytes = parameter.value.as_ref().map_or(0, String::len);
        let mut rest = String::new();
        if let Some(value) = &mut parameter.value
            && value_bytes > CHUNK_BYTES_MAX - PARAMETER_EXTRA_BYTES
        {
            rest = value.split_off(value.floor_char_boundary(CHUNK_BYTES_MAX - PARAMETER_EXTRA_BYTES));
        }
        let cost = value_bytes - rest.len() + PARAMETER_EXTRA_BYTES;
        if self.filled_bytes + cost > CHUNK_BYTES_MAX {
            self.begin_chunk(0);
        }
        self.filled_bytes += cost;
        match self.chunks.last_mut() {
            Some(chunk) => chunk.parameters.push(parameter),
            None => self.first_parameters.push(parameter),
        }
        let mut rest = rest.as_str();
        while !rest.is_empty() {
            let (next, after) = rest.split_at(rest.floor_char_boundary(CHUNK_BYTES_MAX));
            let chunk = self.begin_chunk(next.len());
            chunk.parameter_index = Some(super::bounded(index));
            chunk.parameter = next.to_owned();
            rest = after;
        }
    }

    fn begin_chunk(&mut self, bytes: usize) -> &mut CommandChunk {
        let chunk_index = super::bounded(self.chunks.len());
        self.filled_bytes = bytes;
        self.chunks.push(CommandChunk { chunk_index, ..CommandChunk::default() });
        self.chunks.last_mut().expect("just pushed")
    }
}
