//! A data file that is read to be written again.

use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

use crate::compact::order;
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::ranges::{Ranges, read_error};
use crate::schema::file_schema;
use crate::table::Table;

/// Rows decoded at a time, and rows written at a time, at most.
pub(crate) const BATCH_ROWS_MAX: usize = 256;

/// Bytes of rows, decoded, at which it is fewer of them: by the average of a file when they are decoded, by their own sizes
/// when they are written.
pub(crate) const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The rows of a file as they are read.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch, LakeError>>;

/// A file, of which only what describes it was read.
pub(crate) struct Input {
    pub(crate) path: Path,
    /// Whether each of its columns is one that this release writes.
    pub(crate) is_known: bool,
    /// Whether it says that its rows are in the order of [`ORDER`](crate::compact::ORDER).
    pub(crate) is_sorted: bool,
    pub(crate) decoded_bytes: u64,
    builder: ParquetRecordBatchStreamBuilder<Ranges>,
    /// As many as the table's log says, and as its footer does.
    rows: u64,
    rows_at_once: usize,
}

impl Input {
    /// A file that has not as many rows as the table's log says is damaged: whatever takes its place would not have as many
    /// either.
    pub(crate) async fn open(table: &Table, file: &DataFile) -> Result<Self, LakeError> {
        let builder = table.open(file).await?;
        check_rows(builder.metadata().row_groups(), file)?;
        let (known, order) = (file_schema(), order());
        let is_known = builder.schema().fields().iter().all(|field| known.index_of(field.name()).is_ok());
        let groups = builder.metadata().row_groups();
        let is_sorted = groups.iter().all(|group| group.sorting_columns() == Some(&order));
        let decoded_bytes = decoded_bytes(groups);
        let rows_at_once = usize::try_from(BATCH_BYTES_MAX.saturating_mul(file.rows) / decoded_bytes.max(1));
        let rows_at_once = rows_at_once.unwrap_or(BATCH_ROWS_MAX).clamp(1, BATCH_ROWS_MAX);
        let (path, rows) = (file.path.clone(), file.rows);
        Ok(Self { path, is_known, is_sorted, decoded_bytes, builder, rows, rows_at_once })
    }

    /// Its rows in its own order, a row group at a time, as batches of [`file_schema`].
    pub(crate) fn batches(self) -> Result<Batches, LakeError> {
        let Self { path, builder, rows, rows_at_once, .. } = self;
        let of = path.clone();
        let damaged = move |source| read_error(&of, source);
        let batches = builder.with_batch_size(rows_at_once).build().map_err(&damaged)?;
        let batches = batches.map_err(damaged).and_then(|rows| async move {
            // What is fetched is decoded without a wait: others have their turn.
            tokio::task::yield_now().await;
            as_file(&rows)
        });
        Ok(counted(batches.boxed(), path, rows))
    }
}

fn check_rows(groups: &[RowGroupMetaData], file: &DataFile) -> Result<(), LakeError> {
    let add = |rows: u64, group: &RowGroupMetaData| rows.checked_add(u64::try_from(group.num_rows()).ok()?);
    let found = groups.iter().try_fold(0, add);
    if found == Some(file.rows) { Ok(()) } else { Err(rows_differ(&file.path)) }
}

/// Fails where more or fewer rows come than the footer says, which may be whole where the rest is not.
fn counted(batches: Batches, path: Path, rows: u64) -> Batches {
    let counted = stream::try_unfold((batches, rows), move |(mut batches, left): (Batches, u64)| {
        let path = path.clone();
        async move {
            let Some(batch) = batches.try_next().await? else {
                return if left == 0 { Ok(None) } else { Err(rows_differ(&path)) };
            };
            let left = left.checked_sub(batch.num_rows() as u64).ok_or_else(|| rows_differ(&path))?;
            Ok(Some((batch, (batches, left))))
        }
    });
    counted.boxed()
}

pub(crate) fn rows_differ(path: &Path) -> LakeError {
    let source = ParquetError::General("it has not as many rows as the table's log says".to_owned());
    LakeError::Decode { path: path.clone(), source }
}

/// How many bytes the rows have when they are decoded; a value that repeats may take little room in the file.
fn decoded_bytes(groups: &[RowGroupMetaData]) -> u64 {
    let of_group = |group: &RowGroupMetaData| {
        let texts = group.columns().iter().filter_map(|column| column.unencoded_byte_array_data_bytes());
        let texts: i64 = texts.sum();
        u64::try_from(texts.max(group.total_byte_size())).unwrap_or(0)
    };
    groups.iter().map(of_group).sum()
}

/// A batch with the columns of [`file_schema`], in its order; a column that came later is null.
fn as_file(rows: &RecordBatch) -> Result<RecordBatch, LakeError> {
    let arrow = |source: ArrowError| LakeError::Arrow { source };
    let schema = file_schema();
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(arrow)?;
    RecordBatch::try_new(schema, columns).map_err(arrow)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array};

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from_value(7, rows));
        RecordBatch::try_from_iter([("column", column)]).expect("one column")
    }

    async fn read(sizes: &[usize], rows: u64) -> Result<usize, LakeError> {
        let batches: Vec<Result<_, LakeError>> = sizes.iter().map(|rows| Ok(batch(*rows))).collect();
        let counted = counted(stream::iter(batches).boxed(), Path::from("file"), rows);
        let read: Vec<RecordBatch> = counted.try_collect().await?;
        Ok(read.iter().map(RecordBatch::num_rows).sum())
    }

    #[tokio::test]
    async fn a_file_that_gives_more_or_fewer_rows_than_its_footer_says_is_damaged() {
        assert_eq!(read(&[2, 3], 5).await.expect("as many"), 5);
        assert_eq!(read(&[], 0).await.expect("none"), 0);
        for (sizes, rows) in [(vec![2, 3], 6), (vec![2, 3], 4), (vec![], 1)] {
            let outcome = read(&sizes, rows).await;
            assert!(matches!(outcome, Err(LakeError::Decode { .. })), "{outcome:?}");
        }
    }
}
