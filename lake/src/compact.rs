use std::collections::{HashMap, HashSet};
use std::time::Duration;

use object_store::path::Path;
use parquet::file::metadata::SortingColumn;

use crate::error::LakeError;
use crate::rewrite::{RewriteError, rows};
use crate::schema::file_schema;
use crate::table::Table;
use crate::write::{FileKey, now_unix_ms};

mod plan;

mod merge;

use merge::{Failed, merge};
use plan::{Merge, plan, tier};

/// The columns that the rows of a compacted file are sorted by: a stream's events stand together, as replay and search by
/// id want them, and streams by the time they began, since their ids begin with it. Rows without a stream come last.
pub(crate) const ORDER: [&str; 3] = ["stream_id", "stream_seq", "log_offset"];

/// [`ORDER`] as a file's metadata states it (Parquet, "SortingColumn").
pub(crate) fn order() -> Vec<SortingColumn> {
    let schema = file_schema();
    let column = |name: &str| {
        let column_idx = schema.index_of(name).expect("a column of the table");
        let column_idx = i32::try_from(column_idx).expect("the table has few columns");
        SortingColumn { column_idx, descending: false, nulls_first: false }
    };
    ORDER.map(column).to_vec()
}

/// Which files become one, and how large it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionOptions {
    /// A file is ended when it has so many bytes. One of half as many or more is left as it is.
    pub file_bytes_max: u64,
    /// So many files of about one size become one: each row is written again once for each power of it that lies between a
    /// fresh file's size and the largest.
    pub fan_in: usize,
    /// After so long without a new file, whatever small files a day has become one.
    pub settled_after: Duration,
    /// Bytes of files that are merged in one step; the last merge may go over it.
    pub step_bytes_max: u64,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            file_bytes_max: 64 * 1024 * 1024,
            fan_in: 8,
            settled_after: Duration::from_secs(60 * 60),
            step_bytes_max: 256 * 1024 * 1024,
        }
    }
}

impl CompactionOptions {
    /// Files of one day, class and topic partition that are left at most when nothing of them is due, those of half
    /// [`CompactionOptions::file_bytes_max`] and more not counted: of each size that is told apart, one fewer than become one.
    #[must_use]
    pub fn small_files_max(&self) -> usize {
        let largest = (self.file_bytes_max / 2).saturating_sub(1);
        let tiers = usize::try_from(tier(largest, self.fan_in)).unwrap_or(usize::MAX).saturating_add(1);
        tiers.saturating_mul(self.fan_in.saturating_sub(1))
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were merged.
    pub merged: usize,
    /// Files that they became.
    pub written: usize,
    /// Their rows.
    pub rows: u64,
    /// Bytes of the new files.
    pub bytes: u64,
    /// Files that were found since the last step that did something, and cannot be merged: damaged ones, those of a later
    /// release, and those at which the store fails.
    pub left_alone: usize,
}

/// Merges small files of the table into large ones, sorted by stream.
///
/// Queries gain twice: fewer files to open, and a session's rows in one place. Rows keep every column, topic partition and
/// offset among them, so a cut means the same after as before; positions are not touched.
#[derive(Debug)]
pub struct Compactor {
    table: Table,
    options: CompactionOptions,
    left_alone: LeftAlone,
}

impl Compactor {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(table: Table, options: CompactionOptions) -> Self {
        Self { table, options, left_alone: LeftAlone::default() }
    }

    /// Merges what is due as of now, up to a step's bound; `None` if nothing is.
    ///
    /// The steps, and what a crash after each leaves:
    ///
    /// 1. Read the newest version, and choose files that are to become one. *Crash:* nothing changed.
    /// 2. Merge them into new files. *Crash:* files that no version names, which a [`Sweeper`](crate::Sweeper) takes away
    ///    once they are old.
    /// 3. Commit the removal of the old and the addition of the new in one version. *Crash:* it is in the table or it is
    ///    not; either way every row is there once, and there is nothing to settle.
    ///
    /// The old files stay in the store for whoever reads an older version, until they are swept.
    ///
    /// Any number of writers may commit meanwhile. Of compactors one is enough; a second does no harm: whoever commits
    /// second has merged in vain ([`RewriteError::Overtaken`]).
    ///
    /// Files that cannot be merged hold up no others: they are left out until this is made anew, and counted; those at which the
    /// store failed again and again only for an hour. Where the store does not take what files would become, as one that is
    /// full, they are tried again for as long as that lasts.
    pub async fn step(&mut self) -> Result<Option<Compacted>, RewriteError> {
        let snapshot = self.table.snapshot().await?;
        let live: HashSet<_> = snapshot.files().iter().map(|file| &file.path).collect();
        let now_unix_ms = now_unix_ms();
        self.left_alone.refresh(&live, now_unix_ms);
        let merges = plan(snapshot.files(), &self.left_alone.files, now_unix_ms, &self.options);
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        let mut bytes_left = self.options.step_bytes_max;
        let mut failed = None;
        for Merge { key, files } in merges {
            if bytes_left == 0 {
                break;
            }
            bytes_left = bytes_left.saturating_sub(files.iter().map(|file| file.bytes).sum());
            let mut unfit = Vec::new();
            let merged = merge(&self.table, &key, &files, self.options.file_bytes_max, &mut unfit).await;
            self.left_alone.add(unfit);
            match merged {
                Ok(merged) => {
                    removed.extend(merged.taken);
                    added.extend(merged.files);
                }
                Err(Failed::Output(error)) => failed = Some(error),
                Err(Failed::Input { path, source }) if self.left_alone.may_try_again(&path, &source) => {
                    failed = Some(source);
                }
                Err(Failed::Input { path, source }) => {
                    tell(&source, &key, 1);
                    self.left_alone.give_up(path, &source, now_unix_ms);
                }
                Err(Failed::Rows(error)) => {
                    tell(&error, &key, files.len());
                    self.left_alone.add(files.into_iter().map(|file| file.path));
                }
            }
        }
        if let (Some(error), true) = (failed, removed.is_empty()) {
            return Err(error.into());
        }
        if removed.is_empty() && self.left_alone.untold == 0 {
            return Ok(None);
        }
        let (merged, written) = (removed.len(), added.len());
        let bytes = added.iter().map(|file| file.bytes).sum();
        if !removed.is_empty() {
            self.table.rewrite(&removed, &added).await?;
        }
        let left_alone = std::mem::take(&mut self.left_alone.untold);
        Ok(Some(Compacted { merged, written, rows: rows(&added), bytes, left_alone }))
    }
}

fn tell(error: &LakeError, key: &FileKey, files: usize) {
    tracing::error!(
        error = error as &dyn std::error::Error,
        topic = key.topic,
        partition = key.topic_partition,
        files,
        "data files cannot be merged and are left as they are"
    );
}

/// How often the store may fail at a file that is to be read before it is left alone.
const FAILURES_MAX: u32 = 5;

/// For how long it is then left alone. After that it is tried once more, and so on.
const GIVEN_UP_MS: i64 = 60 * 60 * 1000;

/// Files that cannot be merged.
#[derive(Debug, Default)]
struct LeftAlone {
    files: HashSet<Path>,
    /// How many of them no step has told of yet.
    untold: usize,
    /// How often the store failed at files that are tried again.
    failures: HashMap<Path, u32>,
    /// When those of the files were given up at which the store failed, in milliseconds since the Unix epoch.
    given_up_at: HashMap<Path, i64>,
}

impl LeftAlone {
    /// Whether a file may be read after all that could not be: the store has failed at it, and not often yet. Of a damaged file
    /// it may not have what the footer says, so that looks the same.
    fn may_try_again(&mut self, path: &Path, error: &LakeError) -> bool {
        let LakeError::Store { .. } = error else { return false };
        let failures = self.failures.entry(path.clone()).or_default();
        *failures += 1;
        *failures < FAILURES_MAX
    }

    /// Leaves files alone for good.
    fn add(&mut self, paths: impl IntoIterator<Item = Path>) {
        for path in paths {
            self.untold += usize::from(self.files.insert(path));
        }
    }

    /// Leaves a file alone that could not be read: for a while if the store failed at it, else for good.
    fn give_up(&mut self, path: Path, error: &LakeError, now_unix_ms: i64) {
        if let LakeError::Store { .. } = error {
            self.given_up_at.insert(path.clone(), now_unix_ms);
        }
        self.add([path]);
    }

    /// Forgets files that are not of the table any more, and lets those be tried again that were given up long ago.
    fn refresh(&mut self, live: &HashSet<&Path>, now_unix_ms: i64) {
        let Self { files, failures, given_up_at, .. } = self;
        let is_over = |at: &i64| now_unix_ms.saturating_sub(*at) >= GIVEN_UP_MS;
        files.retain(|path| live.contains(path) && !given_up_at.get(path).is_some_and(is_over));
        given_up_at.retain(|path, _| files.contains(path));
        failures.retain(|path, _| live.contains(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_failed() -> LakeError {
        let source = object_store::Error::Generic { store: "test", source: "injected".into() };
        LakeError::Store { source }
    }

    #[test]
    fn a_file_is_tried_again_as_long_as_the_store_has_not_failed_at_it_often() {
        let [one, another] = ["one", "another"].map(Path::from);
        let mut left_alone = LeftAlone::default();
        let failed = store_failed();
        for _ in 1..FAILURES_MAX {
            assert!(left_alone.may_try_again(&one, &failed));
        }
        assert!(!left_alone.may_try_again(&one, &failed));
        assert!(left_alone.may_try_again(&another, &failed), "each counts for itself");
        assert!(!left_alone.may_try_again(&another, &LakeError::MissingFile { path: another.clone() }));
    }

    #[test]
    fn a_file_that_was_given_up_is_tried_once_an_hour_if_the_store_failed_at_it_and_never_if_it_is_damaged() {
        let [failing, damaged] = ["failing", "damaged"].map(Path::from);
        let live = HashSet::from([&failing, &damaged]);
        let mut left_alone = LeftAlone::default();
        let missing = LakeError::MissingFile { path: damaged.clone() };
        left_alone.give_up(damaged.clone(), &missing, 0);
        for _ in 1..FAILURES_MAX {
            assert!(left_alone.may_try_again(&failing, &store_failed()));
        }
        for given_up_at in [0, GIVEN_UP_MS, GIVEN_UP_MS * 2] {
            assert!(!left_alone.may_try_again(&failing, &store_failed()));
            left_alone.give_up(failing.clone(), &store_failed(), given_up_at);
            left_alone.refresh(&live, given_up_at + GIVEN_UP_MS - 1);
            assert_eq!(left_alone.files, HashSet::from([failing.clone(), damaged.clone()]));
            left_alone.refresh(&live, given_up_at + GIVEN_UP_MS);
            assert_eq!(left_alone.files, HashSet::from([damaged.clone()]));
        }
        assert_eq!(left_alone.untold, 4, "each time that one is given up");
    }

    #[test]
    fn what_is_remembered_of_a_file_is_forgotten_once_it_is_not_of_the_table() {
        let [gone, live] = ["gone", "live"].map(Path::from);
        let remembered = || [(gone.clone(), 1u32), (live.clone(), 1)];
        let mut left_alone = LeftAlone {
            files: remembered().map(|(path, _)| path).into_iter().collect(),
            failures: remembered().into_iter().collect(),
            given_up_at: remembered().map(|(path, _)| (path, 1)).into_iter().collect(),
            ..LeftAlone::default()
        };
        left_alone.refresh(&HashSet::from([&live]), 1);
        assert_eq!(left_alone.files, HashSet::from([live.clone()]));
        assert_eq!(left_alone.failures, HashMap::from([(live.clone(), 1)]));
        assert_eq!(left_alone.given_up_at, HashMap::from([(live.clone(), 1)]));
    }
}
