//! What dead writers left is deleted, and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, Remove};
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use retrace_lake::{Advance, CommitError, DataFile, LakeError, Location, Miscount, Rows, Sweeper, Table};
use retrace_proto::log::Topic;
use retrace_proto::{Event, Id, Subject};

use crate::support::{EVENTS, NOON_US, id, sealed};

const AT_ONCE: Duration = Duration::ZERO;

/// How long files that were of the table are kept.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn topic_id(topic: Topic) -> Id {
    id(NOON_US, topic as u8 + 7)
}

fn advance(from_inclusive: u64, to_exclusive: u64) -> Advance {
    Advance { topic_id: topic_id(Topic::Events), partition: 0, from_inclusive, to_exclusive }
}

async fn write(table: &Table, from: u64, to: u64) -> Vec<DataFile> {
    let events = (0..to).map(|_| Event::policy_loaded("v".to_owned())).collect();
    let mut rows = Rows::new();
    for record in sealed(id(NOON_US, 0), &Subject::default(), NOON_US, events) {
        if record.offset >= from {
            rows.push(EVENTS, &record);
        }
    }
    table.data_files().add(rows.finish()).await.expect("encoded").finish().await.expect("written")
}

/// A table in a folder of a store that holds other things too.
async fn open(root: &Arc<InMemory>) -> Table {
    Table::open_or_create_in(Arc::clone(root) as Arc<dyn ObjectStore>, "memory:///lake")
        .await
        .expect("a table")
}

async fn everything(store: &dyn ObjectStore) -> BTreeSet<Path> {
    store.list(None).map_ok(|file| file.location).try_collect().await.expect("listed")
}

async fn sweep(table: &Table, age_min: Duration) -> usize {
    Sweeper::new(table.clone(), age_min, A_DAY).sweep(topic_id).await.expect("swept").deleted
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_deleted_and_nothing_else() {
    let root = Arc::new(InMemory::new());
    let table = open(&root).await;
    let orphans = write(&table, 0, 5).await;
    let committed = write(&table, 0, 5).await;
    table.commit(&committed, &[advance(0, 5)]).await.expect("made");
    let pending = write(&table, 5, 8).await;
    let (orphan, folder) = (orphans[0].path.clone(), "session_date=2026-11-24/retention_class=standard");
    let name = orphan.filename().expect("a file");
    for others in [
        // The same name where the table is not, in its log, and where no data file lies.
        format!("elsewhere/{folder}/{name}"),
        format!("{folder}/{name}"),
        format!("lake/_delta_log/{folder}/{name}"),
        format!("lake/_delta_log/{name}"),
        format!("lake/{name}"),
        format!("lake/{folder}/deeper/{name}"),
        format!("lake/session_date=2026-11-24/{name}"),
        format!("lake/session_date=2026-11-24/target=orders/{name}"),
        // Names that are not a data file's.
        format!("lake/{folder}/{name}.crc"),
        format!("lake/{folder}/part-00000.parquet"),
        format!("lake/{folder}/{}", name.replace("retrace.events", "orders")),
    ] {
        root.put(&Path::from(others), "kept".into()).await.expect("put");
    }
    let before = everything(&*root).await;
    assert_eq!(sweep(&table, Duration::from_secs(3600)).await, 0, "it is too young");
    assert_eq!(everything(&*root).await, before);
    assert_eq!(sweep(&table, AT_ONCE).await, 1);
    let gone: Vec<_> = before.difference(&everything(&*root).await).cloned().collect();
    assert_eq!(gone, [Path::from(format!("lake/{orphan}"))]);
    // What was under way is committed as if nothing had been.
    table.commit(&pending, &[advance(5, 8)]).await.expect("made");
    let mut rows = 0;
    for file in open(&root).await.snapshot().await.expect("readable").files() {
        rows += table.read(file).await.expect("there").iter().map(|batch| batch.num_rows()).sum::<usize>();
    }
    assert_eq!((rows, sweep(&table, AT_ONCE).await), (8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_files_were_swept_while_it_slept_cannot_commit_them() {
    let root = Arc::new(InMemory::new());
    let (sleeper, other) = (open(&root).await, open(&root).await);
    let slept_on = write(&sleeper, 0, 5).await;
    assert_eq!(sweep(&other, AT_ONCE).await, 0, "its commit may still come");
    let files = write(&other, 0, 3).await;
    other.commit(&files, &[advance(0, 3)]).await.expect("made");
    assert_eq!(sweep(&other, AT_ONCE).await, 1, "its commit can come no more");
    let error = sleeper.commit(&slept_on, &[advance(0, 5)]).await.expect_err("too late");
    assert!(matches!(error, CommitError::Fenced { expected: 0, found: 3, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_log_is_left_alone() {
    let root = Arc::new(InMemory::new());
    let table = open(&root).await;
    write(&table, 0, 5).await;
    let files = write(&table, 0, 5).await;
    table.commit(&files, &[advance(0, 5)]).await.expect("made");
    let mut sweeper = Sweeper::new(table, AT_ONCE, A_DAY);
    let error = sweeper.sweep(|topic| id(NOON_US, topic as u8 + 50)).await.expect_err("not its positions");
    assert!(
        matches!(error, LakeError::Miscount(Miscount { at: EVENTS, rows: 5, position: 0, .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_lacks_rows_nothing_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = folder.path().join("lake");
    let location = location.to_str().expect("unicode");
    let table = Table::open_or_create(&Location::new(location)).await.expect("a table");
    let orphan = write(&table, 0, 5).await.remove(0);
    let (removed, kept) = (write(&table, 0, 5).await, write(&table, 5, 8).await);
    table.commit(&removed, &[advance(0, 5)]).await.expect("made");
    table.commit(&kept, &[advance(5, 8)]).await.expect("made");
    let before = table.snapshot().await.expect("readable");
    assert_eq!(sweep(&table, Duration::from_secs(3600)).await, 0, "a folder can be swept");
    remove(table.url(), &removed[0]).await;
    let snapshot = table.snapshot().await.expect("readable");
    let lack = Miscount { at: EVENTS, rows: 3, removed: 0, position: 8 };
    assert_eq!((before.miscount(topic_id), snapshot.miscount(topic_id)), (None, Some(lack)));
    let files = snapshot.files().to_vec();
    assert_eq!(files.iter().map(|file| &file.path).collect::<Vec<_>>(), [&kept[0].path]);
    let mut sweeper = Sweeper::new(table.clone(), AT_ONCE, AT_ONCE);
    let error = sweeper.sweep(topic_id).await.expect_err("rows are missing");
    assert!(matches!(error, LakeError::Miscount(found) if found == lack), "{error}");
    for file in [&removed[0], &kept[0], &orphan] {
        table.store().head(&file.path).await.expect("kept");
    }
}

/// As a compaction takes a file out of the table.
async fn remove(url: &str, file: &DataFile) {
    let url = deltalake::ensure_table_uri(url).expect("a URL");
    let table = deltalake::open_table(url).await.expect("a table");
    let values = HashMap::from([
        ("session_date".to_owned(), Some("2026-11-24".to_owned())),
        ("retention_class".to_owned(), Some(file.retention_class.clone())),
    ]);
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let removed = Remove {
        path: file.path.to_string(),
        data_change: true,
        deletion_timestamp: i64::try_from(now_ms).ok(),
        extended_file_metadata: Some(true),
        partition_values: Some(values),
        size: i64::try_from(file.bytes).ok(),
        ..Remove::default()
    };
    let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: None, predicate: None };
    CommitBuilder::default()
        .with_actions(vec![Action::Remove(removed)])
        .build(Some(table.snapshot().expect("loaded")), table.log_store(), operation)
        .await
        .expect("made");
}
