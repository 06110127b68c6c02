use bytes::Bytes;
use retrace_proto::{Envelope, Masked};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{MemoryLog, WatchedLog};

const CONTROL: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

#[test]
fn orders_may_be_everywhere_in_the_control_topic_but_among_cancels() {
    let may = |topic, partition, partitions| may_have_orders(TopicPartition { topic, partition }, partitions);
    assert!(may(Topic::Control, 0, 1), "everything is in the only one");
    assert!(may(Topic::Control, 0, 3) && may(Topic::Control, 1, 3) && !may(Topic::Control, 2, 3));
    assert!(!may(Topic::Events, 0, 3));
}

async fn append(log: &MemoryLog, value: &'static [u8]) {
    log.append(CONTROL, Bytes::new(), Bytes::from_static(value)).await.unwrap();
}

/// A follower of a log, what it hands over, and what ends it.
struct Following {
    lag: ControlLag,
    obeyed: mpsc::UnboundedReceiver<Bytes>,
    ended: tokio::task::JoinHandle<Result<(), ReadError>>,
    stop: oneshot::Sender<()>,
}

fn follow(log: &MemoryLog, periods: Option<Periods>) -> Following {
    let mut follower = ControlFollower::new(Arc::new(log.clone()));
    follower.periods = periods.unwrap_or(follower.periods);
    let lag = follower.lag();
    let (hand_over, obeyed) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let obey = move |_at, record: &Record| hand_over.send(record.value.clone()).unwrap();
    let ended = tokio::spawn(follower.run(obey, async { drop(stopped.await) }));
    Following { lag, obeyed, ended, stop }
}

#[tokio::test]
async fn it_is_current_once_everything_was_handed_over_and_goes_on_as_the_topic_grows() {
    let log = MemoryLog::new();
    append(&log, b"a").await;
    let mut following = follow(&log, None);
    assert!(!following.lag.is_current());
    following.lag.clone().current().await;
    assert_eq!(following.obeyed.try_recv().unwrap(), "a");
    append(&log, b"b").await;
    assert_eq!(following.obeyed.recv().await.unwrap(), "b");
    following.stop.send(()).unwrap();
    assert_eq!(following.ended.await.unwrap(), Ok(()));
    assert!(following.obeyed.recv().await.is_none(), "nothing twice");
}

#[tokio::test]
async fn it_is_current_while_nothing_comes_and_not_while_the_log_does_not_answer() {
    let log = MemoryLog::new();
    let [lag_max, confirm, retry] = [500, 5, 5].map(Duration::from_millis);
    let following = follow(&log, Some(Periods { lag_max, confirm, retry }));
    following.lag.clone().current().await;
    let first = following.lag.current_at.borrow().unwrap();
    let mut current_at = following.lag.current_at.clone();
    current_at.wait_for(|at| at.unwrap() > first + lag_max).await.unwrap();
    assert!(following.lag.is_current(), "though no record came for as long as it may lag");

    // At one in 5 ms they outlast by far what it may lag.
    log.faults().fail_next_reads(400, ReadError::Unavailable);
    while following.lag.is_current() {
        tokio::task::yield_now().await;
    }
    following.lag.clone().current().await;
    assert!(following.lag.is_current(), "once the log answers again");
}

#[tokio::test]
async fn cancels_are_read_from_now_on_and_everything_else_from_the_beginning() {
    let log = MemoryLog::with_partitions(1, 3);
    let at = |partition| TopicPartition { topic: Topic::Control, partition };
    let new_id = || Id::from_parts(1, [0; 10]);
    let writer = |for_cancels| {
        let origin = ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id };
        let unsigned = Box::new(|_, _: &[u8]| ControlSignature::default());
        ControlWriter::new(Arc::new(log.clone()), origin, for_cancels, unsigned)
    };
    let (orders, cancels) = (writer(false), writer(true));
    let write = async |writer: &ControlWriter| {
        let event = Event::token_revoked("abcd".to_owned(), Masked::default());
        let (at, append) = writer.record(Subject::default(), event);
        append.await.unwrap();
        at
    };
    assert_eq!(write(&cancels).await, at(2));
    assert!(write(&orders).await != at(2));
    let mut following = follow(&log, None);
    assert!(following.lag.clone().current_unless_stuck(Duration::from_secs(30)).await);
    let first = Envelope::open(following.obeyed.recv().await.unwrap()).unwrap();
    assert_eq!(first.header().stream_seq, 0);
    assert!(following.obeyed.try_recv().is_err(), "the cancel of before is not read");
    write(&cancels).await;
    let next = Envelope::open(following.obeyed.recv().await.unwrap()).unwrap();
    assert_eq!(next.header().stream_seq, 1);
}

#[tokio::test]
async fn what_is_of_one_review_stands_in_one_partition_whoever_writes_it() {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let new_id = || Id::from_parts(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed), [0; 10]);
    let log = MemoryLog::with_partitions(1, 5);
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let origin = ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id };
            let unsigned = Box::new(|_, _: &[u8]| ControlSignature::default());
            ControlWriter::new(Arc::new(log.clone()), origin, false, unsigned)
        })
        .collect();
    let mut partitions = std::collections::BTreeSet::new();
    for review in (0..16).map(|byte| Id::from_parts(7, [byte; 10])) {
        let mut of_review = std::collections::BTreeSet::new();
        for writer in &writers {
            let event = Event::grant_used(review, review, 0);
            let (at, append) = writer.record_of(review, Subject::default(), event);
            append.await.unwrap();
            of_review.insert(at.partition);
        }
        assert_eq!(of_review.len(), 1);
        partitions.extend(of_review);
    }
    assert!(partitions.len() > 1 && !partitions.contains(&4), "{partitions:?}: none among the cancels");
}

#[tokio::test]
async fn who_asks_hears_of_every_record_that_was_there_before() {
    let log = MemoryLog::new();
    let [lag_max, confirm, retry] = [500, 5, 5].map(Duration::from_millis);
    let mut following = follow(&log, Some(Periods { lag_max, confirm, retry }));
    for value in [&b"a"[..], b"b"] {
        append(&log, value).await;
        assert!(following.lag.clone().current_as_of_now(Duration::from_secs(30)).await);
        assert_eq!(following.obeyed.try_recv().unwrap(), value);
    }
    log.faults().fail_next_reads(100_000, ReadError::Unavailable);
    assert!(!following.lag.clone().current_as_of_now(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_log_that_gives_nothing_is_told_from_one_that_has_much() {
    let log = MemoryLog::new();
    log.faults().fail_next_reads(100_000, ReadError::Unavailable);
    let following = follow(&log, None);
    assert!(!following.lag.clone().current_unless_stuck(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_log_that_has_lost_its_end_ends_it() {
    let log = MemoryLog::new();
    append(&log, b"a").await;
    let mut follower = ControlFollower::new(Arc::new(log));
    follower.positions[0].1 = 2;
    let ended = follower.run(|_, _| {}, std::future::pending()).await;
    assert_eq!(ended, Err(ReadError::AboveEnd { end: 1 }));
}

#[tokio::test]
async fn a_record_that_took_too_long_waits_no_more_once_it_is_decided() {
    let inner = MemoryLog::new();
    let log = Arc::new(WatchedLog::new(Arc::new(inner.clone())));
    let origin =
        ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id: || Id::from_parts(1, [0; 10]) };
    let unsigned = Box::new(|_, _: &[u8]| ControlSignature::default());
    let writer = ControlWriter::new(log.clone(), origin, false, unsigned);
    let record = |wait_max| {
        let event = Event::token_revoked("abcd".to_owned(), Masked::default());
        writer.record_within(wait_max, Subject::default(), event)
    };
    assert_eq!(record(Duration::from_secs(60)).await, Ok((CONTROL, 0)));
    let held = inner.faults().hold();
    assert_eq!(record(Duration::from_millis(1)).await, Err(AppendError::Unknown));
    let mut registry = Registry::default();
    log.watch().register(&mut registry);
    let nothing_waits = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.contains("\nretrace_log_waiting_bytes 0\n")
    };
    assert!(!nothing_waits());
    held.open();
    let decided = async {
        while !nothing_waits() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), decided).await.expect("nobody asks for it, and it is decided");
    assert_eq!(record(Duration::from_secs(60)).await, Ok((CONTROL, 2)));
}

#[tokio::test]
async fn control_records_are_one_signed_stream_until_one_fails() {
    let log = MemoryLog::new();
    let sign = |partition: u32, unsigned: &[u8]| ControlSignature {
        key_id: format!("{partition} {}", unsigned.len()),
        ..ControlSignature::default()
    };
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let new_id = || Id::from_parts(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed), [0; 10]);
    let origin = ControlOrigin { instance: "test".to_owned(), clock: || 5, new_id };
    let writer = ControlWriter::new(Arc::new(log.clone()), origin, false, Box::new(sign));
    let record = || {
        let event = Event::token_revoked("abcd".to_owned(), Masked::default());
        writer.record(Subject::default(), event)
    };
    for offset in 0..2 {
        let (at, append) = record();
        assert_eq!((at, append.await), (CONTROL, Ok(offset)));
    }
    log.faults().fail_next(1, AppendError::Unknown);
    assert_eq!(record().1.await, Err(AppendError::Unknown));
    assert_eq!(record().1.await, Ok(2));
    let records = log.read(CONTROL, 0, usize::MAX).await.unwrap();
    let opened: Vec<_> = records.into_iter().map(|record| Envelope::open(record.value).unwrap()).collect();
    let places = opened.iter().map(|event| (event.stream_id().unix_ms().unwrap(), event.header().stream_seq));
    assert_eq!(places.collect::<Vec<_>>(), [(1, 0), (1, 1), (2, 0)]);
    for event in &opened {
        let expected = format!("0 {}", event.unsigned_bytes().len());
        assert_eq!(event.signature().unwrap().key_id, expected);
        assert_eq!(event.header().proxy_id, "test");
    }
}
