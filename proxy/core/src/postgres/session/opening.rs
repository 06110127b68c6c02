//! What a session begins with.

use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::mask::Masker;
use retrace_proto::{Masked, StreamWriter, Subject, wire};

use super::omit::Recording;
use super::rules::SessionRules;
use crate::buckets::Buckets;
use crate::guesses::Guesses;
use crate::postgres::message::CancelKey;

/// What the target said at its login, to be passed on.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// Its ParameterStatus messages.
    pub settings: Vec<(Bytes, Bytes)>,
    /// The gate's own key that the client will use to cancel.
    pub cancel_key: CancelKey,
}

/// Limits of one session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// How long a record may take to be durable, in microseconds.
    pub log_wait_us_max: u64,
    /// Texts of prepared statements and bound values that are kept, in bytes.
    pub kept_bytes_max: usize,
    /// Events of a session after which the connection goes on as another one.
    pub session_events_max: u64,
    /// How long a session may be before that, in microseconds.
    pub session_us_max: u64,
    /// Data of one command that is recorded, in bytes, beyond its statement and bound values.
    pub command_recorded_bytes_max: u64,
    /// Bytes of the target that wait for their records or for the client, above which reading the target stops.
    pub held_bytes_max: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            log_wait_us_max: 10_000_000,
            kept_bytes_max: 64 << 20,
            command_recorded_bytes_max: 64 << 20,
            session_events_max: 1_000_000,
            session_us_max: 24 * 3_600_000_000,
            held_bytes_max: 1 << 20,
        }
    }
}

/// All that a session begins with.
#[derive(Debug)]
pub struct Opening {
    /// The session's stream, at its beginning.
    pub stream: StreamWriter,
    /// Who, through what, to where.
    pub subject: Subject,
    /// The masks of the target.
    pub masker: Arc<Masker>,
    /// How much is recorded.
    pub recording: Recording,
    /// Whether the target has masked columns, so that statements are judged by its catalogue.
    pub has_column_masks: bool,
    /// The rules that statements are decided by; `None` for what the gate itself asks.
    pub rules: Option<SessionRules>,
    /// What may be compared with masked columns, shared by the sessions of one principal at one target.
    pub guesses: Arc<Guesses>,
    /// What it may use up, shared by the sessions of one principal.
    pub buckets: Arc<Buckets>,
    /// What the target said.
    pub greeting: Greeting,
    /// The first event's facts.
    pub opened: wire::SessionOpened,
    /// What the client says of itself.
    pub asserted: Masked<Vec<wire::Asserted>>,
    /// Hash of the configuration that decides.
    pub policy_version: String,
    /// Name of a prepared statement that no client can guess, so that it cannot exist.
    pub impossible_name: String,
    /// Limits.
    pub limits: SessionLimits,
}
