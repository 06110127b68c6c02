//! Clocks that jump: sessions live on, and what they did is on record once, found by the day that it was.

use retrace_tests::{Clock, Gate, Kafka, Postgres, S3, wait_for};

use crate::common::{Dice, PATIENCE, fault_rounds, lasts};
use crate::inserts::Load;

/// An hour, in seconds.
const HOUR: i64 = 3600;

/// Sessions that began while the gate's clock was off by a step, so that their day is not that of their id, which lies
/// too far from when the log took them.
fn flagged_by(step: i64) -> String {
    format!(
        "SELECT count(DISTINCT session_id) AS n FROM events WHERE date_from_append AND principal = 'dev'
        AND event_type = 'session_opened' AND {}",
        off_by(step)
    )
}

/// What the load did while the gate's clock was off by a step.
fn done_by(step: i64) -> String {
    format!("SELECT count(*) AS n FROM events WHERE statement LIKE 'INSERT INTO sent%' AND {}", off_by(step))
}

/// Whether an event happened by a clock that was off by a step.
fn off_by(step: i64) -> &'static str {
    if step > 0 {
        "occurred_at > appended_at + INTERVAL '50 minutes'"
    } else {
        "occurred_at < appended_at - INTERVAL '50 minutes'"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_clocks_that_jump_an_hour_ahead_and_back_end_no_session_and_lose_nothing() {
    let mut dice = Dice::of("clock steps");
    let database = Postgres::shared().database();
    let gate = Gate::new(database);
    gate.put_log_on(Kafka::shared());
    lasts(&gate);
    gate.put_lake_on(S3::shared());
    let clocks = [(); 3].map(|()| Clock::new());
    let listen = format!("127.0.0.1:{}", gate.port());
    let start = |role, clock: &Clock| {
        gate.service_in(clock.surroundings(), role, 1, |config| {
            config["proxy"]["postgres"]["listen"] = listen.clone().into();
        })
    };
    let mut proxy = start("proxy", &clocks[0]);
    let mut ingest = start("ingest", &clocks[1]);
    let mut query = start("query", &clocks[2]);
    let right = gate.service("query");
    let load = Load::start(database, &gate, &[gate.port()], 8);
    for _ in 0..fault_rounds() {
        for step in [HOUR, -HOUR] {
            let (flagged, done) = (gate.number(&flagged_by(step)), gate.number(&done_by(step)));
            for number in dice.order(clocks.len()) {
                load.goes_on(dice.number(20..100));
                clocks[number].step_to(step);
                load.goes_on(50);
                load.assert_fresh(&gate, &right).expect("an answer");
            }
            // A gate sees its clock jump only a second later: the next step waits until it has.
            wait_for("what the load's own sessions do is by a clock that jumped", PATIENCE, || {
                (gate.number(&done_by(step)) > done).then_some(())
            });
            wait_for("the day of a session that begins is flagged", PATIENCE, || {
                // On a busy machine the target may be late: then the next one.
                let _ = gate.psql("SELECT 'by a clock that jumped'");
                (gate.number(&flagged_by(step)) > flagged).then_some(())
            });
        }
        for number in dice.order(clocks.len()) {
            clocks[number].step_to(0);
            load.goes_on(50);
        }
        // A store takes no request that was signed an hour ago or ahead: with the right time it does again.
        wait_for("whose clock was wrong answers", PATIENCE, || load.assert_fresh(&gate, &query).ok());
    }
    let done = load.stop().await;
    assert!(done.refused.is_empty(), "sessions live on: {:?}", done.refused);
    done.assert_every_end_was_stated();
    assert!(proxy.runs() && query.runs());
    assert!(ingest.stop().success(), "a clean end");
    done.assert_evidence(database, &gate);
    let loads =
        "SELECT count(DISTINCT session_id) AS n FROM commands WHERE statement LIKE 'INSERT INTO sent%'";
    assert_eq!(gate.number(loads), 8, "no session ended");
}
