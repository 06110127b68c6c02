use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Date32Type, Int32Type};
use arrow::temporal_conversions::date32_to_datetime;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use retrace_proto::log::{Topic, TopicPartition};
use uuid::Uuid;

use crate::compact::order;
use crate::data_file::{DataFile, FileStats};
use crate::error::LakeError;
use crate::schema::{PARTITION_COLUMNS, file_schema, schema};
use crate::table::Table;

/// Rows in one row group: what a reader must decode at least if it wants anything of it.
const ROW_GROUP_ROWS_MAX: usize = 128 * 1024;

/// Encoded bytes in one row group. Until it is full it is in memory beside what is encoded already.
const ROW_GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Of a thousand ids that a row group does not hold, ten are looked for in vain.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// The columns by which single rows are looked up, scattered over the files.
const BLOOM_COLUMNS: [&str; 2] = ["stream_id", "session_id"];

/// Columns that hardly ever repeat: a dictionary would be built and thrown away.
const PLAIN_COLUMNS: [&str; 6] = ["prev_hash", "hash", "response_text", "payload", "raw", "key"];

/// Columns that go up by little from row to row: what is kept is by how much (Parquet, "Delta encoding").
const RISING_COLUMNS: [&str; 3] = ["log_offset", "appended_at", "occurred_at"];

/// What all rows of one file share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileKey {
    pub(crate) topic: String,
    pub(crate) topic_partition: i32,
    pub(crate) session_date: i32,
    pub(crate) retention_class: String,
}

impl FileKey {
    /// What the rows of a file share; `None` if its name is not one of ours.
    pub(crate) fn of(file: &DataFile) -> Option<Self> {
        let name = FileName::parse(&file.path)?;
        Some(Self {
            topic: name.topic.name().to_owned(),
            topic_partition: i32::try_from(name.partition).ok()?,
            session_date: file.session_date,
            retention_class: file.retention_class.clone(),
        })
    }
}

/// New data files, written while their rows come: one for each topic partition, day and retention class among them.
///
/// Rows are encoded and compressed as they are added, so what is in memory is about what the files will take, not what
/// the rows took.
pub struct DataFileWriter {
    store: Arc<dyn ObjectStore>,
    parts: Parts,
}

type Parts = BTreeMap<FileKey, Part>;

/// One file on its way.
pub(crate) struct Part {
    encoder: ArrowWriter<Vec<u8>>,
    rows: u64,
    stats: FileStats,
}

impl Table {
    /// Begins new data files. No file is there before [`DataFileWriter::finish`].
    #[must_use]
    pub fn data_files(&self) -> DataFileWriter {
        DataFileWriter { store: self.store(), parts: Parts::new() }
    }
}

impl DataFileWriter {
    /// Adds rows: a batch of [`schema`](crate::schema()), as [`Rows::finish`](crate::Rows::finish) gives.
    ///
    /// The writer comes back only with all of them: files that lack rows cannot be finished.
    pub async fn add(self, rows: RecordBatch) -> Result<Self, LakeError> {
        if rows.schema() != schema() {
            return Err(LakeError::WrongRows);
        }
        let Self { store, mut parts } = self;
        let parts = encoding(move || {
            for (key, rows) in split(&rows)? {
                let part = match parts.entry(key) {
                    Entry::Occupied(part) => part.into_mut(),
                    Entry::Vacant(place) => place.insert(Part::new(false).map_err(LakeError::encode)?),
                };
                part.add(&rows).map_err(LakeError::encode)?;
            }
            Ok(parts)
        })
        .await?;
        Ok(Self { store, parts })
    }

    /// Puts the files into the store.
    ///
    /// They are durable when this returns, and belong to no one until [`Table::commit`] names them; if it never does,
    /// they are garbage that no reader sees.
    pub async fn finish(self) -> Result<Vec<DataFile>, LakeError> {
        let mut files = Vec::new();
        for (key, part) in self.parts {
            files.push(part.finish(&*self.store, key).await?);
        }
        Ok(files)
    }
}

impl fmt::Debug for DataFileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFileWriter").field("files", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Part {
    /// A file without rows; `is_sorted` says that they will come in the order of [`ORDER`](crate::compact::ORDER).
    pub(crate) fn new(is_sorted: bool) -> Result<Self, ParquetError> {
        let encoder = ArrowWriter::try_new(Vec::new(), file_schema(), Some(properties(is_sorted)?))?;
        Ok(Self { encoder, rows: 0, stats: FileStats::of(&RecordBatch::new_empty(file_schema())) })
    }

    /// About how many bytes the file has so far.
    pub(crate) fn bytes(&self) -> u64 {
        (self.encoder.bytes_written() + self.encoder.in_progress_size()) as u64
    }

    /// Puts the file into the store.
    pub(crate) async fn finish(self, store: &dyn ObjectStore, key: FileKey) -> Result<DataFile, LakeError> {
        let path = path_of(&key, &self.stats);
        let Self { encoder, rows, stats } = self;
        let encoded = encoding(move || encoder.into_inner().map_err(LakeError::encode)).await?;
        let bytes = encoded.len() as u64;
        put(store, &path, encoded).await.map_err(|source| LakeError::Store { source })?;
        let FileKey { session_date, retention_class, .. } = key;
        let written_at_unix_ms = now_unix_ms();
        Ok(DataFile { path, bytes, rows, session_date, retention_class, written_at_unix_ms, stats })
    }

    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.encoder.write(rows)?;
        self.rows += rows.num_rows() as u64;
        self.stats.widen(FileStats::of(rows));
        Ok(())
    }
}

/// Puts one file. The store's client tries again when an answer is lost, and is then told that the file is there: no other
/// writer has its name, so it is this one's.
async fn put(store: &dyn ObjectStore, path: &Path, encoded: Vec<u8>) -> object_store::Result<()> {
    let bytes = encoded.len() as u64;
    match store.put_opts(path, encoded.into(), PutMode::Create.into()).await {
        Err(exists @ object_store::Error::AlreadyExists { .. }) => match store.head(path).await {
            Ok(there) if there.size == bytes => Ok(()),
            _ => Err(exists),
        },
        put => put.map(drop),
    }
}

/// Runs an encoder away from the threads that wait for I/O.
pub(crate) async fn encoding<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, LakeError> {
    let panicked = |_| LakeError::encode(ParquetError::General("the encoder panicked".to_owned()));
    tokio::task::spawn_blocking(run).await.map_err(panicked)?
}

/// Parts the rows by file, each part in the order of the log.
fn split(rows: &RecordBatch) -> Result<BTreeMap<FileKey, RecordBatch>, LakeError> {
    let count = u32::try_from(rows.num_rows()).map_err(|_| LakeError::WrongRows)?;
    let column = |name: &str| rows.column_by_name(name).expect("the schema was compared");
    let topics = column("topic").as_string::<i32>();
    let partitions = column("topic_partition").as_primitive::<Int32Type>();
    let dates = column("session_date").as_primitive::<Date32Type>();
    let classes = column("retention_class").as_string::<i32>();
    let key_of = |row: u32| {
        let row = row as usize;
        (topics.value(row), partitions.value(row), dates.value(row), classes.value(row))
    };
    // What is read at once is mostly of one file: neighbours are taken together, and all that is one run as it is.
    let mut runs: BTreeMap<_, Vec<Range<u32>>> = BTreeMap::new();
    let mut start = 0;
    for row in 1..=count {
        if row == count || key_of(row) != key_of(start) {
            runs.entry(key_of(start)).or_default().push(start..row);
            start = row;
        }
    }
    let kept = file_schema();
    let schema = rows.schema();
    let columns = kept.fields().iter().map(|field| schema.index_of(field.name()));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|source| LakeError::Arrow { source })?;
    let rows = rows.project(&columns).map_err(|source| LakeError::Arrow { source })?;
    let part =
        |((topic, topic_partition, session_date, class), runs): ((&str, i32, i32, &str), Vec<Range<u32>>)| {
            let part = match &runs[..] {
                [run] => rows.slice(run.start as usize, run.len()),
                runs => {
                    take_record_batch(&rows, &UInt32Array::from_iter_values(runs.iter().cloned().flatten()))?
                }
            };
            let (topic, retention_class) = (topic.to_owned(), class.to_owned());
            Ok((FileKey { topic, topic_partition, session_date, retention_class }, part))
        };
    runs.into_iter().map(part).collect::<Result<_, _>>().map_err(|source| LakeError::Arrow { source })
}

/// Hive-style folders, then topic partition, offsets, and what makes it unique even if the same offsets are written again.
fn path_of(key: &FileKey, stats: &FileStats) -> Path {
    let (first, last) = match &stats.log_offset {
        Some(offsets) => (offsets.min_inclusive, offsets.max_inclusive),
        None => (0, 0),
    };
    Path::from_iter([
        format!("session_date={}", date_text(key.session_date)),
        format!("retention_class={}", key.retention_class),
        format!("{}-{}-{first:020}-{last:020}-{}.parquet", key.topic, key.topic_partition, Uuid::new_v4()),
    ])
}

/// What the name of a data file says. The reverse of [`path_of`].
pub(crate) struct FileName {
    pub(crate) topic: Topic,
    pub(crate) partition: u32,
    pub(crate) first_offset: u64,
}

impl FileName {
    pub(crate) fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }

    /// `None` for a path that is not one of ours.
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let parts: Vec<_> = path.parts().collect();
        let [date, class, name] = &parts[..] else { return None };
        let folders = [date, class].map(|folder| folder.as_ref().split_once('=').map(|(column, _)| column));
        if folders != PARTITION_COLUMNS.map(Some) {
            return None;
        }
        let mut fields = name.as_ref().strip_suffix(".parquet")?.splitn(5, '-');
        let mut field = || fields.next();
        let (topic, partition) = (field()?.parse().ok()?, field()?.parse().ok()?);
        let (first, last) = (field()?, field()?);
        let of_our_length = [first, last].iter().all(|offset| offset.len() == 20);
        Uuid::try_parse(field()?).ok()?;
        let named = Self { topic, partition, first_offset: first.parse().ok()? };
        of_our_length.then_some(named)
    }
}

/// A day as Delta spells partition values (Delta protocol, "Partition value serialization").
pub(crate) fn date_text(days: i32) -> String {
    let date = date32_to_datetime(days).expect("rows carry days of the years 1 to 9999");
    date.format("%Y-%m-%d").to_string()
}

fn properties(is_sorted: bool) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_sorting_columns(is_sorted.then(order))
        .set_created_by(concat!("retrace ", env!("CARGO_PKG_VERSION")).to_owned());
    for name in BLOOM_COLUMNS {
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_fpp(column, BLOOM_FALSE_POSITIVES);
    }
    for name in PLAIN_COLUMNS {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in RISING_COLUMNS {
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(builder.build())
}

/// The wall clock in milliseconds, which Delta wants beside each file and only shows.
pub(crate) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
