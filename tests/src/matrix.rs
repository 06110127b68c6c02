//! Real clients with real workloads, each run twice: directly against PostgreSQL and through a gate.
//!
//! A workload writes a [`Transcript`]: what it got, check by check. Both must be equal, and what the workload says it
//! asked must be on record, counted. A workload lives here ([`psql`], [`pgbench`], [`pg_dump`], [`rust_driver`]) or is
//! a program of its own under `tests/matrix` ([`program`]) that prints its transcript.

pub mod pg_dump;
pub mod pgbench;
pub mod program;
pub mod psql;
pub mod rust_driver;

mod report;
mod transcript;
mod way;

pub use report::{Report, table};
pub use transcript::Transcript;
pub use way::Way;

use crate::{Gate, Postgres};

/// A client and what it does: it comes the given way and tells what it got.
pub struct Workload {
    /// The client's name.
    pub name: &'static str,
    /// Runs it to its end, which comes within the patience of whatever it waits for.
    pub run: Box<dyn Fn(&Way) -> Transcript>,
}

impl Workload {
    /// A workload of these.
    pub fn new(name: &'static str, run: impl Fn(&Way) -> Transcript + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Runs a workload both ways, each in a database of its own, and compares.
#[must_use]
pub fn compare(workload: &Workload) -> Report {
    let postgres = Postgres::shared();
    let (direct, through) = (postgres.database(), postgres.database());
    let mut gate = Gate::new(through);
    // What masks change is theirs; this is about all the rest.
    gate.edit(|config| {
        config.remove("mask");
    });
    gate.up();
    let expected = (workload.run)(&Way::direct(direct));
    let found = (workload.run)(&Way::through(&gate));
    let mut report = Report::new(workload.name, &expected);
    report.compare(&expected, &found);
    report.ask_the_evidence(&found, &gate);
    report
}
