use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::listener::Listener;
use crate::append::Resolver;
use crate::durable_end::DurableEnd;
use crate::{Append, AppendError};

/// What a waiting record costs beside its key and value, in bytes: it bounds how many small ones may wait.
const PENDING_OVERHEAD_BYTES: usize = 512;

/// Where the records of one topic partition go.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// How far it is known to be durable. The cluster may know more.
    pub(super) known_end: DurableEnd,
    waiting_bytes: AtomicUsize,
}

impl Lane {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { topic, partition, known_end: DurableEnd::new(0), waiting_bytes: AtomicUsize::new(0) }
    }

    /// Takes room in the lane's bounded backlog, or has none.
    fn try_reserve(&self, bytes: usize, bytes_max: usize) -> bool {
        let fits = |waiting: usize| Some(waiting + bytes).filter(|sum| *sum <= bytes_max);
        self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn free(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A record on its way: the library keeps this beside it and gives it back with the outcome.
#[derive(Debug)]
pub(super) struct Pending {
    lane: Arc<Lane>,
    bytes: usize,
    resolver: Resolver,
}

impl Pending {
    fn resolve(self, outcome: Result<u64, AppendError>) {
        self.lane.free(self.bytes);
        if let Ok(offset) = outcome {
            self.lane.known_end.raise(offset + 1);
        }
        self.resolver.resolve(outcome);
    }
}

/// Hears what became of each record.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pub(super) listener: Listener,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, pending: Box<Pending>) {
        let outcome = match delivered {
            Ok(message) => u64::try_from(message.offset()).map_err(|_| AppendError::Unknown),
            Err((error, _)) => {
                tracing::debug!(%error, "a record was not acknowledged");
                Err(failure(error))
            }
        };
        pending.resolve(outcome);
    }
}

/// What an error says of the record. Whatever was sent may be written, unless the broker said that it did not.
fn failure(error: &KafkaError) -> AppendError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => AppendError::Full,
        Some(
            RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => AppendError::Refused,
        _ => AppendError::Unknown,
    }
}

type Connection = ThreadedProducer<Deliveries>;

/// The process's one producer. When the library gives one up for good, the next append has a new one.
pub(super) struct Producer {
    config: ClientConfig,
    connection: RwLock<Arc<Connection>>,
    queue_bytes_max: usize,
    is_open: AtomicBool,
}

impl Producer {
    pub(super) fn new(config: ClientConfig, queue_bytes_max: usize) -> KafkaResult<Self> {
        let connection = RwLock::new(Arc::new(connect(&config)?));
        Ok(Self { config, connection, queue_bytes_max, is_open: AtomicBool::new(true) })
    }

    /// The connection as of now, for questions to the cluster.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues a record. The lock is shared but for the moment in which a broken connection is replaced.
    pub(super) fn append(&self, lane: &Arc<Lane>, key: &Bytes, value: &Bytes) -> Append {
        if !self.is_open.load(Ordering::Acquire) {
            return Append::ready(Err(AppendError::Closed));
        }
        let bytes = key.len() + value.len() + PENDING_OVERHEAD_BYTES;
        if !lane.try_reserve(bytes, self.queue_bytes_max) {
            return Append::ready(Err(AppendError::Full));
        }
        let (resolver, append) = Append::waiting();
        let mut pending = Box::new(Pending { lane: Arc::clone(lane), bytes, resolver });
        for _ in 0..CONNECTIONS_TRIED {
            let connection = self.connection();
            let (error, returned) = match send(&connection, lane, key, value, pending) {
                Ok(()) => return append,
                Err(failed) => failed,
            };
            pending = returned;
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::Fatal) || !self.replace(&connection) {
                tracing::warn!(%error, topic = &*lane.topic, partition = lane.partition, "a record was refused");
                pending.resolve(Err(failure(&error)));
                return append;
            }
        }
        pending.resolve(Err(AppendError::Refused));
        append
    }

    /// Makes a new connection in the place of one that failed for good. What the old one had on its way is resolved as
    /// it is let go, on a thread of its own.
    fn replace(&self, failed: &Arc<Connection>) -> bool {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, failed) {
            return true;
        }
        if let Some((code, reason)) = failed.client().fatal_error() {
            tracing::error!(%code, reason, "the producer failed for good, and a new one takes its place");
        }
        match connect(&self.config) {
            Ok(connection) => {
                let old = std::mem::replace(&mut *current, Arc::new(connection));
                thread::spawn(move || drop(old));
                true
            }
            Err(error) => {
                tracing::error!(%error, "no new producer could be made");
                false
            }
        }
    }

    /// Takes no more, and waits for what is on its way; what is not acknowledged then is given up.
    pub(super) fn close(&self, wait_max: Duration) {
        if self.is_open.swap(false, Ordering::AcqRel) {
            let connection = self.connection();
            if let Err(error) = connection.flush(wait_max) {
                tracing::warn!(%error, "closing gives up records that were not acknowledged");
                connection.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
                drop(connection.flush(wait_max));
            }
        }
    }
}

/// How many connections one append is tried on, each but the first a replacement.
const CONNECTIONS_TRIED: usize = 2;

fn connect(config: &ClientConfig) -> KafkaResult<Connection> {
    config.create_with_context(Deliveries::default())
}

fn send(
    connection: &Connection,
    lane: &Lane,
    key: &Bytes,
    value: &Bytes,
    pending: Box<Pending>,
) -> Result<(), (KafkaError, Box<Pending>)> {
    let record = BaseRecord::with_opaque_to(&lane.topic, pending)
        .partition(lane.partition)
        .key(&key[..])
        .payload(&value[..]);
    connection.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
}

/// Lets others ask the cluster over the same connection.
pub(super) fn client(connection: &Connection) -> &Client<Deliveries> {
    connection.client()
}
