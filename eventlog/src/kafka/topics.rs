use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use retrace_kafka_admin::TopicShape;
use retrace_proto::Id;
use retrace_proto::log::Topic;

use super::listener::Listener;
use super::open_error::KafkaOpenError;
use super::options::KafkaOptions;
use tokio::time::sleep;

/// Replicas below which one broker lost may be evidence lost.
const REPLICAS_MIN: usize = 3;
/// Replicas in sync below which an acknowledgement says too little.
const IN_SYNC_MIN: u32 = 2;
/// The least that a record must be kept, should ingest stand still: seven days.
const RETENTION_MS_MIN: i64 = 7 * 24 * 60 * 60 * 1000;
/// The same of a control record: as long as it is good for, and a day more.
const CONTROL_RETENTION_MS_MIN: i64 = 31 * 24 * 60 * 60 * 1000;
/// A batch of one record of the largest size, with what Kafka adds.
const MESSAGE_BYTES_MIN: u64 = crate::VALUE_BYTES_MAX as u64 + 16 * 1024;

/// How often brokers are asked about a topic that they have not heard of yet.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// A topic as the cluster has it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) shape: TopicShape,
}

impl Found {
    pub(super) fn id(&self) -> Id {
        Id::from_slice(&self.shape.id).expect("it has 16 bytes")
    }
}

/// Makes a topic with safe settings, unless it is there.
pub(super) async fn create(
    admin: &AdminClient<Listener>,
    options: &KafkaOptions,
    topic: Topic,
    timeout: Duration,
) -> Result<(), KafkaOpenError> {
    let name = options.topic(topic);
    let partitions = i32::try_from(options.partitions[topic as usize]).unwrap_or(i32::MAX);
    let replicas = i32::try_from(options.replicas).unwrap_or(i32::MAX);
    let in_sync = options.replicas.saturating_sub(1).clamp(1, IN_SYNC_MIN).to_string();
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(replicas))
        .set("min.insync.replicas", &in_sync)
        .set("unclean.leader.election.enable", "false")
        .set("cleanup.policy", "delete")
        .set("message.timestamp.type", "LogAppendTime")
        // Ingest lets go of what the lake has; nothing else may.
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1");
    let admin_options = AdminOptions::new().operation_timeout(Some(timeout)).request_timeout(Some(timeout));
    let act = || format!("create the topic {name}");
    let made = admin.create_topics([&new], &admin_options).await.map_err(|error| refused(act(), &error))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)) | Ok(_)) => Ok(()),
        Some(Err((_, code))) => Err(KafkaOpenError::Refused { act: act(), code }),
        None => Err(KafkaOpenError::Other { reason: format!("no answer to the request to {}", act()) }),
    }
}

/// How many replicas that partition of the topic has that has fewest. `None` if it is not there.
pub(super) fn replicas<C: ClientContext>(
    client: &Client<C>,
    name: &str,
    timeout: Duration,
) -> Result<Option<usize>, KafkaError> {
    // Of all topics, since asking for one by name can make it, with whatever settings the brokers have as defaults.
    let metadata = client.fetch_metadata(None, timeout)?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
    if topic.error().is_some() || topic.partitions().is_empty() {
        return Ok(None);
    }
    Ok(topic.partitions().iter().map(|partition| partition.replicas().len()).min())
}

/// Refuses a topic on which the log's promises would not hold, naming the setting.
pub(super) async fn check(
    admin: &AdminClient<Listener>,
    options: &KafkaOptions,
    topic: Topic,
    replicas: usize,
    timeout: Duration,
) -> Result<(), KafkaOpenError> {
    let name = options.topic(topic);
    let unsafe_topic = |setting, found: String, wanted| KafkaOpenError::UnsafeTopic {
        topic: name.clone(),
        setting,
        found,
        wanted,
    };
    if replicas < REPLICAS_MIN && !options.accept_fewer_replicas {
        let wanted =
            "three are needed to lose one broker and go on; `accept_fewer_replicas = true` takes it as it is";
        return Err(unsafe_topic("replication factor", replicas.to_string(), wanted));
    }
    let settings = settings(admin, &name, timeout).await?;
    for rule in &RULES {
        let found = settings.get(rule.setting).cloned().unwrap_or_default();
        if rule.setting == "min.insync.replicas" && options.accept_fewer_replicas {
            continue;
        }
        if !(rule.holds)(&found) {
            return Err(unsafe_topic(rule.setting, found, rule.wanted));
        }
    }
    let retention = settings.get("retention.ms").cloned().unwrap_or_default();
    if topic == Topic::Control && !is_kept(&retention, CONTROL_RETENTION_MS_MIN) {
        let wanted = "it must be -1, or 2678400000 (31 days) or more: orders are good for 30 days";
        return Err(unsafe_topic("retention.ms", retention, wanted));
    }
    Ok(())
}

/// Whether a retention keeps records for so long.
fn is_kept(retention_ms: &str, ms_min: i64) -> bool {
    retention_ms.parse().is_ok_and(|found: i64| found == -1 || found >= ms_min)
}

struct Rule {
    setting: &'static str,
    holds: fn(&str) -> bool,
    wanted: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        setting: "min.insync.replicas",
        holds: |found| found.parse().is_ok_and(|found: u32| found >= IN_SYNC_MIN),
        wanted: "at least 2 is needed: an acknowledged record must not be on one broker alone",
    },
    Rule {
        setting: "unclean.leader.election.enable",
        holds: |found| found == "false",
        wanted: "it must be false: a replica that lags would become leader and drop acknowledged records",
    },
    Rule {
        setting: "cleanup.policy",
        holds: |found| found == "delete",
        wanted: "it must be delete: compaction drops records",
    },
    Rule {
        setting: "message.timestamp.type",
        holds: |found| found == "LogAppendTime",
        wanted: "it must be LogAppendTime: the time of a record is the broker's, not a client's",
    },
    Rule {
        setting: "retention.ms",
        holds: |found| is_kept(found, RETENTION_MS_MIN),
        wanted: "it must be -1, or 604800000 (seven days) or more: records go once the lake has them, not before",
    },
    Rule {
        setting: "retention.bytes",
        holds: |found| found == "-1",
        wanted: "it must be -1: records go once the lake has them, not before",
    },
    Rule {
        setting: "max.message.bytes",
        holds: |found| found.parse().is_ok_and(|found: u64| found >= MESSAGE_BYTES_MIN),
        wanted: "it must be 278528 or more: an event has up to 256 KiB",
    },
];

/// The topic's settings. A broker that has not heard of a new topic yet describes it without any.
async fn settings(
    admin: &AdminClient<Listener>,
    name: &str,
    timeout: Duration,
) -> Result<HashMap<String, String>, KafkaOpenError> {
    let act = || format!("describe the topic {name}");
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let resource = [ResourceSpecifier::Topic(name)];
    let started = Instant::now();
    loop {
        let described =
            admin.describe_configs(&resource, &options).await.map_err(|error| refused(act(), &error))?;
        let outcome = described.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition));
        let code = match outcome {
            Ok(resource) if !resource.entries.is_empty() => {
                let entries = resource.entries.into_iter();
                return Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect());
            }
            Ok(_) | Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                RDKafkaErrorCode::UnknownTopicOrPartition
            }
            Err(code) => return Err(KafkaOpenError::Refused { act: act(), code }),
        };
        if started.elapsed() > timeout {
            return Err(KafkaOpenError::Refused { act: act(), code });
        }
        sleep(LOOK_PERIOD).await;
    }
}

fn refused(act: String, error: &KafkaError) -> KafkaOpenError {
    match error.rdkafka_error_code() {
        Some(code) => KafkaOpenError::Refused { act, code },
        None => KafkaOpenError::Other { reason: error.to_string() },
    }
}
