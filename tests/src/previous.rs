//! The release before this one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache;

/// The `retrace` of the commit that `tests/previous-release` names, which `scripts/previous-release` built.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn previous_release() -> PathBuf {
    // Where the test runs, not where it was built: two checkouts may share their build output.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let text = fs::read_to_string(Path::new(&here).join("previous-release")).expect("the file is there");
    let commit = text.lines().find(|line| !line.starts_with('#')).expect("it names a commit").trim();
    let program = cache("RETRACE_PREVIOUS", "previous").join(commit).join("retrace");
    assert!(program.exists(), "{} is not there; run `make soak`", program.display());
    program
}
