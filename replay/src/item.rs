use std::ops::Range;

use retrace_proto::wire;

/// What stands in a timeline, in stream order.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The client was let in.
    Opened {
        /// Its place in the stream.
        seq: u64,
        /// When, by the writer's clock.
        at_unix_us: i64,
        /// Who, at which target, under which rules.
        header: Box<wire::Header>,
        /// From where, and what the client says of itself.
        opened: wire::SessionOpened,
    },
    /// A command with all that belongs to it, at the place where it was received.
    Command(Box<Command>),
    /// The target said something unasked.
    Async {
        /// Its place in the stream.
        seq: u64,
        /// When.
        at_unix_us: i64,
        /// What.
        response: Vec<ResponseItem>,
    },
    /// A cancel request was about to be forwarded.
    Cancel {
        /// Its place in the stream.
        seq: u64,
        /// When.
        at_unix_us: i64,
    },
    /// The session ended.
    Closed {
        /// Its place in the stream.
        seq: u64,
        /// When.
        at_unix_us: i64,
        /// Why, and how much went through.
        closed: wire::SessionClosed,
    },
    /// An event of this stream that tells nothing a replay would show, or one that another stream has about it.
    Note(Note),
    /// Something is missing or does not fit.
    Damage(Damage),
}

/// A command, its response and how it ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// `stream_seq` of its `CommandReceived`: what every other event of it names.
    pub seq: u64,
    /// When it was received, or, if that record is missing, when the first event of it was written.
    pub at_unix_us: i64,
    /// What was asked. `None`: no record of it is there, what is known comes from the response.
    pub asked: Option<Asked>,
    /// The data of a COPY FROM STDIN that came with it, as far as it is recorded.
    pub copied: Vec<ResponseItem>,
    /// What the target answered, in its order.
    pub response: Vec<ResponseItem>,
    /// What went through and was not recorded, as the target is configured.
    pub omitted: Omitted,
    /// The gate's refusal.
    pub refusal: Option<Refusal>,
    /// How it ended. `None` with no refusal either: no end was recorded.
    pub end: Option<CommandEnd>,
}

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// The `CommandReceived` itself is missing: the texts below are what its chunks carry.
    pub begin_missing: bool,
    /// What form it came in.
    pub kind: wire::command_received::Kind,
    /// The statement, joined from its chunks.
    pub statement: String,
    /// Bytes that were not UTF-8 stand as `\xNN`.
    pub escaped: bool,
    /// Name of the prepared statement; empty for the unnamed.
    pub statement_name: String,
    /// Name of the portal; empty for the unnamed.
    pub portal_name: String,
    /// Bound values, joined from their chunks.
    pub parameters: Vec<wire::Parameter>,
    /// What was decided.
    pub decision: Option<wire::Decision>,
    /// Under which configuration.
    pub policy_version: String,
    /// Bytes on the wire.
    pub command_bytes: u64,
    /// Row limit of an Execute; 0 is none.
    pub row_limit: u32,
    /// Where masking put something else.
    pub masks: Vec<wire::Mask>,
    /// Masks beyond the most that an event lists.
    pub masks_omitted: u32,
    /// Chunks of the command that are not in the record; parameters after them may stand under too low a number.
    pub omitted_chunks: Vec<Range<u32>>,
}

/// What of an exchange is counted and not recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Bytes of COPY data that were passed on.
    pub data_bytes: u64,
    /// Rows of the response whose cells are left out, whole or in part.
    pub rows: u64,
    /// Bytes of those rows on the wire.
    pub row_bytes: u64,
}

/// The gate's refusal of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// When.
    pub at_unix_us: i64,
    /// Why, whether anything of it was forwarded, and what the client was told.
    pub refused: wire::CommandRefused,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandEnd {
    /// When.
    pub at_unix_us: i64,
    /// How.
    pub status: wire::command_completed::Status,
    /// Tag of the last statement that ended.
    pub command_tag: String,
    /// Code of the error, if any.
    pub sqlstate: String,
    /// Rows the target sent.
    pub rows: u64,
    /// Bytes the target sent.
    pub response_bytes: u64,
    /// From forwarding to the last byte of the answer.
    pub duration_us: u64,
    /// `I`, `T` or `E`.
    pub transaction_status: String,
}

/// Part of a response, in the order the target sent them.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseItem {
    /// Rows, joined across the parts they were recorded in.
    Rows(ResultSet),
    /// An error or a notice.
    Diagnostic(wire::Diagnostic),
    /// A statement ended.
    Tag(String),
    /// The target reports a setting.
    Setting(wire::Setting),
    /// A notification by `NOTIFY`.
    Notification(wire::Notification),
    /// A row limit was met.
    Suspended,
    /// The statement was empty.
    EmptyQuery,
    /// The types of a prepared statement's parameters.
    ParameterTypes(Vec<u32>),
    /// Chunks of the response that are not in the record.
    OmittedChunks(Range<u32>),
    /// Cells whose row and column cannot be told, since what stood before them is missing.
    UnplacedCells(Vec<Option<String>>),
    /// A part whose lengths contradict each other, or of a kind this version does not know.
    Unreadable(&'static str),
}

/// Rows of one statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultSet {
    /// As described by the target; empty if it was not asked to.
    pub columns: Vec<wire::Column>,
    /// Cells of each row, as PostgreSQL would print them; `None` is NULL. The last row can be short if the record ends
    /// within it.
    pub rows: Vec<Vec<Option<String>>>,
    /// Where masking put something else.
    pub masks: Vec<MaskedCell>,
    /// Masks beyond the most that an event lists.
    pub masks_omitted: u64,
    /// Bytes that were not UTF-8 stand as `\xNN`.
    pub escaped: bool,
}

/// Where masking put something else in a [`ResultSet`].
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedCell {
    /// 0-based, within the result.
    pub row: u64,
    /// 0-based.
    pub column: u32,
    /// What was found.
    pub kind: wire::MaskKind,
    /// What was done.
    pub action: wire::MaskAction,
    /// Name of the mask in the configuration.
    pub rule: String,
}

/// An event that is no part of the play.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Its place in its own stream.
    pub seq: u64,
    /// When.
    pub at_unix_us: i64,
    /// Name of its payload.
    pub event_type: &'static str,
    /// It stands in another stream, of the instance that wrote it.
    pub foreign: bool,
    /// One line about it.
    pub text: String,
}

/// Something is missing or does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// No record with these sequence numbers.
    Gap {
        /// The first that is missing.
        from_inclusive: u64,
        /// The first that is there again.
        to_exclusive: u64,
    },
    /// The record names another predecessor than the one that is there.
    BrokenChain {
        /// Of the record.
        seq: u64,
    },
    /// A second record under the same number that says something else. The first is played.
    Conflict {
        /// Their number.
        seq: u64,
        /// Of the one that is not played.
        offset: u64,
    },
    /// The same record twice. Harmless: the log may keep a record twice, and the lake marks it.
    Duplicate {
        /// Its number.
        seq: u64,
        /// Of the second.
        offset: u64,
    },
    /// A record that is no envelope.
    Unreadable {
        /// Where it stands in its topic partition.
        offset: u64,
        /// Why it could not be opened.
        reason: String,
    },
    /// A record of another session's stream.
    ForeignStream {
        /// Where it stands in its topic partition.
        offset: u64,
        /// That stream.
        stream_id: retrace_proto::Id,
    },
    /// A record after the session's end.
    AfterEnd {
        /// Its number.
        seq: u64,
    },
    /// The stream ends without `SessionClosed`: the session is still open, or its end is missing.
    MissingEnd {
        /// The number that would be next.
        next_seq: u64,
    },
    /// There is no record of the session at all.
    NoRecords,
}
