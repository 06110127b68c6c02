//! The in-memory log's faults, and what an instance stream makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use retrace_eventlog::{AppendError, EventLog, InstanceStream, MemoryLog, ReadError, partition_for};
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::StreamKind;
use retrace_proto::{Envelope, Event, Id, Recorded, Subject};

const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };

fn append(log: &MemoryLog, value: &'static str) -> retrace_eventlog::Append {
    log.append(EVENTS, Bytes::new(), Bytes::from_static(value.as_bytes()))
}

fn records(log: &MemoryLog) -> Vec<Record> {
    log.read(EVENTS, 0, usize::MAX).now_or_never().unwrap().unwrap()
}

fn values(log: &MemoryLog) -> Vec<Bytes> {
    records(log).into_iter().map(|record| record.value).collect()
}

#[tokio::test]
async fn the_script_is_followed_in_call_order() {
    let log = MemoryLog::new();
    let faults = log.faults();
    faults.pass_next(1);
    faults.fail_next(1, AppendError::Refused);
    faults.fail_next_persisted(1, AppendError::Unknown);
    faults.hang_next(1);
    let appends =
        ["passes", "fails", "fails but is there", "hangs", "passes again"].map(|value| append(&log, value));
    assert_eq!(
        appends.map(FutureExt::now_or_never),
        [Some(Ok(0)), Some(Err(AppendError::Refused)), Some(Err(AppendError::Unknown)), None, Some(Ok(2))]
    );
    assert_eq!(values(&log), ["passes", "fails but is there", "passes again"]);
}

#[tokio::test]
async fn a_gate_holds_appends_and_lets_them_through_in_order() {
    let log = MemoryLog::new();
    let gate = log.faults().hold();
    let mut appends = ["a", "b", "c"].map(|value| append(&log, value));
    gate.wait_held(3).await;
    assert_eq!((gate.held(), values(&log).len()), (3, 0));
    assert_eq!(gate.release(1), 1);
    let [first, second, third] = appends.each_mut();
    assert_eq!(first.now_or_never(), Some(Ok(0)));
    assert_eq!((second.now_or_never(), third.now_or_never()), (None, None));
    gate.open();
    let [_, second, third] = appends;
    assert_eq!((second.await, third.await), (Ok(1), Ok(2)));
    assert_eq!(append(&log, "d").await, Ok(3));
    assert_eq!(values(&log), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn closing_refuses_what_a_gate_holds() {
    let log = MemoryLog::new();
    let _gate = log.faults().hold();
    let held = append(&log, "held");
    let waiting = log.wait_past(EVENTS, 0);
    log.close();
    assert_eq!(held.await, Err(AppendError::Refused));
    assert_eq!(append(&log, "late").await, Err(AppendError::Closed));
    assert_eq!(waiting.await, Err(ReadError::Closed));
}

#[tokio::test]
async fn reads_fail_as_told_and_then_work() {
    let log = MemoryLog::new();
    log.faults().fail_next_reads(2, ReadError::Unavailable);
    assert_eq!(log.read(EVENTS, 0, 1).await, Err(ReadError::Unavailable));
    assert_eq!(log.offsets(EVENTS).await, Err(ReadError::Unavailable));
    assert_eq!(log.offsets(EVENTS).await, Ok(0..0));
}

#[tokio::test]
async fn append_times_never_go_back() {
    let log = MemoryLog::new();
    for now in [20, 10, 30] {
        log.set_now(now);
        append(&log, "").await.unwrap();
    }
    let times: Vec<_> = records(&log).iter().map(|record| record.appended_at_unix_us).collect();
    assert_eq!(times, [20, 20, 30]);
}

fn clock() -> i64 {
    42
}

fn open_stream(log: &MemoryLog) -> InstanceStream {
    let id = Id::from_parts(1, [9; 10]);
    InstanceStream::open(Arc::new(log.clone()), "gate-1".to_owned(), clock, id)
}

fn record(stream: &InstanceStream) -> retrace_eventlog::Append {
    stream.record(Subject::default(), Event::policy_loaded("version".to_owned()))
}

fn recorded(log: &MemoryLog) -> Vec<Recorded> {
    values(log).into_iter().map(|value| Envelope::open(value).unwrap()).collect()
}

#[tokio::test]
async fn an_instance_stream_is_chained_in_the_order_of_the_log() {
    let log = MemoryLog::new();
    let stream = Arc::new(open_stream(&log));
    let threads = [(); 4].map(|()| {
        let stream = Arc::clone(&stream);
        std::thread::spawn(move || (0..50).for_each(|_| drop(record(&stream))))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let events = recorded(&log);
    assert_eq!(events.len(), 200);
    let mut before = None;
    for (seq, event) in (0..).zip(&events) {
        let header = event.header();
        assert_eq!((header.stream_seq, header.stream_kind()), (seq, StreamKind::Instance));
        assert_eq!((header.proxy_id.as_str(), header.occurred_at_unix_us), ("gate-1", 42));
        assert_eq!(header.prev_hash, before.unwrap_or_default());
        before = Some(Bytes::copy_from_slice(event.hash().as_bytes()));
    }
    assert!(records(&log).iter().all(|record| record.key == stream.stream_id().to_bytes()));
}

#[tokio::test]
async fn after_a_failure_nobody_waited_for_an_instance_stream_writes_nothing_more() {
    for error in [AppendError::Full, AppendError::Refused, AppendError::Unknown] {
        let log = MemoryLog::new();
        let stream = open_stream(&log);
        record(&stream).await.unwrap();
        log.faults().fail_next(1, error);
        drop(record(&stream));
        assert_eq!(record(&stream).now_or_never(), Some(Err(AppendError::Closed)));
        assert!(stream.is_poisoned());
        assert_eq!(recorded(&log).len(), 1);
    }
}

#[tokio::test]
async fn a_failure_that_shows_later_poisons_an_instance_stream_too() {
    let log = MemoryLog::new();
    let stream = open_stream(&log);
    let gate = log.faults().hold();
    log.faults().pass_next(1);
    log.faults().fail_next(1, AppendError::Unknown);
    let (first, second) = (record(&stream), record(&stream));
    assert!(!stream.is_poisoned());
    gate.open();
    assert_eq!(record(&stream).await, Err(AppendError::Closed));
    assert_eq!((first.await, second.await), (Ok(0), Err(AppendError::Unknown)));
    assert_eq!(recorded(&log).len(), 1);
}

#[tokio::test]
async fn an_event_too_large_to_seal_leaves_no_gap() {
    let log = MemoryLog::new();
    let stream = open_stream(&log);
    let large = stream.record(Subject::default(), Event::policy_loaded("v".repeat(300_000)));
    assert!(matches!(large.await, Err(AppendError::TooLarge { .. })));
    record(&stream).await.unwrap();
    assert_eq!(recorded(&log)[0].header().stream_seq, 0);
}

#[test]
fn streams_keep_their_partition_and_spread() {
    let id = |number: u8| Id::from_parts(7, [number; 10]);
    assert!((0..100).all(|number| partition_for(id(number), 1) == 0));
    let mut streams = [0; 8];
    for number in 0..=255 {
        streams[partition_for(id(number), 8) as usize] += 1;
    }
    assert!(streams.iter().all(|streams| *streams > 0), "{streams:?}");
    let pinned: Vec<_> = (0..8).map(|number| partition_for(id(number), 8)).collect();
    assert_eq!(pinned, [5, 7, 2, 2, 0, 4, 2, 6]);
}
