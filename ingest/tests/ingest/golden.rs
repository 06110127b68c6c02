//! The log of every schema version becomes the rows that it became then: a column that is filled in another way is seen here.

#[path = "../../../proto/tests/golden/kept.rs"]
mod kept;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_lake::{Location, Table};
use retrace_proto::log::TopicPartition;

use crate::support::{ingest, kinds, open, store};
use kept::Kept;

/// Every row of a table in the order of topic, partition and offset.
async fn rows(table: &Table) -> RecordBatch {
    let mut batches = Vec::new();
    for file in table.snapshot().await.expect("readable").files() {
        batches.extend(table.read(file).await.expect("readable"));
    }
    let all = concat_batches(&retrace_lake::schema(), &batches).expect("one schema");
    let by = ["topic", "topic_partition", "log_offset"].map(|name| {
        let values = Arc::clone(all.column_by_name(name).expect("a column"));
        SortColumn { values, options: None }
    });
    let order = lexsort_to_indices(&by, None).expect("they can be sorted");
    take_record_batch(&all, &order).expect("within it")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_every_schema_version_becomes_the_rows_that_it_became() {
    for (version, folder) in kept::numbered("lake/tests/golden", "schema") {
        let records = kept::read(&folder.join("records.txt"));
        let log = Arc::new(MemoryLog::new());
        for Kept { at, record, .. } in &records {
            log.set_now(record.appended_at_unix_us);
            let offset = log.append(*at, record.key.clone(), record.value.clone()).await;
            assert_eq!(offset, Ok(record.offset), "schema {version}: {at}");
        }
        let store = store();
        ingest(&log, open(&store).await).run(std::future::ready(())).await.expect("drained");

        let found = crate::support::found(&store).await;
        for at in records.iter().map(|kept| kept.at).collect::<std::collections::BTreeSet<TopicPartition>>() {
            let of: Vec<_> = records.iter().filter(|kept| kept.at == at).map(|kept| &*kept.kind).collect();
            assert_eq!(kinds(&found, at), of, "schema {version}: {at}");
        }
        let copy = tempfile::tempdir().expect("a folder");
        kept::copy(&folder.join("table"), copy.path());
        let location = Location::new(copy.path().to_str().expect("unicode"));
        let then = rows(&Table::open_or_create(&location).await.expect("a table of ours")).await;
        let now = rows(&open(&store).await).await;
        assert_eq!((now.num_rows(), then.num_rows()), (records.len(), records.len()));
        for (index, field) in then.schema().fields().iter().enumerate() {
            let (now, then) = (now.column_by_name(field.name()).expect("a column stays"), then.column(index));
            assert_eq!(now, then, "schema {version}: column {}", field.name());
        }
    }
}
