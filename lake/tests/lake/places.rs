//! What a writer reads back of the latest events.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use retrace_lake::faults::FaultyStore;
use retrace_lake::{Advance, LakeError, Place, Rows, Table};
use retrace_proto::log::TopicPartition;
use retrace_proto::{Envelope, Event, Id, Subject};

use crate::support::{EVENTS, NOON_US, id, sealed};

const OTHER: TopicPartition = TopicPartition { partition: 1, ..EVENTS };
const HOUR: Duration = Duration::from_secs(60 * 60);

fn topic() -> Id {
    id(NOON_US, 7)
}

/// Commits a file of each ten records of both topic partitions; the files of a partition are a minute apart.
async fn filled(files: u64) -> (Table, Vec<Place>) {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    let table = Table::open_or_create_in(store, "memory:///").await.expect("a table");
    let events = (0..files * 10).map(|_| Event::policy_loaded("v".to_owned())).collect();
    let mut records = sealed(id(NOON_US, 0), &Subject::default(), NOON_US, events);
    let mut places = Vec::new();
    for (file, records) in (0..).zip(records.chunks_mut(10)) {
        let [mut rows, mut others] = [Rows::new(), Rows::new()];
        for record in records {
            record.appended_at_unix_us += file * 60_000_000;
            let opened = Envelope::open(record.value.clone()).expect("sealed");
            match record.offset % 10 {
                7 => rows.push_dead_letter(EVENTS, record, "for a test"),
                8 => rows.push_duplicate(EVENTS, record, opened.clone()),
                _ => rows.push_opened(EVENTS, record, opened.clone()),
            }
            others.push_dead_letter(OTHER, record, "for a test");
            if record.offset % 10 != 7 {
                let (stream_id, stream_seq) = (opened.stream_id(), opened.header().stream_seq);
                let hash = *opened.hash().as_bytes();
                places.push(Place { offset: record.offset, stream_id, stream_seq, hash });
            }
        }
        let files = table.data_files().add(rows.finish()).await.expect("encoded");
        let files = files.add(others.finish()).await.expect("encoded").finish().await.expect("written");
        let from = u64::try_from(file).expect("few") * 10;
        let advance = |partition| Advance {
            topic_id: topic(),
            partition,
            from_inclusive: from,
            to_exclusive: from + 10,
        };
        table.commit(&files, &[advance(0), advance(1)]).await.expect("one writer");
    }
    (table, places)
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_stretch_are_read_from_the_files_that_may_hold_it_and_no_other() {
    let (table, places) = filled(4).await;
    let snapshot = table.snapshot().await.expect("readable");
    let all = table.places(&snapshot, EVENTS, 0..40, HOUR).await.expect("readable");
    assert_eq!((all.len(), &all), (36, &places), "all but the dead letters");
    assert_eq!(table.places(&snapshot, OTHER, 0..40, HOUR).await.expect("readable"), []);
    // Whoever reads more than was asked for meets a file that is gone.
    for file in snapshot.files() {
        let offsets = file.stats.log_offset.as_ref().expect("measured");
        let partition = file.stats.topic_partition.as_ref().expect("measured");
        if offsets.max_inclusive < 20 || partition.min_inclusive == 1 {
            table.store().delete(&file.path).await.expect("there");
        }
    }
    let within = table.places(&snapshot, EVENTS, 25..35, HOUR).await.expect("readable");
    let expected: Vec<_> = places.iter().copied().filter(|place| (25..35).contains(&place.offset)).collect();
    assert_eq!(within, expected);
    let young = table.places(&snapshot, EVENTS, 0..40, Duration::from_secs(61)).await.expect("readable");
    assert_eq!(young, places[18..], "the files of the last two minutes");
    let gone = table.places(&snapshot, EVENTS, 0..40, HOUR).await;
    assert!(matches!(gone, Err(LakeError::MissingFile { .. })), "never fewer in silence");
}
