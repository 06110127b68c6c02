//! What befalls the log's brokers and the table's store, one after the other, while clients insert: the promises hold, by
//! counting against the target.

use std::time::Duration;

use retrace_tests::{Database, Gate, Kafka, Postgres, Process, S3, S3Fault, S3Faults, wait_for};

use crate::common::{Dice, PATIENCE, fault_rounds, lasts};
use crate::inserts::Load;

/// A store that comes back must have been found again within this: clients of a store wait longer after each failure.
const STORE_PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_p6_a_rolling_restart_of_the_brokers_tells_every_client_why() {
    let mut dice = Dice::of("rolling restart of the brokers");
    let kafka = Kafka::start(3);
    let database = Postgres::shared().database();
    let gate = Gate::new(database);
    gate.put_log_on(&kafka);
    lasts(&gate);
    gate.put_lake_on(S3::shared());
    let health = gate.tell_health();
    let [proxies, ingests] = gate.services([("proxy", 2), ("ingest", 1)]);
    let query = gate.service("query");
    let ports: Vec<_> = proxies.iter().map(|proxy| proxy.postgres_port).collect();
    let load = Load::start(database, &gate, &ports, 8);
    for _ in 0..fault_rounds() {
        for broker in dice.order(3) {
            load.goes_on(dice.number(50..150));
            kafka.kill(broker);
            load.goes_on(dice.number(50..150));
            kafka.restart(broker);
            kafka.wait_until_in_sync();
            // For a moment nobody may know yet where the log ends.
            wait_for("an answer, with every broker there", PATIENCE, || {
                load.assert_fresh(&gate, &query).ok()
            });
        }
    }
    health.wait_until_orders_are_read();
    load.goes_on(100);
    let done = load.stop().await;
    done.assert_every_end_was_stated();
    done.assert_evidence(database, &gate);
    drop(ingests);
}

/// Services whose table is in a store that fails on demand, and clients that insert.
struct Stored {
    faults: S3Faults,
    database: Database<'static>,
    gate: Gate,
    ingests: Vec<Process>,
    query: Process,
    load: Load,
    _proxies: Vec<Process>,
}

impl Stored {
    fn start() -> Self {
        let faults = S3Faults::before(S3::shared());
        let database = Postgres::shared().database();
        let gate = Gate::new(database);
        gate.put_log_on(Kafka::shared());
        lasts(&gate);
        gate.put_lake_behind(&faults);
        let [proxies, ingests] = gate.services([("proxy", 2), ("ingest", 2)]);
        let query = gate.service("query");
        let ports: Vec<_> = proxies.iter().map(|proxy| proxy.postgres_port).collect();
        let load = Load::start(database, &gate, &ports, 8);
        Self { faults, database, gate, ingests, query, load, _proxies: proxies }
    }

    /// Lets the fault strike so often while the load goes on and a reader asks; afterwards the reader is answered and
    /// ingest commits.
    fn suffer(&self, fault: S3Fault, count: u64) {
        self.load.goes_on(50);
        self.faults.arm(fault, count);
        wait_for("the fault has struck", STORE_PATIENCE, || {
            self.load.goes_on(20);
            // A reader may be told that the store does not answer, and is never given a part.
            let _ = self.load.assert_fresh(&self.gate, &self.query);
            self.faults.is_over().then_some(())
        });
        wait_for("a reader is answered", STORE_PATIENCE, || {
            self.load.assert_fresh(&self.gate, &self.query).ok()
        });
        let before = self.faults.commits();
        wait_for("ingest commits", STORE_PATIENCE, || (self.faults.commits() > before).then_some(()));
    }

    /// Ends the load and ingest, and counts.
    #[allow(clippy::print_stdout, reason = "a promise's counts are printed")]
    async fn end(mut self) {
        self.load.goes_on(100);
        let done = self.load.stop().await;
        assert!(done.refused.is_empty(), "clients of the gate do not see its store: {:?}", done.refused);
        done.assert_every_end_was_stated();
        assert!(self.ingests.iter_mut().all(|ingest| ingest.stop().success()), "a clean end");
        done.assert_evidence(self.database, &self.gate);
        println!("the store: {:?} among {} commits", self.faults.struck(), self.faults.commits());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_a_store_that_refuses_or_fails_or_is_slow_delays_commits_and_loses_nothing() {
    let mut dice = Dice::of("a store that fails");
    let stored = Stored::start();
    for _ in 0..fault_rounds() {
        let before = stored.faults.struck();
        let (count, slow) = (dice.number(5..30), dice.number(3..8));
        stored.suffer(S3Fault::Refuse, count);
        stored.suffer(S3Fault::Fail, count);
        stored.suffer(S3Fault::Slow(Duration::from_millis(dice.number(1_000..4_000))), slow);
        let struck = stored.faults.struck();
        assert_eq!(struck.refused, before.refused + count);
        assert_eq!(struck.failed, before.failed + count);
        assert_eq!(struck.slowed, before.slowed + slow);
    }
    stored.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_a_store_that_fails_after_it_wrote_loses_nothing_and_doubles_nothing() {
    let mut dice = Dice::of("a store that fails after it wrote");
    let stored = Stored::start();
    for _ in 0..fault_rounds() {
        let before = stored.faults.struck();
        let count = dice.number(2..4);
        stored.suffer(S3Fault::CutAfterPut, count);
        let struck = stored.faults.struck();
        assert_eq!(struck.commits_cut, before.commits_cut + count);
        assert!(struck.cut > before.cut + count, "data files were cut too: {struck:?}");
    }
    stored.end().await;
}
