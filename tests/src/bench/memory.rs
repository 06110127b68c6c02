//! Resident memory: of sessions that do nothing, and while a large result streams.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use super::Plan;
use super::process::{forget_peak, peak_kib, resident_kib};
use crate::client::{self, Connection, Tls, connect_with};
use crate::{Gate, Wire};

/// Connections that are made at once.
const CONNECTING: usize = 8;

/// How long allocations get to settle before memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// KiB per session that is signed in and does nothing.
#[must_use]
pub fn idle_session_kib(plan: &Plan, gate: &Gate) -> f64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let few = runtime.block_on(connect(CONNECTING, gate));
    std::thread::sleep(SETTLE);
    let before = resident_kib(gate.pid());
    let many = runtime.block_on(connect(plan.idle_sessions, gate));
    std::thread::sleep(SETTLE);
    let grown = resident_kib(gate.pid()) - before;
    drop((few, many));
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let sessions = plan.idle_sessions as f64;
    grown / sessions
}

async fn connect(count: usize, gate: &Gate) -> Vec<Connection> {
    let token = gate.dev_token();
    let tls = Tls::trusting(&gate.ca());
    let one = |_| connect_with(client::config(gate, "dev", &token, "shop"), tls.clone());
    let connections = stream::iter(0..count).map(one).buffer_unordered(CONNECTING);
    connections.map(|connection| connection.expect("the gate lets `dev` in")).collect().await
}

/// MiB above what was resident before, at the peak of one result that streams to a client that reads it all.
#[must_use]
pub fn streaming_mib(plan: &Plan, gate: &Gate) -> f64 {
    std::thread::sleep(SETTLE);
    let mut wire = Wire::signed_in(gate).expect("the gate lets `dev` in");
    let before = resident_kib(gate.pid());
    forget_peak(gate.pid());
    let rows = plan.streamed_mib * 1024;
    let statement = format!("SELECT repeat(md5(n::text), 32) FROM generate_series(1, {rows}) n\0");
    wire.send(b'Q', statement.as_bytes()).expect("the gate reads");
    while wire.read().expect("the result comes to its end").tag != b'Z' {}
    (peak_kib(gate.pid()) - before) / 1024.0
}
