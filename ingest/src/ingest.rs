use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use retrace_eventlog::{EventLog, ReadError};
use retrace_lake::{
    Advance, CommitError, CompactionOptions, DataFile, DataFileWriter, REMOVED_KEPT, Rows, Snapshot, Table,
    Version,
};
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use retrace_proto::{Envelope, OpenError};
use tokio::sync::watch;

use crate::error::IngestError;
use crate::metrics::IngestMetrics;
use crate::recent::{Fresh, Recent, Standing};
use crate::retain::RetentionOptions;
use crate::status::{PartitionStatus, Status};

/// Bytes asked of the log at once, which is also what a batch holds as rows before they are encoded.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// When a batch is closed, at whichever bound it meets first, and how the table is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a record waits for others before its batch is written.
    pub age_max: Duration,
    /// Records in one batch.
    pub rows_max: usize,
    /// Bytes of records in one batch; the last record may go over it.
    pub bytes_max: usize,
    /// How old a file that nobody names must be to be deleted.
    pub orphan_age_min: Duration,
    /// How long a file that was merged is kept for whoever reads an older version: [`REMOVED_KEPT`], or less. The table's log
    /// does not remember it much longer.
    pub removed_age_min: Duration,
    /// Which files are merged.
    pub compaction: CompactionOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            age_max: Duration::from_secs(5),
            rows_max: 128 * 1024,
            bytes_max: 64 * 1024 * 1024,
            orphan_age_min: Duration::from_secs(24 * 60 * 60),
            removed_age_min: REMOVED_KEPT,
            compaction: CompactionOptions::default(),
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows committed; 0 if the table had everything.
    pub rows: u64,
    /// The version that holds them.
    pub version: Option<Version>,
}

/// The writer of this process's share of a log into a table.
///
/// A second one of the same topic partition may run; the table's positions fence whichever commits later. Where one
/// process has the log, being fenced is the end, since another writes to the table that should not. Where several share
/// it, it happens when shares change: the fenced writer says so, reads the positions again and goes on.
#[derive(Debug)]
pub struct Ingest {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) table: Table,
    pub(crate) options: Options,
    /// The topic partitions to write, as of now.
    pub(crate) share: watch::Receiver<Vec<TopicPartition>>,
    /// The table's next offsets of its share, as this writer knows them. Empty until they were read.
    pub(crate) positions: BTreeMap<TopicPartition, u64>,
    /// What the table has just below these positions.
    recent: BTreeMap<TopicPartition, Recent>,
    /// Below these offsets a record of a later release becomes a dead letter.
    dead_letters_below: BTreeMap<TopicPartition, u64>,
    /// Files whose commit must be tried again before anything else.
    pending: Option<Batch>,
    /// Topic partitions of which the log may let go of what is below the position.
    pub(crate) to_truncate: BTreeSet<TopicPartition>,
    status: watch::Sender<Status>,
    pub(crate) metrics: IngestMetrics,
    /// How long what is kept; for good if nobody said.
    pub(crate) retention: Option<RetentionOptions>,
    /// Attempts that failed since the last one that did not.
    pub(crate) failures: u32,
}

/// What one topic partition may still add to a batch.
#[derive(Clone, Copy, Debug)]
struct Share {
    rows: usize,
    bytes: usize,
}

/// A batch while it is read. `F` is a [`DataFileWriter`] first, then the files it wrote, on their way into the table.
#[derive(Debug)]
struct Batch<F = Vec<DataFile>> {
    files: F,
    next: BTreeMap<TopicPartition, u64>,
    fresh: BTreeMap<TopicPartition, Fresh>,
}

impl Ingest {
    /// Asks for a share. Nothing is read before the first step.
    pub fn new(log: Arc<dyn EventLog>, table: Table, options: Options) -> Result<Self, IngestError> {
        let mut share = log.ingest_share().map_err(|source| IngestError::Share { source })?;
        share.mark_changed();
        Ok(Self {
            log,
            table,
            options,
            share,
            positions: BTreeMap::new(),
            recent: BTreeMap::new(),
            dead_letters_below: BTreeMap::new(),
            pending: None,
            to_truncate: BTreeSet::new(),
            status: watch::Sender::new(Status::default()),
            metrics: IngestMetrics::default(),
            retention: None,
            failures: 0,
        })
    }

    /// Has [`Ingest::run`] remove what has expired, beside the steps.
    #[must_use]
    pub fn with_retention(self, options: RetentionOptions) -> Self {
        Self { retention: Some(options), ..self }
    }

    /// Takes records of a later release as dead letters, below these offsets: somebody has found out that no release wrote them.
    #[must_use]
    pub fn with_dead_letters_below(self, dead_letters_below: BTreeMap<TopicPartition, u64>) -> Self {
        Self { dead_letters_below, ..self }
    }

    /// Follows positions and lag, as of each step.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry, self.status());
    }

    /// Takes one batch from the log into the table. A restarted process begins with the same function.
    ///
    /// The steps, and what a crash after each leaves:
    ///
    /// 1. At first and whenever the share changed, read its positions from the table and the events just below them, by
    ///    which duplicates are told. *Crash:* nothing changed.
    /// 2. If a commit of the step before is open, settle it first. *Crash:* as after 5.
    /// 3. Ask the log for its ends, and stop if it does not reach back to a position, or up to it. *Crash:* nothing
    ///    changed.
    /// 4. Read records from the positions on and write their rows to files, piece by piece, up to a record of a later release: what
    ///    comes before it, and what other topic partitions have, is committed, and then a step ends with [`IngestError::Newer`]. *Crash:* files that nobody names, which
    ///    are swept later.
    /// 5. Commit the files together with the positions after them ([`Table::commit`]). *Crash:* the commit is in the
    ///    table or it is not; step 1 reads which.
    /// 6. Let the log go of what is below the positions of 1 and 5 and not a control record that is still good. By now the
    ///    step has come through, however long this takes. *Crash:* the log keeps more than it must, until this is done again.
    ///
    /// Dropping the future half-way is a crash: make a new `Ingest` then.
    pub async fn step(&mut self) -> Result<Progress, IngestError> {
        let (progress, newer) = self.take_in().await?;
        self.note_outcome(false);
        self.truncate().await;
        newer.map_or(Ok(progress), Err)
    }

    /// All of a step that may fail. What a record of a later release stopped is told beside what came before it.
    async fn take_in(&mut self) -> Result<(Progress, Option<IngestError>), IngestError> {
        if self.share.has_changed().unwrap_or(false) || self.positions.is_empty() {
            self.resume().await?;
        }
        if let Some(open) = self.pending.take() {
            return Ok((self.commit(open).await?, None));
        }
        let ends = self.check_log().await?;
        let (Batch { files, next, fresh }, newer) = self.read_batch(&ends).await?;
        let mut progress = Progress { rows: 0, version: None };
        if !next.is_empty() {
            let files = files.finish().await.map_err(|source| IngestError::Lake { source })?;
            progress = self.commit(Batch { files, next, fresh }).await?;
        }
        Ok((progress, newer))
    }

    /// Reads the positions again before anything else.
    pub(crate) fn forget(&mut self) {
        self.positions.clear();
        self.to_truncate.clear();
        self.pending = None;
    }

    async fn resume(&mut self) -> Result<(), IngestError> {
        let share = self.share.borrow_and_update().clone();
        // What was on its way may be another's now: whoever has it begins where the table stands.
        self.forget();
        let snapshot = self.table.snapshot().await.map_err(|source| IngestError::Lake { source })?;
        let known = Topic::ALL.map(|topic| self.log.topic_id(topic));
        if let Some(topic_id) = snapshot.foreign_topic(&known) {
            return Err(IngestError::ForeignLog { topic_id });
        }
        if let Some(miscount) = snapshot.miscount(|topic| self.log.topic_id(topic)) {
            return Err(IngestError::Miscount(miscount));
        }
        self.recent.retain(|at, _| share.contains(at));
        for at in &share {
            self.recall(&snapshot, *at).await?;
        }
        let positions: BTreeMap<_, _> =
            share.into_iter().map(|at| (at, self.position(&snapshot, at))).collect();
        self.to_truncate = positions.keys().copied().collect();
        self.positions = positions;
        Ok(())
    }

    /// What is remembered of a topic partition is right if it stands where the table does: positions never go back. Else
    /// it is read again, and there is no step before that has succeeded.
    async fn recall(&mut self, snapshot: &Snapshot, at: TopicPartition) -> Result<(), IngestError> {
        let position = self.position(snapshot, at);
        if self.recent.get(&at).is_none_or(|recent| recent.position() != position) {
            let recent = Recent::read(&self.table, snapshot, at, position).await;
            self.recent.insert(at, recent.map_err(|source| IngestError::Lake { source })?);
        }
        Ok(())
    }

    fn position(&self, snapshot: &Snapshot, at: TopicPartition) -> u64 {
        snapshot.position(self.log.topic_id(at.topic), at.partition)
    }

    /// The durable end of each topic partition of the share, as of now.
    pub(crate) async fn log_ends(&self) -> Result<BTreeMap<TopicPartition, u64>, IngestError> {
        Ok(self.log_ranges().await?.into_iter().map(|(at, range)| (at, range.end)).collect())
    }

    async fn log_ranges(&self) -> Result<Vec<(TopicPartition, OffsetRange)>, IngestError> {
        let share: Vec<_> = self.positions.keys().copied().collect();
        self.log.offsets_of(&share).await.map_err(|source| IngestError::Offsets { source })
    }

    /// The ends of the log. A position outside it is an alarm, and never a reason to start over.
    async fn check_log(&self) -> Result<BTreeMap<TopicPartition, u64>, IngestError> {
        let mut partitions = Vec::new();
        for (at, range) in self.log_ranges().await? {
            let position = self.positions[&at];
            if range.end < position {
                return Err(IngestError::LogBehind { at, position, end: range.end });
            }
            if range.start > position {
                return Err(self.lost(at, position, range.start).await);
            }
            partitions.push(PartitionStatus { at, position, log_end: range.end });
        }
        let ends = partitions.iter().map(|partition| (partition.at, partition.log_end)).collect();
        self.status.send_modify(|status| status.partitions = partitions);
        Ok(ends)
    }

    /// The log begins above a position. If the table has moved on, another ingest took the records: that is a fence.
    /// If it has not, nobody has them.
    async fn lost(&self, at: TopicPartition, position: u64, start: u64) -> IngestError {
        let found = match self.table.snapshot().await {
            Ok(snapshot) => self.position(&snapshot, at),
            Err(source) => return IngestError::Lake { source },
        };
        if found == position {
            return IngestError::RecordsLost { at, position, start };
        }
        let (topic_id, partition) = (self.log.topic_id(at.topic), at.partition);
        IngestError::Commit { source: CommitError::Fenced { topic_id, partition, expected: position, found } }
    }

    /// Reads up to these ends of the log and within the bounds, encoding each piece as it comes. Each topic partition gets an
    /// even share of what those before it left, the rare control records first, so that none starves.
    ///
    /// A record of a later release that is the next of its topic partition is an error beside what the others have.
    async fn read_batch(
        &self,
        ends: &BTreeMap<TopicPartition, u64>,
    ) -> Result<(Batch<DataFileWriter>, Option<IngestError>), IngestError> {
        let mut stopped = None;
        let mut files = self.table.data_files();
        let (mut next, mut fresh) = (BTreeMap::new(), BTreeMap::new());
        let (mut rows_left, mut bytes_left) = (self.options.rows_max, self.options.bytes_max);
        let from: Vec<_> = self.positions.iter().map(|(at, position)| (*at, *position)).rev().collect();
        for (index, (at, position)) in from.iter().enumerate() {
            let left = from.len() - index;
            let mut share = Share { rows: rows_left.div_ceil(left), bytes: bytes_left.div_ceil(left) };
            let mut offset = *position;
            // Where there is nothing new nobody is asked: most topic partitions rest at any one time.
            while offset < ends[at] && share.rows > 0 && share.bytes > 0 {
                let records = self.read(*at, *position, offset, share).await?;
                if records.is_empty() {
                    break;
                }
                let (rows, newer) = self.rows(fresh.entry(*at).or_default(), *at, &records);
                if let Some(error) = newer {
                    // What comes before it is committed first.
                    share.rows = rows.len();
                    if offset == *position && rows.is_empty() {
                        stopped.get_or_insert(error);
                        break;
                    }
                }
                offset += rows.len() as u64;
                (rows_left, bytes_left) = (rows_left - rows.len(), bytes_left.saturating_sub(rows.bytes()));
                share.rows -= rows.len();
                share.bytes = share.bytes.saturating_sub(rows.bytes());
                let added = files.add(rows.finish()).await;
                files = added.map_err(|source| IngestError::Lake { source })?;
            }
            if offset > *position {
                next.insert(*at, offset);
            }
        }
        Ok((Batch { files, next, fresh }, stopped))
    }

    /// The records from an offset on, as many as the share and one read allow, without a gap.
    async fn read(
        &self,
        at: TopicPartition,
        position: u64,
        offset: u64,
        share: Share,
    ) -> Result<Vec<Record>, IngestError> {
        let mut records = match self.log.read(at, offset, READ_BYTES_MAX.min(share.bytes)).await {
            Ok(records) => records,
            Err(ReadError::BelowStart { start }) => return Err(self.lost(at, position, start).await),
            Err(source) => return Err(log_error(at, offset, source)),
        };
        records.truncate(share.rows);
        for (expected, record) in (offset..).zip(&records) {
            if record.offset != expected {
                return Err(IngestError::Gap { at, expected, found: record.offset });
            }
        }
        Ok(records)
    }

    /// The rows of the records, up to one of a later release, which is an error.
    fn rows(&self, fresh: &mut Fresh, at: TopicPartition, records: &[Record]) -> (Rows, Option<IngestError>) {
        let recent = &self.recent[&at];
        let kept_below = self.dead_letters_below.get(&at).copied().unwrap_or(0);
        let mut rows = Rows::new();
        for record in records {
            let recorded = match Envelope::open(record.value.clone()) {
                Ok(recorded) => recorded,
                Err(source @ OpenError::NewerSchema { .. }) if record.offset >= kept_below => {
                    return (rows, Some(IngestError::Newer { at, offset: record.offset, source }));
                }
                Err(error) => {
                    self.metrics.dead_letters.inc();
                    rows.push_dead_letter(at, record, &error.to_string());
                    continue;
                }
            };
            match recent.standing(fresh, &recorded, record.offset) {
                Standing::First => rows.push_opened(at, record, recorded),
                Standing::Duplicate => {
                    self.metrics.duplicates.inc();
                    rows.push_duplicate(at, record, recorded);
                }
                Standing::Conflict => {
                    self.metrics.dead_letters.inc();
                    rows.push_dead_letter(at, record, "conflicting sequence");
                }
            }
        }
        (rows, None)
    }

    async fn commit(&mut self, batch: Batch) -> Result<Progress, IngestError> {
        let advance = |(at, to_exclusive): (&TopicPartition, &u64)| Advance {
            topic_id: self.log.topic_id(at.topic),
            partition: at.partition,
            from_inclusive: self.positions[at],
            to_exclusive: *to_exclusive,
        };
        let advances: Vec<_> = batch.next.iter().map(advance).collect();
        let began = Instant::now();
        let version = match self.table.commit(&batch.files, &advances).await {
            Ok(version) => version,
            Err(source) => {
                if matches!(source, CommitError::Retry { .. }) {
                    self.pending = Some(batch);
                }
                return Err(IngestError::Commit { source });
            }
        };
        let rows = batch.files.iter().map(|file| file.rows).sum();
        self.metrics.commit.note(began.elapsed());
        self.metrics.rows.inc_by(rows);
        self.metrics.bytes.inc_by(batch.files.iter().map(|file| file.bytes).sum());
        tracing::debug!(version, rows, files = batch.files.len(), "committed");
        let mut fresh = batch.fresh;
        for (at, position) in batch.next {
            self.positions.insert(at, position);
            let recent = self.recent.get_mut(&at).expect("it was read with the position");
            recent.commit(fresh.remove(&at).unwrap_or_default(), position);
            self.to_truncate.insert(at);
        }
        self.publish();
        Ok(Progress { rows, version: Some(version) })
    }

    /// Notes whether steps come through.
    pub(crate) fn note_outcome(&self, fails: bool) {
        self.status.send_if_modified(|status| {
            let changed = status.failing_since.is_some() != fails;
            if changed {
                status.failing_since = fails.then(Instant::now);
            }
            changed
        });
    }

    fn publish(&self) {
        self.status.send_modify(|status| {
            for partition in &mut status.partitions {
                partition.position = self.positions[&partition.at];
                partition.log_end = partition.log_end.max(partition.position);
            }
        });
    }
}

fn log_error(at: TopicPartition, position: u64, source: ReadError) -> IngestError {
    match source {
        ReadError::AboveEnd { end } => IngestError::LogBehind { at, position, end },
        source => IngestError::Log { at, source },
    }
}
