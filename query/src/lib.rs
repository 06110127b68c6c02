//! Files and tail as one exact cut: evidence over SQL and gRPC, for those who may read it.
//!
//! The way through this crate, in reading order:
//!
//! * [`Cut`]: up to where an answer saw the log. `source` takes one, exactly: the files of a snapshot and the tail of the
//!   log that they do not hold, every event that was durable when the query began and none beyond (promise P4).
//! * `events_table` and `barrier`: the table `events` of one query, and the wall in it that no statement gets around.
//! * `views`: `sessions`, `commands` and `responses`, in SQL.
//! * `heads` and `session_state`: what instances signed of their streams, and what that makes of a session.
//! * `statement` and `engine`: what may be asked, and what it may use while it runs.
//! * [`Reader`]: the one way to rows. It checks the right, and records the read before its first row leaves (promise P8).
//! * [`QueryService`] and [`Client`]: a reader behind gRPC, TLS and tokens, and its other end.
//! * `postgres` and `catalogue`: the same reader behind PostgreSQL's protocol, and what its clients look around in.
//! * `control`: orders to the gateway, such as to end a session; `holds`: those that keep evidence; `reviews`: commands that
//!   wait for people, and their decisions.
//!
//! What is absent: nothing here writes to log or table but the records of reads, orders and refused logins, and nothing but the
//! table's own files can be reached from a statement.

mod options;

mod cut;

mod removed;

mod source;

mod spill;

mod right;

mod files;

mod barrier;

mod events_table;

mod functions;

mod heads;

mod session_state;

mod views;

mod catalogue;

mod fingerprint;

mod as_of;

mod statement;

mod engine;

mod evidence;

mod metrics;

mod answer;

mod reader;

mod tail;

mod control;

mod holds;

mod reviews;

mod error;

mod ipc;

mod door;

mod service;

mod lingering;

mod server;

mod postgres;

mod client;

/// The generated types of `retrace/query/v1/query.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod wire {
    include!("gen/retrace.query.v1.rs");
}

pub use answer::{Batches, EventRecord, Events, EventsAnswer, SqlAnswer};
pub use client::Client;
pub use control::{ORDER_REASON_BYTES_MAX, Ordered};
pub use cut::{Cut, Position};
pub use error::{ErrorKind, QueryError};
pub use holds::{HoldAct, HoldOrdered, HoldRecord};
pub use options::Options;
pub use reader::{Reader, Sources};
pub use removed::Removed;
pub use retrace_evidence::HOLD_NAME_BYTES_MAX;
pub use reviews::{DecisionRecord, HistoryRecord, ReviewBook, ReviewRecord, ReviewShown, ReviewTermsRecord};
pub use server::{GRPC_ALPN, ServeError};
pub use service::{Control, End, OrderCheck, Parts, QueryService};
