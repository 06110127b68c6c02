//! What is measured with the log on Kafka and the table on S3, each service a process of its own.

use std::fmt::Write;
use std::time::Duration;

use super::loads::{self, Outcome};
use super::numbers::{at_least, at_most, header, machine, row};
use super::{Plan, Samples};
use crate::matrix::Way;
use crate::{Database, Gate, Kafka, Postgres, Process, S3};
use ingestion::Ingestion;
use round_trips::RoundTrips;
use scale::Scale;

mod clickhouse;
mod ingestion;
mod round_trips;
mod scale;

/// How long a load may take that has no time of its own.
const PATIENCE: Duration = Duration::from_secs(600);

/// Everything that was measured.
#[derive(Debug)]
pub struct Cluster {
    plan: Plan,
    scale: Scale,
    round_trips: RoundTrips,
    ingestion: Ingestion,
}

/// What stands around the services.
#[derive(Debug)]
struct Surroundings {
    postgres: Postgres,
    kafka: Kafka,
    s3: S3,
}

impl Surroundings {
    fn database(&self) -> Database<'_> {
        self.postgres.database()
    }

    /// A folder whose services write topics and a table of their own. It has the target `shop-relaxed` beside `shop`.
    fn gate(&self, database: Database<'_>) -> Gate {
        let gate = Gate::new(database);
        gate.add_target("shop-relaxed", database, "relaxed");
        gate.put_log_on(&self.kafka);
        gate.put_lake_on(&self.s3);
        let _ = gate.tell_health();
        gate
    }
}

impl Cluster {
    /// Starts brokers, a store and a target, and measures.
    #[must_use]
    #[allow(clippy::print_stdout, reason = "a benchmark says how far it is")]
    pub fn measure(plan: Plan) -> Self {
        let step = |name: &str| println!("bench: {name} …");
        step("brokers, a store and a target");
        let around =
            Surroundings { postgres: Postgres::start_for_load(), kafka: Kafka::start(3), s3: S3::start() };
        let database = around.database();
        let _ = database.pgbench(&["-i", "-q", "-s", "10"], Duration::from_secs(300)).expect_ok();
        step("one command and two records");
        let round_trips = RoundTrips::measure(&plan, &around, database);
        step("more proxies");
        let scale = Scale::measure(&plan, &around, database);
        step("from Kafka into the table");
        let ingestion = Ingestion::measure(&plan, &around, database);
        Self { plan, scale, round_trips, ingestion }
    }

    /// The document.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("a String takes all");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# Numbers with Kafka and S3\n\n`make bench` writes this file. {}\n", machine())?;
        writeln!(
            out,
            "Each number is the median of {} rounds (smallest–largest). Clients, services, three brokers, the S3 server \
             and PostgreSQL share the machine, so times say little of machines of their own; ratios and CPU time say more. \
             Every record is on two brokers at least before it counts as durable.\n",
            self.plan.rounds
        )?;
        self.write_targets(out)?;
        self.round_trips.write(out)?;
        self.scale.write(out)?;
        self.ingestion.write(out)
    }

    fn write_targets(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## What is to be reached\n")?;
        header(out, &["what", "to reach", "measured", ""].map(str::to_owned))?;
        let ingestion = &self.ingestion;
        at_least(
            out,
            "events from Kafka into the table, per CPU second of ingest",
            100_000.0,
            "",
            ingestion.per_cpu_second.median(),
        )?;
        at_most(out, "bytes per event / ClickHouse, zstd", 1.0, "", ingestion.bytes_to_clickhouse())?;
        let added = self.round_trips.added_us.median();
        at_most(out, "added to a command, over two round trips of the log", 150.0, " µs", added)?;
        for (index, proxies) in scale::PROXIES.iter().enumerate().skip(1) {
            let what = format!("CPU per command, {proxies} proxies / one");
            at_most(out, &what, 1.05, "", self.scale.cpu_us[index].ratio_to(&self.scale.cpu_us[0]))?;
        }
        writeln!(out)
    }
}

/// The way to a target by one of several proxies.
fn way(gate: &Gate, proxy: &Process, target: &str) -> Way {
    Way::through_to(gate, target).at(proxy.postgres_port, gate.ca())
}

/// The same load by each proxy at once.
fn pgbench_by(gate: &Gate, proxies: &[Process], target: &str, arguments: &[&str]) -> Vec<Outcome> {
    let ways: Vec<_> = proxies.iter().map(|proxy| way(gate, proxy, target)).collect();
    std::thread::scope(|scope| {
        let loads: Vec<_> =
            ways.iter().map(|way| scope.spawn(|| loads::pgbench_with(way, arguments, PATIENCE))).collect();
        loads.into_iter().map(|load| load.join().expect("pgbench runs")).collect()
    })
}

fn samples_row(out: &mut String, what: &str, samples: &Samples) -> std::fmt::Result {
    row(out, &[what.to_owned(), samples.to_string()])
}
