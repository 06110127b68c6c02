//! The log on Kafka: the contract of `EventLog` on three real brokers, and what it does not begin on.

use std::time::Duration;

use bytes::Bytes;
use retrace_eventlog::{EventLog, KafkaLog, KafkaOpenError, KafkaOptions, ReadError};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_tests::{KAFKA_USER, Kafka};

use crate::common::PATIENCE;
use crate::suite::conformance;

fn options(servers: String) -> KafkaOptions {
    KafkaOptions {
        client: [("bootstrap.servers".to_owned(), servers)].into(),
        partitions: [2, 1],
        topic_prefix: Kafka::shared().topic_prefix(),
        ..KafkaOptions::default()
    }
}

async fn open() -> (KafkaLog, ()) {
    (KafkaLog::open(&options(Kafka::shared().servers())).await.expect("the cluster serves"), ())
}

conformance!(kafka, open());

/// What opening says about a cluster or topics that it does not take.
async fn refusal(options: &KafkaOptions) -> KafkaOpenError {
    KafkaLog::open(options).await.expect_err("it is not taken")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_same_topics_and_a_topic_made_anew_has_another_id() {
    let one = options(Kafka::shared().servers());
    let ids = |log: &KafkaLog| Topic::ALL.map(|topic| log.topic_id(topic));
    let first = ids(&KafkaLog::open(&one).await.expect("the cluster serves"));
    assert_eq!(ids(&KafkaLog::open(&one).await.expect("the cluster serves")), first);
    let other = ids(&KafkaLog::open(&options(Kafka::shared().servers())).await.expect("the cluster serves"));
    assert!(first.iter().all(|id| !other.contains(id)));
}

/// Asks where the log ends until it does not say any more, and gives why.
async fn alarm(log: &KafkaLog) -> ReadError {
    let asked = async {
        loop {
            match log.all_offsets().await {
                // A broker may not have heard of it yet, and one that has may still look for who leads.
                Ok(_) | Err(ReadError::Unavailable) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return error,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it is noticed")
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_topic_that_gets_more_partitions_or_is_made_anew_is_not_read_as_if_it_had_not() {
    let kafka = Kafka::shared();
    for topic in Topic::ALL {
        let options = options(kafka.servers());
        let log = KafkaLog::open(&options).await.expect("the cluster serves");
        let at = TopicPartition { topic, partition: 0 };
        let written = log.append(at, Bytes::from_static(b"k"), Bytes::from_static(b"v")).await;
        assert_eq!((written, log.all_offsets().await.is_ok()), (Ok(0), true));
        let waits = log.wait_past(at, 1);
        let name = format!("{}.{}", options.topic_prefix, ["events", "control"][topic as usize]);
        kafka.add_partitions(&name, 3).await;
        assert_eq!(alarm(&log).await, ReadError::Changed);
        // From then on nothing is said of what is known either, to nobody.
        assert_eq!(log.read(at, 0, 1).await, Err(ReadError::Changed));
        assert_eq!(log.offsets(at).await, Err(ReadError::Changed));
        let waited = tokio::time::timeout(PATIENCE, waits).await.expect("it is told too");
        assert_eq!(waited, Err(ReadError::Changed));
        let again = KafkaLog::open(&options).await.expect("the cluster serves");
        assert_eq!((again.partitions(topic), again.read(at, 0, 1).await.map(|read| read.len())), (3, Ok(1)));

        kafka.delete_topic(&name).await;
        let anew = KafkaLog::open(&options).await.expect("it is made anew");
        assert_ne!(anew.topic_id(topic), again.topic_id(topic));
        assert_eq!(alarm(&again).await, ReadError::Changed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_a_wrong_password_and_a_wrong_option_are_told_apart() {
    let unreachable = refusal(&options("127.0.0.1:9".to_owned())).await;
    assert!(matches!(unreachable, KafkaOpenError::Unreachable { .. }), "{unreachable}");
    let said = unreachable.to_string();
    assert!(said.contains("`bootstrap.servers` (127.0.0.1:9)"), "{said}");

    let mut sasl = options(Kafka::shared().sasl_servers());
    for (name, value) in [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", KAFKA_USER),
        ("sasl.password", "not-the-password"),
    ] {
        sasl.client.insert(name.to_owned(), value.to_owned());
    }
    let denied = refusal(&sasl).await;
    assert!(matches!(denied, KafkaOpenError::Credential { .. }), "{denied}");
    assert!(!denied.to_string().contains("not-the-password"));
    sasl.client.insert("sasl.password".to_owned(), retrace_tests::KAFKA_PASSWORD.to_owned());
    KafkaLog::open(&sasl).await.expect("the right password");

    let mut odd = options(Kafka::shared().servers());
    odd.client.insert("no.such.option".to_owned(), "secret-value".to_owned());
    let said = refusal(&odd).await.to_string();
    assert!(said.contains("`no.such.option`") && !said.contains("secret-value"), "{said}");
    let mut own = options(Kafka::shared().servers());
    own.client.insert("acks".to_owned(), "1".to_owned());
    assert!(refusal(&own).await.to_string().contains("`acks`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_with_unsafe_settings_are_refused_by_name() {
    let cases = [
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", "86400000"),
        ("retention.bytes", "1000000"),
        ("max.message.bytes", "100000"),
    ];
    let kafka = Kafka::shared();
    for (setting, value) in cases {
        let options = options(kafka.servers());
        kafka.create_topic(&format!("{}.events", options.topic_prefix), 3, &[(setting, value)]).await;
        let said = refusal(&options).await.to_string();
        let named = format!("the topic {}.events has {setting} = {value}, ", options.topic_prefix);
        assert!(said.starts_with(&named), "{said}");
    }
    let forgetful = options(kafka.servers());
    let control = format!("{}.control", forgetful.topic_prefix);
    kafka.create_topic(&control, 3, &[("retention.ms", "604800000")]).await;
    let said = refusal(&forgetful).await.to_string();
    assert!(said.starts_with(&format!("the topic {control} has retention.ms = 604800000, ")), "{said}");
    let alone = options(kafka.servers());
    kafka.create_topic(&format!("{}.events", alone.topic_prefix), 1, &[]).await;
    let said = refusal(&alone).await.to_string();
    assert!(said.contains("has replication factor = 1"), "{said}");
    KafkaLog::open(&KafkaOptions { accept_fewer_replicas: true, ..alone }).await.expect("as was asked for");
}
