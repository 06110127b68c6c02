//! What ClickHouse takes for the same rows and columns, if it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{cache, files_under, run};

const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes per row, with its keys and marks.
#[derive(Debug)]
pub(super) struct ClickHouse {
    pub(super) version: String,
    pub(super) lz4_bytes: f64,
    pub(super) zstd_bytes: f64,
}

/// The data files of a table.
pub(super) fn data_files(table: &Path) -> Vec<PathBuf> {
    let mut files = files_under(table);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    // A checkpoint of Delta's is one too.
    files.retain(|file| !file.components().any(|part| part.as_os_str() == "_delta_log"));
    files
}

/// `None` where `scripts/bench-tools` has not installed it.
pub(super) fn measure(table: &Path) -> Option<ClickHouse> {
    let python = cache("RETRACE_CLICKHOUSE", "clickhouse").join("venv/bin/python");
    if !python.exists() {
        return None;
    }
    let mut command = Command::new(python);
    command.args(["-c", include_str!("clickhouse.py")]);
    command.arg(table.join("session_date=*/*/*.parquet"));
    let printed = run(command, b"", PATIENCE).expect_ok();
    let found: BTreeMap<_, _> = printed.lines().filter_map(|line| line.split_once(' ')).collect();
    let bytes = |codec: &str| found[codec].parse().expect("a number");
    Some(ClickHouse {
        version: found["version"].to_owned(),
        lz4_bytes: bytes("LZ4"),
        zstd_bytes: bytes("ZSTD(1)"),
    })
}
