//! Whether clients that behave badly slow another: the same load with and without them.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::loads::{CLIENTS, pgbench};
use super::{Lane, Plan, Samples};
use crate::{Gate, Wire};

/// Sessions that are signed in and silent, and as many that stop in the middle of their handshake.
const SILENT: usize = 32;

/// The load of another client, alone and beside each kind of neighbour.
#[derive(Debug)]
pub struct Neighbours {
    /// Commands a second without any.
    pub alone: Samples,
    /// With silent sessions and half-open handshakes.
    pub silent: Samples,
    /// With a client that asks without end and reads nothing.
    pub flooded: Samples,
}

/// Runs the load with and without them, round by round.
#[must_use]
pub fn measure(plan: &Plan, gate: &Gate, lane: &Lane) -> Neighbours {
    let mut found =
        Neighbours { alone: Samples::default(), silent: Samples::default(), flooded: Samples::default() };
    let load = || pgbench(lane, "prepared", CLIENTS[0], plan.load_seconds).rate;
    for _ in 0..plan.rounds {
        found.alone.push(load());
        let silent = silent(gate);
        found.silent.push(load());
        drop(silent);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| flood(gate, &stop));
            found.flooded.push(load());
            stop.store(true, Ordering::Relaxed);
        });
    }
    found
}

fn silent(gate: &Gate) -> (Vec<Wire>, Vec<TcpStream>) {
    let signed_in = (0..SILENT).map(|_| Wire::signed_in(gate).expect("the gate lets `dev` in")).collect();
    let half_open = (0..SILENT).map(|_| {
        let mut plain = TcpStream::connect(("127.0.0.1", gate.port())).expect("the gate listens");
        plain.write_all(&[0, 0, 0]).expect("the gate reads");
        plain
    });
    (signed_in, half_open.collect())
}

/// Asks for much, over and over, and reads none of it; begins again when the gate has heard enough.
fn flood(gate: &Gate, stop: &AtomicBool) {
    let asked = b"SELECT repeat('flood', 100000)\0".to_vec();
    while !stop.load(Ordering::Relaxed) {
        let mut wire = Wire::signed_in(gate).expect("the gate lets `dev` in");
        wire.limit_writes(std::time::Duration::from_millis(200)).expect("a socket takes a timeout");
        while !stop.load(Ordering::Relaxed) && wire.send(b'Q', &asked).is_ok() {}
    }
}
