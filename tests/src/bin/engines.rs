//! `make matrix`: DuckDB, ClickHouse and Spark read a table that a gate wrote, and the table of what was equal.

#![allow(clippy::print_stdout, reason = "a report is what it prints")]

use std::process::ExitCode;

use retrace_tests::S3;
use retrace_tests::engines::{self, Evidence};

/// What must differ where files that were merged are read too.
const COUNTED: &str = "events of each session";

fn main() -> ExitCode {
    println!("engines: a gate writes a table, until its files were merged …");
    let evidence = Evidence::write();
    println!("engines: {}; all of them are asked …", evidence.summary());
    let s3 = S3::start();
    let (reports, listing) = engines::compare(&evidence, &s3);
    for report in &reports {
        for difference in &report.differences {
            println!("  {} {}: {difference}", report.name, report.version);
        }
    }
    let columns: Vec<_> = reports.iter().chain([&listing]).collect();
    println!("\n{}", engines::table(&columns));
    let is_noticed = listing.differs_in(COUNTED);
    if is_noticed {
        println!("\nThe last reads every file of the folder, as nobody should, and so it has to differ.");
    } else {
        println!(
            "\nWho reads every file of the folder goes unnoticed: nothing here proves that the others do not."
        );
    }
    let equal = is_noticed && reports.iter().all(|report| report.differences.is_empty());
    if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
