//! What the end-to-end tests, the demonstration and the benchmark stand on: real processes, driven with deadlines.
//!
//! * [`Postgres`]: a scratch cluster, the target; [`Database`]: one test's own part of it.
//! * [`Gate`]: a folder made by `retrace init` and the `retrace up` that runs on it.
//! * [`client`]: a driver that speaks the extended protocol; [`Wire`]: a client that may say anything.
//! * [`matrix`]: workloads of many clients, compared with and without a gate.
//! * [`bench`]: what is measured, and how it is written down.
//! * [`run`] and [`wait_for`]: a command, and a condition, with an end to the patience.
//!
//! Nothing here outlives the process that uses it, however that process ends: clusters hang on a [`leash`], gates on
//! the kernel's parent-death signal.

mod postgres;

mod gate;

pub mod client;

mod wire;

pub mod leash;

mod run;

mod port;

mod sample;

pub mod matrix;

pub mod bench;

pub use gate::{Gate, PASSWORD_VARIABLE, files_under};
pub use postgres::{Database, Postgres, TARGET_PASSWORD, TARGET_USER};
pub use run::{Outcome, run, wait_for};
pub use sample::{customers, payment_card};
pub use wire::{Message, Wire, cancel_request, startup};
