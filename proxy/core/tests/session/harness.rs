//! A session between a scripted client, a scripted target and a log that the test holds in its hand.

use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::detect::Detector;
use retrace_policy::facts::{Facts, Unparsable};
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker, Rule};
use retrace_proto::wire::{self, MaskAction, envelope::Payload};
use retrace_proto::{Envelope, Id, Masked, Recorded, StreamWriter, Subject};
use retrace_proxy_core::Now;
use retrace_proxy_core::postgres::{
    Analysed, Beyond, CancelKey, Columns, Greeting, HeldCommand, Input, Opening, Output, Recording, Session,
    SessionLimits,
};

pub(crate) const IMPOSSIBLE: &str = "retrace_refused_test";

pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) now: Now,
    /// What was appended, opened again as a reader would.
    pub(crate) log: Vec<Recorded>,
    /// Whether something waits for each of it, as the machine said.
    pub(crate) awaited: Vec<bool>,
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_target: Vec<u8>,
    /// How many events were appended when each further stream began.
    pub(crate) streams: Vec<usize>,
    pub(crate) cancels: usize,
    /// What people were asked to decide about.
    pub(crate) asked: Vec<HeldCommand>,
    /// The command that people were asked about, while it waits.
    pub(crate) waits: Option<u64>,
    /// How often a hold was left, and how often its review was withdrawn.
    pub(crate) left: usize,
    pub(crate) withdrawn: usize,
    /// The catalogue that the shell has, on a target with masked columns.
    pub(crate) columns: Option<Arc<Columns>>,
    /// How often the machine said that it is out of date.
    pub(crate) catalogue_reads: usize,
    pub(crate) closed: bool,
    /// Whether what is appended is durable at once.
    pub(crate) log_is_healthy: bool,
}

impl Bench {
    /// A session whose login is through, on a target with masks and a healthy log.
    pub(crate) fn open() -> Self {
        let mut bench = Self::opening(true);
        bench.settle();
        assert_eq!(tags(&bench.take_client()), "RSSKZ");
        bench
    }

    pub(crate) fn opening(masks: bool) -> Self {
        Self::opening_with(masks, |_| {})
    }

    /// The same with something changed.
    pub(crate) fn opening_with(masks: bool, change: impl FnOnce(&mut Opening)) -> Self {
        let now = Now { unix_us: 1_700_000_000_000_000, monotonic_us: 1_000_000 };
        let rules =
            [Rule { name: "pii".to_owned(), detectors: Detector::ALL.to_vec(), action: MaskAction::Partial }];
        let rules = if masks { &rules[..] } else { &[] };
        let id = Id::from_parts(1_700_000_000_000, [7; 10]);
        let mut opening = Opening {
            stream: StreamWriter::new(id, wire::StreamKind::Session),
            subject: Subject { session_id: Some(id), target: "shop".to_owned(), ..Subject::default() },
            masker: Arc::new(Masker::new(rules, FingerprintKey::new(b"key"))),
            recording: Recording {
                responses: wire::RecordResponses::Full,
                beyond: Beyond::Refuse,
                key: HashKey::new(b"key"),
            },
            has_column_masks: false,
            rules: None,
            guesses: Arc::default(),
            buckets: Arc::default(),
            greeting: Greeting {
                settings: [("standard_conforming_strings", "on"), ("application_name", "jane@example.com")]
                    .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
                    .to_vec(),
                cancel_key: CancelKey { process_id: 1, secret: vec![0, 0, 0, 2] },
            },
            opened: wire::SessionOpened::default(),
            asserted: Masked::from_iter([]),
            policy_version: "policy".to_owned(),
            impossible_name: IMPOSSIBLE.to_owned(),
            limits: SessionLimits::default(),
        };
        change(&mut opening);
        Self {
            session: Session::open(opening, now),
            now,
            log: Vec::new(),
            awaited: Vec::new(),
            to_client: Vec::new(),
            to_target: Vec::new(),
            streams: Vec::new(),
            cancels: 0,
            asked: Vec::new(),
            waits: None,
            left: 0,
            withdrawn: 0,
            columns: None,
            catalogue_reads: 0,
            closed: false,
            log_is_healthy: true,
        }
    }

    /// Does what the session says until it says nothing more.
    pub(crate) fn settle(&mut self) {
        let mut appended = false;
        loop {
            let mut analysis = None;
            let mut wants_stream = false;
            while let Some(output) = self.session.poll_output() {
                assert!(!self.closed, "nothing follows Close");
                match output {
                    Output::Append { envelope, awaited } => {
                        self.awaited.push(awaited);
                        appended = true;
                        self.log.push(opened(&envelope));
                    }
                    Output::ToClient(bytes) => self.to_client.extend_from_slice(&bytes),
                    Output::ToTarget(bytes) => self.to_target.extend_from_slice(&bytes),
                    Output::Analyse { sql } => analysis = Some(sql),
                    Output::WantsStream => wants_stream = true,
                    Output::BeginStream(_) => self.streams.push(self.log.len()),
                    Output::CatalogueIsOld => self.catalogue_reads += 1,
                    Output::ForwardCancel => self.cancels += 1,
                    Output::AskReview(command) => {
                        self.waits = Some(command.command_seq);
                        self.asked.push(*command);
                    }
                    Output::LeaveReview => {
                        self.waits = None;
                        self.left += 1;
                    }
                    Output::WithdrawReview => self.withdrawn += 1,
                    Output::Close => self.closed = true,
                }
            }
            if let Some(sql) = analysis {
                self.session.handle(self.now, Input::Analysed(self.analyse(sql)));
                continue;
            }
            if wants_stream {
                let id = Id::from_parts(1_700_000_000_000, [8; 10]);
                let stream = StreamWriter::new(id, wire::StreamKind::Session);
                self.session.handle(self.now, Input::NextStream(stream));
                continue;
            }
            if !(appended && self.log_is_healthy) {
                return;
            }
            appended = false;
            self.make_durable_quietly();
        }
    }

    fn analyse(&self, sql: Option<Bytes>) -> Analysed {
        let facts = sql.map(|sql| {
            let facts = match std::str::from_utf8(&sql) {
                Ok(sql) => Facts::of(sql).map(Arc::new),
                Err(_) => Err(Unparsable::Syntax),
            };
            (sql, facts)
        });
        Analysed { facts, columns: self.columns.clone() }
    }

    fn make_durable_quietly(&mut self) {
        let begun = self.streams.last().copied().unwrap_or(0);
        self.session.handle(self.now, Input::Durable { end: (self.log.len() - begun) as u64 });
    }

    /// Everything appended so far is durable now.
    pub(crate) fn make_durable(&mut self) {
        self.make_durable_quietly();
        self.settle();
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        self.settle();
    }

    pub(crate) fn client(&mut self, bytes: &[u8]) {
        self.input(Input::ClientBytes(bytes));
    }

    pub(crate) fn target(&mut self, bytes: &[u8]) {
        self.input(Input::TargetBytes(bytes));
    }

    /// Lets time pass up to the session's next deadline.
    pub(crate) fn deadline(&mut self) {
        let due = self.session.poll_deadline().expect("something waits");
        assert!(due >= self.now.monotonic_us, "a deadline lies ahead");
        self.now.unix_us += i64::try_from(due - self.now.monotonic_us).expect("a short time");
        self.now.monotonic_us = due;
        self.input(Input::DeadlinePassed);
    }

    pub(crate) fn take_client(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_client)
    }

    pub(crate) fn take_target(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_target)
    }

    /// The names of the events, in order, without the first one.
    pub(crate) fn events(&self) -> Vec<&'static str> {
        self.log.iter().skip(1).map(Recorded::event_type).collect()
    }

    pub(crate) fn completions(&self) -> Vec<&wire::CommandCompleted> {
        self.log
            .iter()
            .filter_map(|recorded| match recorded.payload() {
                Payload::CommandCompleted(completed) => Some(completed),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn commands(&self) -> Vec<&wire::CommandReceived> {
        self.log
            .iter()
            .filter_map(|recorded| match recorded.payload() {
                Payload::CommandReceived(received) => Some(received),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn refusals(&self) -> Vec<&wire::CommandRefused> {
        self.log
            .iter()
            .filter_map(|recorded| match recorded.payload() {
                Payload::CommandRefused(refused) => Some(refused),
                _ => None,
            })
            .collect()
    }

    /// Whether the bytes stand anywhere in what was recorded.
    pub(crate) fn recorded(&self, needle: &str) -> bool {
        self.log.iter().any(|recorded| contains(recorded.bytes(), needle.as_bytes()))
    }
}

fn opened(envelope: &Envelope) -> Recorded {
    Envelope::open(envelope.bytes().clone()).expect("what was sealed opens")
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// One message.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The tags of the messages in `bytes`.
pub(crate) fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Some((header, _)) = bytes.split_first_chunk::<5>() {
        tags.push(char::from(header[0]));
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        bytes = &bytes[length + 1..];
    }
    assert!(bytes.is_empty(), "whole messages only");
    tags
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub(crate) fn parse(name: &str, sql: &str, type_oids: &[u32]) -> Vec<u8> {
    let mut body = format!("{name}\0{sql}\0").into_bytes();
    body.extend_from_slice(&u16::try_from(type_oids.len()).expect("few").to_be_bytes());
    for oid in type_oids {
        body.extend_from_slice(&oid.to_be_bytes());
    }
    message(b'P', &body)
}

/// Values of one format; results in one format.
pub(crate) fn bind(statement: &str, format: u16, values: &[Option<&[u8]>], result_format: u16) -> Vec<u8> {
    let mut body = format!("\0{statement}\0").into_bytes();
    body.extend_from_slice(&1_u16.to_be_bytes());
    body.extend_from_slice(&format.to_be_bytes());
    body.extend_from_slice(&cells(values));
    body.extend_from_slice(&1_u16.to_be_bytes());
    body.extend_from_slice(&result_format.to_be_bytes());
    message(b'B', &body)
}

pub(crate) fn describe_portal() -> Vec<u8> {
    message(b'D', b"P\0")
}

pub(crate) fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Name, type and format of each column.
pub(crate) fn row_description(columns: &[(&str, u32, u16)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for (name, type_oid, format) in columns {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&type_oid.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0xff, 0xff, 0xff, 0xff]);
        body.extend_from_slice(&format.to_be_bytes());
    }
    message(b'T', &body)
}

fn cells(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
                body.extend_from_slice(value);
            }
        }
    }
    body
}

pub(crate) fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    message(b'D', &cells(values))
}

pub(crate) fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

pub(crate) fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

pub(crate) fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0M{text}\0\0").as_bytes())
}

pub(crate) const PARSED: &[u8] = b"1\x00\x00\x00\x04";
pub(crate) const BOUND: &[u8] = b"2\x00\x00\x00\x04";
