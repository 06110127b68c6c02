//! `make bench`: what the gate costs beside a direct connection and beside PgBouncer, and what it does with Kafka and S3.
//! Writes `docs/numbers.md` and `docs/numbers-cluster.md`; names of [`PARTS`] as arguments choose among them.
//!
//! `QUICK=1` takes seconds for each part, to show that it works; its numbers mean little and are not written.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is what it prints")]

use std::time::Duration;

use retrace_tests::bench::cluster::Cluster;
use retrace_tests::bench::numbers::Numbers;
use retrace_tests::bench::pgbouncer::PgBouncer;
use retrace_tests::bench::{Lane, Plan, detectors, loads, memory, neighbours, rows};
use retrace_tests::matrix::Way;
use retrace_tests::{Database, Gate, Postgres};

/// What can be measured, and where it is written.
const PARTS: [(&str, Part, &str); 2] = [
    ("gate", gate_markdown, "docs/numbers.md"),
    ("cluster", |plan| Cluster::measure(plan).markdown(), "docs/numbers-cluster.md"),
];

/// Measures, and gives the document.
type Part = fn(Plan) -> String;

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(part, ..)| part != name)) {
        let parts = PARTS.map(|(part, ..)| part).join(", ");
        eprintln!(
            "bench: there is no part `{unknown}`; the parts are {parts}, and without a name all of them"
        );
        std::process::exit(2);
    }
    for (part, measure, file) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|name| name == part) {
            let plan = Plan::from_environment();
            let quick = plan.quick;
            let markdown = measure(plan);
            println!("\n{markdown}");
            if !quick {
                std::fs::write(file, markdown).expect("the file is writable from the top of the checkout");
            }
        }
    }
}

fn gate_markdown(plan: Plan) -> String {
    let postgres = Postgres::start_for_load();
    let database = postgres.database();
    let _ = database.pgbench(&["-i", "-q", "-s", "10"], Duration::from_secs(300)).expect_ok();
    rows::prepare(&plan, database);
    let gate = gate(&plan, database);
    let bouncer = PgBouncer::start(database, &gate);
    let mut lanes = vec![
        Lane {
            name: "direct".to_owned(),
            way: Way::direct(database).at(postgres.port(), postgres.ca()),
            pid: None,
        },
        bouncer.lane(database, &gate),
    ];
    lanes.extend(plan.durabilities.iter().map(|durability| Lane {
        name: format!("Retrace, {durability}"),
        way: Way::through_to(&gate, &target(durability)),
        pid: Some(gate.pid()),
    }));
    let step = |name: &str| println!("bench: {name} …");

    step("detectors");
    let detectors = detectors::measure(&plan);
    step("idle sessions");
    let idle_session_kib = memory::idle_session_kib(&plan, &gate);
    step("a large result");
    let streaming_mib = memory::streaming_mib(&plan, &gate);
    step("pgbench");
    let loads = loads::measure(&plan, &lanes);
    step("many rows");
    let reads = rows::measure(&plan, &lanes);
    // Last, since what a flooding client asked may go on for a while after it.
    step("neighbours");
    let neighbours = neighbours::measure(&plan, &gate, &lanes[2]);

    let lanes = lanes.into_iter().map(|lane| lane.name).collect();
    let numbers =
        Numbers { plan, lanes, loads, reads, idle_session_kib, streaming_mib, detectors, neighbours };
    numbers.markdown()
}

/// A gate with a target of each durability that is measured; `shop` has the first.
fn gate(plan: &Plan, database: Database<'_>) -> Gate {
    let mut gate = Gate::new(database);
    for durability in &plan.durabilities {
        if target(durability) != "shop" {
            gate.add_target(&target(durability), database, durability);
        }
    }
    gate.up();
    gate
}

/// Every gate of the tests has the target `shop` with the default.
fn target(durability: &str) -> String {
    if durability == "exchange" { "shop".to_owned() } else { format!("shop-{durability}") }
}
