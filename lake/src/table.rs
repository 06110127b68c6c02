use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deltalake::ensure_table_uri;
use deltalake::kernel::{DataType, EagerSnapshot, PrimitiveType, StructField};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::table::state::DeltaTableState;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use retrace_proto::Id;
use retrace_proto::log::{Topic, TopicPartition};
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use crate::data_file::{DataFile, FileStats, STATS_COLUMNS};
use crate::error::LakeError;
use crate::location::{Location, Opened};
use crate::positions::Positions;
use crate::schema::{PARTITION_COLUMNS, schema};

/// The number of an atomic change of the table.
pub type Version = u64;

/// The table property that says the table is ours, and which columns and rules it has.
const SCHEMA_PROPERTY: &str = "retrace.tableSchema";

/// What this code writes. It refuses a table that says more.
pub(crate) const TABLE_SCHEMA: u64 = 1;

/// For how long a file is kept that is of the table no more, for whoever reads an older version.
pub const REMOVED_KEPT: Duration = Duration::from_hours(24);

/// For how long, at least, the table's log remembers such a file, and how each version came about: longer by what clocks differ,
/// wrong time zones included. Each checkpoint has all files that are remembered, so that it must end.
const LOG_KEPT: Duration = Duration::from_hours(36);

/// What the table says of itself: what it is, and what Delta is to do with it ("Table properties" of Delta's documentation).
fn properties() -> [(&'static str, Option<String>); 4] {
    let kept = format!("interval {} seconds", LOG_KEPT.as_secs());
    [
        (SCHEMA_PROPERTY, Some(TABLE_SCHEMA.to_string())),
        ("delta.deletedFileRetentionDuration", Some(kept.clone())),
        ("delta.logRetentionDuration", Some(kept)),
        // Whoever reads the log makes room for the bounds of each of these columns, and of 32 if none are named.
        ("delta.dataSkippingStatsColumns", Some(STATS_COLUMNS.join(","))),
    ]
}

/// How often opening tries what another process, which opens the table too, may have stood in the way of.
const START_ATTEMPTS_MAX: u32 = 5;

/// The table `events`. Clones share one view of its log.
#[derive(Clone)]
pub struct Table {
    inner: Arc<Inner>,
}

struct Inner {
    log: LogStoreRef,
    store: Arc<dyn ObjectStore>,
    url: String,
    loaded: Mutex<Option<Loaded>>,
}

/// What has been read of the log so far; each snapshot reads on from there.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) state: DeltaTableState,
    pub(crate) positions: Arc<Positions>,
    files: Arc<[DataFile]>,
    rows: Option<Arc<Rows>>,
}

/// Rows of the files, by topic partition.
type Rows = BTreeMap<TopicPartition, u64>;

/// A file that was of the table and is no more.
#[derive(Clone, Debug)]
pub(crate) struct RemovedFile {
    pub(crate) path: Path,
    /// When it was removed, by the clock of whoever did.
    pub(crate) at_unix_ms: Option<i64>,
    /// Whether rows of it went with it, and not into other files.
    pub(crate) with_rows: bool,
}

/// The table as of one version. It stays what it is, whatever is committed after.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: Version,
    positions: Arc<Positions>,
    files: Arc<[DataFile]>,
    rows: Option<Arc<Rows>>,
}

/// What [`Snapshot::miscount`] found: an evidence alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the table has {rows} rows of {at}, where {position} were committed and {removed} removed by retention: its files were \
     changed by other means than retrace; restore it from a copy"
)]
pub struct Miscount {
    /// Where.
    pub at: TopicPartition,
    /// Rows in the files.
    pub rows: u64,
    /// Rows that retention has removed.
    pub removed: u64,
    /// Rows that were committed.
    pub position: u64,
}

impl Snapshot {
    /// The version it shows.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The next offset of a topic partition: every offset below is a row of [`Snapshot::files`], none from it on is.
    /// 0 if nothing of it was ever committed.
    #[must_use]
    pub fn position(&self, topic_id: Id, partition: u32) -> u64 {
        self.positions.of(topic_id, partition)
    }

    /// How many rows retention has removed, in all.
    #[must_use]
    pub fn rows_removed(&self) -> u64 {
        self.positions.all_removed()
    }

    /// What retention has removed: by retention class, what sessions wrote whose [`session_day`](crate::session_day) is before
    /// this day, in days since the Unix epoch, but for what was held. A class that is not there has lost nothing.
    #[must_use]
    pub fn first_days_kept(&self) -> &BTreeMap<String, i32> {
        self.positions.first_days_kept()
    }

    /// A topic that the table holds rows of and that is none of `known`: the table was filled from another log.
    #[must_use]
    pub fn foreign_topic(&self, known: &[Id]) -> Option<Id> {
        self.positions.topics().find(|topic| !known.contains(topic))
    }

    /// A topic partition of which the files do not hold as many rows as lie below its position and were not removed by
    /// retention. Every offset is one row; a commit that adds rows moves the position by as many, and one that removes expired
    /// ones counts them; so files were taken out of the table, or put into it, by somebody else. `topic_id` says which topic of the log has the positions.
    ///
    /// It counts, and opens no file. A file that does not say of which topic partition it is makes it impossible.
    #[must_use]
    pub fn miscount(&self, topic_id: impl Fn(Topic) -> Id) -> Option<Miscount> {
        let rows = self.rows.as_deref()?;
        let of_topic = |topic| {
            let partitions = self.positions.partitions(topic_id(topic));
            partitions.map(move |partition| TopicPartition { topic, partition })
        };
        let counted = Topic::ALL.into_iter().flat_map(of_topic).chain(rows.keys().copied());
        let mut counted = counted.map(|at| Miscount {
            at,
            rows: rows.get(&at).copied().unwrap_or(0),
            removed: self.positions.removed(topic_id(at.topic), at.partition),
            position: self.position(topic_id(at.topic), at.partition),
        });
        counted.find(|counted| counted.rows.checked_add(counted.removed) != Some(counted.position))
    }

    /// The files that together are the table.
    #[must_use]
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }
}

impl Table {
    /// Opens the table, and makes it if it is not there.
    ///
    /// Everything written through it is durable as the store has it; in a folder it is fsynced. Opening writes a probe to
    /// prove that the store refuses to put what exists, which is what commits rest on.
    pub async fn open_or_create(location: &Location) -> Result<Self, LakeError> {
        let Opened { root, prefix, url } = location.open()?;
        Self::open_at(root, &prefix, &url).await
    }

    /// Opens the table in a store of the caller's, rooted where the URL's path begins. Durable is what the store
    /// makes durable: a `memory:///` table ends with its store.
    pub async fn open_or_create_in(root: Arc<dyn ObjectStore>, url: &str) -> Result<Self, LakeError> {
        let wrong = || LakeError::Location { location: url.to_owned() };
        let url = ensure_table_uri(url).map_err(|_| wrong())?;
        let prefix = Path::from_url_path(url.path()).map_err(|_| wrong())?;
        Self::open_at(root, &prefix, &url).await
    }

    async fn open_at(root: Arc<dyn ObjectStore>, prefix: &Path, url: &Url) -> Result<Self, LakeError> {
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&root), prefix.clone()));
        let log = default_logstore(Arc::clone(&store), root, url, &StorageConfig::default());
        let url = log.root_url().to_string();
        let table = Self { inner: Arc::new(Inner { log, store, url, loaded: Mutex::new(None) }) };
        table.probe(START_ATTEMPTS_MAX).await?;
        if !table.inner.log.is_delta_table_location().await.map_err(LakeError::delta)? {
            table.create(START_ATTEMPTS_MAX).await?;
        }
        table.load().await?;
        Ok(table)
    }

    /// Commits rest on it that a put of an existing name fails. A store that says yes twice would lose commits.
    async fn probe(&self, attempts: u32) -> Result<(), LakeError> {
        let path = Path::from(format!("_probe/{}", Uuid::new_v4()));
        let create = || PutOptions::from(PutMode::Create);
        let store = self.store();
        let failed = |source| match source {
            object_store::Error::NotFound { .. } => LakeError::NoBucket { location: self.url().to_owned() },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                LakeError::Denied { location: self.url().to_owned() }
            }
            source => LakeError::Store { source },
        };
        match store.put_opts(&path, "probe".into(), create()).await {
            // Nobody has this name: the store stood in its own way.
            Err(object_store::Error::AlreadyExists { .. }) if attempts > 1 => {
                return Box::pin(self.probe(attempts - 1)).await;
            }
            first => first.map_err(failed)?,
        };
        let second = store.put_opts(&path, "probe".into(), create()).await;
        store.delete(&path).await.map_err(failed)?;
        match second {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(())
            }
            Err(source) => Err(LakeError::Store { source }),
            Ok(_) => Err(LakeError::NoConditionalPut),
        }
    }

    /// Makes version 0. If another process was faster, its table is the table.
    async fn create(&self, attempts: u32) -> Result<(), LakeError> {
        let columns = schema();
        let columns =
            columns.fields().iter().map(|field| StructField::nullable(field.name(), column_type(field)));
        let created = CreateBuilder::new()
            .with_log_store(Arc::clone(&self.inner.log))
            .with_table_name("events")
            .with_columns(columns)
            .with_partition_columns(PARTITION_COLUMNS)
            .with_configuration(properties())
            .with_raise_if_key_not_exists(false)
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(_) if self.inner.log.is_delta_table_location().await.unwrap_or(false) => Ok(()),
            // A store may refuse a put over another one that comes to nothing (S3: 409 ConditionalRequestConflict).
            Err(_) if attempts > 1 => Box::pin(self.create(attempts - 1)).await,
            Err(error) => Err(LakeError::delta(error)),
        }
    }

    /// The table as it is now: whatever was committed before this was called is in it.
    pub async fn snapshot(&self) -> Result<Snapshot, LakeError> {
        let loaded = self.load().await?;
        Ok(Snapshot::from(&loaded))
    }

    /// Reads the log on to its newest version.
    pub(crate) async fn load(&self) -> Result<Loaded, LakeError> {
        let mut cached = self.inner.loaded.lock().await;
        // A clone, so that who fails or goes away half-way leaves the others what was known before.
        let read = self.read_on(cached.clone()).await?;
        *cached = Some(read.clone());
        Ok(read)
    }

    async fn read_on(&self, before: Option<Loaded>) -> Result<Loaded, LakeError> {
        let (state, mut positions) = match before {
            None => {
                let state =
                    DeltaTableState::try_new(&*self.inner.log, None).await.map_err(LakeError::delta)?;
                (state, Positions::default())
            }
            Some(Loaded { mut state, positions, files, rows }) => {
                let version = state.version();
                state.update(&*self.inner.log, None).await.map_err(LakeError::delta)?;
                if state.version() == version {
                    return Ok(Loaded { state, positions, files, rows });
                }
                (state, Positions::clone(&positions))
            }
        };
        // Each time: a later release may have taken the table over meanwhile.
        check_ours(state.snapshot())?;
        positions.advance(&self.inner.store, state.version()).await?;
        let files = files_of(&state)?;
        let rows = rows_of(&files).map(Arc::new);
        Ok(Loaded { state, positions: Arc::new(positions), files, rows })
    }

    /// The files that the table's log remembers as removed.
    pub(crate) async fn removed(&self, loaded: &Loaded) -> Result<Vec<RemovedFile>, LakeError> {
        let removed = loaded.state.all_tombstones(&*self.inner.log);
        let removed = removed.map_ok(|file| RemovedFile {
            path: Path::from(&*file.path()),
            at_unix_ms: file.deletion_timestamp().filter(|at| *at > 0),
            with_rows: file.data_change(),
        });
        removed.try_collect().await.map_err(LakeError::delta)
    }

    /// The store, rooted at the table: [`DataFile::path`] is relative to it.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner.store)
    }

    /// Where the table is, ending in a slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    pub(crate) fn log(&self) -> LogStoreRef {
        Arc::clone(&self.inner.log)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

fn column_type(field: &arrow::datatypes::Field) -> DataType {
    use arrow::datatypes::DataType as Arrow;
    let primitive = match field.data_type() {
        Arrow::Utf8 => PrimitiveType::String,
        Arrow::Binary => PrimitiveType::Binary,
        Arrow::Int64 => PrimitiveType::Long,
        Arrow::Int32 => PrimitiveType::Integer,
        Arrow::Date32 => PrimitiveType::Date,
        Arrow::Boolean => PrimitiveType::Boolean,
        Arrow::Timestamp(..) => PrimitiveType::Timestamp,
        other => unreachable!("the schema has no column of type {other}"),
    };
    DataType::Primitive(primitive)
}

/// Refuses what this code would misread or spoil.
fn check_ours(table: &EagerSnapshot) -> Result<(), LakeError> {
    let property = table.metadata().configuration().get(SCHEMA_PROPERTY).ok_or(LakeError::Foreign)?;
    let version: u64 = property.parse().map_err(|_| LakeError::Foreign)?;
    if version > TABLE_SCHEMA {
        return Err(LakeError::Newer { version });
    }
    let columns = table.schema();
    for field in schema().fields() {
        let found = columns.field(field.name()).map(|found| found.data_type());
        if found != Some(&column_type(field)) {
            return Err(LakeError::Foreign);
        }
    }
    Ok(())
}

fn files_of(state: &DeltaTableState) -> Result<Arc<[DataFile]>, LakeError> {
    let log = state.log_data();
    let files = log.iter().map(|file| {
        let partition = file.partition_values_map();
        let value = |name: &str| partition.get(name).cloned().flatten().ok_or(LakeError::DamagedLog);
        let date = value("session_date")?;
        let (stats, rows) = file.stats().map(|json| FileStats::from_json(&json)).unwrap_or_default();
        Ok(DataFile {
            path: file.object_store_path(),
            bytes: u64::try_from(file.size()).map_err(|_| LakeError::DamagedLog)?,
            rows: rows.ok_or(LakeError::DamagedLog)?,
            written_at_unix_ms: file.modification_time(),
            session_date: days_of(&date).ok_or(LakeError::DamagedLog)?,
            retention_class: value("retention_class")?,
            stats,
        })
    });
    files.collect()
}

fn rows_of(files: &[DataFile]) -> Option<Rows> {
    let mut rows = Rows::new();
    for file in files {
        *rows.entry(file.topic_partition()?).or_default() += file.rows;
    }
    Some(rows)
}

/// The reverse of [`date_text`](crate::write::date_text).
fn days_of(date: &str) -> Option<i32> {
    use arrow::compute::kernels::cast_utils::Parser;
    arrow::datatypes::Date32Type::parse(date)
}

impl From<&Loaded> for Snapshot {
    fn from(loaded: &Loaded) -> Self {
        Self {
            version: loaded.state.version(),
            positions: Arc::clone(&loaded.positions),
            files: Arc::clone(&loaded.files),
            rows: loaded.rows.clone(),
        }
    }
}
