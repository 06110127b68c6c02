use bytes::Bytes;

use crate::wire::{self, envelope::Payload};
use crate::{Id, Masked};

/// The write side of an event: an immutable fact that may be sealed.
///
/// Each constructor takes the plain facts as the wire type and whatever text of the traffic belongs to them as
/// [`Masked`]. Where a wire field can hold such text, what the caller left in it is overwritten.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(Payload);

/// The texts of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandTexts {
    /// The statement, or its first part.
    pub statement: wire::Text,
    /// Bound values, in order.
    pub parameters: Vec<wire::Parameter>,
    /// Name of the prepared statement.
    pub statement_name: String,
    /// Name of the portal.
    pub portal_name: String,
    /// Where masking put something else.
    pub masks: Vec<wire::Mask>,
    /// What `masks` point into.
    pub fingerprints: Vec<Bytes>,
    /// Masks that were made and are not listed.
    pub masks_omitted: u32,
}

/// A command's plain facts beside its texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandReceived {
    /// What form it came in.
    pub kind: wire::command_received::Kind,
    /// What was decided about it.
    pub decision: wire::Decision,
    /// Hash of the configuration that decided.
    pub policy_version: String,
    /// Bytes on the wire.
    pub command_bytes: u64,
    /// [`Event::command_chunk`]s that follow.
    pub chunks: u32,
    /// Row limit of an Execute; 0 is none.
    pub row_limit: u32,
}

/// The content of a response, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseContent {
    /// In the order the target sent them.
    pub parts: Vec<wire::ResponsePart>,
    /// What the parts' masks point into.
    pub fingerprints: Vec<Bytes>,
}

/// How a command ended, as far as the target's own words tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseEnd {
    /// Tag of the last statement that ended.
    pub command_tag: String,
    /// Code of the error, if any.
    pub sqlstate: String,
}

impl Event {
    /// A client was let in and its target answered.
    pub fn session_opened(
        mut facts: wire::SessionOpened,
        asserted: Masked<Vec<wire::Asserted>>,
        settings: Masked<Vec<wire::Asserted>>,
    ) -> Self {
        facts.asserted = asserted.into_inner();
        facts.settings = settings.into_inner();
        Self(Payload::SessionOpened(facts))
    }

    /// A session ended; nothing follows in its stream.
    pub fn session_closed(facts: wire::SessionClosed) -> Self {
        Self(Payload::SessionClosed(facts))
    }

    /// A client was not let in.
    pub fn login_refused(mut facts: wire::LoginRefused, asserted: Masked<Vec<wire::Asserted>>) -> Self {
        facts.asserted = asserted.into_inner();
        Self(Payload::LoginRefused(facts))
    }

    /// A command came in. It moves on only once this is durable.
    pub fn command_received(facts: CommandReceived, texts: Masked<CommandTexts>) -> Self {
        let texts = texts.into_inner();
        Self(Payload::CommandReceived(wire::CommandReceived {
            kind: facts.kind.into(),
            statement: Some(texts.statement),
            parameters: texts.parameters,
            statement_name: texts.statement_name,
            portal_name: texts.portal_name,
            decision: Some(facts.decision),
            policy_version: facts.policy_version,
            catalogue_version: String::new(),
            facts: None,
            command_bytes: facts.command_bytes,
            chunks: facts.chunks,
            row_limit: facts.row_limit,
            masks: texts.masks,
            fingerprints: texts.fingerprints,
            masks_omitted: texts.masks_omitted,
        }))
    }

    /// A further part of a command too large for one event.
    pub fn command_chunk(chunk: Masked<wire::CommandChunk>) -> Self {
        Self(Payload::CommandChunk(chunk.into_inner()))
    }

    /// Rows of a COPY FROM STDIN, on `data_bytes` bytes of the wire. Of `content` the rows are kept.
    pub fn copy_chunk(chunk_index: u32, data_bytes: u64, content: Masked<ResponseContent>) -> Self {
        let ResponseContent { parts, fingerprints } = content.into_inner();
        let copy_rows = parts.into_iter().filter_map(|part| match part.part {
            Some(wire::response_part::Part::Rows(rows)) => Some(rows),
            _ => None,
        });
        Self(Payload::CommandChunk(wire::CommandChunk {
            chunk_index,
            copy_rows: copy_rows.collect(),
            fingerprints,
            data_bytes,
            ..wire::CommandChunk::default()
        }))
    }

    /// The gate refused a command.
    pub fn command_refused(facts: wire::CommandRefused) -> Self {
        Self(Payload::CommandRefused(facts))
    }

    /// Command data was passed on and not kept.
    pub fn command_omitted(facts: wire::CommandOmitted) -> Self {
        Self(Payload::CommandOmitted(facts))
    }

    /// Part of a response.
    pub fn response_chunk(chunk_index: u32, content: Masked<ResponseContent>) -> Self {
        let ResponseContent { parts, fingerprints } = content.into_inner();
        Self(Payload::ResponseChunk(wire::ResponseChunk { chunk_index, parts, fingerprints }))
    }

    /// A command's response is whole; `content` is what no chunk before carried.
    pub fn command_completed(
        mut facts: wire::CommandCompleted,
        content: Masked<ResponseContent>,
        end: Masked<ResponseEnd>,
    ) -> Self {
        let ResponseContent { parts, fingerprints } = content.into_inner();
        let ResponseEnd { command_tag, sqlstate } = end.into_inner();
        facts.parts = parts;
        facts.fingerprints = fingerprints;
        facts.command_tag = command_tag;
        facts.sqlstate = sqlstate;
        Self(Payload::CommandCompleted(facts))
    }

    /// Part of a response is left out of the record.
    pub fn response_omitted(facts: wire::ResponseOmitted) -> Self {
        Self(Payload::ResponseOmitted(facts))
    }

    /// The target said something unasked.
    pub fn async_message(content: Masked<ResponseContent>) -> Self {
        let ResponseContent { parts, fingerprints } = content.into_inner();
        Self(Payload::AsyncMessage(wire::AsyncMessage { parts, fingerprints }))
    }

    /// A policy came into force at this instance.
    pub fn policy_loaded(policy_version: String) -> Self {
        Self(Payload::PolicyLoaded(wire::PolicyLoaded { policy_version }))
    }

    /// A target's column masks were resolved by another catalogue.
    pub fn catalogue_changed(facts: wire::CatalogueChanged) -> Self {
        Self(Payload::CatalogueChanged(facts))
    }

    /// A token is not to be taken any more, by any instance. A control record.
    pub fn token_revoked(token_id: String, reason: Masked<String>) -> Self {
        Self(Payload::TokenRevoked(wire::TokenRevoked { token_id, reason: reason.into_inner() }))
    }

    /// The session that the event is about is to end: if it is `only_principal`'s, where one is named. A control record.
    pub fn kill_requested(only_principal: Option<String>, reason: Masked<String>) -> Self {
        let only_principal = only_principal.unwrap_or_default();
        Self(Payload::KillRequested(wire::KillRequested { reason: reason.into_inner(), only_principal }))
    }

    /// A valid cancel request came in for a session of another instance. A control record.
    pub fn cancel_requested(process_id: u32, connection: Option<Id>) -> Self {
        let connection_id = connection.map(Id::to_bytes).unwrap_or_default();
        Self(Payload::CancelRequested(wire::CancelRequested { process_id, connection_id }))
    }

    /// What the hold is on is to be kept. A control record.
    pub fn legal_hold_set(hold: Id, on: wire::legal_hold_set::On, reason: Masked<String>) -> Self {
        let (hold_id, reason) = (hold.to_bytes(), reason.into_inner());
        Self(Payload::LegalHoldSet(wire::LegalHoldSet { hold_id, on: Some(on), reason }))
    }

    /// A hold keeps nothing any more. A control record.
    pub fn legal_hold_lifted(hold: Id, reason: Masked<String>) -> Self {
        let (hold_id, reason) = (hold.to_bytes(), reason.into_inner());
        Self(Payload::LegalHoldLifted(wire::LegalHoldLifted { hold_id, reason }))
    }

    /// A command waits for people to decide. A control record.
    pub fn review_requested(facts: wire::ReviewRequested) -> Self {
        Self(Payload::ReviewRequested(facts))
    }

    /// Somebody decided. A control record.
    pub fn review_decided(mut facts: wire::ReviewDecided, reason: Masked<String>) -> Self {
        facts.reason = reason.into_inner();
        Self(Payload::ReviewDecided(facts))
    }

    /// A session does what was decided.
    pub fn review_applied(facts: wire::ReviewApplied) -> Self {
        Self(Payload::ReviewApplied(facts))
    }

    /// Nobody may decide any more, and what was approved and not used counts no more. A control record.
    pub fn review_withdrawn(
        review: Id,
        cause: wire::review_withdrawn::Cause,
        reason: Masked<String>,
    ) -> Self {
        let (review_id, reason) = (review.to_bytes(), reason.into_inner());
        Self(Payload::ReviewWithdrawn(wire::ReviewWithdrawn { review_id, cause: cause.into(), reason }))
    }

    /// The command of this stream takes a grant that is good for one run. A control record.
    pub fn grant_used(review: Id, stream: Id, command_seq: u64) -> Self {
        let (review_id, stream_id) = (review.to_bytes(), stream.to_bytes());
        Self(Payload::GrantUsed(wire::GrantUsed { review_id, stream_id, command_seq }))
    }

    /// Expired events are about to be removed from the table.
    pub fn retention_applied(facts: wire::RetentionApplied) -> Self {
        Self(Payload::RetentionApplied(facts))
    }

    /// A session ends because a control record wants it.
    pub fn kill_applied(control: wire::ControlReference) -> Self {
        Self(Payload::KillApplied(wire::KillApplied { control: Some(control) }))
    }

    /// A cancel request is about to be forwarded.
    pub fn cancel_applied(control: Option<wire::ControlReference>) -> Self {
        Self(Payload::CancelApplied(wire::CancelApplied { control }))
    }

    /// Someone is about to read evidence.
    pub fn evidence_read(mut facts: wire::EvidenceRead, statement: Masked<String>) -> Self {
        facts.statement = statement.into_inner();
        Self(Payload::EvidenceRead(facts))
    }

    /// A read of evidence ended.
    pub fn evidence_read_completed(facts: wire::EvidenceReadCompleted) -> Self {
        Self(Payload::EvidenceReadCompleted(facts))
    }

    /// A process started; the first event of its instance stream.
    pub fn instance_started(facts: wire::InstanceStarted) -> Self {
        Self(Payload::InstanceStarted(facts))
    }

    /// Where the instance's open streams stand.
    pub fn stream_heads(facts: wire::StreamHeads) -> Self {
        Self(Payload::StreamHeads(facts))
    }

    /// A stream will get no further event, since a record of it failed for good.
    pub fn stream_aborted(stream: Id, last_durable_seq: Option<u64>) -> Self {
        Self(Payload::StreamAborted(wire::StreamAborted { stream_id: stream.to_bytes(), last_durable_seq }))
    }

    /// The lowest schema version whose readers understand the event. A reader of an earlier one stops there and says so. So a
    /// new kind of event has a new version, and an event with a new field has one if it is not to be read without it.
    pub(crate) fn schema_version(&self) -> u32 {
        match &self.0 {
            Payload::SessionOpened(_)
            | Payload::SessionClosed(_)
            | Payload::LoginRefused(_)
            | Payload::CommandReceived(_)
            | Payload::CommandChunk(_)
            | Payload::CommandRefused(_)
            | Payload::CommandOmitted(_)
            | Payload::ResponseChunk(_)
            | Payload::CommandCompleted(_)
            | Payload::ResponseOmitted(_)
            | Payload::AsyncMessage(_)
            | Payload::PolicyLoaded(_)
            | Payload::CatalogueChanged(_)
            | Payload::TokenRevoked(_)
            | Payload::KillRequested(_)
            | Payload::KillApplied(_)
            | Payload::CancelRequested(_)
            | Payload::CancelApplied(_)
            | Payload::EvidenceRead(_)
            | Payload::EvidenceReadCompleted(_)
            | Payload::InstanceStarted(_)
            | Payload::StreamHeads(_)
            | Payload::StreamAborted(_) => 1,
            Payload::LegalHoldSet(_) | Payload::LegalHoldLifted(_) | Payload::RetentionApplied(_) => 2,
            Payload::ReviewRequested(_)
            | Payload::ReviewDecided(_)
            | Payload::ReviewApplied(_)
            | Payload::ReviewWithdrawn(_)
            | Payload::GrantUsed(_) => 3,
        }
    }

    pub(crate) fn into_payload(self) -> Payload {
        self.0
    }
}

/// The events that set and lift legal holds, as [`event_type`] names them.
pub const HOLD_EVENTS: [&str; 2] = ["legal_hold_set", "legal_hold_lifted"];

/// The name of a payload as the lake and the views spell it, for example `command_received`.
#[must_use]
pub fn event_type(payload: &Payload) -> &'static str {
    match payload {
        Payload::SessionOpened(_) => "session_opened",
        Payload::SessionClosed(_) => "session_closed",
        Payload::LoginRefused(_) => "login_refused",
        Payload::CommandReceived(_) => "command_received",
        Payload::CommandChunk(_) => "command_chunk",
        Payload::CommandRefused(_) => "command_refused",
        Payload::CommandOmitted(_) => "command_omitted",
        Payload::ReviewRequested(_) => "review_requested",
        Payload::ReviewDecided(_) => "review_decided",
        Payload::ReviewApplied(_) => "review_applied",
        Payload::ReviewWithdrawn(_) => "review_withdrawn",
        Payload::GrantUsed(_) => "grant_used",
        Payload::ResponseChunk(_) => "response_chunk",
        Payload::CommandCompleted(_) => "command_completed",
        Payload::ResponseOmitted(_) => "response_omitted",
        Payload::AsyncMessage(_) => "async_message",
        Payload::PolicyLoaded(_) => "policy_loaded",
        Payload::CatalogueChanged(_) => "catalogue_changed",
        Payload::TokenRevoked(_) => "token_revoked",
        Payload::KillRequested(_) => "kill_requested",
        Payload::KillApplied(_) => "kill_applied",
        Payload::CancelRequested(_) => "cancel_requested",
        Payload::CancelApplied(_) => "cancel_applied",
        Payload::EvidenceRead(_) => "evidence_read",
        Payload::EvidenceReadCompleted(_) => "evidence_read_completed",
        Payload::InstanceStarted(_) => "instance_started",
        Payload::StreamHeads(_) => "stream_heads",
        Payload::StreamAborted(_) => "stream_aborted",
        Payload::LegalHoldSet(_) => "legal_hold_set",
        Payload::LegalHoldLifted(_) => "legal_hold_lifted",
        Payload::RetentionApplied(_) => "retention_applied",
    }
}
