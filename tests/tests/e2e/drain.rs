//! SIGTERM: what is under way is finished, and then everybody is told.

use std::time::Duration;

use retrace_tests::{Database, Gate, Message, Postgres, Wire, wait_for};
use rustix::process::Signal;

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, refusal};

/// How long a command of these tests runs: long enough for a signal to find it.
const SLEEP: &str = "SELECT pg_sleep(2), 'the answer'";

fn signed_in(gate: &Gate) -> Wire {
    Wire::signed_in(gate).expect("a login")
}

/// Begins a command and waits until the target runs it.
fn begin(wire: &mut Wire, database: Database<'_>, statement: &str) {
    wire.send(b'Q', format!("{statement}\0").as_bytes()).expect("it is sent");
    wait_for("the target runs it", PATIENCE, || {
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = '{}' \
             AND query LIKE 'SELECT pg_sleep(%'",
            database.name()
        );
        (database.number(&running) > 0).then_some(())
    });
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

#[track_caller]
fn assert_told(messages: &[Message]) {
    let (code, _) = refusal(messages);
    assert_eq!(code, "57P01", "{messages:?}");
    assert_eq!(messages.last().map(|message| message.tag), Some(b'E'), "{messages:?}");
}

#[test]
fn a_command_under_way_is_answered_and_idle_sessions_end_at_once() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE t (n int)");
    let mut gate = Gate::new(database);
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    let [mut busy, mut idle, mut open] = [(); 3].map(|()| signed_in(&gate));
    open.query("BEGIN; INSERT INTO t VALUES (1)").expect("it runs");
    begin(&mut busy, database, SLEEP);
    gate.signal(Signal::TERM);
    assert!(health.wait_until_unready().starts_with("process: draining"));
    assert_eq!(health.ask("GET /healthz").0, 200);
    let mut late = signed_in(&gate);
    assert_eq!(tags(&late.query("SELECT 1").expect("it is served in the time of grace")), "TDCZ");

    for wire in [&mut idle, &mut open, &mut late] {
        assert_told(&wire.read_to_close().expect("a word"));
    }
    let answer = busy.read_to_close().expect("the answer and a word");
    assert_eq!(tags(&answer), "TDCZE");
    assert!(answer[1].body.windows(10).any(|part| part == b"the answer"));
    assert_told(&answer);
    assert!(gate.end().success(), "a clean end");
    assert_eq!(database.number("SELECT count(*) FROM t"), 0, "the target rolled back");

    gate.up();
    let ended = "SELECT count(*) AS n FROM commands WHERE statement LIKE '%the answer%' AND status = 'ok'";
    assert_eq!(gate.number(ended), 1);
    assert_eq!(gate.number("SELECT count(*) AS n FROM sessions WHERE close_reason = 'shutdown'"), 4);
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn a_second_signal_and_the_bound_end_what_is_under_way() {
    let database = Postgres::shared().database();
    let mut gate = Gate::new(database);
    for by_signal in [true, false] {
        gate.edit(|config| {
            let mut drain = toml::Table::new();
            drain.insert(
                "wait_ms_max".to_owned(),
                toml::Value::Integer(if by_signal { 600_000 } else { 300 }),
            );
            config.insert("drain".to_owned(), drain.into());
        });
        gate.up();
        let [mut busy, mut idle] = [(); 2].map(|()| signed_in(&gate));
        begin(&mut busy, database, "SELECT pg_sleep(1000)");
        gate.signal(Signal::TERM);
        assert_told(&idle.read_to_close().expect("a word"));
        if by_signal {
            assert!(gate.runs(), "it waits for the command");
            gate.signal(Signal::TERM);
        }
        assert_told(&busy.read_to_close().expect("a word"));
        assert!(gate.end().success(), "a clean end");
    }
    gate.up();
    let asked = "SELECT count(*) AS n FROM commands WHERE statement = 'SELECT pg_sleep(1000)' AND status = 'abandoned'";
    assert_eq!(gate.number(asked), 2);
}

#[test]
fn a_query_of_the_evidence_is_answered_and_new_ones_are_refused() {
    let mut gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 1").expect_ok();
    let token = gate.dev_token();
    let mut idle = gate.psql_command_as("dev", &token);
    idle.args(["-p", &gate.evidence_port().to_string(), "-d", "retrace"]);
    // It asks, then sleeps, and finds the door closed.
    let script = "SELECT count(*) FROM sessions;\n\\! sleep 3\nSELECT 2;\n";
    let asks =
        std::thread::spawn(move || retrace_tests::run(idle, script.as_bytes(), Duration::from_secs(60)));
    wait_for("it has asked", PATIENCE, || {
        let asked = "SELECT count(*) AS n FROM events WHERE event_type = 'evidence_read_completed'";
        (gate.number(asked) > 1).then_some(())
    });
    assert!(gate.stop().success());
    let outcome = asks.join().expect("psql ends");
    assert!(
        outcome.out().contains('1') && outcome.err().contains("the server is stopping"),
        "{}",
        outcome.err()
    );
}
