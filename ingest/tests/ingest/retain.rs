//! Retention: what has expired goes, on record before it does; a hold that somebody was told of keeps what it is on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use retrace_eventlog::{
    AppendError, ControlOrigin, ControlWriter, EventLog, InstanceStream, MemoryLog, partition_for,
};
use retrace_evidence::{ControlKeys, ControlSigner, SigningKey};
use retrace_ingest::{Periods, RetainError, Retained, Retaining, RetentionOptions};
use retrace_lake::Table;
use retrace_lake::faults::{Fault, FaultyStore, Judge, Step};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::wire::{KeyRole, Principal, RetentionClass, StreamKind};
use retrace_proto::{Envelope, Event, Id, Masked, StreamWriter, Subject};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::support::{CONTROL, append, found, ingest, open, store};

mod asked;

use asked::{Asked, Happens};

const DAY_US: i64 = 86_400_000_000;

/// Noon of the day so many days after the log began.
fn noon(day: i64) -> i64 {
    MemoryLog::STARTS_AT_UNIX_US + DAY_US / 2 + day * DAY_US
}

/// The day by which it is judged what has expired: that of the newest event but those of a day.
const NOW: i64 = 100;

/// The time at which it is looked.
fn now() -> i64 {
    noon(NOW + 1)
}

fn id(unix_us: i64, seed: u8) -> Id {
    Id::from_parts(u64::try_from(unix_us / 1000).expect("after 1970"), [seed; 10])
}

/// A log, a table, and who writes orders.
struct World {
    log: Arc<MemoryLog>,
    store: Arc<FaultyStore>,
    table: Table,
    query: ControlWriter,
}

impl World {
    async fn new(store: Arc<FaultyStore>) -> Self {
        let log = Arc::new(MemoryLog::with_partitions(2, 3));
        let table = open(&store).await;
        let query = orders(&log, KeyRole::Query);
        Self { log, store, table, query }
    }

    /// A session of one event, on a day.
    async fn session(&self, principal: &str, day: i64, seed: u8) -> Id {
        self.log.set_now(noon(day));
        let stream = id(noon(day), seed);
        let principal = Principal { name: principal.to_owned(), ..Principal::default() };
        let about = Subject {
            principal: Some(principal),
            retention_class: RetentionClass::Short,
            session_id: Some(stream),
            ..Subject::default()
        };
        let mut writer = StreamWriter::new(stream, StreamKind::Session);
        let event = Event::policy_loaded("v".to_owned());
        let sealed = Envelope::seal(&mut writer, &about, None, noon(day), event).expect("small");
        let partition = partition_for(stream, self.log.partitions(Topic::Events));
        append(&self.log, TopicPartition { topic: Topic::Events, partition }, &sealed).await;
        stream
    }

    /// An event of a day later, so that the log has gone on for a day.
    async fn go_on(&self) -> Id {
        self.session("clock", NOW + 1, 77).await
    }

    async fn order(&self, writer: &ControlWriter, event: Event) {
        writer.record(Subject::default(), event).1.await.expect("no fault is set");
    }

    async fn hold(&self, hold: u8, principal: &str) {
        let on = On::Principal(principal.to_owned());
        self.order(&self.query, Event::legal_hold_set(id(now(), hold), on, Masked::default())).await;
    }

    async fn lift(&self, writer: &ControlWriter, hold: u8) {
        self.order(writer, Event::legal_hold_lifted(id(now(), hold), Masked::default())).await;
    }

    /// Takes all that the log has into the table.
    async fn ingest(&self) {
        let mut ingest = ingest(&self.log, self.table.clone());
        while ingest.step().await.expect("no fault is set").rows > 0 {}
    }

    fn retaining(&self, days: u32) -> Retaining {
        self.retaining_by(Arc::clone(&self.log) as Arc<dyn EventLog>, days)
    }

    fn retaining_by(&self, log: Arc<dyn EventLog>, days: u32) -> Retaining {
        let instance = InstanceStream::open(Arc::clone(&log), "keeper".to_owned(), now, id(now(), 99));
        let options = RetentionOptions {
            periods: Periods { short_days: Some(days), ..Periods::default() },
            keys: ControlKeys {
                query: [key(KeyRole::Query).public()].into_iter().collect(),
                ..ControlKeys::default()
            },
            instance: Arc::new(instance),
            clock: now,
        };
        Retaining::new(log, self.table.clone(), options)
    }

    /// The sessions that the table has, but for the one that shows how the log goes on.
    async fn sessions(&self) -> BTreeSet<Id> {
        let snapshot = self.table.snapshot().await.expect("readable");
        assert_eq!(snapshot.miscount(|topic| self.log.topic_id(topic)), None);
        let records = found(&self.store).await;
        let opened = records.into_iter().map(|(_, record, _)| Envelope::open(record.value).expect("sealed"));
        let others = opened.filter(|recorded| {
            recorded.header().principal.as_ref().is_none_or(|principal| principal.name != "clock")
        });
        others.filter_map(|recorded| recorded.session_id()).collect()
    }

    /// How many rows each removal said that it would remove.
    async fn said(&self) -> Vec<u64> {
        self.ingest().await;
        let records = found(&self.store).await;
        let opened = records.into_iter().map(|(_, record, _)| Envelope::open(record.value).expect("sealed"));
        let said = opened.filter_map(|recorded| match recorded.payload() {
            Payload::RetentionApplied(applied) => Some(applied.rows_removed),
            _ => None,
        });
        said.collect()
    }

    /// The same, by a store that lets commits wait.
    async fn slowed(&self, inner: Arc<dyn ObjectStore>) -> (Self, Arc<Waits>) {
        let waits = Arc::new(Waits::default());
        let late = FaultyStore::judged(inner, Arc::clone(&waits) as Arc<dyn Judge>);
        let table = open(&late).await;
        let query = orders(&self.log, KeyRole::Query);
        let slow = Self { table, store: Arc::clone(&self.store), log: Arc::clone(&self.log), query };
        (slow, waits)
    }
}

fn key(role: KeyRole) -> SigningKey {
    SigningKey::from_seed(&[u8::try_from(i32::from(role)).expect("few roles"); 32]).expect("a seed")
}

fn orders(log: &Arc<MemoryLog>, role: KeyRole) -> ControlWriter {
    let signer = ControlSigner::new(key(role), role, log.topic_id(Topic::Control));
    let sign = Box::new(move |partition, unsigned: &[u8]| signer.sign(partition, unsigned));
    let origin = ControlOrigin { instance: "query".to_owned(), clock: now, new_id: || id(now(), 50) };
    ControlWriter::new(Arc::clone(log) as Arc<dyn EventLog>, origin, false, sign)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_its_period_goes_and_its_removal_is_on_record() {
    let world = World::new(store()).await;
    let _old = world.session("ann", NOW - 33, 1).await;
    let last_day = world.session("ann", NOW - 32, 2).await;
    let young = world.session("bob", NOW, 3).await;
    world.go_on().await;
    world.ingest().await;
    let mut retaining = world.retaining(30);
    let retained = retaining.round().await.expect("nothing fails");
    assert_eq!(retained, Retained { rows_removed: 1, unfit: 0, holds: 0 });
    assert_eq!(world.sessions().await, BTreeSet::from([last_day, young]));
    assert_eq!(world.said().await, [1]);
    assert_eq!(retaining.round().await.expect("nothing fails").rows_removed, 0);
    assert_eq!(world.said().await, [1], "nothing is said of nothing");
    // The table can be written and read on.
    world.ingest().await;
    assert_eq!(world.sessions().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_removes_nothing_before_the_log_has_gone_on_for_a_day() {
    let world = World::new(store()).await;
    let session = world.session("ann", NOW - 40, 1).await;
    world.ingest().await;
    let mut retaining = world.retaining(30);
    assert_eq!(retaining.round().await.expect("nothing fails").rows_removed, 0, "the log's time counts");
    // The log's clock is ahead as well.
    world.session("bob", NOW, 2).await;
    world.ingest().await;
    assert_eq!(retaining.round().await.expect("nothing fails").rows_removed, 0);
    assert!(world.sessions().await.contains(&session));
    world.go_on().await;
    world.ingest().await;
    assert_eq!(
        retaining.round().await.expect("nothing fails").rows_removed,
        1,
        "for a day, and nobody set it right"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_until_a_query_service_lifts_it() {
    let world = World::new(store()).await;
    let held = world.session("ann", NOW - 40, 1).await;
    let _other = world.session("bob", NOW - 40, 2).await;
    let young = world.session("bob", NOW, 3).await;
    world.go_on().await;
    world.ingest().await;
    world.hold(7, "ann").await;
    let mut retaining = world.retaining(30);
    let behind = retaining.round().await.expect_err("the hold is not in the table");
    assert!(matches!(behind, RetainError::Behind { .. }), "{behind}");
    assert_eq!(world.sessions().await.len(), 3);
    world.ingest().await;
    assert_eq!(
        retaining.round().await.expect("nothing fails"),
        Retained { rows_removed: 1, unfit: 0, holds: 1 }
    );
    assert_eq!(world.sessions().await, BTreeSet::from([held, young]));
    // Another role's signature lifts nothing.
    let proxy = orders(&world.log, KeyRole::Proxy);
    world.lift(&proxy, 7).await;
    world.ingest().await;
    assert_eq!(
        retaining.round().await.expect("nothing fails"),
        Retained { rows_removed: 0, unfit: 0, holds: 1 }
    );
    world.lift(&world.query, 7).await;
    world.ingest().await;
    assert_eq!(
        retaining.round().await.expect("nothing fails"),
        Retained { rows_removed: 1, unfit: 0, holds: 0 }
    );
    assert_eq!(world.sessions().await, BTreeSet::from([young]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_record_is_not_removed() {
    let world = World::new(store()).await;
    world.session("ann", NOW - 40, 1).await;
    world.session("ann", NOW, 2).await;
    world.go_on().await;
    world.ingest().await;
    world.log.faults().fail_next(1, AppendError::Refused);
    let error = world.retaining(30).round().await.expect_err("the log does not take it");
    assert!(matches!(error, RetainError::NotRecorded(AppendError::Refused)), "{error}");
    assert_eq!(world.sessions().await.len(), 2);
}

/// Lets a commit wait before it is put, until it may go on.
#[derive(Debug, Default)]
struct Waits {
    arrived: Notify,
    goes_on: Notify,
}

#[async_trait]
impl Judge for Waits {
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
async fn a_hold_that_comes_into_the_table_before_the_removal_keeps_what_was_about_to_go() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let world = World::new(FaultyStore::new(Arc::clone(&inner))).await;
    let held = world.session("ann", NOW - 40, 1).await;
    let _gone = world.session("bob", NOW - 40, 2).await;
    world.session("bob", NOW, 3).await;
    world.go_on().await;
    world.ingest().await;
    let (slow, waits) = world.slowed(inner).await;
    let mut retaining = slow.retaining(30);
    let round = tokio::spawn(async move { (retaining.round().await, retaining) });
    waits.arrived.notified().await;
    world.hold(7, "ann").await;
    world.ingest().await;
    waits.goes_on.notify_one();
    let (outcome, mut retaining) = round.await.expect("no panic");
    assert!(matches!(outcome, Err(RetainError::HoldsChanged)), "{outcome:?}");
    assert_eq!(world.sessions().await.len(), 3, "nothing has gone");
    world.ingest().await;
    let round = tokio::spawn(async move { retaining.round().await });
    waits.arrived.notified().await;
    waits.goes_on.notify_one();
    assert_eq!(
        round.await.expect("no panic").expect("made"),
        Retained { rows_removed: 1, unfit: 0, holds: 1 }
    );
    assert!(world.sessions().await.contains(&held));
    assert_eq!(world.sessions().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_change_no_hold_only_delay_a_removal() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let world = World::new(FaultyStore::new(Arc::clone(&inner))).await;
    world.session("bob", NOW - 40, 1).await;
    world.session("bob", NOW, 2).await;
    world.go_on().await;
    world.ingest().await;
    let (slow, waits) = world.slowed(inner).await;
    let mut retaining = slow.retaining(30);
    let round = tokio::spawn(async move { retaining.round().await });
    for seed in 3..6 {
        waits.arrived.notified().await;
        world.session("bob", NOW, seed).await;
        world.ingest().await;
        waits.goes_on.notify_one();
    }
    waits.arrived.notified().await;
    waits.goes_on.notify_one();
    assert_eq!(round.await.expect("no panic").expect("made").rows_removed, 1);
    assert_eq!(world.said().await, [1]);
    assert_eq!(world.sessions().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_records_that_never_rest_put_no_removal_off_for_ever() {
    let world = World::new(store()).await;
    world.session("ann", NOW - 40, 1).await;
    let young = world.session("bob", NOW, 2).await;
    world.go_on().await;
    world.ingest().await;
    let orders = Box::new(orders(&world.log, KeyRole::Query));
    let restless = Asked::new(&world.log, Happens::More(orders));
    let mut retaining = world.retaining_by(restless, 30);
    let behind = retaining.round().await.expect_err("the latest record is not in the table");
    assert!(matches!(behind, RetainError::Behind { .. }), "{behind}");
    // It comes into the table, and another one into the log.
    world.ingest().await;
    let round = tokio::spawn(async move { retaining.round().await });
    while !round.is_finished() {
        world.ingest().await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(round.await.expect("no panic").expect("made").rows_removed, 1);
    assert_eq!(world.sessions().await, BTreeSet::from([young]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_was_durable_before_a_removal_counts_though_it_was_not_waited_for_at_first() {
    let world = World::new(store()).await;
    let held = world.session("ann", NOW - 40, 1).await;
    world.session("bob", NOW, 2).await;
    world.go_on().await;
    world.ingest().await;
    world.order(&world.query, Event::policy_loaded("v".to_owned())).await;
    let mut retaining = world.retaining(30);
    let behind = retaining.round().await.expect_err("the record is not in the table");
    assert!(matches!(behind, RetainError::Behind { .. }), "{behind}");
    world.ingest().await;
    // What the first round waits for is in the table, and this is not.
    world.hold(7, "ann").await;
    let partition = partition_for(id(now(), 99), world.log.partitions(Topic::Events));
    let said = TopicPartition { topic: Topic::Events, partition };
    let end = world.log.offsets(said).await.expect("open").end;
    let round = tokio::spawn(async move { (retaining.round().await, retaining) });
    let about_to_go = timeout(Duration::from_secs(60), world.log.wait_past(said, end)).await;
    about_to_go.expect("the round goes on without the hold").expect("open");
    world.ingest().await;
    let (outcome, mut retaining) = round.await.expect("no panic");
    assert!(matches!(outcome, Err(RetainError::HoldsChanged)), "{outcome:?}");
    assert_eq!(
        retaining.round().await.expect("nothing fails"),
        Retained { rows_removed: 0, unfit: 0, holds: 1 }
    );
    assert!(world.sessions().await.contains(&held));
}

/// A round in which this comes into the log once the round has asked, before it removes something, where the control topic
/// ends; and whether all is still there afterwards.
async fn removal_beside(value: Bytes) -> (Result<Retained, RetainError>, bool) {
    let world = World::new(store()).await;
    let old = world.session("ann", NOW - 40, 1).await;
    world.session("bob", NOW, 2).await;
    world.go_on().await;
    world.ingest().await;
    // Orders may be in two topic partitions, of which each is asked for as the round begins as well.
    let log = Asked::new(&world.log, Happens::Written(4, value));
    let outcome = world.retaining_by(log, 30).round().await;
    (outcome, world.sessions().await.contains(&old))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_what_was_about_to_go_though_it_was_set_while_the_table_was_waited_for() {
    let on = On::Principal("ann".to_owned());
    let set = Event::legal_hold_set(id(now(), 7), on, Masked::default());
    let mut stream = StreamWriter::new(id(now(), 60), StreamKind::Instance);
    let set = Envelope::seal(&mut stream, &Subject::default(), None, now(), set).expect("small");
    let (outcome, is_kept) = removal_beside(set.bytes().clone()).await;
    assert!(matches!(outcome, Err(RetainError::HoldsChanged)) && is_kept, "{outcome:?}");
    // An envelope of which no more is known than that its schema is of a later version.
    let (outcome, is_kept) = removal_beside(Bytes::from_static(&[0x0a, 2, 0x08, 99])).await;
    assert!(matches!(outcome, Err(RetainError::NotUnderstood { at: CONTROL })) && is_kept, "{outcome:?}");
    let (outcome, is_kept) = removal_beside(Bytes::from_static(b"no envelope")).await;
    assert!(outcome.is_ok() && !is_kept, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_lost_of_its_end_is_not_waited_for() {
    let world = World::new(store()).await;
    world.session("ann", NOW - 40, 1).await;
    let young = world.session("bob", NOW, 2).await;
    world.go_on().await;
    world.ingest().await;
    let mut retaining = world.retaining_by(Asked::new(&world.log, Happens::Lost(2)), 30);
    let behind = retaining.round().await.expect_err("there is more than the table has");
    assert!(matches!(behind, RetainError::Behind { .. }), "{behind}");
    assert_eq!(retaining.round().await.expect("there is not").rows_removed, 1);
    assert_eq!(world.sessions().await, BTreeSet::from([young]));
}
