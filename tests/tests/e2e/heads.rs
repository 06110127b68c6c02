//! P5 in part: a session that was cut off is told from one that ended, by what the gate signed.

use retrace_tests::{Gate, Postgres, Wire, wait_for};

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, session_ends};

fn count(gate: &Gate, state: &str) -> u64 {
    gate.number(&format!("SELECT count(*) AS n FROM sessions WHERE state = '{state}'"))
}

#[test]
fn p5_a_gate_that_stops_signs_for_its_sessions_a_last_time() {
    let mut gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 1").expect_ok();
    session_ends(&gate, 1);
    assert!(gate.stop().success());
    // Nothing serves, so these questions are asked of log and table; nobody signs meanwhile.
    assert_eq!(count(&gate, "closed"), 1);
    let signed = gate.number(
        "SELECT count(*) AS n FROM events WHERE event_type = 'stream_heads' AND proxy_id LIKE 'up-%'",
    );
    assert!(signed >= 2, "at the start and at the end: {signed}");
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn p5_the_sessions_of_a_killed_gate_are_lost_though_another_has_started() {
    let mut gate = Gate::started(Postgres::shared().database());
    let open = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    assert_eq!(count(&gate, "open"), 1);
    gate.kill();
    gate.up();
    wait_for("the session is lost", PATIENCE, || (count(&gate, "lost") == 1).then_some(()));
    assert_eq!(count(&gate, "open"), 0);
    drop(open);
}

#[test]
fn a_gate_without_its_key_for_heads_says_how_to_get_one() {
    let mut gate = Gate::started(Postgres::shared().database());
    let public = gate.retrace(&["heads-key"]).expect_ok();
    assert!(
        public.trim().len() == 64 && public.trim().bytes().all(|digit| digit.is_ascii_hexdigit()),
        "{public}"
    );
    let there = gate.retrace(&["heads-key", "--create"]).expect_failure();
    assert!(there.contains("heads.key") && there.contains("already"), "{there}");
    assert!(gate.stop().success());
    std::fs::remove_file(gate.dir().join("keys/heads.key")).expect("the key is there");
    let refused = gate.try_up().expect_err("a gate that cannot sign");
    assert!(refused.contains("heads-key --create"), "{refused}");
    let other = gate.retrace(&["heads-key", "--create"]).expect_ok();
    assert_ne!(other, public);
    gate.up();
}
