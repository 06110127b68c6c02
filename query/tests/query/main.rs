//! The query service against a log in memory and a table in a temporary folder.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "tests are data, and long"
)]

mod world;

mod as_of;

mod cut;

mod docs;

mod holds;

mod golden;

mod network;

mod orders;

mod record;

mod refusals;

mod rights;

mod session_state;

mod tail;

mod views;
