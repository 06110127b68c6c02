use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use retrace_eventlog::{EventLog, ReadError};
use retrace_lake::{DataFile, Rows, Snapshot, Table};
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::{Envelope, Hash, Id, OpenError, Recorded};

use crate::as_of::AsOf;
use crate::cut::{Cut, Position};
use crate::spill::{Spill, SpillRoom, Spilled};
use crate::{Options, QueryError, Removed};

/// How much of the log is read at a time, in bytes.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Exactly the rows below one cut: the files of one snapshot, and the tail of the log that they do not hold.
///
/// Files may hold rows at or above the cut, since ingest may have committed between; [`Source::cut`] cuts them off.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) cut: Cut,
    /// By which time sessions are judged, in microseconds since the Unix epoch; `None` is now.
    pub(crate) judged_at_unix_us: Option<i64>,
    /// What is in no answer any more.
    pub(crate) removed: Option<Removed>,
    pub(crate) files: Vec<DataFile>,
    pub(crate) tail: Vec<RecordBatch>,
    /// What of the tail is not in memory.
    pub(crate) spilled: Option<Arc<Spilled>>,
}

impl Source {
    /// No rows: what a plan is tried on.
    pub(crate) fn empty() -> Self {
        Self {
            cut: Cut::default(),
            judged_at_unix_us: None,
            removed: None,
            files: Vec::new(),
            tail: Vec::new(),
            spilled: None,
        }
    }

    /// Takes a cut of log and table. Everything that is durable when this is called is below it (promise P4).
    ///
    /// 1. Ask every topic partition for its durable end. That is the cut, and it does not change any more, unless one is asked
    ///    for that lies below.
    /// 2. Load the newest snapshot. It may be newer than step 1.
    /// 3. Read the tail of each topic partition, from the snapshot's position to the cut. No row is in both
    ///    parts, since a position lives in the commit that adds the rows below it; and none is in neither, since the
    ///    log keeps what is at or above the position of the newest commit.
    /// 4. If the log was truncated below what step 3 reads, a newer commit holds the missing part: go back to step 2. If
    ///    there is no newer one, nobody has it.
    pub(crate) async fn take(
        log: &dyn EventLog,
        table: &Table,
        as_of: &AsOf,
        options: &Options,
        room: &SpillRoom,
    ) -> Result<Self, QueryError> {
        let now_unix_us = (options.clock)();
        let ends = ends(log).await?;
        let mut tried = None;
        for _attempt in 0..options.cut_attempts_max {
            let snapshot = table.snapshot().await?;
            let known = Topic::ALL.map(|topic| log.topic_id(topic));
            if let Some(topic_id) = snapshot.foreign_topic(&known) {
                return Err(QueryError::ForeignLog { topic_id });
            }
            if let Some(found) = snapshot.miscount(|topic| log.topic_id(topic)) {
                return Err(QueryError::Miscount { found, location: table.url().to_owned() });
            }
            let tail = Tail::new(options.tail_bytes_max, room.clone());
            let standing = Standing { log, table, snapshot: &snapshot, ends: &ends };
            let read = async {
                let moment = standing.moment(as_of, now_unix_us).await?;
                let read = read_tails(log, &snapshot, &moment.cut, tail).await?;
                Ok((moment, read))
            };
            match read.await {
                Err(QueryError::Log(ReadError::BelowStart { .. })) => {
                    let version = Some(snapshot.version());
                    if tried == version {
                        return Err(QueryError::RecordsLost { location: table.url().to_owned() });
                    }
                    tried = version;
                }
                Ok((Moment { cut, judged_at_unix_us }, (tail, spilled))) => {
                    let (files, removed) = (snapshot.files().to_vec(), Removed::from(&snapshot));
                    let spilled = spilled.map(Arc::new);
                    return Ok(Self { cut, judged_at_unix_us, removed, files, tail, spilled });
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

/// What a tail has in memory, and what beside.
type Read = (Vec<RecordBatch>, Option<Spilled>);

/// How long ago a time must be that is asked for. The clocks of a log's brokers may differ, and what is on its way to one of
/// them may come to stand under an earlier time than what another one has taken.
const AS_OF_AGE_MIN_US: i64 = 10_000_000;

/// Where an answer ends, and what time it is there; `None` is now.
struct Moment {
    cut: Cut,
    judged_at_unix_us: Option<i64>,
}

/// Log and table as they are, of which a part may be asked for.
struct Standing<'a> {
    log: &'a dyn EventLog,
    table: &'a Table,
    snapshot: &'a Snapshot,
    ends: &'a Cut,
}

impl Standing<'_> {
    async fn moment(&self, as_of: &AsOf, now_unix_us: i64) -> Result<Moment, QueryError> {
        match as_of {
            AsOf::Now => Ok(Moment { cut: self.ends.clone(), judged_at_unix_us: None }),
            AsOf::Cut(cut) => {
                let cut = self.check(cut)?;
                let judged_at_unix_us = self.last_moment_of(&cut).await?;
                Ok(Moment { cut, judged_at_unix_us })
            }
            AsOf::Time(unix_us) if *unix_us > now_unix_us - AS_OF_AGE_MIN_US => {
                Err(QueryError::TooSoon { s_min: AS_OF_AGE_MIN_US / 1_000_000 })
            }
            AsOf::Time(unix_us) => {
                Ok(Moment { cut: self.before(*unix_us).await?, judged_at_unix_us: Some(unix_us - 1) })
            }
        }
    }

    /// Refuses a cut that the log has not come to, since what is missing now could be there later, and one that is not whole.
    /// Topic partitions that were added after it was taken had nothing in it.
    fn check(&self, cut: &Cut) -> Result<Cut, QueryError> {
        for &Position { at, end_exclusive } in cut.positions() {
            let end = self.ends.end_exclusive(at);
            if end.is_none_or(|end| end < end_exclusive) {
                return Err(QueryError::CutAhead { at, asked: end_exclusive, end: end.unwrap_or(0) });
            }
        }
        let mut whole = Vec::new();
        for &Position { at, .. } in self.ends.positions() {
            let named = cut.positions().iter().filter(|position| position.at.topic == at.topic);
            let partitions = named.map(|position| position.at.partition + 1).max().unwrap_or(0);
            let end_exclusive = match cut.end_exclusive(at) {
                Some(end) => end,
                None if at.partition >= partitions.max(1) => 0,
                None => return Err(QueryError::CutPartial { at }),
            };
            whole.push(Position { at, end_exclusive });
        }
        Ok(Cut::new(whole))
    }

    /// The latest time at which the log ended there: just before it took the first event above. What was signed later may name
    /// events above the cut.
    async fn last_moment_of(&self, cut: &Cut) -> Result<Option<i64>, QueryError> {
        let mut first: Option<i64> = None;
        for &Position { at, end_exclusive } in
            cut.positions().iter().filter(|it| it.at.topic == Topic::Events)
        {
            if self.ends.end_exclusive(at) == Some(end_exclusive) {
                continue;
            }
            let appended_at = if end_exclusive >= self.position(at) {
                let records = self.log.read(at, end_exclusive, 1).await?;
                records.first().map(|record| record.appended_at_unix_us)
            } else {
                self.table.appended_from(self.snapshot, at, end_exclusive).await?
            };
            first = first.into_iter().chain(appended_at).min();
        }
        Ok(first.map(|first| first - 1))
    }

    fn position(&self, at: TopicPartition) -> u64 {
        self.snapshot.position(self.log.topic_id(at.topic), at.partition)
    }

    /// In each topic partition everything up to the last record that the log took before a time. A clock of the log that
    /// was set back may have records of a later time among these; none that was taken before is left out.
    async fn before(&self, unix_us: i64) -> Result<Cut, QueryError> {
        let reads: Vec<_> = self.ends.positions().iter().map(|end| self.end_before(*end, unix_us)).collect();
        Ok(Cut::new(stream::iter(reads).buffered(READS_AT_A_TIME).try_collect().await?))
    }

    /// The same of one topic partition, of which the log ends where it is said.
    async fn end_before(
        &self,
        Position { at, end_exclusive }: Position,
        unix_us: i64,
    ) -> Result<Position, QueryError> {
        let mut tail = pin!(pieces(self.log, at, self.position(at), end_exclusive));
        let mut last = None;
        while let Some((_, records)) = tail.try_next().await? {
            let before = records.iter().rev().find(|record| record.appended_at_unix_us < unix_us);
            last = before.map(|record| record.offset).or(last);
        }
        let end = match last {
            Some(last) => last + 1,
            None => self.table.end_before(self.snapshot, at, unix_us).await?.min(end_exclusive),
        };
        Ok(Position { at, end_exclusive: end })
    }
}

async fn read_tails(
    log: &dyn EventLog,
    snapshot: &Snapshot,
    cut: &Cut,
    mut tail: Tail,
) -> Result<Read, QueryError> {
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
/// A record of a later release is an error for as long as ingest has not made a row of it.
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
                // An answer without what it says would lack something in silence.
                Err(source @ OpenError::NewerSchema { .. }) => {
                    return Err(QueryError::Newer { at, offset: record.offset, source });
                }
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

    async fn finish(self) -> Result<Read, QueryError> {
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
