use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use retrace_eventlog::{AppendError, ReadError};
use retrace_evidence::NotObeyed;
use retrace_lake::{LakeError, Miscount, RowError};
use tonic::Code;

/// Why there is no answer, or no whole one. [`QueryError::kind`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The caller has not proved who they are.
    #[error(
        "the token was not accepted: send a valid one, as `authorization: Bearer rt_…` or as the password of your \
         principal; `retrace token create` makes one"
    )]
    Unauthenticated,
    /// Nobody can be let in, since the tokens cannot be read.
    #[error("tokens cannot be checked at the moment: try again, and see the server's log output")]
    TokensUnreadable,
    /// The caller may not read evidence at all.
    #[error(
        "`{principal}` may not read evidence: an administrator can set evidence = \"own\" or \"all\" for this \
         principal in the configuration"
    )]
    Denied {
        /// Who asked.
        principal: String,
    },
    /// The caller may not ask by fingerprint.
    #[error(
        "`{principal}` may not use fingerprint('…'): an administrator can set evidence_fingerprint = true for this \
         principal in the configuration"
    )]
    FingerprintDenied {
        /// Who asked.
        principal: String,
    },
    /// The caller has asked for as many values as they may for now.
    #[error(
        "you have asked for {distinct_max} different values by fingerprint within an hour, which is the limit: ask again \
         later, or for one you asked for before"
    )]
    FingerprintLimit {
        /// The limit.
        distinct_max: usize,
    },
    /// The caller may not end sessions or revoke tokens.
    #[error(
        "`{principal}` may not end sessions or revoke tokens: an administrator can set kill = \"own\" or \"all\" for this \
         principal in the configuration"
    )]
    KillDenied {
        /// Who asked.
        principal: String,
    },
    /// The caller may not set or lift legal holds.
    #[error(
        "`{principal}` may not set or lift legal holds, or see all of them: an administrator can set hold = \"all\" for this \
         principal in the configuration"
    )]
    HoldDenied {
        /// Who asked.
        principal: String,
    },
    /// Nothing that a hold can be on.
    #[error("a hold is on a session, a principal or a target; a name has 1 to {bytes_max} bytes")]
    NotHeldOn {
        /// The limit.
        bytes_max: usize,
    },
    /// There is no such review, or none that concerns the caller.
    #[error("no review of this id concerns you: `retrace reviews` lists those that do")]
    NoSuchReview,
    /// The caller would decide about what is their own.
    #[error("this is your own command, by one account or another: somebody else must decide")]
    OwnReview,
    /// The caller is none of the reviewers.
    #[error(
        "you are not among those who may decide about this: `retrace reviews ID` lists them; agents and services never are"
    )]
    NotReviewer,
    /// What the caller has seen is not what the log has.
    #[error(
        "this decision is about a request that the log does not have so: look at the review again, then decide"
    )]
    ReviewChanged,
    /// Nobody can decide any more.
    #[error("this review is {state}: nothing more can be decided about it")]
    ReviewOver {
        /// Where it stands.
        state: String,
    },
    /// The caller has approved it before.
    #[error("you have approved this already: another person must, or you reject it")]
    DecidedAlready,
    /// The caller has a key, and did not sign by it.
    #[error(
        "your decisions count only if they are signed by your own key: give its file with --key, or in RETRACE_REVIEW_KEY"
    )]
    DecisionNotSigned,
    /// What was signed is not what would be recorded.
    #[error(
        "the reason holds something that masks hide, and so could not stand in the record as you signed it: say it otherwise"
    )]
    ReasonMasked,
    /// An approval must say why.
    #[error("the rule asks for a reason: give one with --reason")]
    ReasonRequired,
    /// There is no such hold, or it is lifted already.
    #[error("no hold of this id is in force: `retrace hold list` shows the ids")]
    NoSuchHold,
    /// Nobody found out in time which holds there are, so none was lifted.
    #[error(
        "which holds are in force was not known within {ms_max} ms, and none was lifted: see that log and table answer \
         (`retrace hold list`), then lift it again"
    )]
    HoldsUnknown {
        /// The limit.
        ms_max: u64,
    },
    /// There is no such token, or it is not the caller's, who may revoke no other.
    #[error("you have no token of this id: `retrace token list` shows the ids")]
    NoSuchToken,
    /// The reason of an order is longer than the limit.
    #[error("the reason is {bytes} bytes long, the limit is {bytes_max}: shorten it")]
    ReasonTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// An order is on record, and nobody will do what it says.
    #[error(
        "the order is on record, but not obeyed: {0}; see that the clocks of this machine and of the log agree, and that \
         keys/query.key is the one that the proxies know"
    )]
    NotObeyed(NotObeyed),
    /// This process may not know yet who may come in no more.
    #[error("the service may not know the latest orders, and so lets nobody in: try again in a moment")]
    OrdersUnknown,
    /// An order could not be recorded; if that is not certain, it may be obeyed.
    #[error("the order could not be recorded: {0}; giving it again does no harm")]
    NotOrdered(AppendError),
    /// An order is on record, and nobody saw in time whether it is obeyed.
    #[error(
        "the order is on record, but the log did not give it back within {wait_max:?}, so that nobody knows whether it is \
         obeyed: see that the log answers, then give it again, which does no harm"
    )]
    NotSeen {
        /// The limit.
        wait_max: Duration,
    },
    /// The statement does something that is not offered.
    #[error("the statement was refused: {0}")]
    Refused(String),
    /// A time that has not been for long.
    #[error(
        "AS OF TIMESTAMP takes a time that was at least {s_min} s ago: what the log takes now may still be of an earlier one"
    )]
    TooSoon {
        /// How long ago it must be, in seconds.
        s_min: i64,
    },
    /// A cut that leaves out a topic partition. What it held was not in the answer that it is the cut of, and would be missed.
    #[error("the cut that was asked for says nothing of {at}: give it whole, as an answer gave it")]
    CutPartial {
        /// Which.
        at: retrace_proto::log::TopicPartition,
    },
    /// A cut that the log has not come to.
    #[error(
        "{at} ends at {end}, and the cut that was asked for at {asked}: it is not one of this log, or not yet"
    )]
    CutAhead {
        /// Where.
        at: retrace_proto::log::TopicPartition,
        /// The end that was asked for.
        asked: u64,
        /// The durable end.
        end: u64,
    },
    /// The statement is longer than the limit.
    #[error("the statement is {bytes} bytes long, the limit is {bytes_max}: shorten it")]
    StatementTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The statement cannot be parsed or planned.
    #[error("the statement is not valid: {0}")]
    Statement(String),
    /// Not a session id.
    #[error("not a session id: expected a UUID such as 0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b")]
    NotASessionId,
    /// As many reads of this kind run as may run at once.
    #[error("{running_max} reads of this kind are running, which is the limit: try again when one has ended")]
    Busy {
        /// The limit.
        running_max: usize,
    },
    /// It took longer than the limit.
    #[error("the query took longer than {ms_max} ms: narrow it, by time or by session")]
    Deadline {
        /// The limit.
        ms_max: u64,
    },
    /// It needed more memory than the limit.
    #[error("the query needs more than its {bytes_max} bytes of memory: narrow it, or group by less")]
    Memory {
        /// The limit, which all running queries share.
        bytes_max: usize,
    },
    /// Ingest is so far behind that the rest of the log is too much to read.
    #[error(
        "ingest lags: what the table does not have yet takes more than the {spill_bytes_max} bytes of local files that \
         queries share, and a partial answer would be worse than none; see why `retrace ingest` does not keep up, then ask \
         again"
    )]
    IngestLags {
        /// The limit.
        spill_bytes_max: u64,
    },
    /// The part of the log that is not in the table could not be kept in a local file.
    #[error(
        "a local file for what the table does not have yet failed: see that TMPDIR is writable and has room"
    )]
    Spill(#[source] ArrowError),
    /// The log was truncated again and again while the cut was taken.
    #[error("the table moved {attempts} times while the query began: try again")]
    NoCut {
        /// How often it was tried.
        attempts: u32,
    },
    /// The log ends below what the table holds of it.
    #[error(
        "evidence alarm: the log ends at offset {end} of {at}, but the table was written up to {position}; records are \
         missing, or this is another log. Stop and look into it before anything else"
    )]
    LogBehindTable {
        /// Which topic partition.
        at: retrace_proto::log::TopicPartition,
        /// The log's end.
        end: u64,
        /// The table's position.
        position: u64,
    },
    /// The table was filled from another log.
    #[error(
        "evidence alarm: the table holds records of topic {topic_id}, which this log does not have: log and table do \
         not belong together. Stop and look into it before anything else"
    )]
    ForeignLog {
        /// The topic that the table knows.
        topic_id: retrace_proto::Id,
    },
    /// A tail's reader took so long that the log let go of what comes next.
    #[error(
        "the reader fell behind what the log keeps: read the missing part with SQL, then begin a new tail"
    )]
    TailFellBehind,
    /// The read could not be recorded, so it does not happen.
    #[error("reads are refused because they cannot be recorded: {0}")]
    NotRecorded(AppendError),
    /// The record of the read took too long to become durable, so the read does not happen.
    #[error("reads are refused because the log takes too long to record them: try again")]
    RecordTooSlow,
    /// An evidence alarm: the log has let go of records that the table does not hold.
    #[error(
        "the log has let go of records that are not in the table at {location}: either ingest writes another table (see \
         [lake]), or records were lost before they came into it"
    )]
    RecordsLost {
        /// The table.
        location: String,
    },
    /// Files were taken out of the table, or put into it, by somebody else.
    #[error("{found} (nothing is answered from {location})")]
    Miscount {
        /// What is missing, or too much.
        found: Miscount,
        /// The table.
        location: String,
    },
    /// The log has a record that only a later release understands, and the table does not have it yet.
    #[error(
        "{at}, offset {offset}: {source}. The record is of a later release than this query service, and no answer would have what \
         it says"
    )]
    Newer {
        /// Where.
        at: retrace_proto::log::TopicPartition,
        /// Its offset.
        offset: u64,
        /// Which version it names.
        source: retrace_proto::OpenError,
    },
    /// The log could not be read.
    #[error("the log: {0}")]
    Log(#[from] ReadError),
    /// The table could not be read.
    #[error("the table: {0}")]
    Lake(#[from] LakeError),
    /// A row of the table is not an event.
    #[error("a row of the table cannot be read back as the event it was: {0}")]
    Row(#[from] RowError),
    /// A data file of the table, or what the tail was spilled to, could not be read while the statement ran.
    #[error(
        "a file of the table could not be read: {0}: check the store that [lake] names, and restore the file if it is damaged"
    )]
    Unreadable(String),
    /// The engine failed while it ran the statement.
    #[error("the query failed: {0}")]
    Execution(String),
    /// The query's own code failed.
    #[error("the query ended without an answer: see the server's log output")]
    Internal,
    /// Rows could not be put on the wire, or taken from it.
    #[error("the rows could not be encoded or decoded: {0}")]
    Encoding(String),
    /// The server says what this version does not understand.
    #[error("the server's answer is not one that this version understands: use one release on both sides")]
    NotUnderstood,
    /// The server is going down.
    #[error("the server is stopping: ask again when it is back")]
    Stopping,
    /// The server could not be reached.
    #[error("cannot reach the query service at {address}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the connection said.
        reason: String,
    },
    /// What a server answered, in its own words.
    #[error("{message}")]
    Remote {
        /// What to do about it.
        kind: ErrorKind,
        /// The server's sentence.
        message: String,
    },
}

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send a valid token.
    Unauthenticated,
    /// Ask for the right.
    Denied,
    /// Change what is asked.
    FixTheCall,
    /// Ask for less, or when less is running.
    Limit,
    /// It took too long.
    Deadline,
    /// Try again later; if it stays, look at the server.
    Unavailable,
    /// Look at the server.
    Internal,
}

impl QueryError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Denied { .. }
            | Self::FingerprintDenied { .. }
            | Self::KillDenied { .. }
            | Self::HoldDenied { .. }
            | Self::OwnReview
            | Self::NotReviewer => ErrorKind::Denied,
            Self::Refused(_)
            | Self::CutAhead { .. }
            | Self::CutPartial { .. }
            | Self::TooSoon { .. }
            | Self::StatementTooLong { .. }
            | Self::Statement(_)
            | Self::Execution(_)
            | Self::NoSuchToken
            | Self::NoSuchHold
            | Self::NoSuchReview
            | Self::ReviewChanged
            | Self::ReviewOver { .. }
            | Self::DecidedAlready
            | Self::DecisionNotSigned
            | Self::ReasonMasked
            | Self::ReasonRequired
            | Self::NotHeldOn { .. }
            | Self::ReasonTooLong { .. }
            | Self::NotASessionId => ErrorKind::FixTheCall,
            Self::Busy { .. }
            | Self::Memory { .. }
            | Self::FingerprintLimit { .. }
            | Self::TailFellBehind => ErrorKind::Limit,
            Self::Deadline { .. } | Self::HoldsUnknown { .. } => ErrorKind::Deadline,
            Self::IngestLags { .. }
            | Self::NoCut { .. }
            | Self::Newer { .. }
            | Self::NotRecorded(_)
            | Self::NotOrdered(_)
            | Self::NotSeen { .. }
            | Self::OrdersUnknown
            | Self::RecordTooSlow
            | Self::Spill(_)
            | Self::Log(_)
            | Self::Lake(_)
            | Self::Unreadable(_)
            | Self::Stopping
            | Self::TokensUnreadable
            | Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::LogBehindTable { .. }
            | Self::RecordsLost { .. }
            | Self::Miscount { .. }
            | Self::ForeignLog { .. }
            | Self::NotObeyed(_)
            | Self::Row(_)
            | Self::Encoding(_)
            | Self::NotUnderstood
            | Self::Internal => ErrorKind::Internal,
            Self::Remote { kind, .. } => *kind,
        }
    }

    /// An error of parsing or planning, which is the statement's.
    pub(crate) fn from_statement(error: DataFusionError) -> Self {
        Self::Statement(plain(&error))
    }

    /// An error of running a plan. It may quote values of rows, and only of rows that the caller may see: see
    /// `RowBarrier`.
    pub(crate) fn from_execution(error: DataFusionError, memory_bytes_max: usize) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory { bytes_max: memory_bytes_max },
            root if is_of_reading(root) => Self::Unreadable(plain(&error)),
            _ => Self::Execution(plain(&error)),
        }
    }

    pub(crate) fn encoding(error: ArrowError) -> Self {
        Self::Encoding(error.to_string())
    }

    pub(crate) fn to_status(&self) -> tonic::Status {
        let code = match self.kind() {
            ErrorKind::Unauthenticated => Code::Unauthenticated,
            ErrorKind::Denied => Code::PermissionDenied,
            ErrorKind::FixTheCall => Code::InvalidArgument,
            ErrorKind::Limit => Code::ResourceExhausted,
            ErrorKind::Deadline => Code::DeadlineExceeded,
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::Internal => Code::Internal,
        };
        tonic::Status::new(code, self.to_string())
    }

    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        let kind = match status.code() {
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::Denied,
            Code::InvalidArgument => ErrorKind::FixTheCall,
            Code::ResourceExhausted => ErrorKind::Limit,
            Code::DeadlineExceeded => ErrorKind::Deadline,
            Code::Unavailable | Code::Unknown | Code::Cancelled => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Self::Remote { kind, message: status.message().to_owned() }
    }
}

/// The root's message without the engine's prefixes for where in its code it arose.
/// Whether the store or a data file is what failed, and not the statement.
fn is_of_reading(root: &DataFusionError) -> bool {
    match root {
        DataFusionError::ObjectStore(_) | DataFusionError::ParquetError(_) | DataFusionError::IoError(_) => {
            true
        }
        DataFusionError::ArrowError(error, _) => matches!(
            **error,
            ArrowError::ParquetError(_) | ArrowError::IoError(..) | ArrowError::ExternalError(_)
        ),
        _ => false,
    }
}

fn plain(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.clone(),
            ParserError::RecursionLimitExceeded => "it is nested too deep".to_owned(),
        },
        root => root.message().into_owned(),
    }
}
