//! The one schema of Retrace: what an event is, how it is sealed into a stream, and how long anything may be.
//!
//! The way through this crate, in reading order:
//!
//! * [`Masked`]: a value that the masking code has seen. Only such values enter an event.
//! * [`Event`]: the write side, made from `Masked` values.
//! * [`Envelope`]: an event sealed as the next of its stream, bit for bit what the log keeps.
//! * [`Recorded`]: the read side, which comes from [`Envelope::open`] alone and never turns back into an `Event`.
//! * [`log`]: the words the log and the lake share: topics, positions, records.
//!
//! No I/O, no clock, no randomness: times and ids are arguments.

mod masked;

mod event;

mod envelope;

mod id;

pub mod limits;
pub mod log;

/// The generated types of `retrace/event/v1/event.proto`.
///
/// Anybody may build them; only [`Event`]'s constructors turn them into something the log takes, and those ask for
/// [`Masked`] wherever a value of the traffic can stand.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod wire {
    include!("gen/retrace.event.v1.rs");
}

pub use envelope::{Envelope, OpenError, Recorded, SealError, Sign, StreamWriter, Subject};
pub use event::{
    CommandReceived, CommandTexts, Event, HOLD_EVENTS, ResponseContent, ResponseEnd, event_type,
};
pub use id::{Hash, Id, IdError};
pub use masked::Masked;
