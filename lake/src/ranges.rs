use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::table::Table;

/// Read from a file's end at first: mostly all of what describes it.
const FOOTER_BYTES: usize = 64 * 1024;

impl Table {
    /// Reads what describes a file. Of its rows only what is asked for is fetched, one row group at a time.
    pub(crate) async fn open(
        &self,
        file: &DataFile,
    ) -> Result<ParquetRecordBatchStreamBuilder<Ranges>, LakeError> {
        let reader = Ranges { store: self.store(), path: file.path.clone(), bytes: file.bytes };
        let opened = ParquetRecordBatchStreamBuilder::new(reader).await;
        opened.map_err(|source| read_error(&file.path, source))
    }
}

/// A file of which only the ranges asked for are read.
pub(crate) struct Ranges {
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

/// What the store failed at may work later; what the decoder failed at is damaged.
pub(crate) fn read_error(path: &Path, source: ParquetError) -> LakeError {
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
