use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;

use super::rules::{COLUMNS, Deciding, Least, Lot};
use super::{Expired, Retention};
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::input::{Input, rows_differ};
use crate::ranges::read_error;
use crate::rewrite::RewriteError;
use crate::table::{Snapshot, Table};
use crate::write::{FileKey, Part, encoding};

/// Files that go in one version, at most.
const FILES_MAX: usize = 1_000;

/// Bytes of files that are written again for one version; the last may go over it.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Files that are judged at a time.
const JUDGED_AT_ONCE: usize = 8;

/// How often the store may fail at a file before it is left for another day.
const FAILURES_MAX: u32 = 5;

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

/// Why what is kept of a file was not written into another, by whose fault it is.
enum Failed {
    /// The file could not be read, or its rows cannot be written.
    Input(LakeError),
    /// The store did not take what is kept: no fault of the file.
    Output(LakeError),
}

impl Failed {
    /// What failed while a file was written.
    fn writing(error: LakeError) -> Self {
        if let LakeError::Store { .. } = error { Self::Output(error) } else { Self::Input(error) }
    }
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
    /// A file at which the store fails holds up no others: that is an error only if nothing is found beside it. Once the store
    /// has not taken what is kept of one, as where it is full, nothing more is written, and files of which nothing is kept are
    /// found all the same: they make room.
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
        let (mut takes_files, mut failed) = (true, None);
        while expired.removed.len() < FILES_MAX && bytes_left > 0 {
            let Some((verdict, file)) = judged.next().await else { break };
            match verdict {
                Ok(Verdict::Keep(least)) => {
                    self.settled.insert(file.path, least);
                }
                Ok(Verdict::Remove) => expired.take(file, None, retention),
                Ok(Verdict::WriteAgain(_)) if !takes_files => {}
                Ok(Verdict::WriteAgain(kept)) => match write_again(&table, &file, &kept).await {
                    Ok(added) => {
                        bytes_left = bytes_left.saturating_sub(file.bytes);
                        expired.take(file, Some(added), retention);
                    }
                    Err(Failed::Input(error)) => failed = self.leave(file, error).or(failed),
                    Err(Failed::Output(error)) => {
                        takes_files = false;
                        failed = Some(error);
                    }
                },
                Err(error) => failed = self.leave(file, error).or(failed),
            }
        }
        match failed {
            Some(error) if expired.removed.is_empty() => Err(error.into()),
            _ => Ok((!expired.removed.is_empty()).then_some(expired)),
        }
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
        self.failures.retain(|path, _| there.contains(path));
    }

    /// Whether a file may have rows that go, as far as is known without a look at it.
    fn is_due(&self, file: &DataFile, retention: &Retention) -> bool {
        let of_class = retention.first_days_kept.get(&file.retention_class).copied();
        let may_be = |least: &Least| least.is_due(of_class, retention.first_day_of_processes());
        retention.concerns(file)
            && !self.unfit.contains(&file.path)
            && self.settled.get(&file.path).is_none_or(may_be)
    }

    /// Leaves a file as it is whose content is what fails, or at which the store fails again and again. Gives the error back if
    /// it is looked at another time.
    fn leave(&mut self, file: DataFile, error: LakeError) -> Option<LakeError> {
        if let LakeError::Store { .. } = &error {
            let failures = self.failures.entry(file.path.clone()).or_default();
            *failures += 1;
            if *failures < FAILURES_MAX {
                return Some(error);
            }
        }
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "what of a data file has expired is not known, and all of it is kept"
        );
        self.unfit.insert(file.path);
        None
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
    let only = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
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
        return Err(rows_differ(&file.path));
    }
    Ok(match kept.iter().filter(|kept| **kept).count() {
        0 => Verdict::Remove,
        count if count == kept.len() => Verdict::Keep(least),
        _ => Verdict::WriteAgain(kept.into()),
    })
}

async fn write_again(table: &Table, file: &DataFile, kept: &BooleanArray) -> Result<DataFile, Failed> {
    let part = encoded(table, file, kept).await.map_err(Failed::Input)?;
    let key = FileKey::of(file).expect("it was asked for when the file was judged");
    let written = part.finish(&*table.store(), key).await.map_err(Failed::writing)?;
    if written.rows != kept.true_count() as u64 {
        return Err(Failed::Input(rows_differ(&file.path)));
    }
    Ok(written)
}

/// What is kept of a file, before it is put into the store.
async fn encoded(table: &Table, file: &DataFile, kept: &BooleanArray) -> Result<Part, LakeError> {
    let input = Input::open(table, file).await?;
    if !input.is_known {
        // Columns of a later release would be lost.
        let later = ParquetError::General("it has columns that this release does not know".to_owned());
        return Err(LakeError::Decode { path: file.path.clone(), source: later });
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
    Ok(part)
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
