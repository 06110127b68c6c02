use retrace_access::EvidenceRight;
use retrace_eventlog::MemoryLog;
use retrace_query::{ErrorKind, Options, QueryError};

use crate::world::{Session, World, caller, events, rows};

/// A world with three commands of ann and five of eve: in the tail, in files, or some in each.
async fn worlds() -> Vec<(&'static str, World)> {
    let mut worlds = Vec::new();
    for place in ["tail", "files", "both"] {
        let world = World::with(MemoryLog::new(), Options::default()).await;
        Session::run(&world, "ann", 3).await;
        Session::run(&world, "eve", 2).await;
        if place != "tail" {
            world.ingest().await;
        }
        if place == "files" {
            Session::run(&world, "eve", 3).await;
            world.ingest().await;
        } else {
            Session::run(&world, "eve", 3).await;
        }
        worlds.push((place, world));
    }
    worlds
}

async fn own(world: &World, statement: &str) -> Result<Vec<Vec<String>>, QueryError> {
    rows(world.reader().sql(&caller("ann", EvidenceRight::Own), statement).await?).await
}

#[tokio::test]
async fn own_gives_the_rows_of_the_caller_in_every_table_and_by_every_way() {
    for (place, world) in worlds().await {
        for (statement, expected) in [
            ("SELECT count(*) FROM sessions", "1"),
            ("SELECT count(*) FROM commands", "3"),
            ("SELECT count(*) FROM responses", "3"),
            ("SELECT count(*) FROM commands WHERE principal = 'eve'", "0"),
            (
                "SELECT count(*) FROM events WHERE principal = 'eve' OR 1 = 1 AND stream_kind <> 'instance'",
                "8",
            ),
            ("SELECT count(*) FROM events WHERE principal IS NULL", "0"),
            ("SELECT count(DISTINCT principal) FROM events", "1"),
            ("SELECT max(principal) FROM events", "ann"),
            ("SELECT count(*) FROM retrace.public.events AS e WHERE e.stream_kind = 'session'", "8"),
            (
                "WITH ann AS (SELECT 'eve' AS principal) SELECT count(*) FROM ann JOIN events USING (principal)",
                "0",
            ),
            ("SELECT count(*) FROM events a CROSS JOIN events b WHERE a.principal <> b.principal", "0"),
            ("SELECT count(*) FROM (SELECT 1 FROM commands UNION ALL SELECT 1 FROM commands)", "6"),
            ("SELECT (SELECT count(*) FROM commands WHERE target = c.target) FROM commands c LIMIT 1", "3"),
        ] {
            assert_eq!(own(&world, statement).await.unwrap(), [[expected]], "in {place}: {statement}");
        }
    }
}

/// What fails on a row of eve must not fail for ann, or an error would tell that there is such a row.
#[tokio::test]
async fn an_expression_of_an_own_reader_never_meets_a_row_of_another() {
    const PROBES: [&str; 6] = [
        "SELECT count(*) FROM events WHERE 1 / (CASE WHEN principal = 'eve' THEN 0 ELSE 1 END) = 1",
        "SELECT count(*) FROM events WHERE CAST(CASE WHEN principal = 'eve' THEN 'x' ELSE '1' END AS INT) = 1",
        "SELECT sum(1 / (CASE WHEN principal = 'eve' THEN 0 ELSE 1 END)) FROM events",
        "SELECT count(*) FROM (SELECT 1 / (CASE WHEN principal = 'eve' THEN 0 ELSE 1 END) AS x FROM events) WHERE x = 1",
        "SELECT count(*) FROM events a JOIN events b ON a.stream_id = b.stream_id \
         AND 1 / (CASE WHEN b.principal = 'eve' THEN 0 ELSE 1 END) = 1",
        "SELECT 1 / (CASE WHEN principal = 'eve' THEN 0 ELSE 1 END) AS x FROM events ORDER BY x LIMIT 3",
    ];
    for (place, world) in worlds().await {
        for probe in PROBES {
            own(&world, probe).await.unwrap_or_else(|error| panic!("in {place}: {probe}: {error}"));
            let everything = world.sql(probe).await;
            assert!(everything.is_err(), "the probe finds eve where she may be seen, in {place}: {probe}");
        }
    }
}

#[tokio::test]
async fn how_the_table_is_stored_is_shown_to_those_who_may_read_everything() {
    for (_place, world) in worlds().await {
        for statement in
            ["EXPLAIN SELECT * FROM events", "EXPLAIN VERBOSE SELECT 1", "EXPLAIN EXPLAIN SELECT 1"]
        {
            let error = own(&world, statement).await.unwrap_err();
            assert!(matches!(error, QueryError::Refused(_)), "{statement}: {error}");
        }
        assert!(world.sql("EXPLAIN SELECT * FROM events").await.is_ok());
    }
}

#[tokio::test]
async fn none_reads_nothing_and_is_told_what_to_do() {
    let world = World::new().await;
    let session = Session::run(&world, "bob", 1).await;
    let bob = caller("bob", EvidenceRight::None);
    let reader = world.reader();
    let errors = [
        reader.sql(&bob, "SELECT 1").await.unwrap_err(),
        reader.session(&bob, session.id).await.unwrap_err(),
        reader.tail(&bob, None).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("evidence = \"own\""), "{error}");
    }
}

#[tokio::test]
async fn a_session_comes_back_in_order_and_bit_for_bit_to_those_who_may_see_it() {
    for place in ["tail", "files", "both"] {
        let world = World::new().await;
        let mut session = Session::run(&world, "ann", 20).await;
        if place != "tail" {
            world.ingest().await;
        }
        if place == "both" {
            session.command("SELECT 'more'", &[]).await;
        }
        Session::run(&world, "eve", 2).await;
        for (reader, expected) in [
            (caller("auditor", EvidenceRight::All), session.sealed.as_slice()),
            (caller("ann", EvidenceRight::Own), session.sealed.as_slice()),
            (caller("eve", EvidenceRight::Own), &[]),
        ] {
            let answer = world.reader().session(&reader, session.id).await.unwrap();
            let read = events(answer).await.unwrap();
            let envelopes: Vec<_> = read.iter().map(|event| event.envelope.clone()).collect();
            assert_eq!(envelopes, expected, "{} in {place}", reader.principal.name);
        }
    }
}
