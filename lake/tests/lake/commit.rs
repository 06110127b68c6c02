//! The commit protocol: each step failing in each way, two writers, restarts, and tables that are not ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use retrace_lake::faults::{Fault, FaultyStore, Step};
use retrace_lake::{Advance, CommitError, DataFile, LakeError, Location, Rows, Table};
use retrace_proto::{Event, Id, Subject};
use url::Url;

use crate::compact::Held;
use crate::support::{EVENTS, NOON_US, id, sealed};

fn topic() -> Id {
    id(NOON_US, 7)
}

fn advance(from_inclusive: u64, to_exclusive: u64) -> Advance {
    Advance { topic_id: topic(), partition: 0, from_inclusive, to_exclusive }
}

async fn write(table: &Table, from: u64, to: u64) -> Result<Vec<DataFile>, LakeError> {
    let events = (0..to).map(|_| Event::policy_loaded("v".to_owned())).collect();
    let mut rows = Rows::new();
    for record in sealed(id(NOON_US, 0), &Subject::default(), NOON_US, events) {
        if record.offset >= from {
            rows.push(EVENTS, &record);
        }
    }
    table.data_files().add(rows.finish()).await?.finish().await
}

async fn open(store: &Arc<FaultyStore>) -> Table {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Table::open_or_create_in(store, "memory:///").await.expect("a table")
}

/// Rows and next offset as a reader who opens the table anew finds them.
async fn found(store: &Arc<FaultyStore>) -> (u64, u64) {
    let snapshot = open(store).await.snapshot().await.expect("readable");
    (snapshot.files().iter().map(|file| file.rows).sum(), snapshot.position(topic(), 0))
}

/// What a writer does: files, then the commit, again while it says so.
async fn write_and_commit(table: &Table, from: u64, to: u64) -> Result<(), CommitError> {
    let files = match write(table, from, to).await {
        Ok(files) => files,
        Err(_) => write(table, from, to).await.expect("the fault strikes once"),
    };
    for _ in 0..3 {
        match table.commit(&files, &[advance(from, to)]).await {
            Err(CommitError::Retry { .. }) => {}
            other => return other.map(drop),
        }
    }
    panic!("three retries for one fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_failing_in_every_way_leaves_each_row_once() {
    let mut struck = 0;
    for step in Step::ALL {
        for fault in [Fault::Failed, Fault::FailedButPersisted] {
            let store = FaultyStore::new(Arc::new(InMemory::new()));
            let table = open(&store).await;
            store.arm(step, fault);
            // The library writes a checkpoint with version 99.
            let commits = if step == Step::Checkpoint { 100 } else { 3 };
            for n in 0..commits {
                write_and_commit(&table, n * 3, n * 3 + 3).await.expect("one writer is never fenced");
            }
            assert_eq!(found(&store).await, (commits * 3, commits * 3), "{step:?} {fault:?}");
            struck += store.struck();
        }
    }
    println!("commit steps x faults that struck: {struck}");
    assert_eq!(struck, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_dies_after_any_step_finds_where_it_stood() {
    for fault in [Fault::Failed, Fault::FailedButPersisted] {
        let store = FaultyStore::new(Arc::new(InMemory::new()));
        let table = open(&store).await;
        let files = write(&table, 0, 5).await.expect("written");
        store.arm(Step::Commit, fault);
        let answer = table.commit(&files, &[advance(0, 5)]).await;
        let persisted = fault == Fault::FailedButPersisted;
        assert_eq!(answer.is_ok(), persisted, "{fault:?}");
        drop(table);
        let again = open(&store).await;
        let position = again.snapshot().await.expect("readable").position(topic(), 0);
        assert_eq!(position, if persisted { 5 } else { 0 });
        if position < 8 {
            write_and_commit(&again, position, 8).await.expect("free to go on");
        }
        assert_eq!(found(&store).await, (8, 8), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committing_the_same_files_twice_adds_them_once() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let table = open(&store).await;
    let files = write(&table, 0, 5).await.expect("written");
    let first = table.commit(&files, &[advance(0, 5)]).await.expect("made");
    let second = table.commit(&files, &[advance(0, 5)]).await.expect("made before");
    assert_eq!(first, second);
    assert_eq!(found(&store).await, (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_writers_is_fenced_and_told_both_positions() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let (one, two) = (open(&store).await, open(&store).await);
    write_and_commit(&one, 0, 5).await.expect("first");
    let error = write_and_commit(&two, 0, 3).await.expect_err("second");
    assert!(matches!(error, CommitError::Fenced { expected: 0, found: 5, .. }), "{error}");
    // The same range is no excuse: the rows in the table are the first writer's.
    let error = write_and_commit(&two, 0, 5).await.expect_err("second");
    assert!(matches!(error, CommitError::Fenced { expected: 0, found: 5, .. }), "{error}");
    assert_eq!(found(&store).await, (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_racing_for_one_position_exactly_one_wins() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    open(&store).await;
    let racers = (0..6).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { write_and_commit(&open(&store).await, 0, 4).await.is_ok() })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += usize::from(racer.await.expect("no panic"));
    }
    assert_eq!(won, 1);
    assert_eq!(found(&store).await, (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_different_partitions_both_commit() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let (one, two) = (open(&store).await, open(&store).await);
    let files = (write(&one, 0, 5).await.expect("written"), write(&two, 0, 5).await.expect("written"));
    let other = Advance { partition: 1, ..advance(0, 5) };
    let (first, second) = ([advance(0, 5)], [other]);
    let (first, second) = tokio::join!(one.commit(&files.0, &first), two.commit(&files.1, &second));
    first.expect("nobody else's partition");
    second.expect("nobody else's partition");
    let snapshot = one.snapshot().await.expect("readable");
    assert_eq!((snapshot.position(topic(), 0), snapshot.position(topic(), 1)), (5, 5));
    assert_eq!(snapshot.files().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_never_go_backwards_or_stand_still() {
    let table = open(&FaultyStore::new(Arc::new(InMemory::new()))).await;
    let files = write(&table, 0, 5).await.expect("written");
    for advances in [vec![advance(5, 4)], vec![advance(5, 5)], vec![]] {
        let error = table.commit(&files, &advances).await.expect_err("not forward");
        assert!(matches!(error, CommitError::NotForward));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_files_statistics_and_positions_across_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = folder.path().join("lake");
    let location = location.to_str().expect("unicode");
    let table = Table::open_or_create(&Location::new(location)).await.expect("a table");
    let files = write(&table, 0, 5).await.expect("written");
    table.commit(&files, &[advance(0, 5)]).await.expect("made");
    let again = Table::open_or_create(&Location::new(table.url())).await.expect("its URL opens it too");
    let snapshot = again.snapshot().await.expect("readable");
    assert_eq!(snapshot.position(topic(), 0), 5);
    let [file] = snapshot.files() else { panic!("one file") };
    assert_eq!((&file.path, file.rows, file.bytes), (&files[0].path, 5, files[0].bytes));
    assert_eq!(file.session_date, files[0].session_date);
    let offsets = file.stats.log_offset.as_ref().expect("known");
    assert_eq!((offsets.min_inclusive, offsets.max_inclusive), (0, 4));
    assert_eq!(file.stats.stream_id, files[0].stats.stream_id);
    let times = file.stats.appended_at.as_ref().expect("known");
    assert!(times.may_hold(&NOON_US) && times.may_hold(&(NOON_US + 4)));
    assert!(!times.may_hold(&(NOON_US - 1)) && !times.may_hold(&(NOON_US + 10_000)));
}

/// Commits each offset on its own, of another topic partition than the other tests' one.
async fn commit_elsewhere(table: &Table, offsets: Range<u64>) {
    for offset in offsets {
        let files = write(table, offset, offset + 1).await.expect("written");
        let elsewhere = Advance { partition: 1, ..advance(offset, offset + 1) };
        table.commit(&files, &[elsewhere]).await.expect("made");
    }
}

async fn clean_up(store: &dyn ObjectStore, below: u64) {
    for version in 0..below {
        store.delete(&Path::from(format!("_delta_log/{version:020}.json"))).await.expect("it was there");
    }
}

/// A process that was suspended for days, and the one that went on and cleaned the table's log up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_read_last_before_commits_that_are_no_longer_kept_reads_on_from_a_checkpoint() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let [suspended, late, other] = [open(&store).await, open(&store).await, open(&store).await];
    write_and_commit(&other, 0, 3).await.expect("made");
    assert_eq!(suspended.snapshot().await.expect("readable").position(topic(), 0), 3);
    commit_elsewhere(&other, 0..50).await;
    assert_eq!(late.snapshot().await.expect("readable").position(topic(), 1), 50);
    commit_elsewhere(&other, 50..105).await;
    clean_up(&*other.store(), 99).await;
    for table in [&suspended, &late] {
        let snapshot = table.snapshot().await.expect("readable");
        let rows: u64 = snapshot.files().iter().map(|file| file.rows).sum();
        assert_eq!((snapshot.position(topic(), 0), snapshot.position(topic(), 1), rows), (3, 105, 108));
        assert_eq!(snapshot.version(), other.snapshot().await.expect("readable").version());
    }
    write_and_commit(&suspended, 3, 6).await.expect("it goes on from there");
}

/// The number that it wanted is free again, far below the newest version, where nobody looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_put_where_the_log_was_cleaned_up_is_not_taken_for_made() {
    let objects = Arc::new(InMemory::new());
    let (judge, others) = (Arc::new(Held::default()), FaultyStore::new(Arc::clone(&objects) as _));
    let other = open(&others).await;
    write_and_commit(&other, 0, 3).await.expect("made");
    let slow = open(&FaultyStore::judged(Arc::clone(&objects) as _, Arc::clone(&judge) as _)).await;
    let files = write(&slow, 3, 6).await.expect("written");
    let committing = tokio::spawn({
        let (slow, files) = (slow.clone(), files.clone());
        async move { slow.commit(&files, &[advance(3, 6)]).await }
    });
    judge.arrived.notified().await;
    commit_elsewhere(&other, 0..105).await;
    clean_up(&*objects, 99).await;
    judge.goes_on.notify_one();
    let outcome = committing.await.expect("no panic");
    assert!(matches!(outcome, Err(CommitError::Retry { source: LakeError::Stale })), "{outcome:?}");
    assert_eq!(found(&others).await, (108, 3));
    judge.goes_on.notify_one();
    slow.commit(&files, &[advance(3, 6)]).await.expect("made now");
    assert_eq!(found(&others).await, (111, 6));
}

/// A thousand versions, of somebody else who moves no position, and all of them old.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_cleaned_up_below_its_newest_checkpoint_once_it_is_old() {
    const OLD: Duration = Duration::from_hours(48);
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location { url: folder.path().display().to_string(), options: Default::default() };
    let open = async || Table::open_or_create(&location).await.expect("a table");
    let [table, suspended] = [open().await, open().await];
    let log = folder.path().join("_delta_log");
    let first = fs::read_to_string(log.join(format!("{:020}.json", 0))).expect("version 0");
    for kept in ["delta.logRetentionDuration", "delta.deletedFileRetentionDuration"] {
        assert!(first.contains(&format!("\"{kept}\":\"interval 129600 seconds\"")), "{first}");
    }
    let columns = "topic,topic_partition,log_offset,appended_at,occurred_at,stream_id,stream_seq,session_id";
    assert!(first.contains(&format!("\"delta.dataSkippingStatsColumns\":\"{columns}\"")), "{first}");
    for version in 1..=1000 {
        let commit = format!("{{\"txn\":{{\"appId\":\"another\",\"version\":{version}}}}}\n");
        fs::write(log.join(format!("{version:020}.json")), commit).expect("written");
    }
    let url = Url::from_directory_path(folder.path()).expect("a path");
    let delta = deltalake::open_table(url).await.expect("a table");
    deltalake::checkpoints::create_checkpoint(&delta, None).await.expect("written");
    let logs = || {
        let all = fs::read_dir(&log).expect("a log").map(|entry| entry.expect("readable").path());
        all.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    assert_eq!(logs().len(), 1001 + 1 + 1, "versions, a checkpoint, and the hint at it");
    for path in logs() {
        let file = fs::File::options().append(true).open(path).expect("writable");
        file.set_modified(SystemTime::now() - OLD).expect("it can be set");
    }
    write_and_commit(&table, 0, 3).await.expect("made");
    let mut kept: Vec<_> = logs().iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    kept.sort_unstable();
    let of = |version: u64, kind: &str| format!("{version:020}.{kind}");
    let left =
        [of(1000, "checkpoint.parquet"), of(1000, "json"), of(1001, "json"), "_last_checkpoint".into()];
    assert_eq!(kept, left.map(OsString::from));
    for reader in [suspended, open().await] {
        let snapshot = reader.snapshot().await.expect("readable");
        let found = (snapshot.version(), snapshot.position(topic(), 0), snapshot.files().len());
        assert_eq!(found, (1001, 3, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_and_positions_survive_a_checkpoint() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let table = open(&store).await;
    let mut before = BTreeMap::new();
    for n in 0..105 {
        write_and_commit(&table, n, n + 1).await.expect("made");
        if n == 90 {
            let snapshot = table.snapshot().await.expect("readable");
            before.extend(snapshot.files().iter().map(|file| (file.path.clone(), file.stats.clone())));
        }
    }
    let log: Vec<_> = futures::TryStreamExt::try_collect(table.store().list(None)).await.expect("listed");
    let checkpoints = log
        .iter()
        .filter(|meta: &&object_store::ObjectMeta| meta.location.as_ref().ends_with(".checkpoint.parquet"));
    assert!(checkpoints.count() > 0, "no checkpoint was written");
    let snapshot = open(&store).await.snapshot().await.expect("readable");
    assert_eq!(snapshot.position(topic(), 0), 105);
    let mut offsets: Vec<i64> = Vec::new();
    for file in snapshot.files() {
        let known = file.stats.log_offset.as_ref().expect("known after a checkpoint");
        assert!(file.stats.appended_at.as_ref().expect("known").may_hold(&(NOON_US + known.min_inclusive)));
        offsets.push(known.min_inclusive);
        before.remove(&file.path).iter().for_each(|before| assert_eq!(*before, file.stats));
    }
    assert!(before.is_empty(), "{before:?}");
    offsets.sort_unstable();
    assert_eq!(offsets, (0..105).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_the_table_survives_a_read_that_fails() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let (table, reader) = (open(&store).await, open(&store).await);
    for n in 0..50 {
        write_and_commit(&table, n, n + 1).await.expect("made");
    }
    let _ = reader.snapshot().await.expect("readable");
    store.set_away(true);
    let _ = reader.snapshot().await.expect_err("nothing answers");
    store.set_away(false);
    write_and_commit(&table, 50, 51).await.expect("made");
    let before = store.gets();
    assert_eq!(reader.snapshot().await.expect("readable").position(topic(), 0), 51);
    let gets = store.gets() - before;
    assert!(gets < 10, "{gets} objects were read for one new version");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_behind_reads_a_checkpoint_and_not_each_commit_before_it() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let (table, reader) = (open(&store).await, open(&store).await);
    commit_elsewhere(&table, 0..105).await;
    let before = store.gets();
    assert_eq!(reader.snapshot().await.expect("readable").position(topic(), 1), 105);
    let gets = store.gets() - before;
    assert!(gets < 50, "{gets} objects were read for 105 new versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_later_release_took_over_is_neither_read_nor_written_on() {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let table = open(&store).await;
    write_and_commit(&table, 0, 5).await.expect("made");
    let files = write(&table, 5, 8).await.expect("written");
    let first = store.get(&Path::from("_delta_log/00000000000000000000.json")).await.expect("there");
    let first = String::from_utf8(first.bytes().await.expect("readable").to_vec()).expect("JSON");
    let ours = first.lines().find(|line| line.starts_with(r#"{"metaData""#)).expect("metadata");
    let later = ours.replacen(r#""retrace.tableSchema":""#, r#""retrace.tableSchema":"9"#, 1);
    assert!(later != ours, "{ours}");
    let later = store.put(&Path::from("_delta_log/00000000000000000002.json"), later.into()).await;
    later.expect("put");
    let error = table.snapshot().await.expect_err("it is read no more");
    assert!(matches!(error, LakeError::Newer { version } if version >= 90), "{error}");
    let error = table.commit(&files, &[advance(5, 8)]).await.expect_err("nor written");
    assert!(matches!(error, CommitError::Retry { source: LakeError::Newer { .. } }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_delta_table_and_a_newer_one_are_refused() {
    use deltalake::kernel::{DataType, PrimitiveType};
    let make = async |version: Option<&str>| {
        let folder = tempfile::tempdir().expect("a folder");
        let location = folder.path().to_str().expect("unicode").to_owned();
        deltalake::operations::create::CreateBuilder::new()
            .with_location(&location)
            .with_column("id", DataType::Primitive(PrimitiveType::Long), true, None)
            .with_configuration([("retrace.tableSchema", version)])
            .with_raise_if_key_not_exists(false)
            .await
            .expect("made");
        let refused = Table::open_or_create(&Location::new(&location)).await.expect_err("not ours");
        drop(folder);
        refused
    };
    assert!(matches!(make(None).await, LakeError::Foreign));
    assert!(matches!(make(Some("1")).await, LakeError::Foreign), "ours by name, not by columns");
    assert!(matches!(make(Some("2")).await, LakeError::Newer { version: 2 }));
    let elsewhere = Table::open_or_create(&Location::new("ftp://host/lake")).await.expect_err("not a folder");
    assert!(matches!(elsewhere, LakeError::Location { .. }));
}
