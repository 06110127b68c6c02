//! P8: readers are recorded, and P4 at its smallest: what is done is seen by the next question.

use std::process::Stdio;

use retrace_tests::{Gate, Postgres, run, wait_for};

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice};

fn reads(gate: &Gate, kind: &str) -> u64 {
    gate.number(&format!("SELECT count(*) AS n FROM events WHERE event_type = '{kind}'"))
}

#[test]
fn p8_each_question_is_on_record_before_the_next() {
    let gate = Gate::started(Postgres::shared().database());
    for before in 0..5 {
        // A question's own record is durable before its first row, and lies after its cut.
        let seen = reads(&gate, "evidence_read");
        assert_eq!(seen, before, "reads on record before question {before}");
    }
    wait_for("the ends of the reads are on record", PATIENCE, || {
        (reads(&gate, "evidence_read_completed") >= 5).then_some(())
    });
}

#[test]
fn p8_sql_replay_and_tail_are_recorded_with_who_asked_what() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 1").expect_ok();
    let _ = gate.sql("SELECT 'a question' AS q");
    let _ = gate.replay("last");
    let rows = gate.sql(
        "SELECT principal, statement FROM events WHERE event_type = 'evidence_read' AND statement LIKE '%a question%'",
    );
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["principal"], "dev");
    assert!(reads(&gate, "evidence_read") >= 3, "the replay is on record too");
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn p8_a_read_by_the_command_line_without_a_gate_is_recorded_too() {
    let mut gate = Gate::started(Postgres::shared().database());
    assert!(gate.stop().success());
    let _ = gate.sql("SELECT 'asked offline' AS q");
    gate.up();
    let rows = gate.sql(
        "SELECT principal FROM events WHERE event_type = 'evidence_read' AND statement LIKE '%offline%'",
    );
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["principal"], "dev");
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn p4_what_is_done_is_seen_by_the_next_question() {
    let gate = Gate::started(Postgres::shared().database());
    for round in 0..10 {
        let _ = gate.psql(&format!("SELECT 'round {round}'")).expect_ok();
        let asked = format!(
            "SELECT count(*) AS n FROM commands WHERE statement LIKE '%round {round}''' AND status = 'ok'"
        );
        assert_eq!(gate.number(&asked), 1, "round {round}");
    }
}

#[test]
fn tail_shows_a_command_while_it_runs() {
    let gate = Gate::started(Postgres::shared().database());
    let shown = gate.dir().join("tail.out");
    let mut command = gate.retrace_command(None, &["tail"]);
    command.stdin(Stdio::null()).stdout(std::fs::File::create(&shown).expect("the folder is writable"));
    let mut tail = command.spawn().expect("retrace starts");
    wait_for("the tail is on record", PATIENCE, || (reads(&gate, "evidence_read") > 0).then_some(()));
    let seen = wait_for("the tail shows a command", PATIENCE, || {
        let _ = gate.psql("SELECT 'seen by the tail'").expect_ok();
        let text = std::fs::read_to_string(&shown).unwrap_or_default();
        text.contains("seen by the tail").then_some(text)
    });
    tail.kill().expect("an unreaped child can be killed");
    tail.wait().expect("a killed child can be reaped");
    assert!(seen.contains("dev") || seen.contains("shop"), "{seen}");
}

#[test]
fn a_question_that_would_change_or_leave_the_evidence_is_refused() {
    let gate = Gate::started(Postgres::shared().database());
    for statement in [
        "CREATE TABLE t (n int)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO events SELECT * FROM events",
        "DELETE FROM events",
        "UPDATE events SET principal = 'x'",
        "DROP TABLE events",
        "DROP VIEW commands",
        "COPY events TO '/tmp/retrace-must-not-exist.csv'",
        "COPY (SELECT 1) TO '/tmp/retrace-must-not-exist.csv'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM \"file:///etc/passwd\"",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "SELECT * INTO t FROM events",
        "EXECUTE p",
        "",
    ] {
        let refused = gate.retrace(&["sql", statement]).expect_failure();
        assert!(refused.starts_with("retrace: "), "{statement}: {refused}");
    }
    assert!(!std::path::Path::new("/tmp/retrace-must-not-exist.csv").exists());
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn a_reader_that_goes_away_ends_quietly_and_is_recorded() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql(&"SELECT 1;\n".repeat(500)).expect_ok();
    let command = gate
        .retrace_command(None, &["sql", "--format", "csv", "SELECT * FROM events a, events b LIMIT 200000"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "\"$0\" \"$@\" | head -n 1"]).arg(command.get_program()).args(command.get_args());
    let outcome = run(shell, b"", PATIENCE);
    assert_eq!(outcome.expect_ok().lines().count(), 1);
    assert_eq!(outcome.err(), "", "a broken pipe is no error");
    let open = "SELECT count(CASE WHEN event_type = 'evidence_read' THEN 1 END)
                     - count(CASE WHEN event_type = 'evidence_read_completed' THEN 1 END) AS n FROM events";
    // The question itself lies after its own cut.
    wait_for("the end of the read is on record", PATIENCE, || (gate.number(open) == 0).then_some(()));
}
