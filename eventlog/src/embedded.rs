use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use retrace_proto::Id;
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};

use crate::contract::check_size;
use crate::{Append, AppendError, EventLog, ReadError};

mod partition;

mod queue;

mod writer;

mod segment;

mod row;

mod watermark;

mod folder;

mod open_error;

pub use open_error::OpenError;

use folder::FolderLock;
use partition::Partition;
use queue::Hurry;

/// How large the parts of an [`EmbeddedLog`] may become.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// A segment that holds this many bytes of records is followed by a new one. Truncation frees whole segments.
    pub segment_bytes_max: u64,
    /// What may wait to be written, per topic partition; an append beyond it is [`AppendError::Full`].
    pub queue_bytes_max: usize,
    /// What one commit writes at most, so that the first of a burst does not wait for all of it.
    pub group_bytes_max: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 256 * 1024 * 1024,
            queue_bytes_max: 64 * 1024 * 1024,
            group_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// The log of one process, in a folder of the local disk; each topic has one partition.
///
/// A record is durable once `fsync` of its segment returned. One thread per topic partition writes everything that
/// queued up meanwhile as one group. Segments are redb files, so a crash leaves whole groups. Opening checks the
/// newest segment in full and compares its end with the watermark kept beside it: a log that lost acknowledged records
/// is refused with [`OpenError::MissingRecords`], not served. Older segments are checked as they are read: each row
/// carries a checksum, and a record that is missing or changed is [`ReadError::Damaged`].
///
/// What this cannot see: a disk that acknowledges `fsync` and forgets, when the machine itself goes down, may take
/// the newest records and the watermark with it. The position of the lake is what notices then.
///
/// Dropping it closes it, and blocks until what is queued is written.
pub struct EmbeddedLog {
    partitions: [Arc<Partition>; 2],
    topic_ids: [Id; 2],
    running: Mutex<Option<Running>>,
}

/// What ends with the log. Fields drop in this order: the folder is free once nothing writes to it.
struct Running {
    writers: Vec<JoinHandle<()>>,
    lock: FolderLock,
}

impl EmbeddedLog {
    /// Opens the log in `folder`, or makes a new one there. It blocks while it recovers and checks the newest segments.
    pub fn open(folder: &Path, options: &EmbeddedOptions) -> Result<Self, OpenError> {
        folder::create(folder)?;
        let lock = FolderLock::acquire(folder)?;
        let (events, events_id, events_writer) = open_topic(folder, Topic::Events, options)?;
        let (control, control_id, control_writer) = open_topic(folder, Topic::Control, options)?;
        let writers = vec![
            writer::spawn("log-events-0", events_writer).map_err(OpenError::thread)?,
            writer::spawn("log-control-0", control_writer).map_err(OpenError::thread)?,
        ];
        Ok(Self {
            partitions: [events, control],
            topic_ids: [events_id, control_id],
            running: Mutex::new(Some(Running { writers, lock })),
        })
    }

    fn push(&self, to: TopicPartition, key: Bytes, value: Bytes, hurry: Hurry) -> Append {
        if let Err(error) = check_size(&key, &value) {
            return Append::ready(Err(error));
        }
        match self.partition(to) {
            Ok(partition) => partition.queue.push(key, value, hurry),
            Err(_) => Append::ready(Err(AppendError::Refused)),
        }
    }

    fn partition(&self, of: TopicPartition) -> Result<&Arc<Partition>, ReadError> {
        match of.partition {
            0 => Ok(&self.partitions[of.topic as usize]),
            _ => Err(ReadError::UnknownPartition(of)),
        }
    }

    /// Runs `read` where it may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        of: TopicPartition,
        read: impl FnOnce(&Partition) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let partition = Arc::clone(self.partition(of)?);
        let done = tokio::task::spawn_blocking(move || read(&partition)).await;
        // A panic is redb's answer to a file that changed under it.
        done.unwrap_or(Err(ReadError::Unavailable))
    }
}

fn open_topic(
    folder: &Path,
    topic: Topic,
    options: &EmbeddedOptions,
) -> Result<(Arc<Partition>, Id, writer::Writer), OpenError> {
    let folder = folder.join(topic.name());
    folder::create(&folder)?;
    let id = folder::topic_id(&folder)?;
    let folder = folder.join("0");
    folder::create(&folder)?;
    let (partition, writer) = writer::open(&folder, TopicPartition { topic, partition: 0 }, options)?;
    Ok((partition, id, writer))
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("topic_ids", &self.topic_ids).finish_non_exhaustive()
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self, _topic: Topic) -> u32 {
        1
    }

    fn topic_id(&self, topic: Topic) -> Id {
        self.topic_ids[topic as usize]
    }

    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        self.push(to, key, value, Hurry::Now)
    }

    fn append_unhurried(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        self.push(to, key, value, Hurry::Soon)
    }

    async fn read(
        &self,
        from: TopicPartition,
        start_inclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.blocking(from, move |partition| partition.read(start_inclusive, bytes_max)).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        self.partition(of)?.offsets()
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.partition(of)?.end.wait_past(end_exclusive).await
    }

    /// Frees the folder last.
    fn close(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { writers, lock }) = running.take() else { return };
        self.partitions.iter().for_each(|partition| partition.queue.close());
        for writer in writers {
            // A writer that panicked has closed its topic partition and said so.
            drop(writer.join());
        }
        self.partitions.iter().for_each(|partition| partition.close());
        drop(lock);
    }

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.blocking(of, move |partition| partition.truncate_below(offset)).await
    }
}
