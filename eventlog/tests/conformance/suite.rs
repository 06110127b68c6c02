//! What every log must do, whatever it is made of. Each test gets a new, empty log.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use retrace_eventlog::{AppendError, EventLog, KEY_BYTES_MAX, ReadError, VALUE_BYTES_MAX};
use retrace_proto::log::{Record, Topic, TopicPartition};

const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };
const CONTROL: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

fn value(number: u64) -> Bytes {
    Bytes::from(format!("value {number}"))
}

async fn fill(log: &dyn EventLog, to: TopicPartition, numbers: std::ops::Range<u64>) {
    let key = Bytes::from_static(b"key");
    // Whoever is in no hurry keeps its place in the order all the same.
    let appends = numbers.clone().map(|number| match number % 3 {
        0 => log.append_unhurried(to, key.clone(), value(number)),
        _ => log.append(to, key.clone(), value(number)),
    });
    let offsets = try_join_all(appends).await.unwrap();
    assert_eq!(offsets, numbers.collect::<Vec<_>>());
}

async fn read_all(log: &dyn EventLog, from: TopicPartition, bytes_max: usize) -> Vec<Record> {
    let offsets = log.offsets(from).await.unwrap();
    let mut records: Vec<Record> = Vec::new();
    let mut next = offsets.start;
    while next < offsets.end {
        let more = log.read(from, next, bytes_max).await.unwrap();
        next = more.last().expect("below the end there is at least one record").offset + 1;
        records.extend(more);
    }
    assert!(records.iter().map(|record| record.offset).eq(offsets), "offsets are dense");
    assert!(records.is_sorted_by_key(|record| record.appended_at_unix_us), "append times do not go back");
    records
}

pub(crate) async fn offsets_are_dense_and_records_come_back(log: Arc<dyn EventLog>) {
    fill(&*log, EVENTS, 0..100).await;
    for bytes_max in [0, 1, 11, 25, 1 << 20] {
        let records = read_all(&*log, EVENTS, bytes_max).await;
        assert_eq!(records.len(), 100);
        for record in records {
            assert_eq!((&record.key[..], record.value), (&b"key"[..], value(record.offset)));
        }
    }
}

pub(crate) async fn a_record_can_be_read_as_soon_as_its_append_resolves(log: Arc<dyn EventLog>) {
    for number in 0..20 {
        let offset = log.append(EVENTS, Bytes::new(), value(number)).await.unwrap();
        assert_eq!(offset, number);
        assert_eq!(log.offsets(EVENTS).await.unwrap(), 0..number + 1);
        let records = log.read(EVENTS, offset, 1).await.unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].offset, &records[0].value), (offset, &value(number)));
    }
}

pub(crate) async fn each_key_keeps_its_order_among_concurrent_appenders(log: Arc<dyn EventLog>) {
    let appenders = (0..8_u64).map(|appender| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let key = Bytes::copy_from_slice(&appender.to_le_bytes());
            let appends = (0..100).map(|number| log.append(EVENTS, key.clone(), value(number)));
            try_join_all(appends.collect::<Vec<_>>()).await.unwrap()
        })
    });
    for (appender, offsets) in (0_u64..).zip(join_all(appenders).await) {
        let offsets = offsets.unwrap();
        assert_eq!(offsets.len(), 100);
        assert!(offsets.is_sorted(), "appender {appender}");
    }
    let records = read_all(&*log, EVENTS, 1000).await;
    assert_eq!(records.len(), 800);
    for appender in 0..8_u64 {
        let own = records.iter().filter(|record| record.key[..] == appender.to_le_bytes());
        assert!(own.map(|record| record.value.clone()).eq((0..100).map(value)), "appender {appender}");
    }
}

pub(crate) async fn topics_do_not_mix(log: Arc<dyn EventLog>) {
    fill(&*log, EVENTS, 0..3).await;
    fill(&*log, CONTROL, 0..2).await;
    assert_eq!(log.offsets(EVENTS).await.unwrap(), 0..3);
    assert_eq!(log.offsets(CONTROL).await.unwrap(), 0..2);
    assert_ne!(log.topic_id(Topic::Events), log.topic_id(Topic::Control));
    assert_eq!(log.topic_id(Topic::Events), log.topic_id(Topic::Events));
}

pub(crate) async fn reading_at_the_end_is_empty_and_beyond_it_an_alarm(log: Arc<dyn EventLog>) {
    assert_eq!(log.read(EVENTS, 0, 1000).await, Ok(vec![]));
    fill(&*log, EVENTS, 0..5).await;
    assert_eq!(log.read(EVENTS, 5, 1000).await, Ok(vec![]));
    assert_eq!(log.read(EVENTS, 6, 1000).await, Err(ReadError::AboveEnd { end: 5 }));
    let offsets: Vec<_> =
        log.read(EVENTS, 3, 1000).await.unwrap().iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [3, 4]);
}

pub(crate) async fn truncation_frees_what_is_below_and_keeps_what_is_not(log: Arc<dyn EventLog>) {
    fill(&*log, EVENTS, 0..200).await;
    let mut start_before = 0;
    for offset in [0, 50, 120, 119, 200] {
        log.truncate_below(EVENTS, offset).await.unwrap();
        let offsets = log.offsets(EVENTS).await.unwrap();
        assert!(offsets.start <= offset.max(start_before), "{offset}: {offsets:?}");
        assert!(offsets.start >= start_before, "{offset}: {offsets:?}");
        assert_eq!(offsets.end, 200);
        for record in read_all(&*log, EVENTS, 100).await {
            assert_eq!(record.value, value(record.offset));
        }
        start_before = offsets.start;
    }
    assert!(start_before > 0, "something was freed");
    let below = Err(ReadError::BelowStart { start: start_before });
    assert_eq!(log.read(EVENTS, start_before - 1, 1000).await, below);
    assert_eq!(log.read(EVENTS, 0, 1000).await, below);
    fill(&*log, EVENTS, 200..210).await;
}

pub(crate) async fn truncation_of_several_tries_each_and_keeps_what_it_must(log: Arc<dyn EventLog>) {
    fill(&*log, EVENTS, 0..200).await;
    fill(&*log, CONTROL, 0..100).await;
    log.truncate_each_below(&[]).await.unwrap();
    // Above the end there is nothing to let go of, and that keeps nobody from the rest.
    log.truncate_each_below(&[(CONTROL, 101), (EVENTS, 150)]).await.unwrap();
    let freed = async |at, below, end| {
        let offsets = log.offsets(at).await.unwrap();
        assert!(offsets.start <= below && offsets.end == end, "{at}: {offsets:?}");
        assert!(read_all(&*log, at, 1 << 20).await.iter().all(|record| record.value == value(record.offset)));
        offsets.start
    };
    assert!(freed(EVENTS, 150, 200).await > 0);
    let start_before = freed(CONTROL, 100, 100).await;
    fill(&*log, CONTROL, 100..300).await;
    let nowhere = TopicPartition { topic: Topic::Events, partition: log.partitions(Topic::Events) };
    let outcome = log.truncate_each_below(&[(nowhere, 1), (CONTROL, 290)]).await;
    assert_eq!(outcome, Err(ReadError::UnknownPartition(nowhere)));
    assert!(freed(CONTROL, 290, 300).await > start_before, "that one failed keeps none of the others");
}

pub(crate) async fn waiting_ends_when_the_end_passes(log: Arc<dyn EventLog>) {
    fill(&*log, EVENTS, 0..3).await;
    assert_eq!(log.wait_past(EVENTS, 2).now_or_never(), Some(Ok(())));
    let mut waiting = log.wait_past(EVENTS, 4);
    assert_eq!((&mut waiting).now_or_never(), None);
    fill(&*log, EVENTS, 3..4).await;
    assert_eq!((&mut waiting).now_or_never(), None);
    fill(&*log, EVENTS, 4..5).await;
    assert_eq!(waiting.await, Ok(()));
}

pub(crate) async fn what_is_too_large_is_refused_in_the_call_and_the_largest_is_not(log: Arc<dyn EventLog>) {
    let bytes = |len| Bytes::from(vec![7; len]);
    let too_large = |bytes_max| Some(Err(AppendError::TooLarge { bytes: bytes_max + 1, bytes_max }));
    let append = log.append(EVENTS, Bytes::new(), bytes(VALUE_BYTES_MAX + 1));
    assert_eq!(append.now_or_never(), too_large(VALUE_BYTES_MAX));
    let append = log.append(EVENTS, bytes(KEY_BYTES_MAX + 1), Bytes::new());
    assert_eq!(append.now_or_never(), too_large(KEY_BYTES_MAX));
    let append = log.append(EVENTS, bytes(KEY_BYTES_MAX), bytes(VALUE_BYTES_MAX));
    assert_eq!(append.await, Ok(0));
    let records = read_all(&*log, EVENTS, 1).await;
    assert_eq!((records[0].key.len(), records[0].value.len()), (KEY_BYTES_MAX, VALUE_BYTES_MAX));
}

pub(crate) async fn a_topic_partition_that_is_not_there_is_an_error(log: Arc<dyn EventLog>) {
    let partition = log.partitions(Topic::Events);
    assert!(partition >= 1);
    let nowhere = TopicPartition { topic: Topic::Events, partition };
    let unknown = ReadError::UnknownPartition(nowhere);
    assert_eq!(log.append(nowhere, Bytes::new(), Bytes::new()).await, Err(AppendError::Refused));
    assert_eq!(log.read(nowhere, 0, 1).await, Err(unknown));
    assert_eq!(log.offsets(nowhere).await, Err(unknown));
    assert_eq!(log.wait_past(nowhere, 0).await, Err(unknown));
    assert_eq!(log.truncate_below(nowhere, 0).await, Err(unknown));
}

pub(crate) async fn a_dropped_append_is_written_all_the_same(log: Arc<dyn EventLog>) {
    drop(log.append(EVENTS, Bytes::new(), value(0)));
    assert_eq!(log.append(EVENTS, Bytes::new(), value(1)).await, Ok(1));
    assert_eq!(read_all(&*log, EVENTS, 1000).await[0].value, value(0));
}

/// A module of tests: the suite against what `$open`, a future, makes; it gives a log and whatever must outlive it.
macro_rules! conformance {
    ($module:ident, $open:expr) => {
        conformance! { @tests $module, $open,
            offsets_are_dense_and_records_come_back
            a_record_can_be_read_as_soon_as_its_append_resolves
            each_key_keeps_its_order_among_concurrent_appenders
            topics_do_not_mix
            reading_at_the_end_is_empty_and_beyond_it_an_alarm
            truncation_frees_what_is_below_and_keeps_what_is_not
            truncation_of_several_tries_each_and_keeps_what_it_must
            waiting_ends_when_the_end_passes
            what_is_too_large_is_refused_in_the_call_and_the_largest_is_not
            a_topic_partition_that_is_not_there_is_an_error
            a_dropped_append_is_written_all_the_same
        }
    };
    (@tests $module:ident, $open:expr, $($test:ident)*) => {
        mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                let (log, _outlives) = $open.await;
                crate::suite::$test(std::sync::Arc::new(log)).await;
            })*
        }
    };
}
pub(crate) use conformance;
