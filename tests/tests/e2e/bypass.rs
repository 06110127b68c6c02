//! Attempts to have an effect that a rule forbids. Each ends refused, and recorded, and has none.

use std::path::Path;

use retrace_tests::{Database, Gate, Postgres, client};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Everything but: writing `orders`, reading `payments`, whatever runs code, definitions, and being somebody else.
const RULES: &str = r#"
permit(principal, action, resource);

@id("orders stay")
forbid(principal, action == Action::"write", resource)
when { context.statement.writes.contains("public.orders") };

@id("payments are not read, nor what the target knows of their values")
forbid(principal, action in Action::"execute", resource)
when { context.statement.relations.containsAny(
  ["public.payments", "pg_catalog.pg_statistic", "pg_catalog.pg_stats", "pg_catalog.pg_stats_ext"]) };

@id("only these functions")
forbid(principal, action in Action::"execute", resource)
unless { ["pg_catalog.count", "pg_catalog.max", "pg_catalog.generate_series", "pg_catalog.row_to_json"]
  .containsAll(context.statement.functions) };

@id("no code")
forbid(principal, action in Action::"execute", resource)
when { context.statement.volatile };

@id("definitions stay")
forbid(principal, action == Action::"ddl", resource);

@id("nobody is somebody else")
forbid(principal, action == Action::"execute", resource)
when { context.statement.settings.containsAny(["role", "session_authorization", "all"]) };
"#;

const SEED: &str = "
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, amount int) PARTITION BY RANGE (id);
CREATE TABLE orders_low PARTITION OF orders FOR VALUES FROM (0) TO (50);
CREATE TABLE orders_high PARTITION OF orders FOR VALUES FROM (50) TO (100);
INSERT INTO orders SELECT n, n FROM generate_series(1, 9) n;
CREATE VIEW orders_view AS SELECT * FROM orders;
CREATE VIEW orders_view_of_view AS SELECT * FROM orders_view;
CREATE TABLE payments (id serial, card text);
INSERT INTO payments (card) SELECT 'CANARY-CARD' FROM generate_series(1, 100);
ANALYZE payments;
CREATE VIEW paid AS SELECT card FROM payments;
CREATE VIEW paid_by_view AS SELECT * FROM paid;
CREATE TABLE scratch (a int);
INSERT INTO scratch VALUES (1);
CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1';
CREATE FUNCTION wiped(scratch) RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1';
CREATE FUNCTION wiping(int, int) RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1';
CREATE OPERATOR <!> (LEFTARG = int, RIGHTARG = int, FUNCTION = wiping);
CREATE DOMAIN wiping AS int CHECK (wipe() IS NOT NULL);
CREATE TYPE of_wiping AS (a wiping);
CREATE VIEW wiping_view AS SELECT wipe();
CREATE MATERIALIZED VIEW wiping_copy AS SELECT wipe() WITH NO DATA;
CREATE PROCEDURE wipe_all() LANGUAGE sql AS 'DELETE FROM orders';
CREATE FUNCTION wipe_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM orders; RETURN NULL; END';
CREATE FUNCTION peek() RETURNS text STABLE LANGUAGE sql AS 'SELECT card FROM payments LIMIT 1';
";

/// All that an attempt could change.
const STATE: &str = "
SELECT concat_ws(' ',
  (SELECT concat(count(*), '/', sum(amount)) FROM orders), (SELECT concat(count(*), '/', sum(a)) FROM scratch),
  (SELECT count(*) FROM payments), (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
  (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace), (SELECT count(*) FROM pg_rewrite),
  (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass),
  (SELECT count(*) FROM pg_description), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_db_role_setting),
  (SELECT relacl FROM pg_class WHERE relname = 'payments'))";

/// How a text is sent.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Simple,
    Extended,
}

/// A gate with these rules over what they are about; `dev` may everything else.
fn gate(database: Database<'_>) -> Gate {
    database.seed(SEED);
    let mut gate = Gate::new(database);
    gate.edit(|config| {
        let file = toml::Table::from_iter([("file".to_owned(), "policy.cedar".into())]);
        config.insert("policy".to_owned(), file.into());
    });
    std::fs::write(gate.dir().join("policy.cedar"), RULES).expect("the folder is ours");
    gate.up();
    gate
}

/// The attempts: each is texts that are sent one after the other.
fn attempts() -> Vec<Vec<String>> {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let file = Path::new(&here).join("bypass/statements.txt");
    let lines = std::fs::read_to_string(file).expect("the attempts are there");
    let attempts = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    attempts.map(|line| line.split(" ¦ ").map(unescaped).collect()).collect()
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('\\') => out.push('\\'),
                Some('u') => {
                    let hex: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    out.extend(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32));
                }
                other => panic!("{text}: \\{other:?}"),
            },
            _ => out.push(c),
        }
    }
    out
}

/// Everything that the client gets of a text.
async fn said(client: &Client, text: &str, protocol: Protocol) -> Result<String, Error> {
    let mut said = String::new();
    match protocol {
        Protocol::Simple => {
            for message in client.simple_query(text).await? {
                if let SimpleQueryMessage::Row(row) = message {
                    (0..row.len()).for_each(|at| said.extend(row.get(at)));
                }
            }
        }
        Protocol::Extended => {
            for row in client.query(text, &[]).await? {
                said.push_str(&format!("{row:?}"));
                for at in 0..row.len() {
                    said.extend(row.try_get::<_, String>(at));
                }
            }
        }
    }
    Ok(said)
}

/// Whether the gate itself refused, and all that was said.
async fn attempt(gate: &Gate, texts: &[String], protocol: Protocol) -> (bool, String) {
    let session = client::connect(gate).await;
    let (mut refused, mut all) = (false, String::new());
    for text in texts {
        match said(&session.client, text, protocol).await {
            Ok(said) => all.push_str(&said),
            Err(error) => {
                let message = error.as_db_error().map(|error| error.message()).unwrap_or_default();
                refused |= message.starts_with("retrace: ");
                all.push_str(&format!("{error:?}"));
            }
        }
    }
    (refused, all)
}

#[test]
#[allow(clippy::print_stdout, reason = "a promise's counts are printed")]
fn no_attempt_to_get_past_the_rules_has_an_effect() {
    let database = Postgres::shared().database();
    let gate = gate(database);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let before = database.sql(STATE);
    let attempts = attempts();
    let mut through = Vec::new();
    for texts in &attempts {
        for protocol in [Protocol::Simple, Protocol::Extended] {
            let (refused, said) = runtime.block_on(attempt(&gate, texts, protocol));
            let is_unchanged = database.sql(STATE) == before;
            if !refused || !is_unchanged || said.contains("CANARY") {
                through.push(format!(
                    "{protocol:?} {texts:?}: refused {refused}, unchanged {is_unchanged}: {said}"
                ));
            }
            assert!(is_unchanged, "{through:#?}");
        }
    }
    assert!(through.is_empty(), "{} of {}: {through:#?}", through.len(), 2 * attempts.len());
    assert!(attempts.len() >= 200, "{}", attempts.len());
    let recorded = gate.number(
        "SELECT count(*) AS n FROM events WHERE event_type = 'command_received' AND decision = 'deny' \
         AND principal = 'dev'",
    );
    assert!(recorded >= 2 * attempts.len() as u64, "{recorded} refusals of {} on record", 2 * attempts.len());
    println!(
        "0 of {} attempts to get past the rules had an effect; {recorded} refusals are on record",
        2 * attempts.len()
    );
}
