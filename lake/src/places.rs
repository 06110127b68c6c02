use std::ops::Range;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use retrace_proto::Id;
use retrace_proto::log::TopicPartition;

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::ranges::read_error;
use crate::rows::RowKind;
use crate::schema::schema;
use crate::table::{Snapshot, Table};

/// Files read at a time. Each holds a few columns of one row group.
const FILES_AT_ONCE_MAX: usize = 16;

/// The columns that say where an event stands.
const COLUMNS: [&str; 5] = ["log_offset", "row_kind", "stream_id", "stream_seq", "hash"];

/// The columns that say when an offset was taken, and what they are read as.
const TIMES: [&str; 2] = ["log_offset", "appended_at"];
type Times = (Int64Array, TimestampMicrosecondArray);

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

    /// The offset after the last row of a topic partition that the log took before a time, in microseconds since the Unix epoch;
    /// 0 if there is none.
    pub async fn end_before(
        &self,
        of: &Snapshot,
        at: TopicPartition,
        appended_before_unix_us: i64,
    ) -> Result<u64, LakeError> {
        let mut end = 0;
        let mut across = Vec::new();
        for file in of.files().iter().filter(|file| may_hold(file, at, &(0..u64::MAX))) {
            let (times, offsets) = (file.stats.appended_at.as_ref(), file.stats.log_offset.as_ref());
            let after = offsets.map(|offsets| u64::try_from(offsets.max_inclusive).unwrap_or(0) + 1);
            match (times, after) {
                (Some(times), _) if times.min_inclusive >= appended_before_unix_us => {}
                (Some(times), Some(after)) if times.max_inclusive < appended_before_unix_us => {
                    end = end.max(after);
                }
                _ => across.push((after.unwrap_or(u64::MAX), file)),
            }
        }
        // The latest first: most of the others then have nothing that comes after.
        across.sort_unstable_by_key(|(after, _)| std::cmp::Reverse(*after));
        for (after, file) in across {
            if after > end {
                end = end.max(self.end_before_in(file, appended_before_unix_us).await?);
            }
        }
        Ok(end)
    }

    /// When the log took the first record at or above an offset that the table still has, in microseconds since the Unix epoch;
    /// `None` if it has none.
    pub async fn appended_from(
        &self,
        of: &Snapshot,
        at: TopicPartition,
        offset: u64,
    ) -> Result<Option<i64>, LakeError> {
        let begins = |file: &DataFile| {
            let held = file.stats.log_offset.as_ref();
            held.map_or(0, |held| u64::try_from(held.min_inclusive).unwrap_or(0))
        };
        let mut files: Vec<_> =
            of.files().iter().filter(|file| may_hold(file, at, &(offset..u64::MAX))).collect();
        files.sort_unstable_by_key(|file| begins(file));
        let mut first: Option<(u64, i64)> = None;
        for file in files {
            // What a merged file begins with may lie below, and what follows in another.
            if first.is_some_and(|(first, _)| first < begins(file)) {
                break;
            }
            let mut batches = self.times_of(file).await?;
            while let Some((offsets, times)) = batches.try_next().await? {
                let found = offsets.values().iter().zip(times.values());
                let found = found.filter_map(|(it, time)| Some((u64::try_from(*it).ok()?, *time)));
                first = found.filter(|(it, _)| *it >= offset).chain(first).min();
            }
        }
        Ok(first.map(|(_, time)| time))
    }

    /// Offsets and append times of a file's rows.
    async fn times_of(
        &self,
        file: &DataFile,
    ) -> Result<BoxStream<'static, Result<Times, LakeError>>, LakeError> {
        let path = file.path.clone();
        let damaged = move |source| read_error(&path, source);
        let builder = self.open(file).await?;
        let only = ProjectionMask::columns(builder.parquet_schema(), TIMES);
        let batches = builder.with_projection(only).build().map_err(&damaged)?;
        let times = batches.map_err(damaged).and_then(|batch| {
            let read = || {
                let [offsets, times] = columns(&batch, TIMES)?;
                let offsets = offsets.as_primitive::<Int64Type>().clone();
                Ok((offsets, times.as_primitive::<TimestampMicrosecondType>().clone()))
            };
            std::future::ready(read())
        });
        Ok(times.boxed())
    }

    async fn end_before_in(&self, file: &DataFile, appended_before_unix_us: i64) -> Result<u64, LakeError> {
        let mut batches = self.times_of(file).await?;
        let mut end = 0;
        while let Some((offsets, times)) = batches.try_next().await? {
            let rows = offsets.values().iter().zip(times.values());
            let before = rows.filter(|(_, time)| **time < appended_before_unix_us);
            let last = before.filter_map(|(offset, _)| u64::try_from(*offset).ok()).max();
            end = end.max(last.map_or(0, |last| last + 1));
        }
        Ok(end)
    }

    async fn places_in(&self, file: DataFile, offsets: Range<u64>) -> Result<Vec<Place>, LakeError> {
        let read_error = |source| read_error(&file.path, source);
        let builder = self.open(&file).await?;
        let only = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        let mut batches = builder.with_projection(only).build().map_err(read_error)?;
        let mut places = Vec::new();
        while let Some(batch) = batches.try_next().await.map_err(read_error)? {
            add_places(&mut places, &batch, &offsets)?;
        }
        Ok(places)
    }
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
    let [log_offset, row_kind, stream_id, stream_seq, hash] = columns(batch, COLUMNS)?;
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

/// The columns in the table's own types.
pub(crate) fn columns<const N: usize>(
    batch: &RecordBatch,
    names: [&str; N],
) -> Result<[ArrayRef; N], LakeError> {
    let table = schema();
    let column = |name: &str| {
        let field = table.field_with_name(name)?;
        cast(batch.column(batch.schema().index_of(name)?), field.data_type())
    };
    let found = names.into_iter().map(column).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|source| LakeError::Arrow { source })?;
    Ok(found.try_into().expect("as many as were asked for"))
}
