//! Sans-I/O session machines: what the gate does, without sockets, clock or randomness.
//!
//! A machine takes what happened ([`postgres::Input`]) with the time it happened, and says what to do next
//! ([`postgres::Output`]). The shell around it reads, writes and waits; it decides nothing. So every timeout, split read
//! and reordering is a plain unit test.

mod audit;
mod buckets;
mod guesses;

pub mod postgres;

pub use buckets::{Bucket, Buckets, Pace, Turn};
pub use guesses::{GUESSES_PER_HOUR_MAX, Guesses};

/// A moment, brought in by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in microseconds since the Unix epoch: for what is recorded.
    pub unix_us: i64,
    /// A clock that only goes forward, in microseconds since any point: for deadlines and durations.
    pub monotonic_us: u64,
}
