//! pgbench: each protocol mode, pipelines, and its own set-up by COPY.

use std::time::Duration;

use serde_json::json;

use super::{Transcript, Way, Workload, psql};
use crate::run::try_run;

const PATIENCE: Duration = Duration::from_secs(120);

/// Transactions of each client.
const TRANSACTIONS: u64 = 50;

const CLIENTS: u64 = 4;

const PIPELINE: &str = r"
\set aid random(1, 100000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT generate_series(1, 20);
COMMIT;
\endpipeline
\startpipeline
SELECT 'alone';
\endpipeline
";

/// What the tables hold in the end, which does not hang on the order of transactions.
const STATE: &str = "
SELECT count(*), sum(abalance), sum(hashint8(aid::bigint * 1000000 + abalance)::bigint) FROM pgbench_accounts;
SELECT sum(tbalance) FROM pgbench_tellers; SELECT sum(bbalance) FROM pgbench_branches;
SELECT count(*), sum(delta) FROM pgbench_history;";

/// The workload.
#[must_use]
pub fn workload() -> Workload {
    Workload::new("pgbench", run)
}

fn run(way: &Way) -> Transcript {
    let mut transcript = Transcript { version: psql::version("pgbench"), ..Transcript::default() };
    let pipeline = way.folder().join("pipeline.sql");
    std::fs::write(&pipeline, PIPELINE).expect("the folder is writable");
    let pipeline = pipeline.to_str().expect("a temporary folder has a plain name");
    pgbench(way, &mut transcript, "set up by COPY", &["-i", "-q", "-I", "dtgvp"]);
    state(way, &mut transcript, "rows of the set-up by COPY");
    pgbench(way, &mut transcript, "set up at the server", &["-i", "-q", "-I", "dtGvpf"]);
    for mode in ["simple", "extended", "prepared"] {
        load(way, &mut transcript, &format!("TPC-B, {mode}"), &["-M", mode]);
        load(way, &mut transcript, &format!("select only, {mode}"), &["-M", mode, "-S"]);
    }
    load(way, &mut transcript, "a new connection each", &["-M", "prepared", "-S", "-C"]);
    for mode in ["extended", "prepared"] {
        load(way, &mut transcript, &format!("pipeline, {mode}"), &["-M", mode, "-f", pipeline]);
    }
    state(way, &mut transcript, "rows of the tables in the end");
    transcript.asked("SELECT 'alone';", 2 * TRANSACTIONS * CLIENTS);
    transcript.asked(
        "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
        5 * TRANSACTIONS * CLIENTS + 2 * TRANSACTIONS * CLIENTS,
    );
    transcript
}

fn load(way: &Way, transcript: &mut Transcript, name: &str, arguments: &[&str]) {
    let (transactions, clients) = (TRANSACTIONS.to_string(), CLIENTS.to_string());
    let all =
        [&["-n", "-c", &clients, "-j", "1", "-t", &transactions, "--random-seed=7"], arguments].concat();
    pgbench(way, transcript, name, &all);
}

/// Runs it and keeps what it counted, not what it timed.
fn pgbench(way: &Way, transcript: &mut Transcript, name: &str, arguments: &[&str]) {
    let mut command = way.postgres_program("pgbench");
    command.args(arguments);
    match try_run(command, b"", PATIENCE) {
        Ok(outcome) => {
            let counted = |line: &&str| line.starts_with("number of");
            let lines: Vec<_> = outcome.out().lines().filter(counted).map(str::to_owned).collect();
            let errors: Vec<_> =
                outcome.err().lines().filter(|line| line.contains("error")).map(str::to_owned).collect();
            transcript
                .check(name, json!({ "exit": outcome.status.code(), "counted": lines, "errors": errors }));
        }
        Err(error) => transcript.check(name, error.to_string()),
    }
}

fn state(way: &Way, transcript: &mut Transcript, name: &str) {
    let mut command = way.postgres_program("psql");
    command.args(["-XAt", "-c", STATE]);
    match try_run(command, b"", PATIENCE) {
        Ok(outcome) => transcript.check_outcome(name, &outcome),
        Err(error) => transcript.check(name, error.to_string()),
    }
}
