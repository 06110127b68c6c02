//! The part of a tail that memory has no room for: in a file of this machine that has no name and goes with its last reader,
//! whichever way this process ends. What it holds is masked, like everything that is recorded.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use retrace_lake::schema;

use crate::QueryError;

/// Batches that are read ahead of whoever takes them.
const AHEAD_BATCHES_MAX: usize = 2;

/// Room for spilled tails, which all queries share. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SpillRoom {
    used_bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// What a spilled tail takes of the room, until it is dropped.
#[derive(Debug)]
struct Taken {
    room: SpillRoom,
    bytes: u64,
}

impl SpillRoom {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { used_bytes: Arc::default(), bytes_max }
    }
}

impl Taken {
    /// Takes more, or says that there is no more.
    fn grow(&mut self, bytes: u64) -> Result<(), QueryError> {
        let used = &self.room.used_bytes;
        let grown = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.room.bytes_max)
        });
        match grown {
            Ok(_before) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_full) => Err(QueryError::IngestLags { spill_bytes_max: self.room.bytes_max }),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.used_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A file that is being written. It blocks.
pub(crate) struct Spill {
    file: Arc<File>,
    writer: StreamWriter<BufWriter<At>>,
    taken: Taken,
}

/// What was written, to be read by any number of scans.
#[derive(Debug)]
pub(crate) struct Spilled {
    file: Arc<File>,
    taken: Taken,
}

/// A place in a file that others read and write at places of their own.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Spill {
    /// Begins a file in the system's folder for temporary ones, which TMPDIR names.
    pub(crate) fn begin(room: &SpillRoom) -> Result<Self, QueryError> {
        let file = Arc::new(tempfile::tempfile().map_err(|error| QueryError::Spill(error.into()))?);
        let at = At { file: Arc::clone(&file), offset: 0 };
        let writer = StreamWriter::try_new(BufWriter::new(at), &schema()).map_err(QueryError::Spill)?;
        Ok(Self { file, writer, taken: Taken { room: room.clone(), bytes: 0 } })
    }

    /// Writes a batch of the table's schema, if there is room.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        self.taken.grow(batch.get_array_memory_size() as u64)?;
        self.writer.write(batch).map_err(QueryError::Spill)
    }

    pub(crate) fn finish(mut self) -> Result<Spilled, QueryError> {
        self.writer.finish().map_err(QueryError::Spill)?;
        self.writer.flush().map_err(QueryError::Spill)?;
        Ok(Spilled { file: self.file, taken: self.taken })
    }
}

impl Spilled {
    /// What it takes, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.taken.bytes
    }

    /// Its batches from the first on, with these columns.
    fn read(&self, columns: &[usize]) -> Result<StreamReader<BufReader<At>>, ArrowError> {
        let at = At { file: Arc::clone(&self.file), offset: 0 };
        StreamReader::try_new(BufReader::new(at), Some(columns.to_vec()))
    }
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Write for At {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(buffer, self.offset)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A scan of a spilled tail.
#[derive(Debug)]
pub(crate) struct SpilledScan {
    spilled: Arc<Spilled>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl SpilledScan {
    /// A scan of these columns.
    pub(crate) fn try_new(spilled: Arc<Spilled>, columns: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(schema().project(&columns)?);
        Ok(Self { spilled, columns, schema })
    }
}

impl PartitionStream for SpilledScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), AHEAD_BATCHES_MAX);
        let (spilled, columns, batches) = (Arc::clone(&self.spilled), self.columns.clone(), stream.tx());
        stream.spawn_blocking(move || {
            for batch in spilled.read(&columns)? {
                if batches.blocking_send(batch.map_err(DataFusionError::from)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}

#[cfg(test)]
mod tests {
    use retrace_lake::Rows;
    use retrace_proto::log::{Record, Topic, TopicPartition};

    use super::*;

    fn batch(offset: u64) -> RecordBatch {
        let at = TopicPartition { topic: Topic::Events, partition: 0 };
        let mut rows = Rows::new();
        rows.push(
            at,
            &Record { offset, appended_at_unix_us: 0, key: bytes::Bytes::new(), value: "no event".into() },
        );
        rows.finish()
    }

    #[test]
    fn what_was_spilled_is_read_by_several_at_once_and_gives_its_room_back() {
        let room = SpillRoom::new(1 << 20);
        let mut spill = Spill::begin(&room).unwrap();
        let batches: Vec<_> = (0..3).map(batch).collect();
        batches.iter().for_each(|batch| spill.write(batch).unwrap());
        let spilled = spill.finish().unwrap();
        assert_eq!(room.used_bytes.load(Ordering::Acquire), spilled.bytes());
        let [offset, topic] = ["log_offset", "topic"].map(|name| schema().index_of(name).unwrap());
        let mut one = spilled.read(&[offset, topic]).unwrap();
        let mut other = spilled.read(&[offset, topic]).unwrap();
        for batch in &batches {
            let expected = batch.project(&[offset, topic]).unwrap();
            assert_eq!(one.next().unwrap().unwrap(), expected);
            assert_eq!(other.next().unwrap().unwrap(), expected);
        }
        assert!(one.next().is_none() && other.next().is_none());
        drop(spilled);
        assert_eq!(room.used_bytes.load(Ordering::Acquire), 0);
    }

    #[test]
    fn the_room_is_shared_and_has_an_end() {
        let one = batch(0).get_array_memory_size() as u64;
        let room = SpillRoom::new(2 * one);
        let [mut first, mut second] = [(); 2].map(|()| Spill::begin(&room).unwrap());
        first.write(&batch(0)).unwrap();
        second.write(&batch(0)).unwrap();
        let full = first.write(&batch(1)).unwrap_err();
        assert!(matches!(full, QueryError::IngestLags { spill_bytes_max } if spill_bytes_max == 2 * one));
        drop(second);
        first.write(&batch(1)).unwrap();
    }
}
