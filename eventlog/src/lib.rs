//! The log: where every event becomes durable before anything else happens.
//!
//! The way through this crate, in reading order:
//!
//! * [`EventLog`]: the contract. Its documentation says what durable, ordered and failed mean; everything else in the
//!   project relies on that and on nothing more.
//! * [`EmbeddedLog`]: the log of one process, on local disk, fsynced.
//! * [`KafkaLog`]: the log of many processes, on a Kafka cluster.
//! * [`MemoryLog`]: the log for tests, with [`Faults`] that make it fail in every way the contract allows.
//! * [`InstanceStream`]: the one stream that a process start writes about itself.
//! * [`ControlFollower`] and [`ControlWriter`]: the control topic, read by every process from its beginning, and written to.
//! * [`WatchedLog`]: any of them, with a [`LogWatch`] that knows how long records take and whether they come through.
//!
//! Consumers keep their positions themselves, in the commits of the lake; this crate keeps none for them.

mod contract;

mod append;

mod error;

mod durable_end;

mod embedded;

mod kafka;

mod memory;

mod stream;

mod control;

mod timing;
mod watch;

pub use append::Append;
pub use contract::{EventLog, KEY_BYTES_MAX, UNHURRIED_WAIT_MAX, VALUE_BYTES_MAX};
pub use control::{
    CONTROL_LAG_MAX, ControlFollower, ControlLag, ControlOrigin, ControlSign, ControlWriter, is_for_cancels,
    may_have_orders,
};
pub use embedded::{EmbeddedLog, EmbeddedOptions, OpenError};
pub use error::{AppendError, ReadError};
pub use kafka::{KafkaLog, KafkaOpenError, KafkaOptions};
pub use memory::{Faults, Gate, MemoryLog};
pub use stream::{InstanceStream, NextPlace, partition_for};
pub use timing::Timing;
pub use watch::{LogState, LogWatch, WatchedLog};
