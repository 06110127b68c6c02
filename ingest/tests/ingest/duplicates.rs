//! A record that a producer delivers again is told from the first, whoever ingests it.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_ingest::{Ingest, Next, RECENT_EVENTS_MAX};
use retrace_lake::faults::{Fault, Step};
use retrace_proto::wire::StreamKind;
use retrace_proto::{Envelope, Event, StreamWriter, Subject};

use crate::support::{CONTROL, EVENTS, Member, Writer, append, found, ingest, kinds, open, options, store};

/// Another event under the first number of a stream.
fn forged(of: &Envelope) -> Envelope {
    let mut stream = StreamWriter::new(of.stream_id(), StreamKind::Session);
    let event = Event::policy_loaded("another".to_owned());
    Envelope::seal(&mut stream, &Subject::default(), None, 0, event).expect("small")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_and_a_conflict_are_told_over_a_restart() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let first = Writer::new(&log, 1).append(EVENTS, 3).await;
    append(&log, EVENTS, &forged(&first[0])).await;
    append(&log, EVENTS, &first[1]).await;
    for again in [&first[2], &forged(&first[0]), &first[0], &first[1]] {
        ingest(&log, open(&store).await).step().await.expect("a process of its own");
        append(&log, EVENTS, again).await;
    }
    ingest(&log, open(&store).await).step().await.expect("the last one");
    let found = found(&store).await;
    let before = ["event", "event", "event", "dead_letter", "duplicate"];
    let after = ["duplicate", "dead_letter", "duplicate", "duplicate"];
    assert_eq!(kinds(&found, EVENTS), [&before[..], &after].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_that_is_cut_short_or_missing_stops_ingest_and_is_named() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    Writer::new(&log, 1).append(EVENTS, 3).await;
    let table = open(&store).await;
    ingest(&log, table.clone()).step().await.expect("nothing is wrong yet");
    let file = table.snapshot().await.expect("the table").files()[0].clone();
    table.store().put(&file.path, "cut short".into()).await.expect("it overwrites");
    for (what, is_there) in [("could not be decoded", true), ("is not there", false)] {
        if !is_there {
            table.store().delete(&file.path).await.expect("it is there");
        }
        let error =
            ingest(&log, open(&store).await).step().await.expect_err("it reads what it would tell by");
        assert!(!error.is_transient(), "{error}");
        let said = std::error::Error::source(&error).expect("of the lake").to_string();
        assert!(said.contains(what) && said.contains(file.path.as_ref()), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_told_after_its_topic_partition_went_to_another_worker_and_back() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (share, member) = Member::join(&log);
        let table = open(&store).await;
        workers.push((share, Ingest::new(member as Arc<dyn EventLog>, table, options()).expect("a member")));
    }
    let mut writer = Writer::new(&log, 1);
    let mut all = Vec::new();
    let rounds = 6;
    for round in 0..rounds {
        all.extend(writer.append(EVENTS, 1).await);
        for known in &all {
            append(&log, EVENTS, known).await;
        }
        let turn = round % 2;
        for (index, (share, _)) in workers.iter().enumerate() {
            share.send_replace(if index == turn { vec![EVENTS] } else { vec![CONTROL] });
        }
        while workers[turn].1.step().await.expect("nobody else has it").rows > 0 {}
        workers[1 - turn].1.step().await.expect("it has nothing of it any more");
    }
    let found = found(&store).await;
    let kinds = kinds(&found, EVENTS);
    let count = |kind| kinds.iter().filter(|of| **of == kind).count();
    println!("events {}, duplicates {}", count("event"), count("duplicate"));
    assert_eq!((count("event"), count("duplicate")), (rounds, rounds * (rounds + 1) / 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_fenced_knows_what_the_other_one_committed() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (share, member) = Member::join(&log);
        share.send_replace(vec![EVENTS]);
        let table = open(&store).await;
        workers.push((share, Ingest::new(member as Arc<dyn EventLog>, table, options()).expect("a member")));
    }
    let mut writer = Writer::new(&log, 1);
    let mut expected = Vec::new();
    for round in 0..4 {
        let first = writer.append(EVENTS, 1).await;
        let (one, other) = (round % 2, 1 - round % 2);
        // Both know where the table stands; only one of them gets to write.
        workers[other].1.attempt().await.expect("up to date, or fenced by the round before");
        while workers[one].1.attempt().await.expect("fenced at most") != Next::WhenDue {}
        append(&log, EVENTS, &first[0]).await;
        while workers[other].1.attempt().await.expect("fenced at most") != Next::WhenDue {}
        expected.extend(["event", "duplicate"]);
    }
    assert_eq!(kinds(&found(&store).await, EVENTS), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_read_again_is_judged_as_at_first() {
    for step in [Step::DataFile, Step::Commit] {
        for fault in [Fault::Failed, Fault::FailedButPersisted] {
            let (log, store) = (Arc::new(MemoryLog::new()), store());
            let first = Writer::new(&log, 1).append(EVENTS, 2).await;
            let mut running = ingest(&log, open(&store).await);
            running.step().await.expect("the first ones");
            let later = Writer::new(&log, 2).append(EVENTS, 1).await;
            for again in [&first[0], &later[0], &forged(&later[0])] {
                append(&log, EVENTS, again).await;
            }
            store.arm(step, fault);
            while !matches!(running.step().await, Ok(progress) if progress.rows > 0) {}
            assert_eq!(store.struck(), 1, "{step:?} {fault:?}");
            let found = found(&store).await;
            let expected = ["event", "event", "event", "duplicate", "duplicate", "dead_letter"];
            assert_eq!(kinds(&found, EVENTS), expected, "{step:?} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_back_is_waited_for() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let first = Writer::new(&log, 1).append(EVENTS, 2).await;
    ingest(&log, open(&store).await).step().await.expect("the first ones");
    append(&log, EVENTS, &first[0]).await;
    let table = open(&store).await;
    let mut running = ingest(&log, table.clone());
    store.fail_reads(true);
    let error = running.step().await.expect_err("the file cannot be read");
    assert!(error.is_transient(), "{error}");
    store.fail_reads(false);
    running.step().await.expect("it can be read again");
    assert_eq!(kinds(&found(&store).await, EVENTS), ["event", "event", "duplicate"]);
}

/// In a soak as many as are remembered, else a tenth. What it costs to read them back is shown, not asserted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_read_back_from_a_hundred_files() {
    let soak = std::env::var_os("RETRACE_SOAK").is_some();
    let events = if soak { RECENT_EVENTS_MAX } else { RECENT_EVENTS_MAX / 10 };
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    let first = writer.append(EVENTS, 1).await;
    let mut appended = writer.append(EVENTS, events - 1).await;
    let files = 100;
    let rows_max = appended.len().div_ceil(files) + 1;
    let bounds = retrace_ingest::Options { rows_max, bytes_max: usize::MAX, ..options() };
    let begin = async || {
        let log = Arc::clone(&log) as Arc<dyn EventLog>;
        Ingest::new(log, open(&store).await, bounds).expect("the share of a log in memory")
    };
    let mut running = begin().await;
    while running.step().await.expect("no fault is set").rows > 0 {}
    let last = appended.pop().expect("many");
    for again in [&first[0], &last, &first[0]] {
        append(&log, EVENTS, again).await;
    }
    let mut restarted = begin().await;
    let began = std::time::Instant::now();
    restarted.step().await.expect("ingested");
    println!("{events} events of {files} files read back and 3 ingested in {:?}", began.elapsed());
    let found = found(&store).await;
    let kinds = kinds(&found, EVENTS);
    let end = kinds.len() - 3;
    assert!(kinds[..end].iter().all(|kind| *kind == "event"));
    // The first one may be as far back as is looked; the same again has it behind it once more.
    assert_eq!(kinds[end..], ["duplicate"; 3]);
}
