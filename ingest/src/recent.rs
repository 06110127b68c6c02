use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use retrace_lake::{LakeError, Place, Snapshot, Table};
use retrace_proto::log::TopicPartition;
use retrace_proto::{Id, Recorded};

/// How many offsets of a topic partition are looked back to tell duplicates by. A duplicate comes from a producer that was
/// not told its record was written, so it follows within the producer's own queue; one that comes later stands in the
/// table as an event of its own offset.
pub const RECENT_EVENTS_MAX: u64 = 65_536;

/// How far back files are read when a topic partition is taken up, by the log's append times. With little traffic a
/// commit every few seconds makes many files for few offsets; an hour is far more than a producer's queue can wait
/// while the log takes other records.
const RECENT_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// What an event is, seen from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The first of its stream and sequence number.
    First,
    /// The same event again.
    Duplicate,
    /// Another event under the same stream and sequence number: one of the two is a forgery or a writer's fault.
    Conflict,
}

/// The latest events of one topic partition that the table has. It is what the table says: read from it when the topic
/// partition is taken up, and moved on only by a commit.
#[derive(Debug)]
pub(crate) struct Recent {
    seen: Seen,
    /// The table's position: everything below it is looked at.
    position: u64,
    events_max: u64,
}

/// The events of a batch that is not committed. It goes where the batch goes: into [`Recent`] with its commit, or away
/// with it. So whatever fails, the next batch is judged by the table alone.
#[derive(Debug, Default)]
pub(crate) struct Fresh(Seen);

/// The first event at each place that counts, and where it or a duplicate of it stood last.
#[derive(Debug, Default)]
struct Seen {
    latest: HashMap<(Id, u64), Latest>,
    order: VecDeque<(u64, (Id, u64))>,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    hash: [u8; 32],
    offset: u64,
}

impl Recent {
    /// Reads back what the table has just below the position of its snapshot.
    pub(crate) async fn read(
        table: &Table,
        snapshot: &Snapshot,
        at: TopicPartition,
        position: u64,
    ) -> Result<Self, LakeError> {
        let offsets = position.saturating_sub(RECENT_EVENTS_MAX)..position;
        let places = match offsets.is_empty() {
            true => Vec::new(),
            false => table.places(snapshot, at, offsets, RECENT_AGE_MAX).await?,
        };
        Ok(Self::of(&places, position, RECENT_EVENTS_MAX))
    }

    fn of(places: &[Place], position: u64, events_max: u64) -> Self {
        let mut seen = Seen::default();
        for place in places {
            seen.look(place, 0, None);
        }
        Self { seen, position, events_max }
    }

    /// The position of the table that it was read at or moved on to.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Looks at the event of an offset, after those of the table and those of the batch before it.
    pub(crate) fn standing(&self, fresh: &mut Fresh, recorded: &Recorded, offset: u64) -> Standing {
        let place = Place {
            offset,
            stream_id: recorded.stream_id(),
            stream_seq: recorded.header().stream_seq,
            hash: *recorded.hash().as_bytes(),
        };
        let since = offset.saturating_sub(self.events_max);
        let known = self.seen.since(key(&place), since);
        fresh.0.look(&place, since, known)
    }

    /// Takes in a batch that was committed, and forgets what is too far below its end.
    pub(crate) fn commit(&mut self, fresh: Fresh, position: u64) {
        self.position = position;
        for (offset, key) in fresh.0.order {
            let latest = fresh.0.latest[&key];
            if latest.offset == offset {
                self.seen.put(key, latest);
            }
        }
        self.seen.forget_below(position.saturating_sub(self.events_max));
    }
}

impl Seen {
    /// What an event is; `known` is what is known of its place if nothing is here.
    fn look(&mut self, place: &Place, since: u64, known: Option<Latest>) -> Standing {
        let key = key(place);
        let latest = Latest { hash: place.hash, offset: place.offset };
        match self.since(key, since).or(known) {
            // The first of them stands.
            Some(known) if known.hash != place.hash => Standing::Conflict,
            Some(_) => {
                self.put(key, latest);
                Standing::Duplicate
            }
            None => {
                self.put(key, latest);
                Standing::First
            }
        }
    }

    fn since(&self, key: (Id, u64), offset: u64) -> Option<Latest> {
        self.latest.get(&key).copied().filter(|latest| latest.offset >= offset)
    }

    fn put(&mut self, key: (Id, u64), latest: Latest) {
        self.latest.insert(key, latest);
        self.order.push_back((latest.offset, key));
    }

    fn forget_below(&mut self, start: u64) {
        while let Some((offset, key)) = self.order.front()
            && *offset < start
        {
            // Where it stood again since, it is kept for that.
            if self.latest.get(key).is_some_and(|latest| latest.offset == *offset) {
                self.latest.remove(key);
            }
            self.order.pop_front();
        }
    }
}

fn key(place: &Place) -> (Id, u64) {
    (place.stream_id, place.stream_seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use retrace_proto::wire::StreamKind;
    use retrace_proto::{Envelope, Event, StreamWriter, Subject};

    fn opened(stream: &mut StreamWriter, version: &str) -> Recorded {
        let event = Event::policy_loaded(version.to_owned());
        let envelope = Envelope::seal(stream, &Subject::default(), None, 0, event).expect("small");
        Envelope::open(envelope.bytes().clone()).expect("just sealed")
    }

    fn stream(seed: u8) -> StreamWriter {
        StreamWriter::new(Id::from_parts(0, [seed; 10]), StreamKind::Instance)
    }

    fn place(recorded: &Recorded, offset: u64) -> Place {
        let (stream_id, stream_seq) = (recorded.stream_id(), recorded.header().stream_seq);
        Place { offset, stream_id, stream_seq, hash: *recorded.hash().as_bytes() }
    }

    #[test]
    fn the_same_event_later_is_a_duplicate_and_another_one_a_conflict() {
        let (event, other) = (opened(&mut stream(1), "a"), opened(&mut stream(1), "b"));
        let recent = Recent::of(&[], 0, 8);
        for _ in ["a batch", "the same again, after it failed"] {
            let mut fresh = Fresh::default();
            assert_eq!(recent.standing(&mut fresh, &event, 0), Standing::First);
            assert_eq!(recent.standing(&mut fresh, &event, 1), Standing::Duplicate);
            assert_eq!(recent.standing(&mut fresh, &other, 2), Standing::Conflict);
            assert_eq!(recent.standing(&mut fresh, &event, 3), Standing::Duplicate, "the first one stands");
        }
    }

    #[test]
    fn what_the_table_has_counts_however_it_came_to_be_known() {
        let (event, other) = (opened(&mut stream(1), "a"), opened(&mut stream(1), "b"));
        let mut committed = Recent::of(&[], 0, 8);
        let mut fresh = Fresh::default();
        committed.standing(&mut fresh, &event, 0);
        committed.commit(fresh, 1);
        for recent in [committed, Recent::of(&[place(&event, 0)], 1, 8)] {
            let mut fresh = Fresh::default();
            assert_eq!(recent.standing(&mut fresh, &other, 1), Standing::Conflict);
            assert_eq!(recent.standing(&mut fresh, &event, 2), Standing::Duplicate);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_by_offsets() {
        let mut writer = stream(1);
        let events: Vec<_> = (0..3).map(|_| opened(&mut writer, "a")).collect();
        let mut recent = Recent::of(&[], 0, 2);
        let mut fresh = Fresh::default();
        for (offset, event) in (0..).zip(&events) {
            assert_eq!(recent.standing(&mut fresh, event, offset), Standing::First);
        }
        assert_eq!(recent.standing(&mut fresh, &events[0], 3), Standing::First, "too long ago in one batch");
        recent.commit(fresh, 4);
        assert_eq!((recent.seen.latest.len(), recent.seen.order.len()), (2, 2), "offsets 2 and 3");
        let mut fresh = Fresh::default();
        assert_eq!(recent.standing(&mut fresh, &events[1], 4), Standing::First, "forgotten");
        assert_eq!(recent.standing(&mut fresh, &events[2], 4), Standing::Duplicate);
        assert_eq!(recent.standing(&mut fresh, &events[0], 5), Standing::Duplicate);
    }
}
