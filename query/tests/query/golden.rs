//! A table of every schema version answers: rows that an earlier release wrote are in `events` and in the views.

#[path = "../../../proto/tests/golden/kept.rs"]
mod kept;

use std::sync::Arc;

use retrace_access::EvidenceRight;
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_lake::{Location, Table};
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_query::{Options, Reader, Sources};

use crate::world::{World, caller, rows};
use kept::Kept;

/// What every table that is kept has, by a question: it holds the same events, whatever its schema.
const ANSWERS: [(&str, &[&[&str]]); 6] = [
    (
        "SELECT principal, statement, status, rows, refused_reason FROM commands ORDER BY at",
        &[
            &["agent-7", "select $1", "error", "1", "denied"],
            &["ada", "SELECT name, email FROM customers", "ok", "2", "NULL"],
        ],
    ),
    ("SELECT parameters FROM commands WHERE principal = 'agent-7'", &[&["[\"7\"]"]]),
    (
        "SELECT command_seq, response_text FROM responses
         WHERE principal = 'ada' AND response_text LIKE '%a***@example.com%'",
        &[&["1", "Ada\ta***@example.com\nGrace\t"]],
    ),
    (
        "SELECT place, count(*) FROM masked_values WHERE principal = 'agent-7' GROUP BY place ORDER BY place",
        &[&["diagnostic", "3"], &["parameter", "1"], &["row", "3"]],
    ),
    (
        "SELECT client_address, commands, close_reason FROM sessions WHERE principal = 'ada' ORDER BY opened_at",
        &[&["192.0.2.7:5000", "1", "client_closed"], &["192.0.2.7:5000", "0", "client_closed"]],
    ),
    (
        "SELECT retention_class, count(*) FROM events WHERE principal = 'ada' AND row_kind = 'event'
         GROUP BY retention_class ORDER BY retention_class",
        &[&["long", "2"], &["standard", "5"]],
    ),
];

#[tokio::test]
async fn a_table_of_every_schema_version_is_in_events_and_in_the_views() {
    for (version, folder) in kept::numbered("lake/tests/golden", "schema") {
        let records = kept::read(&folder.join("records.txt"));
        let log = MemoryLog::new();
        for Kept { at, record, .. } in &records {
            log.set_now(record.appended_at_unix_us);
            log.append(*at, record.key.clone(), record.value.clone()).await.unwrap();
        }
        let world = World::new().await;
        let location = world.folder.path().join("kept");
        kept::copy(&folder.join("table"), &location);
        let sources = Sources {
            log: Arc::new(log),
            table: Table::open_or_create(&Location::new(location.to_str().unwrap())).await.unwrap(),
            // What is read is recorded elsewhere.
            instance: Arc::clone(&world.instance),
            masker: Masker::everything(FingerprintKey::new(b"key")),
        };
        let reader = Reader::new(sources, Options::default()).unwrap();
        let auditor = caller("auditor", EvidenceRight::All);
        let ask = async |statement: &str| rows(reader.sql(&auditor, statement).await.unwrap()).await.unwrap();

        let places =
            "SELECT row_kind, count(*), count(DISTINCT topic || CAST(log_offset AS VARCHAR)) FROM events
                      GROUP BY row_kind ORDER BY row_kind";
        let count = |kind: &str| records.iter().filter(|kept| kept.kind == kind).count().to_string();
        let expected =
            ["dead_letter", "duplicate", "event"].map(|kind| [kind.to_owned(), count(kind), count(kind)]);
        assert_eq!(ask(places).await, expected, "schema {version}");
        for (question, answer) in ANSWERS {
            assert_eq!(ask(question).await, answer, "schema {version}: {question}");
        }
    }
}
