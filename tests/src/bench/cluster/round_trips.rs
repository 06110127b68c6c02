//! What a command of one client takes with the gate and without, beside what the log takes for a record.

use std::fmt::Write;
use std::time::Instant;

use bytes::Bytes;
use retrace_eventlog::{EventLog, KafkaLog, KafkaOptions};
use retrace_proto::log::{Topic, TopicPartition};
use tokio_postgres::{Client, Config, Statement};

use super::{Surroundings, samples_row};
use crate::bench::numbers::header;
use crate::bench::{Plan, Samples};
use crate::client::{self, Tls, connect_with};
use crate::{Database, Gate, TARGET_PASSWORD, TARGET_USER};

/// What is asked.
const COMMAND: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";

/// Bytes of a record that is timed: about what the events of the command have.
const RECORD_BYTES: usize = 400;

/// Medians of each round, in microseconds.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    direct_us: Samples,
    gate_us: Samples,
    record_us: Samples,
    /// What the gate adds beyond two records made durable one after the other.
    pub(super) added_us: Samples,
}

/// A prepared command on a connection.
struct Asker {
    client: Client,
    statement: Statement,
}

impl Asker {
    async fn new(config: Config, tls: Tls) -> Self {
        let client = connect_with(config, tls).await.expect("a client is let in").client;
        let statement = client.prepare(COMMAND).await.expect("pgbench made the table");
        Self { client, statement }
    }

    async fn ask(&self, number: usize) {
        let account = i32::try_from(number % 100_000 + 1).expect("a few thousand");
        let row = self.client.query_one(&self.statement, &[&account]).await.expect("an account");
        assert_eq!(row.len(), 1);
    }
}

impl RoundTrips {
    pub(super) fn measure(plan: &Plan, around: &Surroundings, database: Database<'_>) -> Self {
        let gate = around.gate(database);
        let _proxy = gate.service("proxy");
        // As many threads as a client has that waits for one answer.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Self::measure_with(plan, around, database, &gate))
    }

    async fn measure_with(plan: &Plan, around: &Surroundings, database: Database<'_>, gate: &Gate) -> Self {
        let direct = Asker::new(direct(database), Tls::trusting(&database.postgres.ca())).await;
        let through = client::config(gate, "dev", &gate.dev_token(), "shop");
        let through = Asker::new(through, Tls::trusting(&gate.ca())).await;
        let log = log(around).await;
        let mut found = Self::default();
        for _ in 0..plan.rounds {
            let [mut direct_us, mut gate_us, mut record_us] = [(); 3].map(|()| Samples::default());
            for number in 0..plan.timed_commands {
                direct_us.push(us(direct.ask(number)).await);
                gate_us.push(us(through.ask(number)).await);
                record_us.push(us(append(&log)).await);
            }
            let medians = [direct_us, gate_us, record_us].map(|samples| samples.median().unwrap_or_default());
            let [direct_us, gate_us, record_us] = medians;
            found.direct_us.push(direct_us);
            found.gate_us.push(gate_us);
            found.record_us.push(record_us);
            found.added_us.push(gate_us - direct_us - 2.0 * record_us);
        }
        found
    }

    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## One client, one command at a time, in microseconds (p50)\n")?;
        writeln!(
            out,
            "Durability `exchange`, a prepared statement that finds one row, by a driver with TLS. The three are asked in \
             turn; the record has {RECORD_BYTES} bytes.\n"
        )?;
        header(out, &["what", "µs"].map(str::to_owned))?;
        samples_row(out, "a command, direct", &self.direct_us)?;
        samples_row(out, "a record made durable", &self.record_us)?;
        samples_row(out, "a command through the gate", &self.gate_us)?;
        samples_row(out, "the gate − direct − two records", &self.added_us)?;
        writeln!(out)
    }
}

fn direct(database: Database<'_>) -> Config {
    let mut config = client::config_at(database.postgres.port(), TARGET_USER, "", &database.name());
    config.password(TARGET_PASSWORD);
    config
}

async fn log(around: &Surroundings) -> KafkaLog {
    let options = KafkaOptions {
        client: [("bootstrap.servers".to_owned(), around.kafka.servers())].into(),
        topic_prefix: around.kafka.topic_prefix(),
        ..KafkaOptions::default()
    };
    KafkaLog::open(&options).await.expect("the cluster serves")
}

async fn append(log: &KafkaLog) {
    let to = TopicPartition { topic: Topic::Events, partition: 0 };
    let value = Bytes::from_static(&[b'v'; RECORD_BYTES]);
    log.append(to, Bytes::from_static(b"a stream"), value).await.expect("it is made durable");
}

async fn us(done: impl Future<Output = ()>) -> f64 {
    let began = Instant::now();
    done.await;
    began.elapsed().as_secs_f64() * 1e6
}
