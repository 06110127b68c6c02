//! The bytes of every event of every schema version, kept for good: what was once written must be read for ever.
//!
//! `golden/vN.txt` has one line for each event of schema version N, its name and its sealed bytes in hex. A new payload adds a line; no line
//! ever changes. `RETRACE_BLESS=1` writes the file anew, for adding only.
#![allow(clippy::disallowed_methods, reason = "a test vouches for its own values")]

#[path = "golden/reviews.rs"]
mod reviews;

use bytes::Bytes;
use retrace_proto::limits::SCHEMA_VERSION;
use retrace_proto::wire::{self, envelope::Payload, legal_hold_set::On, response_part::Part};
use retrace_proto::{
    CommandReceived, CommandTexts, Envelope, Event, Id, Masked, Recorded, ResponseContent, ResponseEnd,
    StreamWriter, Subject,
};

fn id(last: u8) -> Id {
    Id::from_parts(1_800_000_000_000, [1, 2, 3, 4, 5, 6, 7, 8, 9, last])
}

fn subject() -> Subject {
    Subject {
        session_id: Some(id(1)),
        connection_id: Some(id(2)),
        proxy_id: "up-1".to_owned(),
        principal: Some(wire::Principal {
            name: "agent-7".to_owned(),
            kind: wire::PrincipalKind::Agent.into(),
            on_behalf_of: "jo".to_owned(),
            token_id: "abcd2345".to_owned(),
        }),
        target: "shop".to_owned(),
        protocol: wire::Protocol::Postgres,
        durability: wire::Durability::Exchange,
        retention_class: wire::RetentionClass::Standard,
    }
}

fn asserted() -> Masked<Vec<wire::Asserted>> {
    Masked::by_masking(vec![wire::Asserted { name: "application_name".to_owned(), value: "psql".to_owned() }])
}

fn mask() -> wire::Mask {
    wire::Mask {
        row: 1,
        column: 2,
        start_inclusive: 3,
        end_exclusive: 4,
        kind: wire::MaskKind::Email.into(),
        action: wire::MaskAction::Partial.into(),
        rule: "pii".to_owned(),
        fingerprint_index: Some(0),
    }
}

fn content() -> Masked<ResponseContent> {
    let column = wire::Column {
        name: "email".to_owned(),
        type_oid: 25,
        type_modifier: -1,
        origin_table_oid: 16_400,
        origin_column: 2,
        wire_format: wire::WireFormat::Binary.into(),
    };
    let rows = wire::ResultRows {
        row_count: 1,
        column_count: 2,
        cell_bytes: vec![3, -1],
        cells: "abc".to_owned(),
        masks: vec![mask()],
        continued: true,
        escaped: true,
        masks_omitted: 5,
    };
    let diagnostic = wire::Diagnostic {
        is_error: true,
        severity: "ERROR".to_owned(),
        sqlstate: "23505".to_owned(),
        message: "duplicate".to_owned(),
        fields: vec![wire::DiagnosticField { code: "D".to_owned(), value: "Key".to_owned() }],
        masks: vec![mask()],
        omitted_bytes: 6,
    };
    let parts = [
        Part::Columns(wire::ResultColumns { columns: vec![column], ..wire::ResultColumns::default() }),
        Part::Rows(rows),
        Part::Diagnostic(diagnostic),
        Part::CommandTag("SELECT 1".to_owned()),
        Part::Setting(wire::Setting { name: "TimeZone".to_owned(), value: "UTC".to_owned() }),
        Part::Notification(wire::Notification {
            process_id: 7,
            channel: "news".to_owned(),
            payload: "hi".to_owned(),
        }),
        Part::PortalSuspended(true),
        Part::EmptyQuery(true),
        Part::ParameterTypes(wire::ParameterTypes { type_oids: vec![23, 25] }),
    ];
    Masked::by_masking(ResponseContent {
        parts: parts.into_iter().map(|part| wire::ResponsePart { part: Some(part) }).collect(),
        fingerprints: vec![Bytes::from_static(&[9; 16])],
    })
}

fn command() -> Event {
    let parameter = wire::Parameter {
        type_oid: 23,
        wire_format: wire::WireFormat::Binary.into(),
        value: Some("7".to_owned()),
        hex: true,
    };
    let texts = CommandTexts {
        statement: wire::Text { text: "select $1".to_owned(), escaped: true },
        parameters: vec![parameter],
        statement_name: "s".to_owned(),
        portal_name: "p".to_owned(),
        masks: vec![mask()],
        fingerprints: vec![Bytes::from_static(&[8; 16])],
        masks_omitted: 1,
    };
    let facts = CommandReceived {
        kind: wire::command_received::Kind::Execute,
        decision: wire::Decision {
            effect: wire::decision::Effect::Deny.into(),
            rule: "builtin.copy".to_owned(),
            reason: "no".to_owned(),
        },
        policy_version: "00ff".to_owned(),
        command_bytes: 10,
        chunks: 1,
        row_limit: 100,
    };
    Event::command_received(facts, Masked::by_masking(texts))
}

fn completed() -> Event {
    let facts = wire::CommandCompleted {
        status: wire::command_completed::Status::Error.into(),
        rows: 1,
        response_bytes: 2,
        duration_us: 3,
        chunks: 4,
        transaction_status: "T".to_owned(),
        ..wire::CommandCompleted::default()
    };
    let end = ResponseEnd { command_tag: "SELECT 1".to_owned(), sqlstate: "23505".to_owned() };
    Event::command_completed(facts, content(), Masked::by_masking(end))
}

fn reads() -> (Event, Event) {
    let read = wire::EvidenceRead {
        read_id: id(4).to_bytes(),
        kind: wire::evidence_read::Kind::Sql.into(),
        cut: vec![wire::CutPosition { topic: "retrace.events".to_owned(), partition: 0, end_exclusive: 5 }],
        evidence_right: "own".to_owned(),
        ..wire::EvidenceRead::default()
    };
    let read_completed = wire::EvidenceReadCompleted {
        read_id: id(4).to_bytes(),
        status: wire::evidence_read_completed::Status::Ok.into(),
        rows: 1,
        duration_us: 2,
    };
    let statement = Masked::by_masking("select 1".to_owned());
    (Event::evidence_read(read, statement), Event::evidence_read_completed(read_completed))
}

/// One event of every kind, with every field set.
fn events() -> Vec<Event> {
    let opened = wire::SessionOpened {
        client_address: "127.0.0.1".to_owned(),
        tls_version: "TLSv1.3".to_owned(),
        server_version: "15.18".to_owned(),
        continues: id(3).to_bytes(),
        ..wire::SessionOpened::default()
    };
    let closed = wire::SessionClosed {
        reason: wire::session_closed::Reason::ClientClosed.into(),
        commands: 1,
        client_bytes: 2,
        target_bytes: 3,
    };
    let refused_login = wire::LoginRefused {
        reason: wire::login_refused::Reason::Credential.into(),
        client_address: "127.0.0.1".to_owned(),
        count: 2,
        ..wire::LoginRefused::default()
    };
    let chunk = wire::CommandChunk {
        chunk_index: 1,
        statement: " from t".to_owned(),
        parameter_index: Some(0),
        parameter: "8".to_owned(),
        parameters: vec![wire::Parameter::default()],
        ..wire::CommandChunk::default()
    };
    let refused = wire::CommandRefused {
        reason: wire::command_refused::Reason::Denied.into(),
        forwarded: wire::command_refused::Forwarded::No.into(),
        sqlstate: "42501".to_owned(),
        rule: "r".to_owned(),
    };
    let started = wire::InstanceStarted { version: "0.1.0".to_owned(), roles: vec!["proxy".to_owned()] };
    vec![
        Event::session_opened(opened, asserted(), asserted()),
        command(),
        Event::command_chunk(Masked::by_masking(chunk)),
        Event::command_refused(refused),
        Event::response_chunk(2, content()),
        completed(),
        Event::async_message(content()),
        Event::cancel_applied(Some(control_reference())),
        Event::session_closed(closed),
        Event::login_refused(refused_login, asserted()),
        Event::policy_loaded("00ff".to_owned()),
        reads().0,
        reads().1,
        Event::instance_started(started),
        Event::stream_aborted(id(5), Some(6)),
    ]
    .into_iter()
    .chain(later_events())
    .collect()
}

/// Events and fields that came after the first ones; those keep their lines.
fn later_events() -> Vec<Event> {
    let hash = wire::KeyedHash { key_id: "00aa".to_owned(), hmac_sha256: Bytes::from_static(&[6; 32]) };
    let copied = wire::CommandChunk {
        copy_rows: vec![wire::ResultRows {
            row_count: 1,
            column_count: 1,
            cell_bytes: vec![1],
            cells: "x".to_owned(),
            ..wire::ResultRows::default()
        }],
        fingerprints: vec![Bytes::from_static(&[5; 16])],
        data_bytes: 2,
        ..wire::CommandChunk::default()
    };
    let columns =
        wire::ResultColumns { copy_format: wire::CopyFormat::Csv.into(), ..wire::ResultColumns::default() };
    let columns = wire::ResponsePart { part: Some(Part::Columns(columns)) };
    let opened = wire::SessionOpened {
        record_responses: wire::RecordResponses::Shape.into(),
        ..wire::SessionOpened::default()
    };
    let head = wire::StreamHead {
        stream_id: id(6).to_bytes(),
        end_exclusive: 7,
        hash: Bytes::from_static(&[8; 32]),
    };
    let heads = wire::StreamHeads {
        heads: vec![head],
        root_hash: Bytes::from_static(&[9; 32]),
        key_id: "00bb".to_owned(),
        signature: Bytes::from_static(&[10; 64]),
        last: true,
        part_index: 1,
        parts: 2,
    };
    let catalogue =
        wire::CatalogueChanged { catalogue_version: "00cc".to_owned(), relations: 1, masked_columns: 2 };
    vec![
        Event::command_chunk(Masked::by_masking(copied)),
        Event::command_omitted(wire::CommandOmitted { data_bytes: 1, hash: Some(hash.clone()) }),
        Event::response_omitted(wire::ResponseOmitted { rows: 1, row_bytes: 2, hash: Some(hash) }),
        Event::response_chunk(
            0,
            Masked::by_masking(ResponseContent { parts: vec![columns], ..ResponseContent::default() }),
        ),
        Event::session_opened(opened, Masked::default(), Masked::default()),
        Event::catalogue_changed(catalogue),
        Event::stream_heads(heads),
        Event::kill_applied(control_reference()),
    ]
}

/// Control records, which are signed.
fn control_records() -> Vec<Event> {
    let reason = || Masked::by_masking("why".to_owned());
    vec![
        Event::token_revoked("abcd2345".to_owned(), reason()),
        Event::kill_requested(Some("jo".to_owned()), reason()),
        Event::cancel_requested(7, Some(id(8))),
        Event::legal_hold_set(id(9), On::SessionId(id(1).to_bytes()), reason()),
        Event::legal_hold_set(id(10), On::Principal("agent-7".to_owned()), reason()),
        Event::legal_hold_set(id(11), On::Target("shop".to_owned()), reason()),
        Event::legal_hold_lifted(id(9), reason()),
    ]
}

/// What the table's keeper writes.
fn retention() -> Event {
    let period =
        wire::RetentionPeriod { retention_class: wire::RetentionClass::Short.into(), first_day_kept: 20_833 };
    Event::retention_applied(wire::RetentionApplied {
        table_version: 1,
        periods: vec![period],
        rows_removed: 2,
        rows_kept: 3,
        files_removed: 4,
        hold_ids: vec![id(9).to_bytes()],
    })
}

/// What came after those.
fn events_after_control_records() -> Vec<Event> {
    let refused_logins = wire::LoginRefused {
        reason: wire::login_refused::Reason::FailedLogins.into(),
        client_address: "2001:db8::/64".to_owned(),
        count: 190,
        first_unix_us: 3,
        last_unix_us: 4,
        ..wire::LoginRefused::default()
    };
    vec![retention(), Event::login_refused(refused_logins, Masked::default())]
}

/// What came behind those: whom the gate logged in as, and that this came to its end.
fn events_of_credentials() -> Vec<Event> {
    let opened = wire::SessionOpened { target_user: "v-shop-1".to_owned(), ..wire::SessionOpened::default() };
    let closed = wire::SessionClosed {
        reason: wire::session_closed::Reason::CredentialEnded.into(),
        ..wire::SessionClosed::default()
    };
    vec![Event::session_opened(opened, Masked::default(), Masked::default()), Event::session_closed(closed)]
}

fn control_reference() -> wire::ControlReference {
    wire::ControlReference {
        topic: "retrace.control".to_owned(),
        partition: 1,
        offset: 2,
        hash: Bytes::from_static(&[7; 32]),
    }
}

fn sign(unsigned: &[u8]) -> wire::ControlSignature {
    wire::ControlSignature {
        role: wire::KeyRole::Query.into(),
        key_id: "00dd".to_owned(),
        signature: Bytes::copy_from_slice(retrace_proto::Hash::of(unsigned).as_bytes()),
    }
}

fn sealed() -> Vec<Envelope> {
    let mut stream = StreamWriter::new(id(0), wire::StreamKind::Session);
    let occurred_at = |index| 1_800_000_000_000_000 + i64::try_from(index).expect("few");
    let seal = |(index, event)| {
        Envelope::seal(&mut stream, &subject(), Some(1), occurred_at(index), event).expect("small events")
    };
    let mut all: Vec<_> = events().into_iter().enumerate().map(seal).collect();
    for (index, event) in (all.len()..).zip(control_records()) {
        let sealed = Envelope::seal_signed(&mut stream, &subject(), occurred_at(index), event, &sign);
        all.push(sealed.expect("small events"));
    }
    let after = events_after_control_records().into_iter().map(|event| (event, Some(1)));
    let of_credentials = events_of_credentials().into_iter().map(|event| (event, None));
    for (index, (event, command_seq)) in (all.len()..).zip(after.chain(of_credentials)) {
        let sealed = Envelope::seal(&mut stream, &subject(), command_seq, occurred_at(index), event);
        all.push(sealed.expect("small events"));
    }
    for (index, event) in (all.len()..).zip(reviews::reviews()) {
        let sealed = Envelope::seal_signed(&mut stream, &subject(), occurred_at(index), event, &sign);
        all.push(sealed.expect("small events"));
    }
    let at = occurred_at(all.len());
    let sealed = Envelope::seal(&mut stream, &subject(), Some(1), at, reviews::review_applied());
    all.push(sealed.expect("small events"));
    all
}

fn open(envelope: &Envelope) -> Recorded {
    Envelope::open(envelope.bytes().clone()).expect("what was sealed opens")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}

#[test]
fn every_version_is_written_and_read_as_it_always_was() {
    // Where the test runs, not where it was built: two checkouts may share their build output.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let written: Vec<_> = sealed().iter().map(open).collect();
    for version in 1..=SCHEMA_VERSION {
        let path = format!("{here}/tests/golden/v{version}.txt");
        let of_version = written.iter().filter(|recorded| recorded.header().schema_version == version);
        let lines: Vec<String> = of_version
            .map(|recorded| format!("{} {}", recorded.event_type(), hex(recorded.bytes())))
            .collect();
        if std::env::var_os("RETRACE_BLESS").is_some() {
            std::fs::write(&path, lines.join("\n") + "\n").expect("the golden file is writable");
        }
        let golden = std::fs::read_to_string(&path).expect("the golden file is there");
        for (line, golden) in lines.iter().zip(golden.lines()) {
            assert_eq!(line, golden);
            let (event_type, bytes) = golden.split_once(' ').expect("name and bytes");
            let recorded = Envelope::open(unhex(bytes)).expect("a golden event opens");
            assert_eq!((recorded.event_type(), recorded.header().schema_version), (event_type, version));
        }
        assert_eq!(lines.len(), golden.lines().count(), "every event of version {version} has its line");
    }
}

#[test]
fn every_event_survives_decoding_and_encoding_bit_for_bit() {
    use prost::Message;
    for envelope in sealed() {
        let decoded = wire::Envelope::decode(envelope.bytes().clone()).expect("decodes");
        assert_eq!(decoded.encode_to_vec()[..], envelope.bytes()[..]);
    }
}

#[test]
fn a_stream_is_dense_and_chained() {
    let mut last: Option<Recorded> = None;
    for (seq, envelope) in sealed().iter().enumerate() {
        let recorded = open(envelope);
        assert_eq!(recorded.header().stream_seq, seq as u64);
        match &last {
            None => assert!(recorded.header().prev_hash.is_empty()),
            Some(last) => assert_eq!(recorded.header().prev_hash[..], last.hash().as_bytes()[..]),
        }
        last = Some(recorded);
    }
}

#[test]
fn the_texts_of_the_caller_give_way_to_the_masked_ones() {
    let facts = wire::CommandCompleted {
        command_tag: "raw".to_owned(),
        sqlstate: "raw".to_owned(),
        fingerprints: vec![Bytes::from_static(b"raw")],
        ..wire::CommandCompleted::default()
    };
    let event = Event::command_completed(facts, Masked::default(), Masked::default());
    let mut stream = StreamWriter::new(id(0), wire::StreamKind::Session);
    let envelope = Envelope::seal(&mut stream, &subject(), None, 0, event).expect("a small event");
    let Payload::CommandCompleted(completed) = open(&envelope).payload().clone() else {
        panic!("another payload")
    };
    assert_eq!((completed.command_tag.as_str(), completed.sqlstate.as_str()), ("", ""));
    assert!(completed.fingerprints.is_empty());
}
