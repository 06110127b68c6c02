//! A load that can be counted: clients that insert numbers, each once, and come back when they lost their gate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use retrace_tests::client::{self, Connection, Tls, connect_with};
use retrace_tests::{Database, Gate, Process, RECORDED_INSERTS, inserts_on_record, wait_for};
use tokio::task::JoinHandle;
use tokio_postgres::{Config, Error};

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice};

/// Refusals that say what became of the command: the gate stops, the log is late, the outcome is unknown.
const STATED: [&str; 3] = ["57P01", "57P03", "08007"];

/// From here on clients take their time: a load of an hour must not make answers of an hour's rows.
const HASTE_INSERTS_MAX: u64 = 10_000;

/// How long they then wait between two inserts.
const REST: Duration = Duration::from_millis(200);

/// A load that runs.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<Done>,
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// The numbers whose insert was acknowledged.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// How often a client was refused, by the code that it was given.
    pub(crate) refused: BTreeMap<String, u64>,
    /// What else ended a command, a connection or a login.
    pub(crate) unstated: Vec<String>,
}

impl Load {
    /// Makes the table `sent` and starts clients, divided among the ports.
    pub(crate) fn start(database: Database<'_>, gate: &Gate, ports: &[u16], clients: usize) -> Self {
        database.seed("CREATE TABLE sent (number bigint PRIMARY KEY)");
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
    #[track_caller]
    pub(crate) fn goes_on(&self, more: u64) {
        self.reaches(self.acknowledged() + more);
    }

    /// Waits until the target has acknowledged so many inserts in all.
    #[track_caller]
    pub(crate) fn reaches(&self, goal: u64) {
        while self.acknowledged() < goal {
            let seen = self.acknowledged();
            wait_for("the load goes on", PATIENCE, || (self.acknowledged() > seen).then_some(()));
        }
    }

    /// How often clients were refused so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.shared.done().refused.values().sum()
    }

    fn acknowledged(&self) -> u64 {
        self.shared.done().acknowledged.len() as u64
    }

    /// Asks a query service: P4, what was acknowledged before the question is in the answer. Gives how many these were,
    /// or what the service said in the place of an answer.
    pub(crate) fn assert_fresh(&self, gate: &Gate, query: &Process) -> Result<usize, String> {
        let before = self.shared.done().acknowledged.clone();
        let (_, answered) = inserts_on_record(&gate.sql_of(query, RECORDED_INSERTS)?);
        let missing: Vec<_> = before.difference(&answered).collect();
        assert!(missing.is_empty(), "acknowledged before the question, but not in the answer: {missing:?}");
        Ok(before.len())
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Done {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("a client does not panic");
        }
        self.shared.done().clone()
    }
}

impl Shared {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

async fn insert(shared: Arc<Shared>, config: Config, tls: Tls) {
    while !shared.stops() {
        match connect_with(config.clone(), tls.clone()).await {
            Ok(connection) => {
                if let Err(error) = insert_on(&connection, &shared).await {
                    // Who ends a connection between two commands says why on it, not in an answer.
                    let end = connection.end.lock().unwrap_or_else(PoisonError::into_inner).take();
                    shared
                        .done()
                        .note(&if error.is_closed() { end.unwrap_or(error) } else { error }, "a command");
                }
            }
            // The gate is down at the moment.
            Err(error) => {
                shared.done().note(&error, "a login");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Inserts until the load ends, by turns in the simple and the extended protocol.
async fn insert_on(connection: &Connection, shared: &Shared) -> Result<(), Error> {
    let client = &connection.client;
    // Prepared once: the driver takes what comes in the answer to its closing of a statement for itself, a last word too.
    let prepared = client.prepare("INSERT INTO sent VALUES ($1)").await?;
    while !shared.stops() {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let bound = i64::try_from(number).expect("a test counts no further");
        if number.is_multiple_of(2) {
            client.batch_execute(&format!("INSERT INTO sent VALUES ({number})")).await?;
        } else {
            client.execute(&prepared, &[&bound]).await?;
        }
        shared.done().acknowledged.insert(number);
        if number > HASTE_INSERTS_MAX {
            tokio::time::sleep(REST).await;
        }
    }
    Ok(())
}

impl Done {
    fn note(&mut self, error: &Error, what: &str) {
        let refusal = error.as_db_error().filter(|said| said.message().starts_with("retrace: "));
        match refusal.map(|said| said.code().code()).filter(|code| STATED.contains(code)) {
            Some(code) => *self.refused.entry(code.to_owned()).or_default() += 1,
            None => self.unstated.push(format!("{what}: {error:?}")),
        }
    }

    /// P6: whoever was not served was told why, in words of the gate's.
    #[track_caller]
    pub(crate) fn assert_every_end_was_stated(&self) {
        let unstated = &self.unstated;
        assert!(unstated.is_empty(), "{} ends without a stated refusal: {unstated:?}", unstated.len());
    }

    /// P1 and P3: each row that the target holds has its command on record, each acknowledged insert is in the target and
    /// its answer on record, and nothing is lost and nothing there twice.
    #[track_caller]
    pub(crate) fn assert_evidence(&self, database: Database<'_>, gate: &Gate) {
        let rows = database.sql("SELECT number FROM sent");
        let held: BTreeSet<u64> = rows.iter().map(|row| row.parse().expect("a number")).collect();
        let (commands, answered) = inserts_on_record(&gate.sql(RECORDED_INSERTS));
        let without: Vec<_> = held.difference(&commands).collect();
        assert!(without.is_empty(), "rows without their command: {without:?}");
        let lost: Vec<_> = self.acknowledged.difference(&held).collect();
        assert!(lost.is_empty(), "acknowledged, but not in the target: {lost:?}");
        let unrecorded: Vec<_> = self.acknowledged.difference(&answered).collect();
        assert!(unrecorded.is_empty(), "acknowledged before the answer was on record: {unrecorded:?}");
        let imagined: Vec<_> = answered.difference(&held).collect();
        assert!(imagined.is_empty(), "on record as done, but not in the target: {imagined:?}");
        assert!(held.len() >= 100, "the load was too small to say anything: {} rows", held.len());
        let events = assert_nothing_lost_nothing_twice(gate);
        self.print(held.len(), events);
    }

    #[allow(clippy::print_stdout, reason = "a promise's counts are printed")]
    fn print(&self, held: usize, events: u64) {
        let Self { acknowledged, refused, unstated } = self;
        let (acknowledged, unstated) = (acknowledged.len(), unstated.len());
        println!(
            "P1, P3: {held} rows, all with their command; {acknowledged} acknowledged, all with their answer; {events} events, \
             each once; clients were refused {refused:?}, and cut off without words {unstated} times"
        );
    }
}
