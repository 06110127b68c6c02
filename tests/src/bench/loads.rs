//! pgbench's read-only load, and what a command costs in CPU time.

use std::time::Duration;

use super::process::{cpu_us, used_us};
use super::{Lane, Plan, Samples};
use crate::matrix::Way;
use crate::run;

/// Protocol modes of pgbench.
const MODES: [&str; 3] = ["simple", "extended", "prepared"];

/// Clients at once.
pub const CLIENTS: [u32; 2] = [8, 64];

/// One load over all lanes, in the order of the lanes.
#[derive(Debug)]
pub struct Load {
    /// pgbench's mode.
    pub mode: &'static str,
    /// Clients at once.
    pub clients: u32,
    /// Commands a second.
    pub rates: Vec<Samples>,
    /// CPU time of the proxy's threads per command, in microseconds.
    pub proxy_us: Vec<Samples>,
    /// CPU time of the whole process per command, in microseconds.
    pub all_us: Vec<Samples>,
}

/// Runs every load through every lane, round by round.
#[must_use]
pub fn measure(plan: &Plan, lanes: &[Lane]) -> Vec<Load> {
    let none = || vec![Samples::default(); lanes.len()];
    let mut loads: Vec<Load> = CLIENTS
        .iter()
        .flat_map(|clients| MODES.map(|mode| (mode, *clients)))
        .map(|(mode, clients)| Load { mode, clients, rates: none(), proxy_us: none(), all_us: none() })
        .collect();
    for _ in 0..plan.rounds {
        for load in &mut loads {
            for (index, lane) in lanes.iter().enumerate() {
                load.run(plan, index, lane);
            }
        }
    }
    loads
}

impl Load {
    fn run(&mut self, plan: &Plan, index: usize, lane: &Lane) {
        let before = lane.pid.map(cpu_us);
        let outcome = pgbench(lane, self.mode, self.clients, plan.load_seconds);
        self.rates[index].push(outcome.rate);
        if let (Some(pid), Some(before)) = (lane.pid, before) {
            let used = used_us(&before, &cpu_us(pid));
            let per_command = |us: f64| us / outcome.commands.max(1.0);
            self.all_us[index].push(per_command(used.values().sum()));
            if let Some(us) = used.get("proxy") {
                self.proxy_us[index].push(per_command(*us));
            }
        }
    }
}

/// What pgbench reported.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Transactions a second, without the time it took to connect.
    pub(super) rate: f64,
    /// Transactions that came to their end, of one command each.
    pub(super) commands: f64,
}

/// One select a transaction.
pub(super) fn pgbench(lane: &Lane, mode: &str, clients: u32, seconds: u64) -> Outcome {
    let (clients, time) = (clients.to_string(), seconds.to_string());
    let arguments = ["-S", "-M", mode, "-c", &clients, "-j", "2", "-T", &time];
    pgbench_with(&lane.way, &arguments, Duration::from_secs(seconds + 120))
}

pub(super) fn pgbench_with(way: &Way, arguments: &[&str], patience: Duration) -> Outcome {
    let mut command = way.postgres_program("pgbench");
    command.arg("-n").args(arguments);
    let report = run(command, b"", patience).expect_ok();
    // A run in which nothing came to its end has no rate to report.
    let after = |label: &str| -> f64 {
        let rest = report.lines().find_map(|line| line.strip_prefix(label));
        // Of a number that was asked for it says `done/asked`.
        rest.and_then(|rest| rest.trim_start().split([' ', '/', '\n']).next()?.parse().ok())
            .unwrap_or_default()
    };
    Outcome { rate: after("tps ="), commands: after("number of transactions actually processed:") }
}
