//! P1 and P3: no effect without evidence, nothing lost and nothing twice, whenever the gate dies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use retrace_tests::client::{self, Tls, connect_with};
use retrace_tests::{Database, Gate, Postgres, wait_for};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, soak};

/// Clients that insert numbers, each once, and come back when the gate does.
struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<u64>>>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    /// The clients are divided among the gates that listen at these ports.
    fn start(gate: &Gate, ports: &[u16], clients: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let configs = ports.iter().map(|port| client::config_at(*port, "dev", &gate.dev_token(), "shop"));
        let tls = Tls::trusting(&gate.ca());
        let clients = configs
            .cycle()
            .take(clients)
            .map(|config| tokio::spawn(insert(Arc::clone(&shared), config, tls.clone())))
            .collect();
        Self { shared, clients }
    }

    /// Waits until the target has acknowledged `more` further inserts.
    fn goes_on(&self, more: u64) {
        let goal = self.shared.acknowledged.load(Ordering::SeqCst) + more;
        wait_for("the load goes on", PATIENCE, || {
            (self.shared.acknowledged.load(Ordering::SeqCst) >= goal).then_some(())
        });
    }

    /// Ends the load; gives the numbers whose insert was acknowledged.
    async fn stop(self) -> BTreeSet<u64> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut acknowledged = BTreeSet::new();
        for client in self.clients {
            acknowledged.extend(client.await.expect("a client does not panic"));
        }
        acknowledged
    }
}

async fn insert(shared: Arc<Shared>, config: Config, tls: Tls) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        match connect_with(config.clone(), tls.clone()).await {
            Ok(connection) => insert_on(&connection.client, &shared, &mut acknowledged).await,
            // The gate is down at the moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    acknowledged
}

/// Inserts until the connection breaks or the load ends, by turns in the simple and the extended protocol.
async fn insert_on(client: &Client, shared: &Shared, acknowledged: &mut Vec<u64>) {
    while !shared.stop.load(Ordering::SeqCst) {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let bound = i64::try_from(number).expect("a test counts no further");
        let done = if number.is_multiple_of(2) {
            client.batch_execute(&format!("INSERT INTO sent VALUES ({number})")).await
        } else {
            client.execute("INSERT INTO sent VALUES ($1)", &[&bound]).await.map(drop)
        };
        if done.is_err() {
            return;
        }
        acknowledged.push(number);
        shared.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// The numbers whose insert is on record, and those of them whose answer is; fails if one is there twice.
fn recorded(gate: &Gate) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let rows = gate.sql(
        "SELECT statement, parameters, status FROM commands WHERE statement LIKE 'INSERT INTO sent VALUES (%'",
    );
    let (mut commands, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for row in &rows {
        let statement = row["statement"].as_str().expect("a command has a statement");
        let text =
            if statement.contains("$1") { row["parameters"].to_string() } else { statement.to_owned() };
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        // Only the execution of a prepared statement has parameters.
        let Ok(number) = digits.parse() else { continue };
        assert!(commands.insert(number), "{number} is on record twice");
        if row["status"] == "ok" {
            answered.insert(number);
        }
    }
    (commands, answered)
}

/// Whatever befalls the gate in `faults` while eight clients insert: each row that the target holds has its command on
/// record, each acknowledged insert is in the target and its answer on record, and nothing is there twice.
pub(crate) async fn assert_evidence_of_every_row(
    database: Database<'_>,
    gate: &mut Gate,
    ports: &[u16],
    mut faults: impl FnMut(&mut Gate, &dyn Fn(u64)),
) {
    database.seed("CREATE TABLE sent (number bigint PRIMARY KEY)");
    let load = Load::start(gate, ports, 8);
    faults(gate, &|more| load.goes_on(more));
    load.goes_on(100);
    let acknowledged = load.stop().await;

    let held: BTreeSet<u64> =
        database.sql("SELECT number FROM sent").iter().map(|row| row.parse().expect("a number")).collect();
    let (commands, answered) = recorded(gate);
    let without: Vec<_> = held.difference(&commands).collect();
    assert!(without.is_empty(), "rows without their command: {without:?}");
    let lost: Vec<_> = acknowledged.difference(&held).collect();
    assert!(lost.is_empty(), "acknowledged, but not in the target: {lost:?}");
    let unrecorded: Vec<_> = acknowledged.difference(&answered).collect();
    assert!(unrecorded.is_empty(), "acknowledged before the answer was on record: {unrecorded:?}");
    assert!(held.len() >= 100, "the load was too small to say anything: {} rows", held.len());
    assert_nothing_lost_nothing_twice(gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_every_row_the_target_holds_has_its_command_after_kills_under_load() {
    let database = Postgres::shared().database();
    let mut gate = Gate::started(database);
    let ports = [gate.port()];
    assert_evidence_of_every_row(database, &mut gate, &ports, |gate, goes_on| {
        for _ in 0..if soak() { 50 } else { 5 } {
            goes_on(100);
            gate.kill();
            gate.up();
        }
    })
    .await;
}

#[test]
fn p3_a_stop_and_a_start_leave_every_event_once() {
    let mut gate = Gate::started(Postgres::shared().database());
    for round in 1..=3 {
        let script: String = (0..100).map(|number| format!("SELECT {number};\n")).collect();
        let _ = gate.psql(&script).expect_ok();
        assert!(gate.stop().success(), "retrace up did not end well");
        gate.up();
        let commands = gate.number("SELECT count(*) AS n FROM commands WHERE statement LIKE 'SELECT %'");
        assert_eq!(commands, round * 100);
        assert_nothing_lost_nothing_twice(&gate);
    }
}

#[test]
fn p3_a_kill_between_sessions_leaves_every_event_once() {
    let mut gate = Gate::started(Postgres::shared().database());
    for round in 1..=3 {
        let _ = gate.psql("SELECT 'before the kill'").expect_ok();
        gate.kill();
        gate.up();
        let commands =
            gate.number("SELECT count(*) AS n FROM commands WHERE statement LIKE '%before the kill%'");
        assert_eq!(commands, round);
        assert_nothing_lost_nothing_twice(&gate);
    }
}

#[test]
fn evidence_is_read_without_a_gate_that_listens() {
    let mut gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 'while it ran'").expect_ok();
    assert!(gate.stop().success());
    let asked = "SELECT count(*) AS n FROM commands WHERE statement LIKE '%while it ran%'";
    assert_eq!(gate.number(asked), 1);
    gate.up();
    assert_eq!(gate.number(asked), 1);
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn a_locked_log_without_a_listener_names_the_process_that_holds_it() {
    let gate = Gate::started(Postgres::shared().database());
    let elsewhere = format!("listen = \"127.0.0.1:{}\"", gate.grpc_port());
    let config = std::fs::read_to_string(gate.config_file()).expect("it is there");
    assert!(config.contains(&elsewhere), "{config}");
    // A port that the kernel gave to nobody: the discard service's own.
    let moved = config.replace(&elsewhere, "listen = \"127.0.0.1:9\"");
    std::fs::write(gate.config_file(), moved).expect("it is writable");
    let error = gate.retrace(&["sql", "SELECT 1"]).expect_failure();
    assert!(error.contains(&gate.pid().to_string()), "{error}");
}
