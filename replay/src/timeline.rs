use std::cmp::Ordering;

use bytes::Bytes;
use retrace_proto::{Envelope, Hash, Id, Recorded, wire, wire::envelope::Payload};

use crate::assemble::Assembler;
use crate::{Damage, Item};

/// A record of the log or the lake, as a reader gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands in its topic partition.
    pub offset: u64,
    /// The log's clock when it accepted the record.
    pub appended_at_unix_us: i64,
    /// As sealed. Anything may stand here.
    pub envelope: Bytes,
}

/// A session's events in order, with whatever is missing shown as such.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    session_id: Option<Id>,
    items: Vec<Item>,
}

impl Timeline {
    /// Reads the records of one session, in any order.
    ///
    /// The session's stream is the one whose record stands first. Never fails: what cannot be read, what is missing and
    /// what does not follow from its predecessor become [`Damage`] at their place.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Self {
        let mut sorted = Sorted::default();
        for record in records {
            sorted.add(record);
        }
        let session_id = sorted.stream.first().and_then(|first| first.event.session_id());
        Self { session_id, items: sorted.into_items() }
    }

    /// The session it is about, as its first event says.
    #[must_use]
    pub fn session_id(&self) -> Option<Id> {
        self.session_id
    }

    /// In stream order; events of other streams last.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Everything that is missing or does not fit, a harmless duplicate and an open end included.
    pub fn damages(&self) -> impl Iterator<Item = &Damage> {
        self.items.iter().filter_map(|item| match item {
            Item::Damage(damage) => Some(damage),
            _ => None,
        })
    }
}

struct Placed {
    offset: u64,
    event: Recorded,
    /// Records after it, by offset, that are no envelopes.
    unreadable_after: Vec<Damage>,
}

/// The records by what they are.
#[derive(Default)]
struct Sorted {
    stream: Vec<Placed>,
    /// Of an instance, about this session.
    notes: Vec<Recorded>,
    /// Of other sessions.
    foreign: Vec<Damage>,
    unreadable_first: Vec<Damage>,
}

impl Sorted {
    fn add(&mut self, record: Record) {
        let offset = record.offset;
        let event = match Envelope::open(record.envelope) {
            Ok(event) => event,
            Err(error) => {
                let damage = Damage::Unreadable { offset, reason: error.to_string() };
                match self.stream.last_mut() {
                    Some(last) => last.unreadable_after.push(damage),
                    None => self.unreadable_first.push(damage),
                }
                return;
            }
        };
        if event.header().stream_kind() != wire::StreamKind::Session {
            self.notes.push(event);
            return;
        }
        let stream_id = event.stream_id();
        if self.stream.first().is_some_and(|first| first.event.stream_id() != stream_id) {
            self.foreign.push(Damage::ForeignStream { offset, stream_id });
            return;
        }
        self.stream.push(Placed { offset, event, unreadable_after: Vec::new() });
    }

    fn into_items(mut self) -> Vec<Item> {
        let mut assembler = Assembler::default();
        for damage in self.unreadable_first {
            assembler.damage(damage);
        }
        self.stream.sort_by(Placed::in_stream_order);
        let mut chain = Chain::default();
        for placed in self.stream {
            if chain.check(&placed, &mut assembler) {
                assembler.event(&placed.event);
            }
            for damage in placed.unreadable_after {
                assembler.damage(damage);
            }
        }
        chain.finish(&mut assembler);
        for event in &self.notes {
            assembler.note(event, true);
        }
        for damage in self.foreign {
            assembler.damage(damage);
        }
        assembler.finish()
    }
}

impl Placed {
    fn in_stream_order(&self, other: &Self) -> Ordering {
        let place = |placed: &Self| (placed.event.header().stream_seq, placed.offset);
        place(self).cmp(&place(other))
    }
}

/// Where a stream stands while it is checked from its begin.
#[derive(Default)]
struct Chain {
    last: Option<(u64, Hash)>,
    closed: bool,
}

impl Chain {
    /// Says whether the event is to be played; reports what does not fit.
    fn check(&mut self, placed: &Placed, report: &mut Assembler) -> bool {
        let header = placed.event.header();
        let (seq, hash) = (header.stream_seq, placed.event.hash());
        let (next_seq, prev_hash) = match self.last {
            Some((last, last_hash)) if last == seq => {
                report.damage(if hash == last_hash {
                    Damage::Duplicate { seq, offset: placed.offset }
                } else {
                    Damage::Conflict { seq, offset: placed.offset }
                });
                return false;
            }
            Some((last, last_hash)) => (last + 1, Some(last_hash)),
            None => (0, None),
        };
        if seq > next_seq {
            report.damage(Damage::Gap { from_inclusive: next_seq, to_exclusive: seq });
        } else if prev_hash.is_some_and(|prev| header.prev_hash != prev.as_bytes()[..]) {
            report.damage(Damage::BrokenChain { seq });
        }
        if self.closed {
            report.damage(Damage::AfterEnd { seq });
        }
        self.closed |= matches!(placed.event.payload(), Payload::SessionClosed(_));
        self.last = Some((seq, hash));
        true
    }

    fn finish(&self, report: &mut Assembler) {
        match self.last {
            None => report.damage(Damage::NoRecords),
            Some((last, _)) if !self.closed => {
                report.damage(Damage::MissingEnd { next_seq: last.saturating_add(1) });
            }
            Some(_) => {}
        }
    }
}
