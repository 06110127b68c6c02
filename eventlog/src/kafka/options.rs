use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use retrace_proto::log::Topic;

use super::open_error::KafkaOpenError;

/// Where the cluster is and how it is used.
#[derive(Clone)]
pub struct KafkaOptions {
    /// librdkafka's own options by its own names (its CONFIGURATION.md): `bootstrap.servers`, `security.protocol`,
    /// `sasl.mechanism`, `ssl.ca.location` and so on. What the log's promises rest on is not among them and refused:
    /// see [`KafkaOptions::is_own`].
    pub client: BTreeMap<String, String>,
    /// What the topics' names begin with: `retrace` gives `retrace.events` and `retrace.control`.
    pub topic_prefix: String,
    /// Partitions of the topics if they must be made, by topic; topics that are there keep theirs.
    pub partitions: [u32; 2],
    /// Replicas of each topic partition if the topics must be made.
    pub replicas: u32,
    /// Whether topics with fewer than three replicas, or that are written with fewer than two in sync, are taken: a
    /// broker lost is evidence lost then.
    pub accept_fewer_replicas: bool,
    /// What may wait to be acknowledged, per topic partition; an append beyond it is
    /// [`AppendError::Full`](crate::AppendError::Full).
    pub queue_bytes_max: usize,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            client: BTreeMap::new(),
            topic_prefix: "retrace".to_owned(),
            partitions: [16, 4],
            replicas: 3,
            accept_fewer_replicas: false,
            queue_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// Values may be passwords.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("client", &self.client.keys())
            .field("topic_prefix", &self.topic_prefix)
            .finish_non_exhaustive()
    }
}

/// What the library is told for every client: a failed connection is tried again soon, since a session's deadline is
/// ten seconds.
const COMMON: [(&str, &str); 4] = [
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("retry.backoff.max.ms", "500"),
    ("allow.auto.create.topics", "false"),
];

/// What the producer is told.
///
/// Without an end to a message's time the library never reports as failed what it may write all the same, nor does it
/// give up an epoch and with it the order of other topic partitions (librdkafka #4953). Deadlines are the sessions' own,
/// and `queue_bytes_max` bounds what waits, so the library's own bounds are as wide as they go.
const PRODUCER: [(&str, &str); 7] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "5"),
    ("message.timeout.ms", "0"),
    ("linger.ms", "0"),
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2147483647"),
];

/// What the readers are told. They are members of no group: positions are in the lake's commits.
const READER: [(&str, &str); 10] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_uncommitted"),
    ("check.crcs", "true"),
    // A broker answers a connection's requests in order: one that waits for records delays the next read.
    ("fetch.wait.max.ms", "10"),
    ("fetch.message.max.bytes", "4194304"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "50"),
];

/// What a member of the group of ingest is told beside what readers are. Slots go round, so that the first few of them,
/// which alone have work, are not all one member's.
const MEMBER: [(&str, &str); 2] =
    [("partition.assignment.strategy", "roundrobin"), ("group.protocol", "classic")];

/// Other names of what the log decides, and what would undo it.
const OTHER_OWN: [&str; 13] = [
    "request.required.acks",
    "max.in.flight",
    "delivery.timeout.ms",
    "queue.buffering.max.ms",
    "retries",
    "message.send.max.retries",
    "max.partition.fetch.bytes",
    "auto.commit.enable",
    "group.id",
    "group.instance.id",
    "transactional.id",
    "allow.auto.create.topics",
    "enable.gapless.guarantee",
];

impl KafkaOptions {
    /// Whether an option of librdkafka is one that the log decides itself, under any of its names.
    #[must_use]
    pub fn is_own(name: &str) -> bool {
        let set = PRODUCER.iter().chain(&READER).chain(&MEMBER).map(|(name, _)| *name);
        set.chain(OTHER_OWN).any(|own| own == name)
    }

    pub(super) fn topic(&self, topic: Topic) -> String {
        let name = topic.name();
        let bare = name.strip_prefix("retrace.").unwrap_or(name);
        format!("{}.{bare}", self.topic_prefix)
    }

    pub(super) fn producer(&self) -> Result<ClientConfig, KafkaOpenError> {
        let mut config = self.common()?;
        set_defaults(&mut config, &[("compression.type", "lz4")]);
        set(&mut config, &PRODUCER);
        Ok(config)
    }

    pub(super) fn reader(&self) -> Result<ClientConfig, KafkaOpenError> {
        let mut config = self.common()?;
        set(&mut config, &READER);
        // The library wants a name of every consumer; nothing joins the group and nothing is committed to it.
        config.set("group.id", format!("{}.readers", self.topic_prefix));
        Ok(config)
    }

    pub(super) fn member(&self) -> Result<ClientConfig, KafkaOpenError> {
        let mut config = self.common()?;
        set(&mut config, &READER);
        config.set("group.id", format!("{}.ingest", self.topic_prefix));
        set(&mut config, &MEMBER);
        set_defaults(&mut config, &[("session.timeout.ms", "10000"), ("heartbeat.interval.ms", "2000")]);
        Ok(config)
    }

    fn common(&self) -> Result<ClientConfig, KafkaOpenError> {
        if !self.client.contains_key("bootstrap.servers") {
            return Err(KafkaOpenError::NoServers);
        }
        let mut config = ClientConfig::new();
        set_defaults(&mut config, &COMMON);
        for (name, value) in &self.client {
            if Self::is_own(name) {
                return Err(KafkaOpenError::OwnOption { name: name.clone() });
            }
            config.set(name, value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        Ok(config)
    }
}

/// What the user may set otherwise.
fn set_defaults(config: &mut ClientConfig, options: &[(&str, &str)]) {
    for (name, value) in options {
        if config.get(name).is_none() {
            config.set(*name, *value);
        }
    }
}

fn set(config: &mut ClientConfig, options: &[(&str, &str)]) {
    for (name, value) in options {
        config.set(*name, *value);
    }
}
