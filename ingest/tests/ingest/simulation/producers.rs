//! Writers of streams, whose appends fail as those of a log can, and what the log holds after all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use retrace_eventlog::{AppendError, EventLog, MemoryLog};
use retrace_lake::RowKind;
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::StreamKind;
use retrace_proto::{Envelope, Event, Id, StreamWriter, Subject};

use super::chance::Chance;
use super::checks::kinds;
use super::counts::Counts;

/// How far back a producer repeats itself.
const REPEATED_EVENTS_MAX: usize = 12;

/// Every topic partition of the simulated log.
pub(crate) const ALL: [TopicPartition; 3] = [
    TopicPartition { topic: Topic::Events, partition: 0 },
    TopicPartition { topic: Topic::Events, partition: 1 },
    TopicPartition { topic: Topic::Control, partition: 0 },
];

#[derive(Debug)]
pub(crate) struct Producers {
    log: Arc<MemoryLog>,
    producers: Vec<Producer>,
    /// What the log took, offset by offset, whatever its producers were told.
    pub(crate) taken: BTreeMap<TopicPartition, Vec<Bytes>>,
}

#[derive(Debug)]
struct Producer {
    to: TopicPartition,
    stream: StreamWriter,
    /// What it appended of this stream that the log took.
    sent: Vec<Envelope>,
}

/// What befalls an append.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Durable,
    Refused,
    LostAnswer,
    Unknown,
    Hung,
}

impl Producers {
    pub(crate) fn new(log: &Arc<MemoryLog>, chance: &mut Chance) -> Self {
        let producers = [ALL[0], ALL[0], ALL[1], ALL[2]].map(|to| Producer::new(to, chance));
        Self {
            log: Arc::clone(log),
            producers: producers.into(),
            taken: ALL.map(|at| (at, Vec::new())).into(),
        }
    }

    /// Streams whose events must not expire yet: those that go on, and those of which something is not below these offsets. What
    /// expires is days old, and no copy of it is on its way any more.
    pub(crate) fn young(&self, below: impl Fn(&TopicPartition) -> u64) -> BTreeSet<Id> {
        let go_on = self.producers.iter().map(|producer| producer.stream.stream_id());
        let above = self.taken.iter().flat_map(|(at, taken)| {
            taken.iter().skip(usize::try_from(below(at)).expect("few")).map(stream_of)
        });
        go_on.chain(above).collect()
    }

    /// Where events and their copies stand that are of none of these streams, below these offsets.
    pub(crate) fn of_others(
        &self,
        young: &BTreeSet<Id>,
        below: impl Fn(&TopicPartition) -> u64,
    ) -> BTreeSet<(TopicPartition, u64)> {
        let of = |(at, taken): (&TopicPartition, &Vec<Bytes>)| {
            let rows: Vec<_> = (0..below(at)).zip(kinds(taken)).collect();
            let old = rows.into_iter().filter(|(_, (value, kind))| {
                *kind != RowKind::DeadLetter && !young.contains(&stream_of(value))
            });
            let at = *at;
            old.map(move |(offset, _)| (at, offset)).collect::<Vec<_>>()
        };
        self.taken.iter().flat_map(of).collect()
    }

    /// Some producer appends a few events, now and then one again or one that another writer forged.
    pub(crate) fn append_some(&mut self, chance: &mut Chance, counts: &mut Counts) {
        let index = chance.index(self.producers.len());
        for _ in 0..=chance.below(6) {
            let sent = &self.producers[index].sent;
            if !sent.is_empty() && chance.percent(12) {
                let recent = sent.len().min(REPEATED_EVENTS_MAX);
                let again = sent[sent.len() - 1 - chance.index(recent)].clone();
                let other = chance.percent(25);
                counts.add(if other { "conflicting record" } else { "record again" });
                self.repeat(index, if other { forged(&again) } else { again });
            } else {
                self.append_one(index, chance, counts);
            }
        }
    }

    fn append_one(&mut self, index: usize, chance: &mut Chance, counts: &mut Counts) {
        let producer = &mut self.producers[index];
        let envelope = seal(&mut producer.stream, "v");
        let (faults, fate) = (self.log.faults(), fate(chance));
        match fate {
            Fate::Durable => {}
            Fate::Refused => faults.fail_next(1, AppendError::Refused),
            Fate::LostAnswer => faults.fail_next_persisted(1, AppendError::Unknown),
            Fate::Unknown => faults.fail_next(1, AppendError::Unknown),
            Fate::Hung => faults.hang_next(1),
        }
        let (key, value) = (envelope.stream_id().to_bytes(), envelope.bytes().clone());
        let told = self.log.append(producer.to, key, value.clone()).now_or_never();
        if matches!(fate, Fate::Durable | Fate::LostAnswer) {
            self.taken.get_mut(&producer.to).expect("of the log").push(value);
            producer.sent.push(envelope.clone());
        }
        if !matches!(fate, Fate::Durable) {
            counts.add_named("append", &fate);
            assert!(!matches!(told, Some(Ok(_))), "{fate:?}: {told:?}");
            // A producer that was not told may have sent it twice. Either way its stream ends.
            if matches!(fate, Fate::LostAnswer) && chance.percent(50) {
                counts.add("record again");
                self.repeat(index, envelope);
            }
            let to = self.producers[index].to;
            self.producers[index] = Producer::new(to, chance);
        }
    }

    fn repeat(&mut self, index: usize, envelope: Envelope) {
        let to = self.producers[index].to;
        let (key, value) = (envelope.stream_id().to_bytes(), envelope.bytes().clone());
        self.log.append(to, key, value.clone()).now_or_never().expect("at once").expect("no fault is set");
        self.taken.get_mut(&to).expect("of the log").push(value);
    }
}

impl Producer {
    fn new(to: TopicPartition, chance: &mut Chance) -> Self {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&chance.next().to_le_bytes());
        let id = Id::from_parts(MemoryLog::STARTS_AT_UNIX_US as u64 / 1000, random);
        Self { to, stream: StreamWriter::new(id, StreamKind::Session), sent: Vec::new() }
    }
}

fn stream_of(value: &Bytes) -> Id {
    Envelope::open(value.clone()).expect("sealed").stream_id()
}

fn fate(chance: &mut Chance) -> Fate {
    match chance.below(100) {
        0..4 => Fate::Refused,
        4..8 => Fate::LostAnswer,
        8..11 => Fate::Unknown,
        11..13 => Fate::Hung,
        _ => Fate::Durable,
    }
}

fn seal(stream: &mut StreamWriter, version: &str) -> Envelope {
    let event = Event::policy_loaded(version.to_owned());
    Envelope::seal(stream, &Subject::default(), None, 0, event).expect("small")
}

/// Another event at the same place of the same stream.
fn forged(of: &Envelope) -> Envelope {
    let opened = Envelope::open(of.bytes().clone()).expect("sealed");
    let mut stream = StreamWriter::new(of.stream_id(), StreamKind::Session);
    for _ in 0..opened.header().stream_seq {
        seal(&mut stream, "not sent");
    }
    seal(&mut stream, "forged")
}
