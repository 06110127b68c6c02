//! Build script of every crate that links both librdkafka and PostgreSQL's parser.
//!
//! Each of the two C libraries brings a copy of xxHash under its public names, and linkers refuse to choose. Both copies have
//! the same stable interface and the same states (XXH32 and XXH64, no other name is there twice), so whichever is taken first
//! serves both.

#[allow(clippy::print_stdout, reason = "it is how a build script speaks")]
fn main() {
    println!("cargo::rerun-if-changed=../eventlog/link.rs");
    println!("cargo::rustc-link-arg=-Wl,--allow-multiple-definition");
}
