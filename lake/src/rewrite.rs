//! Versions that take files out of the table and put others in their place.

use std::collections::HashSet;
use std::time::Duration;

use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::DeltaOperation;

use crate::commit::{add, remove, transaction};
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::positions::REWRITES;
use crate::table::{Loaded, Snapshot, Table, Version};
use crate::write::now_unix_ms;

/// Why files were not replaced by others.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// One of them is not of the table any more, or another rewrite came first. Begin again with the newest version.
    #[error("another process rewrites the table's files, and was first")]
    Overtaken,
    /// The files would not hold as many rows as those that they replace. Nothing was changed.
    #[error(
        "{rewritten} rows would take the place of {found}: nothing was changed; keep the files and report this"
    )]
    RowsDiffer {
        /// In the files that are there.
        found: u64,
        /// In those that were to replace them.
        rewritten: u64,
    },
    /// What takes their place was written so long ago that a sweeper may have taken it for an orphan, as where the machine
    /// slept. Begin again with the newest version.
    #[error("what was to take the place of data files was written too long ago")]
    Late,
    /// The table could not be read, or nobody knows whether the commit was made. Either way every row is there once: begin
    /// again with the newest version.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// Attempts at one commit: whenever another writer's version came first, or its own outcome was not known.
const ATTEMPTS_MAX: u32 = 16;

/// How old a file may be that takes the place of others. It is nobody's until the version is made, and a
/// [`Sweeper`](crate::Sweeper) deletes what has been nobody's for a day.
const WRITTEN_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// Refuses files that were written long ago.
pub(crate) fn check_young(added: &[DataFile]) -> Result<(), RewriteError> {
    let now_unix_ms = now_unix_ms();
    let is_old = |file: &DataFile| {
        let age_ms = now_unix_ms.saturating_sub(file.written_at_unix_ms);
        u128::try_from(age_ms).is_ok_and(|age_ms| age_ms > WRITTEN_AGE_MAX.as_millis())
    };
    if added.iter().any(is_old) { Err(RewriteError::Late) } else { Ok(()) }
}

impl Table {
    /// Replaces files by others that hold the same rows, all or nothing.
    ///
    /// That the files are of the table is looked up in a version, and the commit is the next one or none: the library would let
    /// it come after others that took the same files out, if their rows went into other files. So whoever else rewrites
    /// files, by whatever means, no row is doubled. Each such commit also counts up one app transaction.
    pub(crate) async fn rewrite(
        &self,
        removed: &[DataFile],
        added: &[DataFile],
    ) -> Result<Version, RewriteError> {
        if rows(removed) != rows(added) {
            return Err(RewriteError::RowsDiffer { found: rows(removed), rewritten: rows(added) });
        }
        let mut failed = None;
        for _attempt in 0..ATTEMPTS_MAX {
            let loaded = self.load().await?;
            if failed.is_some() && self.has_had(&loaded, added.first()).await? {
                return Ok(loaded.state.version());
            }
            check_young(added)?;
            let snapshot = Snapshot::from(&loaded);
            let there: HashSet<_> = snapshot.files().iter().map(|file| &file.path).collect();
            if !removed.iter().all(|file| there.contains(&file.path)) {
                return Err(RewriteError::Overtaken);
            }
            match self.put_rewrite(&loaded, removed, added).await {
                Ok(version) => return Ok(version),
                Err(error) => {
                    tracing::debug!(%error, "a rewrite was not made or its outcome is not known, reading the table back");
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or(LakeError::DamagedLog).into())
    }

    async fn put_rewrite(
        &self,
        loaded: &Loaded,
        removed: &[DataFile],
        added: &[DataFile],
    ) -> Result<Version, LakeError> {
        let removals = removed.iter().map(|file| Action::Remove(remove(file, false)));
        let additions = added.iter().map(|file| Action::Add(add(file, false)));
        let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
        self.put_next(loaded, removals.chain(additions).collect(), Vec::new(), operation).await
    }

    /// Puts the version after `loaded`, or none, and counts it among the rewrites.
    pub(crate) async fn put_next(
        &self,
        loaded: &Loaded,
        actions: Vec<Action>,
        mut transactions: Vec<Transaction>,
        operation: DeltaOperation,
    ) -> Result<Version, LakeError> {
        let count = i64::try_from(loaded.positions.rewrites() + 1).map_err(|_| LakeError::DamagedLog)?;
        transactions.push(transaction(REWRITES.to_owned(), count));
        let properties =
            CommitProperties::default().with_application_transactions(transactions).with_max_retries(0);
        self.put_version(loaded, actions, properties, operation).await.map_err(LakeError::delta)
    }
}

pub(crate) fn rows(files: &[DataFile]) -> u64 {
    files.iter().map(|file| file.rows).sum()
}
