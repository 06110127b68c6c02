//! docs/evidence.md is right: its examples run, and its tables have every column there is.

use std::path::Path;

use retrace_access::EvidenceRight;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{self, Mask, MaskAction, MaskKind};
use retrace_proto::{Event, ResponseContent, ResponseEnd};

use crate::world::{Session, World, caller, masked, rows};

const CARD: &str = "4111111111111111";
const ADDRESS: &str = "ada@example.com";

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/evidence.md");
    std::fs::read_to_string(path).unwrap()
}

fn examples(page: &str) -> Vec<&str> {
    page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn mask(column: u32, kind: MaskKind, fingerprint: u32) -> Mask {
    Mask {
        column,
        kind: kind.into(),
        action: MaskAction::Partial.into(),
        rule: "pii".to_owned(),
        fingerprint_index: Some(fingerprint),
        ..Mask::default()
    }
}

fn row(cells: &[&str], masks: Vec<Mask>) -> wire::ResultRows {
    wire::ResultRows {
        row_count: 1,
        column_count: cells.len() as u32,
        cell_bytes: cells.iter().map(|cell| cell.len() as i32).collect(),
        cells: cells.concat(),
        masks,
        ..wire::ResultRows::default()
    }
}

fn fingerprints() -> Vec<bytes::Bytes> {
    let masker = Masker::everything(FingerprintKey::new(b"key"));
    let of = |value| bytes::Bytes::copy_from_slice(&masker.fingerprints_of(value, None)[0]);
    vec![of(CARD), of(ADDRESS)]
}

/// A row of three columns of which two are masked.
fn content() -> ResponseContent {
    let column = |name: &str| wire::Column { name: name.to_owned(), type_oid: 25, ..Default::default() };
    let columns = wire::ResultColumns {
        columns: vec![column("name"), column("card"), column("email")],
        ..Default::default()
    };
    let masks = vec![mask(1, MaskKind::PaymentCard, 0), mask(2, MaskKind::Email, 1)];
    let rows = row(&["Alan Turing", "**** 1111", "a***@example.com"], masks);
    let part = |part| wire::ResponsePart { part: Some(part) };
    ResponseContent {
        parts: vec![part(Part::Columns(columns)), part(Part::Rows(rows))],
        fingerprints: fingerprints(),
    }
}

async fn fill(world: &World) -> Session {
    Session::run(world, "bob", 2).await;
    let mut session = Session::new(world, "ann");
    session.open().await;
    let seq = session.command("SELECT name, card, email FROM customers", &[]).await;
    let facts = wire::CommandCompleted {
        status: wire::command_completed::Status::Ok.into(),
        rows: 1,
        ..Default::default()
    };
    let end = ResponseEnd { command_tag: "SELECT 1".to_owned(), sqlstate: String::new() };
    let omitted = wire::ResponseOmitted { rows: 3, row_bytes: 90, hash: None };
    session.write(Some(seq), Event::response_omitted(omitted)).await;
    session.write(Some(seq), Event::command_completed(facts, masked(content()), masked(end))).await;
    let refused = session.command("LISTEN x", &[]).await;
    session.refuse(refused).await;
    copy(&mut session).await;
    let decided = Event::review_decided(Default::default(), masked("as agreed".to_owned()));
    world.instance.record(Default::default(), decided).await.unwrap();
    world
        .instance
        .record(Default::default(), Event::login_refused(Default::default(), masked(Vec::new())))
        .await
        .unwrap();
    session
}

async fn copy(session: &mut Session) {
    let seq = session.command("COPY customers FROM STDIN", &[]).await;
    let chunk = wire::CommandChunk {
        copy_rows: vec![row(&["Alan Turing", "**** 1111"], vec![mask(1, MaskKind::PaymentCard, 0)])],
        fingerprints: fingerprints(),
        data_bytes: 29,
        ..Default::default()
    };
    session.write(Some(seq), Event::command_chunk(masked(chunk))).await;
    session
        .write(Some(seq), Event::command_omitted(wire::CommandOmitted { data_bytes: 1000, hash: None }))
        .await;
    session.complete(seq, &[]).await;
}

#[tokio::test]
async fn every_example_runs_and_answers_with_rows_from_the_log_and_from_the_table() {
    let world = World::new().await;
    fill(&world).await;
    let page = page();
    assert_eq!(examples(&page).len(), 15, "the page's examples are found");
    // The first question has a question to find.
    world.sql("SELECT 1").await.unwrap();
    for from in ["the log", "the table"] {
        for example in examples(&page) {
            let found = world.sql(example).await.unwrap_or_else(|error| panic!("{error} in: {example}"));
            assert!(!found.is_empty(), "no rows from {from}: {example}");
        }
        world.ingest().await;
    }
}

#[tokio::test]
async fn refused_logins_are_counted_by_what_their_events_stand_for() {
    let world = World::new().await;
    for (count, first_unix_us, last_unix_us) in [(1, 0, 0), (190, 3, 4)] {
        let refused = wire::LoginRefused { count, first_unix_us, last_unix_us, ..Default::default() };
        let event = Event::login_refused(refused, masked(Vec::new()));
        world.instance.record(Default::default(), event).await.unwrap();
    }
    let of = |name: &str| format!("payload_{name}(coalesce(payload, raw)) AS {name}");
    let columns = ["count", "first_unix_us", "last_unix_us"].map(of).join(", ");
    let asked = format!("SELECT {columns} FROM events WHERE event_type = 'login_refused' ORDER BY 1");
    for _from in ["the log", "the table"] {
        assert_eq!(world.sql(&asked).await.unwrap(), [["1", "NULL", "NULL"], ["190", "3", "4"]]);
        world.ingest().await;
    }
}

#[tokio::test]
async fn every_column_is_documented() {
    let world = World::new().await;
    let page = page();
    let mut columns = 0;
    for name in ["sessions", "commands", "responses", "masked_values", "events"] {
        let section = page.split("\n## ").find(|section| section.starts_with(&format!("{name}\n"))).unwrap();
        let documented: String = section
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| format!(" {} ", line.split('|').nth(1).unwrap().replace(',', " ")))
            .collect();
        let answer = world
            .reader()
            .sql(&caller("auditor", EvidenceRight::All), &format!("SELECT * FROM {name}"))
            .await;
        for field in answer.unwrap().schema.fields() {
            columns += 1;
            assert!(
                documented.contains(&format!(" {} ", field.name())),
                "{name}.{} is not documented",
                field.name()
            );
        }
    }
    assert!(columns >= 110, "{columns} columns were looked at");
}

#[tokio::test]
async fn a_value_is_found_by_its_fingerprint_wherever_it_stood() {
    let world = World::new().await;
    fill(&world).await;
    let asked = format!(
        "SELECT place, \"row\", column_name, kind, action, rule FROM masked_values \
         WHERE fingerprint = fingerprint('{CARD}') ORDER BY command_seq"
    );
    let expected = [
        ["row", "0", "card", "payment_card", "partial", "pii"],
        ["copy", "0", "NULL", "payment_card", "partial", "pii"],
    ];
    assert_eq!(world.sql(&asked).await.unwrap(), expected);
    let recorded =
        world.sql("SELECT statement FROM events WHERE event_type = 'evidence_read'").await.unwrap();
    assert!(recorded[0][0].contains("fingerprint('[value]')"), "{recorded:?}");
    let other = world.sql("SELECT 1 FROM masked_values WHERE fingerprint = fingerprint('5500005555555559')");
    assert!(other.await.unwrap().is_empty());
}

#[tokio::test]
async fn fingerprints_are_for_those_who_have_the_right() {
    let world = World::new().await;
    let ann = caller("ann", EvidenceRight::Own);
    let asked = "SELECT 1 FROM masked_values WHERE fingerprint = fingerprint('078-05-1120', 'email')";
    let error = world.reader().sql(&ann, asked).await.unwrap_err();
    assert!(error.to_string().contains("evidence_fingerprint"), "{error}");
    let recorded =
        world.sql("SELECT statement FROM events WHERE event_type = 'evidence_read'").await.unwrap();
    assert_eq!(recorded.len(), 1, "the refused question is on record");
    assert!(!recorded[0][0].contains("078"), "{recorded:?}");
}

#[tokio::test]
async fn copied_and_omitted_data_is_counted_and_lifted_from_log_and_table_alike() {
    let world = World::new().await;
    fill(&world).await;
    let asked = "SELECT copied_bytes, omitted_bytes, omitted_rows, omitted_row_bytes FROM commands \
                 WHERE copied_bytes > 0 OR omitted_rows > 0 ORDER BY seq";
    for _from in ["the log", "the table"] {
        let found = rows(world.reader().sql(&caller("auditor", EvidenceRight::All), asked).await.unwrap())
            .await
            .unwrap();
        assert_eq!(found, [["NULL", "NULL", "3", "90"], ["29", "1000", "NULL", "NULL"]]);
        world.ingest().await;
    }
}

#[tokio::test]
async fn copied_data_can_be_given_back_bit_for_bit() {
    let world = World::new().await;
    let session = fill(&world).await;
    world.ingest().await;
    let answer = world.reader().session(&caller("auditor", EvidenceRight::All), session.id).await.unwrap();
    let sealed: Vec<_> =
        crate::world::events(answer).await.unwrap().into_iter().map(|it| it.envelope).collect();
    assert_eq!(sealed, session.sealed);
    let raw = world.number("SELECT count(*) FROM events WHERE raw IS NOT NULL AND row_kind = 'event'").await;
    assert_eq!(raw, 0, "every row is rebuilt from its columns");
}
