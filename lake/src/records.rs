use arrow::array::{Array, AsArray, RecordBatch};
use bytes::Bytes;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use retrace_proto::log::{Topic, TopicPartition};

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::places::columns;
use crate::ranges::read_error;
use crate::read::RowReader;
use crate::rows::RowKind;
use crate::scan::with_partition_columns;
use crate::table::{Snapshot, Table};

/// The columns that say what a record is.
const SAYING: [&str; 2] = ["event_type", "row_kind"];

impl Table {
    /// The records of a topic whose events are of one of these types, as the log had them, in no order; dead letters are always
    /// among them, since who wrote before somebody else may have made his record one.
    ///
    /// Of a file that has none of them only the two columns are read that say so.
    pub async fn records_of(
        &self,
        of: &Snapshot,
        topic: Topic,
        event_types: &[&str],
    ) -> Result<Vec<(TopicPartition, Bytes)>, LakeError> {
        let mut records = Vec::new();
        for file in of.files() {
            match file.topic_partition() {
                Some(at) if at.topic != topic => continue,
                _ => {}
            }
            let wanted = self.wanted_in(file, event_types).await?;
            if wanted.iter().any(|wanted| *wanted) {
                self.add_records(&mut records, file, &wanted).await?;
            }
        }
        records.retain(|(at, _)| at.topic == topic);
        Ok(records)
    }

    async fn wanted_in(&self, file: &DataFile, event_types: &[&str]) -> Result<Vec<bool>, LakeError> {
        let damaged = |source| read_error(&file.path, source);
        let builder = self.open(file).await?;
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

    async fn add_records(
        &self,
        records: &mut Vec<(TopicPartition, Bytes)>,
        file: &DataFile,
        wanted: &[bool],
    ) -> Result<(), LakeError> {
        let damaged = |source| read_error(&file.path, source);
        let mut batches = self.open(file).await?.build().map_err(damaged)?;
        let mut wanted = wanted.iter();
        while let Some(batch) = batches.try_next().await.map_err(damaged)? {
            let batch: RecordBatch =
                with_partition_columns(&batch, file).map_err(|source| LakeError::Arrow { source })?;
            let rows = |source| LakeError::Rows { path: file.path.clone(), source };
            let reader = RowReader::new(&batch).map_err(rows)?;
            for row in 0..batch.num_rows() {
                if wanted.next() == Some(&true) {
                    let (at, record) = reader.record(row).map_err(rows)?;
                    records.push((at, record.value));
                }
            }
        }
        Ok(())
    }
}
