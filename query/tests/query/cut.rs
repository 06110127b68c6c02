use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use retrace_access::EvidenceRight;
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_lake::Miscount;
use retrace_proto::log::{Topic, TopicPartition};
use retrace_query::{ErrorKind, Options, QueryError};
use tokio::sync::Semaphore;

use crate::world::{Hooked, Session, World, caller, commit, number, truncate};

const COUNT: &str = "SELECT count(*) FROM events WHERE stream_kind = 'session'";

const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };

/// A generator that needs to be repeatable and nothing else (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test]
async fn p4_an_event_is_seen_by_the_first_query_after_it_is_durable() {
    let world = World::new().await;
    assert_eq!(world.number(COUNT).await, 0);
    let session = Session::run(&world, "ann", 3).await;
    assert_eq!(world.number(COUNT).await, session.sealed.len() as i64);
}

#[tokio::test]
async fn a_table_that_a_file_was_taken_out_of_is_not_answered_from() {
    let world = World::new().await;
    Session::run(&world, "ann", 3).await;
    world.ingest().await;
    let before = world.table.snapshot().await.unwrap();
    assert!(world.number(COUNT).await > 0);
    // As another Delta writer deletes rows.
    let path = &before.files()[0].path;
    let removal = format!(r#"{{"remove":{{"path":"{path}","dataChange":true,"deletionTimestamp":1}}}}"#);
    let version = format!("lake/_delta_log/{:020}.json", before.version() + 1);
    std::fs::write(world.folder.path().join(version), removal).unwrap();
    let error = world.sql(COUNT).await.unwrap_err();
    assert!(matches!(error, QueryError::Miscount { found: Miscount { rows: 0, .. }, .. }), "{error:?}");
}

/// 40 worlds of 25 steps: between any two queries events are appended, and perhaps committed, and perhaps truncated.
#[tokio::test]
async fn p4_a_thousand_interleavings_with_ingest_show_every_event_once() {
    let mut queries = 0;
    for seed in 0..40 {
        let world =
            World::with(MemoryLog::with_partitions(1 + (seed % 3) as u32, 1), Options::default()).await;
        let mut dice = Dice(seed);
        let mut sessions = Vec::new();
        let mut written = 0;
        for _step in 0..25 {
            if sessions.len() < 3 {
                sessions.push(Session::new(&world, "ann"));
            }
            for _event in 0..dice.roll(4) {
                let session = dice.roll(sessions.len() as u64) as usize;
                sessions[session].command("SELECT 1", &[]).await;
                written += 1;
            }
            if dice.roll(3) == 0 {
                world.commit().await;
            }
            if dice.roll(3) == 0 {
                world.truncate().await;
            }
            let seen = world
                .sql(
                    "SELECT count(*), count(DISTINCT stream_id || '/' || CAST(stream_seq AS VARCHAR)) \
                     FROM events WHERE stream_kind = 'session'",
                )
                .await
                .unwrap();
            assert_eq!(seen, [[written.to_string(), written.to_string()]], "seed {seed}");
            queries += 1;
        }
    }
    assert_eq!(queries, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_holds_while_writers_and_ingest_run() {
    let world = Arc::new(World::new().await);
    let written = Arc::new(AtomicUsize::new(0));
    // So many events may be written while each query runs: memory is bounded, and so must be what has no disk to wait for.
    let credits = Arc::new(Semaphore::new(0));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn({
        let (world, written, credits) = (Arc::clone(&world), Arc::clone(&written), Arc::clone(&credits));
        async move {
            let mut session = Session::new(&world, "ann");
            while let Ok(credit) = credits.acquire().await {
                credit.forget();
                session.command("SELECT 1", &[]).await;
                written.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let ingest = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            while !*stopped.borrow() {
                world.ingest().await;
            }
        }
    });
    for _query in 0..60 {
        credits.add_permits(500);
        let before = written.load(Ordering::SeqCst) as i64;
        let seen = world
            .sql(
                "SELECT count(*), count(DISTINCT stream_seq), coalesce(max(stream_seq) + 1, 0) FROM events \
                 WHERE stream_kind = 'session'",
            )
            .await
            .unwrap();
        let after = written.load(Ordering::SeqCst) as i64;
        let count: i64 = seen[0][0].parse().unwrap();
        // The one being written may be durable already.
        assert!(before <= count && count <= after + 1, "{before} <= {count} <= {after} + 1");
        assert_eq!(seen[0][1], seen[0][0], "none twice");
        assert_eq!(seen[0][2], seen[0][0], "none missing");
    }
    stop.send(true).unwrap();
    credits.close();
    writer.await.unwrap();
    ingest.await.unwrap();
    assert_eq!(world.number(COUNT).await, written.load(Ordering::SeqCst) as i64);
}

#[tokio::test]
async fn rows_that_were_committed_above_the_cut_are_cut_off() {
    let world = World::new().await;
    Session::run(&world, "ann", 2).await;
    world.commit().await;
    let before = Session::run(&world, "ann", 3).await.sealed.len() as i64;
    let end = world.log.offsets(EVENTS).await.unwrap().end;
    let mut late = Session::new(&world, "ann");
    let (log, table) = (Arc::clone(&world.log), world.table.clone());
    let hooked = Hooked::new(&world.log).after_offsets(Box::new(move || {
        Box::pin(async move {
            late.command("SELECT 'late'", &[]).await;
            // One file that holds rows on both sides of the cut.
            commit(&log, &table).await;
        })
    }));
    let answer = world.reader_on(hooked).sql(&caller("auditor", EvidenceRight::All), COUNT).await.unwrap();
    assert_eq!(answer.cut.end_exclusive(EVENTS), Some(end));
    assert_eq!(number(answer).await, 6 + before);
    // The late one, and nothing else, comes with a new cut.
    assert_eq!(world.number(COUNT).await, 6 + before + 1);
}

#[tokio::test]
async fn a_log_truncated_below_the_tail_reloads_the_snapshot() {
    let world = World::new().await;
    let written = Session::run(&world, "ann", 3).await.sealed.len() as i64;
    let (log, table) = (Arc::clone(&world.log), world.table.clone());
    let hooked = Hooked::new(&world.log).before_read(Box::new(move || {
        Box::pin(async move {
            commit(&log, &table).await;
            truncate(&log, &table).await;
        })
    }));
    let answer = world.reader_on(hooked).sql(&caller("auditor", EvidenceRight::All), COUNT).await.unwrap();
    assert_eq!(number(answer).await, written);
    assert_eq!(world.log.offsets(EVENTS).await.unwrap().start, written as u64);
}

#[tokio::test]
async fn a_tail_beyond_the_limit_is_an_error_that_names_ingest() {
    let options = Options { tail_bytes_max: 1_000, spill_bytes_max: 1_000, ..Options::default() };
    let world = World::with(MemoryLog::new(), options).await;
    Session::run(&world, "ann", 20).await;
    let error = world.sql(COUNT).await.unwrap_err();
    assert!(matches!(error, QueryError::IngestLags { spill_bytes_max: 1_000 }), "{error}");
    assert!(error.to_string().contains("ingest lags"), "{error}");
    world.ingest().await;
    assert_eq!(world.number(COUNT).await, 42);
}

#[tokio::test]
async fn a_tail_that_memory_has_no_room_for_is_in_every_answer_and_behind_the_wall() {
    let options = Options { tail_bytes_max: 1_000, ..Options::default() };
    let world = World::with(MemoryLog::new(), options).await;
    for principal in ["ann", "bob"] {
        Session::run(&world, principal, 20).await;
    }
    let by_principal = "SELECT principal, count(*) FROM events WHERE event_type = 'command_received' GROUP BY principal \
                        ORDER BY principal";
    assert_eq!(world.sql(by_principal).await.unwrap(), [["ann", "20"], ["bob", "20"]]);
    // Read twice by one statement, and with all columns.
    let joined = "SELECT count(*) FROM events a JOIN events b ON a.stream_id = b.stream_id AND a.stream_seq = b.stream_seq \
                  WHERE a.stream_kind = 'session'";
    assert_eq!(world.number(joined).await, 2 * 42);
    assert_eq!(world.sql("SELECT * FROM events WHERE principal = 'ann'").await.unwrap().len(), 42);
    let own = world.reader().sql(&caller("ann", EvidenceRight::Own), COUNT).await.unwrap();
    assert_eq!(number(own).await, 42, "hers alone");
}

#[tokio::test]
async fn a_log_that_ends_below_the_table_is_an_alarm() {
    let world = World::new().await;
    Session::run(&world, "ann", 1).await;
    world.ingest().await;
    let error = world
        .reader_on(MemoryLog::new())
        .sql(&caller("auditor", EvidenceRight::All), COUNT)
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::LogBehindTable { end: 0, position: 4, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_log_that_let_go_of_what_the_table_lacks_is_an_alarm_that_names_the_table() {
    let world = World::new().await;
    let written = Session::run(&world, "ann", 1).await.sealed.len() as u64;
    world.log.truncate_below(EVENTS, written).await.unwrap();
    Session::run(&world, "ann", 1).await;
    let error = world.sql(COUNT).await.unwrap_err();
    assert!(matches!(error, QueryError::RecordsLost { .. }), "{error}");
    assert!(error.to_string().contains("/lake/"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_data_file_that_is_cut_short_is_not_blamed_on_the_statement() {
    let world = World::new().await;
    Session::run(&world, "ann", 1).await;
    world.ingest().await;
    let file = world.table.snapshot().await.unwrap().files()[0].clone();
    let path = world.folder.path().join("lake").join(file.path.as_ref());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = world.sql("SELECT statement FROM events").await.unwrap_err();
    assert!(matches!(error, QueryError::Unreadable(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    std::fs::remove_file(&path).unwrap();
    let error = world.sql("SELECT statement FROM events").await.unwrap_err();
    assert!(matches!(error, QueryError::Unreadable(_)), "{error:?}");
    assert!(error.to_string().contains(file.path.filename().unwrap()), "{error}");
}

#[tokio::test]
async fn a_second_record_of_the_same_event_is_a_duplicate_and_in_no_view() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    session.command("SELECT 1", &[]).await;
    let again = session.sealed[0].clone();
    world.log.append(EVENTS, session.id.to_bytes(), again).await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM events WHERE row_kind = 'duplicate'").await, 1);
    assert_eq!(world.number("SELECT count(*) FROM commands").await, 1);
}

#[tokio::test]
async fn a_record_that_is_no_event_is_a_dead_letter_with_its_bytes() {
    let world = World::new().await;
    world
        .log
        .append(EVENTS, bytes::Bytes::from_static(b"k"), bytes::Bytes::from_static(b"junk"))
        .await
        .unwrap();
    let seen = world.sql("SELECT row_kind, raw FROM events").await.unwrap();
    assert_eq!(seen, [["dead_letter", "6a756e6b"]]);
}

#[tokio::test]
async fn a_record_of_a_later_release_is_an_error_until_ingest_has_made_a_row_of_it() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    session.command("SELECT 1", &[]).await;
    world.ingest().await;
    let end = world.log.offsets(EVENTS).await.unwrap().end;
    let sealed = session.sealed[0].clone();
    let mut later = sealed.to_vec();
    // Of the envelope the header comes first, and of the header the schema version.
    let version = later.iter().position(|byte| *byte == 0x08).unwrap();
    assert!(version <= 3 && later[version + 1] == 1, "{later:?}");
    later[version + 1] = 99;
    world.log.append(EVENTS, session.id.to_bytes(), later.into()).await.unwrap();
    let error = world.sql(COUNT).await.unwrap_err();
    assert!(matches!(&error, QueryError::Newer { at: EVENTS, offset, .. } if *offset == end), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("schema version 99") && error.to_string().contains("upgrade"),
        "{error}"
    );
    world.ingest().await;
    assert_eq!(world.number(COUNT).await, 1, "what is in the table is a row");
}
