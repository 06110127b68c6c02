use futures::StreamExt;
use retrace_access::EvidenceRight;
use retrace_eventlog::{AppendError, MemoryLog};
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::evidence_read::Kind;
use retrace_proto::wire::evidence_read_completed::Status;
use retrace_query::{ErrorKind, Options, QueryError};

use crate::world::{Session, World, caller, events, rows};

/// The reads in the instance stream: kind, statement, right, and how each ended with how many rows.
async fn reads(world: &World) -> Vec<(Kind, String, String, Option<(Status, u64)>)> {
    let mut reads: Vec<(bytes::Bytes, _)> = Vec::new();
    for event in world.instance_events().await {
        match event {
            Payload::EvidenceRead(read) => {
                let row = (read.kind(), read.statement.clone(), read.evidence_right.clone(), None);
                reads.push((read.read_id, row));
            }
            Payload::EvidenceReadCompleted(end) => {
                let read =
                    reads.iter_mut().find(|(id, _)| *id == end.read_id).expect("a read began before it ends");
                let ended = read.1.3.replace((end.status(), end.rows));
                assert_eq!(ended, None, "a read ends once");
            }
            _ => {}
        }
    }
    reads.into_iter().map(|(_, read)| read).collect()
}

#[tokio::test]
async fn p8_every_read_is_recorded_with_its_end() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 3).await;
    let (all, none) = (caller("auditor", EvidenceRight::All), caller("bob", EvidenceRight::None));
    let reader = world.reader();

    rows(reader.sql(&all, "SELECT * FROM commands").await.unwrap()).await.unwrap();
    events(reader.session(&caller("ann", EvidenceRight::Own), session.id).await.unwrap()).await.unwrap();
    reader.sql(&all, "DROP TABLE events").await.unwrap_err();
    reader.sql(&all, "SELECT nothing FROM events").await.unwrap_err();
    reader.sql(&none, "SELECT 1").await.unwrap_err();
    rows(reader.sql(&all, "SELECT CAST(statement AS INT) FROM commands").await.unwrap()).await.unwrap_err();

    let text = |text: &str| text.to_owned();
    assert_eq!(
        reads(&world).await,
        [
            (Kind::Sql, text("SELECT * FROM commands"), text("all"), Some((Status::Ok, 3))),
            (Kind::Session, session.id.to_string(), text("own"), Some((Status::Ok, 8))),
            (Kind::Sql, text("DROP TABLE events"), text("all"), Some((Status::Denied, 0))),
            (Kind::Sql, text("SELECT nothing FROM events"), text("all"), Some((Status::Error, 0))),
            (Kind::Sql, text("SELECT 1"), text("none"), Some((Status::Denied, 0))),
            (
                Kind::Sql,
                text("SELECT CAST(statement AS INT) FROM commands"),
                text("all"),
                Some((Status::Error, 0))
            ),
        ]
    );
}

#[tokio::test]
async fn p8_no_row_leaves_before_its_record_is_durable() {
    let world = World::new().await;
    Session::run(&world, "ann", 3).await;
    let gate = world.log.faults().hold();
    let all = caller("auditor", EvidenceRight::All);
    let reader = world.reader();
    let reading = reader.sql(&all, "SELECT * FROM commands");
    tokio::pin!(reading);
    tokio::select! {
        biased;
        _answer = &mut reading => panic!("an answer before its record"),
        () = gate.wait_held(1) => {}
    }
    assert!(futures::poll!(&mut reading).is_pending());
    assert!(reads(&world).await.is_empty());
    gate.open();
    let answer = reading.await.unwrap();
    assert_eq!(reads(&world).await.len(), 1, "durable before the first row is taken");
    assert_eq!(rows(answer).await.unwrap().len(), 3);
}

#[tokio::test]
async fn p8_a_log_that_fails_refuses_every_read() {
    for error in [AppendError::Full, AppendError::Refused, AppendError::Unknown, AppendError::Closed] {
        let world = World::new().await;
        let session = Session::run(&world, "ann", 3).await;
        world.log.faults().fail_next(1, error);
        let all = caller("auditor", EvidenceRight::All);
        let reader = world.reader();
        let refused = reader.sql(&all, "SELECT * FROM commands").await.unwrap_err();
        assert!(matches!(refused, QueryError::NotRecorded(_)), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        // The stream has a gap now, so nothing more is recorded and nothing more read.
        for refused in [
            reader.sql(&all, "SELECT 1").await.unwrap_err(),
            reader.session(&all, session.id).await.unwrap_err(),
            reader.tail(&all, None).await.unwrap_err(),
        ] {
            assert!(matches!(refused, QueryError::NotRecorded(_)), "{refused}");
        }
        assert!(reads(&world).await.is_empty());
    }
}

#[tokio::test]
async fn p8_a_record_that_never_becomes_durable_refuses_at_the_deadline() {
    let options = Options { query_ms_max: 300, ..Options::default() };
    let world = World::with(MemoryLog::new(), options).await;
    world.log.faults().hang_next(1);
    let refused = world.sql("SELECT 1").await.unwrap_err();
    assert!(matches!(refused, QueryError::RecordTooSlow), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_reader_who_goes_away_leaves_an_abandoned_read() {
    let world = World::new().await;
    Session::run(&world, "ann", 3).await;
    let all = caller("auditor", EvidenceRight::All);
    let mut answer = world.reader().sql(&all, "SELECT * FROM generate_series(1, 1000000000)").await.unwrap();
    let first = answer.batches.next().await.unwrap().unwrap().num_rows() as u64;
    drop(answer);
    let read = reads(&world).await;
    assert_eq!(read[0].3, Some((Status::Abandoned, first)));
}

#[tokio::test]
async fn the_cut_and_the_reader_stand_in_the_record() {
    let world = World::new().await;
    Session::run(&world, "ann", 1).await;
    let answer = world.reader().sql(&caller("auditor", EvidenceRight::All), "SELECT 1").await.unwrap();
    let recorded =
        world.sql("SELECT principal, token_id FROM events WHERE event_type = 'evidence_read'").await;
    assert_eq!(recorded.unwrap()[0], ["auditor", "0a1b2c3d"]);
    let Some(Payload::EvidenceRead(read)) = world.instance_events().await.into_iter().next() else {
        panic!("the read is the stream's first event");
    };
    let in_record: Vec<_> =
        read.cut.iter().map(|at| (at.topic.as_str(), at.partition, at.end_exclusive)).collect();
    let in_answer: Vec<_> = answer
        .cut
        .positions()
        .iter()
        .map(|position| (position.at.topic.name(), position.at.partition, position.end_exclusive))
        .collect();
    assert_eq!(in_record, in_answer);
    assert_eq!(in_record, [("retrace.events", 0, 4), ("retrace.control", 0, 0)]);
}

#[tokio::test]
async fn a_statement_is_masked_before_it_is_recorded() {
    let world = World::new().await;
    let card = "4111111111111111";
    let statement = format!("SELECT * FROM responses WHERE response_text LIKE '%{card}%'");
    world.sql(&statement).await.unwrap();
    let recorded = &reads(&world).await[0].1;
    assert!(!recorded.contains(card), "{recorded}");
    assert!(recorded.starts_with("SELECT * FROM responses"), "{recorded}");
}
