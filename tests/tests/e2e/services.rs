//! The log on Kafka, the table on S3, services in processes of their own: the promises hold there too, whoever dies.

use std::time::{Duration, Instant};

use retrace_tests::{Gate, Kafka, Postgres, Process, S3, S3_SECRET_KEY, Surroundings, wait_for};
use rustix::process::Signal;

use crate::common::{Dice, PATIENCE, assert_nothing_lost_nothing_twice, fault_rounds, soak};
use crate::evidence::assert_evidence_of_every_row;

/// How long a worker sleeps where tests take their time.
const SLEEP: Duration = Duration::from_secs(60);

#[test]
fn a_gate_records_and_answers_with_its_log_on_kafka() {
    let database = Postgres::shared().database();
    let mut gate = Gate::new(database);
    gate.put_log_on(Kafka::shared());
    gate.up();
    let script: String = (0..200).map(|number| format!("SELECT {number}, 'jo@example.com';\n")).collect();
    let outcome = gate.psql(&script);
    assert_eq!(outcome.out().lines().count(), 200, "{}", outcome.err());
    assert!(outcome.out().lines().all(|line| line.ends_with("|j***@example.com")));
    let asked = "SELECT count(*) AS n FROM commands WHERE statement LIKE 'SELECT %, %' AND status = 'ok'";
    assert_eq!(gate.number(asked), 200, "P4: asked at once");
    assert!(gate.stop().success());
    gate.up();
    assert_eq!(gate.number(asked), 200, "and after a restart");
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_on_kafka_every_row_has_its_command_after_kills_under_load() {
    let database = Postgres::shared().database();
    let mut gate = Gate::new(database);
    gate.put_log_on(Kafka::shared());
    gate.up();
    let ports = [gate.port()];
    assert_evidence_of_every_row(database, &mut gate, &ports, |gate, goes_on| {
        for _ in 0..if soak() { 20 } else { 2 } {
            goes_on(100);
            gate.kill();
            gate.up();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p6_brokers_that_die_refuse_commands_and_serve_again_when_they_are_back() {
    let kafka = Kafka::start(3);
    let database = Postgres::shared().database();
    let mut gate = Gate::new(database);
    gate.put_log_on(&kafka);
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    let ports = [gate.port()];
    let mut dice = Dice::of("brokers that die");
    assert_evidence_of_every_row(database, &mut gate, &ports, |gate, goes_on| {
        for _ in 0..fault_rounds() {
            let [first, second, _] = dice.order(3)[..] else { unreachable!("three brokers") };
            goes_on(100);
            kafka.kill(first);
            goes_on(200);
            // Below min.insync.replicas nothing is durable any more.
            kafka.kill(second);
            let refused = gate.psql("SELECT 1;\n");
            assert!(
                refused.err().contains("could not be made durable in time; it was not executed"),
                "{}",
                refused.err()
            );
            assert!(gate.runs(), "the gate waits for its log");
            wait_for("the gate says what is the matter", PATIENCE, || {
                let (_, why) = health.ask("GET /readyz");
                let names = |part| why.lines().any(|line| line.starts_with(part));
                (names("log: ") && names("control: ")).then_some(())
            });
            assert_eq!(health.ask("GET /healthz").0, 200, "it lives all the same");
            kafka.restart(first);
            kafka.restart(second);
            goes_on(200);
            kafka.wait_until_in_sync();
            health.wait_until_orders_are_read();
            health.wait_until_ready();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_p4_two_of_each_service_and_each_is_killed_under_load() {
    let database = Postgres::shared().database();
    let mut gate = Gate::new(database);
    gate.put_log_on(Kafka::shared());
    gate.put_lake_on(S3::shared());
    let mut proxies = [gate.service("proxy"), gate.another_service("proxy", 2)];
    let mut ingests = [gate.service("ingest"), gate.another_service("ingest", 2)];
    let mut queries = [gate.service("query"), gate.another_service("query", 2)];
    let ports = proxies.each_ref().map(|proxy| proxy.postgres_port);
    assert_evidence_of_every_row(database, &mut gate, &ports, |_, goes_on| {
        for _ in 0..fault_rounds() {
            for process in proxies.iter_mut().chain(&mut ingests).chain(&mut queries) {
                goes_on(50);
                process.kill();
                goes_on(50);
                process.restart();
            }
        }
    })
    .await;
    let [first, second] = &mut ingests;
    assert!(first.stop().success() && second.stop().success(), "a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_an_ingest_that_slept_through_its_replacement_doubles_nothing() {
    let database = Postgres::shared().database();
    let mut gate = Gate::new(database);
    gate.put_log_on(Kafka::shared());
    // More of them than may work: those that do are divided all the same.
    gate.edit(|config| {
        let kafka = config["log"]["kafka"].as_table_mut().expect("the log is on Kafka");
        kafka.insert("control_partitions".to_owned(), 8.into());
    });
    let proxy = gate.service("proxy");
    let _query = gate.service("query");
    let mut sleeper = gate.service("ingest");
    let mut other = gate.another_service("ingest", 2);
    // Its share as it was told last.
    let has_share = |ingest: &Process, share: &str| {
        wait_for("ingest has its share", PATIENCE, || {
            let said = ingest.said();
            said.rsplit("partitions=").next().is_some_and(|last| last.starts_with(share)).then_some(())
        });
    };
    has_share(&sleeper, "12");
    has_share(&other, "12");
    assert_evidence_of_every_row(database, &mut gate, &[proxy.postgres_port], |_, goes_on| {
        for _ in 0..fault_rounds() {
            goes_on(100);
            sleeper.signal(Signal::STOP);
            let asleep = Instant::now();
            has_share(&other, "24");
            goes_on(100);
            while soak() && asleep.elapsed() < SLEEP {
                goes_on(100);
            }
            sleeper.signal(Signal::CONT);
            has_share(&other, "12");
            goes_on(100);
        }
    })
    .await;
    assert!(sleeper.stop().success() && other.stop().success(), "a clean end");
}

#[test]
fn each_service_needs_only_what_it_serves_with() {
    let database = Postgres::shared().database();
    let gate = Gate::new(database);
    gate.put_log_on(Kafka::shared());
    gate.put_lake_on(S3::shared());
    let proxy = gate.service("proxy");
    let unset = |config: &mut toml::Table| {
        let password = toml::Table::from_iter([("env".to_owned(), "RETRACE_TEST_UNSET".into())]);
        config["target"][0].as_table_mut().expect("a target").insert("password".to_owned(), password.into());
    };
    let rename = |from: &str, to: &str| {
        std::fs::rename(gate.dir().join(from), gate.dir().join(to)).expect("it is there");
    };
    // Asking takes no target, and believes what signs heads and control records by the public halves.
    let heads = gate.retrace(&["heads-key"]).expect_ok();
    rename("keys/heads.key", "away.heads");
    std::fs::write(gate.dir().join("keys/heads.pub"), &heads).expect("the folder is writable");
    let query = gate.service_in(Surroundings::default(), "query", 1, unset);
    // Ingest lets nobody in: no key, no token, no certificate.
    for name in ["keys", "tokens.toml", "server.pem"] {
        rename(name, &format!("away.{name}"));
    }
    let mut ingest = gate.service_in(Surroundings::default(), "ingest", 1, unset);
    ingest.signal(Signal::HUP);
    wait_for("ingest took the configuration again", PATIENCE, || {
        ingest.said().contains("was read again and counts now").then_some(())
    });
    for name in ["keys", "tokens.toml", "server.pem"] {
        rename(&format!("away.{name}"), name);
    }
    let psql = gate.psql("SELECT 'by what they need'");
    assert_eq!(psql.out().trim(), "by what they need", "{}", psql.err());
    let asked =
        "SELECT count(*) AS n FROM commands WHERE statement LIKE '%by what they need%' AND status = 'ok'";
    let answer = gate.sql_of(&query, asked).expect("an answer");
    assert_eq!(answer[0]["n"], 1);
    assert!(ingest.stop().success(), "a clean end");
    drop(proxy);
}

#[test]
fn a_service_alone_on_an_embedded_log_is_refused_with_what_to_do() {
    let gate = Gate::new(Postgres::shared().database());
    for role in ["proxy", "ingest", "query"] {
        let said = gate.retrace(&[role]).expect_failure();
        assert!(said.contains("belongs to one process") && said.contains("use `retrace up`"), "{said}");
    }
}

/// What `retrace up` says when it ends before it is ready.
#[track_caller]
fn refused_start(gate: &mut Gate) -> String {
    gate.try_up().expect_err("it cannot start")
}

#[test]
fn a_gate_whose_store_does_not_serve_it_says_which_setting_to_look_at() {
    let mut gate = Gate::new(Postgres::shared().database());
    gate.put_lake_on(S3::shared());
    let set = |gate: &Gate, path: &[&str], value: &str| {
        gate.edit(|config| {
            let (last, path) = path.split_last().expect("a path");
            let table = path.iter().fold(config, |table, key| table[*key].as_table_mut().expect("a table"));
            table.insert((*last).to_owned(), value.into());
        });
    };
    set(&gate, &["lake", "options", "aws_secret_access_key"], "wrong-secret");
    let said = refused_start(&mut gate);
    assert!(said.contains("the store refused the credential for s3://lake/table-"), "{said}");
    assert!(!said.contains("wrong-secret") && !said.contains(S3_SECRET_KEY), "{said}");
    set(&gate, &["lake", "options", "aws_secret_access_key"], S3_SECRET_KEY);
    set(&gate, &["lake", "url"], "s3://nowhere/table");
    let said = refused_start(&mut gate);
    assert!(said.contains("there is no bucket or container for s3://nowhere/table"), "{said}");
    set(&gate, &["lake", "options", "aws_regoin"], "us-east-1");
    let said = refused_start(&mut gate);
    assert!(said.contains("`aws_regoin` is not an option of the store"), "{said}");
}

#[test]
fn p3_p4_a_gate_whose_table_is_on_s3_keeps_everything_over_restarts() {
    let mut gate = Gate::new(Postgres::shared().database());
    gate.put_lake_on(S3::shared());
    for round in 1..=3 {
        gate.up();
        let script: String = (0..50).map(|number| format!("SELECT {number};\n")).collect();
        assert_eq!(gate.psql(&script).out().lines().count(), 50);
        let asked = "SELECT count(*) AS n FROM commands WHERE statement LIKE 'SELECT %' AND status = 'ok'";
        assert_eq!(gate.number(asked), round * 50);
        assert!(gate.stop().success());
    }
    gate.up();
    let tables = gate.sql("SELECT count(*) AS n FROM events");
    assert!(tables[0]["n"].as_u64() > Some(300), "{tables:?}");
    assert_nothing_lost_nothing_twice(&gate);
    let said = String::from_utf8_lossy(&gate.said()).into_owned();
    assert!(!said.contains(S3_SECRET_KEY), "a secret in the output");
}
