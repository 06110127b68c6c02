use retrace_access::EvidenceRight;
use retrace_query::{ErrorKind, Options, QueryError};

use crate::world::{Session, World, caller, rows};

/// Whatever writes, sets, reaches outside or is more than one statement.
const REFUSED: [&str; 52] = [
    "",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE events",
    "INSERT INTO events SELECT * FROM events",
    "INSERT INTO events (principal) VALUES ('x')",
    "UPDATE events SET principal = 'x'",
    "DELETE FROM events",
    "TRUNCATE TABLE events",
    "MERGE INTO events USING commands ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE t AS SELECT * FROM events",
    "CREATE TABLE t (a INT)",
    "CREATE OR REPLACE TABLE events AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE OR REPLACE VIEW commands AS SELECT 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE INDEX i ON events (principal)",
    "CREATE EXTERNAL TABLE p STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
    "DROP TABLE events",
    "DROP VIEW commands",
    "DROP SCHEMA public",
    "DROP FUNCTION abs",
    "ALTER TABLE events ADD COLUMN a INT",
    "COPY events TO '/tmp/out.csv'",
    "COPY (SELECT * FROM events) TO '/tmp/out.parquet' STORED AS PARQUET",
    "COPY events FROM '/etc/passwd'",
    "SELECT * INTO t FROM events",
    "WITH x AS (SELECT 1) INSERT INTO events SELECT * FROM events",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.catalog.information_schema = false",
    "SET TIME ZONE 'UTC'",
    "RESET datafusion.execution.batch_size",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "USE retrace",
    "GRANT SELECT ON events TO bob",
    "CALL f()",
    "VACUUM",
    "EXPLAIN ANALYZE SELECT * FROM events",
    "EXPLAIN INSERT INTO events SELECT * FROM events",
    "EXPLAIN COPY events TO '/tmp/out.csv'",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'file:///etc/passwd'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('x.parquet')",
    "SELECT repeat('x', 2000000000)",
];

const ALLOWED: [&str; 14] = [
    "SELECT 1",
    "SELECT 1;",
    "VALUES (1), (2)",
    "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
    "SELECT count(*) FROM commands",
    "SHOW TABLES",
    "SHOW COLUMNS FROM commands",
    "SHOW datafusion.execution.batch_size",
    "DESCRIBE commands",
    "DESCRIBE SELECT * FROM sessions",
    "SELECT table_name FROM information_schema.tables",
    "SELECT * FROM generate_series(1, 3)",
    "SELECT at, rows FROM commands",
    "SELECT * FROM events WHERE statement LIKE '%DROP TABLE%'",
];

#[tokio::test]
async fn what_does_not_read_is_refused_with_a_sentence_and_changes_nothing() {
    let world = World::new().await;
    Session::run(&world, "ann", 1).await;
    for right in [EvidenceRight::All, EvidenceRight::Own] {
        for statement in REFUSED {
            let error = match world.reader().sql(&caller("ann", right), statement).await {
                Ok(answer) => rows(answer).await.expect_err(statement),
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::FixTheCall, "{statement}: {error}");
            assert!(!error.to_string().contains("root:"), "{statement}: {error}");
        }
    }
    assert_eq!(world.number("SELECT count(*) FROM commands").await, 1);
    assert_eq!(world.sql("SHOW TABLES").await.unwrap().len(), 5 + 7, "ours and the information schema's");
}

#[tokio::test]
async fn what_reads_is_answered() {
    let world = World::new().await;
    Session::run(&world, "ann", 1).await;
    for right in [EvidenceRight::All, EvidenceRight::Own] {
        for statement in ALLOWED {
            let answer = world.reader().sql(&caller("ann", right), statement).await;
            let answer = answer.unwrap_or_else(|error| panic!("{statement}: {error}"));
            rows(answer).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

#[tokio::test]
async fn a_statement_beyond_the_limit_is_refused() {
    let world = World::new().await;
    let long = format!("SELECT '{}'", "x".repeat(Options::default().statement_bytes_max));
    let error = world.sql(&long).await.unwrap_err();
    assert!(matches!(error, QueryError::StatementTooLong { bytes, .. } if bytes == long.len()), "{error}");
}

#[tokio::test]
async fn a_statement_too_deep_or_too_wide_to_plan_is_refused() {
    let world = World::new().await;
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    let mut doubling = "WITH t0 AS (SELECT 1 AS a)".to_owned();
    for level in 1..40 {
        let below = level - 1;
        doubling += &format!(", t{level} AS (SELECT x.a FROM t{below} x, t{below} y)");
    }
    doubling += " SELECT count(*) FROM t39";
    for statement in [deep, doubling] {
        let error = world.sql(&statement).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FixTheCall, "{error}");
    }
}

#[tokio::test]
async fn a_query_that_needs_too_much_memory_is_told_so() {
    let options = Options { memory_bytes_max: 1_000_000, ..Options::default() };
    let world = World::with(retrace_eventlog::MemoryLog::new(), options).await;
    let error = world
        .sql("SELECT count(*) FROM (SELECT DISTINCT value FROM generate_series(1, 10000000))")
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::Memory { bytes_max: 1_000_000 }), "{error}");
}

#[tokio::test]
async fn the_deadline_binds_while_rows_stream_and_frees_the_place() {
    let options = Options { query_ms_max: 1_500, queries_max: 1, ..Options::default() };
    let world = World::with(retrace_eventlog::MemoryLog::new(), options).await;
    let endless = "SELECT sum(value % 7) FROM generate_series(1, 1000000000000)";
    let error = world.sql(endless).await.unwrap_err();
    assert!(matches!(error, QueryError::Deadline { ms_max: 1_500 }), "{error}");
    // A reader who takes nothing holds its place no longer than the deadline either.
    let all = caller("auditor", EvidenceRight::All);
    let idle = loop {
        // The place is free once the first query has really ended.
        match world.reader().sql(&all, "SELECT * FROM generate_series(1, 1000000000)").await {
            Err(QueryError::Busy { .. }) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    loop {
        match world.sql("SELECT 1").await {
            Err(QueryError::Busy { .. }) => tokio::task::yield_now().await,
            other => break assert_eq!(other.unwrap(), [["1"]]),
        }
    }
    assert!(matches!(rows(idle).await, Err(QueryError::Deadline { .. })));
}

#[tokio::test]
async fn more_queries_than_allowed_are_refused_not_queued() {
    let options = Options { queries_max: 2, ..Options::default() };
    let world = World::with(retrace_eventlog::MemoryLog::new(), options).await;
    let all = caller("auditor", EvidenceRight::All);
    let reader = world.reader();
    let endless = "SELECT * FROM generate_series(1, 1000000000)";
    let first = reader.sql(&all, endless).await.unwrap();
    let _second = reader.sql(&all, endless).await.unwrap();
    let third = reader.sql(&all, "SELECT 1").await.unwrap_err();
    assert!(matches!(third, QueryError::Busy { running_max: 2 }), "{third}");
    drop(first);
    loop {
        match world.sql("SELECT 1").await {
            Err(QueryError::Busy { .. }) => tokio::task::yield_now().await,
            other => break assert_eq!(other.unwrap(), [["1"]]),
        }
    }
}
