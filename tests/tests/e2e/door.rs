//! The evidence behind PostgreSQL's protocol: psql and a driver ask, and every question is on record.

use std::io::{Read, Write};
use std::net::TcpStream;

use retrace_tests::client::{Connection, Tls, connect_with};
use retrace_tests::{Gate, Postgres, wait_for};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::common::PATIENCE;

async fn at_evidence(gate: &Gate, principal: &str, token: &str) -> Connection {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(gate.evidence_port()).user(principal).password(token).dbname("retrace");
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    connect_with(config, Tls::trusting(&gate.ca())).await.expect("the door lets it in")
}

#[test]
fn psql_finds_its_way_and_asks() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 'through the gate'").expect_ok();
    let ask = |script: &str| gate.psql_at_evidence("dev", &gate.dev_token(), script).expect_ok();
    for name in ["commands", "events", "masked_values", "responses", "sessions"] {
        assert!(ask("\\d").contains(name), "{name}");
        assert!(ask(&format!("\\d {name}")).contains("principal"), "{name}");
        assert!(ask(&format!("\\d+ {name}")).contains("principal"), "{name}");
    }
    assert!(ask("\\dt").contains("events") && ask("\\dv").contains("commands"));
    for listing in ["\\l", "\\du", "\\dn", "\\df", "\\conninfo"] {
        let _ = ask(listing);
    }
    let found = ask("SELECT principal, statement FROM commands WHERE statement LIKE '%through the gate%'");
    assert_eq!(found.trim(), "dev|SELECT 'through the gate'");
    assert_eq!(ask("BEGIN; SELECT 1; COMMIT; SHOW server_encoding").trim(), "1\nUTF8");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_prepares_binds_and_reads_binary_rows_in_portions() {
    let gate = Gate::started(Postgres::shared().database());
    for number in 0..7 {
        let _ = gate.psql(&format!("SELECT 'row {number}'")).expect_ok();
    }
    let mut connection = at_evidence(&gate, "dev", &gate.dev_token()).await;
    let client = &mut connection.client;
    let asked = "SELECT statement, seq, at, decision = 'allow' AS allowed FROM commands \
                 WHERE statement LIKE $1 AND seq >= $2 ORDER BY at";
    let prepared = client.prepare(asked).await.unwrap();
    assert_eq!(prepared.params(), [Type::TEXT, Type::INT8]);
    let types: Vec<&Type> = prepared.columns().iter().map(|column| column.type_()).collect();
    assert_eq!(types, [&Type::TEXT, &Type::INT8, &Type::TIMESTAMPTZ, &Type::BOOL]);
    let rows = client.query(&prepared, &[&"%row _'", &0_i64]).await.unwrap();
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[3].get::<_, &str>(0), "SELECT 'row 3'");
    assert!(rows[3].get::<_, bool>(3));
    assert!(
        client.query(&prepared, &[&"' OR true --", &0_i64]).await.unwrap().is_empty(),
        "no text of the statement"
    );

    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind(&prepared, &[&"%row _'", &0_i64]).await.unwrap();
    let mut portions = Vec::new();
    while let Ok(rows) = transaction.query_portal(&portal, 3).await {
        portions.push(rows.len());
        if rows.len() < 3 {
            break;
        }
    }
    assert_eq!(portions, [3, 3, 1]);
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_token_is_revoked_reads_no_more_on_a_connection_that_is_open() {
    let gate = Gate::started(Postgres::shared().database());
    let token = gate.new_token("dev");
    let connection = at_evidence(&gate, "dev", &token).await;
    connection.client.batch_execute("SELECT count(*) FROM events").await.expect("it may");
    let id = token.split('_').nth(1).expect("rt_<id>_<secret>");
    let _ = gate.retrace(&["kill", "--token", id]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let refused = loop {
        match connection.client.batch_execute("SELECT count(*) FROM events").await {
            Ok(()) => assert!(tokio::time::Instant::now() < deadline, "the token is still taken"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code().expect("it is told").code(), "28000");
    let after = connection.client.batch_execute("SELECT 1").await.expect_err("the connection has ended");
    assert!(after.is_closed(), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_question_by_the_wire_is_on_record_with_its_parameters_before_its_rows() {
    let gate = Gate::started(Postgres::shared().database());
    let connection = at_evidence(&gate, "dev", &gate.dev_token()).await;
    let asked = "SELECT count(*) FROM events WHERE event_type = $1 AND statement LIKE $2";
    for before in 0..4_i64 {
        let row = connection.client.query_one(asked, &[&"evidence_read", &"%LIKE $2%"]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), before, "questions on record before question {before}");
    }
    let card = "4111 1111 1111 1111";
    connection.client.query(asked, &[&"command_received", &card]).await.unwrap();
    let rows = gate.sql("SELECT statement, principal FROM events WHERE statement LIKE '%command_received%-- $2%' OR statement LIKE '%-- $1: \"command_received\"%'");
    assert!(!rows.is_empty());
    let recorded = rows[0]["statement"].as_str().unwrap();
    assert!(recorded.contains("[payment_card]") && !recorded.contains("1111"), "{recorded}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_their_codes_and_nothing_is_written() {
    let gate = Gate::started(Postgres::shared().database());
    let connection = at_evidence(&gate, "dev", &gate.dev_token()).await;
    for (statement, expected) in [
        ("SELEC 1", SqlState::SYNTAX_ERROR),
        ("SELECT * FROM nowhere", SqlState::UNDEFINED_TABLE),
        ("SELECT nothing FROM events", SqlState::UNDEFINED_COLUMN),
        ("SELECT no_such(1)", SqlState::UNDEFINED_FUNCTION),
        ("DELETE FROM events", SqlState::FEATURE_NOT_SUPPORTED),
        ("CREATE TABLE x (a int)", SqlState::FEATURE_NOT_SUPPORTED),
        ("COPY (SELECT 1) TO '/tmp/x'", SqlState::FEATURE_NOT_SUPPORTED),
        ("SELECT fingerprint('4111111111111111')", SqlState::INSUFFICIENT_PRIVILEGE),
        ("SET client_encoding = 'LATIN1'", SqlState::INVALID_PARAMETER_VALUE),
    ] {
        let simple = connection.client.simple_query(statement).await.unwrap_err();
        assert_eq!(simple.code(), Some(&expected), "{statement}: {simple:?}");
        let extended = connection.client.query(statement, &[]).await.unwrap_err();
        assert_eq!(extended.code(), Some(&expected), "{statement}");
        assert_eq!(
            connection.client.query("SELECT 1", &[]).await.unwrap().len(),
            1,
            "the connection lives on"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_cancelled_while_it_runs_and_the_connection_lives_on() {
    let gate = Gate::started(Postgres::shared().database());
    for _ in 0..4 {
        let _ = gate.sql("SELECT 1");
    }
    let connection = at_evidence(&gate, "dev", &gate.dev_token()).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let from = names.map(|name| format!("events {name}")).join(", ");
    let sum = names.map(|name| format!("{name}.log_offset")).join(" + ");
    let long = format!("SELECT count(*) FROM {from} WHERE {sum} = -1");
    let token = connection.client.cancel_token();
    let tls = Tls::trusting(&gate.ca());
    let runs = || {
        gate.number("SELECT count(*) AS n FROM events WHERE statement LIKE '%j.log_offset%' AND event_type = 'evidence_read'") > 0
    };
    let cancel = async {
        tokio::task::block_in_place(|| wait_for("the statement runs", PATIENCE, || runs().then_some(())));
        token.cancel_query(tls).await.expect("a cancel request is taken");
    };
    let (failed, ()) = tokio::join!(connection.client.simple_query(&long), cancel);
    assert_eq!(failed.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(connection.client.query("SELECT 1", &[]).await.unwrap().len(), 1);
}

#[test]
fn only_those_come_in_who_prove_their_token_inside_tls() {
    let gate = Gate::started(Postgres::shared().database());
    let wrong = gate.psql_at_evidence("dev", "rt_00000000_wrong", "SELECT 1").expect_failure();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    // A startup message without a question for TLS before it.
    let mut plain = TcpStream::connect(("127.0.0.1", gate.evidence_port())).unwrap();
    plain.write_all(b"\0\0\0\x12\0\x03\0\0user\0dev\0\0").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("over TLS only") && answer.contains("sslmode=require"), "{answer}");
    let refused = || gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'login_refused'");
    wait_for("both are on record", PATIENCE, || (refused() == 2).then_some(()));
}

#[test]
fn rights_are_those_of_every_other_door() {
    let mut gate = Gate::new(Postgres::shared().database());
    let own = gate.add_principal("agent", &["shop"], "own");
    let none = gate.add_principal("blind", &["shop"], "none");
    gate.up();
    let _ = gate.psql("SELECT 'of dev'").expect_ok();
    let asked = "SELECT count(*) FROM commands";
    assert_eq!(gate.psql_at_evidence("agent", &own, asked).expect_ok().trim(), "0");
    assert_eq!(gate.psql_at_evidence("dev", &gate.dev_token(), asked).expect_ok().trim(), "1");
    for script in [asked, "SELECT relname FROM pg_class", "SELECT 1"] {
        let denied = gate.psql_at_evidence("blind", &none, script).err();
        assert!(denied.contains("may not read evidence"), "{script}: {denied}");
    }
}
