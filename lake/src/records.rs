use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use retrace_proto::log::TopicPartition;
use retrace_proto::{Envelope, OpenError};

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::input::rows_differ;
use crate::places::columns;
use crate::ranges::read_error;
use crate::read::RowReader;
use crate::rows::RowKind;
use crate::scan::with_partition_columns;
use crate::table::{Snapshot, Table};

/// The columns that say what a record is.
const SAYING: [&str; 2] = ["event_type", "row_kind"];

/// Files read at a time.
const FILES_AT_ONCE: usize = 8;

/// Records of a few kinds among many, read again as the table grows: what was found in a file is remembered, which is never
/// another one.
///
/// Dead letters are among them as far as they may say something: who wrote before somebody else may have made his record one. Of
/// those of a later release, which nobody here understands, one of each topic partition in a file is, so that it is known that
/// there are some.
#[derive(Debug)]
pub struct RareRecords {
    event_types: &'static [&'static str],
    found: HashMap<Path, Vec<(TopicPartition, Bytes)>>,
}

impl RareRecords {
    /// Those whose events are of one of these types. Nothing is read yet.
    #[must_use]
    pub fn new(event_types: &'static [&'static str]) -> Self {
        Self { event_types, found: HashMap::new() }
    }

    /// The records that a version has in some topic partitions, as the log had them, in no order.
    ///
    /// Of a file that has none of them only the two columns are read that say so.
    pub async fn read(
        &mut self,
        table: &Table,
        of: &Snapshot,
        within: impl Fn(TopicPartition) -> bool,
    ) -> Result<impl Iterator<Item = &(TopicPartition, Bytes)>, LakeError> {
        let is_within = |file: &&DataFile| file.topic_partition().is_none_or(&within);
        let there: Vec<_> = of.files().iter().filter(is_within).collect();
        let paths: HashSet<_> = there.iter().map(|file| &file.path).collect();
        self.found.retain(|path, _| paths.contains(path));
        let fresh: Vec<_> =
            there.into_iter().filter(|file| !self.found.contains_key(&file.path)).cloned().collect();
        let event_types = self.event_types;
        let reads = fresh.into_iter().map(|file| {
            let table = table.clone();
            async move {
                let records = records_in(&table, &file, event_types).await?;
                Ok::<_, LakeError>((file.path, records))
            }
        });
        let mut reads = stream::iter(reads).buffer_unordered(FILES_AT_ONCE);
        while let Some((path, records)) = reads.try_next().await? {
            self.found.insert(path, records);
        }
        Ok(self.found.values().flatten().filter(move |(at, _)| within(*at)))
    }
}

async fn records_in(
    table: &Table,
    file: &DataFile,
    event_types: &[&str],
) -> Result<Vec<(TopicPartition, Bytes)>, LakeError> {
    let wanted = wanted_in(table, file, event_types).await?;
    // One that is not there could be of those that are looked for.
    if wanted.len() as u64 != file.rows {
        return Err(rows_differ(&file.path));
    }
    let mut records = Vec::new();
    if !wanted.contains(&true) {
        return Ok(records);
    }
    let damaged = |source| read_error(&file.path, source);
    let mut batches = table.open(file).await?.build().map_err(damaged)?;
    let mut wanted = wanted.into_iter();
    let mut has_newer = HashSet::new();
    while let Some(batch) = batches.try_next().await.map_err(damaged)? {
        let batch = with_partition_columns(&batch, file).map_err(|source| LakeError::Arrow { source })?;
        let rows = |source| LakeError::Rows { path: file.path.clone(), source };
        let reader = RowReader::new(&batch).map_err(rows)?;
        for row in 0..batch.num_rows() {
            if wanted.next() == Some(true) {
                let (at, record) = reader.record(row).map_err(rows)?;
                let is_kept = match Envelope::open(record.value.clone()) {
                    Ok(recorded) => event_types.contains(&recorded.event_type()),
                    Err(OpenError::NewerSchema { .. }) => has_newer.insert(at),
                    Err(_) => false,
                };
                if is_kept {
                    records.push((at, record.value));
                }
            }
        }
    }
    if wanted.next().is_some() {
        return Err(rows_differ(&file.path));
    }
    Ok(records)
}

async fn wanted_in(table: &Table, file: &DataFile, event_types: &[&str]) -> Result<Vec<bool>, LakeError> {
    let damaged = |source| read_error(&file.path, source);
    let builder = table.open(file).await?;
    let only = ProjectionMask::columns(builder.parquet_schema(), SAYING);
    let mut batches = builder.with_projection(only).build().map_err(damaged)?;
    let mut wanted = Vec::new();
    while let Some(batch) = batches.try_next().await.map_err(damaged)? {
        let [event_type, row_kind] = columns(&batch, SAYING)?;
        let (event_type, row_kind) = (event_type.as_string::<i32>(), row_kind.as_string::<i32>());
        let is_wanted = |row: usize| {
            let is_of_type = event_type.is_valid(row) && event_types.contains(&event_type.value(row));
            is_of_type || row_kind.value(row) == RowKind::DeadLetter.as_str()
        };
        wanted.extend((0..batch.num_rows()).map(is_wanted));
    }
    Ok(wanted)
}
