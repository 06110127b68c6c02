//! P4: a query sees every event that was durable when it began, while the gate is busy too.

use std::thread;
use std::time::Duration;

use retrace_tests::{Database, Gate, Postgres, run};

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, soak};

/// pgbench's clients; each has at most one transaction that is not committed yet.
const CLIENTS: u64 = 16;

/// The statements of one TPC-B transaction, as LIKE patterns.
const STATEMENTS: [&str; 7] = [
    "BEGIN%",
    "UPDATE pgbench_accounts SET abalance = abalance + %",
    "SELECT abalance FROM pgbench_accounts WHERE aid = %",
    "UPDATE pgbench_tellers SET tbalance = tbalance + %",
    "UPDATE pgbench_branches SET bbalance = bbalance + %",
    "INSERT INTO pgbench_history %",
    "END%",
];

fn history(database: Database<'_>) -> u64 {
    database.number("SELECT count(*) FROM pgbench_history")
}

fn commands_like(gate: &Gate, pattern: &str) -> u64 {
    gate.number(&format!(
        "SELECT count(*) AS n FROM commands WHERE statement LIKE '{pattern}' AND status = 'ok'"
    ))
}

/// The number that follows `label` in pgbench's report.
#[track_caller]
fn reported(report: &str, label: &str) -> u64 {
    let line = report.lines().find_map(|line| line.strip_prefix(label));
    let digits = line.and_then(|rest| rest.split(['/', ' ', '(']).find(|word| !word.is_empty()));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {label} in: {report}"))
}

#[test]
fn p4_every_command_of_pgbench_is_counted_while_it_runs_and_after() {
    let database = Postgres::shared().database();
    let _ = database.pgbench(&["-i", "-q", "-s", "16"], PATIENCE).expect_ok();
    let gate = Gate::started(database);
    database.sql("SELECT pg_stat_statements_reset()");
    let seconds = if soak() { 600 } else { 60 };
    let (clients, time) = (CLIENTS.to_string(), seconds.to_string());
    let command = gate.pgbench_command(&["-n", "-c", &clients, "-j", "2", "-T", &time]);
    let pgbench = thread::spawn(move || run(command, b"", Duration::from_secs(seconds + 120)));

    let mut asked = 0;
    while !pgbench.is_finished() {
        let committed_before = history(database);
        let recorded = gate.number(
            "SELECT count(*) AS n FROM commands WHERE statement LIKE 'INSERT INTO pgbench_history %'",
        );
        let committed_after = history(database);
        assert!(committed_before <= recorded, "{committed_before} were done, {recorded} are on record");
        assert!(
            recorded <= committed_after + CLIENTS,
            "{recorded} are on record, {committed_after} were done"
        );
        asked += 1;
        // Once a second is often enough; the gate should have the machine to itself in between.
        thread::sleep(Duration::from_secs(1));
    }
    assert!(asked >= 3, "only {asked} questions fell into the run");

    let outcome = pgbench.join().expect("pgbench was run");
    let report = outcome.expect_ok();
    assert!(!outcome.err().contains("error"), "{}", outcome.err());
    assert_eq!(reported(&report, "number of failed transactions:"), 0);
    let transactions = reported(&report, "number of transactions actually processed:");
    assert!(transactions > 0, "{report}");
    assert_eq!(history(database), transactions);
    for pattern in STATEMENTS {
        assert_eq!(commands_like(&gate, pattern), transactions, "{pattern}");
    }
    let executed = database.number(
        "SELECT sum(calls) FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND userid = (SELECT oid FROM pg_roles WHERE rolname = 'shop')",
    );
    let counted = gate.number("SELECT count(*) AS n FROM commands");
    assert_eq!(counted, executed, "commands on record against those the target executed");
    let events = assert_nothing_lost_nothing_twice(&gate);
    assert!(events >= 2 * counted, "{events} events for {counted} commands");
}

#[test]
fn p7_pgbench_runs_in_each_protocol_mode() {
    let database = Postgres::shared().database();
    let _ = database.pgbench(&["-i", "-q", "-s", "4"], PATIENCE).expect_ok();
    let gate = Gate::started(database);
    for (round, mode) in (1..).zip(["simple", "extended", "prepared"]) {
        let outcome = gate.pgbench(&["-n", "-M", mode, "-c", "4", "-t", "50"], PATIENCE);
        let report = outcome.expect_ok();
        assert_eq!(reported(&report, "number of transactions actually processed:"), 200, "{mode}: {report}");
        assert_eq!(history(database), round * 200, "{mode}");
    }
    assert_nothing_lost_nothing_twice(&gate);
}
