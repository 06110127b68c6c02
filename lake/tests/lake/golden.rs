//! A table of every schema version, kept for good: what was once written must be read for ever.
//!
//! `golden/schema-N` has the table that the first release of that schema wrote, as a folder; in `records.txt` what the log had and
//! what became of each record; in `files.txt` the files of its newest version and their rows. A new schema adds a folder, by
//! `make golden`; none ever changes.

#[path = "../../../proto/tests/golden/kept.rs"]
mod kept;

mod content;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use deltalake::logstore::{StorageConfig, default_logstore};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use retrace_lake::{
    Advance, CompactionOptions, Compactor, Location, RowReader, Rows, Snapshot, Sweeper, Table, file_schema,
};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::{Event, Id, Subject};
use serde_json::Value;

use crate::support::{EVENTS, id, sealed};
use kept::Kept;

const GOLDEN: &str = "lake/tests/golden";

/// The topics of the log in memory, on which the tests of ingest and query go on with these tables.
fn topic_id(topic: Topic) -> Id {
    Id::from_parts(1_767_225_600_000, [topic as u8 + 1; 10])
}

/// Merges whatever two files there are.
const TWO: CompactionOptions = CompactionOptions {
    file_bytes_max: 64 * 1024 * 1024,
    fan_in: 2,
    settled_after: Duration::MAX,
    step_bytes_max: u64::MAX,
};

/// A table that is kept, as a copy that may be written to.
struct Golden {
    version: u64,
    folder: PathBuf,
    table: Table,
    _copy: tempfile::TempDir,
}

async fn all() -> Vec<Golden> {
    let mut all = Vec::new();
    for (version, folder) in kept::numbered(GOLDEN, "schema") {
        let copy = tempfile::tempdir().expect("a folder");
        kept::copy(&folder.join("table"), copy.path());
        let location = Location::new(copy.path().to_str().expect("unicode"));
        let table = Table::open_or_create(&location).await.expect("a table of ours");
        all.push(Golden { version, folder, table, _copy: copy });
    }
    all
}

impl Golden {
    fn records(&self) -> Vec<Kept> {
        kept::read(&self.folder.join("records.txt"))
    }
}

type ByPlace = BTreeMap<(TopicPartition, u64), Kept>;

fn by_place(kept: Vec<Kept>) -> ByPlace {
    let count = kept.len();
    let by_place: ByPlace = kept.into_iter().map(|kept| ((kept.at, kept.record.offset), kept)).collect();
    assert_eq!(by_place.len(), count, "no place twice");
    by_place
}

async fn found(table: &Table, snapshot: &Snapshot) -> Vec<Kept> {
    let mut found = Vec::new();
    for file in snapshot.files() {
        for batch in table.read(file).await.expect("readable") {
            let reader = RowReader::new(&batch).expect("all columns");
            let kinds = batch.column_by_name("row_kind").expect("a kind").as_string::<i32>();
            for row in 0..batch.num_rows() {
                let (at, record) = reader.record(row).expect("whole");
                found.push(Kept { at, record, kind: kinds.value(row).to_owned() });
            }
        }
    }
    found
}

/// The files of a version and their rows, as `files.txt` has them.
fn files_of(snapshot: &Snapshot) -> String {
    let mut lines: Vec<_> =
        snapshot.files().iter().map(|file| format!("{} {}\n", file.path, file.rows)).collect();
    lines.sort_unstable();
    lines.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_every_schema_gives_its_records_back_bit_for_bit() {
    for golden in all().await {
        let snapshot = golden.table.snapshot().await.expect("readable");
        let files = fs::read_to_string(golden.folder.join("files.txt")).expect("the files are listed");
        assert_eq!(files_of(&snapshot), files, "schema {}", golden.version);
        assert_eq!(snapshot.miscount(topic_id), None, "schema {}", golden.version);
        assert_eq!(snapshot.foreign_topic(&Topic::ALL.map(topic_id)), None);
        let records = by_place(golden.records());
        for topic in Topic::ALL {
            let count = records.keys().filter(|(at, _)| at.topic == topic).count() as u64;
            assert!(count >= 3, "{topic} has records");
            assert_eq!(snapshot.position(topic_id(topic), 0), count, "{topic}");
        }
        assert_eq!(by_place(found(&golden.table, &snapshot).await), records, "schema {}", golden.version);
        // It is read from a checkpoint and what comes after, and has had files that are no more.
        let log = golden.folder.join("table/_delta_log");
        let checkpoint = fs::read_dir(log).expect("a log").find_map(|entry| {
            let name = entry.expect("readable").file_name().into_string().ok()?;
            name.strip_suffix(".checkpoint.parquet")?.parse::<u64>().ok()
        });
        assert!(checkpoint.expect("a checkpoint") < snapshot.version());
        let removed = data_files(&golden.folder).len() - snapshot.files().len();
        assert!(removed >= 2, "{removed} files that were merged");
    }
}

fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("table")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            let is_log = path.ends_with("_delta_log");
            if path.is_dir() && !is_log {
                folders.push(path);
            } else if !is_log {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_every_schema_is_written_on_merged_and_swept() {
    for golden in all().await {
        let Golden { version, table, .. } = &golden;
        let mut expected = by_place(golden.records());
        let next = table.snapshot().await.expect("readable").position(topic_id(Topic::Events), 0);
        let events = (0..3).map(|_| Event::policy_loaded("v".to_owned())).collect();
        let mut rows = Rows::new();
        for mut record in sealed(id(content::AT_US, 77), &Subject::default(), content::AT_US, events) {
            record.offset += next;
            record.appended_at_unix_us = content::AT_US;
            rows.push(EVENTS, &record);
            let kept = Kept { at: EVENTS, record, kind: "event".to_owned() };
            expected.insert((EVENTS, kept.record.offset), kept);
        }
        commit(table, rows, &[(Topic::Events, next, next + 3)]).await;
        let mut compactor = Compactor::new(table.clone(), TWO);
        let mut merged = 0;
        while let Some(compacted) = compactor.step().await.expect("nothing fails") {
            assert_eq!(compacted.left_alone, 0, "schema {version}");
            merged += compacted.merged;
        }
        assert!(merged >= 2, "schema {version}: {merged} files were merged");
        let mut sweeper = Sweeper::new(table.clone(), Duration::ZERO, Duration::ZERO);
        let swept = sweeper.sweep(topic_id).await.expect("swept");
        assert!(swept.deleted >= 2, "schema {version}: {swept:?}");
        let snapshot = table.snapshot().await.expect("readable");
        assert_eq!(by_place(found(table, &snapshot).await), expected, "schema {version}");
    }
}

async fn commit(table: &Table, rows: Rows, moves: &[(Topic, u64, u64)]) {
    let advance = |(topic, from_inclusive, to_exclusive): &(Topic, u64, u64)| Advance {
        topic_id: topic_id(*topic),
        partition: 0,
        from_inclusive: *from_inclusive,
        to_exclusive: *to_exclusive,
    };
    let files = table.data_files().add(rows.finish()).await.expect("encoded").finish().await;
    let advances: Vec<_> = moves.iter().map(advance).collect();
    table.commit(&files.expect("written"), &advances).await.expect("one writer");
}

/// What a table's first version says of its columns, and the number of its schema.
fn schema_of(first_version: &str) -> (Value, u64) {
    let actions = first_version.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let metadata = actions.filter_map(|mut action| action.get_mut("metaData").map(Value::take)).next();
    let metadata = metadata.expect("a table has metadata");
    let columns = metadata["schemaString"].as_str().expect("columns");
    let number = metadata["configuration"]["retrace.tableSchema"].as_str().expect("a number");
    (serde_json::from_str(columns).expect("JSON"), number.parse().expect("a number"))
}

const FIRST_VERSION: &str = "_delta_log/00000000000000000000.json";

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_that_is_written_is_kept() {
    let store = Arc::new(InMemory::new());
    let (kept, table) = write(&store).await;
    let first = store.get(&FIRST_VERSION.into()).await.expect("there").bytes().await.expect("readable");
    let (columns, number) = schema_of(std::str::from_utf8(&first).expect("JSON"));
    let folder = kept::root(&format!("{GOLDEN}/schema-{number}"));
    if !folder.exists() && std::env::var_os("RETRACE_BLESS").is_some() {
        keep(&store, &folder.join("table")).await;
        kept::write(&folder.join("records.txt"), &kept);
        let snapshot = table.snapshot().await.expect("readable");
        fs::write(folder.join("files.txt"), files_of(&snapshot)).expect("the folder is writable");
    }
    assert!(folder.exists(), "no table of schema {number} is kept: `make golden` writes one");
    let first = fs::read_to_string(folder.join("table").join(FIRST_VERSION)).expect("a first version");
    let (golden_columns, _) = schema_of(&first);
    assert!(
        columns == golden_columns,
        "the columns are no more those of schema {number}: that is a schema of its own. Give TABLE_SCHEMA the next number, read tables \
         of {number} all the same, and `make golden`\nthey were {golden_columns}\nthey are   {columns}"
    );
    for file in data_files(&folder) {
        let bytes = Bytes::from(fs::read(&file).expect("readable"));
        let found = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a data file");
        assert_eq!(names(found.schema()), names(&file_schema()), "{}", file.display());
    }
}

fn names(schema: &Schema) -> Vec<(&str, &DataType)> {
    schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect()
}

/// Writes a table as a gate and its ingest would: commits, a merge, a checkpoint, and commits after.
async fn write(store: &Arc<InMemory>) -> (Vec<Kept>, Table) {
    let root = Arc::clone(store) as Arc<dyn ObjectStore>;
    let table = Table::open_or_create_in(root, "memory:///").await.expect("a table");
    let kept = content::records();
    let mut positions: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    let batches = kept.len().div_ceil(BATCH_RECORDS);
    for (number, batch) in kept.chunks(BATCH_RECORDS).enumerate() {
        let mut rows = Rows::new();
        let mut moves: BTreeMap<TopicPartition, (u64, u64)> = BTreeMap::new();
        for kept in batch {
            content::push(&mut rows, kept);
            let next = positions.entry(kept.at).or_default();
            assert_eq!(kept.record.offset, *next, "offsets are dense");
            *next += 1;
            moves.entry(kept.at).or_insert((kept.record.offset, 0)).1 = *next;
        }
        let moves: Vec<_> = moves.into_iter().map(|(at, (from, to))| (at.topic, from, to)).collect();
        commit(&table, rows, &moves).await;
        if number == batches / 2 {
            let compacted = Compactor::new(table.clone(), TWO).step().await.expect("nothing fails");
            assert!(compacted.expect("files of about one size").merged >= 2);
            checkpoint(store).await;
        }
    }
    (kept, table)
}

const BATCH_RECORDS: usize = 8;

/// What the library writes after so many commits, by the function that it does it by.
async fn checkpoint(store: &Arc<InMemory>) {
    let root = || Arc::clone(store) as Arc<dyn ObjectStore>;
    let url = deltalake::ensure_table_uri("memory:///").expect("a URL");
    let log = default_logstore(root(), root(), &url, &StorageConfig::default());
    let mut table = deltalake::DeltaTable::new(log);
    table.load().await.expect("readable");
    deltalake::checkpoints::create_checkpoint(&table, None).await.expect("written");
}

/// Puts every object of a store into a folder.
async fn keep(store: &InMemory, folder: &Path) {
    let objects: Vec<_> = store.list(None).try_collect().await.expect("listed");
    for object in objects {
        let path = folder.join(object.location.as_ref());
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is writable");
        let bytes = store.get(&object.location).await.expect("there").bytes().await.expect("readable");
        fs::write(path, bytes).expect("the folder is writable");
    }
}
