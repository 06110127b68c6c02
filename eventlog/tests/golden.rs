//! An embedded log of every format, kept for good: what was once written must be read for ever.
//!
//! `golden/format-N` is the log that the first release of that format wrote, and `records.txt` in it what it holds. A new format
//! adds a folder, by `make golden`; none ever changes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../proto/tests/golden/kept.rs"]
mod kept;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use redb::{Builder, ReadableDatabase, TableDefinition};
use retrace_eventlog::{EmbeddedLog, EmbeddedOptions, EventLog};
use retrace_proto::log::{Topic, TopicPartition};

use kept::Kept;

const GOLDEN: &str = "eventlog/tests/golden";

fn open(folder: &Path) -> EmbeddedLog {
    EmbeddedLog::open(folder, &EmbeddedOptions::default()).unwrap()
}

fn places() -> [TopicPartition; 2] {
    Topic::ALL.map(|topic| TopicPartition { topic, partition: 0 })
}

async fn records(log: &EmbeddedLog) -> Vec<Kept> {
    let mut all = Vec::new();
    for at in places() {
        let offsets = log.offsets(at).await.unwrap();
        let records = log.read(at, offsets.start, usize::MAX).await.unwrap();
        assert!(records.iter().map(|record| record.offset).eq(offsets), "{at} has all of them");
        all.extend(records.into_iter().map(|record| Kept { at, record, kind: "record".to_owned() }));
    }
    all
}

/// The format that a segment names.
fn format_of(log: &Path) -> u64 {
    const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
    let segment = log.join(Topic::Events.name()).join("0/00000000000000000000.redb");
    let database = Builder::new().open_read_only(segment).unwrap();
    let about = database.begin_read().unwrap().open_table(ABOUT).unwrap();
    about.get("format").unwrap().unwrap().value()
}

/// Writes a log in the format of today, and gives the format.
async fn write(folder: &Path) -> u64 {
    let log = open(folder);
    for (name, value) in kept::events() {
        let topic = match name.as_str() {
            "token_revoked" | "kill_requested" | "cancel_requested" => Topic::Control,
            "session_opened" | "command_received" | "response_chunk" => Topic::Events,
            _ => continue,
        };
        let key = Bytes::from_static(b"key");
        log.append(TopicPartition { topic, partition: 0 }, key, value).await.unwrap();
    }
    let records = records(&log).await;
    drop(log);
    kept::write(&folder.join("records.txt"), &records);
    fs::remove_file(folder.join("LOCK")).unwrap();
    format_of(folder)
}

#[tokio::test]
async fn the_format_that_is_written_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let format = write(folder.path()).await;
    let golden = kept::root(&format!("{GOLDEN}/format-{format}"));
    if !golden.exists() && std::env::var_os("RETRACE_BLESS").is_some() {
        kept::copy(folder.path(), &golden);
    }
    assert!(golden.exists(), "no log of format {format} is kept: `make golden` writes one");
    assert_eq!(format_of(&golden), format);
}

#[tokio::test]
async fn a_log_of_every_format_is_read_and_written_on() {
    for (format, golden) in kept::numbered(GOLDEN, "format") {
        let folder = tempfile::tempdir().unwrap();
        kept::copy(&golden, folder.path());
        let kept = kept::read(&golden.join("records.txt"));
        let log = open(folder.path());
        assert_eq!(records(&log).await, kept, "format {format}");
        for (at, topic) in places().into_iter().zip(Topic::ALL) {
            let id = fs::read_to_string(golden.join(topic.name()).join("topic-id")).unwrap();
            assert_eq!(log.topic_id(topic).to_string(), id.trim(), "format {format}");
            let next = log.offsets(at).await.unwrap().end;
            assert!(next >= 3, "{at} has records");
            assert_eq!(log.append(at, Bytes::new(), Bytes::from_static(b"more")).await, Ok(next));
        }
        drop(log);
        let after = records(&open(folder.path())).await;
        assert_eq!(after.len(), kept.len() + 2, "format {format}");
        assert!(kept.iter().all(|kept| after.contains(kept)), "format {format}");
    }
}
