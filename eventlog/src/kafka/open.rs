//! The questions that opening asks the cluster.

use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use retrace_kafka_admin::{AdminError, TopicShape, topic_shapes};
use retrace_proto::log::Topic;
use tokio::time::sleep;

use super::listener::Listener;
use super::open_error::KafkaOpenError;
use super::options::KafkaOptions;
use super::producer::{self, Producer};
use super::topics::{self, Found};

/// How long opening waits for the brokers.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long one attempt to reach a broker takes.
const REACH_PERIOD: Duration = Duration::from_secs(1);

/// Waits until some broker answers. A credential that is refused is not tried again; whatever else fails may come up.
pub(super) async fn reach(producer: Producer, servers: String) -> Result<Producer, KafkaOpenError> {
    let asking = tokio::task::spawn_blocking(move || {
        let connection = producer.connection();
        let client = producer::client(&connection);
        let started = Instant::now();
        loop {
            let Err(error) = client.fetch_metadata(None, REACH_PERIOD) else { return Ok(producer) };
            let last = client.context().listener.last();
            let is_refused = matches!(
                last,
                Some((RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed, _))
            );
            if is_refused {
                return Err(KafkaOpenError::Credential { servers });
            }
            if started.elapsed() > OPEN_WAIT_MAX {
                let reason = last.map_or_else(|| error.to_string(), |(_, reason)| reason);
                return Err(KafkaOpenError::Unreachable {
                    servers,
                    seconds: OPEN_WAIT_MAX.as_secs(),
                    reason,
                });
            }
        }
    });
    asking.await.unwrap_or_else(|_| Err(KafkaOpenError::Other { reason: "the library panicked".to_owned() }))
}

/// The topic as it is, or as it was made.
pub(super) async fn find(
    producer: &Producer,
    admin: &AdminClient<Listener>,
    options: &KafkaOptions,
    topic: Topic,
) -> Result<Found, KafkaOpenError> {
    let name = options.topic(topic);
    let started = Instant::now();
    let mut was_made = false;
    let replicas = loop {
        let (connection, asked) = (producer.connection(), name.clone());
        let asking = move || topics::replicas(producer::client(&connection), &asked, OPEN_WAIT_MAX);
        match tokio::task::spawn_blocking(asking).await {
            Ok(Ok(Some(replicas))) => break replicas,
            Ok(Ok(None)) if !was_made => {
                topics::create(admin, options, topic, OPEN_WAIT_MAX).await?;
                was_made = true;
            }
            // The brokers learn of a new topic one after the other.
            Ok(Ok(None)) if started.elapsed() < OPEN_WAIT_MAX => sleep(topics::LOOK_PERIOD).await,
            Ok(Ok(None)) => {
                let reason = format!("the topic {name} was made and yet is not there");
                return Err(KafkaOpenError::Other { reason });
            }
            Ok(Err(error)) => return Err(library(error)),
            Err(_) => return Err(KafkaOpenError::Other { reason: "the library panicked".to_owned() }),
        }
    };
    topics::check(admin, options, topic, replicas, OPEN_WAIT_MAX).await?;
    let shape = shape(producer, name.clone()).await?;
    Ok(Found { name: name.into(), shape })
}

/// The topic's id and partitions. A broker that has not heard of a new topic yet does not know it.
async fn shape(producer: &Producer, name: String) -> Result<TopicShape, KafkaOpenError> {
    let other = |reason: String| KafkaOpenError::Other { reason };
    let started = Instant::now();
    loop {
        let (connection, asked) = (producer.connection(), name.clone());
        let asking = move || topic_shapes(producer::client(&connection), &[&asked], OPEN_WAIT_MAX);
        let answer = tokio::task::spawn_blocking(asking).await;
        match answer.map_err(|_| other("the library panicked".to_owned()))? {
            Ok(shapes) => {
                let shape = shapes.first().copied();
                return shape.ok_or_else(|| other("the brokers gave no topic id".to_owned()));
            }
            Err(AdminError::Kafka(
                RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition,
            )) if started.elapsed() < OPEN_WAIT_MAX => sleep(topics::LOOK_PERIOD).await,
            Err(error) => return Err(other(error.to_string())),
        }
    }
}

/// What the library says of its options, without their values.
pub(super) fn library(error: KafkaError) -> KafkaOpenError {
    match error {
        KafkaError::ClientConfig(_, reason, name, _) => KafkaOpenError::Option { name, reason },
        error => KafkaOpenError::Other { reason: error.to_string() },
    }
}
