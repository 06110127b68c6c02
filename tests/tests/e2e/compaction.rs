//! Small files become large ones while the gate runs.

use std::time::Duration;

use retrace_tests::{Gate, Postgres, wait_for};

use crate::common::assert_nothing_lost_nothing_twice;

/// Eight commits, five seconds apart, make a merge due.
const MERGE_WAIT_MAX: Duration = Duration::from_secs(180);

#[test]
fn p3_files_are_merged_while_the_gate_writes_and_after_a_kill_and_nothing_is_lost_or_doubled() {
    let mut gate = Gate::new(Postgres::shared().database());
    let health = gate.tell_health();
    let mut commands = 0;
    for round in 0..2 {
        gate.up();
        wait_for("files were merged", MERGE_WAIT_MAX, || {
            // A second apart, so that the machine is left to others.
            let _ = gate.psql("SELECT 'while files are merged', pg_sleep(1)").expect_ok();
            commands += 1;
            (health.metric("retrace_compaction_files_merged_total") >= 8.0).then_some(())
        });
        let asked = "SELECT count(*) AS n FROM commands WHERE statement LIKE '%while files are merged%'";
        assert_eq!(gate.number(asked), commands, "round {round}");
        assert_nothing_lost_nothing_twice(&gate);
        gate.kill();
    }
    gate.up();
    assert_nothing_lost_nothing_twice(&gate);
}
