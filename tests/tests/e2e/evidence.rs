//! P1 and P3: no effect without evidence, nothing lost and nothing twice, whenever the gate dies.

use retrace_tests::{Database, Gate, Postgres};

use crate::common::{assert_nothing_lost_nothing_twice, soak};
use crate::inserts::Load;

/// Whatever befalls the gate in `faults` while eight clients insert: P1 and P3 hold, as [`Done::assert_evidence`] has it.
///
/// [`Done::assert_evidence`]: crate::inserts::Done::assert_evidence
pub(crate) async fn assert_evidence_of_every_row(
    database: Database<'_>,
    gate: &mut Gate,
    ports: &[u16],
    mut faults: impl FnMut(&mut Gate, &dyn Fn(u64)),
) {
    let load = Load::start(database, gate, ports, 8);
    faults(gate, &|more| load.goes_on(more));
    load.goes_on(100);
    load.stop().await.assert_evidence(database, gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_every_row_the_target_holds_has_its_command_after_kills_under_load() {
    let database = Postgres::shared().database();
    let mut gate = Gate::started(database);
    let ports = [gate.port()];
    assert_evidence_of_every_row(database, &mut gate, &ports, |gate, goes_on| {
        for _ in 0..if soak() { 50 } else { 5 } {
            goes_on(100);
            gate.kill();
            gate.up();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_under_load_answer_everything_that_ran() {
    let database = Postgres::shared().database();
    let mut gate = Gate::started(database);
    let load = Load::start(database, &gate, &[gate.port()], 8);
    for _ in 0..if soak() { 50 } else { 5 } {
        load.goes_on(100);
        assert!(gate.stop().success(), "a clean end");
        gate.up();
    }
    load.goes_on(100);
    let done = load.stop().await;
    done.assert_evidence(database, &gate);
    let held = database.number("SELECT count(*) FROM sent");
    assert_eq!(held, done.acknowledged.len() as u64, "nothing that ran is without its answer");
}

#[test]
fn p3_a_stop_and_a_start_leave_every_event_once() {
    let mut gate = Gate::started(Postgres::shared().database());
    for round in 1..=3 {
        let script: String = (0..100).map(|number| format!("SELECT {number};\n")).collect();
        let _ = gate.psql(&script).expect_ok();
        assert!(gate.stop().success(), "retrace up did not end well");
        gate.up();
        let commands = gate.number("SELECT count(*) AS n FROM commands WHERE statement LIKE 'SELECT %'");
        assert_eq!(commands, round * 100);
        assert_nothing_lost_nothing_twice(&gate);
    }
}

#[test]
fn p3_a_kill_between_sessions_leaves_every_event_once() {
    let mut gate = Gate::started(Postgres::shared().database());
    for round in 1..=3 {
        let _ = gate.psql("SELECT 'before the kill'").expect_ok();
        gate.kill();
        gate.up();
        let commands =
            gate.number("SELECT count(*) AS n FROM commands WHERE statement LIKE '%before the kill%'");
        assert_eq!(commands, round);
        assert_nothing_lost_nothing_twice(&gate);
    }
}

#[test]
fn evidence_is_read_without_a_gate_that_listens() {
    let mut gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 'while it ran'").expect_ok();
    assert!(gate.stop().success());
    let asked = "SELECT count(*) AS n FROM commands WHERE statement LIKE '%while it ran%'";
    assert_eq!(gate.number(asked), 1);
    gate.up();
    assert_eq!(gate.number(asked), 1);
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn a_locked_log_without_a_listener_names_the_process_that_holds_it() {
    let gate = Gate::started(Postgres::shared().database());
    let elsewhere = format!("listen = \"127.0.0.1:{}\"", gate.grpc_port());
    let config = std::fs::read_to_string(gate.config_file()).expect("it is there");
    assert!(config.contains(&elsewhere), "{config}");
    // A port that the kernel gave to nobody: the discard service's own.
    let moved = config.replace(&elsewhere, "listen = \"127.0.0.1:9\"");
    std::fs::write(gate.config_file(), moved).expect("it is writable");
    let error = gate.retrace(&["sql", "SELECT 1"]).expect_failure();
    assert!(error.contains(&gate.pid().to_string()), "{error}");
}
