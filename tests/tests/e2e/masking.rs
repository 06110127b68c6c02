//! P2: no leak past the mask, in what clients receive and in what is kept.

use retrace_tests::client::{self, Connection};
use retrace_tests::{Gate, Postgres, TARGET_PASSWORD, Wire, payment_card, startup};

use crate::canaries::{Canary, assert_none_in, assert_none_written, grouped, parquet_files};

const MAIL_USERS: [&str; 3] = ["ada.lovelace.k1", "grace+hopper.k2", "barbara_liskov.k3"];

/// The cards of a test, which share no six digits in a row.
fn cards() -> [String; 4] {
    ["492918273645546", "540125364758697", "37449876543210", "601198764321053"].map(payment_card)
}

fn canaries() -> Vec<Canary> {
    let cards = cards();
    let cards = cards.iter().map(|number| Canary::card(number));
    cards.chain(MAIL_USERS.iter().map(|user| Canary::text(user))).collect()
}

/// A table with the canaries in columns of many types.
fn seed() -> String {
    let [visa, master, amex, discover] = cards();
    let [ada, grace, barbara] = MAIL_USERS;
    format!(
        "CREATE TABLE customers (id int PRIMARY KEY, card text UNIQUE, mail varchar(80), note json, more jsonb,
                                 number bigint, raw bytea, list text[], checked text CHECK (checked <> 'never'));
         INSERT INTO customers VALUES
           (1, '{visa}', '{ada}@example.com', '{{\"card\": \"{visa}\"}}', '{{\"mail\": \"{ada}@example.com\"}}',
            {visa}, '{visa}', ARRAY['{visa}', '{ada}@example.com'], 'ok'),
           (2, '{}', '{grace}@example.org', '{{\"card\": {master}}}', '{{\"card\": {master}}}',
            {master}, '{grace}@example.org', ARRAY['{}'], 'ok'),
           (3, '{}', '{barbara}@xn--bcher-kva.example', 'null', '[\"{amex}\"]', {amex}, '{amex}', '{{}}', 'ok'),
           (4, 'card: {discover}, again {}', NULL, NULL, NULL, {discover}, NULL, NULL, 'ok');",
        grouped(&master, " "),
        grouped(&master, "-"),
        grouped(&amex, "-"),
        grouped(&discover, "."),
    )
}

/// Statements that bring the canaries out as rows, names, errors, notices, settings and notifications.
fn script() -> String {
    let [visa, master, amex, discover] = cards();
    let [ada, grace, _] = MAIL_USERS;
    format!(
        "SELECT * FROM customers ORDER BY id;
         SELECT c FROM customers c;
         SELECT row_to_json(c), to_jsonb(c) FROM customers c;
         SELECT card AS \"{visa}\", 1 AS \"{ada}@example.com\" FROM customers;
         SELECT string_agg(card || ' ' || coalesce(mail, ''), E'\\n') FROM customers;
         SELECT card::int FROM customers WHERE id = 1;
         INSERT INTO customers (id, card) VALUES (5, '{visa}');
         INSERT INTO customers (id, card, checked) VALUES (6, '{discover}', 'never');
         SELECT '{grace}@example.org'::date;
         SELECT no_such_column_{master} FROM customers;
         DO $$ BEGIN RAISE NOTICE 'card % of %', '{amex}', '{ada}@example.com'; END $$;
         DO $$ BEGIN RAISE EXCEPTION 'card %', '{amex}' USING DETAIL = '{discover}', HINT = '{ada}@example.com'; END $$;
         BEGIN; DECLARE c CURSOR FOR SELECT card, mail FROM customers; FETCH ALL FROM c; COMMIT;
         SET application_name = '{visa}';
         SHOW application_name;
         LISTEN cards; NOTIFY cards, '{visa} {ada}@example.com';
         EXPLAIN (VERBOSE, COSTS off) SELECT * FROM customers WHERE card = '{visa}';
         SELECT repeat('x', 163830) || card || repeat('y', 170000) || mail FROM customers WHERE id = 1;
         UPDATE customers SET mail = '{grace}@example.org' WHERE card = '{visa}' RETURNING *;"
    )
}

#[test]
fn p2_psql_sees_a_masked_card_and_so_does_the_evidence() {
    let database = Postgres::shared().database();
    let visa = payment_card("492918273645546");
    database.seed(&format!(
        "CREATE TABLE customers (card text, mail text);
         INSERT INTO customers VALUES ('{visa}', 'ada@example.com')"
    ));
    let gate = Gate::started(database);
    let expected = format!("************{}", &visa[12..]);
    let out = gate.psql("SELECT card, mail FROM customers").expect_ok();
    assert_eq!(out, format!("{expected}|a***@example.com\n"));
    let rows = gate.sql("SELECT response_text FROM responses WHERE response_text LIKE '%example.com%'");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["response_text"], format!("{expected}\ta***@example.com"));
    assert_eq!(database.sql("SELECT card FROM customers"), [visa], "masking must not touch the target");
}

#[test]
fn p2_no_canary_is_in_any_byte_that_psql_received_or_the_gate_wrote() {
    let database = Postgres::shared().database();
    database.seed(&seed());
    let mut gate = Gate::started(database);
    let outcome = gate.psql(&script());
    let canaries = canaries();
    assert_none_in("what psql received", &outcome.stdout, &canaries);
    // psql repeats lines of the script beside an error's position; what it received is the rest.
    let received: Vec<_> =
        outcome.err().lines().filter(|line| !line.starts_with("LINE ")).map(str::to_owned).collect();
    assert_none_in("what psql received", received.join("\n").as_bytes(), &canaries);
    assert!(outcome.out().contains("@example.com"), "the script brought nothing out: {}", outcome.out());
    let errors =
        gate.number("SELECT count(*) AS n FROM commands WHERE sqlstate IS NOT NULL AND sqlstate <> ''");
    assert!(errors >= 6, "only {errors} statements failed");
    assert_none_written(&gate, &canaries);
    assert!(gate.stop().success());
    assert!(!parquet_files(&gate.dir()).is_empty());
    assert_none_written(&gate, &canaries);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_no_canary_is_in_binary_results_parameters_or_names() {
    let database = Postgres::shared().database();
    database.seed(&seed());
    let gate = Gate::started(database);
    let canaries = canaries();
    let Connection { client, unasked, .. } = client::connect(&gate).await;
    let [visa, master, ..] = cards();
    let mut received = Vec::new();

    for column in ["card", "mail", "note::text", "number::text", "list::text", "convert_from(raw, 'UTF8')"] {
        let statement = format!("SELECT {column} FROM customers ORDER BY id");
        for row in client.query(&statement, &[]).await.expect("it is answered") {
            received.extend(
                row.try_get::<_, Option<String>>(0).expect("a text").unwrap_or_default().into_bytes(),
            );
        }
    }
    for row in client.query("SELECT number, raw FROM customers", &[]).await.expect("it is answered") {
        let number = row.try_get::<_, Option<i64>>(0).expect("a masked number is NULL");
        received.extend(number.unwrap_or_default().to_be_bytes());
        received
            .extend(row.try_get::<_, Option<Vec<u8>>>(1).expect("masked bytes are NULL").unwrap_or_default());
    }
    assert_none_in("binary results", &received, &canaries);

    let insert = "INSERT INTO customers (id, card, mail, number) VALUES (10, $1, $2, $3)";
    let number: i64 = master.parse().expect("sixteen digits");
    let mail = format!("{}@example.org", MAIL_USERS[1]);
    let spaced = grouped(&visa, "  ");
    client.execute(insert, &[&spaced, &mail, &number]).await.expect("it is answered");
    let again = client.execute(insert, &[&spaced, &mail, &number]).await.expect_err("the key is there");
    assert_none_in("an error", format!("{again:?}").as_bytes(), &canaries);
    assert_eq!(
        database.sql("SELECT card, mail, number FROM customers WHERE id = 10"),
        [format!("{spaced}\t{mail}\t{master}")],
        "what is written is the client's own value"
    );

    client.batch_execute(&format!("LISTEN cards; NOTIFY cards, '{visa}'")).await.expect("it is answered");
    client
        .batch_execute(&format!("DO $$ BEGIN RAISE WARNING '{mail}'; END $$"))
        .await
        .expect("it is answered");
    let unasked = unasked.lock().expect("nobody panics holding it").join("\n");
    assert!(unasked.contains("@example.org") && unasked.contains("cards"), "{unasked}");
    assert_none_in("notices and notifications", unasked.as_bytes(), &canaries);
    drop(client);
    assert_none_written(&gate, &canaries);
}

#[test]
fn p2_no_canary_of_a_login_or_of_a_name_on_the_wire_is_kept() {
    let gate = Gate::started(Postgres::shared().database());
    let [visa, master, ..] = cards();
    let mail = format!("{}@example.com", MAIL_USERS[0]);
    let mut stranger = Wire::open(&gate).expect("the gate listens");
    stranger.send_raw(&startup(&[("user", &mail), ("database", &visa)])).expect("the gate reads");
    assert!(stranger.authenticate("rt_12345678_not-a-token").is_err(), "a stranger was let in");

    let mut wire = Wire::open(&gate).expect("the gate listens");
    let parameters = [("user", "dev"), ("database", "shop"), ("application_name", mail.as_str())];
    wire.send_raw(&startup(&parameters)).expect("the gate reads");
    wire.authenticate(&gate.dev_token()).expect("the token is right");
    let mut received: Vec<_> = wire.read_until(b'Z').expect("the session opens");
    let parse = format!("{visa}\0SELECT 1\0\0\0");
    wire.send(b'P', parse.as_bytes()).expect("the session lives");
    let bind = format!("{master}\0{visa}\0\0\0\0\0\0\0");
    wire.send(b'B', bind.as_bytes()).expect("the session lives");
    wire.send(b'E', format!("{master}\0\0\0\0\0").as_bytes()).expect("the session lives");
    wire.send(b'E', b"no such portal 4111\0\0\0\0\0").expect("the session lives");
    wire.send(b'S', b"").expect("the session lives");
    received.extend(wire.read_until(b'Z').expect("it is answered"));
    assert_eq!(crate::common::refusal(&received).0, "34000");
    // A setting tells the client its own application_name; what matters is that nobody else learns it.
    let others = received.into_iter().filter(|message| message.tag != b'S');
    let received: Vec<u8> = others.flat_map(|message| message.body).collect();
    assert_none_in("what a client received", &received, &canaries());
    drop(wire);
    assert_eq!(gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'login_refused'"), 1);
    assert_none_written(&gate, &canaries());
}

#[test]
fn p2_a_question_about_the_evidence_is_kept_masked() {
    let gate = Gate::started(Postgres::shared().database());
    let visa = payment_card("492918273645546");
    let mail = format!("{}@example.com", MAIL_USERS[0]);
    let asked = format!(
        "SELECT count(*) AS n FROM commands WHERE statement LIKE '%{visa}%' OR statement LIKE '%{mail}%'"
    );
    assert_eq!(gate.number(&asked), 0);
    let wrong = gate.retrace(&["sql", &format!("SELECT \"{visa}\" FROM commands")]);
    let _ = wrong.expect_failure();
    assert_none_written(&gate, &canaries());
}

#[test]
fn no_credential_is_in_any_byte_that_a_client_received_or_the_gate_wrote() {
    let database = Postgres::shared().database();
    let gate = Gate::started(database);
    let token = gate.dev_token();
    let secret = token.rsplit('_').next().expect("a token has parts");
    assert!(secret.len() >= 32, "a token's secret is long");
    let credentials = [Canary::text(secret), Canary::text(TARGET_PASSWORD)];
    let outcome = gate.psql("SELECT 1; SELECT no_such_column; \\conninfo");
    assert_none_in("what psql received", &[outcome.stdout, outcome.stderr].concat(), &credentials);
    let wrong = gate.retrace_as(Some(&format!("{token}x")), &["sql", "SELECT 1"]);
    let error = wrong.expect_failure();
    assert_none_in("an error", error.as_bytes(), &credentials);
    assert_none_written(&gate, &credentials);
}
