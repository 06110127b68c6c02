//! Compaction: each step failing in each way, two at a time, beside writers; and rows that stay what they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use retrace_lake::faults::{Fault, FaultyStore, Judge, Step};
use retrace_lake::{
    Advance, Compacted, CompactionOptions, Compactor, DataFile, LakeError, RewriteError, RowReader, Rows,
    Snapshot, Sweeper, Table,
};
use retrace_proto::log::Record;
use retrace_proto::{Event, Id, Subject};
use tokio::sync::Notify;

use crate::support::{EVENTS, NOON_US, add_a_column, id, record, sealed};

/// How many streams write at a time.
const STREAMS: u64 = 5;

/// Merges whatever two files there are.
const TWO: CompactionOptions = CompactionOptions {
    file_bytes_max: 64 * 1024 * 1024,
    fan_in: 2,
    settled_after: Duration::MAX,
    step_bytes_max: u64::MAX,
};

fn topic() -> Id {
    id(NOON_US, 7)
}

/// The records of so many offsets, of streams that take turns; every thirteenth is no envelope.
fn records(count: u64) -> Vec<Record> {
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|stream| {
            let events = (0..count).map(|_| Event::policy_loaded("v".to_owned())).collect();
            let seed = u8::try_from(STREAMS - stream).expect("few");
            sealed(id(NOON_US, seed), &Subject::default(), NOON_US, events).into_iter()
        })
        .collect();
    let of_offset = |offset: u64| {
        let stream = usize::try_from(offset % STREAMS).expect("few");
        let Record { key, value, .. } = streams[stream].next().expect("enough");
        let value = if offset % 13 == 12 { Bytes::from_static(b"no envelope") } else { value };
        let stream = Id::from_slice(&key).expect("a stream's id");
        record(offset, stream, value)
    };
    (0..count).map(of_offset).collect()
}

pub(crate) async fn open(store: &Arc<FaultyStore>) -> Table {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Table::open_or_create_in(store, "memory:///").await.expect("a table")
}

pub(crate) fn store() -> Arc<FaultyStore> {
    FaultyStore::new(Arc::new(InMemory::new()))
}

async fn write(table: &Table, from: u64, to: u64) -> Vec<DataFile> {
    let mut rows = Rows::new();
    records(to).iter().filter(|record| record.offset >= from).for_each(|record| rows.push(EVENTS, record));
    table.data_files().add(rows.finish()).await.expect("encoded").finish().await.expect("written")
}

pub(crate) fn advance(from_inclusive: u64, to_exclusive: u64) -> Advance {
    Advance { topic_id: topic(), partition: 0, from_inclusive, to_exclusive }
}

/// Commits so many files, each of ten rows.
async fn fill(table: &Table, files: u64) {
    for number in 0..files {
        let (from, to) = (number * 10, number * 10 + 10);
        table.commit(&write(table, from, to).await, &[advance(from, to)]).await.expect("made");
    }
}

async fn batches(table: &Table, snapshot: &Snapshot) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    for file in snapshot.files() {
        let read = table.read(file).await.expect("readable");
        assert_eq!(read.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), file.rows);
        all.extend(read);
    }
    all
}

/// The records that a reader who opens the table anew finds; none is there twice.
async fn found(store: &Arc<FaultyStore>) -> BTreeMap<u64, Record> {
    let table = open(store).await;
    let snapshot = table.snapshot().await.expect("readable");
    let mut found = BTreeMap::new();
    for batch in batches(&table, &snapshot).await {
        let reader = RowReader::new(&batch).expect("the table's columns");
        for row in 0..batch.num_rows() {
            let (at, record) = reader.record(row).expect("whole");
            assert_eq!(at, EVENTS);
            let before = found.insert(record.offset, record);
            assert_eq!(before, None, "twice");
        }
    }
    assert_eq!(snapshot.position(topic(), 0), found.len() as u64);
    found
}

fn expected(count: u64) -> BTreeMap<u64, Record> {
    records(count).into_iter().map(|record| (record.offset, record)).collect()
}

async fn compact(table: &Table) -> Result<Option<Compacted>, RewriteError> {
    Compactor::new(table.clone(), TWO).step().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stay_what_they_are_and_stand_by_stream_in_one_file() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 12).await;
    let before = table.snapshot().await.expect("readable");
    let compacted = compact(&table).await.expect("merged").expect("there were files to merge");
    assert_eq!((compacted.merged, compacted.written, compacted.rows), (12, 1, 120));
    assert_eq!(found(&store).await, expected(120));

    let after = table.snapshot().await.expect("readable");
    let [file] = after.files() else { panic!("one file: {:?}", after.files()) };
    let offsets = file.stats.log_offset.as_ref().expect("known");
    assert_eq!((offsets.min_inclusive, offsets.max_inclusive), (0, 119));
    let mut places = Vec::new();
    for batch in batches(&table, &after).await {
        let column = |name| batch.column_by_name(name).expect("a column");
        let (streams, offsets) = (column("stream_id").as_string::<i32>(), column("log_offset"));
        let offsets = offsets.as_primitive::<Int64Type>().values().to_vec();
        places.extend(streams.iter().map(|stream| stream.map(str::to_owned)).zip(offsets));
    }
    let mut sorted = places.clone();
    sorted.sort_by_key(|(stream, offset)| (stream.is_none(), stream.clone(), *offset));
    assert_eq!(places, sorted, "by stream, and those without one last");

    assert_eq!(compact(&table).await.expect("nothing fails"), None, "one file is one");
    // Whoever began before reads on.
    assert_eq!(batches(&table, &before).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_is_merged_again() {
    let store = store();
    let table = open(&store).await;
    let mut merges = 0;
    for number in 0..40 {
        let (from, to) = (number * 10, number * 10 + 10);
        table.commit(&write(&table, from, to).await, &[advance(from, to)]).await.expect("made");
        merges += usize::from(compact(&table).await.expect("merged").is_some());
    }
    assert!(merges >= 20, "{merges}");
    assert_eq!(found(&store).await, expected(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_failing_in_every_way_leaves_each_row_once() {
    for step in [Step::DataFile, Step::Commit] {
        for fault in [Fault::Failed, Fault::FailedButPersisted] {
            let store = store();
            let table = open(&store).await;
            fill(&table, 6).await;
            store.arm(step, fault);
            let outcome = compact(&table).await;
            assert_eq!(store.struck(), 1, "{step:?} {fault:?}");
            assert_eq!(found(&store).await, expected(60), "{step:?} {fault:?}: {outcome:?}");
            if step == Step::Commit {
                assert!(outcome.expect("it is tried again, or was made").is_some());
            }
            // Whoever restarts finds nothing to settle.
            while compact(&open(&store).await).await.expect("nothing fails").is_some() {}
            assert_eq!(found(&store).await, expected(60), "{step:?} {fault:?}");
            assert_eq!(open(&store).await.snapshot().await.expect("readable").files().len(), 1);
        }
    }
}

/// Lets a commit wait before it is put, until it may go on.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) arrived: Notify,
    pub(crate) goes_on: Notify,
}

#[async_trait]
impl Judge for Held {
    async fn judge(&self, step: Step) -> Option<Fault> {
        if step == Step::Commit {
            self.arrived.notify_one();
            self.goes_on.notified().await;
        }
        None
    }

    fn ended(&self, _step: Step) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compactor_that_comes_second_has_merged_in_vain() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let plain = FaultyStore::new(Arc::clone(&inner));
    fill(&open(&plain).await, 10).await;
    let held = Arc::new(Held::default());
    let late = open(&FaultyStore::judged(inner, Arc::clone(&held) as Arc<dyn Judge>)).await;
    let late = tokio::spawn(async move { compact(&late).await });
    held.arrived.notified().await;
    let first = compact(&open(&plain).await).await.expect("merged");
    assert_eq!(first.map(|first| first.merged), Some(10));
    held.goes_on.notify_one();
    let error = late.await.expect("no panic").expect_err("it is too late");
    assert!(matches!(error, RewriteError::Overtaken), "{error:?}");
    assert_eq!(found(&plain).await, expected(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compactor_that_a_writer_comes_before_commits_after_it() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let plain = FaultyStore::new(Arc::clone(&inner));
    let writer = open(&plain).await;
    fill(&writer, 10).await;
    let held = Arc::new(Held::default());
    let late = open(&FaultyStore::judged(inner, Arc::clone(&held) as Arc<dyn Judge>)).await;
    let late = tokio::spawn(async move { compact(&late).await });
    for (from, to) in [(100, 110), (110, 130)] {
        held.arrived.notified().await;
        writer.commit(&write(&writer, from, to).await, &[advance(from, to)]).await.expect("made");
        held.goes_on.notify_one();
    }
    held.arrived.notified().await;
    held.goes_on.notify_one();
    let compacted = late.await.expect("no panic").expect("nobody else merges");
    assert_eq!(compacted.map(|compacted| compacted.merged), Some(10));
    assert_eq!(found(&plain).await, expected(130));
    assert_eq!(writer.snapshot().await.expect("readable").files().len(), 3);
}

/// Writes a file as a later release may write it, with a column more.
async fn write_with_another_column(table: &Table, from: u64, to: u64) -> Vec<DataFile> {
    let mut files = write(table, from, to).await;
    let [file] = &mut files[..] else { panic!("one file") };
    add_a_column(table, file).await;
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_merged_hold_up_no_others() {
    let store = store();
    let table = open(&store).await;
    let later = write_with_another_column(&table, 0, 10).await;
    table.commit(&later, &[advance(0, 10)]).await.expect("made");
    for first in 1..6 {
        let (from, to) = (first * 10, first * 10 + 10);
        table.commit(&write(&table, from, to).await, &[advance(from, to)]).await.expect("made");
    }
    let damaged = table.snapshot().await.expect("readable").files().to_vec();
    let damaged =
        damaged.iter().find(|file| file.path.as_ref().contains("-00000000000000000030-")).expect("there");
    let garbage = vec![7; usize::try_from(damaged.bytes).expect("small")];
    table.store().put(&damaged.path, garbage.into()).await.expect("put");

    let mut compactor = Compactor::new(table.clone(), TWO);
    let compacted = compactor.step().await.expect("merged").expect("there were files to merge");
    assert_eq!(
        (compacted.merged, compacted.left_alone),
        (4, 2),
        "a column would be lost, and one is damaged"
    );
    assert_eq!(compactor.step().await.expect("nothing fails"), None);
    let files = table.snapshot().await.expect("readable").files().to_vec();
    assert_eq!(files.len(), 3);
    assert!([&later[0], damaged].iter().all(|kept| files.iter().any(|file| file.path == kept.path)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_some_files_holds_up_no_others_for_ever() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 4).await;
    let files = table.snapshot().await.expect("readable").files().to_vec();
    // The store has less of it than its place in the table says.
    table.store().put(&files[1].path, "short".into()).await.expect("put");
    let mut compactor = Compactor::new(table.clone(), TWO);
    let mut steps = 0;
    while let Ok(Some(_)) | Err(RewriteError::Lake(_)) = compactor.step().await {
        steps += 1;
        assert!(steps < 20, "it tries for ever");
    }
    let left = table.snapshot().await.expect("readable").files().to_vec();
    assert!(left.len() == 2 && left.iter().any(|file| file.path == files[1].path), "{left:?}");
}

/// Writes a file that has a row fewer than its place in the table says.
pub(crate) async fn write_with_a_row_fewer(table: &Table, from: u64, to: u64) -> Vec<DataFile> {
    let (mut files, fewer) = (write(table, from, to).await, write(table, from, to - 1).await);
    let store = table.store();
    let whole = store.get(&fewer[0].path).await.expect("there").bytes().await.expect("readable");
    files[0].bytes = whole.len() as u64;
    store.put(&files[0].path, whole.into()).await.expect("put");
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_not_as_many_rows_as_the_table_says_holds_up_no_others() {
    let store = store();
    let table = open(&store).await;
    let lying = write_with_a_row_fewer(&table, 0, 10).await;
    table.commit(&lying, &[advance(0, 10)]).await.expect("made");
    for first in 1..4 {
        let (from, to) = (first * 10, first * 10 + 10);
        table.commit(&write(&table, from, to).await, &[advance(from, to)]).await.expect("made");
    }
    let mut compactor = Compactor::new(table.clone(), TWO);
    let compacted = compactor.step().await.expect("merged").expect("there were files to merge");
    assert_eq!((compacted.merged, compacted.rows, compacted.left_alone), (3, 30, 1));
    assert_eq!(compactor.step().await.expect("nothing fails"), None);
    let files = table.snapshot().await.expect("readable").files().to_vec();
    assert!(files.len() == 2 && files.iter().any(|file| file.path == lying[0].path), "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_found_damaged_while_it_is_merged_is_left_alone_and_no_other() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 4).await;
    // Rows that are there already, which shows only where the two files come together.
    table.commit(&write(&table, 0, 10).await, &[advance(40, 50)]).await.expect("made");
    let mut compactor = Compactor::new(table.clone(), TWO);
    let first = compactor.step().await.expect("nothing fails").expect("a file was given up");
    assert_eq!((first.merged, first.left_alone), (0, 1));
    let second = compactor.step().await.expect("merged").expect("there were files to merge");
    assert_eq!((second.merged, second.rows, second.left_alone), (4, 40, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_merged_once_a_store_that_was_full_takes_what_they_become() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 4).await;
    let mut compactor = Compactor::new(table.clone(), TWO);
    for full in 1..20 {
        store.arm(Step::DataFile, Fault::Failed);
        let error = compactor.step().await.expect_err("the store takes nothing");
        assert!(matches!(error, RewriteError::Lake(LakeError::Store { .. })), "{error:?}");
        assert_eq!(store.struck(), full);
    }
    let compacted = compactor.step().await.expect("merged").expect("no file was given up");
    assert_eq!((compacted.merged, compacted.written, compacted.left_alone), (4, 1, 0));
    assert_eq!(found(&store).await, expected(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_damaged_while_the_store_is_full_is_left_alone_and_told_of_once_it_is_not() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 4).await;
    let damaged = table.snapshot().await.expect("readable").files()[0].clone();
    let whole = table.store().get(&damaged.path).await.expect("there").bytes().await.expect("readable");
    table.store().put(&damaged.path, vec![7; whole.len()].into()).await.expect("put");
    let mut compactor = Compactor::new(table.clone(), TWO);
    store.arm(Step::DataFile, Fault::Failed);
    let error = compactor.step().await.expect_err("the store takes nothing");
    assert!(matches!(error, RewriteError::Lake(LakeError::Store { .. })), "{error:?}");
    // It would be merged if it was opened again.
    table.store().put(&damaged.path, whole.into()).await.expect("put");
    let compacted = compactor.step().await.expect("merged").expect("there were files to merge");
    assert_eq!((compacted.merged, compacted.left_alone), (3, 1));
    assert_eq!(compactor.step().await.expect("nothing fails"), None, "it is told of once");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_while_files_are_merged() {
    let store = store();
    let (writer, merger) = (open(&store).await, open(&store).await);
    let writes = tokio::spawn(async move { fill(&writer, 60).await });
    let mut merges = 0;
    while merges < 3 || !writes.is_finished() {
        merges += usize::from(compact(&merger).await.expect("merged").is_some());
        tokio::task::yield_now().await;
    }
    writes.await.expect("no panic");
    while compact(&merger).await.expect("merged").is_some() {}
    assert_eq!(found(&store).await, expected(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_asks_again_whether_its_commit_was_made_is_told_so_though_its_files_were_merged() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 3).await;
    let files = write(&table, 30, 40).await;
    table.commit(&files, &[advance(30, 40)]).await.expect("made");
    let compacted = compact(&table).await.expect("merged").expect("there were files to merge");
    assert_eq!(compacted.merged, 4);
    let again = table.commit(&files, &[advance(30, 40)]).await.expect("it was made");
    assert_eq!(again, table.snapshot().await.expect("readable").version());
    assert_eq!(found(&store).await, expected(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_files_are_deleted_once_nobody_can_read_them_any_more() {
    let store = store();
    let table = open(&store).await;
    fill(&table, 4).await;
    let before = table.snapshot().await.expect("readable");
    let _ = compact(&table).await.expect("merged").expect("there were files to merge");
    let sweep = async |removed_age_min| {
        let mut sweeper = Sweeper::new(table.clone(), Duration::ZERO, removed_age_min);
        sweeper.sweep(|topic| id(NOON_US, topic as u8 + 7)).await.expect("swept").deleted
    };
    assert_eq!(sweep(Duration::from_secs(3600)).await, 0, "too young");
    assert_eq!(sweep(Duration::ZERO).await, 4);
    for file in before.files() {
        let gone = table.store().head(&file.path).await;
        assert!(matches!(gone, Err(object_store::Error::NotFound { .. })));
    }
    assert_eq!(found(&store).await, expected(40));
}
