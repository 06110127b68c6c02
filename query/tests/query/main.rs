//! The query service against a log in memory and a table in a temporary folder.

mod world;

mod cut;

mod network;

mod record;

mod refusals;

mod rights;

mod tail;

mod views;
