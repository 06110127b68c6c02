//! CPU time of a command when there are more proxies: each takes its own load, the same at any number.

use std::fmt::Write;

use super::{Surroundings, pgbench_by};
use crate::bench::numbers::{header, row};
use crate::bench::process::cpu_us_of_all;
use crate::bench::{Plan, Samples};
use crate::{Database, Process};

/// How many proxies there are.
pub(super) const PROXIES: [usize; 3] = [1, 2, 4];

/// Clients of each proxy.
const CLIENTS: &str = "4";

/// Commands a second of each proxy: so few that four find the machine with time to spare.
const RATE: &str = "100";

/// By the number of proxies, in the order of [`PROXIES`].
#[derive(Debug, Default)]
pub(super) struct Scale {
    /// CPU time of all proxies per command, in microseconds.
    pub(super) cpu_us: [Samples; PROXIES.len()],
    /// Commands a second by all of them.
    rates: [Samples; PROXIES.len()],
}

impl Scale {
    pub(super) fn measure(plan: &Plan, around: &Surroundings, database: Database<'_>) -> Self {
        let gate = around.gate(database);
        let most = PROXIES.iter().max().and_then(|most| u32::try_from(*most).ok()).expect("a few");
        let [proxies] = gate.services([("proxy", most)]);
        let seconds = (plan.load_seconds * 2).to_string();
        let arguments = ["-S", "-M", "prepared", "-c", CLIENTS, "-j", "1", "-R", RATE, "-T", &seconds];
        let mut found = Self::default();
        for _ in 0..plan.rounds {
            for (index, count) in PROXIES.into_iter().enumerate() {
                // Those that have no load have their heartbeats all the same, and are not counted.
                let (proxies, used) = (&proxies[..count], || cpu_us(&proxies[..count]));
                let before = used();
                let loads = pgbench_by(&gate, proxies, "shop", &arguments);
                let commands: f64 = loads.iter().map(|load| load.commands).sum();
                found.cpu_us[index].push((used() - before) / commands.max(1.0));
                found.rates[index].push(loads.iter().map(|load| load.rate).sum());
            }
        }
        found
    }

    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## More proxies, each with {CLIENTS} clients and {RATE} commands a second\n")?;
        writeln!(out, "Durability `exchange`, pgbench -S, prepared.\n")?;
        header(out, &["proxies", "commands a second", "CPU per command, µs"].map(str::to_owned))?;
        for (index, count) in PROXIES.iter().enumerate() {
            row(out, &[count.to_string(), self.rates[index].to_string(), self.cpu_us[index].to_string()])?;
        }
        writeln!(out)
    }
}

fn cpu_us(proxies: &[Process]) -> f64 {
    proxies.iter().map(|proxy| cpu_us_of_all(proxy.pid())).sum()
}
