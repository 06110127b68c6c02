//! Two releases side by side, this one and the one before it, over one log, one table and one target: the promises hold for each
//! mixture that an upgrade passes through, and while one release takes the other's place and gives it back.
//!
//! They hold for as long as proxies of this release write nothing that the one before does not know. When they do, ingest of the
//! one before stops there and says so, and its part of these tests goes.

use std::path::PathBuf;
use std::time::Duration;

use retrace_tests::{
    Backend, Database, Gate, HaProxy, Health, Kafka, Postgres, Process, S3, Surroundings, Wire,
    previous_release, startup, wait_for,
};

use crate::common::{lasts, refusal};
use crate::inserts::{Done, Load};

/// How often all is upgraded and rolled back.
const ROUNDS: u32 = 2;

/// Eight commits of one topic partition, five seconds apart, make a merge due.
const MERGE_WAIT_MAX: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    Previous,
    This,
}

impl Release {
    fn program(self) -> Option<PathBuf> {
        (self == Self::Previous).then(previous_release)
    }

    fn surroundings(self) -> Surroundings {
        Surroundings { program: self.program(), ..Surroundings::default() }
    }

    /// Ends a process and starts it again as this release.
    fn replace(self, process: &mut Process) {
        assert!(process.stop().success(), "a clean end");
        process.restart_as(self.program().as_deref());
    }
}

/// Two of each service, in front of one target.
struct Fleet {
    balancer: HaProxy,
    proxies: Vec<Process>,
    ingests: Vec<Process>,
    queries: Vec<Process>,
    gate: Gate,
    database: Database<'static>,
}

impl Fleet {
    fn start(proxies: Release, readers: Release) -> Self {
        let database = Postgres::shared().database();
        // The folder that there is when a release comes.
        let gate = Gate::made_by(&previous_release(), database);
        gate.put_log_on(Kafka::shared());
        lasts(&gate);
        gate.put_lake_on(S3::shared());
        let _ = gate.tell_health();
        let start = |role: &str, release: Release, numbers: &[u32]| -> Vec<Process> {
            let start = |number: &u32| gate.service_in(release.surroundings(), role, *number, |_| ());
            numbers.iter().map(start).collect()
        };
        let proxies = start("proxy", proxies, &[1, 2]);
        let ingests = start("ingest", readers, &[1, 2]);
        let mut queries = vec![gate.service_within(readers.surroundings(), "query")];
        queries.extend(start("query", readers, &[2]));
        let backends: Vec<_> = proxies.iter().map(backend).collect();
        let balancer = HaProxy::before(&backends);
        Self { balancer, proxies, ingests, queries, gate, database }
    }

    fn load(&self) -> Load {
        Load::start(self.database, &self.gate, &[self.balancer.port()], 8)
    }

    /// An order that a query service gives is obeyed by a proxy.
    fn assert_an_order_is_obeyed(&self) {
        let mut session = Wire::open_at(&self.gate, self.proxies[0].postgres_port).expect("a connection");
        session.send_raw(&startup(&[("user", "dev"), ("database", "shop")])).expect("it is sent");
        session.authenticate(&self.gate.dev_token()).expect("a login");
        session.read_until(b'Z').expect("the session begins");
        let open = self.gate.sql("SELECT session_id FROM sessions WHERE closed_at IS NULL");
        let [open] = &open[..] else { panic!("one session: {open:?}") };
        let open = open["session_id"].as_str().expect("an id");
        let _ = self.gate.retrace(&["kill", open, "--reason", "between two releases"]).expect_ok();
        let (code, _) = refusal(&session.read_to_close().expect("a last word"));
        assert_eq!(code, "57P01");
    }

    /// P4, asked of both query services while the load goes on.
    fn assert_fresh(&self, load: &Load) {
        for query in &self.queries {
            load.goes_on(50);
            let seen = load.assert_fresh(&self.gate, query).expect("an answer");
            assert!(seen >= 50, "{seen} inserts were acknowledged before the question");
        }
    }

    /// Waits until ingest of this release has merged files, and has both query services asked meanwhile.
    fn merge(&self, load: &Load) {
        let merged = || -> f64 {
            let health = self.ingests.iter().filter_map(|ingest| ingest.health);
            health.map(|health| health.metric("retrace_compaction_files_merged_total")).sum()
        };
        let before = merged();
        wait_for("files were merged", MERGE_WAIT_MAX, || {
            self.assert_fresh(load);
            (merged() >= before + 8.0).then_some(())
        });
    }

    fn replace_ingest(&mut self, load: &Load, by: Release) {
        for number in 0..self.ingests.len() {
            by.replace(&mut self.ingests[number]);
            self.assert_fresh(load);
        }
    }

    fn replace_queries(&mut self, load: &Load, by: Release) {
        for number in 0..self.queries.len() {
            by.replace(&mut self.queries[number]);
            self.assert_fresh(load);
        }
    }

    fn replace_proxies(&mut self, load: &Load, by: Release) {
        for number in 0..self.proxies.len() {
            by.replace(&mut self.proxies[number]);
            self.balancer.wait_until_up(number);
            self.assert_fresh(load);
        }
    }

    /// Ends the load, and counts: by each query service alike, whichever release it is of.
    async fn end(mut self, load: Load) -> Done {
        load.goes_on(100);
        let done = load.stop().await;
        done.assert_every_end_was_stated();
        assert!(self.ingests.iter_mut().all(|ingest| ingest.stop().success()), "a clean end");
        done.assert_evidence(self.database, &self.gate);
        let asked = "SELECT count(*) AS n FROM commands WHERE statement LIKE 'INSERT INTO sent VALUES (%'";
        let counts = self.queries.iter().map(|query| self.gate.sql_of(query, asked).expect("an answer"));
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts[0], counts[1], "one release counts as the other");
        done
    }
}

/// A proxy as the balancer sees it.
fn backend(proxy: &Process) -> Backend {
    let Health(health) = proxy.health.expect("it tells of its health");
    Backend { readiness: Some(format!("127.0.0.1:{health}")), ..Backend::at(proxy.postgres_port) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the release before this one, which `make soak` builds"]
async fn p1_p3_p4_proxies_of_the_release_before_write_for_ingest_and_query_of_this_one() {
    let fleet = Fleet::start(Release::Previous, Release::This);
    fleet.assert_an_order_is_obeyed();
    let load = fleet.load();
    fleet.merge(&load);
    let done = fleet.end(load).await;
    assert!(done.refused.is_empty(), "nobody was refused: {:?}", done.refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the release before this one, which `make soak` builds"]
async fn p1_p3_p4_proxies_of_this_release_write_for_ingest_and_query_of_the_one_before() {
    let fleet = Fleet::start(Release::This, Release::Previous);
    fleet.assert_an_order_is_obeyed();
    let load = fleet.load();
    for _ in 0..20 {
        fleet.assert_fresh(&load);
    }
    let done = fleet.end(load).await;
    assert!(done.refused.is_empty(), "nobody was refused: {:?}", done.refused);
}

/// In the order of docs/operations.md, "Upgrading", there and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the release before this one, which `make soak` builds"]
async fn p1_p3_p4_p6_a_rolling_upgrade_and_its_rollback_tell_every_client_why() {
    let mut fleet = Fleet::start(Release::Previous, Release::Previous);
    let load = fleet.load();
    fleet.assert_fresh(&load);
    for _ in 0..ROUNDS {
        fleet.replace_ingest(&load, Release::This);
        // Query services of the release before answer from files that this one merges.
        fleet.merge(&load);
        fleet.replace_queries(&load, Release::This);
        fleet.replace_proxies(&load, Release::This);
        fleet.merge(&load);

        fleet.replace_proxies(&load, Release::Previous);
        fleet.replace_queries(&load, Release::Previous);
        fleet.replace_ingest(&load, Release::Previous);
        fleet.assert_fresh(&load);
    }
    // The two releases count alike in the end.
    Release::This.replace(&mut fleet.queries[1]);
    let restarts = u64::from(ROUNDS) * 4;
    let done = fleet.end(load).await;
    assert!(done.refused.get("57P01") >= Some(&restarts), "each restart ended sessions: {:?}", done.refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the release before this one, which `make soak` builds"]
async fn p1_p3_a_gate_of_one_process_goes_on_with_log_and_table_of_the_other_release() {
    let database = Postgres::shared().database();
    let mut gate = Gate::made_by(&previous_release(), database);
    gate.up_within(Release::Previous.surroundings());
    let load = Load::start(database, &gate, &[gate.port()], 8);
    // What a crash of one leaves is the other's to go on with.
    for (crash, then) in [
        (false, Release::This),
        (true, Release::Previous),
        (true, Release::This),
        (false, Release::Previous),
        (true, Release::This),
    ] {
        load.goes_on(200);
        if crash {
            gate.kill();
        } else {
            assert!(gate.stop().success(), "a clean end");
        }
        gate.up_within(then.surroundings());
    }
    load.goes_on(100);
    load.stop().await.assert_evidence(database, &gate);
}
