//! A few kinds of records among many.

use retrace_lake::{LakeError, RareRecords};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::{Event, Masked};

use crate::compact;
use crate::retain::{SHORT, STANDARD, filled, instance, session, store};
use crate::support::{NOON_US, id};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_some_kinds_are_found_and_dead_letters_that_say_nothing_are_not() {
    let store = store();
    let on = On::Target("shop".to_owned());
    let lines = [
        session("a session", SHORT, 0, 0),
        instance("set", 0, Event::legal_hold_set(id(NOON_US, 1), on, Masked::default())),
        session("", STANDARD, 0, 0),
    ];
    let (table, records) = filled(&store, &lines).await;
    let snapshot = table.snapshot().await.expect("readable");
    const KINDS: [&str; 2] = ["legal_hold_set", "legal_hold_lifted"];
    let mut rare = RareRecords::new(&KINDS);
    let gets = store.gets();
    let within = |topic| move |at: TopicPartition| at.topic == topic;
    let found = rare.read(&table, &snapshot, within(Topic::Events)).await.expect("readable");
    let found: Vec<_> = found.map(|(_, value)| value.clone()).collect();
    assert_eq!(found, [records[&1].value.clone()]);
    let read = store.gets();
    assert!(read > gets);
    let again = rare.read(&table, &snapshot, within(Topic::Events)).await.expect("readable");
    assert_eq!((again.count(), store.gets()), (1, read), "no file is opened twice");
    let none = rare.read(&table, &snapshot, within(Topic::Control)).await.expect("readable");
    assert_eq!(none.count(), 0, "of another topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_not_as_many_rows_as_the_table_says_is_not_taken_for_one_without_them() {
    let store = compact::store();
    let table = compact::open(&store).await;
    let lying = compact::write_with_a_row_fewer(&table, 0, 10).await;
    table.commit(&lying, &[compact::advance(0, 10)]).await.expect("made");
    let snapshot = table.snapshot().await.expect("readable");
    const KINDS: [&str; 1] = ["legal_hold_set"];
    let mut rare = RareRecords::new(&KINDS);
    for _ in 0..2 {
        let read = rare.read(&table, &snapshot, |_| true).await;
        assert!(matches!(read.err(), Some(LakeError::Decode { .. })), "the missing one may be one of them");
    }
}
