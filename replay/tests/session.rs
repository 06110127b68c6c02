//! Sessions as they are recorded, and as a replay shows them: whole, and with every kind of damage.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "tests are data, and long"
)]

use retrace_proto::wire::{self, command_received::Kind, response_part::Part};
use retrace_proto::{
    CommandReceived, CommandTexts, Envelope, Event, Id, Masked, ResponseContent, ResponseEnd, StreamWriter,
    Subject,
};
use retrace_replay::text::Renderer;
use retrace_replay::{Damage, Item, Look, Pace, Player, Record, ResponseItem, Timeline, json};
use serde_json::Value;

/// 2026-11-24 21:30:58 UTC.
const BEGUN_UNIX_US: i64 = 1_795_555_858_000_000;

#[allow(clippy::disallowed_methods, reason = "a test makes its own masked values")]
fn masked<T>(value: T) -> Masked<T> {
    Masked::by_masking(value)
}

/// Writes the stream of one session, a millisecond per event.
struct Session {
    stream: StreamWriter,
    subject: Subject,
    records: Vec<Record>,
}

impl Session {
    fn new(random: u8) -> Self {
        let id = Id::from_parts(1_795_555_858_000, [random; 10]);
        let principal = wire::Principal {
            name: "bot".to_owned(),
            kind: wire::PrincipalKind::Agent.into(),
            on_behalf_of: "ann".to_owned(),
            token_id: "0a1b2c3d".to_owned(),
        };
        let subject = Subject {
            session_id: Some(id),
            principal: Some(principal),
            target: "shop".to_owned(),
            protocol: wire::Protocol::Postgres,
            durability: wire::Durability::Exchange,
            ..Subject::default()
        };
        Self { stream: StreamWriter::new(id, wire::StreamKind::Session), subject, records: Vec::new() }
    }

    fn add(&mut self, command_seq: Option<u64>, event: Event) -> u64 {
        let seq = self.stream.next_seq();
        let at = BEGUN_UNIX_US + i64::try_from(seq).unwrap() * 1000;
        let sealed = Envelope::seal(&mut self.stream, &self.subject, command_seq, at, event).unwrap();
        let envelope = sealed.bytes().clone();
        self.records.push(Record { offset: 100 + seq, appended_at_unix_us: at, envelope });
        seq
    }

    fn open(&mut self) {
        let facts = wire::SessionOpened {
            client_address: "127.0.0.1:53122".to_owned(),
            tls_version: "TLSv1.3".to_owned(),
            server_version: "15.4".to_owned(),
            ..wire::SessionOpened::default()
        };
        let says = wire::Asserted { name: "application_name".to_owned(), value: "psql\x1b[2J".to_owned() };
        self.add(None, Event::session_opened(facts, masked(vec![says]), masked(Vec::new())));
    }

    fn close(&mut self) {
        let reason = wire::session_closed::Reason::ClientClosed.into();
        let facts = wire::SessionClosed { reason, commands: 1, client_bytes: 10, target_bytes: 20 };
        self.add(None, Event::session_closed(facts));
    }

    fn ask(&mut self, kind: Kind, texts: CommandTexts, chunks: u32) -> u64 {
        let decision =
            wire::Decision { effect: wire::decision::Effect::Allow.into(), ..wire::Decision::default() };
        self.add(
            None,
            Event::command_received(
                CommandReceived { kind, decision, chunks, ..CommandReceived::default() },
                masked(texts),
            ),
        )
    }

    fn query(&mut self, statement: &str) -> u64 {
        self.ask(Kind::SimpleQuery, texts(statement), 0)
    }

    fn chunk(&mut self, of: u64, index: u32, parts: Vec<Part>) {
        self.add(Some(of), Event::response_chunk(index, masked(content(parts))));
    }

    fn complete(&mut self, of: u64, chunks: u32, parts: Vec<Part>) {
        self.end(of, wire::command_completed::Status::Ok, "", chunks, parts);
    }

    fn end(
        &mut self,
        of: u64,
        status: wire::command_completed::Status,
        sqlstate: &str,
        chunks: u32,
        parts: Vec<Part>,
    ) {
        let facts = wire::CommandCompleted {
            status: status.into(),
            duration_us: 1234,
            chunks,
            transaction_status: "I".to_owned(),
            ..wire::CommandCompleted::default()
        };
        let end = ResponseEnd { command_tag: String::new(), sqlstate: sqlstate.to_owned() };
        self.add(Some(of), Event::command_completed(facts, masked(content(parts)), masked(end)));
    }

    fn timeline(self) -> Timeline {
        Timeline::from_records(self.records)
    }
}

fn texts(statement: &str) -> CommandTexts {
    let statement = wire::Text { text: statement.to_owned(), escaped: false };
    CommandTexts { statement, ..CommandTexts::default() }
}

fn content(parts: Vec<Part>) -> ResponseContent {
    let parts = parts.into_iter().map(|part| wire::ResponsePart { part: Some(part) }).collect();
    ResponseContent { parts, fingerprints: Vec::new() }
}

fn columns(named: &[(&str, u32)]) -> Part {
    let column = |(name, type_oid): &(&str, u32)| wire::Column {
        name: (*name).to_owned(),
        type_oid: *type_oid,
        ..wire::Column::default()
    };
    Part::Columns(wire::ResultColumns {
        columns: named.iter().map(column).collect(),
        ..wire::ResultColumns::default()
    })
}

fn rows(begun: u32, column_count: u32, continued: bool, cells: &[Option<&str>]) -> Part {
    Part::Rows(wire::ResultRows {
        row_count: begun,
        column_count,
        cell_bytes: cells
            .iter()
            .map(|cell| cell.map_or(-1, |cell| i32::try_from(cell.len()).unwrap()))
            .collect(),
        cells: cells.iter().flatten().copied().collect(),
        continued,
        ..wire::ResultRows::default()
    })
}

fn tag(tag: &str) -> Part {
    Part::CommandTag(tag.to_owned())
}

fn diagnostic(is_error: bool, severity: &str, message: &str, fields: &[(&str, &str)]) -> Part {
    let field = |(code, value): &(&str, &str)| wire::DiagnosticField {
        code: (*code).to_owned(),
        value: (*value).to_owned(),
    };
    Part::Diagnostic(wire::Diagnostic {
        is_error,
        severity: severity.to_owned(),
        sqlstate: "42P01".to_owned(),
        message: message.to_owned(),
        fields: fields.iter().map(field).collect(),
        masks: Vec::new(),
        omitted_bytes: 0,
    })
}

/// A session of one command whose response fits its end: events 0 to 3.
fn small() -> Session {
    let mut session = Session::new(1);
    session.open();
    let asked = session.query("SELECT id, name\nFROM customers");
    session.complete(
        asked,
        0,
        vec![
            columns(&[("id", 23), ("name", 25)]),
            rows(2, 2, false, &[Some("1"), Some("Ann"), Some("12"), None]),
            tag("SELECT 2"),
        ],
    );
    session.close();
    session
}

fn shown(timeline: &Timeline) -> String {
    Player::new(timeline, Look::default(), Pace::INSTANT).map(|beat| beat.text).collect()
}

fn shown_response(parts: Vec<Part>) -> String {
    let mut session = Session::new(1);
    let asked = session.query("SELECT foo");
    session.complete(asked, 0, parts);
    session.close();
    let text = shown(&session.timeline());
    let (_, response) = text
        .split_once("shop=> SELECT foo\n")
        .unwrap_or_else(|| text.split_once("?=> SELECT foo\n").unwrap());
    response.split_once("Time: ").unwrap().0.to_owned()
}

fn damages(records: Vec<Record>) -> Vec<Damage> {
    Timeline::from_records(records).damages().cloned().collect()
}

#[test]
fn a_whole_session_reads_like_psql() {
    let timeline = small().timeline();
    let id = timeline.session_id().unwrap();
    assert_eq!(timeline.damages().count(), 0);
    let expected = format!(
        "Session {id}\n\
         \x20 who      bot (agent) on behalf of ann, token 0a1b2c3d\n\
         \x20 target   shop (postgres 15.4), durability exchange\n\
         \x20 from     127.0.0.1:53122, TLSv1.3\n\
         \x20 when     2026-11-24 21:30:58.000000 UTC\n\
         \x20 says     application_name = psql\\x1B[2J\n\
         \n\
         21:30:58.001  #1 query\n\
         shop=> SELECT id, name\n\
         shop-> FROM customers\n\
         \x20id | name\n\
         ----+------\n\
         \x20 1 | Ann\n\
         \x2012 | NULL\n\
         (2 rows)\n\
         Time: 1.234 ms\n\
         \n\
         21:30:58.003  session closed (client closed): 1 commands, 10 bytes from the client, 20 bytes from the target\n"
    );
    assert_eq!(shown(&timeline), expected);
}

#[test]
fn the_order_of_records_does_not_matter() {
    let session = small();
    let mut backwards = session.records.clone();
    backwards.reverse();
    assert_eq!(Timeline::from_records(backwards), session.timeline());
}

#[test]
fn every_kind_of_damage_is_seen() {
    type Harm = fn(&mut Vec<Record>);
    let foreign_id = Session::new(2).stream.stream_id();
    let cases: &[(&str, Harm, &[Damage])] = &[
        ("whole", |_| {}, &[]),
        ("nothing", Vec::clear, &[Damage::NoRecords]),
        ("no begin", |it| drop(it.remove(0)), &[Damage::Gap { from_inclusive: 0, to_exclusive: 1 }]),
        ("a gap", |it| drop(it.drain(1..3)), &[Damage::Gap { from_inclusive: 1, to_exclusive: 3 }]),
        ("no end", |it| drop(it.pop()), &[Damage::MissingEnd { next_seq: 3 }]),
        (
            "twice",
            |it| it.push(Record { offset: 900, ..it[2].clone() }),
            &[Damage::Duplicate { seq: 2, offset: 900 }],
        ),
        (
            "another under the same number",
            |it| it.push(Record { offset: 900, ..other().records[2].clone() }),
            &[Damage::Conflict { seq: 2, offset: 900 }],
        ),
        (
            "changed",
            |it| it[2].envelope = other().records[2].envelope.clone(),
            &[Damage::BrokenChain { seq: 2 }, Damage::BrokenChain { seq: 3 }],
        ),
        (
            "garbled",
            |it| it[2].envelope = vec![0xff; 9].into(),
            &[
                Damage::Unreadable { offset: 102, reason: "the record is not an envelope".to_owned() },
                Damage::Gap { from_inclusive: 2, to_exclusive: 3 },
            ],
        ),
        (
            "of another session",
            |it| it.push(Session::foreign()),
            &[Damage::ForeignStream { offset: 900, stream_id: foreign_id }],
        ),
    ];
    for (name, harm, expected) in cases {
        let mut records = small().records;
        harm(&mut records);
        assert_eq!(damages(records), *expected, "{name}");
    }
}

/// The same stream as [`small`], saying something else.
fn other() -> Session {
    let mut session = Session::new(1);
    session.open();
    let asked = session.query("SELECT 1");
    session.complete(asked, 0, vec![tag("SELECT 0")]);
    session.close();
    session
}

impl Session {
    fn foreign() -> Record {
        let mut session = Session::new(2);
        session.open();
        Record { offset: 900, ..session.records.remove(0) }
    }
}

#[test]
fn records_after_the_end_are_seen() {
    let mut session = small();
    session.query("SELECT 'late'");
    assert_eq!(damages(session.records), [Damage::AfterEnd { seq: 4 }]);
}

#[test]
fn damage_is_drawn_at_its_place_and_nothing_of_the_rest_is_lost() {
    let mut records = small().records;
    records.remove(1);
    let text = shown(&Timeline::from_records(records));
    let places = [
        "~~ missing: 1 record, #1 ~~",
        "#1\n~~ missing: what was asked: its record is missing ~~",
        "Ann",
        "session closed",
    ];
    let found: Vec<usize> =
        places.iter().map(|place| text.find(place).unwrap_or_else(|| panic!("{place}\n{text}"))).collect();
    assert!(found.is_sorted(), "{text}");
}

#[test]
fn a_command_without_an_end_says_so() {
    let mut records = small().records;
    records.truncate(2);
    let text = shown(&Timeline::from_records(records));
    assert!(text.contains("~~ missing: the end of this command: "), "{text}");
    assert!(text.contains("~~ missing: the session's end, #2 or later"), "{text}");
}

#[test]
fn an_instance_speaks_of_the_session_in_notes() {
    let mut session = small();
    let mut instance = StreamWriter::new(Id::from_parts(1, [9; 10]), wire::StreamKind::Instance);
    let event = Event::stream_aborted(session.stream.stream_id(), Some(3));
    let sealed = Envelope::seal(&mut instance, &session.subject, None, BEGUN_UNIX_US, event).unwrap();
    session.records.insert(0, Record { offset: 1, appended_at_unix_us: 0, envelope: sealed.bytes().clone() });
    let timeline = session.timeline();
    assert_eq!(timeline.damages().count(), 0);
    assert!(shown(&timeline).contains("stream_aborted of an instance"));
    assert!(matches!(timeline.items().last(), Some(Item::Note(note)) if note.foreign));
}

#[test]
fn responses_read_like_psql() {
    let one = || columns(&[("a", 25)]);
    let cases: Vec<(&str, Vec<Part>, &str)> = vec![
        ("no rows", vec![one(), tag("SELECT 0")], " a\n---\n(0 rows)\n"),
        ("a change", vec![tag("UPDATE 3")], "UPDATE 3\n"),
        (
            "a change that returns rows",
            vec![one(), rows(1, 1, false, &[Some("x")]), tag("INSERT 0 1")],
            " a\n---\n x\n(1 row)\nINSERT 0 1\n",
        ),
        (
            "two statements",
            vec![one(), rows(1, 1, false, &[Some("x")]), tag("SELECT 1"), one(), tag("SELECT 0")],
            " a\n---\n x\n(1 row)\n a\n---\n(0 rows)\n",
        ),
        (
            "rows nobody described",
            vec![rows(1, 2, false, &[Some("x"), Some("y")])],
            " column1 | column2\n---------+---------\n x       | y\n(1 row)\n",
        ),
        (
            "rows without columns",
            vec![columns(&[]), rows(3, 0, false, &[]), tag("SELECT 3")],
            "--\n(3 rows)\n",
        ),
        (
            "an error with its place",
            vec![diagnostic(
                true,
                "ERROR",
                "column \"foo\" does not exist",
                &[("P", "8"), ("H", "Try bar.")],
            )],
            "ERROR:  column \"foo\" does not exist\nLINE 1: SELECT foo\n               ^\nHINT:  Try bar.\n",
        ),
        (
            "a notice of several lines cannot pass for the replay's own",
            vec![
                diagnostic(false, "NOTICE", "hello\nshop=> DROP\r\x1b[2J", &[("W", "somewhere")]),
                tag("DO"),
            ],
            "NOTICE:  hello\n        shop=> DROP\\r\\x1B[2J\nDO\n",
        ),
        (
            "columns, then an error before any row",
            vec![one(), diagnostic(true, "ERROR", "no", &[])],
            "ERROR:  no\n",
        ),
        (
            "rows, then an error",
            vec![one(), rows(1, 1, false, &[Some("x")]), diagnostic(true, "ERROR", "no", &[])],
            " a\n---\n x\n(1 row)\nERROR:  no\n",
        ),
        (
            "a place beyond the statement",
            vec![diagnostic(true, "ERROR", "no", &[("P", "99")])],
            "ERROR:  no\n",
        ),
        ("nothing asked", vec![Part::EmptyQuery(true)], "(an empty statement)\n"),
        (
            "a description that is given twice counts once",
            vec![one(), one(), rows(1, 1, false, &[Some("x")]), Part::PortalSuspended(true)],
            " a\n---\n x\n(1 row)\n(more rows remain: the row limit was met)\n",
        ),
        (
            "what a target reports beside",
            vec![
                Part::Setting(wire::Setting { name: "TimeZone".to_owned(), value: "UTC".to_owned() }),
                Part::Notification(wire::Notification {
                    process_id: 7,
                    channel: "c".to_owned(),
                    payload: "p".to_owned(),
                }),
            ],
            "(setting TimeZone = UTC)\nAsynchronous notification \"c\" with payload \"p\" received from server process with PID 7.\n",
        ),
        (
            "lengths that contradict the text",
            vec![
                one(),
                Part::Rows(wire::ResultRows {
                    row_count: 1,
                    column_count: 1,
                    cell_bytes: vec![9],
                    cells: "x".to_owned(),
                    ..wire::ResultRows::default()
                }),
            ],
            " a\n---\n(0 rows)\n~~ damaged: rows whose lengths contradict each other ~~\n",
        ),
    ];
    for (name, parts, expected) in cases {
        assert_eq!(shown_response(parts), expected, "{name}");
    }
}

#[test]
fn rows_are_joined_across_chunks_within_rows_and_within_cells() {
    let mut session = Session::new(1);
    let asked = session.query("SELECT foo");
    session.chunk(
        asked,
        0,
        vec![columns(&[("a", 25), ("b", 25)]), rows(2, 2, false, &[Some("1"), Some("x"), Some("2")])],
    );
    session.chunk(asked, 1, vec![rows(0, 2, false, &[Some("y1")])]);
    session.chunk(asked, 2, vec![rows(1, 2, true, &[Some("y2"), Some("3"), None])]);
    session.complete(asked, 3, vec![rows(1, 2, false, &[Some("4"), Some("z")]), tag("SELECT 4")]);
    session.close();
    let timeline = session.timeline();
    let Some(Item::Command(command)) = timeline.items().iter().find(|item| matches!(item, Item::Command(_)))
    else {
        panic!("no command");
    };
    let Some(ResponseItem::Rows(set)) = command.response.first() else { panic!("no rows") };
    let cell = |text: &str| Some(text.to_owned());
    let expected = [
        vec![cell("1"), cell("x")],
        vec![cell("2"), cell("y1y2")],
        vec![cell("3"), None],
        vec![cell("4"), cell("z")],
    ];
    assert_eq!(set.rows, expected);
}

#[test]
fn after_a_missing_chunk_no_cell_is_put_where_it_may_not_belong() {
    let mut session = Session::new(1);
    let asked = session.query("SELECT foo");
    session.chunk(asked, 0, vec![columns(&[("a", 25)]), rows(1, 1, false, &[Some("first")])]);
    session.chunk(asked, 2, vec![rows(1, 1, false, &[Some("third")])]);
    session.complete(
        asked,
        4,
        vec![columns(&[("b", 25)]), rows(1, 1, false, &[Some("sure")]), tag("SELECT 1")],
    );
    session.close();
    let text = shown(&session.timeline());
    let expected = "   a\n-------\n first\n(1 row)\n\
                    ~~ missing: part 1 of this response ~~\n\
                    ~~ damaged: values whose row cannot be told: 1 ~~\n\
                    \x20 third\n\
                    ~~ missing: part 3 of this response ~~\n\
                    \x20 b\n------\n sure\n(1 row)\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn commands_are_joined_and_what_is_missing_of_them_is_said() {
    let parameter = |value: &str, hex| wire::Parameter {
        type_oid: 17,
        value: Some(value.to_owned()),
        hex,
        ..wire::Parameter::default()
    };
    let null = wire::Parameter::default();
    let mut session = Session::new(1);
    let asked = CommandTexts {
        parameters: vec![parameter("it's", false), null, parameter("\\x00", true)],
        ..texts("SELECT $1")
    };
    let seq = session.ask(Kind::Execute, asked, 3);
    let chunk = wire::CommandChunk {
        chunk_index: 0,
        statement: ", $2".to_owned(),
        parameter_index: Some(0),
        parameter: " long".to_owned(),
        parameters: vec![parameter("new", false)],
        ..wire::CommandChunk::default()
    };
    session.add(Some(seq), Event::command_chunk(masked(chunk)));
    session.complete(seq, 0, Vec::new());
    session.close();
    let text = shown(&session.timeline());
    assert!(
        text.contains(
            "#0 execute\n?=> SELECT $1, $2\n  with $1 = 'it''s long', $2 = NULL, $3 = \\x00 (type 17), $4 = 'new'\n"
        ),
        "{text}"
    );
    assert!(text.contains("~~ missing: parts 1 to 2 of this command ~~\n"), "{text}");
}

#[test]
fn refusals_and_decisions_are_shown() {
    let mut session = Session::new(1);
    let decision = wire::Decision {
        effect: wire::decision::Effect::Deny.into(),
        rule: "no-ddl".to_owned(),
        reason: "drops a table".to_owned(),
    };
    let facts = CommandReceived { kind: Kind::SimpleQuery, decision, ..CommandReceived::default() };
    let seq = session.add(None, Event::command_received(facts, masked(texts("DROP TABLE t"))));
    let refused = wire::CommandRefused {
        reason: wire::command_refused::Reason::Denied.into(),
        forwarded: wire::command_refused::Forwarded::No.into(),
        sqlstate: "42501".to_owned(),
        rule: "no-ddl".to_owned(),
    };
    session.add(Some(seq), Event::command_refused(refused));
    session.close();
    let timeline = session.timeline();
    let text = shown(&timeline);
    assert!(text.contains("denied by no-ddl: drops a table\n"), "{text}");
    assert!(text.contains("refused by the gate (denied): nothing of it was forwarded, rule no-ddl; the client was told 42501\n"), "{text}");
    assert!(!text.contains("missing"), "{text}");
}

#[test]
fn every_status_is_told() {
    use wire::command_completed::Status;
    let cases = [
        (Status::Ok, "Time: 1.234 ms\n"),
        (Status::Error, "Time: 1.234 ms, error 42P01\n"),
        (Status::Suspended, "Time: 1.234 ms, the row limit was met\n"),
        (Status::Skipped, "Time: 1.234 ms, skipped by the target after an earlier error\n"),
        (Status::Abandoned, "Time: 1.234 ms, the session ended before the answer did\n"),
    ];
    for (status, expected) in cases {
        let mut session = Session::new(1);
        let asked = session.query("SELECT 1");
        session.end(asked, status, "42P01", 0, Vec::new());
        assert!(shown(&session.timeline()).contains(expected), "{status:?}");
    }
}

#[test]
fn the_pace_is_the_sessions_own_or_a_multiple_of_it() {
    let timeline = small().timeline();
    let delays = |pace| -> Vec<u128> {
        Player::new(&timeline, Look::default(), pace).map(|beat| beat.delay.as_micros()).collect()
    };
    assert_eq!(delays(Pace::REAL), [0, 1000, 1000, 1000]);
    assert_eq!(delays(Pace::times(4.0).unwrap()), [0, 250, 250, 250]);
    assert_eq!(delays(Pace::times(0.5).unwrap()), [0, 2000, 2000, 2000]);
    assert_eq!(delays(Pace::INSTANT), [0, 0, 0, 0]);
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Pace::times(wrong).is_err());
    }
}

#[test]
fn only_colours_reach_a_terminal_and_no_line_is_wider_than_it() {
    let mut session = Session::new(1);
    session.open();
    let asked = session.query("SELECT '\x1b[2J\u{202e}'");
    let wide = "w\u{1b}]0;x\u{7}".repeat(40);
    session.complete(
        asked,
        0,
        vec![columns(&[("a\x1b", 25), ("b", 25)]), rows(1, 2, false, &[Some(&wide), None])],
    );
    let timeline = session.timeline();
    let look = Look { width: Some(80), color: true, ..Look::default() };
    let text: String = Player::new(&timeline, look, Pace::INSTANT).map(|beat| beat.text).collect();
    let codes: Vec<&str> =
        text.split('\x1b').skip(1).map(|rest| &rest[..rest.find('m').unwrap_or(rest.len())]).collect();
    assert!(codes.len() > 4);
    assert!(codes.iter().all(|code| ["[0", "[1", "[2", "[31", "[1;33"].contains(code)), "{codes:?}");
    assert!(!text.contains(['\u{202e}', '\u{7}']));
    let row = text.lines().find(|line| line.starts_with(" w\\x1B")).expect("the row is shown");
    assert!(row.contains('…'), "{row}");
}

#[test]
fn long_results_are_cut_with_a_word_about_the_rest() {
    let mut session = Session::new(1);
    let asked = session.query("SELECT foo");
    let cells = vec![Some("x"); 5];
    session.complete(asked, 0, vec![columns(&[("a", 25)]), rows(5, 1, false, &cells), tag("SELECT 5")]);
    let timeline = session.timeline();
    let renderer = Renderer::new(&timeline, Look { rows_max: 2, ..Look::default() });
    let text: String =
        timeline.items().iter().flat_map(|item| renderer.steps(item)).map(|step| step.1).collect();
    assert!(
        text.contains(" x\n x\n… and 3 rows that are not shown: --format json has them\n(5 rows)\n"),
        "{text}"
    );
}

#[test]
fn json_has_everything_a_test_asks_for() {
    let timeline = small().timeline();
    let items: Vec<Value> = timeline.items().iter().map(json::object).collect();
    let kinds: Vec<&str> = items.iter().map(|item| item["item"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "command", "closed"]);
    assert_eq!(items[0]["principal"]["name"], "bot");
    assert_eq!(items[0]["principal"]["kind"], "agent");
    assert_eq!(items[0]["asserted"]["application_name"], "psql\x1b[2J");
    assert_eq!(items[1]["at"], "2026-11-24T21:30:58.001000Z");
    assert_eq!(items[1]["asked"]["statement"], "SELECT id, name\nFROM customers");
    assert_eq!(items[1]["asked"]["kind"], "simple_query");
    assert_eq!(items[1]["asked"]["decision"]["effect"], "allow");
    assert_eq!(items[1]["response"][0]["rows"]["rows"], serde_json::json!([["1", "Ann"], ["12", null]]));
    assert_eq!(items[1]["response"][0]["rows"]["columns"][1]["name"], "name");
    assert_eq!(items[1]["response"][1]["tag"], "SELECT 2");
    assert_eq!(items[1]["end"]["status"], "ok");
    assert_eq!(items[1]["end"]["duration_us"], 1234);
    assert_eq!(items[1]["refusal"], Value::Null);
    assert_eq!(items[2]["reason"], "client_closed");
}

#[test]
fn json_names_every_damage() {
    let cases = [
        (Damage::Gap { from_inclusive: 1, to_exclusive: 3 }, "gap"),
        (Damage::BrokenChain { seq: 1 }, "broken_chain"),
        (Damage::Conflict { seq: 1, offset: 2 }, "conflict"),
        (Damage::Duplicate { seq: 1, offset: 2 }, "duplicate"),
        (Damage::Unreadable { offset: 2, reason: "r".to_owned() }, "unreadable"),
        (Damage::ForeignStream { offset: 2, stream_id: Id::from_parts(1, [1; 10]) }, "foreign_stream"),
        (Damage::AfterEnd { seq: 1 }, "after_end"),
        (Damage::MissingEnd { next_seq: 1 }, "missing_end"),
        (Damage::NoRecords, "no_records"),
    ];
    for (damage, name) in cases {
        assert_eq!(json::object(&Item::Damage(damage))["item"], name);
    }
}

#[test]
fn any_bytes_make_a_timeline_and_a_text() {
    let whole = small().records;
    for (index, record) in whole.iter().enumerate() {
        for at in 0..record.envelope.len() {
            let mut records = whole.clone();
            let mut bytes = record.envelope.to_vec();
            bytes[at] ^= 0x55;
            records[index].envelope = bytes.into();
            let timeline = Timeline::from_records(records);
            // The last record has no successor that would show its change.
            assert!(index == whole.len() - 1 || timeline.damages().count() > 0, "record {index}, byte {at}");
            shown(&timeline);
            timeline.items().iter().map(json::object).for_each(drop);
        }
    }
}

#[test]
fn copied_data_is_joined_and_shown_and_what_is_not_recorded_is_said() {
    let mut session = Session::new(9);
    session.open();
    let seq = session.query("COPY customers FROM STDIN");
    let parts =
        [rows(1, 2, false, &[Some("1"), Some("An")]), rows(1, 2, true, &[Some("n"), Some("2"), None])];
    for (index, part) in (0..).zip(parts) {
        let Part::Rows(copied) = part else { unreachable!("rows are rows") };
        let chunk = wire::CommandChunk { chunk_index: index, copy_rows: vec![copied], ..Default::default() };
        session.add(Some(seq), Event::command_chunk(masked(chunk)));
    }
    session.add(Some(seq), Event::command_omitted(wire::CommandOmitted { data_bytes: 900, hash: None }));
    let omitted = wire::ResponseOmitted { rows: 3, row_bytes: 70, hash: None };
    session.add(Some(seq), Event::response_omitted(omitted));
    session.complete(seq, 0, vec![tag("COPY 2")]);
    session.close();
    let timeline = session.timeline();
    let items: Vec<Value> = timeline.items().iter().map(json::object).collect();
    let cells = serde_json::json!([["1", "Ann"], ["2", null]]);
    assert_eq!(items[1]["copied"][0]["rows"]["rows"], cells);
    assert_eq!(items[1]["omitted"], serde_json::json!({ "data_bytes": 900, "rows": 3, "row_bytes": 70 }));
    let renderer = Renderer::new(&timeline, Look::default());
    let text: String =
        timeline.items().iter().flat_map(|item| renderer.steps(item)).map(|(_, text)| text).collect();
    for shown in ["(copied in:)", "Ann", "COPY 2", "900 bytes of COPY data", "cells of 3 rows, 70 bytes"] {
        assert!(text.contains(shown), "{shown} in:\n{text}");
    }
    assert!(!text.contains("~~"), "nothing is missing or damaged:\n{text}");
}
