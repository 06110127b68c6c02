use std::collections::{HashMap, VecDeque};

use retrace_proto::{Hash, Id, Recorded};

/// How many events of a topic partition are remembered to tell duplicates by. A duplicate comes from a producer that
/// was not told its record was written, so it follows within the producer's own queue; one that comes later, or after
/// a restart, stands in the table as an event of its own offset.
pub const RECENT_EVENTS_MAX: usize = 65_536;

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

/// The latest events of one topic partition.
#[derive(Debug)]
pub(crate) struct Recent {
    seen: HashMap<(Id, u64), (Hash, u64)>,
    order: VecDeque<(Id, u64)>,
    events_max: usize,
}

impl Recent {
    pub(crate) fn new(events_max: usize) -> Self {
        Self { seen: HashMap::new(), order: VecDeque::new(), events_max }
    }

    /// Looks at the event of an offset. Looking at the same offset again, after a failed step, says the same.
    pub(crate) fn standing(&mut self, recorded: &Recorded, offset: u64) -> Standing {
        let place = (recorded.stream_id(), recorded.header().stream_seq);
        let hash = recorded.hash();
        match self.seen.get(&place) {
            Some((_, first)) if *first >= offset => Standing::First,
            Some((known, _)) if *known == hash => Standing::Duplicate,
            Some(_) => Standing::Conflict,
            None => {
                if self.order.len() == self.events_max
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.seen.remove(&oldest);
                }
                self.seen.insert(place, (hash, offset));
                self.order.push_back(place);
                Standing::First
            }
        }
    }
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

    #[test]
    fn the_same_event_later_is_a_duplicate_and_another_one_a_conflict() {
        let mut recent = Recent::new(8);
        let (event, other) = (opened(&mut stream(1), "a"), opened(&mut stream(1), "b"));
        assert_eq!(recent.standing(&event, 0), Standing::First);
        assert_eq!(recent.standing(&event, 1), Standing::Duplicate);
        assert_eq!(recent.standing(&other, 2), Standing::Conflict);
        assert_eq!(recent.standing(&event, 0), Standing::First, "read again after a failed step");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut recent = Recent::new(2);
        let mut writer = stream(1);
        let events: Vec<_> = (0..3).map(|_| opened(&mut writer, "a")).collect();
        for (offset, event) in (0..).zip(&events) {
            assert_eq!(recent.standing(event, offset), Standing::First);
        }
        assert_eq!(recent.seen.len(), 2);
        assert_eq!(recent.standing(&events[0], 3), Standing::First, "forgotten");
        assert_eq!(recent.standing(&events[2], 4), Standing::Duplicate);
    }
}
