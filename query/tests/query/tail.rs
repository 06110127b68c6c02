use futures::StreamExt;
use retrace_access::EvidenceRight;
use retrace_eventlog::MemoryLog;
use retrace_proto::log::{Topic, TopicPartition};
use retrace_query::{EventsAnswer, Options, QueryError};

use crate::world::{Session, World, caller};

async fn next(tail: &mut EventsAnswer) -> bytes::Bytes {
    tail.events.next().await.expect("a tail does not end").expect("no error").envelope
}

#[tokio::test]
async fn a_tail_gives_what_becomes_durable_from_now_on() {
    let world = World::with(MemoryLog::with_partitions(3, 1), Options::default()).await;
    let mut session = Session::run(&world, "ann", 2).await;
    let before = session.sealed.len();
    let mut tail = world.reader().tail(&caller("ann", EvidenceRight::Own), Some(session.id)).await.unwrap();
    for number in 0..100 {
        session.command(&format!("SELECT {number}"), &[]).await;
    }
    for expected in &session.sealed[before..] {
        assert_eq!(next(&mut tail).await, expected);
    }
    session.command("SELECT 'later'", &[]).await;
    assert_eq!(next(&mut tail).await, session.sealed.last().unwrap());
}

#[tokio::test]
async fn a_tail_gives_only_what_its_reader_may_see_and_asked_for() {
    let world = World::new().await;
    let (mut ann, mut eve) = (Session::new(&world, "ann"), Session::new(&world, "eve"));
    let reader = world.reader();
    let mut own = reader.tail(&caller("ann", EvidenceRight::Own), None).await.unwrap();
    let mut one = reader.tail(&caller("auditor", EvidenceRight::All), Some(eve.id)).await.unwrap();
    for session in [&mut eve, &mut ann] {
        session.command("SELECT 1", &[]).await;
    }
    // Her own tail's record is the first thing of hers after it began.
    let record = next(&mut own).await;
    let record = retrace_proto::Envelope::open(record).unwrap();
    assert_eq!(record.event_type(), "evidence_read");
    assert_eq!(next(&mut own).await, ann.sealed[0]);
    assert_eq!(next(&mut one).await, eve.sealed[0]);
}

#[tokio::test]
async fn a_tail_whose_next_events_the_log_let_go_of_ends_with_a_sentence() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    let mut tail =
        world.reader().tail(&caller("auditor", EvidenceRight::All), Some(session.id)).await.unwrap();
    // Far more than waits for a reader and is read at a time, none of it taken.
    let big = "x".repeat(100_000);
    for _event in 0..100 {
        session.command(&big, &[]).await;
    }
    world.ingest().await;
    session.command("SELECT 1", &[]).await;
    let at = TopicPartition { topic: Topic::Events, partition: 0 };
    let start = retrace_eventlog::EventLog::offsets(world.log.as_ref(), at).await.unwrap().start;
    assert!(start > 100, "the log let go of them");
    let error = loop {
        if let Err(error) = tail.events.next().await.expect("an error comes before the end") {
            break error;
        }
    };
    assert!(matches!(error, QueryError::TailFellBehind), "{error}");
    assert!(tail.events.next().await.is_none());
}

#[tokio::test]
async fn more_tails_than_allowed_are_refused_until_one_is_dropped() {
    let options = Options { tails_max: 1, ..Options::default() };
    let world = World::with(MemoryLog::new(), options).await;
    let all = caller("auditor", EvidenceRight::All);
    let reader = world.reader();
    let first = reader.tail(&all, None).await.unwrap();
    assert!(matches!(reader.tail(&all, None).await, Err(QueryError::Busy { running_max: 1 })));
    drop(first);
    assert!(reader.tail(&all, None).await.is_ok());
}
