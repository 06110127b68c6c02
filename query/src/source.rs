use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use retrace_eventlog::{EventLog, ReadError};
use retrace_lake::{DataFile, Rows, Snapshot, Table};
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::{Envelope, Hash, Id, Recorded};

use crate::cut::{Cut, Position};
use crate::spill::{Spill, SpillRoom, Spilled};
use crate::{Options, QueryError};

/// How much of the log is read at a time, in bytes.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Exactly the rows below one cut: the files of one snapshot, and the tail of the log that they do not hold.
///
/// Files may hold rows at or above the cut, since ingest may have committed between; [`Source::cut`] cuts them off.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) cut: Cut,
    pub(crate) files: Vec<DataFile>,
    pub(crate) tail: Vec<RecordBatch>,
    /// What of the tail is not in memory.
    pub(crate) spilled: Option<Arc<Spilled>>,
}

impl Source {
    /// No rows: what a plan is tried on.
    pub(crate) fn empty() -> Self {
        Self { cut: Cut::default(), files: Vec::new(), tail: Vec::new(), spilled: None }
    }

    /// Takes a cut of log and table. Everything that is durable when this is called is below it (promise P4).
    ///
    /// 1. Ask every topic partition for its durable end. That is the cut, and it does not change any more.
    /// 2. Load the newest snapshot. It may be newer than step 1.
    /// 3. Read the tail of each topic partition, from the snapshot's position to the end of step 1. No row is in both
    ///    parts, since a position lives in the commit that adds the rows below it; and none is in neither, since the
    ///    log keeps what is at or above the position of the newest commit.
    /// 4. If the log was truncated below what step 3 reads, a newer commit holds the missing part: go back to step 2. If
    ///    there is no newer one, nobody has it.
    pub(crate) async fn take(
        log: &dyn EventLog,
        table: &Table,
        options: &Options,
        room: &SpillRoom,
    ) -> Result<Self, QueryError> {
        let cut = ends(log).await?;
        let mut tried = None;
        for _attempt in 0..options.cut_attempts_max {
            let snapshot = table.snapshot().await?;
            let known = Topic::ALL.map(|topic| log.topic_id(topic));
            if let Some(topic_id) = snapshot.foreign_topic(&known) {
                return Err(QueryError::ForeignLog { topic_id });
            }
            let tail = Tail::new(options.tail_bytes_max, room.clone());
            match read_tails(log, &snapshot, &cut, tail).await {
                Err(QueryError::Log(ReadError::BelowStart { .. })) => {
                    let version = Some(snapshot.version());
                    if tried == version {
                        return Err(QueryError::RecordsLost { location: table.url().to_owned() });
                    }
                    tried = version;
                }
                Ok((tail, spilled)) => {
                    let files = snapshot.files().to_vec();
                    return Ok(Self { cut, files, tail, spilled: spilled.map(Arc::new) });
                }
                Err(error) => return Err(error),
            }
        }
        Err(QueryError::NoCut { attempts: options.cut_attempts_max })
    }

    /// What the tail's rows take in memory, in bytes.
    pub(crate) fn tail_memory_bytes(&self) -> usize {
        self.tail.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// What all of the tail takes, in bytes.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail_memory_bytes() as u64 + self.spilled.as_ref().map_or(0, |spilled| spilled.bytes())
    }
}

/// The durable end of every topic partition, now.
pub(crate) async fn ends(log: &dyn EventLog) -> Result<Cut, QueryError> {
    let all = log.all_offsets().await?;
    Ok(Cut::new(all.into_iter().map(|(at, range)| Position { at, end_exclusive: range.end }).collect()))
}

/// Topic partitions whose tails are read at the same time.
const READS_AT_A_TIME: usize = 4;

async fn read_tails(
    log: &dyn EventLog,
    snapshot: &Snapshot,
    cut: &Cut,
    mut tail: Tail,
) -> Result<(Vec<RecordBatch>, Option<Spilled>), QueryError> {
    let mut tails = Vec::new();
    for &Position { at, end_exclusive } in cut.positions() {
        let position = snapshot.position(log.topic_id(at.topic), at.partition);
        if position > end_exclusive {
            check_not_behind(log, at, position).await?;
        }
        tails.push(Box::pin(pieces(log, at, position, end_exclusive)));
    }
    let mut pieces = stream::iter(tails).flatten_unordered(READS_AT_A_TIME);
    while let Some((at, records)) = pieces.try_next().await? {
        tail = tail.push(at, &records).await?;
    }
    tail.finish().await
}

/// The records of a topic partition from `start` to below `end`, piece by piece in order.
fn pieces(
    log: &dyn EventLog,
    at: TopicPartition,
    start: u64,
    end: u64,
) -> impl Stream<Item = Result<(TopicPartition, Vec<Record>), QueryError>> {
    stream::try_unfold(start, move |next| async move {
        if next >= end {
            return Ok(None);
        }
        let mut records = log.read(at, next, READ_BYTES).await?;
        records.retain(|record| record.offset < end);
        match records.last() {
            Some(last) => {
                let after = last.offset + 1;
                Ok(Some(((at, records), after)))
            }
            // The end was durable when the cut was taken, so there is something below it.
            None => Err(QueryError::Log(ReadError::Unavailable)),
        }
    })
}

/// A table that is ahead of the cut is only newer. One that is ahead of the log means that records are missing.
async fn check_not_behind(log: &dyn EventLog, at: TopicPartition, position: u64) -> Result<(), QueryError> {
    let end = log.offsets(at).await?.end;
    if end < position { Err(QueryError::LogBehindTable { at, end, position }) } else { Ok(()) }
}

/// Events of a topic partition that are remembered to tell duplicates by, as ingest remembers them.
const RECENT_EVENTS_MAX: usize = 65_536;

/// Rows of the log that the table does not hold yet: in memory as long as there is room, then in a file.
///
/// A second record of the same event becomes a duplicate, and another event under a sequence number that is taken a dead
/// letter, as ingest makes them. One whose first record is in the table already is told apart only once ingest has seen it.
struct Tail {
    batches: Vec<RecordBatch>,
    spill: Option<Spill>,
    room: SpillRoom,
    recent: HashMap<TopicPartition, Recent>,
    bytes: usize,
    bytes_max: usize,
}

/// The latest events of a topic partition.
#[derive(Default)]
struct Recent {
    seen: HashMap<(Id, u64), Hash>,
    order: VecDeque<(Id, u64)>,
}

impl Tail {
    fn new(bytes_max: usize, room: SpillRoom) -> Self {
        Self { batches: Vec::new(), spill: None, room, recent: HashMap::new(), bytes: 0, bytes_max }
    }

    async fn push(mut self, at: TopicPartition, records: &[Record]) -> Result<Self, QueryError> {
        let mut rows = Rows::new();
        let recent = self.recent.entry(at).or_default();
        for record in records {
            match Envelope::open(record.value.clone()) {
                Ok(recorded) => recent.push_opened(&mut rows, at, record, recorded),
                Err(_) => rows.push(at, record),
            }
        }
        self.bytes += rows.bytes();
        let batch = rows.finish();
        if self.bytes <= self.bytes_max {
            self.batches.push(batch);
            return Ok(self);
        }
        blocking(move || {
            let mut spill = match self.spill.take() {
                Some(spill) => spill,
                None => Spill::begin(&self.room)?,
            };
            spill.write(&batch)?;
            self.spill = Some(spill);
            Ok(self)
        })
        .await
    }

    async fn finish(self) -> Result<(Vec<RecordBatch>, Option<Spilled>), QueryError> {
        let Self { batches, spill, .. } = self;
        let spilled = blocking(move || spill.map(Spill::finish).transpose()).await?;
        Ok((batches, spilled))
    }
}

/// Writing to a file may take its time.
async fn blocking<T: Send + 'static>(
    write: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    tokio::task::spawn_blocking(write).await.unwrap_or(Err(QueryError::Internal))
}

impl Recent {
    fn push_opened(&mut self, rows: &mut Rows, at: TopicPartition, record: &Record, recorded: Recorded) {
        let place = (recorded.stream_id(), recorded.header().stream_seq);
        match self.seen.get(&place) {
            Some(first) if *first == recorded.hash() => rows.push_duplicate(at, record, recorded),
            Some(_) => rows.push_dead_letter(at, record, "conflicting sequence"),
            None => {
                if self.order.len() == RECENT_EVENTS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.seen.remove(&oldest);
                }
                self.seen.insert(place, recorded.hash());
                self.order.push_back(place);
                rows.push_opened(at, record, recorded);
            }
        }
    }
}
