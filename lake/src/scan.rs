use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::schema::schema;
use crate::table::Table;

impl Table {
    /// All rows of one file as batches of [`schema`](crate::schema()), partition columns included, in the file's order.
    ///
    /// It reads the whole file into memory: for checks and rebuilds. Queries scan [`Table::store`] themselves.
    pub async fn read(&self, file: &DataFile) -> Result<Vec<RecordBatch>, LakeError> {
        let failed = |source| LakeError::Store { source };
        let whole = self.store().get(&file.path).await.map_err(failed)?.bytes().await.map_err(failed)?;
        let damaged = |source| LakeError::Decode { path: file.path.clone(), source };
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(whole).map_err(damaged)?.build().map_err(damaged)?;
        let rows = reader.map(|batch| with_partition_columns(&batch?, file));
        rows.collect::<Result<_, _>>().map_err(|source| LakeError::Arrow { source })
    }
}

/// Puts back what Delta keeps outside the file.
pub(crate) fn with_partition_columns(
    batch: &RecordBatch,
    file: &DataFile,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let table = schema();
    let column = |name: &str| -> Result<ArrayRef, arrow::error::ArrowError> {
        let rows = batch.num_rows();
        Ok(match name {
            "session_date" => Arc::new(Date32Array::from_value(file.session_date, rows)),
            "retention_class" => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&file.retention_class, rows)))
            }
            _ => Arc::clone(batch.column(batch.schema().index_of(name)?)),
        })
    };
    let columns = table.fields().iter().map(|field| column(field.name())).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(table, columns)
}
