//! Where the log is.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use retrace_eventlog::KafkaOptions;
use toml::Spanned;

use super::form;
use super::options::{Options, UnresolvedOption};
use super::place::{ConfigError, Source};

/// Longest beginning of a topic's name: Kafka allows 249 bytes in all.
const TOPIC_PREFIX_BYTES_MAX: usize = 200;

/// Partitions that a topic may be made with.
const PARTITIONS: RangeInclusive<u32> = 1..=1024;

/// Replicas that a topic may be made with.
const REPLICAS: RangeInclusive<u32> = 1..=15;

/// Where events are durable first.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    /// In a folder of this machine, absolute, used by this process alone.
    Embedded(PathBuf),
    /// On a Kafka cluster.
    Kafka(Kafka),
}

/// A Kafka cluster, its secrets not fetched yet.
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    options: KafkaOptions,
    given: Options,
}

impl Kafka {
    /// What the log is opened with. Relative files of secrets count from `dir`.
    pub(crate) fn resolve(&self, dir: &Path) -> Result<KafkaOptions, UnresolvedOption> {
        Ok(KafkaOptions { client: self.given.resolve(dir)?, ..self.options.clone() })
    }
}

pub(super) fn log(it: form::Log, dir: &Path, source: &Source<'_>) -> Result<Log, ConfigError> {
    match (it.dir, it.kafka) {
        (Some(folder), Some(_)) => {
            let problem = "the log is in a folder or on Kafka, not both: remove `dir` or `[log.kafka]`";
            Err(source.error(folder.span(), problem))
        }
        (folder, None) => {
            let folder = folder.map_or_else(|| "data/log".into(), Spanned::into_inner);
            Ok(Log::Embedded(dir.join(folder)))
        }
        (None, Some(it)) => kafka(it, source).map(Log::Kafka),
    }
}

fn kafka(it: Spanned<form::Kafka>, source: &Source<'_>) -> Result<Kafka, ConfigError> {
    let at = it.span();
    let it = it.into_inner();
    let mut options =
        KafkaOptions { accept_fewer_replicas: it.accept_fewer_replicas, ..KafkaOptions::default() };
    if let Some(prefix) = it.topic_prefix {
        let text = prefix.as_ref();
        if text.is_empty() || text.len() > TOPIC_PREFIX_BYTES_MAX || !text.chars().all(is_of_topic_name) {
            let problem = format!(
                "the names of topics begin with 1 to {TOPIC_PREFIX_BYTES_MAX} letters, digits, `_`, `-` and `.`"
            );
            return Err(source.error(prefix.span(), problem));
        }
        options.topic_prefix = prefix.into_inner();
    }
    let [events, control] = options.partitions;
    options.partitions = [
        within(it.events_partitions, events, &PARTITIONS, source)?,
        within(it.control_partitions, control, &PARTITIONS, source)?,
    ];
    options.replicas = within(it.replicas, options.replicas, &REPLICAS, source)?;
    let own = |name: &str| {
        let problem = format!("`{name}` is not for setting, since the log's promises rest on it: remove it");
        KafkaOptions::is_own(name).then_some(problem)
    };
    let given = Options::read(it.options, own, source)?;
    if !given.has("bootstrap.servers") {
        let problem = "the brokers are missing: add \"bootstrap.servers\" = \"kafka-1:9092,kafka-2:9092\" under \
                       [log.kafka.options]";
        return Err(source.error(at, problem));
    }
    Ok(Kafka { options, given })
}

fn within(
    given: Option<Spanned<u32>>,
    default: u32,
    allowed: &RangeInclusive<u32>,
    source: &Source<'_>,
) -> Result<u32, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    if allowed.contains(given.as_ref()) {
        return Ok(given.into_inner());
    }
    let problem = format!("{} is not allowed here: {} to {}", given.as_ref(), allowed.start(), allowed.end());
    Err(source.error(given.span(), problem))
}

fn is_of_topic_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}
