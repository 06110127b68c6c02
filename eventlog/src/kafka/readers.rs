use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use retrace_proto::log::{OffsetRange, Record};

use super::listener::{Listener, is_denied};
use super::producer::Lane;
use crate::ReadError;

/// Readers that wait to be used again, each with its connections to the brokers.
const IDLE_READERS_MAX: usize = 4;

/// How long the brokers may take to send a record that they have.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Reads from any offset. A reader that was left where the next read begins goes on there; what it fetched ahead is not
/// fetched again.
pub(super) struct Readers {
    config: ClientConfig,
    idle: Mutex<Vec<Reader>>,
}

struct Reader {
    consumer: BaseConsumer<Listener>,
    /// Where it stands.
    place: Option<Place>,
    /// A record that the library gave out and that did not fit any more. It is the one where the reader stands.
    ahead: Option<Record>,
}

/// Why a read gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The log does not hold that offset, whatever was known of it.
    OutOfRange,
    /// Anything else.
    Error(ReadError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    topic: String,
    partition: i32,
    next: u64,
}

impl Readers {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { config, idle: Mutex::new(Vec::new()) }
    }

    /// Records from the start of the range on: at least one, as many as fit in `bytes_max`, none beyond the range, which
    /// must not be empty. It blocks.
    pub(super) fn read(
        &self,
        lane: &Lane,
        range: OffsetRange,
        bytes_max: usize,
    ) -> Result<Vec<Record>, Failure> {
        let place = Place { topic: lane.topic.to_string(), partition: lane.partition, next: range.start };
        let mut reader = self.take(&place)?;
        let records = reader.read(place, range.end, bytes_max)?;
        // A reader that failed is not used again.
        self.put_back(reader);
        Ok(records)
    }

    fn take(&self, place: &Place) -> Result<Reader, Failure> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |reader: &Reader| reader.place.as_ref() == Some(place);
        if let Some(index) = idle.iter().position(fits).or_else(|| idle.len().checked_sub(1)) {
            return Ok(idle.remove(index));
        }
        drop(idle);
        let consumer = self.config.create_with_context(Listener::default()).map_err(unavailable)?;
        Ok(Reader { consumer, place: None, ahead: None })
    }

    /// Those used last are kept: they come first.
    fn put_back(&self, reader: Reader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.insert(0, reader);
        let kept = idle.len().min(IDLE_READERS_MAX);
        let surplus = idle.split_off(kept);
        // Closing its connections takes a while.
        drop(idle);
        drop(surplus);
    }
}

impl Reader {
    fn read(&mut self, place: Place, end: u64, bytes_max: usize) -> Result<Vec<Record>, Failure> {
        if self.place.as_ref() != Some(&place) {
            self.go_to(&place)?;
        }
        let deadline = Instant::now() + FETCH_WAIT_MAX;
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut next = place.next;
        while next < end {
            let record = match self.ahead.take() {
                Some(record) => record,
                None => match self.record(&place, next, deadline)? {
                    Some(record) => record,
                    None => break,
                },
            };
            bytes += record.key.len() + record.value.len();
            if bytes > bytes_max && !records.is_empty() {
                self.ahead = Some(record);
                break;
            }
            records.push(record);
            next += 1;
        }
        if records.is_empty() {
            return Err(Failure::Error(ReadError::Unavailable));
        }
        self.place = Some(Place { next, ..place });
        if next == end {
            // Nothing more is known to be there: a fetch that waits for it would keep the next read waiting.
            self.rest()?;
        }
        Ok(records)
    }

    fn rest(&mut self) -> Result<(), Failure> {
        (self.place, self.ahead) = (None, None);
        self.consumer.unassign().map_err(unavailable)
    }

    fn go_to(&mut self, place: &Place) -> Result<(), Failure> {
        (self.place, self.ahead) = (None, None);
        let mut assigned = TopicPartitionList::new();
        let offset = i64::try_from(place.next).map_err(|_| Failure::OutOfRange)?;
        assigned
            .add_partition_offset(&place.topic, place.partition, Offset::Offset(offset))
            .map_err(unavailable)?;
        self.consumer.assign(&assigned).map_err(unavailable)
    }

    /// The record of an offset; none if it does not come in time.
    fn record(&self, place: &Place, offset: u64, deadline: Instant) -> Result<Option<Record>, Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                // The library drops what it fetched for another place; its word is not taken for evidence.
                Some(Ok(message))
                    if message.partition() != place.partition || message.topic() != place.topic => {}
                Some(Ok(message)) => match u64::try_from(message.offset()) {
                    Ok(found) if found == offset => return Ok(Some(taken(offset, &message))),
                    // Of the place before, fetched before the reader was sent here.
                    Ok(found) if found < offset => {}
                    _ => return Err(Failure::Error(ReadError::Damaged { offset })),
                },
                Some(Err(error)) if is_out_of_range(&error) => return Err(Failure::OutOfRange),
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_denied) => {
                    tracing::warn!(%error, "the brokers do not let this process read");
                    return Err(Failure::Error(ReadError::Unavailable));
                }
                Some(Err(error)) => tracing::debug!(%error, "reading goes on"),
                None if left.is_zero() => return Ok(None),
                None => {}
            }
        }
    }
}

fn taken(offset: u64, message: &BorrowedMessage<'_>) -> Record {
    let bytes = |part: Option<&[u8]>| Bytes::copy_from_slice(part.unwrap_or_default());
    let appended_at_unix_us = message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000);
    Record { offset, appended_at_unix_us, key: bytes(message.key()), value: bytes(message.payload()) }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}

fn unavailable(error: KafkaError) -> Failure {
    tracing::warn!(%error, "a reader of the log failed");
    Failure::Error(ReadError::Unavailable)
}
