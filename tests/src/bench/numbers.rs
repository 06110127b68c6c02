//! How what was measured is written down: `docs/numbers.md`.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::detectors::Reading;
use super::loads::Load;
use super::neighbours::Neighbours;
use super::rows::Read;
use super::samples::rounded;
use super::{Plan, Samples};

/// Everything that was measured.
#[derive(Debug)]
pub struct Numbers {
    /// How much was measured.
    pub plan: Plan,
    /// Names of the lanes, in the order that every list has: direct, PgBouncer, then the gate's.
    pub lanes: Vec<String>,
    /// pgbench's loads.
    pub loads: Vec<Load>,
    /// Many rows at once.
    pub reads: Vec<Read>,
    /// KiB per idle session.
    pub idle_session_kib: f64,
    /// MiB above idle while streaming.
    pub streaming_mib: f64,
    /// Detectors.
    pub detectors: Vec<Reading>,
    /// A load beside clients that behave badly.
    pub neighbours: Neighbours,
}

const DIRECT: usize = 0;
const BOUNCER: usize = 1;

impl Numbers {
    /// The document.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("a String takes all");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Plan { rounds, load_seconds, .. } = self.plan;
        writeln!(out, "# Numbers\n\n`make bench` writes this file. {}\n", machine())?;
        writeln!(
            out,
            "Each number is the median of {rounds} rounds (smallest–largest); a round goes through all ways in turn, \
             {load_seconds} s for each load of pgbench. Clients, proxies and PostgreSQL share the machine. Clients \
             encrypt; the gate and PgBouncer have the same certificate and reach the target in cleartext. The gate masks \
             and records everything, PgBouncer (session mode) records nothing.\n"
        )?;
        self.write_targets(out)?;
        self.write_rates(out)?;
        self.write_cpu(out)?;
        self.write_reads(out)?;
        self.write_rest(out)
    }

    fn gate_lanes(&self) -> impl Iterator<Item = (usize, &String)> {
        self.lanes.iter().enumerate().skip(BOUNCER + 1)
    }

    fn lane(&self, durability: &str) -> Option<usize> {
        self.gate_lanes().find(|(_, name)| name.ends_with(durability)).map(|(index, _)| index)
    }

    fn write_rates(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## pgbench -S, commands a second\n")?;
        let mut columns = vec!["mode".to_owned(), "clients".to_owned()];
        columns.extend(self.lanes.iter().cloned());
        columns.extend(self.gate_lanes().map(|(_, name)| format!("{name} / PgBouncer")));
        header(out, &columns)?;
        for load in &self.loads {
            let mut cells = vec![load.mode.to_owned(), load.clients.to_string()];
            cells.extend(load.rates.iter().map(Samples::to_string));
            cells.extend(
                self.gate_lanes().map(|(index, _)| number(load.rates[index].ratio_to(&load.rates[BOUNCER]))),
            );
            row(out, &cells)?;
        }
        writeln!(out)
    }

    fn write_cpu(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## CPU time per command, in microseconds\n")?;
        let mut columns = vec!["mode".to_owned(), "clients".to_owned(), self.lanes[BOUNCER].clone()];
        for (_, name) in self.gate_lanes() {
            columns.extend([format!("{name}, proxy threads"), format!("{name}, all threads")]);
        }
        header(out, &columns)?;
        for load in &self.loads {
            let mut cells =
                vec![load.mode.to_owned(), load.clients.to_string(), load.all_us[BOUNCER].to_string()];
            for (index, _) in self.gate_lanes() {
                cells.extend([load.proxy_us[index].to_string(), load.all_us[index].to_string()]);
            }
            row(out, &cells)?;
        }
        writeln!(out)
    }

    fn write_reads(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## {} rows, in seconds\n", self.plan.rows)?;
        let mut columns = vec!["read by".to_owned()];
        columns.extend(self.lanes.iter().cloned());
        columns.extend(self.gate_lanes().map(|(_, name)| format!("{name} / direct")));
        header(out, &columns)?;
        for read in &self.reads {
            let cell = |index: usize| match &read.failures[index] {
                Some(said) => format!("failed: {}", said.replace('|', "\\|")),
                None => read.seconds[index].to_string(),
            };
            let mut cells = vec![read.name.to_owned()];
            cells.extend((0..self.lanes.len()).map(cell));
            cells.extend(self.gate_lanes().map(|(index, _)| number(self.read_ratio(read, index))));
            row(out, &cells)?;
        }
        writeln!(out)
    }

    fn write_rest(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## Memory\n")?;
        header(out, &["what", "value"].map(str::to_owned))?;
        let sessions = format!("resident per idle session, of {}", self.plan.idle_sessions);
        row(out, &[sessions, format!("{} KiB", rounded(self.idle_session_kib))])?;
        let streamed = format!("peak above idle while {} MiB stream", self.plan.streamed_mib);
        row(out, &[streamed, format!("{} MiB", rounded(self.streaming_mib))])?;
        writeln!(out, "\n## Detectors, MB a second on one core\n")?;
        header(out, &["text", "MB/s", "findings per MB"].map(str::to_owned))?;
        for reading in &self.detectors {
            row(out, &[reading.name.to_owned(), reading.rate.to_string(), reading.findings.to_string()])?;
        }
        writeln!(out, "\n## A client beside others, commands a second (prepared, 8 clients)\n")?;
        header(out, &["beside", "commands a second", "share of alone"].map(str::to_owned))?;
        let Neighbours { alone, silent, flooded } = &self.neighbours;
        for (name, samples) in [
            ("nobody", alone),
            ("32 silent sessions and 32 half-open handshakes", silent),
            ("one client that asks without end and reads nothing", flooded),
        ] {
            row(out, &[name.to_owned(), samples.to_string(), number(samples.ratio_to(alone))])?;
        }
        Ok(())
    }

    fn write_targets(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## What is to be reached\n")?;
        header(out, &["what", "to reach", "measured", ""].map(str::to_owned))?;
        let of = |clients, lane: Option<usize>| {
            let lane = lane?;
            let loads = self.loads.iter().filter(move |load| load.clients == clients);
            loads.filter_map(|load| load.rates[lane].ratio_to(&load.rates[BOUNCER])).reduce(f64::min)
        };
        let exchange = self.lane("exchange");
        let proxy_us = exchange.and_then(|lane| {
            let loads = self.loads.iter();
            loads.filter_map(|load| load.proxy_us[lane].median()).reduce(f64::max)
        });
        let read = |index: usize| self.read_ratio(&self.reads[index], exchange?);
        let hitless = self.detectors.iter().filter(|reading| reading.findings == 0);
        let detectors = hitless.filter_map(|reading| reading.rate.median()).reduce(f64::min);
        at_least(
            out,
            "relaxed / PgBouncer at 8 clients, the worst mode",
            0.6,
            "",
            of(8, self.lane("relaxed")),
        )?;
        at_least(out, "exchange / PgBouncer at 64 clients, the worst mode", 0.4, "", of(64, exchange))?;
        at_most(out, "CPU of the proxy's threads per command, the worst load", 35.0, " µs", proxy_us)?;
        at_most(out, "rows by psql, exchange / direct", 1.5, "", read(0))?;
        at_most(out, "rows by COPY, exchange / direct", 3.0, "", read(1))?;
        at_most(out, "resident per idle session", 48.0, " KiB", Some(self.idle_session_kib))?;
        at_most(out, "peak above idle while streaming", 64.0, " MiB", Some(self.streaming_mib))?;
        at_least(out, "detectors on text without hits", 400.0, " MB/s", detectors)?;
        writeln!(out)
    }

    fn read_ratio(&self, read: &Read, lane: usize) -> Option<f64> {
        let failed = read.failures[lane].is_some() || read.failures[DIRECT].is_some();
        read.seconds[lane].ratio_to(&read.seconds[DIRECT]).filter(|_| !failed)
    }
}

pub(super) fn at_least(
    out: &mut String,
    what: &str,
    least: f64,
    unit: &str,
    measured: Option<f64>,
) -> std::fmt::Result {
    let reached = measured.map(|measured| measured >= least);
    aim(out, what, &format!("≥ {least}{unit}"), measured.map(|value| rounded(value) + unit), reached)
}

pub(super) fn at_most(
    out: &mut String,
    what: &str,
    most: f64,
    unit: &str,
    measured: Option<f64>,
) -> std::fmt::Result {
    let reached = measured.map(|measured| measured <= most);
    aim(out, what, &format!("≤ {most}{unit}"), measured.map(|value| rounded(value) + unit), reached)
}

fn aim(
    out: &mut String,
    what: &str,
    wanted: &str,
    measured: Option<String>,
    reached: Option<bool>,
) -> std::fmt::Result {
    let word = match reached {
        Some(true) => "reached",
        Some(false) => "not reached",
        None => "not measured",
    };
    row(
        out,
        &[what.to_owned(), wanted.to_owned(), measured.unwrap_or_else(|| "–".to_owned()), word.to_owned()],
    )
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), rounded)
}

pub(crate) fn header(out: &mut String, columns: &[String]) -> std::fmt::Result {
    row(out, columns)?;
    row(out, &vec!["---".to_owned(); columns.len()])
}

pub(crate) fn row(out: &mut String, cells: &[String]) -> std::fmt::Result {
    writeln!(out, "| {} |", cells.join(" | "))
}

/// Processor, memory, commit and day.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let gib = kib.unwrap_or_default() / (1024 * 1024);
    let commit = said_by("git", &["describe", "--always", "--dirty", "--exclude=*"]);
    let day = said_by("date", &["-u", "+%Y-%m-%d"]);
    format!("Measured on {day} at commit {commit}: {model}, {cores} cores, {gib} GiB of memory.")
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
