//! How much CPU time ingest takes for events, and how many bytes they then have.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::clickhouse::{self, ClickHouse};
use super::{Surroundings, pgbench_by, samples_row};
use crate::bench::numbers::{header, row};
use crate::bench::process::cpu_us_of_all;
use crate::bench::{Plan, Samples};
use crate::{Database, Gate, Process, wait_for};

/// Proxies that write the events.
const PROXIES: u32 = 2;

/// Clients of each.
const CLIENTS: u64 = 32;

/// How long ingest may take for them.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often ingest is asked how far it is: seldom, since its answer takes its CPU time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// By rounds, and the files of the last one.
#[derive(Debug, Default)]
pub(super) struct Ingestion {
    events: u64,
    /// Events committed per CPU second of the process.
    pub(super) per_cpu_second: Samples,
    per_second: Samples,
    event_bytes: Samples,
    files: u64,
    clickhouse: Option<ClickHouse>,
}

impl Ingestion {
    pub(super) fn measure(plan: &Plan, around: &Surroundings, database: Database<'_>) -> Self {
        let mut found = Self { events: plan.ingested_events, ..Self::default() };
        for round in 1..=plan.rounds {
            let gate = around.gate(database);
            let written = write_events(plan, &gate);
            found.take(&gate, written);
            if round == plan.rounds {
                let table = around.s3.objects(&gate.table_url());
                found.files = clickhouse::data_files(&table).len() as u64;
                found.clickhouse = clickhouse::measure(&table);
            }
        }
        found
    }

    fn take(&mut self, gate: &Gate, written: f64) {
        let began = Instant::now();
        let mut ingest = gate.another_service("ingest", 1);
        let health = ingest.health.expect("it tells of its health");
        wait_for("the events are in the table", PATIENCE, || {
            std::thread::sleep(LOOK_EVERY);
            (health.metric("retrace_ingest_rows_total") >= written).then_some(())
        });
        let (cpu_us, seconds) = (cpu_us_of_all(ingest.pid()), began.elapsed().as_secs_f64());
        let rows = health.metric("retrace_ingest_rows_total");
        self.per_cpu_second.push(rows / cpu_us * 1e6);
        self.per_second.push(rows / seconds);
        self.event_bytes.push(health.metric("retrace_ingest_files_bytes_total") / rows);
        assert!(ingest.stop().success(), "a clean end");
    }

    /// Bytes of an event here, as a share of what ClickHouse takes for it.
    pub(super) fn bytes_to_clickhouse(&self) -> Option<f64> {
        Some(self.event_bytes.median()? / self.clickhouse.as_ref()?.zstd_bytes)
    }

    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## From Kafka into the table\n")?;
        writeln!(
            out,
            "At least {} events of pgbench -S (prepared) by {PROXIES} proxies, then one ingest from an empty table to the \
             end of the log. Its CPU time is that of the whole process from its start on.\n",
            self.events
        )?;
        header(out, &["what", "value"].map(str::to_owned))?;
        samples_row(out, "events per CPU second", &self.per_cpu_second)?;
        samples_row(out, "events a second", &self.per_second)?;
        samples_row(out, "bytes per event, in the data files", &self.event_bytes)?;
        row(out, &["data files of the last round".to_owned(), self.files.to_string()])?;
        match &self.clickhouse {
            None => row(out, &["bytes per event, in ClickHouse".to_owned(), "not measured".to_owned()]),
            Some(ClickHouse { version, lz4_bytes, zstd_bytes }) => {
                let what = format!("bytes per event, in ClickHouse {version}");
                row(out, &[format!("{what}, zstd 1"), format!("{zstd_bytes:.1}")])?;
                row(out, &[format!("{what}, LZ4"), format!("{lz4_bytes:.1}")])
            }
        }
    }
}

/// Has events written, and gives how many at least.
fn write_events(plan: &Plan, gate: &Gate) -> f64 {
    let [mut proxies] = gate.services([("proxy", PROXIES)]);
    let each = plan.ingested_events.div_ceil(2 * CLIENTS * u64::from(PROXIES));
    let (clients, each) = (CLIENTS.to_string(), each.to_string());
    let arguments = ["-S", "-M", "prepared", "-c", &clients, "-j", "1", "-t", &each];
    let loads = pgbench_by(gate, &proxies, "shop-relaxed", &arguments);
    assert!(proxies.iter_mut().all(|proxy: &mut Process| proxy.stop().success()), "a clean end");
    // Of each command two events: that it came, and that it is done.
    2.0 * loads.iter().map(|load| load.commands).sum::<f64>()
}
