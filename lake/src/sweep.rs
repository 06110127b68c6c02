use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use retrace_proto::Id;
use retrace_proto::log::Topic;

use crate::error::LakeError;
use crate::schema::PARTITION_COLUMNS;
use crate::table::{RemovedFile, Snapshot, Table};
use crate::write::{FileName, now_unix_ms};

/// Files listed in one round. The day's folder in which they are reached is listed to its end.
const LISTED_FILES_MAX: usize = 100_000;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files looked at.
    pub listed: usize,
    /// Orphans deleted.
    pub deleted: usize,
}

/// Deletes data files that no version names and none can come to name: a writer wrote them and died before its commit.
///
/// A round reads the newest version first and lists files then. It deletes a file only if all of this holds:
///
/// 1. Its name and folders are those that [`DataFileWriter`](crate::DataFileWriter) gives. Anything else, `_delta_log`
///    above all, is somebody else's.
/// 2. The version read does not name it, and no tombstone does that is younger than `removed_age_min`: a file that was part
///    of the table is kept for whoever reads an older version, whether its rows went into other files or expired.
/// 3. The position of its topic partition is above its first offset. A commit of it would have to find the position at or
///    below that offset, and positions never go back. So no commit can name it any more: one made before the
///    version was read is seen in it, and one that comes later is fenced, however long its writer slept with the
///    files in its hands. No clock is asked for this. A file at or above the position may be a commit under way and
///    stays; its records are still in the log, and when they come into the table by other files, it is an orphan by
///    this rule.
/// 4. It is older than `age_min`, by the store's time of writing and this machine's clock. Files below a position that
///    are not orphans can only be of a writer that rewrites what the table has, as compaction does; its commits must
///    take less than this.
///
/// And it deletes nothing at all in a table whose files do not have all of its rows ([`Snapshot::miscount`]): what is needed to
/// mend it may be among them.
///
/// Several may sweep at once: a file that is gone already is as good as deleted.
#[derive(Debug)]
pub struct Sweeper {
    table: Table,
    age_min: Duration,
    removed_age_min: Duration,
    /// The folder that the round before ended with, if it did not come to the last.
    after: Option<Path>,
}

impl Sweeper {
    /// Sweeps files that are at least so old, and of those that were part of the table the ones that have not been for so
    /// long. Nothing is looked at yet.
    #[must_use]
    pub fn new(table: Table, age_min: Duration, removed_age_min: Duration) -> Self {
        Self { table, age_min, removed_age_min, after: None }
    }

    /// Looks at the next so many files; once at the last, the next round begins at the first. `topic_id` says which
    /// topic of the log has the positions.
    pub async fn sweep(&mut self, topic_id: impl Fn(Topic) -> Id) -> Result<Swept, LakeError> {
        let loaded = self.table.load().await?;
        let snapshot = Snapshot::from(&loaded);
        let mut named: HashSet<Path> = snapshot.files().iter().map(|file| file.path.clone()).collect();
        if let Some(miscount) = snapshot.miscount(&topic_id) {
            return Err(miscount.into());
        }
        let removed = self.table.removed(&loaded).await?.into_iter();
        let is_kept =
            |removed: &RemovedFile| removed.at_unix_ms.is_none_or(|at| !is_old(at, self.removed_age_min));
        named.extend(removed.filter(is_kept).map(|removed| removed.path));
        let is_orphan = |file: &ObjectMeta| {
            let Some(of) = FileName::parse(&file.location) else { return false };
            !named.contains(&file.location)
                && snapshot.position(topic_id(of.topic), of.partition) > of.first_offset
                && is_old(file.last_modified.timestamp_millis(), self.age_min)
        };
        let mut swept = Swept::default();
        for folder in self.folders().await? {
            if swept.listed >= LISTED_FILES_MAX {
                return Ok(swept);
            }
            self.sweep_folder(&folder, &is_orphan, &mut swept).await?;
            self.after = Some(folder);
        }
        self.after = None;
        Ok(swept)
    }

    /// The days' folders that are left.
    async fn folders(&self) -> Result<Vec<Path>, LakeError> {
        let failed = |source| LakeError::Store { source };
        let listed = self.table.store().list_with_delimiter(None).await.map_err(failed)?;
        let is_day = |folder: &Path| {
            let name = folder.filename().and_then(|name| name.split_once('='));
            name.is_some_and(|(column, _)| column == PARTITION_COLUMNS[0])
        };
        let is_left = |folder: &Path| self.after.as_ref().is_none_or(|after| folder > after);
        let folders = listed.common_prefixes.into_iter().filter(|folder| is_day(folder) && is_left(folder));
        let mut folders: Vec<_> = folders.collect();
        folders.sort_unstable();
        Ok(folders)
    }

    async fn sweep_folder(
        &self,
        folder: &Path,
        is_orphan: impl Fn(&ObjectMeta) -> bool,
        swept: &mut Swept,
    ) -> Result<(), LakeError> {
        let store = self.table.store();
        let mut files = store.list(Some(folder));
        while let Some(file) = files.next().await {
            let file = file.map_err(|source| LakeError::Store { source })?;
            swept.listed += 1;
            if !is_orphan(&file) {
                continue;
            }
            match store.delete(&file.location).await {
                Ok(()) => swept.deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(LakeError::Store { source }),
            }
        }
        Ok(())
    }
}

fn is_old(since_unix_ms: i64, age_min: Duration) -> bool {
    let age_ms = now_unix_ms().saturating_sub(since_unix_ms);
    u128::try_from(age_ms).is_ok_and(|age_ms| age_ms >= age_min.as_millis())
}
