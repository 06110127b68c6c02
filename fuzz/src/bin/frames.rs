//! Fuzz target: a whole session, its framing and its message decoders included.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| retrace_fuzz::session::run(input));
