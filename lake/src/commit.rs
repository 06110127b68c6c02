use std::collections::HashMap;

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, Remove, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use retrace_proto::Id;

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::positions::app_id;
use crate::schema::PARTITION_COLUMNS;
use crate::table::{Loaded, Snapshot, Table, Version};
use crate::write::{date_text, now_unix_ms};

/// How many versions there are between two looks for what the table's log no longer needs: each lists all of the log.
const CLEAN_UP_INTERVAL: Version = 1000;

/// How far one topic partition gets with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The topic, by the id that the log gave it.
    pub topic_id: Id,
    /// The topic partition.
    pub partition: u32,
    /// Where the table must stand: the first offset of the files.
    pub from_inclusive: u64,
    /// Where it stands after: the offset after the last one of the files.
    pub to_exclusive: u64,
}

/// Why a commit was not made, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another writer moved this topic partition. Stop writing, or begin again at its position with new files.
    #[error(
        "partition {partition} of topic {topic_id} stands at {found} in the table, not at {expected}: \
         another ingest works on it; stop one of them"
    )]
    Fenced {
        /// The topic.
        topic_id: Id,
        /// The topic partition.
        partition: u32,
        /// Where the caller believed it to stand.
        expected: u64,
        /// Where it stands.
        found: u64,
    },
    /// The call itself is wrong: an advance that does not go forward, or none at all.
    #[error("a commit must move at least one position, and every one of them forward")]
    NotForward,
    /// Nothing of it is in the table as of now, or nobody can say. Commit the same files again: whether the first
    /// attempt came through after all is then found out.
    #[error("the commit is not known to be made: commit the same files again")]
    Retry {
        /// What stood in the way.
        #[source]
        source: LakeError,
    },
}

impl Table {
    /// Adds the files and moves the positions, all or nothing. May be called again with the same files after
    /// [`CommitError::Retry`]: they are in the table once.
    ///
    /// The steps, and what a crash after each leaves:
    ///
    /// 1. The caller has written the files ([`Table::data_files`]). *Crash:* files that no version names. Positions have
    ///    not moved, so the same records are written again to other files, and once these are committed a
    ///    [`Sweeper`](crate::Sweeper) takes the first away.
    /// 2. Read the newest version. If all positions are already where they should go, or beyond, and the files are in
    ///    the table, an earlier attempt came through: done. If any position is not where the caller left it, the caller is
    ///    fenced. *Crash:* as after 1.
    /// 3. Put the next version, which must not exist: files and positions in one object. If another writer took that
    ///    number, the library reads what it wrote: another app id of ours there means step 4, anything else the next
    ///    number. That, and step 2, make each position a compare-and-swap; the library alone would let it go
    ///    backwards. *Crash:* the put happened or it did not, and the restarted writer reads in step 2 which.
    /// 4. Read the newest version and decide as in step 2; if the positions have not moved, the caller tries again. A put that
    ///    failed may have been made all the same: a store may answer an error for what it did, or did late. And one that did
    ///    not fail may be of no effect, below the newest version: its number was free because the log had been cleaned up
    ///    there, as where this process was suspended for days or the clock of whoever cleans up is days ahead.
    /// 5. Now and then, write a checkpoint of the table's log, and delete what of it has expired. *Crash or failure:* the log
    ///    is read from an earlier one. It never fails a commit, which is made since 3.
    ///
    /// Only after this returned may the caller truncate the log.
    pub async fn commit(&self, files: &[DataFile], advances: &[Advance]) -> Result<Version, CommitError> {
        if advances.is_empty() || advances.iter().any(|move_| move_.to_exclusive <= move_.from_inclusive) {
            return Err(CommitError::NotForward);
        }
        let retry = |source| CommitError::Retry { source };
        let loaded = self.load().await.map_err(retry)?;
        match self.standing(&loaded, files, advances).await.map_err(retry)? {
            Standing::Made(version) => return Ok(version),
            Standing::Fenced(error) => return Err(error),
            Standing::Open => {}
        }
        let put = self.put_advances(&loaded, files, advances).await;
        if put.is_err() {
            tracing::warn!("a commit failed or its outcome is not known, reading the table back");
        }
        let now = self.load().await.map_err(retry)?;
        match self.standing(&now, files, advances).await.map_err(retry)? {
            Standing::Made(version) => Ok(version),
            Standing::Fenced(error) => Err(error),
            Standing::Open => {
                Err(CommitError::Retry { source: put.map_or_else(LakeError::delta, |_| LakeError::Stale) })
            }
        }
    }

    async fn put_advances(
        &self,
        loaded: &Loaded,
        files: &[DataFile],
        advances: &[Advance],
    ) -> Result<Version, DeltaTableError> {
        let positions = advances.iter().map(|advance| {
            let next = i64::try_from(advance.to_exclusive).expect("offsets count up from 0");
            transaction(app_id(advance.topic_id, advance.partition), next)
        });
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(PARTITION_COLUMNS.map(str::to_owned).to_vec()),
            predicate: None,
        };
        let added = files.iter().map(|file| Action::Add(add(file, true)));
        let properties = CommitProperties::default().with_application_transactions(positions.collect());
        self.put_version(loaded, added.collect(), properties, operation).await
    }

    /// What the table says about a commit.
    async fn standing(
        &self,
        now: &Loaded,
        files: &[DataFile],
        advances: &[Advance],
    ) -> Result<Standing, LakeError> {
        let snapshot = Snapshot::from(now);
        let stands = |advance: &Advance| snapshot.position(advance.topic_id, advance.partition);
        let Some(moved) = advances.iter().find(|advance| stands(advance) != advance.from_inclusive) else {
            return Ok(Standing::Open);
        };
        // Or beyond: another writer may have gone on from there meanwhile.
        let arrived = advances.iter().all(|advance| stands(advance) >= advance.to_exclusive);
        if arrived && self.has_had(now, files.first()).await? {
            return Ok(Standing::Made(snapshot.version()));
        }
        Ok(Standing::Fenced(CommitError::Fenced {
            topic_id: moved.topic_id,
            partition: moved.partition,
            expected: moved.from_inclusive,
            found: stands(moved),
        }))
    }

    /// Whether a file is of the table, or was before it was rewritten. Names are unique, so the first file of a commit says
    /// for all: they were committed together.
    pub(crate) async fn has_had(&self, now: &Loaded, file: Option<&DataFile>) -> Result<bool, LakeError> {
        let Some(file) = file else { return Ok(false) };
        if Snapshot::from(now).files().iter().any(|known| known.path == file.path) {
            return Ok(true);
        }
        Ok(self.removed(now).await?.iter().any(|removed| removed.path == file.path))
    }

    /// Steps 3 and 5.
    pub(crate) async fn put_version(
        &self,
        loaded: &Loaded,
        actions: Vec<Action>,
        properties: CommitProperties,
        operation: DeltaOperation,
    ) -> Result<Version, DeltaTableError> {
        let cleans_up = loaded.state.version().is_multiple_of(CLEAN_UP_INTERVAL);
        let properties = properties.with_cleanup_expired_logs(Some(cleans_up));
        let put = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&loaded.state), self.log(), operation)
            .into_prepared_commit_future()
            .await?
            .await?;
        let version = put.version;
        if let Err(error) = put.await {
            tracing::warn!(version, error = %error, "the commit is made, a checkpoint after it failed");
        }
        Ok(version)
    }
}

/// What the table says about a commit.
enum Standing {
    /// It is in the table.
    Made(Version),
    /// It can no longer be.
    Fenced(CommitError),
    /// It may still be made.
    Open,
}

pub(crate) fn transaction(app_id: String, version: i64) -> Transaction {
    Transaction::new_with_last_update(app_id, version, Some(now_unix_ms()))
}

fn partition_values(file: &DataFile) -> HashMap<String, Option<String>> {
    let [date, class] = PARTITION_COLUMNS.map(str::to_owned);
    HashMap::from([(date, Some(date_text(file.session_date))), (class, Some(file.retention_class.clone()))])
}

fn size(file: &DataFile) -> i64 {
    i64::try_from(file.bytes).expect("a file is smaller than 2^63 bytes")
}

/// `data_change` is whether its rows were not in the table before.
pub(crate) fn add(file: &DataFile, data_change: bool) -> Add {
    Add {
        path: file.path.to_string(),
        partition_values: partition_values(file),
        size: size(file),
        modification_time: file.written_at_unix_ms,
        data_change,
        stats: Some(file.stats.to_json(file.rows)),
        ..Add::default()
    }
}

/// `data_change` is whether its rows are in the table no longer.
pub(crate) fn remove(file: &DataFile, data_change: bool) -> Remove {
    Remove {
        path: file.path.to_string(),
        data_change,
        deletion_timestamp: Some(now_unix_ms()),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file)),
        size: Some(size(file)),
        ..Remove::default()
    }
}
