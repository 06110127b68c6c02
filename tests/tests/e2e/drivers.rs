//! P7, by whole workloads: what a client gets through the gate is what it gets without, and it is on record. `make matrix`
//! runs the same and more for every client.

use retrace_tests::matrix::{Workload, compare, program, rust_driver};

#[track_caller]
fn assert_equal(workload: &Workload) {
    let report = compare(workload);
    assert!(report.differences.is_empty(), "{}:\n{}", report.name, report.differences.join("\n"));
    assert!(report.checks >= 10 && report.commands >= 100, "it did little: {report:?}");
}

#[test]
fn p7_psycopg_gets_what_it_gets_without_the_gate() {
    assert_equal(&program::psycopg());
}

#[test]
fn p7_tokio_postgres_gets_what_it_gets_without_the_gate() {
    assert_equal(&rust_driver::workload());
}
