//! A session between a client, a target and a log that all do what the input says.
//!
//! Whatever they do: nothing panics; what runs at the target is on durable record before it goes there; a row reaches the
//! client only behind its durable record; events are sealed in order, within their size; a value that a detector knows is
//! in no event; what a peer can make the gate keep is bounded; and a session whose two sides are gone ends.

use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::detect::Detector;
use retrace_policy::facts::{Facts, Unparsable};
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker, Rule};
use retrace_proto::limits::EVENT_BYTES_MAX;
use retrace_proto::wire::{self, MaskAction, command_received::Kind, envelope::Payload, response_part::Part};
use retrace_proto::{Envelope, Id, Masked, Recorded, StreamWriter, Subject};
use retrace_proxy_core::Now;
use retrace_proxy_core::postgres::frame::Framer;
use retrace_proxy_core::postgres::{
    Analysed, Beyond, CancelKey, Greeting, Input, Leave, LogFailure, Opening, Output, Recording, Session,
    SessionLimits,
};

use crate::script::{CANARY, Script, Step};

/// How much may be held for the client before the target is not read any more, in bytes.
const HELD_BYTES_MAX: usize = 4096;

/// What bytes of a peer may become in the gate, at most: messages of the gate's own stand beside each of theirs.
const GROWTH_TIMES_MAX: usize = 64;

/// Deadlines in a row without anything else that happens; more would be a session that keeps the gate busy for nothing.
const DEADLINES_MAX: usize = 64;

/// Runs the script in `input` and checks what must hold.
pub fn run(input: &[u8]) {
    let mut bench = Bench::open();
    let mut script = Script::new(input, "ünknown '\"");
    bench.settle();
    while let Some(step) = script.next() {
        bench.step(step);
    }
    bench.end();
}

/// Frames of each kind that went one way.
#[derive(Default)]
struct Counted {
    commands: u64,
    statements: u64,
    rows: u64,
    completions: u64,
    data_bytes: u64,
}

/// Cuts what goes one way into frames again.
struct Out {
    framer: Framer,
    counted: Counted,
    bytes: usize,
}

impl Out {
    fn new() -> Self {
        Self { framer: Framer::new(usize::MAX), counted: Counted::default(), bytes: 0 }
    }

    fn push(&mut self, bytes: &Bytes) {
        self.bytes += bytes.len();
        self.framer.push(bytes);
        while let Some(frame) = self.framer.poll_frame().expect("the gate sends messages") {
            match frame.tag() {
                b'Q' | b'E' | b'F' => self.counted.commands += 1,
                b'P' => self.counted.statements += 1,
                b'D' => self.counted.rows += 1,
                b'C' => self.counted.completions += 1,
                b'd' => self.counted.data_bytes += frame.body().len() as u64,
                _ => {}
            }
        }
    }
}

struct Bench {
    session: Session,
    now: Now,
    /// Everything appended, opened as a reader would.
    log: Vec<Recorded>,
    durable: usize,
    on_record: Counted,
    to_target: Out,
    to_client: Out,
    from_client: usize,
    from_target: usize,
    client_says_at: bool,
    /// A statement whose facts the session waits for.
    asked: Option<Option<Bytes>>,
    closed: bool,
}

impl Bench {
    fn open() -> Self {
        let now = Now { unix_us: 1_700_000_000_000_000, monotonic_us: 1_000_000 };
        Self {
            session: Session::open(opening(), now),
            now,
            log: Vec::new(),
            durable: 0,
            on_record: Counted::default(),
            to_target: Out::new(),
            to_client: Out::new(),
            from_client: 0,
            from_target: 0,
            client_says_at: false,
            asked: None,
            closed: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            // Like the shell, it listens to a side only while the session does.
            Step::Client(bytes) if self.session.wants_client_bytes() => {
                self.from_client += bytes.len();
                self.client_says_at |= bytes.contains(&b'@');
                self.input(Input::ClientBytes(&bytes));
            }
            Step::Target(bytes) if self.session.wants_target_bytes(0) => {
                self.from_target += bytes.len();
                self.input(Input::TargetBytes(&bytes));
            }
            Step::Client(_) | Step::Target(_) => {}
            Step::Durable { events } => self.make_durable(events),
            Step::Deadline => self.deadline(),
            Step::Later { us } => self.pass(us),
            Step::Analysed => self.answer(),
            Step::Cancel => self.input(Input::CancelRequested(None)),
            Step::ClientClosed => self.input(Input::ClientClosed),
            Step::TargetClosed => self.input(Input::TargetClosed),
            Step::LogFailed => self.input(Input::LogFailed(LogFailure::Permanent)),
            Step::Shutdown => self.input(Input::Shutdown(Leave::Instance)),
            Step::Drain => self.input(Input::Drain(Leave::Instance)),
            Step::OrdersKnown(known) => self.input(Input::OrdersKnown(known)),
            Step::Kill => self.input(Input::Killed(wire::ControlReference::default())),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        self.settle();
    }

    fn make_durable(&mut self, events: usize) {
        let end = self.log.len().min(self.durable + events);
        for recorded in &self.log[self.durable..end] {
            count(recorded, &mut self.on_record);
        }
        self.durable = end;
        self.input(Input::Durable { end: end as u64 });
    }

    /// What a session asked to find out is found out.
    fn answer(&mut self) {
        if let Some(sql) = self.asked.take() {
            let facts = sql.map(|sql| {
                let facts = match std::str::from_utf8(&sql) {
                    Ok(sql) => Facts::of(sql).map(Arc::new),
                    Err(_) => Err(Unparsable::Syntax),
                };
                (sql, facts)
            });
            self.input(Input::Analysed(Analysed { facts, columns: None }));
        }
    }

    fn pass(&mut self, us: u64) {
        self.now.monotonic_us += us;
        self.now.unix_us += i64::try_from(us).expect("a short time");
    }

    fn deadline(&mut self) {
        if let Some(due) = self.session.poll_deadline() {
            self.pass(due.saturating_sub(self.now.monotonic_us));
            self.input(Input::DeadlinePassed);
        }
    }

    /// Does what the session says, and checks it.
    fn settle(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.closed, "something follows Close: {output:?}");
            match output {
                Output::Append { envelope, .. } => self.append(&envelope),
                Output::ToTarget(bytes) => {
                    self.to_target.push(&bytes);
                    let (sent, recorded) = (&self.to_target.counted, &self.on_record);
                    assert!(sent.commands <= recorded.commands, "a command went ahead of its record");
                    assert!(
                        sent.data_bytes <= recorded.data_bytes,
                        "data of a COPY went ahead of its record"
                    );
                    assert!(sent.statements <= recorded.statements, "a statement went ahead of its record");
                }
                Output::ToClient(bytes) => {
                    self.to_client.push(&bytes);
                    let (sent, recorded) = (&self.to_client.counted, &self.on_record);
                    assert!(sent.rows <= recorded.rows, "a row went ahead of its record");
                    assert!(sent.completions <= recorded.completions, "a tag went ahead of its record");
                }
                Output::Analyse { sql } => self.asked = Some(sql),
                // A session that is not given its next stream stays in the one it has.
                Output::WantsStream | Output::BeginStream(_) => {}
                Output::ForwardCancel | Output::CatalogueIsOld => {}
                Output::AskReview(_) | Output::LeaveReview | Output::WithdrawReview => {}
                Output::Close => self.closed = true,
            }
        }
        let most = GROWTH_TIMES_MAX * (self.from_client + self.from_target) + EVENT_BYTES_MAX;
        assert!(self.to_target.bytes <= most, "the target gets more than was asked");
        assert!(self.to_client.bytes <= most, "the client gets more than was answered");
    }

    fn append(&mut self, envelope: &Envelope) {
        assert!(envelope.bytes().len() <= EVENT_BYTES_MAX, "an event is too large");
        assert_eq!(envelope.seq(), self.log.len() as u64, "events are in order");
        let recorded = Envelope::open(envelope.bytes().clone()).expect("what was sealed opens");
        let leaks = recorded.bytes().windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!leaks || self.client_says_at, "a value is on record that should be masked");
        self.log.push(recorded);
    }

    /// Both sides go, the log is healthy: then the session ends, within a few deadlines.
    fn end(&mut self) {
        self.input(Input::TargetClosed);
        self.input(Input::ClientClosed);
        for _ in 0..DEADLINES_MAX {
            if self.closed {
                return;
            }
            self.answer();
            self.make_durable(usize::MAX - self.durable);
            self.deadline();
        }
        panic!("a session without its two sides goes on");
    }
}

fn count(recorded: &Recorded, counted: &mut Counted) {
    let parts = match recorded.payload() {
        Payload::CommandReceived(command) => {
            // A statement that is prepared may ride with what executes it, in one record, or have its own.
            counted.commands += u64::from(command.kind != i32::from(Kind::Prepare));
            counted.statements += 1;
            return;
        }
        Payload::CommandChunk(chunk) => {
            counted.data_bytes += chunk.data_bytes;
            return;
        }
        Payload::ResponseChunk(chunk) => &chunk.parts,
        Payload::CommandCompleted(completed) => &completed.parts,
        _ => return,
    };
    for part in parts {
        match &part.part {
            Some(Part::Rows(rows)) => counted.rows += u64::from(rows.row_count),
            Some(Part::CommandTag(_)) => counted.completions += 1,
            _ => {}
        }
    }
}

fn opening() -> Opening {
    let rules =
        [Rule { name: "pii".to_owned(), detectors: Detector::ALL.to_vec(), action: MaskAction::Redact }];
    let id = Id::from_parts(1_700_000_000_000, [7; 10]);
    Opening {
        stream: StreamWriter::new(id, wire::StreamKind::Session),
        subject: Subject { session_id: Some(id), target: "shop".to_owned(), ..Subject::default() },
        masker: Arc::new(Masker::new(&rules, FingerprintKey::new(b"key"))),
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
            settings: vec![(Bytes::from("standard_conforming_strings"), Bytes::from("on"))],
            cancel_key: CancelKey { process_id: 1, secret: vec![0, 0, 0, 2] },
        },
        opened: wire::SessionOpened::default(),
        asserted: Masked::from_iter([]),
        policy_version: "policy".to_owned(),
        impossible_name: "retrace_refused_fuzz".to_owned(),
        limits: SessionLimits {
            kept_bytes_max: 4096,
            command_recorded_bytes_max: 4096,
            held_bytes_max: HELD_BYTES_MAX,
            ..SessionLimits::default()
        },
    }
}
