//! What tests keep for good of an earlier release: folders numbered by format, and the records of a log as text.
//!
//! Tests of several crates read what is kept, each by its own code, and take this file as a module of theirs.
#![allow(dead_code, reason = "each of them needs a part of it")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use retrace_proto::log::{Record, TopicPartition};

/// A record and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) at: TopicPartition,
    pub(crate) record: Record,
    /// The value of the column `row_kind`; `record` where nobody made a row of it.
    pub(crate) kind: String,
}

/// `path` from the root of the workspace.
pub(crate) fn root(path: &str) -> PathBuf {
    // Where the test runs, not where it was built: two checkouts may share their build output.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    Path::new(&here).join("..").join(path)
}

/// The folders `PREFIX-N` in a folder of the workspace, by their numbers.
pub(crate) fn numbered(within: &str, prefix: &str) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    // A folder that is not there has none.
    for entry in fs::read_dir(root(within)).into_iter().flatten() {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    assert!(!found.is_empty(), "{within} has no {prefix}-N: `make golden` writes one");
    found
}

/// Puts all of a folder into one that is made; the original stays as it was kept.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is writable");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let from = entry.expect("the folder can be read").path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::write(to, fs::read(&from).expect("the file can be read")).expect("the folder is writable");
        }
    }
}

/// The records of a file: each a line of topic partition, offset, append time, kind, and key and value in hex.
pub(crate) fn read(file: &Path) -> Vec<Kept> {
    let text = fs::read_to_string(file).expect("the records are there");
    let kept: Vec<_> = text.lines().map(|line| parse(line).expect("six fields")).collect();
    assert!(!kept.is_empty(), "{} has no records", file.display());
    kept
}

fn parse(line: &str) -> Option<Kept> {
    let mut fields = line.split(' ');
    let mut field = || fields.next();
    let at = field()?.parse().ok()?;
    let (offset, appended_at_unix_us) = (field()?.parse().ok()?, field()?.parse().ok()?);
    let kind = field()?.to_owned();
    let (key, value) = (unhex(field()?)?, unhex(field()?)?);
    Some(Kept { at, record: Record { offset, appended_at_unix_us, key, value }, kind })
}

/// The reverse of [`read`].
pub(crate) fn write(file: &Path, kept: &[Kept]) {
    let mut text = String::new();
    for Kept { at, record, kind } in kept {
        let Record { offset, appended_at_unix_us, key, value } = record;
        let (key, value) = (hex(key), hex(value));
        writeln!(text, "{at} {offset} {appended_at_unix_us} {kind} {key} {value}")
            .expect("a String takes all");
    }
    fs::write(file, text).expect("the folder is writable");
}

/// The sealed events of every schema version, as `proto/tests/golden.rs` keeps them: their names and bytes.
pub(crate) fn events() -> Vec<(String, Bytes)> {
    let mut files: Vec<_> = fs::read_dir(root("proto/tests/golden")).expect("they are there").collect();
    files.sort_by_key(|entry| entry.as_ref().map(fs::DirEntry::path).unwrap_or_default());
    let mut events = Vec::new();
    for file in files.into_iter().map(|entry| entry.expect("the folder can be read").path()) {
        if file.extension().is_some_and(|extension| extension == "txt") {
            let text = fs::read_to_string(&file).expect("the file can be read");
            let event = |line: &str| {
                let (name, bytes) = line.split_once(' ')?;
                Some((name.to_owned(), unhex(bytes)?))
            };
            events.extend(text.lines().map(|line| event(line).expect("name and bytes")));
        }
    }
    assert!(events.len() >= 26, "only {} events are kept", events.len());
    events
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
