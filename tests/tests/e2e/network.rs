//! A proxy that loses its log and nothing else: clients and target stay, the link to the brokers is cut.

use std::collections::BTreeSet;

use retrace_tests::{Backend, Gate, HaProxy, Kafka, Namespace, Postgres, S3, wait_for};

use crate::common::{Dice, PATIENCE, fault_rounds, lasts};
use crate::inserts::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_p6_a_proxy_cut_from_the_brokers_refuses_in_words_and_serves_again_when_the_link_is_mended()
{
    let mut dice = Dice::of("a proxy cut from the brokers");
    let namespace = Namespace::new();
    let (to_brokers, to_others) = (namespace.link(), namespace.link());
    let kafka = Kafka::start_at(&to_brokers.here, 3);
    let database = Postgres::shared().database();
    let gate = Gate::new(database);
    gate.put_log_on(&kafka);
    lasts(&gate);
    gate.put_lake_on(S3::shared());
    let mut ingest = gate.service("ingest");
    let query = gate.service("query");
    // Neither the target nor the clients are in its network: ways lead there over the other link.
    let to_target = HaProxy::listening(&to_others.here, &[Backend::at(Postgres::shared().port())]);
    let listen = format!("{}:{}", to_others.there, gate.port());
    let mut proxy = gate.service_in(namespace.surroundings(), "proxy", 1, |config| {
        config["proxy"]["postgres"]["listen"] = listen.clone().into();
        config["target"][0]["address"] = format!("{}:{}", to_others.here, to_target.port()).into();
    });
    let to_proxy = HaProxy::before(&[Backend { address: listen, readiness: None }]);
    let load = Load::start(database, &gate, &[to_proxy.port()], 8);
    for _ in 0..fault_rounds() {
        load.goes_on(dice.number(50..150));
        to_brokers.cut();
        let refusals = load.refusals();
        wait_for("clients are refused", PATIENCE, || (load.refusals() >= refusals + 8).then_some(()));
        // The target holds what was acknowledged or was on its way, and nothing comes while no record is durable.
        let held = || -> BTreeSet<String> { database.sql("SELECT number FROM sent").into_iter().collect() };
        let before = held();
        let refusals = load.refusals();
        wait_for("clients are refused again", PATIENCE, || (load.refusals() >= refusals + 8).then_some(()));
        assert_eq!(held(), before, "nothing reached the target");
        load.assert_fresh(&gate, &query).expect("an answer: the reader has its brokers");
        to_brokers.mend();
        load.goes_on(100);
        assert!(proxy.runs(), "it serves again without a restart");
    }
    load.assert_fresh(&gate, &query).expect("an answer");
    let done = load.stop().await;
    done.assert_every_end_was_stated();
    assert!(done.refused.contains_key("57P03"), "not executed, and told so: {:?}", done.refused);
    assert!(ingest.stop().success(), "a clean end");
    done.assert_evidence(database, &gate);
}
