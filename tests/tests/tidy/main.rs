//! The checks of the house: what no compiler and no lint sees.
//!
//! * [`layers`]: the table of layers against what they depend on.
//! * [`text`]: sizes, names and words of the files themselves.
//! * [`supply`]: licences, bans and duplicates, as deny.toml has them.
//! * [`deploy`]: what is deployed against what the tests run.

mod deploy;
mod layers;
mod supply;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
fn root() -> PathBuf {
    // Where the test runs, not where it was built: two checkouts may share their build output.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    Path::new(&here).parent().expect("the crate is in the workspace").to_owned()
}

/// The standard output of `cargo` with `arguments`.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Fails naming every breach at once, so that they can be mended at once.
fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
