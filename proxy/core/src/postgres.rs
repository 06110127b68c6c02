//! The PostgreSQL session machine.
//!
//! It begins where the login ends: the client is authenticated and the target has answered. In reading order:
//!
//! * [`frame`]: bytes into messages; the original bytes are what is forwarded.
//! * [`Session`]: the machine. What a client sends becomes a unit of messages with its record; the unit waits in the
//!   gate until the record is durable. What the target answers is matched to what was asked, masked, recorded, and
//!   waits in the gate in its turn.
//! * [`types`]: binary values as PostgreSQL prints them.

mod copy;
pub mod frame;
pub mod message;
pub mod types;

mod session;

pub use message::CancelKey;
pub use session::{
    Analysed, Beyond, Columns, Greeting, HeldCommand, Input, Leave, LogFailure, Opening, Output, Recording,
    Reviewed, Session, SessionLimits, SessionRules, Slowed, Tally,
};
