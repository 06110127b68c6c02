//! A few kinds of records among many.

use std::collections::BTreeSet;

use retrace_lake::RareRecords;
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::{Event, Masked};

use crate::retain::{SHORT, STANDARD, filled, instance, session, store};
use crate::support::{NOON_US, id};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_some_kinds_are_found_and_dead_letters_with_them() {
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
    let found: BTreeSet<_> = found.map(|(_, value)| value.clone()).collect();
    assert_eq!(found, [1, 2].map(|offset| records[&offset].value.clone()).into_iter().collect());
    let read = store.gets();
    assert!(read > gets);
    let again = rare.read(&table, &snapshot, within(Topic::Events)).await.expect("readable");
    assert_eq!((again.count(), store.gets()), (2, read), "no file is opened twice");
    let none = rare.read(&table, &snapshot, within(Topic::Control)).await.expect("readable");
    assert_eq!(none.count(), 0, "of another topic");
}
