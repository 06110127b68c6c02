//! P6: what the gate cannot answer for it refuses, in the client's own protocol, with a sentence.

use retrace_tests::{Gate, Postgres, Wire, startup};

use crate::common::{assert_nothing_lost_nothing_twice, command_tag, refusal, transaction_status};

/// The code of a COPY that would pass the gate by.
const DENIED: &str = "42501";

#[test]
fn p6_copy_that_the_gate_cannot_look_into_is_refused_with_a_sentence_and_the_session_lives_on() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE rows (number int); INSERT INTO rows VALUES (1)");
    let gate = Gate::started(database);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    for (statement, expect) in [
        ("COPY rows TO PROGRAM 'cat'", DENIED),
        ("copy rows from '/etc/passwd'", DENIED),
        ("SELECT 1; COPY rows TO '/tmp/rows'", DENIED),
        ("  \n COPY (SELECT 1) TO STDOUT WITH (FORMAT binary)", "0A000"),
        ("/* a /* nested */ comment */ COPY rows TO STDOUT (FORMAT nonsense)", "0A000"),
        ("-- a comment\nCOPY rows TO STDOUT (ENCODING 'LATIN1')", "0A000"),
        ("SELECT 1; COPY rows TO STDOUT", "0A000"),
    ] {
        let answer = wire.query(statement).expect("the session lives");
        let (code, sentence) = refusal(&answer);
        assert_eq!(code, expect, "{statement}: {sentence}");
        assert!(sentence.contains("COPY") || sentence.contains("masks"), "{statement}: {sentence}");
        let leaked = answer.iter().find(|message| matches!(message.tag, b'D' | b'H' | b'G' | b'd'));
        assert_eq!(leaked, None, "{statement}");
        assert_eq!(transaction_status(&answer), 'I', "{statement}");
    }
    assert_eq!(command_tag(&wire.query("SELECT 1").expect("the session lives on")), "SELECT 1");
    assert_eq!(database.number("SELECT count(*) FROM rows"), 1);
    assert_eq!(gate.number("SELECT count(*) AS n FROM commands WHERE status = 'refused'"), 7);
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn p6_a_word_that_looks_like_copy_is_not_refused() {
    let gate = Gate::started(Postgres::shared().database());
    let script =
        "SELECT 'COPY rows TO STDOUT'; SELECT 1 AS copy; SELECT $$; COPY x FROM stdin$$; -- COPY\nSELECT 2;";
    let out = gate.psql(script).expect_ok();
    assert_eq!(out, "COPY rows TO STDOUT\n1\n; COPY x FROM stdin\n2\n");
}

#[test]
fn a_function_call_is_answered_and_on_record() {
    let gate = Gate::started(Postgres::shared().database());
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    // Function 1598 (random), no argument formats, no arguments, result as text.
    wire.send(b'F', &[0, 0, 0x06, 0x3e, 0, 0, 0, 0, 0, 0]).expect("the session lives");
    let answer = wire.read_until(b'Z').expect("the session lives on");
    assert!(answer.iter().any(|message| message.tag == b'V'), "{answer:?}");
    let found = gate.sql("SELECT statement, status, rows FROM commands WHERE kind = 'function_call'");
    assert_eq!(
        (&found[0]["statement"], &found[0]["status"], &found[0]["rows"]),
        (&"function 1598".into(), &"ok".into(), &1.into())
    );
}

#[test]
fn p6_replication_is_refused_with_a_sentence() {
    let gate = Gate::started(Postgres::shared().database());
    for replication in ["true", "database", "on", "1"] {
        let mut wire = Wire::open(&gate).expect("the gate listens");
        let parameters = [("user", "dev"), ("database", "shop"), ("replication", replication)];
        wire.send_raw(&startup(&parameters)).expect("the gate reads");
        // Before or after authentication: either way nobody replicates.
        let _ = wire.authenticate(&gate.dev_token());
        let answer = wire.read_to_close().expect("the gate closes the connection");
        assert_eq!(answer.iter().find(|message| message.tag == b'Z'), None, "{replication}");
    }
    let mut psql = gate.psql_command();
    psql.args(["-d", "dbname=shop replication=database", "-c", "IDENTIFY_SYSTEM"]);
    let said = retrace_tests::run(psql, b"", crate::common::PATIENCE).expect_failure();
    assert!(said.contains("replication"), "{said}");
}

#[test]
fn p6_a_refused_statement_rolls_an_explicit_transaction_back_at_commit() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE rows (number int)");
    let gate = Gate::started(database);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    let mut say = |statement: &str| wire.query(statement).expect("the session lives");
    assert_eq!(transaction_status(&say("BEGIN")), 'T');
    assert_eq!(command_tag(&say("INSERT INTO rows VALUES (1)")), "INSERT 0 1");
    let refused = say("COPY rows TO PROGRAM 'cat'");
    assert_eq!(refusal(&refused).0, DENIED);
    assert_eq!(transaction_status(&refused), 'E');
    assert_eq!(refusal(&say("INSERT INTO rows VALUES (2)")).0, "25P02");
    let committed = say("COMMIT");
    assert_eq!(command_tag(&committed), "ROLLBACK");
    assert_eq!(transaction_status(&committed), 'I');
    assert_eq!(database.number("SELECT count(*) FROM rows"), 0);
    assert_eq!(command_tag(&say("INSERT INTO rows VALUES (3)")), "INSERT 0 1");
    assert_eq!(database.sql("SELECT number FROM rows"), ["3"]);
}

/// A pipeline: each statement parsed, bound and executed, one Sync at the end.
fn pipeline(wire: &mut Wire, statements: &[&str]) -> Vec<retrace_tests::Message> {
    for statement in statements {
        let parse = [b"\0", statement.as_bytes(), b"\0\0\0"].concat();
        wire.send(b'P', &parse).expect("the session lives");
        wire.send(b'B', &[0, 0, 0, 0, 0, 0, 0, 0]).expect("the session lives");
        wire.send(b'E', &[0, 0, 0, 0, 0]).expect("the session lives");
    }
    wire.send(b'S', b"").expect("the session lives");
    wire.read_until(b'Z').expect("the session lives")
}

#[test]
fn p6_a_refused_statement_rolls_an_implicit_transaction_back_at_sync() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE rows (number int)");
    let gate = Gate::started(database);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    let answer = pipeline(
        &mut wire,
        &["INSERT INTO rows VALUES (1)", "COPY rows TO PROGRAM 'cat'", "INSERT INTO rows VALUES (2)"],
    );
    assert_eq!(refusal(&answer).0, DENIED);
    assert_eq!(transaction_status(&answer), 'I');
    assert_eq!(answer.iter().filter(|message| message.tag == b'E').count(), 1, "{answer:?}");
    assert_eq!(database.number("SELECT count(*) FROM rows"), 0);
    let after = pipeline(&mut wire, &["INSERT INTO rows VALUES (3)"]);
    assert_eq!(command_tag(&after), "INSERT 0 1");
    assert_eq!(database.sql("SELECT number FROM rows"), ["3"]);
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn p6_a_refused_statement_keeps_its_whole_query_from_the_target() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE rows (number int)");
    let gate = Gate::started(database);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    let answer = wire
        .query("INSERT INTO rows VALUES (1); COMMIT; COPY rows TO STDOUT; INSERT INTO rows VALUES (2)")
        .expect("the session lives");
    assert_eq!(refusal(&answer).0, "0A000");
    assert_eq!(database.number("SELECT count(*) FROM rows"), 0);
}
