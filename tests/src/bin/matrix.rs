//! `make matrix`: every client's workload with and without the gate, and the table of what was equal.
//!
//! Arguments are names of clients; without any, all of them run.

#![allow(clippy::print_stdout, reason = "a report is what it prints")]

use std::process::ExitCode;

use retrace_tests::matrix::{self, Workload, pg_dump, pgbench, program, psql, rust_driver};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let workloads: [fn() -> Workload; 8] = [
        psql::workload,
        pgbench::workload,
        pg_dump::workload,
        program::psycopg,
        program::asyncpg,
        program::node_postgres,
        rust_driver::workload,
        program::sqlx,
    ];
    let mut reports = Vec::new();
    for workload in workloads.map(|workload| workload()) {
        if wanted.is_empty() || wanted.iter().any(|name| name == workload.name) {
            println!("{} …", workload.name);
            let report = matrix::compare(&workload);
            for difference in &report.differences {
                println!("  {difference}");
            }
            reports.push(report);
        }
    }
    println!("\n{}", matrix::table(&reports));
    let equal = !reports.is_empty() && reports.iter().all(|report| report.differences.is_empty());
    if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
