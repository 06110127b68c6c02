//! `make bench`: what the gate costs beside a direct connection, and how fast the evidence answers.
//!
//! `BENCH_SECONDS` sets the length of each load, 10 by default.

#![allow(clippy::print_stdout, reason = "a benchmark is what it prints")]

use std::time::{Duration, Instant};

use retrace_tests::{Database, Gate, Outcome, Postgres};

/// A load of pgbench: its name, and its arguments beside the duration.
const LOADS: &[(&str, &[&str])] = &[
    ("select, simple, 1 client", &["-S", "-M", "simple", "-c", "1"]),
    ("select, simple, 8 clients", &["-S", "-M", "simple", "-c", "8", "-j", "2"]),
    ("select, prepared, 8 clients", &["-S", "-M", "prepared", "-c", "8", "-j", "2"]),
    ("TPC-B, simple, 16 clients", &["-M", "simple", "-c", "16", "-j", "2"]),
];

const QUESTIONS: &[(&str, &str)] = &[
    ("count of all events", "SELECT count(*) AS n FROM events"),
    ("the latest 100 commands", "SELECT at, principal, statement FROM commands ORDER BY at DESC LIMIT 100"),
    ("a word in the responses", "SELECT count(*) AS n FROM events WHERE response_text LIKE '%no such word%'"),
];

/// How often a question is asked; the median is shown.
const TIMES: usize = 5;

fn main() {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_u64);
    let postgres = Postgres::start(false);
    let database = postgres.database();
    let patience = Duration::from_secs(seconds + 120);
    let _ = database.pgbench(&["-i", "-q", "-s", "10"], patience).expect_ok();
    let gate = Gate::started(database);

    println!("{:<30} {:>12} {:>12} {:>14}", "load", "direct tps", "gate tps", "gate latency");
    for (name, arguments) in LOADS {
        let time = seconds.to_string();
        let arguments = [&["-n", "-T", &time], *arguments].concat();
        let (direct, _) = rate(&database.pgbench(&arguments, patience));
        let (gated, latency) = rate(&gate.pgbench(&arguments, patience));
        println!("{name:<30} {direct:>12} {gated:>12} {latency:>14}");
    }
    questions(&gate, database);
}

/// pgbench's own words for transactions a second and for the average latency.
fn rate(outcome: &Outcome) -> (String, String) {
    let report = outcome.expect_ok();
    let after = |label: &str| {
        let rest = report.lines().find_map(|line| line.strip_prefix(label)).expect("pgbench reports it");
        rest.trim().to_owned()
    };
    let tps = after("tps =");
    (tps.split('.').next().unwrap_or(&tps).to_owned(), after("latency average ="))
}

fn questions(gate: &Gate, database: Database<'_>) {
    let events = gate.number("SELECT count(*) AS n FROM events");
    println!("\n{:<30} {:>12}   ({events} events, process start included)", "question", "median");
    for (name, statement) in QUESTIONS {
        let mut times: Vec<_> = (0..TIMES)
            .map(|_| {
                let start = Instant::now();
                let _ = gate.sql(statement);
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{name:<30} {:>9} ms", times[TIMES / 2].as_millis());
    }
    let held = database.number("SELECT count(*) FROM pgbench_history");
    println!("\n{held} transactions are in the target's history");
}
