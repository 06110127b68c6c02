//! `make demo`: one statement all the way. An agent asks a real PostgreSQL through the gate; what it saw, what is on
//! record, and the session played again. Everything it starts ends with it.

#![allow(clippy::print_stdout, reason = "a demonstration is what it prints")]

use std::process::Command;
use std::time::Duration;

use retrace_tests::{Gate, Outcome, Postgres, customers, run};

const CUSTOMERS: u32 = 10_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the agent asks, among it something that fails with a card number in PostgreSQL's own error text.
const AGENT_SCRIPT: &str = "\
SELECT id, name, email, card FROM customers ORDER BY id LIMIT 4;
SELECT city, count(*) FROM customers GROUP BY city ORDER BY city;
SELECT card::int FROM customers WHERE id = 7;
";

fn main() {
    heading("A scratch PostgreSQL with 10,000 customers, and a gate before it");
    let postgres = Postgres::start(false);
    let database = postgres.database();
    database.seed(&customers(CUSTOMERS));
    let rows = database.number("SELECT count(*) FROM customers");
    println!(
        "{rows} customers; at the target, the first card is {}",
        database.sql("SELECT card FROM customers LIMIT 1")[0]
    );
    let mut gate = Gate::new(database);
    let token = gate.add_principal("agent-7", &["shop"], "none");
    gate.up();
    println!("retrace up: PostgreSQL on port {}, evidence on port {}", gate.port(), gate.grpc_port());

    heading("What the agent saw");
    println!("$ psql -U agent-7 shop\n{AGENT_SCRIPT}");
    let mut psql = gate.psql_command_as("agent-7", &token);
    psql.args(["-f", "-"]);
    // Its last statement fails, as it should.
    show(&run(psql, AGENT_SCRIPT.as_bytes(), PATIENCE));

    heading("Two answers in SQL");
    for statement in [
        "SELECT principal, target, statement, status, rows, duration_us FROM commands ORDER BY at",
        "SELECT session_id, principal, state, commands FROM sessions",
    ] {
        println!("$ retrace sql \"{statement}\"");
        ask(gate.retrace_command(None, &["sql", statement]));
    }

    heading("The session, played again");
    println!("$ retrace replay last --instant");
    ask(gate.retrace_command(None, &["replay", "last", "--instant"]));

    assert!(gate.stop().success(), "retrace up did not end well");
    drop(gate);
    drop(postgres);
    println!("\nEverything this demonstration started has ended.");
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
