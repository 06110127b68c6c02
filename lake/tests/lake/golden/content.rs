//! What the next table that is kept will hold: every event there is, a session as a gate writes one, and what is no event.

use bytes::Bytes;
use retrace_lake::Rows;
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{self, StreamKind};
use retrace_proto::{
    CommandReceived, CommandTexts, Envelope, Event, Id, Masked, ResponseContent, ResponseEnd, StreamWriter,
    Subject,
};

use super::kept::{self, Kept};
use crate::support::{id, part, rows_part};

/// About when the events that proto keeps occurred: 2027-01-15 08:00 UTC.
pub(super) const AT_US: i64 = 1_800_000_000_000_000;

const DAY_US: i64 = 86_400_000_000;

/// Why ingest makes a dead letter of an event.
const CONFLICT: &str = "conflicting sequence";

/// The records of both topics in the order in which they are committed.
pub(super) fn records() -> Vec<Kept> {
    let mut log = Log::default();
    for (name, value) in kept::events() {
        let is_order = ["token_revoked", "kill_requested", "cancel_requested"].contains(&name.as_str());
        log.append(if is_order { Topic::Control } else { Topic::Events }, AT_US, value, "event");
    }
    let session = session();
    for envelope in &session {
        log.append(Topic::Events, AT_US, envelope.bytes().clone(), "event");
    }
    log.append(Topic::Events, AT_US, session[1].bytes().clone(), "duplicate");
    log.append(Topic::Events, AT_US, conflicting(session[0].stream_id()), "dead_letter");
    log.append(Topic::Events, AT_US, Bytes::from_static(b"no envelope"), "dead_letter");
    log.append(Topic::Events, AT_US, with_an_unknown_field(), "event");
    for envelope in of_another_day() {
        log.append(Topic::Events, AT_US + DAY_US, envelope.bytes().clone(), "event");
    }
    log.0
}

/// Makes of a record the row that ingest makes of it.
pub(super) fn push(rows: &mut Rows, kept: &Kept) {
    let Kept { at, record, kind } = kept;
    match (kind.as_str(), Envelope::open(record.value.clone())) {
        ("event", Ok(_)) | ("dead_letter", Err(_)) => rows.push(*at, record),
        ("duplicate", Ok(recorded)) => rows.push_duplicate(*at, record, recorded),
        ("dead_letter", Ok(_)) => rows.push_dead_letter(*at, record, CONFLICT),
        (kind, _) => panic!("no record becomes a {kind}"),
    }
}

#[derive(Default)]
struct Log(Vec<Kept>);

impl Log {
    fn append(&mut self, topic: Topic, appended_at_unix_us: i64, value: Bytes, kind: &str) {
        let at = TopicPartition { topic, partition: 0 };
        let offset = self.0.iter().filter(|kept| kept.at == at).count() as u64;
        let stream = Envelope::open(value.clone()).map(|recorded| recorded.stream_id().to_bytes());
        let key = stream.unwrap_or_else(|_| Bytes::from_static(b"somebody's key"));
        let appended_at_unix_us = appended_at_unix_us + i64::try_from(self.0.len()).expect("few");
        let record = Record { offset, appended_at_unix_us, key, value };
        self.0.push(Kept { at, record, kind: kind.to_owned() });
    }
}

fn subject(session: Id, retention_class: wire::RetentionClass) -> Subject {
    let principal = wire::Principal {
        name: "ada".to_owned(),
        kind: wire::PrincipalKind::Human.into(),
        ..wire::Principal::default()
    };
    Subject {
        session_id: Some(session),
        connection_id: Some(session),
        proxy_id: "proxy-1".to_owned(),
        principal: Some(principal),
        target: "shop".to_owned(),
        protocol: wire::Protocol::Postgres,
        durability: wire::Durability::Exchange,
        retention_class,
    }
}

fn sealed(session: Id, subject: &Subject, at_us: i64, events: Vec<(Option<u64>, Event)>) -> Vec<Envelope> {
    let mut stream = StreamWriter::new(session, StreamKind::Session);
    let seal = |(seq, (command_seq, event))| {
        Envelope::seal(&mut stream, subject, command_seq, at_us + seq, event).expect("small")
    };
    (1_000..).zip(events).map(seal).collect()
}

fn opened() -> Event {
    let facts =
        wire::SessionOpened { client_address: "192.0.2.7:5000".to_owned(), ..wire::SessionOpened::default() };
    Event::session_opened(facts, Masked::default(), Masked::default())
}

fn closed() -> Event {
    let reason = wire::session_closed::Reason::ClientClosed.into();
    Event::session_closed(wire::SessionClosed { reason, commands: 1, ..wire::SessionClosed::default() })
}

/// One command and its answer of two rows.
fn session() -> Vec<Envelope> {
    let session = id(AT_US, 21);
    let texts = CommandTexts {
        statement: wire::Text { text: "SELECT name, email FROM customers".to_owned(), escaped: false },
        ..CommandTexts::default()
    };
    let facts = CommandReceived {
        kind: wire::command_received::Kind::SimpleQuery,
        decision: wire::Decision {
            effect: wire::decision::Effect::Allow.into(),
            ..wire::Decision::default()
        },
        ..CommandReceived::default()
    };
    let cells = [Some("Ada"), Some("a***@example.com"), Some("Grace"), None];
    let content = ResponseContent { parts: vec![rows_part(2, &cells)], ..ResponseContent::default() };
    let completed = wire::CommandCompleted {
        status: wire::command_completed::Status::Ok.into(),
        rows: 2,
        chunks: 1,
        ..wire::CommandCompleted::default()
    };
    let end = ResponseEnd { command_tag: "SELECT 2".to_owned(), sqlstate: String::new() };
    let tag = ResponseContent {
        parts: vec![part(Part::CommandTag("SELECT 2".to_owned()))],
        ..ResponseContent::default()
    };
    let events = vec![
        (None, opened()),
        (None, Event::command_received(facts, Masked::by_masking(texts))),
        (Some(1), Event::response_chunk(0, Masked::by_masking(content))),
        (Some(1), Event::command_completed(completed, Masked::by_masking(tag), Masked::by_masking(end))),
        (None, closed()),
    ];
    sealed(session, &subject(session, wire::RetentionClass::Standard), AT_US, events)
}

/// Another event under the first number of a stream.
fn conflicting(stream: Id) -> Bytes {
    let mut stream = StreamWriter::new(stream, StreamKind::Session);
    let event = Event::policy_loaded("another".to_owned());
    let envelope = Envelope::seal(&mut stream, &Subject::default(), None, AT_US, event);
    envelope.expect("small").bytes().clone()
}

/// As a later release seals it that added a field which may be passed over.
fn with_an_unknown_field() -> Bytes {
    let mut stream = StreamWriter::new(id(AT_US, 22), StreamKind::Instance);
    let event = Event::policy_loaded("v".to_owned());
    let envelope = Envelope::seal(&mut stream, &Subject::default(), None, AT_US, event).expect("small");
    let field_99 = [0x98, 0x06, 0x01];
    [&envelope.bytes()[..], &field_99].concat().into()
}

/// A session of another day whose rows are kept for longer: other partitions of the table.
fn of_another_day() -> Vec<Envelope> {
    let session = id(AT_US + DAY_US, 23);
    let subject = subject(session, wire::RetentionClass::Long);
    sealed(session, &subject, AT_US + DAY_US, vec![(None, opened()), (None, closed())])
}
