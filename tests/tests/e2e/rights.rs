//! Evidence rights: none, own, all; and what no right opens.

use retrace_tests::{Gate, Outcome, Postgres, client};
use serde_json::Value;

use crate::common::assert_nothing_lost_nothing_twice;

/// A gate with evidence of two principals, and the tokens of readers.
struct Readers {
    gate: Gate,
    own: String,
    none: String,
}

async fn readers() -> Readers {
    let mut gate = Gate::new(Postgres::shared().database());
    let own = gate.add_principal("agent-own", &["shop"], "own");
    let none = gate.add_principal("agent-none", &["shop"], "none");
    gate.up();
    let _ = gate.psql("SELECT 'said by dev'").expect_ok();
    for (principal, token) in [("agent-own", &own), ("agent-none", &none)] {
        let config = client::config(&gate, principal, token, "shop");
        let tls = client::Tls::trusting(&gate.ca());
        let connection = client::connect_with(config, tls).await.expect("the principal may use the target");
        connection
            .client
            .batch_execute(&format!("SELECT 'said by {principal}'"))
            .await
            .expect("it is answered");
    }
    Readers { gate, own, none }
}

impl Readers {
    fn as_own(&self, statement: &str) -> Vec<Value> {
        self.gate.sql_as(Some(&self.own), statement)
    }

    fn refused(&self, token: &str, arguments: &[&str]) -> String {
        let outcome: Outcome = self.gate.retrace_as(Some(token), arguments);
        outcome.expect_failure()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sees_every_principal() {
    let readers = readers().await;
    let rows = readers.gate.sql("SELECT DISTINCT principal FROM commands ORDER BY principal");
    let names: Vec<_> = rows.iter().map(|row| row["principal"].as_str().expect("a name")).collect();
    assert_eq!(names, ["agent-none", "agent-own", "dev"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_sees_its_own_events_and_no_trace_of_others() {
    let readers = readers().await;
    let rows = readers.as_own("SELECT DISTINCT principal FROM events");
    assert_eq!(rows, [serde_json::json!({ "principal": "agent-own" })]);
    for (statement, expected) in [
        ("SELECT count(*) AS n FROM events WHERE principal <> 'agent-own' OR principal IS NULL", 0),
        ("SELECT count(*) AS n FROM commands WHERE statement LIKE '%said by dev%'", 0),
        ("SELECT count(*) AS n FROM commands WHERE statement LIKE '%said by agent-own%'", 1),
        ("SELECT count(*) AS n FROM sessions", 1),
        ("SELECT count(*) AS n FROM responses WHERE principal = 'dev'", 0),
        ("WITH events AS (SELECT * FROM events) SELECT count(*) AS n FROM events WHERE principal = 'dev'", 0),
    ] {
        let found = readers.as_own(statement)[0]["n"].as_i64().expect("a number");
        assert_eq!(found, expected, "{statement}");
    }
    // An expression must not be evaluated on rows that the right hides: its error would tell of them.
    let probe = "SELECT sum(1 / (CASE WHEN principal = 'dev' THEN 0 ELSE 1 END)) AS n FROM events";
    assert!(readers.as_own(probe)[0]["n"].as_i64().is_some_and(|sum| sum > 0));
    let probe =
        "SELECT count(*) AS n FROM events WHERE 1 / (CASE WHEN principal = 'dev' THEN 0 ELSE 1 END) = 1";
    assert!(readers.as_own(probe)[0]["n"].as_i64().is_some_and(|count| count > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_replays_its_own_session_and_nobody_elses() {
    let readers = readers().await;
    let session_of = |principal: &str| {
        let rows =
            readers.gate.sql(&format!("SELECT session_id FROM sessions WHERE principal = '{principal}'"));
        rows[0]["session_id"].as_str().expect("an id").to_owned()
    };
    let (of_dev, of_own) = (session_of("dev"), session_of("agent-own"));
    let played = readers.gate.retrace_as(Some(&readers.own), &["replay", &of_own, "--instant"]).expect_ok();
    assert!(played.contains("said by agent-own"), "{played}");
    let refused = readers.refused(&readers.own, &["replay", &of_dev, "--instant"]);
    let absent =
        readers.refused(&readers.own, &["replay", "0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b", "--instant"]);
    assert_eq!(
        refused.replace(&of_dev, "…"),
        absent.replace("0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b", "…"),
        "a session of others looks like none"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_none_sees_nothing_and_its_attempt_is_recorded() {
    let readers = readers().await;
    for arguments in [&["sql", "SELECT 1"][..], &["sessions"], &["replay", "last", "--instant"], &["tail"]] {
        let refused = readers.refused(&readers.none, arguments);
        assert!(refused.contains("evidence"), "{arguments:?}: {refused}");
    }
    let attempts = readers.gate.number(
        "SELECT count(DISTINCT stream_seq) AS n FROM events
         WHERE principal = 'agent-none' AND event_type IN ('evidence_read', 'evidence_read_completed')",
    );
    assert!(attempts >= 4, "{attempts} of 4 attempts are on record");
    assert_nothing_lost_nothing_twice(&readers.gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_a_right_token_sees_nothing() {
    let readers = readers().await;
    for token in ["rt_00000000_wrong", "not a token"] {
        let refused = readers.refused(token, &["sql", "SELECT 1"]);
        assert!(refused.contains("token"), "{token}: {refused}");
    }
}
