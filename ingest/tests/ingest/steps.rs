//! Log to lake: nothing lost, nothing twice, whatever fails at whichever step.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use retrace_eventlog::{EmbeddedLog, EmbeddedOptions, EventLog, MemoryLog, ReadError};
use retrace_ingest::{Ingest, IngestError};
use retrace_lake::Miscount;
use retrace_lake::faults::{Fault, FaultyStore, Step};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::StreamKind;
use retrace_proto::{Envelope, Event, Id, StreamWriter, Subject};

use crate::simulation::gate::{Gate, Message, Request, Verdict};
use crate::support::{
    CONTROL, EVENTS, Member, Writer, append, assert_exactly, found, ingest, kinds, open, options, store,
};

/// Steps until the table has everything; each failure is a crash, after which a new process begins.
async fn step_with_crashes(log: &Arc<MemoryLog>, store: &Arc<FaultyStore>) -> u64 {
    let mut crashes = 0;
    let mut running = ingest(log, open(store).await);
    loop {
        match running.step().await {
            Ok(progress) if progress.rows == 0 => return crashes,
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                crashes += 1;
                running = ingest(log, open(store).await);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
    let (mut cells, mut crashes) = (0, 0);
    for step in [Step::DataFile, Step::Commit] {
        for fault in [Fault::Failed, Fault::FailedButPersisted] {
            for batches_before in [0, 2] {
                let (log, store) = (Arc::new(MemoryLog::new()), store());
                let mut writer = Writer::new(&log, 1);
                let mut appended = writer.append(EVENTS, batches_before * 7).await;
                step_with_crashes(&log, &store).await;
                store.arm(step, fault);
                appended.extend(writer.append(EVENTS, 20).await);
                let control = Writer::new(&log, 2).append(CONTROL, 3).await;
                crashes += step_with_crashes(&log, &store).await;
                assert_eq!(store.struck(), 1, "{step:?} {fault:?}");
                assert_exactly(&store, EVENTS, &appended).await;
                assert_exactly(&store, CONTROL, &control).await;
                cells += 1;
            }
        }
    }
    println!("cells of the crash table: {cells}, crashes: {crashes}");
    // A commit that failed and yet was made is found out by reading back, and no crash.
    assert_eq!((cells, crashes), (8, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_do_not_kill_are_waited_out_by_run() {
    for step in [Step::DataFile, Step::Commit] {
        for fault in [Fault::Failed, Fault::FailedButPersisted] {
            let (log, store) = (Arc::new(MemoryLog::new()), store());
            let appended = Writer::new(&log, 1).append(EVENTS, 20).await;
            let running = ingest(&log, open(&store).await);
            let mut status = running.status();
            store.arm(step, fault);
            let all_in = async move {
                let done = status.wait_for(|status| {
                    !status.partitions.is_empty()
                        && status.partitions.iter().all(|of| of.position == of.log_end)
                });
                done.await.expect("ingest runs");
            };
            running.run(all_in).await.expect("transient failures are no end");
            assert_eq!(store.struck(), 1, "{step:?} {fault:?}");
            assert_exactly(&store, EVENTS, &appended).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_commits_what_is_durable() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let appended = Writer::new(&log, 1).append(EVENTS, 50).await;
    ingest(&log, open(&store).await).run(std::future::ready(())).await.expect("drained");
    assert_exactly(&store, EVENTS, &appended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_truncated_only_below_what_the_table_has() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    Writer::new(&log, 1).append(EVENTS, 20).await;
    let mut running = ingest(&log, open(&store).await);
    store.arm(Step::Commit, Fault::Failed);
    running.step().await.expect_err("the commit fails");
    assert_eq!(log.offsets(EVENTS).await.expect("open").start, 0);
    let progress = running.step().await.expect("the commit is made again");
    assert_eq!(progress.rows, 7);
    assert_eq!(log.offsets(EVENTS).await.expect("open"), 7..20);
    assert_eq!(running.status().borrow().lag_records(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_come_through_however_long_the_log_takes_to_let_go() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    Writer::new(&log, 1).append(EVENTS, 5).await;
    let (gate, mut requests) = Gate::new();
    let (share, member) = Member::join_at(&log, gate);
    share.send_replace(vec![EVENTS, CONTROL]);
    let mut running = Ingest::new(member, open(&store).await, options()).expect("a share");
    let status = running.status();
    let mut truncations = 0;
    store.arm(Step::Commit, Fault::Failed);
    for fails in [true, false] {
        let mut attempt = Box::pin(running.attempt());
        loop {
            tokio::select! {
                biased;
                outcome = &mut attempt => {
                    outcome.expect("it is tried again");
                    break;
                }
                Some(message) = requests.recv() => {
                    let Message::Arrived(request, verdict) = message else { continue };
                    if request == Request::Truncate {
                        truncations += 1;
                        let status = status.borrow();
                        assert!(status.failing_since.is_none() && status.lag_records() == 0, "{status:?}");
                    }
                    verdict.send(Verdict::Pass).expect("the request waits");
                }
            }
        }
        assert_eq!(status.borrow().failing_since.is_some(), fails);
    }
    assert_eq!(truncations, 1, "the log is asked where it has something to let go of");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_new_the_log_is_not_read() {
    let (log, store) = (Arc::new(MemoryLog::with_partitions(16, 4)), store());
    Writer::new(&log, 1).append(EVENTS, 3).await;
    let (gate, mut requests) = Gate::new();
    let (share, member) = Member::join_at(&log, gate);
    share.send_replace((0..16).map(|partition| TopicPartition { partition, ..EVENTS }).collect());
    let mut running = Ingest::new(member, open(&store).await, options()).expect("a share");
    let mut step = Box::pin(running.step());
    let mut reads = 0;
    let progress = loop {
        tokio::select! {
            biased;
            progress = &mut step => break progress.expect("committed"),
            Some(message) = requests.recv() => {
                let Message::Arrived(request, verdict) = message else { continue };
                reads += u32::from(request == Request::Read);
                verdict.send(Verdict::Pass).expect("the request waits");
            }
        }
    };
    assert_eq!((progress.rows, reads), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_records_stay_in_the_log_for_as_long_as_they_are_good() {
    const DAY_US: i64 = 24 * 3600 * 1_000_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let now_unix_us = i64::try_from(now.as_micros()).expect("a date");
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    for (age_days, records) in [(60, 2), (32, 1), (30, 3), (0, 1)] {
        log.set_now(now_unix_us - age_days * DAY_US);
        writer.append(CONTROL, records).await;
    }
    let mut running = ingest(&log, open(&store).await);
    running.drain().await.expect("ingested");
    assert_eq!(log.offsets(CONTROL).await.expect("open"), 3..7, "31 days, with the clocks' difference");
    writer.append(CONTROL, 1).await;
    let mut another = ingest(&log, open(&store).await);
    let rows = another.step().await.expect("ingested").rows;
    assert_eq!(rows, 1, "from its position, not from what the log keeps");
    assert_eq!(log.offsets(CONTROL).await.expect("open"), 3..8);
    // Without a younger record nothing says that the clock of this machine is right.
    let (log, store) = (Arc::new(MemoryLog::new()), self::store());
    log.set_now(now_unix_us - 60 * DAY_US);
    Writer::new(&log, 1).append(CONTROL, 2).await;
    ingest(&log, open(&store).await).drain().await.expect("ingested");
    assert_eq!(log.offsets(CONTROL).await.expect("open"), 0..2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_ingest_is_fenced_and_says_so() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    let mut appended = writer.append(EVENTS, 5).await;
    let (mut one, mut two) = (ingest(&log, open(&store).await), ingest(&log, open(&store).await));
    assert_eq!(one.step().await.expect("first").rows, 5);
    two.step().await.expect("it only resumed: nothing is left to take");
    appended.extend(writer.append(EVENTS, 5).await);
    assert_eq!(two.step().await.expect("first this time").rows, 5);
    appended.extend(writer.append(EVENTS, 2).await);
    // The first one still believes in 5, and the log has let go of what it would read again.
    let error = one.step().await.expect_err("second");
    assert!(error.is_fenced() && !error.is_transient(), "{error}");
    assert_eq!(two.step().await.expect("goes on").rows, 2);
    assert_exactly(&store, EVENTS, &appended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_below_the_position_stops_ingest_and_names_both() {
    let store = store();
    let log = Arc::new(MemoryLog::new());
    Writer::new(&log, 1).append(EVENTS, 5).await;
    ingest(&log, open(&store).await).step().await.expect("ingested");
    let emptied = Arc::new(MemoryLog::new());
    assert_eq!(emptied.topic_id(Topic::Events), log.topic_id(Topic::Events), "the same log, cut");
    Writer::new(&emptied, 2).append(EVENTS, 3).await;
    let error = ingest(&emptied, open(&store).await).step().await.expect_err("an alarm");
    assert!(matches!(error, IngestError::LogBehind { position: 5, end: 3, .. }));
    assert!(!error.is_transient());
    let said = error.to_string();
    assert!(said.contains('5') && said.contains('3'), "{said}");
    assert_eq!(found(&store).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_starts_above_the_position_stops_ingest() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    Writer::new(&log, 1).append(EVENTS, 5).await;
    log.truncate_below(EVENTS, 2).await.expect("truncated");
    let error = ingest(&log, open(&store).await).step().await.expect_err("an alarm");
    assert!(matches!(error, IngestError::RecordsLost { position: 0, start: 2, .. }), "{error}");
    assert_eq!(found(&store).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_file_was_taken_out_of_stops_ingest() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    writer.append(EVENTS, 5).await;
    let table = open(&store).await;
    assert_eq!(ingest(&log, table.clone()).step().await.expect("committed").rows, 5);
    let before = table.snapshot().await.expect("readable");
    // As another Delta writer deletes rows.
    let path = &before.files()[0].path;
    let removal = format!(r#"{{"remove":{{"path":"{path}","dataChange":true,"deletionTimestamp":1}}}}"#);
    let version = Path::from(format!("_delta_log/{:020}.json", before.version() + 1));
    store.put(&version, removal.into()).await.expect("put");
    writer.append(EVENTS, 2).await;
    let error = ingest(&log, table).step().await.expect_err("an alarm");
    assert!(matches!(error, IngestError::Miscount(Miscount { rows: 0, position: 5, .. })), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_later_release_took_over_stops_ingest() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    writer.append(EVENTS, 5).await;
    let mut running = ingest(&log, open(&store).await);
    assert_eq!(running.step().await.expect("committed").rows, 5);
    let first = store.get(&Path::from("_delta_log/00000000000000000000.json")).await.expect("there");
    let first = String::from_utf8(first.bytes().await.expect("readable").to_vec()).expect("JSON");
    let ours = first.lines().find(|line| line.starts_with(r#"{"metaData""#)).expect("metadata");
    let later = ours.replacen(r#""retrace.tableSchema":""#, r#""retrace.tableSchema":"9"#, 1);
    let put = store.put(&Path::from("_delta_log/00000000000000000002.json"), later.into()).await;
    put.expect("put");
    writer.append(EVENTS, 2).await;
    let error = running.step().await.expect_err("it would write what that release does not mean");
    assert!(!error.is_transient() && !error.is_fenced(), "{error}");
    assert_eq!(log.offsets(EVENTS).await.expect("open"), 5..7, "the log keeps what the table lacks");
}

/// A record as a later release might seal it.
fn of_a_later_release() -> (Bytes, Bytes) {
    let mut stream = StreamWriter::new(Id::from_parts(0, [9; 10]), StreamKind::Session);
    let event = Event::policy_loaded("v".to_owned());
    let envelope = Envelope::seal(&mut stream, &Subject::default(), None, 0, event).expect("small");
    let mut value = envelope.bytes().to_vec();
    // Of the envelope the header comes first, and of the header the schema version.
    assert_eq!(value[2..4], [0x08, 1], "a header of less than 128 bytes");
    value[3] = 99;
    (stream.stream_id().to_bytes(), value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_later_release_stops_ingest_behind_what_comes_before_it() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    writer.append(EVENTS, 3).await;
    let (key, value) = of_a_later_release();
    log.append(EVENTS, key, value.clone()).await.expect("appended");
    writer.append(EVENTS, 2).await;
    let mut running = ingest(&log, open(&store).await);
    assert_eq!(running.step().await.expect("what comes before").rows, 3);
    let _ = running.step().await.expect_err("that release is to read it");
    for below in [0, 3] {
        let places = BTreeMap::from([(EVENTS, below)]);
        let mut running = ingest(&log, open(&store).await).with_dead_letters_below(places);
        let error = running.step().await.expect_err("it is not below");
        assert!(matches!(error, IngestError::Newer { at: EVENTS, offset: 3, .. }), "{error}");
        assert!(!error.is_transient(), "{error}");
        assert!(error.to_string().contains(r#"`"retrace.events[0]" = 4`"#), "{error}");
        assert_eq!(log.offsets(EVENTS).await.expect("open"), 3..6, "the log keeps it");
    }
    // Nobody runs a later release.
    let running = ingest(&log, open(&store).await).with_dead_letters_below(BTreeMap::from([(EVENTS, 4)]));
    running.run(std::future::ready(())).await.expect("drained");
    let found = found(&store).await;
    assert_eq!(kinds(&found, EVENTS), ["event", "event", "event", "dead_letter", "event", "event"]);
    assert_eq!(found[3].1.value, value);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_made_anew_does_not_go_on_with_the_table_of_another() {
    let store = store();
    let [first, second] = [tempfile::tempdir(), tempfile::tempdir()].map(|folder| folder.expect("a folder"));
    for (folder, expect_foreign) in [(&first, false), (&second, true), (&first, false)] {
        let log = EmbeddedLog::open(folder.path(), &EmbeddedOptions::default()).expect("opens");
        let log: Arc<dyn EventLog> = Arc::new(log);
        log.append(EVENTS, Bytes::from_static(b"key"), Bytes::from_static(b"value")).await.expect("durable");
        let stepped =
            Ingest::new(Arc::clone(&log), open(&store).await, options()).expect("a share").step().await;
        match stepped {
            Err(error @ IngestError::ForeignLog { .. }) => {
                assert!(expect_foreign && !error.is_transient(), "{error}");
            }
            other => assert!(!expect_foreign && other.is_ok(), "{other:?}"),
        }
    }
    assert_eq!(found(&store).await.len(), 2, "nothing of the second log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_answer_is_asked_again() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let appended = Writer::new(&log, 1).append(EVENTS, 3).await;
    log.faults().fail_next_reads(1, ReadError::Unavailable);
    let mut running = ingest(&log, open(&store).await);
    assert!(running.step().await.expect_err("no answer").is_transient());
    assert_eq!(running.step().await.expect("an answer").rows, 3);
    assert_exactly(&store, EVENTS, &appended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_offset_is_a_row_and_what_is_no_event_says_so() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let first = Writer::new(&log, 1).append(EVENTS, 2).await;
    append(&log, EVENTS, &first[1]).await;
    let event = Event::policy_loaded("another".to_owned());
    let mut forged = StreamWriter::new(first[0].stream_id(), StreamKind::Session);
    let forged = Envelope::seal(&mut forged, &Subject::default(), None, 0, event).expect("small");
    append(&log, EVENTS, &forged).await;
    log.append(EVENTS, "key".into(), "not an envelope".into()).await.expect("appended");
    ingest(&log, open(&store).await).step().await.expect("ingested");
    let found = found(&store).await;
    assert_eq!(kinds(&found, EVENTS), ["event", "event", "duplicate", "dead_letter", "dead_letter"]);
    assert_eq!(&found[3].1.value, forged.bytes());
    assert_eq!((&found[4].1.key[..], &found[4].1.value[..]), (&b"key"[..], &b"not an envelope"[..]));
}
