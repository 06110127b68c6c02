//! Tests of the lake through its public API.

mod support;

mod lossless;

mod commit;
