use std::collections::HashMap;

use retrace_proto::wire::{self, envelope::Payload, review_applied::Outcome};
use retrace_proto::{Recorded, event_type};

use crate::response::Joiner;
use crate::{Asked, Command, CommandEnd, Damage, Item, Note, Refusal};

/// Puts the events of a stream, given in its order, together into items.
#[derive(Default)]
pub(crate) struct Assembler {
    items: Vec<Slot>,
    /// Where each command stands in `items`, by its seq.
    commands: HashMap<u64, usize>,
}

enum Slot {
    Done(Item),
    Open(Box<OpenCommand>),
}

#[derive(Default)]
struct OpenCommand {
    command: Command,
    copied: Joiner,
    response: Joiner,
    next_chunk: u32,
    chunks: u32,
}

impl Assembler {
    pub(crate) fn damage(&mut self, damage: Damage) {
        self.push(Item::Damage(damage));
    }

    /// An event of the session's own stream.
    pub(crate) fn event(&mut self, event: &Recorded) {
        let header = event.header();
        let (seq, at_unix_us) = (header.stream_seq, header.occurred_at_unix_us);
        match event.payload() {
            Payload::SessionOpened(opened) => {
                let (header, opened) = (Box::new(header.clone()), opened.clone());
                self.push(Item::Opened { seq, at_unix_us, header, opened });
            }
            Payload::SessionClosed(closed) => {
                self.push(Item::Closed { seq, at_unix_us, closed: *closed });
            }
            Payload::AsyncMessage(message) => {
                let mut joiner = Joiner::default();
                joiner.parts(&message.parts);
                self.push(Item::Async { seq, at_unix_us, response: joiner.finish() });
            }
            Payload::CancelApplied(_) => self.push(Item::Cancel { seq, at_unix_us }),
            Payload::CommandReceived(received) => self.of_command(seq, at_unix_us).receive(received),
            Payload::CommandChunk(chunk) => self.of(header).chunk(chunk),
            Payload::CommandRefused(refused) => {
                let refusal = Refusal { at_unix_us, refused: refused.clone() };
                self.of(header).command.refusal = Some(refusal);
            }
            Payload::CommandOmitted(omitted) => {
                let all = &mut self.of(header).command.omitted;
                all.data_bytes = all.data_bytes.saturating_add(omitted.data_bytes);
            }
            Payload::ResponseOmitted(omitted) => {
                let all = &mut self.of(header).command.omitted;
                all.rows = all.rows.saturating_add(omitted.rows);
                all.row_bytes = all.row_bytes.saturating_add(omitted.row_bytes);
            }
            Payload::ResponseChunk(chunk) => self.of(header).response.chunk(chunk),
            Payload::CommandCompleted(completed) => {
                if !self.of(header).complete(at_unix_us, completed) {
                    self.note(event, false);
                }
            }
            _ => self.note(event, false),
        }
    }

    /// An event that is no part of the play.
    pub(crate) fn note(&mut self, event: &Recorded, foreign: bool) {
        let header = event.header();
        self.push(Item::Note(Note {
            seq: header.stream_seq,
            at_unix_us: header.occurred_at_unix_us,
            event_type: event_type(event.payload()),
            foreign,
            text: note_text(event),
        }));
    }

    pub(crate) fn finish(self) -> Vec<Item> {
        let close = |slot| match slot {
            Slot::Done(item) => item,
            Slot::Open(open) => Item::Command(Box::new(open.finish())),
        };
        self.items.into_iter().map(close).collect()
    }

    fn push(&mut self, item: Item) {
        self.items.push(Slot::Done(item));
    }

    /// The command an event names; one that names none stands for itself.
    fn of(&mut self, header: &wire::Header) -> &mut OpenCommand {
        self.of_command(header.command_seq.unwrap_or(header.stream_seq), header.occurred_at_unix_us)
    }

    fn of_command(&mut self, seq: u64, at_unix_us: i64) -> &mut OpenCommand {
        let index = *self.commands.entry(seq).or_insert_with(|| {
            let command = Command { seq, at_unix_us, ..Command::default() };
            self.items.push(Slot::Open(Box::new(OpenCommand { command, ..OpenCommand::default() })));
            self.items.len() - 1
        });
        match &mut self.items[index] {
            Slot::Open(open) => open,
            Slot::Done(_) => unreachable!("`commands` names open slots alone"),
        }
    }
}

impl OpenCommand {
    fn receive(&mut self, received: &wire::CommandReceived) {
        let text = received.statement.clone().unwrap_or_default();
        self.chunks = received.chunks;
        self.command.asked = Some(Asked {
            begin_missing: false,
            kind: received.kind(),
            statement: text.text,
            escaped: text.escaped,
            statement_name: received.statement_name.clone(),
            portal_name: received.portal_name.clone(),
            parameters: received.parameters.clone(),
            decision: received.decision.clone(),
            policy_version: received.policy_version.clone(),
            command_bytes: received.command_bytes,
            row_limit: received.row_limit,
            masks: received.masks.clone(),
            masks_omitted: received.masks_omitted,
            omitted_chunks: Vec::new(),
        });
    }

    fn asked(&mut self) -> &mut Asked {
        let missing = || Asked { begin_missing: true, ..Asked::default() };
        self.command.asked.get_or_insert_with(missing)
    }

    fn chunk(&mut self, chunk: &wire::CommandChunk) {
        self.expect_chunks(chunk.chunk_index);
        self.next_chunk = self.next_chunk.max(chunk.chunk_index.saturating_add(1));
        let asked = self.asked();
        asked.statement.push_str(&chunk.statement);
        let index = chunk.parameter_index.and_then(|index| usize::try_from(index).ok());
        if let Some(parameter) = index.and_then(|index| asked.parameters.get_mut(index)) {
            parameter.value.get_or_insert_default().push_str(&chunk.parameter);
        }
        asked.parameters.extend_from_slice(&chunk.parameters);
        for rows in &chunk.copy_rows {
            self.copied.copied(rows);
        }
    }

    fn expect_chunks(&mut self, chunks: u32) {
        if chunks > self.next_chunk {
            let omitted = self.next_chunk..chunks;
            self.asked().omitted_chunks.push(omitted);
            self.next_chunk = chunks;
        }
    }

    /// Says whether it is the first end of this command.
    fn complete(&mut self, at_unix_us: i64, completed: &wire::CommandCompleted) -> bool {
        self.response.expect_chunks(completed.chunks);
        self.response.parts(&completed.parts);
        if self.command.end.is_some() {
            return false;
        }
        self.command.end = Some(CommandEnd {
            at_unix_us,
            status: completed.status(),
            command_tag: completed.command_tag.clone(),
            sqlstate: completed.sqlstate.clone(),
            rows: completed.rows,
            response_bytes: completed.response_bytes,
            duration_us: completed.duration_us,
            transaction_status: completed.transaction_status.clone(),
        });
        true
    }

    fn finish(mut self) -> Command {
        self.expect_chunks(self.chunks);
        self.command.copied = self.copied.finish();
        self.command.response = self.response.finish();
        self.command
    }
}

/// One line about an event that is no part of the play.
fn note_text(event: &Recorded) -> String {
    match event.payload() {
        Payload::StreamAborted(aborted) => match aborted.last_durable_seq {
            Some(seq) => format!("the gate gave the record of this session up after #{seq}"),
            None => "the gate gave the record of this session up before its first event".to_owned(),
        },
        Payload::EvidenceRead(read) => {
            let by = event.header().principal.as_ref().map_or("somebody", |by| by.name.as_str());
            format!("{by} reads evidence of this session: {}", read.statement)
        }
        Payload::EvidenceReadCompleted(read) => {
            format!("a read of this session ended after {} rows", read.rows)
        }
        Payload::KillApplied(wire::KillApplied { control: Some(control) }) => {
            let wire::ControlReference { topic, partition, offset, .. } = control;
            format!("the session ends, as the record at {topic}[{partition}] {offset} orders")
        }
        Payload::ReviewApplied(applied) => {
            let review = retrace_proto::Id::from_slice(&applied.review_id).map(|id| id.to_string());
            let review = review.unwrap_or_else(|_| "without an id".to_owned());
            match applied.outcome() {
                Outcome::Granted => format!("the command was approved by review {review}, and runs"),
                Outcome::Rejected => format!("the command was rejected by review {review}"),
                Outcome::Unspecified => format!("something was decided by review {review}"),
            }
        }
        Payload::CommandCompleted(_) => "a second end of a command that had ended before".to_owned(),
        Payload::CatalogueChanged(changed) => {
            format!(
                "the gate read another catalogue: {} relations, {} masked columns",
                changed.relations, changed.masked_columns
            )
        }
        Payload::StreamHeads(heads) => {
            format!("{} streams of this process are vouched for", heads.heads.len())
        }
        Payload::LoginRefused(refused) if refused.count > 1 => {
            format!("{} logins alike were refused", refused.count)
        }
        Payload::LoginRefused(_) => "a login was refused".to_owned(),
        _ => String::new(),
    }
}
