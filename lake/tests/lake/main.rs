//! Tests of the lake through its public API.

#![allow(clippy::disallowed_methods, reason = "the events of these tests hold no traffic")]
#![allow(clippy::print_stdout, reason = "counts are shown as well as asserted")]

mod support;

mod lossless;

mod commit;

mod compact;

mod places;

mod records;

mod retain;

mod sweep;

mod golden;
