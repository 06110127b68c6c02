//! Whoever has or does too much is refused or slowed down; others are not, and the record says so in few words.

use std::time::{Duration, Instant};

use retrace_tests::client::{self, Connection, Tls, connect_with};
use retrace_tests::{Gate, Health, Outcome, Postgres, Wire, run, startup, wait_for};
use rustix::process::Signal;
use tokio_postgres::Error;

use crate::common::{
    PATIENCE, assert_nothing_lost_nothing_twice, code, command_tag, refusal, sentence, session_ends,
};

/// How long a gate counts refusals alike before it records them, in seconds, and how many it records one by one before.
const WINDOW_S: u64 = 10;
const ALONE: u64 = 10;

/// Sets `[limits]`.
fn limit(gate: &Gate, limits: &str) {
    let limits: toml::Table = limits.parse().expect("the test writes TOML");
    gate.edit(|config| drop(config.insert("limits".to_owned(), limits.into())));
}

/// Sets the limits of `dev` alone.
fn limit_dev(gate: &Gate, limits: &str) {
    let limits: toml::Table = limits.parse().expect("the test writes TOML");
    gate.edit(|config| {
        let dev = config["principal"][0].as_table_mut().expect("a table");
        dev.insert("limits".to_owned(), limits.into());
    });
}

/// Starts a gate that tells of its health.
fn started(gate: &mut Gate) -> Health {
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    health
}

/// How often somebody came to a limit.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn limited(health: Health, limit: &str) -> u64 {
    health.metric(&format!("retrace_limited_total{{limit=\"{limit}\"}}")) as u64
}

async fn connect(gate: &Gate, principal: &str, token: &str) -> Result<Connection, Error> {
    connect_with(client::config(gate, principal, token, "shop"), Tls::trusting(&gate.ca())).await
}

fn psql_as(gate: &Gate, principal: &str, token: &str, statement: &str) -> Outcome {
    let mut psql = gate.psql_command_as(principal, token);
    psql.args(["-Atc", statement]);
    run(psql, b"", PATIENCE)
}

/// How many logins were refused for a reason, and how many events say so.
fn refused(gate: &Gate, reason: &str) -> (u64, u64) {
    let of = format!("FROM events WHERE event_type = 'login_refused' AND refused_reason = '{reason}'");
    let logins = format!("SELECT COALESCE(sum(payload_count(COALESCE(payload, raw))), 0) AS n {of}");
    (gate.number(&logins), gate.number(&format!("SELECT count(*) AS n {of}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_too_many_of_a_principal_gets_53300_and_is_on_record_and_others_come_in() {
    let mut gate = Gate::new(Postgres::shared().database());
    let other = gate.add_principal("agent-7", &["shop"], "none");
    limit_dev(&gate, "sessions_max = 2");
    let health = started(&mut gate);
    let token = gate.dev_token();
    let first = connect(&gate, "dev", &token).await.expect("one");
    let second = connect(&gate, "dev", &token).await.expect("two");
    let error = connect(&gate, "dev", &token).await.err().expect("three are too many");
    assert_eq!(code(&error), "53300");
    assert!(sentence(&error).contains("\"dev\" has as many sessions as it may"), "{error:?}");
    let said = psql_as(&gate, "dev", &token, "SELECT 1").expect_failure();
    assert!(said.contains("has as many sessions as it may") && said.contains("try again later"), "{said}");
    // Who cannot prove to be it does not learn it.
    let error = connect(&gate, "dev", "rt_00000000_wrong").await.err().expect("a wrong token");
    assert_eq!(code(&error), "28P01");

    assert_eq!(psql_as(&gate, "agent-7", &other, "SELECT 7").expect_ok().trim(), "7");
    assert_eq!(refused(&gate, "sessions"), (2, 2));
    assert_eq!(refused(&gate, "credential"), (1, 1));
    let who = gate.sql("SELECT DISTINCT principal FROM events WHERE refused_reason = 'sessions'");
    assert_eq!(who[0]["principal"], "dev");
    assert_eq!(limited(health, "sessions_max"), 2);
    assert!(health.metric("retrace_logins_refused_total{reason=\"sessions\"}") == 2.0);

    drop(first);
    wait_for("a place is free", PATIENCE, || {
        psql_as(&gate, "dev", &token, "SELECT 1").status.success().then_some(())
    });
    assert_eq!(second.client.batch_execute("SELECT 1").await.ok(), Some(()), "who is in stays in");
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_principals_share_the_sessions_of_their_source_and_are_refused_before_a_proof() {
    let mut gate = Gate::new(Postgres::shared().database());
    let other = gate.add_principal("agent-7", &["shop"], "none");
    limit(&gate, "sessions_per_source_max = 2");
    let health = started(&mut gate);
    let token = gate.dev_token();
    let _dev = connect(&gate, "dev", &token).await.expect("one");
    let _other = connect(&gate, "agent-7", &other).await.expect("two");
    // Alike whatever is known of them.
    for (principal, token) in [("dev", &*token), ("agent-7", &*other), ("nobody", "rt_00000000_wrong")] {
        let error = connect(&gate, principal, token).await.err().expect("three are too many");
        assert_eq!(code(&error), "53300", "{principal}");
        assert!(sentence(&error).contains("from where this client is"), "{error:?}");
    }
    assert_eq!(refused(&gate, "sessions_per_source"), (3, 3));
    let known =
        "SELECT count(*) AS n FROM events WHERE event_type = 'login_refused' AND principal IS NOT NULL";
    assert_eq!(gate.number(known), 0, "nobody had proved anything");
    assert_eq!(limited(health, "sessions_per_source_max"), 3);
}

#[test]
fn commands_beyond_the_pace_are_all_answered_in_order_and_recorded() {
    let mut gate = Gate::new(Postgres::shared().database());
    let other = gate.add_principal("agent-7", &["shop"], "none");
    limit_dev(&gate, "commands_per_second_max = 2\ncommands_burst_max = 1");
    let health = started(&mut gate);
    let statements: Vec<_> = (0..6).map(|number| format!("SELECT {number} AS paced")).collect();
    let numbers: String = (0..6).map(|number| format!("{number}\n")).collect();
    assert_eq!(gate.psql(&format!("{};\n", statements.join(";\n"))).expect_ok(), numbers);
    session_ends(&gate, 1);
    // psql asks as soon as it is answered, and so before the turn has come.
    let slowed = limited(health, "commands_per_second_max");
    assert!(slowed >= 1, "{slowed}");
    let waited = health.metric("retrace_slowed_seconds_count{limit=\"commands_per_second_max\"}");
    assert!(waited >= 1.0, "{waited}");
    let recorded = gate.sql("SELECT statement FROM commands WHERE statement LIKE '%AS paced%' ORDER BY seq");
    let recorded = recorded.iter().filter_map(|row| row["statement"].as_str());
    let recorded: Vec<_> = recorded.map(|statement| statement.trim_end_matches(';')).collect();
    assert_eq!(recorded, statements);
    assert_eq!(gate.number("SELECT count(*) AS n FROM commands WHERE status = 'ok'"), 6);

    let mut psql = gate.psql_command_as("agent-7", &other);
    psql.args(["-Atq"]);
    let said = run(psql, "SELECT 7;\n".repeat(20).as_bytes(), PATIENCE).expect_ok();
    assert_eq!(said, "7\n".repeat(20));
    assert_eq!(limited(health, "commands_per_second_max"), slowed, "others have a pace of their own");
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn bytes_beyond_the_pace_all_pass_and_are_recorded() {
    let mut gate = Gate::new(Postgres::shared().database());
    limit_dev(&gate, "bytes_per_second_max = 100000");
    let health = started(&mut gate);
    // What is let go at once, and what has to be waited for twice as long.
    let out = gate.psql("SELECT repeat('x', 1000) FROM generate_series(1, 300);\n").expect_ok();
    assert_eq!((out.lines().count(), out.len()), (300, 300 * 1001));
    session_ends(&gate, 1);
    assert!(limited(health, "bytes_per_second_max") >= 1);
    // All but a second's worth and the last read is paid for in seconds.
    let waited = health.metric("retrace_slowed_seconds_sum{limit=\"bytes_per_second_max\"}");
    assert!(waited >= 1.0, "{waited} s");
    let rows = "SELECT sum(length(response_text)) AS n FROM responses";
    assert!(gate.number(rows) >= 300 * 1000, "every row is on record");
    assert_nothing_lost_nothing_twice(&gate);
}

#[test]
fn a_kill_ends_a_session_that_waits_for_its_turn_and_what_waited_never_ran() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE t (n int)");
    let mut gate = Gate::new(database);
    limit_dev(&gate, "commands_per_second_max = 1");
    let health = started(&mut gate);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    for number in 0..1_000 {
        wire.send(b'Q', format!("INSERT INTO t VALUES ({number})\0").as_bytes())
            .expect("the socket takes it");
    }
    wait_for("it waits for its turn", PATIENCE, || {
        (limited(health, "commands_per_second_max") > 0).then_some(())
    });
    let open = gate.sql("SELECT session_id FROM sessions WHERE closed_at IS NULL");
    let id = open[0]["session_id"].as_str().expect("an id").to_owned();
    let _ = gate.retrace(&["kill", &id, "--reason", "too much"]).expect_ok();
    let told = wire.read_to_close().expect("the gate closes");
    assert_eq!(refusal(&told).0, "57P01");
    session_ends(&gate, 1);
    let (ran, recorded) = (
        database.number("SELECT count(*) FROM t"),
        gate.number("SELECT count(*) AS n FROM commands WHERE statement LIKE 'INSERT%'"),
    );
    assert!(ran < 1_000 && recorded < 1_000, "{ran} ran, {recorded} are on record");
    assert!(ran <= recorded, "{ran} ran, {recorded} are on record");
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_cancelled_while_it_waits_for_its_turn_never_runs() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE t (n int)");
    let mut gate = Gate::new(database);
    limit_dev(&gate, "commands_per_second_max = 1");
    gate.up();
    let one = connect(&gate, "dev", &gate.dev_token()).await.expect("a session").client;
    // Each of these always has a turn before it.
    let mut others: Vec<_> = (0..8).map(|_| Wire::signed_in(&gate).expect("a session")).collect();
    for wire in &mut others {
        for _ in 0..100 {
            wire.send(b'Q', b"SELECT 1\0").expect("the session lives");
        }
    }
    let mut insert = std::pin::pin!(one.batch_execute("INSERT INTO t VALUES (1)"));
    let asked = loop {
        tokio::select! {
            biased;
            asked = &mut insert => break asked,
            // One that comes before the command finds nothing to cancel.
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                let tls = Tls::trusting(&gate.ca());
                one.cancel_token().cancel_query(tls).await.expect("a cancel request is taken");
            }
        }
    };
    assert_eq!(code(&asked.expect_err("it was cancelled")), "57014");
    assert_eq!(database.number("SELECT count(*) FROM t"), 0);
    let commands =
        gate.sql("SELECT statement, status, refused_reason FROM commands WHERE refused_reason IS NOT NULL");
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert_eq!(commands[0]["statement"], "INSERT INTO t VALUES (1)");
    assert_eq!(commands[0]["refused_reason"], "cancelled");
}

#[test]
fn a_gate_that_drains_waits_for_who_waits_for_a_turn() {
    let mut gate = Gate::new(Postgres::shared().database());
    limit_dev(&gate, "commands_per_second_max = 1");
    let drain: toml::Table = "grace_ms = 0".parse().expect("TOML");
    gate.edit(|config| drop(config.insert("drain".to_owned(), drain.into())));
    let health = started(&mut gate);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    for number in 0..4 {
        wire.send(b'Q', format!("SELECT {number}\0").as_bytes()).expect("the session lives");
    }
    wait_for("it waits for its turn", PATIENCE, || {
        (limited(health, "commands_per_second_max") > 0).then_some(())
    });
    gate.signal(Signal::TERM);
    for _ in 0..4 {
        let answer = wire.read_until(b'Z').expect("it is answered");
        assert_eq!(command_tag(&answer), "SELECT 1");
    }
    assert_eq!(refusal(&wire.read_to_close().expect("a word")).0, "57P01");
    assert!(gate.end().success(), "a clean end");
}

/// Tries to log in as `dev` with a wrong token; gives why not.
fn wrong_token(gate: &Gate) -> String {
    let mut wire = Wire::open(gate).expect("the gate listens");
    wire.send_raw(&startup(&[("user", "dev"), ("database", "shop")])).expect("the gate reads");
    wire.authenticate("rt_00000000_wrong").expect_err("a wrong token").to_string()
}

#[test]
fn two_hundred_wrong_tokens_are_few_events_that_count_them_all() {
    let mut gate = Gate::new(Postgres::shared().database());
    let health = started(&mut gate);
    let began = Instant::now();
    for _ in 0..200 {
        let why = wrong_token(&gate);
        assert!(why.contains("28P01"), "{why}");
    }
    let windows = began.elapsed().as_secs() / WINDOW_S + 2;
    assert!(health.metric("retrace_logins_refused_total{reason=\"credential\"}") == 200.0);
    // What is still counted becomes an event at an orderly stop.
    assert!(gate.stop().success());
    gate.up();
    let (logins, events) = refused(&gate, "credential");
    assert_eq!(logins, 200);
    assert!(events <= (ALONE + 1) * windows && events < 200, "{events} events in {windows} windows");
    let counted = gate.sql(
        "SELECT payload_first_unix_us(COALESCE(payload, raw)) AS first, payload_last_unix_us(COALESCE(payload, raw)) AS last,
                payload_client_address(COALESCE(payload, raw)) AS source
         FROM events WHERE event_type = 'login_refused' AND payload_count(COALESCE(payload, raw)) > 1",
    );
    assert!(!counted.is_empty());
    for row in counted {
        let (first, last) = (row["first"].as_i64().expect("a time"), row["last"].as_i64().expect("a time"));
        assert!(first > 0 && first <= last, "{row}");
        assert_eq!(row["source"], "127.0.0.1");
    }
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_too_many_failures_a_user_is_refused_until_the_limit_is_lifted_and_others_log_in() {
    let mut gate = Gate::new(Postgres::shared().database());
    let other = gate.add_principal("agent-7", &["shop"], "none");
    limit(&gate, "failed_logins_per_minute_max = 1");
    let health = started(&mut gate);
    let token = gate.dev_token();
    assert!(wrong_token(&gate).contains("28P01"));
    let error = connect(&gate, "dev", &token).await.err().expect("one that failed was too many");
    assert_eq!(code(&error), "53300");
    assert!(sentence(&error).contains("too many failed log-ins"), "{error:?}");
    assert_eq!(psql_as(&gate, "agent-7", &other, "SELECT 7").expect_ok().trim(), "7");
    assert_eq!((refused(&gate, "credential").0, refused(&gate, "failed_logins").0), (1, 1));
    assert_eq!(limited(health, "failed_logins_per_minute_max"), 1);

    limit(&gate, "failed_logins_per_minute_max = 0");
    gate.signal(Signal::HUP);
    wait_for("the configuration was read again", PATIENCE, || {
        (health.metric("retrace_config_reloads_total") > 0.0).then_some(())
    });
    assert!(connect(&gate, "dev", &token).await.is_ok());
}

#[test]
fn a_new_pace_counts_in_sessions_that_are_open() {
    let mut gate = Gate::new(Postgres::shared().database());
    limit_dev(&gate, "commands_per_second_max = 1");
    let health = started(&mut gate);
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    // By the old pace each but the first would wait for its turn.
    let asked = 500;
    for _ in 0..asked {
        wire.send(b'Q', b"SELECT 1\0").expect("the session lives");
    }
    wait_for("it waits for its turn", PATIENCE, || {
        (limited(health, "commands_per_second_max") > 0).then_some(())
    });
    limit_dev(&gate, "commands_per_second_max = 0");
    gate.signal(Signal::HUP);
    for _ in 0..asked {
        assert_eq!(command_tag(&wire.read_until(b'Z').expect("it is answered")), "SELECT 1");
    }
    let slowed = limited(health, "commands_per_second_max");
    assert!(slowed < asked / 2, "{slowed} of {asked} waited for their turns");
    assert_eq!(gate.number("SELECT count(*) AS n FROM commands WHERE status = 'ok'"), asked);
}
