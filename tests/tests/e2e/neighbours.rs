//! Clients that are silent, half here or too loud, and others that notice nothing. What is counted is that every command
//! of the others completes while they are there; how fast is for the benchmark.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use retrace_tests::{Gate, Postgres, Wire, cancel_request, wait_for};

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, command_tag};

/// Commands of the client that must not notice.
const COMMANDS: u64 = 200;

/// Sessions and openings of each kind.
const SILENT: usize = 32;

/// Asks [`COMMANDS`] times, one after the other, and looks at each answer.
fn ask_in_peace(gate: &Gate, marker: &str) {
    let mut wire = Wire::signed_in(gate).expect("the gate lets `dev` in");
    for number in 0..COMMANDS {
        let answer = wire.query(&format!("SELECT {number} AS {marker}")).expect("it is answered");
        assert_eq!(command_tag(&answer), "SELECT 1");
        let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
        assert!(row.body.ends_with(number.to_string().as_bytes()), "{row:?} is not {number}");
    }
}

fn on_record(gate: &Gate, marker: &str) -> u64 {
    gate.number(&format!(
        "SELECT count(*) AS n FROM commands WHERE statement LIKE '%AS {marker}' AND status = 'ok'"
    ))
}

#[test]
fn silent_sessions_and_half_open_handshakes_leave_others_alone() {
    let gate = Gate::started(Postgres::shared().database());
    let silent: Vec<_> =
        (0..SILENT).map(|_| Wire::signed_in(&gate).expect("the gate lets `dev` in")).collect();
    let half_open: Vec<_> = (0..SILENT)
        .map(|number| {
            let mut plain = TcpStream::connect(("127.0.0.1", gate.port())).expect("the gate listens");
            // Each stops at another place: before TLS, within its first message, behind it.
            let opening = [&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f][..], &[0x16, 3, 1]].concat();
            plain.write_all(&opening[..number % opening.len()]).expect("the gate reads");
            plain
        })
        .collect();
    ask_in_peace(&gate, "undisturbed");
    assert_eq!(on_record(&gate, "undisturbed"), COMMANDS);
    for mut wire in silent {
        assert_eq!(command_tag(&wire.query("SELECT 1").expect("it is still there")), "SELECT 1");
    }
    drop(half_open);
}

#[test]
fn a_client_that_asks_without_end_and_reads_nothing_leaves_others_alone() {
    let database = Postgres::shared().database();
    let gate = Gate::started(database);
    let mut loud = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    loud.limit_writes(Duration::from_millis(500)).expect("a socket takes a timeout");
    let (asked, heard_enough) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            // Ends when the gate reads no more of it: its answers wait for it, and so must its questions. Thousands are on
            // their way by then.
            while loud.send(b'Q', b"SELECT repeat('loud', 50000)\0").is_ok() {
                asked.fetch_add(1, Ordering::Relaxed);
            }
            heard_enough.store(true, Ordering::Relaxed);
        });
        wait_for("the loud client is loud", PATIENCE, || (asked.load(Ordering::Relaxed) > 10).then_some(()));
        ask_in_peace(&gate, "while_it_floods");
        wait_for("the gate stops to listen", PATIENCE, || heard_enough.load(Ordering::Relaxed).then_some(()));
        ask_in_peace(&gate, "while_it_is_stalled");
    });
    assert_eq!(on_record(&gate, "while_it_floods"), COMMANDS);
    assert_eq!(on_record(&gate, "while_it_is_stalled"), COMMANDS);
    drop(loud);
    // What it asked and the gate heard was carried out or given up, and is on record either way.
    wait_for("the loud session ends", PATIENCE, || {
        (gate.number("SELECT count(*) AS n FROM sessions WHERE state = 'closed'") == 3).then_some(())
    });
    // Gigabytes, if it were answered to the end although it is gone.
    let answered = gate.number(
        "SELECT COALESCE(SUM(response_bytes), 0) AS n FROM events WHERE event_type = 'command_completed'",
    );
    assert!(answered < 64 * 1024 * 1024, "{answered} bytes were answered");
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn openings_that_only_cancel_leave_others_alone() {
    let gate = Gate::started(Postgres::shared().database());
    let stop = AtomicBool::new(false);
    let cancelled = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut plain = TcpStream::connect(("127.0.0.1", gate.port())).expect("the gate listens");
                // Nobody's key.
                plain.write_all(&cancel_request(7, 7)).expect("the gate reads");
                cancelled.fetch_add(1, Ordering::Relaxed);
            }
        });
        ask_in_peace(&gate, "while_others_cancel");
        wait_for("some were sent", PATIENCE, || (cancelled.load(Ordering::Relaxed) > 10).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(on_record(&gate, "while_others_cancel"), COMMANDS);
    assert_eq!(gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'cancel_applied'"), 0);
    assert_nothing_lost_nothing_twice(&gate);
}
