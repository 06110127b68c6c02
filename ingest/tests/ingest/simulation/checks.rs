//! What must hold at any time, and what must hold in the end.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use retrace_eventlog::EventLog;
use retrace_lake::RowKind;
use retrace_lake::faults::FaultyStore;
use retrace_proto::log::TopicPartition;
use retrace_proto::{Envelope, Hash, Id};

use super::producers::ALL;
use super::world::World;
use crate::support::found;

impl World {
    /// What a query that begins now would see: the table up to its positions and the log from there on are all that was
    /// durable, each offset once.
    pub(crate) async fn check_cut(&mut self) {
        let snapshot = self.table.snapshot().await.expect("nothing happens to it");
        for at in ALL {
            let position = snapshot.position(self.log.topic_id(at.topic), at.partition);
            let of = |file: &&retrace_lake::DataFile| {
                let stats = &file.stats;
                stats.topic.as_ref().expect("known").min_inclusive == at.topic.name()
                    && i64::from(stats.topic_partition.as_ref().expect("known").min_inclusive)
                        == i64::from(at.partition)
            };
            let mut held: Vec<_> = snapshot
                .files()
                .iter()
                .filter(of)
                .map(|file| {
                    let offsets = file.stats.log_offset.as_ref().expect("known");
                    (offsets.min_inclusive.unsigned_abs(), file.rows)
                })
                .collect();
            held.sort_unstable();
            let removed = self.removed.iter().filter(|(of, _)| *of == at).count() as u64;
            let is_whole = removed == 0;
            let reached = held.into_iter().fold(0, |next, (first, rows)| {
                assert!(first == next || !is_whole, "{at}: a gap or an overlap between files");
                next + rows
            });
            assert_eq!(reached + removed, position, "{at}: the files hold what the position says");
            let log = self.log.offsets(at).await.expect("no fault is set");
            assert!(log.start <= position && position <= log.end, "{at}: {position} is outside {log:?}");
            assert_eq!(log.end, self.producers.taken[&at].len() as u64, "{at}: what the log took");
        }
        let miscount = snapshot.miscount(|topic| self.log.topic_id(topic));
        assert_eq!((miscount, snapshot.rows_removed()), (None, self.removed.len() as u64));
        self.counts.add("cuts checked");
    }

    /// Every record that the log took is in the table once, at its offset, as what it is, unless it expired; and nothing else is
    /// there.
    pub(crate) async fn check_all(&mut self) {
        self.check_cut().await;
        let found = found(&FaultyStore::new(Arc::clone(&self.store))).await;
        for at in ALL {
            let rows: Vec<_> = found.iter().filter(|(of, ..)| *of == at).collect();
            let expected = (0..).zip(kinds(&self.producers.taken[&at]));
            let expected: Vec<_> =
                expected.filter(|(offset, _)| !self.removed.contains(&(at, *offset))).collect();
            assert_eq!(rows.len(), expected.len(), "{at}: rows");
            for ((offset, (value, kind)), (_, record, is)) in expected.into_iter().zip(&rows) {
                assert_eq!((record.offset, &record.value), (offset, value), "{at}");
                assert_eq!(is, kind.as_str(), "{at}: offset {offset}");
                self.counts.add(&format!("rows of kind {is}"));
            }
            let events = rows.iter().filter(|(.., kind)| kind == RowKind::Event.as_str());
            self.check_chains(at, events.map(|(_, record, _)| &record.value));
        }
        let named = self.table.snapshot().await.expect("nothing happens to it");
        let named: BTreeSet<Path> = named.files().iter().map(|file| file.path.clone()).collect();
        let stored = self.store.list(None).map_ok(|file| file.location);
        let stored: BTreeSet<Path> = stored.try_collect().await.expect("listed");
        let stored = stored.into_iter().filter(|path| path.as_ref().starts_with("session_date="));
        assert_eq!(stored.collect::<BTreeSet<_>>(), named, "every orphan is swept, and nothing else");
        let kinds: Vec<_> =
            found.iter().map(|(at, record, kind)| format!("{at} {} {kind}", record.offset)).collect();
        self.trace.extend(kinds);
    }

    fn check_chains<'a>(&mut self, at: TopicPartition, events: impl Iterator<Item = &'a bytes::Bytes>) {
        let mut ends: HashMap<Id, (u64, Hash)> = HashMap::new();
        let taken = &self.producers.taken[&at];
        let gone = self.removed.iter().filter(|(of, _)| *of == at);
        let gone = gone.map(|(_, offset)| &taken[usize::try_from(*offset).expect("few")]);
        let of = |value: &bytes::Bytes| Envelope::open(value.clone()).expect("sealed").stream_id();
        let expired: BTreeSet<Id> = gone.map(of).collect();
        for value in events {
            let opened = Envelope::open(value.clone()).expect("an event opens");
            if expired.contains(&opened.stream_id()) {
                continue;
            }
            let seq = opened.header().stream_seq;
            match ends.insert(opened.stream_id(), (seq, opened.hash())) {
                None => assert_eq!(seq, 0, "{at}: a stream begins at its first event"),
                Some((before, hash)) => {
                    assert_eq!(seq, before + 1, "{at}: a gap in a stream");
                    assert_eq!(opened.header().prev_hash, hash.as_bytes()[..], "{at}: a broken chain");
                }
            }
        }
        self.counts.add_many("streams whole", ends.len() as u64);
    }
}

/// What each record is, by all that came before it.
pub(crate) fn kinds(taken: &[bytes::Bytes]) -> Vec<(&bytes::Bytes, RowKind)> {
    let mut first: HashMap<(Id, u64), Hash> = HashMap::new();
    let kind = |value: &bytes::Bytes| {
        let opened = Envelope::open(value.clone()).expect("sealed");
        let (place, hash) = ((opened.stream_id(), opened.header().stream_seq), opened.hash());
        match first.get(&place) {
            None => {
                first.insert(place, hash);
                RowKind::Event
            }
            Some(known) if *known == hash => RowKind::Duplicate,
            Some(_) => RowKind::DeadLetter,
        }
    };
    let kinds: Vec<_> = taken.iter().map(kind).collect();
    taken.iter().zip(kinds).collect()
}
