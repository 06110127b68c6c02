use std::time::{Duration, SystemTime, UNIX_EPOCH};

use retrace_evidence::{ControlKeys, TrustedKeys};

/// What queries may use and whom they believe. Limits have their unit in their name; the defaults suit one process beside
/// a gate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest statement, in bytes. The record of a read carries the statement whole, so it must fit one event.
    pub statement_bytes_max: usize,
    /// How long one SQL statement or session read may take, its rows' way to the client included, in milliseconds.
    /// A tail has no such limit: it ends when its reader does.
    pub query_ms_max: u64,
    /// SQL statements and session reads that run at once; more are refused, not queued.
    pub queries_max: usize,
    /// Tails that are open at once; more are refused.
    pub tails_max: usize,
    /// Memory that all running queries share, in bytes. What the engine accounts for: joins, groups, sorts.
    pub memory_bytes_max: usize,
    /// How much of the log beyond the table a query has in memory, in bytes. More goes to a local file.
    pub tail_bytes_max: usize,
    /// How much of such files all running queries share, in bytes. More means that ingest lags, and is an error: a partial
    /// answer would be worse.
    pub spill_bytes_max: u64,
    /// How often a cut is taken again because the log's start moved past the table's position meanwhile.
    pub cut_attempts_max: u32,
    /// Client connections at once; more wait in the listener's backlog.
    pub connections_max: usize,
    /// How long a client may take for its TLS handshake, in milliseconds.
    pub handshake_ms_max: u64,
    /// Whose signatures over stream heads are believed. Without any, `sessions.state` verifies nothing.
    pub head_keys: TrustedKeys,
    /// By whose signature a legal hold is lifted.
    pub control_keys: ControlKeys,
    /// The wall clock by which an instance is silent, in microseconds since the Unix epoch.
    pub clock: fn() -> i64,
}

impl Options {
    pub(crate) fn query_time_max(&self) -> Duration {
        Duration::from_millis(self.query_ms_max)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            statement_bytes_max: 64 * 1024,
            query_ms_max: 60_000,
            queries_max: 16,
            tails_max: 64,
            memory_bytes_max: 512 * 1024 * 1024,
            tail_bytes_max: 256 * 1024 * 1024,
            spill_bytes_max: 8 * 1024 * 1024 * 1024,
            cut_attempts_max: 8,
            connections_max: 256,
            handshake_ms_max: 10_000,
            head_keys: TrustedKeys::default(),
            control_keys: ControlKeys::default(),
            clock: now_unix_us,
        }
    }
}

fn now_unix_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}
