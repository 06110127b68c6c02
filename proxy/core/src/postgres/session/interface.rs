//! What goes into a session and what comes out of it.

use bytes::Bytes;
use retrace_proto::{Envelope, Id, StreamWriter, wire};

#[cfg(doc)]
use super::Session;
use super::hold::{HeldCommand, Reviewed};
use super::rules::SessionRules;
use super::understand::Analysed;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client sent bytes, split anywhere.
    ClientBytes(&'a [u8]),
    /// The client will send nothing more, or is gone.
    ClientClosed,
    /// The target sent bytes, split anywhere.
    TargetBytes(&'a [u8]),
    /// The target will send nothing more, or is gone.
    TargetClosed,
    /// Every event of the session's stream below this sequence number is durable.
    Durable {
        /// Half-open.
        end: u64,
    },
    /// An event of the stream will not become durable, or nobody can tell.
    LogFailed(LogFailure),
    /// What was found out about the statement, or the catalogue, of [`Output::Analyse`].
    Analysed(Analysed),
    /// Statements are decided by these rules from now on, whose configuration has this hash.
    Ruled(SessionRules, String),
    /// What becomes of the command of [`Output::AskReview`].
    Reviewed(Reviewed),
    /// The stream of [`Output::WantsStream`].
    NextStream(StreamWriter),
    /// A valid cancel request for this session came in, here or, as this control record says, at another instance.
    CancelRequested(Option<wire::ControlReference>),
    /// This control record wants the session to end.
    Killed(wire::ControlReference),
    /// The session ends as soon as nothing is under way between client and target.
    Drain(Leave),
    /// Whether the shell knows every order that may concern the session. While it does not, no command passes without its
    /// record being durable, whatever the target's durability is; and the shell tells of none that is.
    OrdersKnown(bool),
    /// The session ends now.
    Shutdown(Leave),
    /// The time of [`Session::poll_deadline`] has come.
    DeadlinePassed,
}

/// Why a session must end that nobody has done anything to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The instance stops.
    Instance,
    /// The credential that the gate has logged in to the target with comes to its end.
    Credential,
}

/// How the log failed the stream; the stream gets no further event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFailure {
    /// The log refused for good.
    Permanent,
}

/// What to do next.
#[derive(Debug)]
pub enum Output {
    /// Append to the log, in this order.
    Append {
        /// The next event of the stream.
        envelope: Envelope,
        /// Whether something waits for it. If not, the log may take its time.
        awaited: bool,
    },
    /// Write to the target, in this order.
    ToTarget(Bytes),
    /// Write to the client, in this order.
    ToClient(Bytes),
    /// Find out the facts of a statement and the target's catalogue, or the catalogue alone. Answered by
    /// [`Input::Analysed`], by a catalogue that is at most as old as that answer.
    Analyse {
        /// The statement, if its facts are wanted.
        sql: Option<Bytes>,
    },
    /// Have people decide about a command, unless they did already. Answered by [`Input::Reviewed`], more than once.
    AskReview(Box<HeldCommand>),
    /// The command of [`Output::AskReview`] does not wait any more. Its review stays open.
    LeaveReview,
    /// Nobody is to decide about it any more: its client cancelled it. [`Output::LeaveReview`] follows.
    WithdrawReview,
    /// Make a new stream, for the session to go on in. Answered by [`Input::NextStream`].
    WantsStream,
    /// What is appended from here on is of this stream, and so are the numbers of [`Input::Durable`]. Of the stream before
    /// all but its last event is durable.
    BeginStream(Id),
    /// What was read of the target's catalogue before now is out of date.
    CatalogueIsOld,
    /// Send the target a cancel request for its connection.
    ForwardCancel,
    /// Write out what was said, then close both sides. Nothing follows.
    Close,
}
