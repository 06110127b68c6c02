//! What the embedded log promises beyond the contract: restarts, kills, damage, one process at a time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use proptest::prelude::*;
use retrace_eventlog::{AppendError, EmbeddedLog, EmbeddedOptions, EventLog, OpenError, ReadError};
use retrace_proto::log::{Record, Topic, TopicPartition};

const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };

fn open(folder: &Path, segment_bytes_max: u64) -> Result<EmbeddedLog, OpenError> {
    EmbeddedLog::open(folder, &EmbeddedOptions { segment_bytes_max, ..EmbeddedOptions::default() })
}

async fn read_all(log: &EmbeddedLog) -> Result<Vec<Record>, ReadError> {
    let offsets = log.offsets(EVENTS).await?;
    let mut records = Vec::new();
    while offsets.start + (records.len() as u64) < offsets.end {
        let next = offsets.start + records.len() as u64;
        records.extend(log.read(EVENTS, next, 100_000).await?);
    }
    assert!(records.iter().map(|record| record.offset).eq(offsets), "offsets are dense");
    Ok(records)
}

#[tokio::test]
async fn a_restart_keeps_records_offsets_ids_and_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500).unwrap();
    let ids = Topic::ALL.map(|topic| log.topic_id(topic));
    for number in 0..50_u8 {
        log.append(EVENTS, Bytes::from_static(b"key"), Bytes::from(vec![number; 40])).await.unwrap();
    }
    log.truncate_below(EVENTS, 25).await.unwrap();
    let offsets = log.offsets(EVENTS).await.unwrap();
    assert!(offsets.start > 0);
    let records = read_all(&log).await.unwrap();
    drop(log);
    let log = open(folder.path(), 500).unwrap();
    assert_eq!(Topic::ALL.map(|topic| log.topic_id(topic)), ids);
    assert_eq!(log.offsets(EVENTS).await.unwrap(), offsets);
    assert_eq!(read_all(&log).await.unwrap(), records);
    assert_eq!(log.append(EVENTS, Bytes::new(), Bytes::new()).await, Ok(50));
}

#[tokio::test]
async fn a_log_made_anew_has_other_ids() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let id = |folder: &Path| open(folder, 500).unwrap().topic_id(Topic::Events);
    let (one, other) = (id(one.path()), id(other.path()));
    assert_ne!(one, other);
    assert!(one.unix_ms().is_some(), "it is a UUIDv7");
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_then_everything_says_closed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500).unwrap();
    let appends: Vec<_> = (0..100).map(|_| log.append(EVENTS, Bytes::new(), Bytes::new())).collect();
    log.close();
    assert_eq!(try_join_all(appends).await.unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(log.append(EVENTS, Bytes::new(), Bytes::new()).await, Err(AppendError::Closed));
    assert_eq!(log.read(EVENTS, 0, 1).await, Err(ReadError::Closed));
    assert_eq!(log.offsets(EVENTS).await, Err(ReadError::Closed));
    assert_eq!(log.wait_past(EVENTS, 1000).await, Err(ReadError::Closed));
    assert_eq!(open(folder.path(), 500).unwrap().offsets(EVENTS).await, Ok(0..100));
}

#[test]
fn a_second_process_is_told_who_has_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 500).unwrap();
    let error = open(folder.path(), 500).unwrap_err();
    assert!(
        matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains(&format!("process {}: stop that process", std::process::id())), "{text}");
    drop(first);
    open(folder.path(), 500).unwrap();
}

const CHILD_FOLDER: &str = "RETRACE_TEST_LOG_FOLDER";
const KILL_SEGMENT_BYTES_MAX: u64 = 64 * 1024;

/// Not a test of its own: the process that `kill_9` kills. It says each acknowledged append on its output.
#[test]
#[ignore = "run by what_was_acknowledged_survives_kill_9 as a process of its own"]
fn child_appends_until_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let log = Arc::new(open(Path::new(&folder), KILL_SEGMENT_BYTES_MAX).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let appenders: Vec<_> = (0..16_u64)
        .map(|appender| {
            let log = Arc::clone(&log);
            runtime.spawn(async move {
                for number in 0_u64.. {
                    let key = Bytes::copy_from_slice(&appender.to_le_bytes());
                    let value = format!("{}-{appender}-{number}", std::process::id());
                    let offset = log.append(EVENTS, key, Bytes::from(value.clone())).await.unwrap();
                    std::io::stdout().write_all(format!("\nack {offset} {value}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    runtime.block_on(async { try_join_all(appenders).await }).unwrap();
}

/// Runs the child until it acknowledged `acks` appends, kills it, and returns all it acknowledged.
fn kill_after(folder: &Path, acks: usize) -> BTreeMap<u64, String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_appends_until_killed", "--ignored", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = BTreeMap::new();
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        // The kill may cut the last line short.
        if let Some((offset, value)) =
            line.strip_suffix('\n').and_then(|line| line.strip_prefix("ack ")?.split_once(' '))
        {
            let before = acknowledged.insert(offset.parse().unwrap(), value.to_owned());
            assert_eq!(before, None, "an offset is given once");
            if acknowledged.len() == acks {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= acks, "the child ended by itself after {} appends", acknowledged.len());
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 1..=5 {
        for (offset, value) in kill_after(folder.path(), 400 * round) {
            assert_eq!(acknowledged.insert(offset, value), None, "offset {offset} was given before the kill");
        }
        let log = open(folder.path(), KILL_SEGMENT_BYTES_MAX).unwrap();
        let records = read_all(&log).await.unwrap();
        assert!(records.len() >= acknowledged.len());
        for (offset, value) in &acknowledged {
            let found = &records[usize::try_from(*offset).unwrap()];
            assert_eq!(found.value, value.as_bytes(), "offset {offset}, round {round}");
        }
    }
    assert!(acknowledged.len() >= 6000);
}

fn events_folder(folder: &Path) -> PathBuf {
    folder.join("retrace.events/0")
}

fn newest_segment(folder: &Path) -> PathBuf {
    let files = fs::read_dir(events_folder(folder)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "redb")).max().unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Cut,
    Zeroes,
    Noise,
}

fn damage(file: &Path, at: u64, damage: Damage) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let length = file.metadata().unwrap().len();
    let tail_bytes = usize::try_from(length - at).unwrap().min(8192);
    match damage {
        Damage::Cut => file.set_len(at).unwrap(),
        Damage::Zeroes => file.write_all_at(&vec![0; tail_bytes], at).unwrap(),
        Damage::Noise => file.write_all_at(&vec![0xa5; tail_bytes], at).unwrap(),
    }
}

/// The outcome of opening a damaged copy: what it refused with, or nothing if all is there.
async fn refusal(folder: &Path, expected: &[Record]) -> Option<String> {
    let log = match open(folder, 1 << 20) {
        Ok(log) => log,
        Err(error) => return Some(error.to_string()),
    };
    match read_all(&log).await {
        Ok(records) => {
            assert_eq!(records, expected, "the log serves fewer records, or others, and does not say so");
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test]
async fn a_damaged_tail_is_recovered_or_refused_and_never_served_short() {
    let original = tempfile::tempdir().unwrap();
    let log = open(original.path(), 1 << 20).unwrap();
    for number in 0..60_u8 {
        log.append(EVENTS, Bytes::from_static(b"key"), Bytes::from(vec![number; 3000])).await.unwrap();
    }
    let expected = read_all(&log).await.unwrap();
    let (killed, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy_folder(original.path(), killed.path());
    drop(log);
    copy_folder(original.path(), closed.path());
    let (mut whole, mut refused, mut rolled_back) = (0, 0, 0);
    for source in [killed.path(), closed.path()] {
        let length = fs::metadata(newest_segment(source)).unwrap().len();
        for step in 0..24 {
            for kind in [Damage::Cut, Damage::Zeroes, Damage::Noise] {
                let copy = tempfile::tempdir().unwrap();
                copy_folder(source, copy.path());
                damage(&newest_segment(copy.path()), length * step / 24, kind);
                match refusal(copy.path(), &expected).await {
                    None => whole += 1,
                    Some(text) => {
                        refused += 1;
                        rolled_back += usize::from(text.contains("had acknowledged 60"));
                        assert!(text.contains("restore") || text.contains("check that"), "{text}");
                    }
                }
            }
        }
    }
    assert_eq!(whole + refused, 2 * 24 * 3);
    assert!(refused >= 24, "damage was noticed {refused} times");
    // What redb alone would have served short, without a word.
    assert!(rolled_back > 0, "redb went back to an earlier commit {rolled_back} times");
    for source in [killed.path(), closed.path()] {
        assert_eq!(refusal(source, &expected).await, None, "an undamaged copy opens");
    }
}

#[tokio::test]
async fn a_log_that_lost_its_newest_segment_is_refused_until_the_loss_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500).unwrap();
    for _ in 0..50 {
        log.append(EVENTS, Bytes::new(), Bytes::from_static(&[7; 100])).await.unwrap();
    }
    drop(log);
    let newest = newest_segment(folder.path());
    let base: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_file(newest).unwrap();
    let error = open(folder.path(), 500).unwrap_err();
    let OpenError::MissingRecords { end, watermark, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*end, *watermark), (base, 50));
    fs::remove_file(events_folder(folder.path()).join("watermark")).unwrap();
    assert_eq!(open(folder.path(), 500).unwrap().offsets(EVENTS).await, Ok(0..base));
}

#[tokio::test]
async fn a_missing_segment_in_the_middle_is_damage_not_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500).unwrap();
    for _ in 0..50 {
        log.append(EVENTS, Bytes::new(), Bytes::from_static(&[7; 100])).await.unwrap();
    }
    drop(log);
    let mut segments: Vec<_> =
        fs::read_dir(events_folder(folder.path())).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "redb"));
    segments.sort();
    let base: u64 = segments[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_file(&segments[1]).unwrap();
    let log = open(folder.path(), 500).unwrap();
    assert_eq!(log.read(EVENTS, 0, 100).await.unwrap().len(), 1);
    assert_eq!(log.read(EVENTS, base, 100).await, Err(ReadError::Damaged { offset: base }));
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Read { start: u64, bytes_max: usize },
    Truncate(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..2000_usize, 1..20).prop_map(Step::Append),
        4 => (0..150_u64, 0..5000_usize).prop_map(|(start, bytes_max)| Step::Read { start, bytes_max }),
        1 => (0..150_u64).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
    ]
}

/// The log as a list, and where it may start.
#[derive(Default)]
struct Model {
    values: Vec<Bytes>,
    truncated_below: u64,
}

impl Model {
    async fn append(&mut self, log: &EmbeddedLog, lengths: Vec<usize>) {
        let first = self.values.len();
        let values = lengths
            .into_iter()
            .enumerate()
            .map(|(index, length)| Bytes::from(vec![u8::try_from((first + index) % 251).unwrap(); length]));
        self.values.extend(values);
        let appends =
            self.values[first..].iter().map(|value| log.append(EVENTS, Bytes::new(), value.clone()));
        let offsets = try_join_all(appends.collect::<Vec<_>>()).await.unwrap();
        assert_eq!(offsets, (first as u64..self.values.len() as u64).collect::<Vec<_>>());
    }

    async fn check_read(&self, log: &EmbeddedLog, start: u64, bytes_max: usize) {
        let offsets = log.offsets(EVENTS).await.unwrap();
        assert_eq!(offsets.end, self.values.len() as u64);
        assert!(offsets.start <= self.truncated_below.min(offsets.end));
        match log.read(EVENTS, start, bytes_max).await {
            Err(ReadError::BelowStart { start: kept }) => assert!(start < kept && kept == offsets.start),
            Err(ReadError::AboveEnd { end }) => assert!(start > end && end == offsets.end),
            Err(error) => panic!("{error:?}"),
            Ok(records) => {
                assert_eq!(records.is_empty(), start == offsets.end);
                let bytes: usize = records.iter().map(|record| record.value.len()).sum();
                assert!(records.len() <= 1 || bytes <= bytes_max);
                for (offset, record) in (start..).zip(&records) {
                    assert_eq!(record.offset, offset);
                    assert_eq!(record.value, self.values[usize::try_from(offset).unwrap()]);
                }
            }
        }
    }

    async fn run(mut self, steps: Vec<Step>) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), 6000).unwrap();
        for step in steps {
            match step {
                Step::Append(lengths) => self.append(&log, lengths).await,
                Step::Read { start, bytes_max } => self.check_read(&log, start, bytes_max).await,
                Step::Truncate(offset) => {
                    log.truncate_below(EVENTS, offset).await.unwrap();
                    self.truncated_below = self.truncated_below.max(offset);
                }
                Step::Reopen => {
                    drop(log);
                    log = open(folder.path(), 6000).unwrap();
                }
            }
        }
        let start = log.offsets(EVENTS).await.unwrap().start;
        let records = read_all(&log).await.unwrap();
        assert!(
            records.iter().map(|record| &record.value).eq(&self.values[usize::try_from(start).unwrap()..])
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_list(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Model::default().run(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_is_whole_though_its_segment_becomes_full_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path(), 100_000).unwrap());
    let written = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers = (0..3).map(|_| {
        let (log, written) = (log.clone(), written.clone());
        tokio::spawn(async move {
            let mut reads = 0_u64;
            while !written.load(std::sync::atomic::Ordering::Acquire) {
                let end = log.offsets(EVENTS).await.unwrap().end;
                if end > 0 {
                    let start = end.saturating_sub(80);
                    assert!(!log.read(EVENTS, start, 1_000_000).await.unwrap().is_empty());
                    reads += 1;
                }
            }
            reads
        })
    });
    let readers: Vec<_> = readers.collect();
    for _ in 0..400 {
        let value = Bytes::from(vec![7; 1_000]);
        let appends = (0..20).map(|_| log.append(EVENTS, Bytes::from_static(b"key"), value.clone()));
        try_join_all(appends).await.unwrap();
    }
    written.store(true, std::sync::atomic::Ordering::Release);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}
