//! The promises, kept or broken, seen from outside: a real psql, a real PostgreSQL, the real `retrace`.
//!
//! A test's name is a behaviour; those of a promise begin with its number. Every test has a database and a
//! gate of its own. `RETRACE_SOAK=1` makes loads longer and kills more.

mod bad_input;
mod bypass;
mod canaries;
mod cancel;
mod chart;
mod cli;
mod clock_steps;
mod columns;
mod common;
mod compaction;
mod compose;
mod configuration;
mod control;
mod deployed;
mod door;
mod drain;
mod drivers;
mod evidence;
mod faults;
mod heads;
mod health;
mod inserts;
mod kafka_log;
mod limits;
mod load;
mod log_failures;
mod masking;
mod neighbours;
mod network;
mod reads;
mod refusals;
mod reload;
mod replay;
mod retention;
mod reviews;
mod rights;
mod rules;
mod scale_out;
mod services;
mod shell;
mod transparent;
mod upgrade;
mod vault;

/// What every log must do; the log's own tests hold those to it that need no other process.
#[path = "../../../eventlog/tests/conformance/suite.rs"]
mod suite;
