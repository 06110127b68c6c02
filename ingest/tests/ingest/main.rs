//! Tests of ingest through its public API.

#![allow(clippy::print_stdout, reason = "counts are shown as well as asserted")]

mod support;

mod steps;

mod duplicates;

mod retain;

mod sweep;

mod golden;

mod simulation;
