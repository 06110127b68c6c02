//! What runs: each service a process of its own, as many of each as there would be, on Kafka and S3.

use toml::{Table, Value};

use crate::{Database, Gate, Health, Kafka, Process, S3, customers};

use super::work::{CUSTOMERS, TABLE};

/// The target of the class `standard`, and the one of the class `short`.
pub(super) const TARGETS: [&str; 2] = ["shop", "desk"];

/// Who asks the targets. They may read what is their own.
const PRINCIPALS: [&str; 4] = ["ann", "bob", "cyd", "agent-7"];

/// Who makes the events that questions are about.
pub(super) const PROBE: &str = "probe";

/// Partitions of the topic of events, fewer than there would be: with each commit every one of them has a file for each
/// retention class, and here an hour stands for a day.
const EVENTS_PARTITIONS: i64 = 4;

/// All of it, in front of one database.
#[derive(Debug)]
pub(super) struct Services<'a> {
    pub(super) proxies: Vec<Process>,
    pub(super) ingests: Vec<Process>,
    pub(super) query: Process,
    pub(super) gate: Gate,
    /// Names and tokens of those who ask the targets.
    pub(super) principals: Vec<(String, String)>,
    pub(super) probe_token: String,
    pub(super) s3: S3,
    pub(super) database: Database<'a>,
    _kafka: Kafka,
}

impl<'a> Services<'a> {
    /// Starts brokers, a store and the services, and fills the database.
    pub(super) fn start(database: Database<'a>) -> Self {
        let (kafka, s3) = (Kafka::start(3), S3::start());
        database.seed(&customers(CUSTOMERS));
        database.seed(TABLE);
        let gate = Gate::new(database);
        gate.add_target(TARGETS[1], database, "exchange");
        gate.put_log_on(&kafka);
        gate.put_lake_on(&s3);
        gate.edit(keep);
        let _ = gate.tell_health();
        let principals = PRINCIPALS.map(|name| (name.to_owned(), gate.add_principal(name, &TARGETS, "own")));
        let probe_token = gate.add_principal(PROBE, &TARGETS, "none");
        let [proxies, ingests] = gate.services([("proxy", 2), ("ingest", 2)]);
        let query = gate.service("query");
        let principals = principals.into();
        Self { proxies, ingests, query, gate, principals, probe_token, s3, database, _kafka: kafka }
    }

    /// The processes whose memory is looked at, in the order of their names.
    pub(super) fn pids(&self) -> [u32; 5] {
        let [proxies, ingests] = [&self.proxies, &self.ingests].map(|both| [both[0].pid(), both[1].pid()]);
        [proxies[0], proxies[1], ingests[0], ingests[1], self.query.pid()]
    }

    /// What all ingests say of a metric, over all its labels.
    pub(super) fn ingests_say(&self, metric: &str) -> f64 {
        let health = |ingest: &Process| ingest.health.expect("it tells of its health");
        self.ingests.iter().map(health).map(|health: Health| health.sum(metric)).sum()
    }

    /// Ends them, those first that write.
    pub(super) fn stop(mut self) {
        let query = std::iter::once(&mut self.query);
        let all = self.proxies.iter_mut().chain(&mut self.ingests).chain(query);
        for process in all {
            assert!(process.stop().success(), "a clean end");
        }
    }
}

/// Periods of retention, which nothing outlasts here, so that it is looked for what has expired; and where events go.
fn keep(config: &mut Table) {
    let days = [("short_days", 30), ("standard_days", 400), ("long_days", 2600)];
    let days = days.map(|(class, days)| (class.to_owned(), Value::Integer(days)));
    config.insert("retention".to_owned(), Table::from_iter(days).into());
    let kafka = config["log"]["kafka"].as_table_mut().expect("the log is on Kafka");
    kafka.insert("events_partitions".to_owned(), EVENTS_PARTITIONS.into());
    for target in config["target"].as_array_mut().expect("a list of tables") {
        let target = target.as_table_mut().expect("a table");
        if target["name"].as_str() == Some(TARGETS[1]) {
            target.insert("retention_class".to_owned(), "short".into());
        }
    }
}
