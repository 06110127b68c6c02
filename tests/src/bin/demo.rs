//! `make demo`: one statement all the way. An agent asks a real PostgreSQL through the gate; what it saw, what waited for a
//! person, what is on record, and the session played again. Everything it starts ends with it.

#![allow(clippy::print_stdout, reason = "a demonstration is what it prints")]

use std::process::{Command, Stdio};
use std::time::Duration;

use retrace_tests::{Gate, Outcome, Postgres, customers, run, wait_for};

const CUSTOMERS: u32 = 10_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// A column of numbers that only its mask can hide, and a table beside it.
const MORE: &str = "\
ALTER TABLE customers ADD COLUMN ssn text;
UPDATE customers SET ssn = '078-' || lpad((id * 37 % 90 + 10)::text, 2, '0') || '-' || lpad((id * 7919 % 10000)::text, 4, '0');
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, amount numeric);
INSERT INTO orders SELECT n, n * 31 % 10000 + 1, n * 1.5 FROM generate_series(1, 500) n;
";

const COLUMN_MASK: &str = "\
[[mask]]
name = \"ssn\"
targets = [\"shop\"]
columns = [\"public.customers.ssn\"]
action = \"token\"
";

/// What an agent deletes, a person looks at first.
const RULES: &str = "\
@id(\"deletions by agents\")
@hold(\"an agent deletes something\") @reviewers(\"principal dev\") @reason(\"required\")
forbid(principal, action == Action::\"write\", resource)
when { principal.kind == Kind::\"agent\" && [\"DELETE\", \"TRUNCATE\"].contains(context.statement.verb) };
";

/// What the agent asks: rows, a join, a prepared statement, COPY, errors that quote a card number in PostgreSQL's own
/// text, and a join that guesses.
const AGENT_SCRIPT: &str = "\
SELECT id, name, email, card, ssn FROM customers ORDER BY id LIMIT 4;
SELECT o.id, c.name, o.amount FROM orders o JOIN customers c ON c.id = o.customer ORDER BY o.id LIMIT 3;
PREPARE in_city AS SELECT id, name FROM customers WHERE city = $1 ORDER BY id LIMIT 2;
EXECUTE in_city('Oslo');
COPY (SELECT id, card, ssn FROM customers WHERE id <= 3) TO STDOUT (FORMAT csv, HEADER);
SELECT 'card 4000079190000170'::int;
SELECT card::int FROM customers WHERE id = 7;
SELECT c.name, g.guess FROM generate_series(0, 9999) n, LATERAL (SELECT '078-47-' || lpad(n::text, 4, '0') AS guess) g
  JOIN customers c ON c.ssn = g.guess;
";

/// How to see the same on a database of one's own.
const YOUR_OWN: &str = "\
retrace init gate && $EDITOR gate/retrace.toml      # the sample target: its address, user, and masks
SHOP_PASSWORD=… retrace up --config gate/retrace.toml
psql \"host=127.0.0.1 port=7432 user=dev dbname=shop sslmode=verify-full sslrootcert=gate/ca.pem\"   # password: gate/dev.token
";

fn main() {
    heading("A scratch PostgreSQL with 10,000 customers, and a gate before it");
    let postgres = Postgres::start(false);
    let database = postgres.database();
    database.seed(&customers(CUSTOMERS));
    database.seed(MORE);
    let rows = database.number("SELECT count(*) FROM customers");
    let card = database.sql("SELECT card FROM customers WHERE id = 1").remove(0);
    println!("{rows} customers; at the target, the first card is {card}");
    let mut gate = Gate::new(database);
    gate.add(COLUMN_MASK);
    let token = gate.add_principal("agent-7", &["shop"], "none");
    gate.edit(|config| {
        let dev = &mut config["principal"].as_array_mut().expect("a list")[0];
        let dev = dev.as_table_mut().expect("a table");
        dev.insert("evidence_fingerprint".to_owned(), toml::Value::Boolean(true));
        let policy = toml::Table::from_iter([("file".to_owned(), "policy.cedar".into())]);
        config.insert("policy".to_owned(), policy.into());
    });
    std::fs::write(gate.dir().join("policy.cedar"), RULES).expect("the folder is ours");
    gate.up();
    println!("retrace up: PostgreSQL on port {}, evidence on port {}", gate.port(), gate.grpc_port());

    heading("What the agent saw");
    println!("$ psql -U agent-7 shop\n{AGENT_SCRIPT}");
    let mut psql = gate.psql_command_as("agent-7", &token);
    psql.args(["-f", "-"]);
    // Its last statements fail, as they should.
    show(&run(psql, AGENT_SCRIPT.as_bytes(), PATIENCE));

    heading("A command that waits for a person");
    held(&gate, &token);

    heading("Answers in SQL");
    for statement in [
        "SELECT principal, statement, status, rows, duration_us FROM commands WHERE principal <> 'retrace' ORDER BY at",
        "SELECT session_id, principal, state, commands FROM sessions",
        &format!(
            "SELECT DISTINCT principal, at, column_name FROM masked_values WHERE fingerprint = fingerprint('{card}')"
        ),
    ] {
        println!("$ retrace sql \"{statement}\"");
        ask(gate.retrace_command(None, &["sql", statement]));
    }

    heading("The session, played again");
    let session = &gate.sql("SELECT session_id FROM sessions WHERE principal = 'agent-7' ORDER BY opened_at")
        [0]["session_id"];
    let session = session.as_str().expect("an id").to_owned();
    println!("$ retrace replay {session} --instant");
    ask(gate.retrace_command(None, &["replay", &session, "--instant"]));

    heading("On your own database");
    println!("{YOUR_OWN}");

    assert!(gate.stop().success(), "retrace up did not end well");
    drop(gate);
    drop(postgres);
    println!("\nEverything this demonstration started has ended.");
}

/// The agent's DELETE in its psql, looked at and approved from another terminal, and not by the agent.
fn held(gate: &Gate, token: &str) {
    println!("{RULES}\n$ psql -U agent-7 shop -c 'DELETE FROM orders WHERE id = 7' &");
    let mut psql = gate.psql_command_as("agent-7", token);
    psql.args(["-c", "DELETE FROM orders WHERE id = 7"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let waiting = psql.spawn().expect("psql starts");
    let review = wait_for("the DELETE waits", PATIENCE, || {
        let said = gate.retrace(&["reviews", "--format", "json"]).expect_ok();
        let reviews: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        Some(reviews.get(0)?["review_id"].as_str()?.to_owned())
    });
    println!("\n$ retrace reviews {review}");
    ask(gate.retrace_command(None, &["reviews", &review]));
    println!("$ RETRACE_TOKEN=$AGENT_TOKEN retrace approve {review} --reason 'it is fine'");
    let own = run(
        gate.retrace_command(Some(token), &["approve", &review, "--reason", "it is fine"]),
        b"",
        PATIENCE,
    );
    println!("{}", own.err().lines().last().unwrap_or_default());
    assert!(!own.status.success(), "nobody approves their own");
    println!("\n$ retrace approve {review} --reason 'order 7 was a test'");
    let approved = gate.retrace(&["approve", &review, "--reason", "order 7 was a test"]);
    println!("{}", approved.err().lines().last().unwrap_or_default());
    assert!(approved.status.success(), "{}", approved.err());
    let waited = waiting.wait_with_output().expect("psql ends");
    println!("\nand psql, which waited:");
    println!("{}{}", String::from_utf8_lossy(&waited.stderr), String::from_utf8_lossy(&waited.stdout));
    assert!(waited.status.success(), "{}", waited.status);
}

fn heading(text: &str) {
    println!("\n== {text} ==\n");
}

/// Runs a command that must succeed and shows what it wrote.
fn ask(command: Command) {
    let outcome = run(command, b"", PATIENCE);
    show(&outcome);
    assert!(outcome.status.success(), "{}", outcome.status);
}

fn show(outcome: &Outcome) {
    println!("{}{}", outcome.out(), outcome.err());
}
