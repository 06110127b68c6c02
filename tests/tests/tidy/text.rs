//! What the files look like.

use std::path::{Path, PathBuf};

use crate::{assert_none, root};

/// Lines after which a file has to say why.
const FILE_LINES_MAX: usize = 500;

/// Files that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[
    ("replay/tests/session.rs", "one builder of damaged sessions and the table of what each looks like"),
    ("query/src/postgres/connection.rs", "one connection's messages and what answers them"),
    ("proto/proto/retrace/event/v1/event.proto", "one schema of one version, read as a whole"),
];

/// The only files outside tests that may set the lint aside which guards `Masked`'s constructor.
const VOUCHING: &[&str] = &["policy/src/mask.rs", "policy/src/mask/"];

/// A file of the workspace: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

/// Every file that people write: no build output, no generated code, no test data.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8").to_owned();
            if path.is_dir() {
                let skipped = ["target", "gen", "data"].contains(&name.as_str())
                    || (name.starts_with('.') && name != ".ci");
                if !skipped {
                    folders.push(path);
                }
            } else if name != "Cargo.lock" && name != "LICENSE" && !name.starts_with('.') {
                found.extend(read(&path));
            }
        }
    }
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

/// The file, unless it is not text.
fn read(path: &PathBuf) -> Option<File> {
    let text = String::from_utf8(std::fs::read(path).expect("the file can be read")).ok()?;
    let path = path.strip_prefix(root()).expect("the walk began there").to_string_lossy().into_owned();
    Some(File { path, text })
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// `path:line: what` for every line that `breach` has something to say of.
fn lines_where(files: &[File], breach: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut breaches = Vec::new();
    for File { path, text } in files {
        for (index, line) in text.lines().enumerate() {
            breaches.extend(breach(line).map(|what| format!("{path}:{}: {what}", index + 1)));
        }
    }
    breaches
}

fn any_word(words: &[&str], line: &str) -> Option<String> {
    words.iter().find(|word| line.contains(*word)).map(|word| (*word).to_owned())
}

#[test]
fn files_are_short() {
    let breaches: Vec<_> = files()
        .iter()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(file, lines)| *lines > FILE_LINES_MAX && !LONGER.iter().any(|(path, _)| *path == file.path))
        .map(|(file, lines)| format!("{} has {lines} lines", file.path))
        .collect();
    assert_none("files over 500 lines", &breaches);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
    ];
    assert_none("unfinished work", &lines_where(&files(), |line| any_word(&words, line)));
}

#[test]
fn no_file_names_one_machine() {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("spar", "se+http"),
    ];
    assert_none("paths and hosts of one machine", &lines_where(&files(), |line| any_word(&words, line)));
    assert!(!root().join(".cargo").exists(), ".cargo would carry one machine's settings to all");
}

#[test]
fn limits_say_their_unit() {
    assert_none("limits without a unit", &lines_where(&rust_files(), limit_without_unit));
}

/// The name of a constant that is a limit, `…_MAX`, without a word for its unit: a plural counts what it names. `MAX_…`
/// is the wrong way round; a `Duration` has its unit in its type.
fn limit_without_unit(line: &str) -> Option<String> {
    let (before, after) = line.split_once("const ")?;
    let in_name = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_';
    let name: String = after.chars().take_while(in_name).collect();
    let unit = |word: &str| ["KIB", "MIB"].contains(&word) || (word.ends_with('S') && !word.ends_with("SS"));
    let wrong = name.starts_with("MAX_")
        || (name.ends_with("_MAX") && !name.split('_').any(unit) && !after.contains(": Duration"));
    (wrong && !before.contains('"')).then_some(name)
}

#[test]
fn a_limit_without_a_unit_is_seen() {
    for (line, seen) in [
        ("pub const EVENT_BYTES_MAX: usize = 1;", false),
        ("const HELD_COMMANDS_MAX: usize = 1;", false),
        ("const REVIEW_WAIT_MS_MAX: u64 = 1;", false),
        ("const REVIEW_WAIT_MAX: Duration = Duration::from_secs(1);", false),
        ("const REVIEW_WAIT_MAX: u64 = 1;", true),
        ("const ADDRESS_MAX: usize = 1;", true),
        ("pub(crate) const MAX_BYTES: usize = 1;", true),
        ("const OTHER: usize = 1;", false),
    ] {
        assert_eq!(limit_without_unit(line).is_some(), seen, "{line}");
    }
}

#[test]
fn modules_are_files_of_their_own_name() {
    let breaches: Vec<_> =
        rust_files().into_iter().map(|file| file.path).filter(|path| path.ends_with("/mod.rs")).collect();
    assert_none("mod.rs", &breaches);
}

/// The one crate that calls into C. It has the workspace's lints too, but for the ban on unsafe code.
const UNSAFE: &str = "eventlog/kafka-admin/Cargo.toml";

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let breaches: Vec<_> = files()
        .into_iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && file.path != UNSAFE)
        .filter(|file| {
            let manifest: toml::Table = file.text.parse().expect("Cargo.toml is TOML");
            manifest.get("lints").and_then(|lints| lints.get("workspace"))
                != Some(&toml::Value::Boolean(true))
        })
        .map(|file| file.path)
        .collect();
    assert_none("crates without `[lints] workspace = true`", &breaches);
}

#[test]
fn the_crate_with_unsafe_code_lacks_no_other_lint() {
    let lints = |path: &str, at: &[&str]| {
        let text = std::fs::read_to_string(root().join(path)).expect("Cargo.toml is there");
        let manifest: toml::Value = text.parse::<toml::Table>().expect("Cargo.toml is TOML").into();
        let table = at.iter().fold(&manifest, |table, key| &table[key]);
        table.as_table().expect("a table of lints").clone()
    };
    let mut breaches = Vec::new();
    for tool in ["rust", "clippy"] {
        let own = lints(UNSAFE, &["lints", tool]);
        for (lint, level) in lints("Cargo.toml", &["workspace", "lints", tool]) {
            if lint != "unsafe_code" && own.get(&lint) != Some(&level) {
                breaches.push(format!("{UNSAFE} has {tool} lint {lint} not at {level}"));
            }
        }
    }
    assert_none("lints of the crate with unsafe code", &breaches);
}

#[test]
fn only_the_masking_module_sets_its_lint_aside() {
    let lint = concat!("clippy::disallowed", "_methods");
    let mut breaches = Vec::new();
    for File { path, text } in rust_files() {
        let of_tests = !path.contains("/src/")
            || path.starts_with("tests/")
            || Path::new(&path).file_stem().is_some_and(|stem| stem == "tests");
        let vouches = VOUCHING.iter().any(|allowed| path.starts_with(allowed));
        let product = text.split("#[cfg(test)]").next().unwrap_or(&text);
        if !of_tests && !vouches && product.contains(lint) {
            breaches.push(path);
        }
    }
    assert_none("files that set aside the lint that guards `Masked`", &breaches);
}
