use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use retrace_proto::log::TopicPartition;

use super::partition::Partition;
use super::queue::{Group, Queue};
use super::row::Row;
use super::segment::{self, Segment, Tail, WriteError};
use super::watermark::{self, Watermark};
use super::{EmbeddedOptions, OpenError, folder};
use crate::AppendError;

/// The one that writes a topic partition.
#[derive(Debug)]
pub(super) struct Writer {
    partition: Arc<Partition>,
    segment: Arc<Segment>,
    tail: Tail,
    watermark: Watermark,
    options: EmbeddedOptions,
}

/// Opens a topic partition as the last process left it, or makes a new one.
pub(super) fn open(
    folder: &Path,
    of: TopicPartition,
    options: &EmbeddedOptions,
) -> Result<(Arc<Partition>, Writer), OpenError> {
    let acknowledged = watermark::read(folder)?;
    let mut bases = segment::list(folder).map_err(OpenError::io("list", folder))?;
    let newest = bases.pop();
    let tail_expected = acknowledged.unwrap_or(0);
    let (newest, tail) = match newest {
        Some(base) => Segment::open_newest(folder, base)?,
        None if tail_expected > 0 => return Err(missing(folder, 0, tail_expected)),
        None => create_first(folder)?,
    };
    if tail.end < tail_expected {
        return Err(missing(folder, tail.end, tail_expected));
    }
    if acknowledged.is_none() && tail.end > 0 {
        tracing::warn!(topic_partition = %of, end = tail.end, "the log has no watermark: its end is taken as it is");
    }
    let watermark = Watermark::create(folder, tail.end)?;
    let newest = Arc::new(newest);
    let mut segments: Vec<_> =
        bases.into_iter().map(|base| Arc::new(Segment::complete(folder, base))).collect();
    segments.push(Arc::clone(&newest));
    let queue = Queue::new(options.queue_bytes_max);
    let partition = Arc::new(Partition::new(of, folder.to_owned(), queue, tail.end, segments));
    let writer = Writer {
        partition: Arc::clone(&partition),
        segment: newest,
        tail,
        watermark,
        options: options.clone(),
    };
    Ok((partition, writer))
}

fn create_first(folder: &Path) -> Result<(Segment, Tail), OpenError> {
    let tail = Tail { end: 0, bytes: 0, appended_at_unix_us: i64::MIN };
    let segment = Segment::create(folder, tail.end, tail.appended_at_unix_us)
        .map_err(|error| OpenError::redb(folder, error))?;
    Ok((segment, tail))
}

fn missing(folder: &Path, end: u64, watermark: u64) -> OpenError {
    OpenError::MissingRecords { folder: folder.to_owned(), end, watermark }
}

/// Starts the thread. It ends when the queue is closed and written, or when a write fails.
pub(super) fn spawn(name: &str, writer: Writer) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || writer.run())
}

/// Whatever ends the writer, a panic too, nobody waits for it in vain.
struct ClosesPartition(Arc<Partition>);

impl Drop for ClosesPartition {
    fn drop(&mut self) {
        self.0.queue.fail();
        self.0.end.stop();
        if thread::panicking() {
            tracing::error!(topic_partition = %self.0.of, "the log's writer panicked: appends are refused until restart");
        }
    }
}

impl Writer {
    fn run(mut self) {
        let partition = Arc::clone(&self.partition);
        let _closes = ClosesPartition(Arc::clone(&partition));
        while let Some(group) = partition.queue.take_group(self.options.group_bytes_max) {
            if let Err(error) = self.append(group) {
                tracing::error!(
                    topic_partition = %partition.of, %error,
                    "the log could not be written: appends are refused until restart; check the disk and the space left"
                );
                return;
            }
        }
        if let Err(error) = self.watermark.sync() {
            tracing::warn!(topic_partition = %partition.of, %error, "the log's watermark could not be synced");
        }
    }

    /// Makes a group durable and resolves its appends. An error closes the topic partition.
    ///
    /// 1. A full segment is followed by a new one: [`Self::roll`].
    /// 2. The rows are committed, with fsync. A crash before it is over leaves the whole group or nothing of it.
    /// 3. The watermark moves. A crash before it leaves records that nobody was told of.
    /// 4. Readers see the records.
    /// 5. The appends resolve.
    fn append(&mut self, group: Group) -> Result<(), redb::Error> {
        if self.tail.bytes >= self.options.segment_bytes_max
            && let Err(error) = self.roll()
        {
            self.partition.queue.resolve(group, Err(AppendError::Refused));
            return Err(error);
        }
        let first_offset = self.tail.end;
        let (rows, tail) = self.pack(&group);
        if let Err(error) = self.segment.write(&rows) {
            let (outcome, error) = match error {
                WriteError::NotWritten(error) => (AppendError::Refused, error),
                WriteError::Unknown(error) => (AppendError::Unknown, error),
            };
            self.partition.queue.resolve(group, Err(outcome));
            return Err(error);
        }
        self.tail = tail;
        let marked = self.watermark.advance(tail.end);
        self.partition.end.advance(tail.end);
        self.partition.queue.resolve(group, Ok(first_offset));
        Ok(marked?)
    }

    /// The group as rows, and where the segment ends with them.
    fn pack(&self, group: &Group) -> (Vec<Row>, Tail) {
        let mut tail = self.tail;
        tail.appended_at_unix_us = tail.appended_at_unix_us.max(folder::now_unix_us());
        let mut rows = vec![Row::new(tail.end)];
        for pending in &group.records {
            let mut row = rows.last_mut().expect("there is a first row");
            if row.is_full_for(&pending.key, &pending.value) {
                tail.bytes = row.seal(tail.bytes);
                row = rows.push_mut(Row::new(tail.end));
            }
            row.push(tail.appended_at_unix_us, &pending.key, &pending.value);
            tail.end += 1;
        }
        tail.bytes = rows.last_mut().expect("there is a first row").seal(tail.bytes);
        (rows, tail)
    }

    /// Begins the next segment.
    ///
    /// 1. The full one is closed: complete on disk, from now on only read. A crash leaves it as the newest, still full.
    /// 2. The next is made under another name, then renamed. A crash leaves it whole or removed at the next start.
    fn roll(&mut self) -> Result<(), redb::Error> {
        self.segment.complete_now()?;
        let next = Segment::create(&self.partition.folder, self.tail.end, self.tail.appended_at_unix_us)?;
        self.segment = Arc::new(next);
        self.tail.bytes = 0;
        self.partition.add(Arc::clone(&self.segment));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use futures::FutureExt;
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;
    use retrace_proto::log::Topic;

    use super::super::queue::Hurry;
    use super::*;
    use crate::ReadError;

    /// Storage whose `fsync` fails once the test says so, as on a full or broken disk.
    #[derive(Debug, Default)]
    struct Failing {
        memory: InMemoryBackend,
        fails: Arc<AtomicBool>,
    }

    impl StorageBackend for Failing {
        fn len(&self) -> Result<u64, std::io::Error> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> Result<(), std::io::Error> {
            if self.fails.load(Ordering::SeqCst) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.memory.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
            self.memory.write(offset, data)
        }
    }

    fn writer(folder: &Path) -> (Arc<Partition>, Writer) {
        let of = TopicPartition { topic: Topic::Events, partition: 0 };
        // One record per group.
        let options = EmbeddedOptions { group_bytes_max: 1, ..EmbeddedOptions::default() };
        open(folder, of, &options).unwrap()
    }

    fn push(partition: &Partition, count: usize) -> Vec<crate::Append> {
        (0..count)
            .map(|_| partition.queue.push(Bytes::from_static(b"k"), Bytes::from_static(b"v"), Hurry::Now))
            .collect()
    }

    #[test]
    fn a_failed_commit_is_unknown_and_closes_the_topic_partition() {
        let folder = tempfile::tempdir().unwrap();
        let (partition, mut writer) = writer(folder.path());
        let storage = Failing::default();
        let fails = Arc::clone(&storage.fails);
        writer.segment = Arc::new(Segment::over(storage));
        fails.store(true, Ordering::SeqCst);
        let appends = push(&partition, 3);
        writer.run();
        let outcomes: Vec<_> = appends.into_iter().map(|append| append.now_or_never()).collect();
        assert_eq!(
            outcomes,
            [
                Some(Err(AppendError::Unknown)),
                Some(Err(AppendError::Refused)),
                Some(Err(AppendError::Refused))
            ]
        );
        let later = push(&partition, 1).remove(0).now_or_never();
        assert_eq!(later, Some(Err(AppendError::Closed)));
        assert_eq!(partition.end.wait_past(0).now_or_never(), Some(Err(ReadError::Closed)));
        assert_eq!(partition.read(0, 1).unwrap(), []);
    }

    #[test]
    fn a_write_that_never_began_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (partition, writer) = writer(folder.path());
        writer.segment.end().unwrap();
        let appends = push(&partition, 2);
        writer.run();
        let outcomes: Vec<_> = appends.into_iter().map(|append| append.now_or_never()).collect();
        assert_eq!(outcomes, [Some(Err(AppendError::Refused)), Some(Err(AppendError::Refused))]);
    }

    #[test]
    fn a_queue_beyond_its_limit_is_full_and_drains() {
        let folder = tempfile::tempdir().unwrap();
        let of = TopicPartition { topic: Topic::Events, partition: 0 };
        let options = EmbeddedOptions { queue_bytes_max: 1000, ..EmbeddedOptions::default() };
        let (partition, writer) = open(folder.path(), of, &options).unwrap();
        // 130 bytes each, with what waiting costs.
        let mut appends = push(&partition, 8);
        assert_eq!(appends.pop().unwrap().now_or_never(), Some(Err(AppendError::Full)));
        partition.queue.close();
        writer.run();
        let outcomes: Vec<_> = appends.into_iter().map(|append| append.now_or_never()).collect();
        assert_eq!(outcomes, (0..7).map(|offset| Some(Ok(offset))).collect::<Vec<_>>());
    }
}
