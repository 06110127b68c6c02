//! Many of each: four proxies behind a load balancer, two ingests, two query services, three brokers and S3. The promises
//! hold there as they do for one, and while the proxies are restarted one after the other.

use std::collections::BTreeMap;

use retrace_tests::{Backend, Database, Gate, HaProxy, Health, Kafka, Postgres, Process, S3};

use crate::common::{Dice, fault_rounds, lasts, soak};
use crate::inserts::Load;

/// Everything that runs, in front of one target.
struct Fleet {
    balancer: HaProxy,
    proxies: Vec<Process>,
    ingests: Vec<Process>,
    queries: Vec<Process>,
    gate: Gate,
    database: Database<'static>,
}

impl Fleet {
    fn start() -> Self {
        let database = Postgres::shared().database();
        let gate = Gate::new(database);
        gate.put_log_on(Kafka::shared());
        lasts(&gate);
        gate.put_lake_on(S3::shared());
        let _ = gate.tell_health();
        // All begin at once, and find no topics and no table.
        let [proxies, ingests, mut queries] = gate.services([("proxy", 4), ("ingest", 2), ("query", 1)]);
        queries.push(gate.service("query"));
        let backends: Vec<_> = proxies.iter().map(backend).collect();
        let balancer = HaProxy::before(&backends);
        Self { balancer, proxies, ingests, queries, gate, database }
    }

    fn load(&self, clients: usize) -> Load {
        Load::start(self.database, &self.gate, &[self.balancer.port()], clients)
    }

    /// P4, asked of both query services while the load goes on, until so many events that were durable before the
    /// question were looked for.
    #[allow(clippy::print_stdout, reason = "a promise's counts are printed")]
    fn assert_fresh(&self, load: &Load, events: usize) {
        for rounds in 1.. {
            load.goes_on(50);
            // Of each command two events, of which the second says that it is done.
            let seen =
                self.queries.iter().map(|query| 2 * load.assert_fresh(&self.gate, query).expect("an answer"));
            let seen: Vec<_> = seen.collect();
            if seen.iter().all(|seen| *seen >= events) {
                println!("P4: {seen:?} of as many events seen by each query service, asked {rounds} times");
                return;
            }
        }
    }

    /// How many sessions each proxy has on record.
    fn sessions_by_proxy(&self) -> BTreeMap<String, u64> {
        let rows = self.gate.sql(
            "SELECT proxy_id, count(DISTINCT session_id) AS n FROM events
             WHERE event_type = 'session_opened' AND principal = 'dev' GROUP BY proxy_id",
        );
        let count =
            |row: &serde_json::Value| (row["proxy_id"].to_string(), row["n"].as_u64().expect("a count"));
        rows.iter().map(count).collect()
    }

    /// Ends ingest, which is clean, and with it the last commits.
    fn stop(mut self) {
        assert!(self.ingests.iter_mut().all(|ingest| ingest.stop().success()), "a clean end");
    }
}

/// A proxy as the balancer sees it.
fn backend(proxy: &Process) -> Backend {
    let Health(health) = proxy.health.expect("it tells of its health");
    Backend { readiness: Some(format!("127.0.0.1:{health}")), ..Backend::at(proxy.postgres_port) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_four_proxies_behind_a_balancer_share_the_clients_and_each_query_sees_all() {
    let fleet = Fleet::start();
    let load = fleet.load(16);
    fleet.assert_fresh(&load, if soak() { 10_000 } else { 1_000 });
    let done = load.stop().await;
    done.assert_every_end_was_stated();
    assert!(done.refused.is_empty(), "nobody was refused: {:?}", done.refused);
    done.assert_evidence(fleet.database, &fleet.gate);
    let sessions = fleet.sessions_by_proxy();
    assert_eq!(sessions.values().sum::<u64>(), 16, "{sessions:?}");
    assert!(sessions.len() == 4 && sessions.values().all(|count| *count >= 2), "{sessions:?}");
    fleet.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_p6_a_rolling_restart_of_the_proxies_tells_every_client_why() {
    let mut dice = Dice::of("rolling restart of the proxies");
    let mut fleet = Fleet::start();
    let load = fleet.load(16);
    let mut restarts = 0;
    for _ in 0..fault_rounds() {
        for number in dice.order(fleet.proxies.len()) {
            load.goes_on(dice.number(20..100));
            // It says that it is not ready, and the balancer leads nobody to it when it takes nobody any more.
            let proxy = &mut fleet.proxies[number];
            assert!(proxy.stop().success(), "a clean end");
            load.goes_on(20);
            proxy.restart();
            fleet.balancer.wait_until_up(number);
            restarts += 1;
        }
        fleet.assert_fresh(&load, 200);
    }
    load.goes_on(100);
    let done = load.stop().await;
    done.assert_every_end_was_stated();
    assert!(done.refused.get("57P01") >= Some(&restarts), "each restart ended sessions: {:?}", done.refused);
    done.assert_evidence(fleet.database, &fleet.gate);
    let sessions = fleet.sessions_by_proxy();
    assert!(sessions.len() > 4, "proxies that were started again have clients: {sessions:?}");
    fleet.stop();
}
