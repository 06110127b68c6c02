use retrace_access::EvidenceRight;

use crate::world::{Session, World, caller};

/// Names and order are a public contract: a column may be added at the end, nothing else.
const COLUMNS: [(&str, &[&str]); 4] = [
    (
        "sessions",
        &[
            "session_id",
            "principal",
            "principal_kind",
            "on_behalf_of",
            "target",
            "protocol",
            "client_address",
            "opened_at",
            "closed_at",
            "state",
            "close_reason",
            "commands",
            "duration_us",
            "continues",
            "continued_by",
            "target_user",
        ],
    ),
    (
        "commands",
        &[
            "session_id",
            "seq",
            "at",
            "principal",
            "target",
            "kind",
            "statement",
            "parameters",
            "decision",
            "rule",
            "status",
            "command_tag",
            "rows",
            "sqlstate",
            "error_message",
            "duration_us",
            "refused_reason",
            "forwarded",
            "response_bytes",
            "principal_kind",
            "on_behalf_of",
            "token_id",
            "protocol",
            "durability",
            "copied_bytes",
            "omitted_bytes",
            "omitted_rows",
            "omitted_row_bytes",
        ],
    ),
    (
        "masked_values",
        &[
            "session_id",
            "command_seq",
            "at",
            "principal",
            "target",
            "place",
            "row",
            "position",
            "column_name",
            "kind",
            "action",
            "rule",
            "fingerprint",
            "chunk",
            "event_type",
        ],
    ),
    (
        "responses",
        &[
            "session_id",
            "command_seq",
            "chunk",
            "at",
            "principal",
            "target",
            "columns",
            "response_text",
            "masked_values",
            "error_message",
            "is_last",
        ],
    ),
];

#[tokio::test]
async fn each_view_has_the_columns_that_are_promised() {
    let world = World::new().await;
    for (view, expected) in COLUMNS {
        let statement = format!("SELECT * FROM {view}");
        let answer = world.reader().sql(&caller("auditor", EvidenceRight::All), &statement).await.unwrap();
        let columns: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(columns, expected, "{view}");
    }
}

/// The same rows whether they come from the tail or from files.
async fn in_tail_and_in_files(world: &World, statement: &str, expected: &[&[&str]]) {
    for place in ["tail", "files"] {
        assert_eq!(world.sql(statement).await.unwrap(), expected, "in {place}: {statement}");
        world.ingest().await;
    }
}

#[tokio::test]
async fn sessions_say_who_from_where_to_what_and_how_long() {
    let world = World::new().await;
    let closed = Session::run(&world, "ann", 2).await;
    let mut open = Session::new(&world, "bob");
    open.open().await;
    in_tail_and_in_files(
        &world,
        "SELECT session_id, principal, principal_kind, target, protocol, client_address, state, close_reason, commands, \
         duration_us FROM sessions ORDER BY principal",
        &[
            &[
                &closed.id.to_string(),
                "ann",
                "agent",
                "shop",
                "postgres",
                "192.0.2.7:5000",
                "closed",
                "client_closed",
                "2",
                "5000",
            ],
            &[
                &open.id.to_string(),
                "bob",
                "agent",
                "shop",
                "postgres",
                "192.0.2.7:5000",
                "open",
                "NULL",
                "0",
                "NULL",
            ],
        ],
    )
    .await;
}

#[tokio::test]
async fn commands_say_what_was_asked_and_how_it_ended() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    session.open().await;
    let answered = session.command("SELECT name FROM t WHERE id = $1", &[Some("7"), None]).await;
    session.complete(answered, &["a", "b"]).await;
    let refused = session.command("COPY t TO STDOUT", &[]).await;
    session.refuse(refused).await;
    session.command("SELECT pg_sleep(1)", &[]).await;
    in_tail_and_in_files(
        &world,
        "SELECT seq, principal, target, kind, statement, parameters, decision, status, command_tag, rows, sqlstate, \
         duration_us, refused_reason, forwarded FROM commands ORDER BY seq",
        &[
            &[
                "1",
                "ann",
                "shop",
                "execute",
                "SELECT name FROM t WHERE id = $1",
                r#"["7",null]"#,
                "allow",
                "ok",
                "SELECT 2",
                "2",
                "NULL",
                "1500",
                "NULL",
                "NULL",
            ],
            &[
                "3",
                "ann",
                "shop",
                "execute",
                "COPY t TO STDOUT",
                "NULL",
                "allow",
                "refused",
                "NULL",
                "NULL",
                "0A000",
                "NULL",
                "unsupported",
                "no",
            ],
            &[
                "5",
                "ann",
                "shop",
                "execute",
                "SELECT pg_sleep(1)",
                "NULL",
                "allow",
                "NULL",
                "NULL",
                "NULL",
                "NULL",
                "NULL",
                "NULL",
                "NULL",
            ],
        ],
    )
    .await;
}

#[tokio::test]
async fn responses_hold_the_parts_in_order_as_text() {
    let world = World::new().await;
    let mut session = Session::new(&world, "ann");
    let command = session.command("SELECT name FROM t", &[]).await;
    session.response_chunk(command, 0, &["first", "second"]).await;
    session.complete(command, &["last"]).await;
    in_tail_and_in_files(
        &world,
        "SELECT command_seq, chunk, columns, response_text, masked_values, is_last FROM responses ORDER BY is_last",
        &[
            &["0", "0", r#"["name"]"#, "first\nsecond", "1", "false"],
            &["0", "0", r#"["name"]"#, "last", "1", "true"],
        ],
    )
    .await;
}

#[tokio::test]
async fn filters_sorts_limits_and_joins_agree_between_tail_and_files() {
    let world = World::new().await;
    let first = Session::run(&world, "ann", 5).await;
    let second = Session::run(&world, "bob", 3).await;
    let (first, second) = (first.id.to_string(), second.id.to_string());
    for (statement, expected) in [
        (format!("SELECT count(*) FROM commands WHERE session_id = '{first}'"), "5"),
        (format!("SELECT count(*) FROM events WHERE stream_id = '{second}'"), "8"),
        ("SELECT count(*) FROM events WHERE stream_id = 'nobody'".to_owned(), "0"),
        ("SELECT count(*) FROM commands WHERE statement LIKE '%4'".to_owned(), "1"),
        ("SELECT max(seq) FROM commands WHERE principal IN ('ann', 'bob')".to_owned(), "9"),
        ("SELECT statement FROM commands ORDER BY seq DESC LIMIT 1".to_owned(), "SELECT 4"),
        (
            "SELECT count(*) FROM responses r JOIN commands c \
             ON r.session_id = c.session_id AND r.command_seq = c.seq WHERE c.principal = 'bob'"
                .to_owned(),
            "3",
        ),
        (
            "SELECT count(*) FROM events WHERE session_date = DATE '2026-01-01' AND principal = 'ann'"
                .to_owned(),
            "12",
        ),
        ("SELECT count(*) FROM events WHERE session_date > DATE '2026-01-01'".to_owned(), "0"),
        ("SELECT count(*) FROM events WHERE occurred_at < TIMESTAMP '2020-01-01T00:00:00Z'".to_owned(), "0"),
        (
            "SELECT count(*) FROM events WHERE retention_class = 'standard' AND principal = 'bob'".to_owned(),
            "8",
        ),
    ] {
        in_tail_and_in_files(&world, &statement, &[&[expected]]).await;
    }
}

#[tokio::test]
async fn a_file_is_not_opened_for_rows_that_it_cannot_hold() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 1).await;
    world.ingest().await;
    // Its data is gone, but its bounds are in the table's log.
    let files = world.table.snapshot().await.unwrap().files().to_vec();
    for file in &files {
        std::fs::remove_file(world.folder.path().join("lake").join(file.path.as_ref())).unwrap();
    }
    assert_eq!(world.number("SELECT count(*) FROM events WHERE stream_id = 'ffffffff'").await, 0);
    let needed = format!("SELECT count(*) FROM events WHERE stream_id = '{}'", session.id);
    assert!(world.sql(&needed).await.is_err(), "a row it may hold needs the file");
}
