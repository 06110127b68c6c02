//! Retention: which rows expire, each step failing in each way, beside writers and merges; and a table that still counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use retrace_lake::faults::{Fault, FaultyStore, Step};
use retrace_lake::{
    Advance, CompactionOptions, Compactor, DataFile, Held, Retainer, Retention, RewriteError, RowReader,
    Rows, Snapshot, Sweeper, Table,
};
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::wire::{self, RetentionClass, StreamKind};
use retrace_proto::{Envelope, Event, Id, Masked, StreamWriter, Subject};

use crate::support::{EVENTS, NOON_US, add_a_column, id};

mod failing;

const DAY_US: i64 = 86_400_000_000;

/// The day of [`NOON_US`].
const TODAY: i32 = 20_781;

pub(crate) const SHORT: RetentionClass = RetentionClass::Short;
pub(crate) const STANDARD: RetentionClass = RetentionClass::Standard;

fn topic_id(topic: Topic) -> Id {
    id(NOON_US, topic as u8 + 7)
}

/// One event of a stream of its own.
#[derive(Clone)]
pub(crate) struct Line {
    name: &'static str,
    /// Days from today, by its id and by the log.
    began: i32,
    appended: i32,
    kind: StreamKind,
    class: RetentionClass,
    about: [&'static str; 3],
    /// The first session of its connection, if it is another one.
    goes_on_from: Option<Id>,
    event: Event,
}

pub(crate) fn session(name: &'static str, class: RetentionClass, began: i32, appended: i32) -> Line {
    let event = Event::policy_loaded(name.to_owned());
    let kind = StreamKind::Session;
    Line { name, began, appended, kind, class, about: ["ann", "", "shop"], goes_on_from: None, event }
}

pub(crate) fn instance(name: &'static str, appended: i32, event: Event) -> Line {
    let kind = StreamKind::Instance;
    let (class, about) = (STANDARD, ["", "", ""]);
    Line { name, began: appended, appended, kind, class, about, goes_on_from: None, event }
}

/// Noon of a day, that many from today.
fn noon(day: i32) -> i64 {
    NOON_US + i64::from(day) * DAY_US
}

impl Line {
    fn stream(&self, offset: u64) -> Id {
        id(noon(self.began), u8::try_from(offset).expect("few"))
    }

    fn record(&self, offset: u64) -> Record {
        let [name, on_behalf_of, target] = self.about;
        let stream = self.stream(offset);
        let principal = wire::Principal {
            name: name.to_owned(),
            on_behalf_of: on_behalf_of.to_owned(),
            ..wire::Principal::default()
        };
        let subject = Subject {
            principal: (!name.is_empty()).then_some(principal),
            target: target.to_owned(),
            retention_class: self.class,
            session_id: (self.kind == StreamKind::Session).then_some(stream),
            connection_id: self.goes_on_from,
            ..Subject::default()
        };
        let mut writer = StreamWriter::new(stream, self.kind);
        let at = noon(self.appended);
        let sealed = Envelope::seal(&mut writer, &subject, None, at, self.event.clone()).expect("small");
        Record { offset, appended_at_unix_us: at, key: stream.to_bytes(), value: sealed.bytes().clone() }
    }
}

async fn open(store: &Arc<FaultyStore>) -> Table {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Table::open_or_create_in(store, "memory:///").await.expect("a table")
}

pub(crate) fn store() -> Arc<FaultyStore> {
    FaultyStore::new(Arc::new(InMemory::new()))
}

async fn commit(table: &Table, records: &[Record]) {
    let files = write(table, EVENTS, records).await;
    commit_files(table, EVENTS, records, &files).await;
}

async fn write(table: &Table, at: TopicPartition, records: &[Record]) -> Vec<DataFile> {
    let mut rows = Rows::new();
    records.iter().for_each(|record| rows.push(at, record));
    table.data_files().add(rows.finish()).await.expect("encoded").finish().await.expect("put")
}

async fn commit_files(table: &Table, at: TopicPartition, records: &[Record], files: &[DataFile]) {
    let (first, last) = (records[0].offset, records[records.len() - 1].offset);
    let advance =
        Advance { topic_id: topic_id(at.topic), partition: 0, from_inclusive: first, to_exclusive: last + 1 };
    table.commit(files, &[advance]).await.expect("made");
}

/// A table of these events, and the records by offset. What has no name is no envelope.
pub(crate) async fn filled(store: &Arc<FaultyStore>, lines: &[Line]) -> (Table, BTreeMap<u64, Record>) {
    let table = open(store).await;
    let mut records: Vec<_> = (0..).zip(lines).map(|(offset, line)| line.record(offset)).collect();
    for (record, line) in records.iter_mut().zip(lines) {
        if line.name.is_empty() {
            record.value = Bytes::from_static(b"no envelope");
        }
    }
    commit(&table, &records).await;
    (table, records.into_iter().map(|record| (record.offset, record)).collect())
}

/// What a reader who opens the table anew finds, each offset once. The count of the version comes out.
async fn found(store: &Arc<FaultyStore>) -> BTreeMap<u64, Record> {
    let table = open(store).await;
    let snapshot = table.snapshot().await.expect("readable");
    assert_eq!(snapshot.miscount(topic_id), None);
    let mut found = BTreeMap::new();
    for file in snapshot.files() {
        for batch in table.read(file).await.expect("readable") {
            let reader = RowReader::new(&batch).expect("the table's columns");
            for row in 0..batch.num_rows() {
                let (_, record) = reader.record(row).expect("whole");
                assert_eq!(found.insert(record.offset, record), None, "twice");
            }
        }
    }
    let below = snapshot.position(topic_id(Topic::Events), 0);
    assert_eq!(found.len() as u64 + snapshot.rows_removed(), below);
    found
}

fn retention(days: &[(&str, i32)], held: Held) -> Retention {
    let days = days.iter().map(|(class, day)| ((*class).to_owned(), TODAY + day));
    Retention { first_days_kept: days.collect(), held }
}

/// Removes what has expired, as far as one version goes.
async fn expire(table: &Table, retention: &Retention) -> Result<u64, RewriteError> {
    let snapshot = table.snapshot().await?;
    let Some(expired) = Retainer::new(table.clone()).find(&snapshot, retention).await? else { return Ok(0) };
    table.expire(&expired, &snapshot, topic_id).await?;
    Ok(expired.rows_removed())
}

/// Which of the lines are left after a retention.
async fn left(lines: &[Line], retention: &Retention) -> BTreeSet<&'static str> {
    let store = store();
    let (table, records) = filled(&store, lines).await;
    let removed = expire(&table, retention).await.expect("nothing fails");
    let left = found(&store).await;
    assert_eq!(left.len() as u64 + removed, lines.len() as u64);
    for (offset, record) in &left {
        assert_eq!(record, &records[offset], "bit for bit");
    }
    assert_eq!(expire(&table, retention).await.expect("nothing fails"), 0, "once is enough");
    left.keys().map(|offset| lines[usize::try_from(*offset).expect("few")].name).collect()
}

fn names(lines: &[&'static str]) -> BTreeSet<&'static str> {
    lines.iter().copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_before_the_first_day_goes_and_nothing_else() {
    let lines = [
        session("before", SHORT, -1, -1),
        session("long before", SHORT, -40, -40),
        session("the end of one that began before", SHORT, -1, 0),
        session("on the day", SHORT, 0, 0),
        session("of another class", STANDARD, -400, -400),
        session("whose id says that it is old", SHORT, -1000, 2),
        session("whose id says that it is old, and which is", SHORT, -1000, 1),
        session("whose id says that it is still to come", SHORT, 1000, -1),
        instance("of a process", -400, Event::policy_loaded("v".to_owned())),
        session("", STANDARD, -400, -400),
    ];
    let kept = [
        "on the day",
        "of another class",
        "whose id says that it is old",
        "whose id says that it is still to come",
        "of a process",
        "",
    ];
    assert_eq!(left(&lines, &retention(&[("short", 0)], Held::default())).await, names(&kept));
    assert_eq!(left(&lines, &retention(&[], Held::default())).await.len(), lines.len(), "for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_processes_wrote_goes_with_the_class_that_keeps_longest() {
    let heads = Event::stream_heads(wire::StreamHeads::default());
    let lines = [
        instance("old", -31, Event::policy_loaded("v".to_owned())),
        instance("old heads", -31, heads),
        instance("young", -30, Event::policy_loaded("v".to_owned())),
        session("", STANDARD, -11, -11),
        session("of a class", STANDARD, -10, -10),
    ];
    let two = [("short", -5), ("standard", -10)];
    let kept = names(&["old", "old heads", "young", "", "of a class"]);
    assert_eq!(left(&lines, &retention(&two, Held::default())).await, kept, "one class is kept for good");
    let all = [("short", -5), ("standard", -10), ("long", -30)];
    assert_eq!(left(&lines, &retention(&all, Held::default())).await, names(&["young", "", "of a class"]));
    let all = [("short", -5), ("standard", -10), ("long", -11)];
    assert_eq!(left(&lines, &retention(&all, Held::default())).await, names(&["", "of a class"]));
    let all = [("short", -5), ("standard", -10), ("long", -10)];
    assert_eq!(left(&lines, &retention(&all, Held::default())).await, names(&["of a class"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_and_so_does_what_proves_it() {
    let (of_jo, for_jo) = (["jo", "", "shop"], ["bot", "jo", "shop"]);
    let heads = || Event::stream_heads(wire::StreamHeads::default());
    let mut lines = [
        session("of nobody held", SHORT, -9, -9),
        Line { about: of_jo, ..session("of a principal", SHORT, -9, -9) },
        Line { about: for_jo, ..session("on behalf of a principal", SHORT, -9, -9) },
        Line { about: ["ann", "", "bank"], ..session("at a target", SHORT, -9, -9) },
        session("a session", SHORT, -9, -9),
        instance("heads", -9, heads()),
        instance("of a process", -9, Event::policy_loaded("v".to_owned())),
        session("", STANDARD, -9, -9),
        session("what goes on from it", SHORT, -8, -8),
    ];
    let session_id = lines[4].stream(4);
    lines[8].goes_on_from = Some(session_id);
    let session_id = session_id.to_string();
    let days = [("short", 0), ("standard", 0), ("long", 0)];
    let names_of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for (held, kept) in [
        (Held::default(), vec![]),
        (
            Held { principals: names_of(&["jo"]), ..Held::default() },
            vec!["of a principal", "on behalf of a principal", "heads", ""],
        ),
        (Held { targets: names_of(&["bank"]), ..Held::default() }, vec!["at a target", "heads", ""]),
        (
            Held { sessions: names_of(&[&session_id]), ..Held::default() },
            vec!["a session", "what goes on from it", "heads", ""],
        ),
        (Held { targets: names_of(&["elsewhere"]), ..Held::default() }, vec!["heads", ""]),
    ] {
        assert_eq!(left(&lines, &retention(&days, held.clone())).await, names(&kept), "{held:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tells_of_retention_is_never_removed() {
    let on = On::Target("shop".to_owned());
    let lines = [
        instance("set", -900, Event::legal_hold_set(id(NOON_US, 1), on, Masked::default())),
        instance("lifted", -900, Event::legal_hold_lifted(id(NOON_US, 1), Masked::default())),
        instance("applied", -900, Event::retention_applied(wire::RetentionApplied::default())),
        instance("something else", -900, Event::policy_loaded("v".to_owned())),
    ];
    let days = [("short", 0), ("standard", 0), ("long", 0)];
    let kept = names(&["set", "lifted", "applied"]);
    assert_eq!(left(&lines, &retention(&days, Held::default())).await, kept);
}

/// Of every three events one is old and of the class `short`.
fn mixed(count: i32) -> Vec<Line> {
    let line = |number: i32| match number % 3 {
        0 => session("old", SHORT, -9 - number % 2, -9 - number % 2),
        1 => session("young", SHORT, 0, 0),
        _ => session("of another class", STANDARD, -9, -9),
    };
    (0..count).map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_failing_in_every_way_leaves_all_or_what_is_kept() {
    let held = || Held { targets: BTreeSet::from(["shop".to_owned()]), ..Held::default() };
    let mut lines = mixed(12);
    // What is kept of a file that loses rows is written again.
    lines[0].about = ["ann", "", "bank"];
    let short = retention(&[("short", 0)], held());
    for step in [Step::DataFile, Step::Commit] {
        for fault in [Fault::Failed, Fault::FailedButPersisted] {
            let store = store();
            let (table, all) = filled(&store, &lines).await;
            store.arm(step, fault);
            let outcome = expire(&table, &short).await;
            assert_eq!(store.struck(), 1, "{step:?} {fault:?}: {outcome:?}");
            let is_made = found(&store).await.len() < all.len();
            let expected = step == Step::Commit && fault == Fault::FailedButPersisted;
            assert_eq!((is_made, outcome.is_ok()), (expected, expected), "{step:?} {fault:?}: {outcome:?}");
            // Whoever restarts goes on where the table stands.
            while expire(&open(&store).await, &short).await.expect("nothing fails") > 0 {}
            let left = found(&store).await;
            let expected = (0..12).filter(|offset| *offset != 0);
            assert_eq!(
                left.into_keys().collect::<Vec<_>>(),
                expected.collect::<Vec<_>>(),
                "{step:?} {fault:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_committed_meanwhile_is_looked_at_before_anything_goes() {
    let store = store();
    let lines = mixed(6);
    let (table, all) = filled(&store, &lines).await;
    let short = retention(&[("short", 0)], Held::default());
    let before = table.snapshot().await.expect("readable");
    let mut retainer = Retainer::new(table.clone());
    let expired = retainer.find(&before, &short).await.expect("readable").expect("some have expired");
    commit(&table, &[session("more", SHORT, 0, 0).record(6)]).await;
    let error = table.expire(&expired, &before, topic_id).await.expect_err("a version came between");
    assert!(matches!(error, RewriteError::Overtaken), "{error:?}");
    assert_eq!(found(&store).await.len(), all.len() + 1);
    // Whoever has looked at it goes on with what was found.
    let now = table.snapshot().await.expect("readable");
    let version = table.expire(&expired, &now, topic_id).await.expect("made");
    assert_eq!(version, now.version() + 1);
    assert_eq!(found(&store).await.len(), 5);
    let error = table.expire(&expired, &table.snapshot().await.expect("readable"), topic_id).await;
    assert!(matches!(error, Err(RewriteError::Overtaken)), "a second time: {error:?}");
    // Files that were merged meanwhile are not what was looked at.
    let snapshot = table.snapshot().await.expect("readable");
    let standard = retention(&[("standard", 0)], Held::default());
    let expired = retainer.find(&snapshot, &standard).await.expect("readable").expect("some have expired");
    commit(&table, &[session("another", STANDARD, -9, -9).record(7)]).await;
    compact(&table).await;
    let now = table.snapshot().await.expect("readable");
    let error = table.expire(&expired, &now, topic_id).await.expect_err("its files are gone");
    assert!(matches!(error, RewriteError::Overtaken), "{error:?}");
    assert_eq!(found(&store).await.len(), 6);
}

async fn compact(table: &Table) {
    let options = CompactionOptions {
        file_bytes_max: 64 * 1024 * 1024,
        fan_in: 2,
        settled_after: Duration::MAX,
        step_bytes_max: u64::MAX,
    };
    let merged = Compactor::new(table.clone(), options).step().await.expect("merged");
    assert!(merged.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_told_and_counted_over_merges_and_checkpoints() {
    let store = store();
    let (table, _) = filled(&store, &mixed(9)).await;
    let told = |snapshot: &Snapshot| (snapshot.rows_removed(), snapshot.first_days_kept().clone());
    assert_eq!(told(&table.snapshot().await.expect("readable")), (0, BTreeMap::new()));
    let short = |day| retention(&[("short", day)], Held::default());
    assert_eq!(expire(&table, &short(-9)).await.expect("made"), 1, "those of the day before");
    let first = |day: i32| BTreeMap::from([("short".to_owned(), TODAY + day)]);
    assert_eq!(told(&table.snapshot().await.expect("readable")), (1, first(-9)));
    assert_eq!(expire(&table, &short(0)).await.expect("made"), 2);
    for offset in 9..130 {
        commit(&table, &[session("more", STANDARD, 0, 0).record(offset)]).await;
    }
    compact(&table).await;
    let log = Path::from("_delta_log/_last_checkpoint");
    table.store().head(&log).await.expect("there is a checkpoint");
    let anew = open(&store).await.snapshot().await.expect("readable");
    assert_eq!(told(&anew), (3, first(0)));
    assert_eq!(found(&store).await.len(), 127);
    // A period that was made longer brings nothing back.
    commit(&table, &[session("late", SHORT, -12, -12).record(130)]).await;
    assert_eq!(expire(&table, &short(-10)).await.expect("made"), 1);
    assert_eq!(told(&table.snapshot().await.expect("readable")), (4, first(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_what_is_gone_are_deleted_once_nobody_can_read_them_any_more() {
    let store = store();
    let (table, _) = filled(&store, &mixed(9)).await;
    let before = table.snapshot().await.expect("readable");
    expire(&table, &retention(&[("short", 0)], Held::default())).await.expect("made");
    let after = table.snapshot().await.expect("readable");
    let gone: Vec<_> = before.files().iter().filter(|file| !after.files().contains(file)).collect();
    assert!(!gone.is_empty());
    let sweep = async |removed_age_min| {
        let mut sweeper = Sweeper::new(table.clone(), Duration::ZERO, removed_age_min);
        sweeper.sweep(topic_id).await.expect("swept").deleted
    };
    assert_eq!(sweep(Duration::from_secs(3600)).await, 0, "too young");
    assert_eq!(sweep(Duration::ZERO).await, gone.len());
    for file in gone {
        let head = table.store().head(&file.path).await;
        assert!(matches!(head, Err(object_store::Error::NotFound { .. })));
    }
    assert_eq!(found(&store).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_damaged_file_everything_is_kept_and_others_are_not_held_up() {
    let store = store();
    let (table, all) = filled(&store, &mixed(9)).await;
    let snapshot = table.snapshot().await.expect("readable");
    let is_old_short = |day: i32| move |date: i32, class: &str| date == TODAY + day && class == "short";
    let pick = |day| {
        let is = is_old_short(day);
        snapshot.files().iter().find(|file| is(file.session_date, &file.retention_class)).expect("there")
    };
    let (damaged, whole) = (pick(-9), pick(-10));
    let garbage = vec![7; usize::try_from(damaged.bytes).expect("small")];
    table.store().put(&damaged.path, garbage.into()).await.expect("put");
    let mut retainer = Retainer::new(table.clone());
    let short = retention(&[("short", 0)], Held::default());
    let expired = retainer.find(&snapshot, &short).await.expect("readable").expect("some have expired");
    assert_eq!((expired.rows_removed(), retainer.unfit()), (whole.rows, 1));
    table.expire(&expired, &snapshot, topic_id).await.expect("made");
    let now = table.snapshot().await.expect("readable");
    assert!(now.files().iter().any(|file| file.path == damaged.path));
    assert_eq!(now.rows_removed(), all.len() as u64 - now.files().iter().map(|file| file.rows).sum::<u64>());
    assert!(retainer.find(&now, &short).await.expect("readable").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_later_release_is_kept_whole_and_others_are_not_held_up() {
    let store = store();
    let table = open(&store).await;
    let held = || Held { targets: BTreeSet::from(["bank".to_owned()]), ..Held::default() };
    let later = [session("held", SHORT, -9, -9), session("old", SHORT, -9, -9)];
    let later: Vec<_> = (0..)
        .zip(later)
        .map(|(offset, mut line)| {
            line.about[2] = if line.name == "held" { "bank" } else { "shop" };
            line.record(offset)
        })
        .collect();
    let mut files = write(&table, EVENTS, &later).await;
    add_a_column(&table, &mut files[0]).await;
    commit_files(&table, EVENTS, &later, &files).await;
    commit(&table, &[session("old", SHORT, -8, -8).record(2)]).await;
    let snapshot = table.snapshot().await.expect("readable");
    let mut retainer = Retainer::new(table.clone());
    let short = retention(&[("short", 0)], held());
    let expired = retainer.find(&snapshot, &short).await.expect("readable").expect("some have expired");
    assert_eq!((expired.rows_removed(), retainer.unfit()), (1, 1), "a column would be lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_opened_of_the_control_topic_is_never_removed() {
    let store = store();
    let table = open(&store).await;
    let control = TopicPartition { topic: Topic::Control, partition: 0 };
    let mut records =
        vec![session("", STANDARD, -900, -900).record(0), session("old", STANDARD, -900, -900).record(1)];
    records[0].value = Bytes::from_static(b"no envelope");
    let files = write(&table, control, &records).await;
    commit_files(&table, control, &records, &files).await;
    let days = [("short", 0), ("standard", 0), ("long", 0)];
    assert_eq!(expire(&table, &retention(&days, Held::default())).await.expect("made"), 1);
    let left = table.snapshot().await.expect("readable").files().iter().map(|file| file.rows).sum::<u64>();
    assert_eq!(left, 1, "somebody may have made a hold such a letter");
}
