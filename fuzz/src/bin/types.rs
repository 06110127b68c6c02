//! Fuzz target: binary values of every type.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| retrace_fuzz::values::run(input));
