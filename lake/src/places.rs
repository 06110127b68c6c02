use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use retrace_proto::Id;
use retrace_proto::log::TopicPartition;

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::rows::RowKind;
use crate::schema::schema;
use crate::table::{Snapshot, Table};

/// Files read at a time. Each holds a few columns of one row group.
const FILES_AT_ONCE_MAX: usize = 16;

/// Read from a file's end at first: mostly all of what describes it.
const FOOTER_BYTES: usize = 64 * 1024;

/// The columns that say where an event stands.
const COLUMNS: [&str; 5] = ["log_offset", "row_kind", "stream_id", "stream_seq", "hash"];

/// What a number in a stream that is past the column's range was cut to.
const CUT: u64 = i64::MAX as u64;

/// Where an event stands, in the log and in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its offset in its topic partition.
    pub offset: u64,
    /// Its stream.
    pub stream_id: Id,
    /// Its number in the stream.
    pub stream_seq: u64,
    /// The SHA-256 of its envelope.
    pub hash: [u8; 32],
}

impl Table {
    /// The places of events and of their duplicates in a stretch of a topic partition, in the order of their offsets.
    /// Dead letters have none.
    ///
    /// A file that ends more than `age_max` before the newest one, by the log's append times, is left out: a log with
    /// little traffic has many files for few offsets, and this bounds how many are read.
    pub async fn places(
        &self,
        of: &Snapshot,
        at: TopicPartition,
        offsets: Range<u64>,
        age_max: Duration,
    ) -> Result<Vec<Place>, LakeError> {
        let files: Vec<_> = of.files().iter().filter(|file| may_hold(file, at, &offsets)).cloned().collect();
        let newest = files.iter().filter_map(ends_at).max();
        let age_us = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
        let since = newest.map_or(i64::MIN, |newest| newest.saturating_sub(age_us));
        let recent = files.into_iter().filter(|file| ends_at(file).is_none_or(|end| end >= since));
        let reads = recent.map(|file| self.places_in(file, offsets.clone()));
        let read = futures::stream::iter(reads).buffer_unordered(FILES_AT_ONCE_MAX);
        let mut places = read.try_concat().await?;
        places.sort_unstable_by_key(|place| place.offset);
        Ok(places)
    }

    async fn places_in(&self, file: DataFile, offsets: Range<u64>) -> Result<Vec<Place>, LakeError> {
        let read_error = |source| read_error(&file.path, source);
        let reader = Ranges { store: self.store(), path: file.path.clone(), bytes: file.bytes };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(read_error)?;
        let only = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        let mut batches = builder.with_projection(only).build().map_err(read_error)?;
        let mut places = Vec::new();
        while let Some(batch) = batches.try_next().await.map_err(read_error)? {
            add_places(&mut places, &batch, &offsets)?;
        }
        Ok(places)
    }
}

/// A file of which only the ranges asked for are read.
struct Ranges {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.path, range).map_err(store_error).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(store_error) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let bytes = self.bytes;
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
        async move { Ok(Arc::new(reader.load_and_finish(self, bytes).await?)) }.boxed()
    }
}

fn store_error(source: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(source))
}

/// Whether a file may hold offsets of the stretch. All rows of a file are of one topic partition.
fn may_hold(file: &DataFile, at: TopicPartition, offsets: &Range<u64>) -> bool {
    let stats = &file.stats;
    let partition = i32::try_from(at.partition).unwrap_or(i32::MAX);
    stats.topic.as_ref().is_none_or(|topics| topics.may_hold(&at.topic.name().to_owned()))
        && stats.topic_partition.as_ref().is_none_or(|partitions| partitions.may_hold(&partition))
        && stats.log_offset.as_ref().is_none_or(|held| {
            let from = u64::try_from(held.min_inclusive).unwrap_or(0);
            let to = u64::try_from(held.max_inclusive).unwrap_or(u64::MAX);
            from < offsets.end && to >= offsets.start
        })
}

fn ends_at(file: &DataFile) -> Option<i64> {
    file.stats.appended_at.as_ref().map(|times| times.max_inclusive)
}

fn add_places(places: &mut Vec<Place>, batch: &RecordBatch, offsets: &Range<u64>) -> Result<(), LakeError> {
    let [log_offset, row_kind, stream_id, stream_seq, hash] = columns(batch)?;
    let (log_offset, stream_seq) =
        (log_offset.as_primitive::<Int64Type>(), stream_seq.as_primitive::<Int64Type>());
    let (row_kind, stream_id) = (row_kind.as_string::<i32>(), stream_id.as_string::<i32>());
    let hash = hash.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        if row_kind.value(row) == RowKind::DeadLetter.as_str() {
            continue;
        }
        let place = || {
            Some(Place {
                offset: u64::try_from(log_offset.value(row)).ok()?,
                stream_id: stream_id.value(row).parse().ok()?,
                stream_seq: u64::try_from(stream_seq.value(row)).ok().filter(|seq| *seq < CUT)?,
                hash: hash.value(row).try_into().ok()?,
            })
        };
        // Nothing that a writer of ours made is without one.
        let Some(place) = place() else { continue };
        if offsets.contains(&place.offset) {
            places.push(place);
        }
    }
    Ok(())
}

/// The columns in the table's own types, in the order of [`COLUMNS`].
fn columns(batch: &RecordBatch) -> Result<[ArrayRef; 5], LakeError> {
    let table = schema();
    let column = |name: &str| {
        let field = table.field_with_name(name)?;
        cast(batch.column(batch.schema().index_of(name)?), field.data_type())
    };
    let found = COLUMNS.into_iter().map(column).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|source| LakeError::Arrow { source })?;
    Ok(found.try_into().expect("as many as were asked for"))
}

/// What the store failed at may work later; what the decoder failed at is damaged.
fn read_error(path: &Path, source: ParquetError) -> LakeError {
    let damaged = |source| LakeError::Decode { path: path.clone(), source };
    match source {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) if matches!(*source, object_store::Error::NotFound { .. }) => {
                LakeError::MissingFile { path: path.clone() }
            }
            Ok(source) => LakeError::Store { source: *source },
            Err(source) => damaged(ParquetError::External(source)),
        },
        source => damaged(source),
    }
}
