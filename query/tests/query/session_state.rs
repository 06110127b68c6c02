use retrace_access::EvidenceRight;
use retrace_eventlog::{EventLog, InstanceStream, MemoryLog, partition_for};
use retrace_evidence::{Head, Heads, Part, Place, SigningKey, TrustedKeys};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::{Event, Hash, Id, Subject};
use retrace_query::{Options, Reader};

use crate::as_of::{DAY_US, expire};
use crate::world::{NOW_UNIX_US, Session, World, caller, rows};

/// While the world stands still.
const AT_ONCE: fn() -> i64 = || NOW_UNIX_US;
/// As long after it as a new event may wait to be signed for.
const IN_TIME: fn() -> i64 = || NOW_UNIX_US + 30_000_000;
/// Longer than that.
const LATE: fn() -> i64 = || NOW_UNIX_US + 30_000_001;

/// The process that the sessions of these tests belong to, as far as it signs.
struct Instance {
    stream: InstanceStream,
    key: SigningKey,
}

impl Instance {
    fn new(world: &World) -> Self {
        let stream_id = Id::from_parts(1, [9; 10]);
        let log = world.log.clone();
        let stream = InstanceStream::open(log, "gate".to_owned(), || NOW_UNIX_US, stream_id);
        Self { stream, key: key(1) }
    }

    async fn sign(&self, heads: &[Head]) {
        self.record(heads, false).await;
    }

    async fn stop(&self, heads: &[Head]) {
        self.record(heads, true).await;
    }

    async fn record(&self, heads: &[Head], last: bool) {
        let part = Part { index: 0, count: 1, last };
        let stream_id = self.stream.stream_id();
        let append = self.stream.record_with(Subject::default(), |next| {
            let place = Place { stream_id, seq: next.seq, occurred_at_unix_us: next.occurred_at_unix_us };
            Event::stream_heads(Heads::sign(&self.key, place, part, heads))
        });
        append.await.unwrap();
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// The head of everything that the session has written.
fn head(session: &Session) -> Head {
    head_at(session, session.sealed.len())
}

fn head_at(session: &Session, events: usize) -> Head {
    Head::new(session.id, events as u64, Hash::of(&session.sealed[events - 1]))
}

/// A reader who trusts a key, at a time.
fn reader(world: &World, trusted: u8, clock: fn() -> i64) -> Reader {
    let head_keys: TrustedKeys = [key(trusted).public()].into_iter().collect();
    world.reader_with((*world.log).clone(), Options { head_keys, clock, ..Options::default() })
}

async fn ask(reader: &Reader, statement: &str) -> Vec<Vec<String>> {
    rows(reader.sql(&caller("auditor", EvidenceRight::All), statement).await.unwrap()).await.unwrap()
}

/// The states of the sessions in the order they were made.
async fn states(world: &World, trusted: u8, clock: fn() -> i64) -> Vec<String> {
    let rows = ask(&reader(world, trusted, clock), "SELECT state FROM sessions ORDER BY session_id").await;
    rows.into_iter().flatten().collect()
}

/// The same states from the tail and from files.
async fn check(world: &World, clock: fn() -> i64, expected: &[&str]) {
    assert_eq!(states(world, 1, clock).await, expected, "in tail");
    world.commit().await;
    assert_eq!(states(world, 1, clock).await, expected, "in files");
}

/// What is left of a session in another world, whose log has only the events that `keep` says.
async fn remains(session: &Session, keep: impl Fn(usize) -> bool) -> (World, Instance) {
    let world = World::new().await;
    let kept = session.sealed.iter().enumerate().filter(|(seq, _)| keep(*seq)).map(|(_, sealed)| sealed);
    append(&world, session.id, kept.cloned().collect()).await;
    let instance = Instance::new(&world);
    (world, instance)
}

async fn append(world: &World, stream: Id, sealed: Vec<bytes::Bytes>) {
    let partition = partition_for(stream, world.log.partitions(Topic::Events));
    for envelope in sealed {
        let at = TopicPartition { topic: Topic::Events, partition };
        world.log.append(at, stream.to_bytes(), envelope).await.unwrap();
    }
}

#[tokio::test]
async fn a_clean_stop_leaves_closed_sessions() {
    let world = World::new().await;
    let (first, second) = (Session::run(&world, "ann", 2).await, Session::run(&world, "bob", 0).await);
    Instance::new(&world).stop(&[head(&first), head(&second)]).await;
    check(&world, LATE, &["closed", "closed"]).await;
}

#[tokio::test]
async fn sessions_of_a_killed_gate_are_open_until_it_is_silent_and_then_lost() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    session.open().await;
    let instance = Instance::new(&world);
    instance.sign(&[head(&session)]).await;
    session.command("SELECT 1", &[]).await;
    instance.sign(&[head(&session)]).await;
    check(&world, IN_TIME, &["open"]).await;
    check(&world, LATE, &["lost"]).await;
}

#[tokio::test]
async fn a_session_that_the_stopping_gate_did_not_close_is_lost_at_once() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    session.open().await;
    Instance::new(&world).stop(&[head(&session)]).await;
    check(&world, AT_ONCE, &["lost"]).await;
}

#[tokio::test]
async fn a_session_that_was_never_signed_for_is_judged_by_its_gate() {
    let world = World::new().await;
    let mut open = Session::new(&world, "ann");
    open.open().await;
    Session::run(&world, "bob", 0).await;
    // Nothing signed at all.
    check(&world, IN_TIME, &["open", "closed"]).await;
    check(&world, LATE, &["unverified", "unverified"]).await;
    // A gate that signed before, and is silent.
    let instance = Instance::new(&world);
    instance.sign(&[]).await;
    check(&world, IN_TIME, &["open", "closed"]).await;
    check(&world, LATE, &["lost", "unverified"]).await;
    instance.stop(&[]).await;
    check(&world, AT_ONCE, &["lost", "closed"]).await;
}

#[tokio::test]
async fn heads_signed_by_another_key_leave_sessions_unverified() {
    let world = World::new().await;
    let mut open = Session::new(&world, "ann");
    open.open().await;
    let closed = Session::run(&world, "bob", 1).await;
    let instance = Instance { key: key(2), ..Instance::new(&world) };
    instance.sign(&[head(&open), head(&closed)]).await;
    check(&world, AT_ONCE, &["unverified", "unverified"]).await;
    assert_eq!(states(&world, 2, AT_ONCE).await, ["open", "closed"], "trusting the other key");
}

#[tokio::test]
async fn a_cut_tail_is_damage_and_no_crash() {
    let origin = World::new().await;
    let session = Session::run(&origin, "ann", 2).await;
    let events = session.sealed.len();
    for kept in 1..events {
        let (world, instance) = remains(&session, |seq| seq < kept).await;
        instance.sign(&[head(&session)]).await;
        check(&world, AT_ONCE, &["damaged"]).await;
        check(&world, LATE, &["damaged"]).await;
    }
    let (world, instance) = remains(&session, |_| true).await;
    instance.sign(&[head(&session)]).await;
    check(&world, LATE, &["closed"]).await;
}

#[tokio::test]
async fn a_missing_event_is_damage_without_any_head() {
    let origin = World::new().await;
    let session = Session::run(&origin, "ann", 2).await;
    for missing in 0..session.sealed.len() - 1 {
        let (world, _instance) = remains(&session, |seq| seq != missing).await;
        check(&world, AT_ONCE, &["damaged"]).await;
    }
}

#[tokio::test]
async fn an_event_put_in_the_place_of_another_is_damage() {
    let origin = World::new().await;
    let session = Session::run(&origin, "ann", 2).await;
    // The same stream, told otherwise: every event of it is chained as it should be.
    let mut other = Session::with_id(&origin, "ann", session.id);
    other.open().await;
    let seq = other.command("SELECT 'nothing to see'", &[]).await;
    other.complete(seq, &["value"]).await;
    for seq in 3..session.sealed.len() {
        let command_seq = (seq % 2 == 0).then_some(seq as u64 - 1);
        match command_seq {
            Some(command) => other.complete(command, &["value"]).await,
            None if seq + 1 == session.sealed.len() => other.close().await,
            None => drop(other.command("SELECT 1", &[]).await),
        }
    }
    assert_eq!(other.sealed.len(), session.sealed.len());

    let (world, _instance) = remains(&other, |_| true).await;
    check(&world, AT_ONCE, &["closed"]).await;
    let (world, instance) = remains(&other, |_| true).await;
    instance.sign(&[head(&session)]).await;
    check(&world, AT_ONCE, &["damaged"]).await;
    // An earlier head is enough to see it.
    let (world, instance) = remains(&other, |_| true).await;
    instance.sign(&[head_at(&session, 2)]).await;
    check(&world, AT_ONCE, &["damaged"]).await;
    // One event of it in the first: the next one does not name it.
    let (world, _instance) = remains(&session, |seq| seq != 1).await;
    append(&world, session.id, vec![other.sealed[1].clone()]).await;
    check(&world, AT_ONCE, &["damaged"]).await;
}

#[tokio::test]
async fn an_event_after_the_end_is_damage() {
    let world = World::new().await;
    let mut session = Session::run(&world, "ann", 0).await;
    session.command("SELECT 'after the end'", &[]).await;
    check(&world, AT_ONCE, &["damaged"]).await;
}

#[tokio::test]
async fn a_tail_beyond_the_last_head_of_a_closed_session_is_not_verified() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 1).await;
    Instance::new(&world).sign(&[head_at(&session, 2)]).await;
    check(&world, IN_TIME, &["closed"]).await;
    check(&world, LATE, &["unverified"]).await;
}

#[tokio::test]
async fn heads_that_came_after_the_question_say_nothing() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 1).await;
    world.log.set_now(NOW_UNIX_US + 1);
    let ahead = Head { end_exclusive: 99, ..head(&session) };
    Instance::new(&world).sign(&[ahead]).await;
    check(&world, AT_ONCE, &["closed"]).await;
    check(&world, IN_TIME, &["damaged"]).await;
}

#[tokio::test]
async fn a_reader_of_their_own_learns_the_state_of_their_own_and_nothing_of_others() {
    let world = World::new().await;
    let (own, other) = (Session::run(&world, "ann", 1).await, Session::run(&world, "bob", 1).await);
    Instance::new(&world).stop(&[head(&own), head(&other)]).await;
    let ann = caller("ann", EvidenceRight::Own);
    let reader = reader(&world, 1, LATE);
    let ask = async |statement: &str| rows(reader.sql(&ann, statement).await?).await;
    let seen = ask("SELECT session_id, state FROM sessions").await.unwrap();
    assert_eq!(seen, [[own.id.to_string(), "closed".to_owned()]]);
    assert_eq!(ask("SELECT count(*) FROM events WHERE event_type = 'stream_heads'").await.unwrap(), [["0"]]);
    let other = other.id;
    let guess = format!("SELECT session_state('{other}', 0, x'', x'', 'session_opened', 0, 'gate')");
    assert!(ask(&guess).await.is_err(), "the function behind the view is the view's alone");
}

#[tokio::test]
async fn a_session_without_its_first_events_is_still_listed() {
    let origin = World::new().await;
    let session = Session::run(&origin, "ann", 1).await;
    // A response alone, which says neither who nor when.
    let (world, _instance) = remains(&session, |seq| seq == 2).await;
    let statement = "SELECT session_id, opened_at, state, commands FROM sessions";
    let row = [session.id.to_string(), "NULL".to_owned(), "damaged".to_owned(), "0".to_owned()];
    assert_eq!(world.sql(statement).await.unwrap(), [row]);
}

#[tokio::test]
async fn rolled_sessions_name_each_other() {
    let world = World::new().await;
    let first = Session::run(&world, "ann", 1).await;
    let mut second = Session::new(&world, "ann");
    second.open_after(first.id).await;
    second.close().await;
    let alone = Session::run(&world, "ann", 0).await;
    let (first, second, alone) = (first.id.to_string(), second.id.to_string(), alone.id.to_string());
    let statement = "SELECT session_id, continues, continued_by FROM sessions ORDER BY session_id";
    for place in ["tail", "files"] {
        let rows = world.sql(statement).await.unwrap();
        let expected: [[&str; 3]; 3] =
            [[&first, "NULL", &second], [&second, &first, "NULL"], [&alone, "NULL", "NULL"]];
        assert_eq!(rows, expected, "in {place}");
        world.ingest().await;
    }
}

/// Two hours after.
const LONG_AFTER: fn() -> i64 = || NOW_UNIX_US + 7_200_000_000;

#[tokio::test]
async fn as_of_a_cut_or_a_time_sessions_stand_as_they_stood() {
    let world = World::new().await;
    let at = |s: i64| NOW_UNIX_US + s * 1_000_000;
    let mut session = Session::new(&world, "ann");
    session.open().await;
    let instance = Instance::new(&world);
    instance.sign(&[head(&session)]).await;
    let states = "SELECT state FROM sessions";
    let answer =
        reader(&world, 1, IN_TIME).sql(&caller("auditor", EvidenceRight::All), states).await.unwrap();
    let cut = answer.cut.to_string();
    assert_eq!(rows(answer).await.unwrap(), [["open"]]);
    // The gate signs every few seconds, and then no more.
    world.log.set_now(at(10));
    instance.sign(&[head(&session)]).await;
    let later = reader(&world, 1, LONG_AFTER);
    assert_eq!(ask(&later, states).await, [["lost"]]);
    for from in ["the log", "the table"] {
        let as_of_cut = ask(&later, &format!("{states} AS OF CUT '{cut}'")).await;
        assert_eq!(as_of_cut, [["open"]], "{from}");
        let time = "SELECT to_char(to_timestamp_micros($), '%Y-%m-%dT%H:%M:%S%.6fZ')";
        for (s, state) in [(5, "open"), (60, "lost")] {
            let time = ask(&later, &time.replace('$', &at(s).to_string())).await;
            let asked = format!("{states} AS OF TIMESTAMP '{}'", time[0][0]);
            assert_eq!(ask(&later, &asked).await, [[state]], "{from}, after {s} s");
        }
        world.commit().await;
    }
}

/// Where an answer ends in one topic partition may lie before what a signature in another one names.
#[tokio::test]
async fn a_signature_over_what_is_above_a_cut_makes_nothing_damaged() {
    let world = World::with(MemoryLog::with_partitions(2, 1), Options::default()).await;
    let at = |s: i64| NOW_UNIX_US + s * 1_000_000;
    let instance = Instance::new(&world);
    let signs_in = instance.stream.topic_partition().partition;
    let mut session = Session::new(&world, "ann");
    while partition_for(session.id, 2) == signs_in {
        session = Session::new(&world, "ann");
    }
    session.open().await;
    instance.sign(&[head(&session)]).await;
    world.log.set_now(at(1));
    session.command("SELECT 1", &[]).await;
    world.log.set_now(at(2));
    instance.sign(&[head(&session)]).await;
    let cut = (0..2).map(|partition| {
        let end = if partition == signs_in { 2 } else { 1 };
        format!("retrace.events[{partition}]<{end}")
    });
    let cut = format!("retrace.control[0]<0, {}", cut.collect::<Vec<_>>().join(", "));
    let states = format!("SELECT state FROM sessions AS OF CUT '{cut}'");
    for from in ["the log", "the table"] {
        assert_eq!(ask(&reader(&world, 1, LONG_AFTER), &states).await, [["open"]], "{from}");
        world.commit().await;
    }
}

/// Days after, when retention has removed what began before the fifth.
const DAYS_AFTER: fn() -> i64 = || NOW_UNIX_US + 20 * DAY_US;

#[tokio::test]
async fn an_id_that_was_made_old_makes_no_damage_expired() {
    let (origin, world) = (World::new().await, World::new().await);
    Session::run(&world, "bob", 0).await;
    world.ingest().await;
    assert_eq!(expire(&world, 5).await, 2);
    let reader = reader(&world, 1, DAYS_AFTER);
    let cases: [(i64, i64, &str); 4] =
        [(0, 0, "expired"), (0, 7, "damaged"), (-300, 10, "damaged"), (10, 10, "damaged")];
    for (named_day, taken_day, state) in cases {
        let named_ms = u64::try_from((NOW_UNIX_US + named_day * DAY_US) / 1000).unwrap();
        let id = Id::from_parts(named_ms, [u8::try_from(taken_day).unwrap(); 10]);
        let mut session = Session::with_id(&origin, "ann", id);
        session.open().await;
        session.command("SELECT 1", &[]).await;
        session.close().await;
        session.sealed.remove(1);
        world.log.set_now(NOW_UNIX_US + taken_day * DAY_US);
        append(&world, id, session.sealed).await;
        let asked = format!("SELECT state FROM sessions WHERE session_id = '{id}'");
        for from in ["the log", "the table"] {
            let found = ask(&reader, &asked).await;
            assert_eq!(found, [[state]], "named day {named_day}, taken day {taken_day}, from {from}");
            world.commit().await;
        }
    }
}

#[tokio::test]
async fn what_is_left_of_a_session_that_retention_cut_in_two_is_expired_if_its_age_is_signed() {
    let world = World::new().await;
    let instance = Instance::new(&world);
    let mut session = Session::new(&world, "ann");
    session.open().await;
    let seq = session.command("SELECT pg_sleep(700000)", &[]).await;
    instance.sign(&[head(&session)]).await;
    // Its one command takes days.
    world.log.set_now(NOW_UNIX_US + 8 * DAY_US);
    session.complete(seq, &["value"]).await;
    session.close().await;
    instance.sign(&[head(&session)]).await;
    world.ingest().await;
    assert_eq!(states(&world, 1, DAYS_AFTER).await, ["closed"]);
    assert_eq!(expire(&world, 5).await, 2);
    assert_eq!(states(&world, 1, DAYS_AFTER).await, ["expired"]);
    assert_eq!(states(&world, 2, DAYS_AFTER).await, ["damaged"], "nobody trusted says that it is so old");
}
