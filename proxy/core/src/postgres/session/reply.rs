//! Answers on their way to the client: sealed, held until the record is durable, let go.

use bytes::Bytes;
use retrace_proto::wire::{self, command_completed::Status};
use retrace_proto::{Event, Masked, ResponseContent};

use super::Session;
use super::refuse::Fault;
use crate::Now;

impl Session {
    /// Seals the end of the command that is being answered, and lets its answer go once that is durable.
    pub(super) fn complete(
        &mut self,
        now: Now,
        status: Status,
        transaction_status: &str,
    ) -> Result<(), Fault> {
        self.record_full(now)?;
        self.record_omitted(now)?;
        let Some(command) = self.in_flight.pop_front() else {
            return Err(Fault::TargetMessage);
        };
        let facts = wire::CommandCompleted {
            status: status.into(),
            rows: command.rows,
            response_bytes: command.response_bytes,
            duration_us: now.monotonic_us.saturating_sub(command.forwarded_us),
            chunks: command.chunks,
            transaction_status: transaction_status.to_owned(),
            ..wire::CommandCompleted::default()
        };
        let content = self.content.take();
        let end = self.content.take_end();
        self.tally.count_content(content.get());
        let event = Event::command_completed(facts, content, end);
        self.last_answered_seq = Some(command.seq);
        self.append_answer(now, Some(command.seq), event)?;
        self.let_go_held(now);
        Ok(())
    }

    /// Seals what is as large as one event may be.
    pub(super) fn record_full(&mut self, now: Now) -> Result<(), Fault> {
        while let Some(content) = self.content.poll_full() {
            self.record_chunk(now, content)?;
        }
        if self.omits_a_chunk() {
            // What is kept of the same rows comes first, so that they do not go without it.
            if !self.content.is_empty() {
                let content = self.content.take();
                self.record_chunk(now, content)?;
            }
            self.record_omitted(now)?;
            self.let_go_held(now);
        }
        Ok(())
    }

    /// Whether all that the target said is sealed.
    pub(super) fn nothing_to_record(&self) -> bool {
        self.content.is_empty() && self.omitted.is_empty()
    }

    /// Seals what the target said so far and lets it go.
    pub(super) fn cut_chunk(&mut self, now: Now) -> Result<(), Fault> {
        self.record_full(now)?;
        if !self.content.is_empty() {
            let content = self.content.take();
            self.record_chunk(now, content)?;
        }
        self.record_omitted(now)?;
        self.let_go_held(now);
        Ok(())
    }

    fn record_chunk(&mut self, now: Now, content: Masked<ResponseContent>) -> Result<(), Fault> {
        self.tally.count_content(content.get());
        let (chunk_index, command_seq) = match self.in_flight.front_mut() {
            Some(command) => {
                command.chunks += 1;
                (command.chunks - 1, Some(command.seq))
            }
            None => (0, self.last_answered_seq),
        };
        self.append_answer(now, command_seq, Event::response_chunk(chunk_index, content))?;
        self.let_go_held(now);
        Ok(())
    }

    /// Keeps bytes for the client until their content is sealed.
    pub(super) fn hold(&mut self, bytes: Bytes) {
        self.held_bytes += bytes.len();
        self.held.push(bytes);
    }

    /// Puts what is held into the gate, behind the last record that has a part of it.
    pub(super) fn let_go_held(&mut self, now: Now) {
        self.held_bytes = 0;
        for bytes in self.held.drain(..) {
            if !self.client_gone {
                self.gate.push_reply(self.reply_needs, now.monotonic_us, bytes);
            }
        }
    }
}
