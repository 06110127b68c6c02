use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;
use retrace_proto::Id;
use retrace_proto::log::{Topic, TopicPartition};

use crate::commit::{add, remove, transaction};
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::input::Input;
use crate::lift::day;
use crate::places::columns;
use crate::positions::{first_day_id, removed_id};
use crate::ranges::read_error;
use crate::rewrite::{RewriteError, check_young, rows};
use crate::rows::RowKind;
use crate::table::{Loaded, Snapshot, Table, Version};
use crate::write::{FileKey, Part, encoding};

/// For how many days a session may write its stream: it goes on as another one after a day, or when the exchange is over that
/// is then under way.
pub const STREAM_DAYS_MAX: i32 = 2;

/// The retention classes, as the column spells them.
const CLASSES: [&str; 3] = ["short", "standard", "long"];

/// What tells of retention itself is never removed.
const ACTS: [&str; 3] = ["legal_hold_set", "legal_hold_lifted", "retention_applied"];

/// Without these nobody can tell whether a session that is held is whole.
const HEADS: &str = "stream_heads";

/// The columns that decide whether a row is kept.
const DECIDING: [&str; 11] = [
    "appended_at",
    "occurred_at",
    "row_kind",
    "event_type",
    "stream_kind",
    "stream_id",
    "session_id",
    "connection_id",
    "principal",
    "on_behalf_of",
    "target",
];

/// Files that go in one version, at most.
const FILES_MAX: usize = 1_000;

/// Bytes of files that are written again for one version; the last may go over it.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Files that are judged at a time.
const JUDGED_AT_ONCE: usize = 8;

/// How often the store may fail at a file before it is left for another day.
const FAILURES_MAX: u32 = 5;

/// How long which events are kept.
///
/// What a session wrote goes by its class and by the day on which its stream began, so that it goes whole; a stream is taken to
/// have begun [`STREAM_DAYS_MAX`] before the log took an event at the earliest, whatever its id says. What processes wrote of
/// themselves, reads among it, and what could not be opened, go by the class that keeps longest and by the later of the days on
/// which they were written and on which the log took them. Where clocks differ, so that one of these days is not right, the later
/// one counts. What tells of retention stays, and so does whatever in the control topic could not be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The first day of which sessions are kept, in days since the Unix epoch, by class. A class that is not there is kept for
    /// good.
    pub first_days_kept: BTreeMap<String, i32>,
    /// What is kept whatever its day.
    pub held: Held,
}

/// What legal holds are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Sessions, by the text of their ids, with those that go on from them on the same connection.
    pub sessions: BTreeSet<String>,
    /// Who acted, or on whose behalf.
    pub principals: BTreeSet<String>,
    /// Targets.
    pub targets: BTreeSet<String>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.principals.is_empty() && self.targets.is_empty()
    }

    fn holds(&self, row: &Facts<'_>) -> bool {
        let is_in = |names: &BTreeSet<String>, name: Option<&str>| name.is_some_and(|it| names.contains(it));
        is_in(&self.sessions, row.session_id)
            || is_in(&self.sessions, row.stream_id)
            || is_in(&self.sessions, row.connection_id)
            || is_in(&self.principals, row.principal)
            || is_in(&self.principals, row.on_behalf_of)
            || is_in(&self.targets, row.target)
    }
}

impl Retention {
    /// The first day of which is kept what processes wrote of themselves; `None` if it is kept for good.
    fn first_day_of_processes(&self) -> Option<i32> {
        let days = CLASSES.map(|class| self.first_days_kept.get(class).copied());
        days.into_iter().collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Whether a file may have rows that are not kept.
    fn concerns(&self, file: &DataFile) -> bool {
        let first = self.first_days_kept.get(&file.retention_class);
        first.is_some_and(|first| file.session_date.saturating_sub(STREAM_DAYS_MAX) < *first)
    }

    /// Until when a row of a class is kept.
    fn lot(&self, row: &Facts<'_>, topic: Topic) -> Lot {
        let tells_of_retention = row.event_type.is_some_and(|it| ACTS.contains(&it));
        if tells_of_retention || (row.is_dead_letter && topic == Topic::Control) {
            return Lot::Kept;
        }
        let may_be_of_a_held_one = row.event_type == Some(HEADS) || row.is_dead_letter;
        if !self.held.is_empty() && (may_be_of_a_held_one || self.held.holds(row)) {
            return Lot::Kept;
        }
        match row.stream_kind {
            Some("session") => row.begun().map_or(Lot::Kept, Lot::OfSession),
            _ => row.written().map_or(Lot::Kept, Lot::OfProcess),
        }
    }
}

/// What becomes of a row.
enum Lot {
    /// It stays, as long as holds are what they are.
    Kept,
    /// It is of a session that began on this day.
    OfSession(i32),
    /// It is of a process, and of this day.
    OfProcess(i32),
}

/// The least days of the rows of a file that may go one day: until these are past nothing of it does.
#[derive(Clone, Copy, Debug, Default)]
struct Least {
    of_sessions: Option<i32>,
    of_processes: Option<i32>,
}

impl Least {
    fn note(least: &mut Option<i32>, day: i32) {
        *least = Some(least.map_or(day, |least| least.min(day)));
    }

    /// Whether something goes, where these are the first days that are kept.
    fn is_due(self, of_sessions: Option<i32>, of_processes: Option<i32>) -> bool {
        let is_due =
            |least: Option<i32>, first: Option<i32>| least.zip(first).is_some_and(|(it, first)| it < first);
        is_due(self.of_sessions, of_sessions) || is_due(self.of_processes, of_processes)
    }
}

/// What of a row decides whether it is kept.
struct Facts<'a> {
    /// `None` if nobody knows.
    appended_day: Option<i32>,
    occurred_day: Option<i32>,
    is_dead_letter: bool,
    event_type: Option<&'a str>,
    stream_kind: Option<&'a str>,
    stream_id: Option<&'a str>,
    session_id: Option<&'a str>,
    connection_id: Option<&'a str>,
    principal: Option<&'a str>,
    on_behalf_of: Option<&'a str>,
    target: Option<&'a str>,
}

impl Facts<'_> {
    /// The day on which its stream began; `None` if nobody knows.
    fn begun(&self) -> Option<i32> {
        let earliest = self.appended_day?.saturating_sub(STREAM_DAYS_MAX);
        let id = self.stream_id.and_then(|text| text.parse::<Id>().ok());
        let unix_us = id.and_then(|id| i64::try_from(id.unix_ms()?).ok()?.checked_mul(1000));
        unix_us.map_or(self.written(), |unix_us| Some(day(unix_us).max(earliest)))
    }

    /// The day on which it was written; `None` if nobody knows.
    fn written(&self) -> Option<i32> {
        Some(self.appended_day?.max(self.occurred_day.unwrap_or(i32::MIN)))
    }
}

/// Files of which rows have expired, and what takes their place.
#[derive(Clone, Debug, Default)]
pub struct Expired {
    removed: Vec<DataFile>,
    added: Vec<DataFile>,
    rows: BTreeMap<TopicPartition, u64>,
    first_days_kept: BTreeMap<String, i32>,
}

impl Expired {
    /// Rows that go.
    #[must_use]
    pub fn rows_removed(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Rows of the same files that stay.
    #[must_use]
    pub fn rows_kept(&self) -> u64 {
        rows(&self.added)
    }

    /// Files that go or are written anew.
    #[must_use]
    pub fn files_removed(&self) -> usize {
        self.removed.len()
    }

    /// The first day of which sessions are kept, in days since the Unix epoch, of each class that loses something.
    #[must_use]
    pub fn first_days_kept(&self) -> &BTreeMap<String, i32> {
        &self.first_days_kept
    }
}

/// Finds what has expired.
#[derive(Debug)]
pub struct Retainer {
    table: Table,
    /// Files of which nothing went when they were looked at.
    settled: HashMap<Path, Least>,
    /// Files of which nobody knows what has expired, and those at which the store failed, with how often.
    unfit: HashSet<Path>,
    failures: HashMap<Path, u32>,
    /// What was held, and the days, when these were found.
    under: Retention,
}

/// What is to be done with a file.
enum Verdict {
    Keep(Least),
    Remove,
    /// Rows that stay, in the order of the file.
    WriteAgain(BooleanArray),
}

impl Retainer {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self {
            table,
            settled: HashMap::new(),
            unfit: HashSet::new(),
            failures: HashMap::new(),
            under: Retention::default(),
        }
    }

    /// How many files there are of which nobody knows what to keep: damaged ones, and those of a later release. They stay.
    #[must_use]
    pub fn unfit(&self) -> u64 {
        self.unfit.len() as u64
    }

    /// Looks for files of a version that have expired rows, and writes what is kept of each into another file; `None` if there
    /// are none. A part of them, if they are many: the next call finds more once these are gone.
    ///
    /// Nothing is removed yet. If it never is, a [`Sweeper`](crate::Sweeper) takes the new files away.
    pub async fn find(
        &mut self,
        of: &Snapshot,
        retention: &Retention,
    ) -> Result<Option<Expired>, RewriteError> {
        self.forget(of, retention);
        let due: Vec<_> = of.files().iter().filter(|file| self.is_due(file, retention)).cloned().collect();
        let table = self.table.clone();
        let under = Arc::new(retention.clone());
        let judged = due.into_iter().map(|file| {
            let (table, under) = (table.clone(), Arc::clone(&under));
            async move { (judge(&table, &file, &under).await, file) }
        });
        let mut judged = stream::iter(judged).buffered(JUDGED_AT_ONCE);
        let mut expired = Expired::default();
        let mut bytes_left = BYTES_MAX;
        while expired.removed.len() < FILES_MAX && bytes_left > 0 {
            let Some((verdict, file)) = judged.next().await else { break };
            match verdict {
                Ok(Verdict::Keep(least)) => {
                    self.settled.insert(file.path, least);
                }
                Ok(Verdict::Remove) => expired.take(file, None, retention),
                Ok(Verdict::WriteAgain(kept)) => match write_again(&table, &file, &kept).await {
                    Ok(added) => {
                        bytes_left = bytes_left.saturating_sub(file.bytes);
                        expired.take(file, Some(added), retention);
                    }
                    Err(RewriteError::Lake(error)) => self.leave(file, error)?,
                    Err(error) => return Err(error),
                },
                Err(error) => self.leave(file, error)?,
            }
        }
        Ok((!expired.removed.is_empty()).then_some(expired))
    }

    /// Forgets what does not count any more.
    fn forget(&mut self, of: &Snapshot, retention: &Retention) {
        if self.under.held != retention.held {
            self.settled.clear();
        }
        if self.under != *retention {
            self.unfit.clear();
            self.failures.clear();
            self.under = retention.clone();
        }
        let there: HashSet<_> = of.files().iter().map(|file| &file.path).collect();
        self.settled.retain(|path, _| there.contains(path));
        self.unfit.retain(|path| there.contains(path));
    }

    /// Whether a file may have rows that go, as far as is known without a look at it.
    fn is_due(&self, file: &DataFile, retention: &Retention) -> bool {
        let of_class = retention.first_days_kept.get(&file.retention_class).copied();
        let may_be = |least: &Least| least.is_due(of_class, retention.first_day_of_processes());
        retention.concerns(file)
            && !self.unfit.contains(&file.path)
            && self.settled.get(&file.path).is_none_or(may_be)
    }

    /// Leaves a file as it is whose content is what fails, or at which the store fails again and again.
    fn leave(&mut self, file: DataFile, error: LakeError) -> Result<(), LakeError> {
        if let LakeError::Store { .. } = &error {
            let failures = self.failures.entry(file.path.clone()).or_default();
            *failures += 1;
            if *failures < FAILURES_MAX {
                return Err(error);
            }
        }
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "what of a data file has expired is not known, and all of it is kept"
        );
        self.unfit.insert(file.path);
        Ok(())
    }
}

async fn judge(table: &Table, file: &DataFile, retention: &Retention) -> Result<Verdict, LakeError> {
    let damaged = |source| read_error(&file.path, source);
    let (Some(_), Some(at)) = (FileKey::of(file), file.topic_partition()) else {
        return Err(damaged(ParquetError::General("its name is not one that retrace gives".to_owned())));
    };
    let of_class = retention.first_days_kept.get(&file.retention_class).copied();
    let of_processes = retention.first_day_of_processes();
    let builder = table.open(file).await?;
    let only = ProjectionMask::columns(builder.parquet_schema(), DECIDING);
    let mut batches = builder.with_projection(only).build().map_err(damaged)?;
    let (mut kept, mut least) = (Vec::new(), Least::default());
    while let Some(batch) = batches.try_next().await.map_err(damaged)? {
        let deciding = Deciding::of(&batch)?;
        for row in 0..batch.num_rows() {
            let (is_kept, least) = match retention.lot(&deciding.row(row), at.topic) {
                Lot::Kept => (true, None),
                Lot::OfSession(day) => {
                    (of_class.is_none_or(|first| day >= first), Some((&mut least.of_sessions, day)))
                }
                Lot::OfProcess(day) => {
                    (of_processes.is_none_or(|first| day >= first), Some((&mut least.of_processes, day)))
                }
            };
            if let Some((least, day)) = least {
                Least::note(least, day);
            }
            kept.push(is_kept);
        }
    }
    if kept.len() as u64 != file.rows {
        return Err(damaged(ParquetError::General(
            "it has not as many rows as the table's log says".to_owned(),
        )));
    }
    Ok(match kept.iter().filter(|kept| **kept).count() {
        0 => Verdict::Remove,
        count if count == kept.len() => Verdict::Keep(least),
        _ => Verdict::WriteAgain(kept.into()),
    })
}

async fn write_again(table: &Table, file: &DataFile, kept: &BooleanArray) -> Result<DataFile, RewriteError> {
    let input = Input::open(table, file).await?;
    if !input.is_known {
        // Columns of a later release would be lost.
        let later = ParquetError::General("it has columns that this release does not know".to_owned());
        return Err(LakeError::Decode { path: file.path.clone(), source: later }.into());
    }
    let mut part = Part::new(input.is_sorted).map_err(LakeError::encode)?;
    let mut batches = input.batches()?;
    let mut row = 0;
    while let Some(batch) = batches.try_next().await? {
        let of_batch = kept.slice(row, batch.num_rows());
        row += batch.num_rows();
        part = encoding(move || {
            let rows =
                filter_record_batch(&batch, &of_batch).map_err(|source| LakeError::Arrow { source })?;
            part.add(&rows).map_err(LakeError::encode)?;
            Ok(part)
        })
        .await?;
    }
    let key = FileKey::of(file).expect("it was asked for when the file was judged");
    let written = part.finish(&*table.store(), key).await?;
    let found = kept.true_count() as u64;
    if written.rows != found {
        return Err(RewriteError::RowsDiffer { found, rewritten: written.rows });
    }
    Ok(written)
}

impl Expired {
    fn take(&mut self, file: DataFile, added: Option<DataFile>, retention: &Retention) {
        let at = file.topic_partition().expect("it was asked for when the file was judged");
        let kept = added.as_ref().map_or(0, |added| added.rows);
        *self.rows.entry(at).or_default() += file.rows - kept;
        if let Some(day) = retention.first_days_kept.get(&file.retention_class) {
            self.first_days_kept.insert(file.retention_class.clone(), *day);
        }
        self.added.extend(added);
        self.removed.push(file);
    }
}

/// The columns that decide, in the table's own types.
struct Deciding {
    appended_at: TimestampMicrosecondArray,
    occurred_at: TimestampMicrosecondArray,
    texts: [StringArray; 9],
}

impl Deciding {
    fn of(batch: &RecordBatch) -> Result<Self, LakeError> {
        let [appended_at, occurred_at, texts @ ..] = columns(batch, DECIDING)?;
        let text = |column: ArrayRef| column.as_string::<i32>().clone();
        let time = |column: ArrayRef| column.as_primitive::<TimestampMicrosecondType>().clone();
        Ok(Self { appended_at: time(appended_at), occurred_at: time(occurred_at), texts: texts.map(text) })
    }

    fn row(&self, row: usize) -> Facts<'_> {
        let texts = self.texts.each_ref().map(|column| column.is_valid(row).then(|| column.value(row)));
        let [row_kind, event_type, stream_kind, stream_id, session_id, connection_id, rest @ ..] = texts;
        let [principal, on_behalf_of, target] = rest;
        // A log that has no time for a record gives the beginning of time.
        let day_of = |times: &TimestampMicrosecondArray| {
            let time = times.is_valid(row).then(|| times.value(row)).filter(|unix_us| *unix_us > 0);
            time.map(day)
        };
        Facts {
            appended_day: day_of(&self.appended_at),
            occurred_day: day_of(&self.occurred_at),
            is_dead_letter: row_kind == Some(RowKind::DeadLetter.as_str()),
            event_type,
            stream_kind,
            stream_id,
            session_id,
            connection_id,
            principal,
            on_behalf_of,
            target,
        }
    }
}

impl Table {
    /// Removes what has expired, in the version after `after`, or not at all: whatever was committed meanwhile might say that it
    /// is to be kept. `topic_id` says which topic of the log has the positions.
    ///
    /// The rows are counted in the same version, so that the table still tells whether rows are missing
    /// ([`Snapshot::miscount`]). Their files stay in the store for whoever reads an older version, until they are swept.
    ///
    /// If nobody knows whether it was made, it may be begun again: what is gone is not found a second time.
    pub async fn expire(
        &self,
        expired: &Expired,
        after: &Snapshot,
        topic_id: impl Fn(Topic) -> Id,
    ) -> Result<Version, RewriteError> {
        check_young(&expired.added)?;
        let loaded = self.load().await?;
        let there: HashSet<_> = after.files().iter().map(|file| &file.path).collect();
        let is_there = expired.removed.iter().all(|file| there.contains(&file.path));
        if loaded.state.version() != after.version() || !is_there {
            return Err(RewriteError::Overtaken);
        }
        let removals = expired.removed.iter().map(|file| Action::Remove(remove(file, true)));
        let additions = expired.added.iter().map(|file| Action::Add(add(file, true)));
        let actions = removals.chain(additions).collect();
        let counted = count(&loaded, expired, topic_id)?;
        let operation = DeltaOperation::Delete { predicate: None };
        let error = match self.put_next(&loaded, actions, counted, operation).await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        tracing::debug!(%error, "expired rows were not removed or nobody knows, reading the table back");
        let now = self.load().await?;
        if self.is_expired(&now, expired).await? {
            return Ok(now.state.version());
        }
        if now.state.version() == after.version() { Err(error.into()) } else { Err(RewriteError::Overtaken) }
    }

    /// Whether the files are gone, and rows with them.
    async fn is_expired(&self, now: &Loaded, expired: &Expired) -> Result<bool, LakeError> {
        let Some(first) = expired.removed.first() else { return Ok(true) };
        if Snapshot::from(now).files().iter().any(|file| file.path == first.path) {
            return Ok(false);
        }
        let removed = self.removed(now).await?;
        Ok(removed.iter().any(|removed| removed.path == first.path && removed.with_rows))
    }
}

/// What the version says of the rows that it removes.
fn count(
    loaded: &Loaded,
    expired: &Expired,
    topic_id: impl Fn(Topic) -> Id,
) -> Result<Vec<Transaction>, LakeError> {
    let positions = &loaded.positions;
    let mut counted = Vec::new();
    for (at, rows) in &expired.rows {
        let topic_id = topic_id(at.topic);
        let removed = positions.removed(topic_id, at.partition).saturating_add(*rows);
        let removed = i64::try_from(removed).map_err(|_| LakeError::DamagedLog)?;
        counted.push(transaction(removed_id(topic_id, at.partition), removed));
    }
    for (class, day) in &expired.first_days_kept {
        let before = positions.first_days_kept().get(class).copied().unwrap_or(i32::MIN);
        counted.push(transaction(first_day_id(class), (*day).max(before).into()));
    }
    Ok(counted)
}
