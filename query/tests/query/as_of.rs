//! `AS OF`: a cut or a time gives the same answer again, whatever happened since.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use retrace_access::EvidenceRight;
use retrace_eventlog::{EventLog, MemoryLog, partition_for};
use retrace_lake::{CompactionOptions, Compactor, Held, Retainer, Retention};
use retrace_proto::Id;
use retrace_proto::wire::envelope::Payload;
use retrace_query::{ErrorKind, Options, QueryError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::world::{Hooked, NOW_UNIX_US, Session, World, caller, rows};

const ALL: &str =
    "SELECT stream_id, stream_seq, statement FROM events WHERE stream_kind = 'session' ORDER BY 1, 2";

pub(crate) const DAY_US: i64 = 86_400_000_000;

async fn world() -> World {
    World::with(MemoryLog::with_partitions(2, 1), Options::default()).await
}

/// Sessions that run, each followed by a commit.
async fn fill(world: &World, sessions: usize) {
    for session in 0..sessions {
        Session::run(world, "ann", session + 1).await;
        world.ingest().await;
    }
}

async fn compact(world: &World) {
    let two = CompactionOptions { fan_in: 2, ..CompactionOptions::default() };
    let compacted = Compactor::new(world.table.clone(), two).step().await.unwrap();
    assert!(compacted.unwrap().merged > 1);
}

async fn ask(world: &World, statement: &str) -> (String, Vec<Vec<String>>) {
    let answer = world.reader().sql(&caller("auditor", EvidenceRight::All), statement).await.unwrap();
    (answer.cut.to_string(), rows(answer).await.unwrap())
}

#[tokio::test]
async fn a_cut_gives_the_same_answer_after_appends_commits_and_compaction() {
    let world = world().await;
    fill(&world, 3).await;
    // Some of it is in the log alone.
    Session::run(&world, "ann", 4).await;
    let (cut, before) = ask(&world, ALL).await;
    assert!(before.len() > 20);
    let again = format!("{ALL} AS OF CUT '{cut}'");
    assert_eq!(ask(&world, &again).await, (cut.clone(), before.clone()));
    for round in 0..3 {
        fill(&world, 2).await;
        assert_eq!(ask(&world, &again).await, (cut.clone(), before.clone()), "round {round}, committed");
        compact(&world).await;
        assert_eq!(ask(&world, &again).await, (cut.clone(), before.clone()), "round {round}, merged");
    }
    assert!(ask(&world, ALL).await.1.len() > before.len());
    Session::run(&world, "bob", 2).await;
    let (cut, _) = ask(&world, ALL).await;
    for who in ["ann", "bob"] {
        let own = caller(who, EvidenceRight::Own);
        let then = world.reader().sql(&own, &format!("{ALL} AS OF CUT '{cut}'")).await.unwrap();
        let now = world.reader().sql(&own, ALL).await.unwrap();
        let (then, now) = (rows(then).await.unwrap(), rows(now).await.unwrap());
        assert_eq!(then, now, "{who} sees their own");
        assert!(!now.is_empty() && now.len() < ask(&world, ALL).await.1.len());
    }
}

#[tokio::test]
async fn a_time_gives_what_the_log_had_taken_before() {
    let world = world().await;
    let at = |minutes: i64| NOW_UNIX_US + minutes * 60_000_000;
    let mut expected = Vec::new();
    for minute in 0..6 {
        world.log.set_now(at(minute));
        Session::run(&world, "ann", 2).await;
        if minute % 2 == 0 {
            world.ingest().await;
        }
        expected.push(ask(&world, ALL).await.1);
    }
    let as_of = |minutes: i64, us: i64| {
        let time = format!("to_timestamp_micros({})", at(minutes) + us);
        let (world, all) = (&world, ALL);
        async move {
            let text = world.sql(&format!("SELECT to_char({time}, '%Y-%m-%dT%H:%M:%S%.6fZ')")).await.unwrap();
            ask(world, &format!("{all} AS OF TIMESTAMP '{}'", text[0][0])).await.1
        }
    };
    for merged in [false, true] {
        if merged {
            world.ingest().await;
            compact(&world).await;
        }
        assert_eq!(as_of(0, 0).await.len(), 0, "before the first");
        for (minute, expected) in (0..).zip(&expected) {
            assert_eq!(&as_of(minute, 1).await, expected, "minute {minute}, merged: {merged}");
            assert_eq!(&as_of(minute + 1, 0).await, expected, "minute {minute}, merged: {merged}");
        }
    }
}

/// Two minutes later.
const LATER: fn() -> i64 = || NOW_UNIX_US + 120_000_000;

#[tokio::test]
async fn a_time_is_looked_for_in_several_topic_partitions_at_once() {
    let world = world().await;
    for partition in 0..2 {
        let mut session = Session::new(&world, "ann");
        while partition_for(session.id, 2) != partition {
            session = Session::new(&world, "ann");
        }
        session.open().await;
    }
    // The first read goes on once there is a second one.
    let (second, seen) = oneshot::channel();
    let log = Hooked::new(&world.log);
    let again = log.clone();
    let log = log.before_read(Box::new(move || {
        let second_read = Box::new(move || async move { second.send(()).unwrap() }.boxed());
        drop(again.before_read(second_read));
        async move { seen.await.unwrap() }.boxed()
    }));
    let reader = world.reader_with(log, Options { clock: LATER, ..Options::default() });
    let asked = format!("{ALL} AS OF TIMESTAMP '2026-01-01 00:01:00'");
    let auditor = caller("auditor", EvidenceRight::All);
    let answer = timeout(Duration::from_secs(30), reader.sql(&auditor, &asked)).await;
    let answer = answer.expect("one topic partition waits for another").unwrap();
    assert_eq!(rows(answer).await.unwrap().len(), 2);
}

/// Removes the sessions that began before a day, so many after that of [`NOW_UNIX_US`].
pub(crate) async fn expire(world: &World, days: i32) -> u64 {
    let first = i32::try_from(NOW_UNIX_US / DAY_US).unwrap() + days;
    let first_days_kept = BTreeMap::from([("standard".to_owned(), first)]);
    let retention = Retention { first_days_kept, held: Held::default() };
    let snapshot = world.table.snapshot().await.unwrap();
    let expired = Retainer::new(world.table.clone()).find(&snapshot, &retention).await.unwrap().unwrap();
    let topic_id = |topic| world.log.topic_id(topic);
    world.table.expire(&expired, &snapshot, topic_id).await.unwrap();
    expired.rows_removed()
}

#[tokio::test]
async fn what_retention_removed_is_said_and_everything_else_is_answered_as_before() {
    let world = world().await;
    fill(&world, 2).await;
    world.log.set_now(NOW_UNIX_US + 10 * DAY_US);
    let id = Id::from_parts((NOW_UNIX_US + 10 * DAY_US) as u64 / 1000, [7; 10]);
    let mut young = Session::with_id(&world, "ann", id);
    young.open().await;
    young.command("SELECT 1", &[]).await;
    world.ingest().await;
    let auditor = caller("auditor", EvidenceRight::All);
    let answer = world.reader().sql(&auditor, ALL).await.unwrap();
    assert_eq!(answer.removed, None);
    let (cut, before) = (answer.cut.to_string(), rows(answer).await.unwrap());
    let (kept, gone): (Vec<_>, Vec<_>) = before.iter().cloned().partition(|row| row[0] == id.to_string());
    assert_eq!(kept.len(), 2);
    assert_eq!(expire(&world, 5).await, gone.len() as u64);
    for statement in [ALL.to_owned(), format!("{ALL} AS OF CUT '{cut}'")] {
        let answer = world.reader().sql(&auditor, &statement).await.unwrap();
        let said = answer.removed.as_ref().unwrap();
        assert_eq!(said.rows, gone.len() as u64);
        assert!(said.to_string().ends_with("sessions that began before 2026-01-06 (standard)"), "{said}");
        assert_eq!(rows(answer).await.unwrap(), kept);
    }
    // A cut among what is gone is one all the same, and sessions are judged by when the log went on after it.
    let first = "retrace.events[0]<1, retrace.events[1]<0, retrace.control[0]<0";
    assert_eq!(ask(&world, &format!("{ALL} AS OF CUT '{first}'")).await, (first.to_owned(), vec![]));
}

#[tokio::test]
async fn what_the_log_has_not_come_to_is_refused() {
    let world = world().await;
    fill(&world, 1).await;
    let (cut, _) = ask(&world, "SELECT 1").await;
    let partial =
        cut.split(", ").filter(|position| !position.contains("events[0]")).collect::<Vec<_>>().join(", ");
    let error = world.sql(&format!("SELECT 1 AS OF CUT '{partial}'")).await.unwrap_err();
    assert!(matches!(error, QueryError::CutPartial { .. }), "{error:?}");
    let error = world.sql("SELECT 1 AS OF TIMESTAMP '2100-01-01'").await.unwrap_err();
    assert!(matches!(error, QueryError::TooSoon { .. }), "{error:?}");
    let attempts =
        "SELECT count(*) FROM events WHERE event_type = 'evidence_read' AND statement LIKE '%2100-01-01%'";
    assert_eq!(world.number(attempts).await, 1, "what is refused is on record");
    for cut in ["retrace.events[0]<1000000, retrace.events[1]<0, retrace.control[0]<0", "retrace.events[7]<0"]
    {
        let error = world.sql(&format!("SELECT 1 AS OF CUT '{cut}'")).await.unwrap_err();
        assert!(matches!(error, QueryError::CutAhead { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::FixTheCall);
    }
}

#[tokio::test]
async fn the_record_of_such_a_read_has_its_cut() {
    let world = world().await;
    fill(&world, 1).await;
    let (cut, _) = ask(&world, "SELECT 1").await;
    fill(&world, 1).await;
    let statement = &format!("SELECT count(*) FROM events AS OF CUT '{cut}'");
    world.sql(statement).await.unwrap();
    let events = world.instance_events().await;
    let read = events.iter().rev().find_map(|payload| match payload {
        Payload::EvidenceRead(read) => Some(read),
        _ => None,
    });
    let read = read.unwrap();
    assert_eq!(read.statement, *statement);
    let ends = read.cut.iter().map(|it| format!("{}[{}]<{}", it.topic, it.partition, it.end_exclusive));
    assert_eq!(ends.collect::<Vec<_>>().join(", "), cut);
}
