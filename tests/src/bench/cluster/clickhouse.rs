//! What ClickHouse takes for the same rows and columns, if it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{cache, files_under, run};

const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes per row, with its keys and marks.
#[derive(Debug)]
pub(super) struct ClickHouse {
    pub(super) version: String,
    pub(super) lz4_bytes: f64,
    pub(super) zstd_bytes: f64,
}

/// The data files of a table, as the newest version has them: what was merged lies beside them for a while. The log is read from
/// its beginning, of which a bench removes nothing.
pub(super) fn data_files(table: &Path) -> Vec<PathBuf> {
    let mut versions = files_under(&table.join("_delta_log"));
    versions.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    versions.sort_unstable();
    let mut files = BTreeSet::new();
    for version in versions {
        let actions = fs::read_to_string(version).expect("the log is readable");
        for action in actions.lines() {
            let action: Value = serde_json::from_str(action).expect("each line is an action");
            if let Some(path) = action["add"]["path"].as_str() {
                files.insert(table.join(path));
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                files.remove(&table.join(path));
            }
        }
    }
    files.into_iter().collect()
}

/// `None` where `scripts/bench-tools` has not installed it.
pub(super) fn measure(table: &Path) -> Option<ClickHouse> {
    let python = cache("RETRACE_CLICKHOUSE", "clickhouse").join("venv/bin/python");
    if !python.exists() {
        return None;
    }
    let mut command = Command::new(python);
    command.args(["-c", include_str!("clickhouse.py")]);
    let files: Vec<_> = data_files(table).iter().map(|file| file.display().to_string()).collect();
    command.arg(format!("{{{}}}", files.join(",")));
    let printed = run(command, b"", PATIENCE).expect_ok();
    let found: BTreeMap<_, _> = printed.lines().filter_map(|line| line.split_once(' ')).collect();
    let bytes = |codec: &str| found[codec].parse().expect("a number");
    Some(ClickHouse {
        version: found["version"].to_owned(),
        lz4_bytes: bytes("LZ4"),
        zstd_bytes: bytes("ZSTD(1)"),
    })
}
