use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use retrace_proto::Id;
use serde_json::Value;

use crate::error::LakeError;
use crate::table::Version;

/// Which offset comes next, by topic partition, as of one version of the table.
///
/// Each is the version of a Delta app transaction (Delta protocol, "Transaction identifiers") whose id is
/// [`app_id`], written in the same commit as the rows it counts. The library looks up one id at a time; a snapshot
/// wants them all and cheaply, so the log is read here: the newest checkpoint once, then each commit once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    next: HashMap<String, u64>,
    /// How often files were rewritten.
    rewrites: u64,
    /// Rows that retention has removed, in all.
    removed: HashMap<String, u64>,
    /// By retention class, the first day of which sessions are kept, in days since the Unix epoch.
    first_days_kept: BTreeMap<String, i32>,
    /// The version of the next commit to read.
    unread: Version,
}

/// Who lacks so many commits looks for a checkpoint, of which there is one in as many (Delta's `delta.checkpointInterval`), instead
/// of reading them one after the other.
const FAR_BEHIND: Version = 100;

/// The app id that counts the commits that rewrite files.
pub(crate) const REWRITES: &str = "rewrites";

/// The app id that counts the rows of a topic partition that retention has removed.
pub(crate) fn removed_id(topic_id: Id, partition: u32) -> String {
    format!("removed:{topic_id}:{partition}")
}

/// The app id that holds the first day of a retention class of which sessions are kept.
pub(crate) fn first_day_id(retention_class: &str) -> String {
    format!("{FIRST_DAY}{retention_class}")
}

const FIRST_DAY: &str = "retention:";

/// The app id that holds the position of a topic partition.
pub(crate) fn app_id(topic_id: Id, partition: u32) -> String {
    format!("events:{topic_id}:{partition}")
}

impl Positions {
    /// The next offset; 0 if none was ever committed.
    pub(crate) fn of(&self, topic_id: Id, partition: u32) -> u64 {
        self.next.get(&app_id(topic_id, partition)).copied().unwrap_or(0)
    }

    /// How many rows of a topic partition retention has removed.
    pub(crate) fn removed(&self, topic_id: Id, partition: u32) -> u64 {
        self.removed.get(&removed_id(topic_id, partition)).copied().unwrap_or(0)
    }

    /// How many rows retention has removed in all.
    pub(crate) fn all_removed(&self) -> u64 {
        self.removed.values().sum()
    }

    /// By retention class, the first day of which sessions are kept.
    pub(crate) fn first_days_kept(&self) -> &BTreeMap<String, i32> {
        &self.first_days_kept
    }

    /// The partitions that positions are kept of in a topic.
    pub(crate) fn partitions(&self, topic_id: Id) -> impl Iterator<Item = u32> + '_ {
        let prefix = format!("events:{topic_id}:");
        self.next.keys().filter_map(move |app_id| app_id.strip_prefix(&prefix)?.parse().ok())
    }

    /// How many commits have rewritten files.
    pub(crate) fn rewrites(&self) -> u64 {
        self.rewrites
    }

    /// The topics that positions are kept of. An app id that is not ours says nothing of one.
    pub(crate) fn topics(&self) -> impl Iterator<Item = Id> + '_ {
        self.next.keys().filter_map(|app_id| app_id.strip_prefix("events:")?.split(':').next()?.parse().ok())
    }

    /// Reads on up to and with `version`.
    pub(crate) async fn advance(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        version: Version,
    ) -> Result<(), LakeError> {
        if self.unread == 0 || version.saturating_sub(self.unread) >= FAR_BEHIND {
            self.begin_at_checkpoint(store, version).await?;
        }
        while self.unread <= version {
            let path = Path::from(format!("_delta_log/{:020}.json", self.unread));
            match read(store, &path).await {
                Ok(commit) => {
                    self.read_commit(&commit)?;
                    self.unread += 1;
                }
                // The log was cleaned up meanwhile.
                Err(LakeError::Store { source: object_store::Error::NotFound { .. } })
                    if self.begin_at_checkpoint(store, version).await? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins anew with the newest checkpoint, which has all there is to know, if it has anything that was not read.
    async fn begin_at_checkpoint(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        version: Version,
    ) -> Result<bool, LakeError> {
        let Some((checkpoint, path)) = newest_checkpoint(store, self.unread, version).await? else {
            return Ok(false);
        };
        let mut read = Self { unread: checkpoint + 1, ..Self::default() };
        read.read_checkpoint(store, path).await?;
        *self = read;
        Ok(true)
    }

    fn read_commit(&mut self, commit: &[u8]) -> Result<(), LakeError> {
        let lines = commit.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for line in lines {
            let action: Value = serde_json::from_slice(line).map_err(|_| LakeError::DamagedLog)?;
            let Some(txn) = action.get("txn") else { continue };
            let id = txn["appId"].as_str().ok_or(LakeError::DamagedLog)?;
            self.set(id, txn["version"].as_i64())?;
        }
        Ok(())
    }

    async fn read_checkpoint(&mut self, store: &Arc<dyn ObjectStore>, path: Path) -> Result<(), LakeError> {
        let damaged = |_| LakeError::DamagedLog;
        let whole = read(store, &path).await?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(whole).map_err(damaged)?;
        let only = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
        for batch in builder.with_projection(only).build().map_err(damaged)? {
            self.read_checkpoint_batch(&batch.map_err(|_| LakeError::DamagedLog)?)?;
        }
        Ok(())
    }

    fn read_checkpoint_batch(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let Some(txn) = batch.column_by_name("txn") else { return Ok(()) };
        let txn = txn.as_struct_opt().ok_or(LakeError::DamagedLog)?;
        let ids = txn.column_by_name("appId").and_then(|ids| ids.as_string_opt::<i32>());
        let versions = txn.column_by_name("version").and_then(|all| all.as_primitive_opt::<Int64Type>());
        let (ids, versions) = ids.zip(versions).ok_or(LakeError::DamagedLog)?;
        for row in (0..txn.len()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row)) {
            self.set(ids.value(row), versions.is_valid(row).then(|| versions.value(row)))?;
        }
        Ok(())
    }

    /// Takes in an app transaction. One that is not of ours says nothing.
    fn set(&mut self, id: &str, version: Option<i64>) -> Result<(), LakeError> {
        let count = || version.and_then(|count| u64::try_from(count).ok()).ok_or(LakeError::DamagedLog);
        if id.starts_with("events:") {
            self.next.insert(id.to_owned(), count()?);
        } else if id.starts_with("removed:") {
            self.removed.insert(id.to_owned(), count()?);
        } else if let Some(class) = id.strip_prefix(FIRST_DAY) {
            let day = version.and_then(|day| i32::try_from(day).ok()).ok_or(LakeError::DamagedLog)?;
            self.first_days_kept.insert(class.to_owned(), day);
        } else if id == REWRITES {
            self.rewrites = count()?;
        }
        Ok(())
    }
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Bytes, LakeError> {
    let failed = |source| LakeError::Store { source };
    store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)
}

/// The newest checkpoint from `least` up to `version`, of the one form that this project writes.
async fn newest_checkpoint(
    store: &Arc<dyn ObjectStore>,
    least: Version,
    version: Version,
) -> Result<Option<(Version, Path)>, LakeError> {
    let (log, before) = (Path::from("_delta_log"), Path::from(format!("_delta_log/{least:020}")));
    let found = store.list_with_offset(Some(&log), &before).try_filter_map(|meta| async move {
        let name = meta.location.filename().unwrap_or_default();
        let digits = name.strip_suffix(".checkpoint.parquet").filter(|digits| digits.len() == 20);
        let checkpoint = digits.and_then(|digits| digits.parse::<Version>().ok());
        let checkpoint = checkpoint.filter(|checkpoint| (least..=version).contains(checkpoint));
        Ok(checkpoint.map(|version| (version, meta.location.clone())))
    });
    let found: Vec<_> = found.try_collect().await.map_err(|source| LakeError::Store { source })?;
    Ok(found.into_iter().max_by_key(|(version, _)| *version))
}
