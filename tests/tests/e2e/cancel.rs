//! Cancelling a statement that runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use retrace_tests::client::{self, Tls};
use retrace_tests::{Database, Gate, Postgres, Wire, cancel_request, run, startup, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{PATIENCE, code};

const SLEEP: &str = "SELECT pg_sleep(600)";

/// Sessions of the target in which the sleep runs.
fn asleep(database: Database<'_>) -> u64 {
    database.number(&format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'active' AND query = '{SLEEP}'"
    ))
}

fn wait_until_asleep(database: Database<'_>) {
    wait_for("the statement runs", PATIENCE, || (asleep(database) == 1).then_some(()));
}

fn cancels(gate: &Gate) -> u64 {
    gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'cancel_applied'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_cancels_its_statement_and_the_connection_lives_on() {
    let database = Postgres::shared().database();
    let gate = Gate::started(database);
    let client = client::connect(&gate).await.client;
    let token = client.cancel_token();
    let tls = Tls::trusting(&gate.ca());
    let canceller = async {
        tokio::task::block_in_place(|| wait_until_asleep(database));
        token.cancel_query(tls).await.expect("a cancel request is taken");
    };
    let (slept, ()) = tokio::join!(client.batch_execute(SLEEP), canceller);
    assert_eq!(code(&slept.expect_err("it was cancelled")), "57014");
    let row = client.query_one("SELECT 1", &[]).await.expect("the connection lives on");
    assert_eq!(row.get::<_, i32>(0), 1);
    assert_eq!(cancels(&gate), 1);
}

#[test]
fn an_interrupted_psql_cancels_its_statement() {
    let database = Postgres::shared().database();
    let gate = Gate::started(database);
    let mut command = gate.psql_command();
    // The shell becomes psql and so tells psql's pid.
    let mut shell = std::process::Command::new("sh");
    let pid_file = gate.dir().join("psql.pid");
    shell.args(["-c", "echo $$ > \"$PID_FILE\"; exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.args(["-c", SLEEP]).get_args());
    shell
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("PID_FILE", &pid_file);
    let psql = thread::spawn(move || run(shell, b"", PATIENCE));
    wait_until_asleep(database);
    let pid = std::fs::read_to_string(pid_file).expect("the shell wrote it");
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::INT).expect("psql runs");
    let said = psql.join().expect("psql was run").expect_failure();
    assert!(said.contains("canceling statement due to user request"), "{said}");
    assert_eq!(cancels(&gate), 1);
}

#[test]
fn a_forged_cancel_request_cancels_nothing() {
    let database = Postgres::shared().database();
    let gate = Gate::started(database);
    let mut wire = Wire::open(&gate).expect("the gate listens");
    wire.send_raw(&startup(&[("user", "dev"), ("database", "shop")])).expect("it listens");
    wire.authenticate(&gate.dev_token()).expect("the token is right");
    let messages = wire.read_until(b'Z').expect("the session opens");
    let key = messages.iter().find(|message| message.tag == b'K').expect("a session has a cancel key");
    let number = |at: usize| u32::from_be_bytes(key.body[at..at + 4].try_into().expect("four bytes"));
    let (process_id, secret) = (number(0), number(4));
    wire.send(b'Q', format!("{SLEEP}\0").as_bytes()).expect("the session lives");
    wait_until_asleep(database);

    for forged in [
        cancel_request(process_id, secret ^ 1),
        cancel_request(process_id, secret ^ 0x8000_0000),
        cancel_request(process_id ^ 1, secret),
        cancel_request(process_id, 0),
    ] {
        send_and_wait_for_close(&gate, &forged);
        assert_eq!(asleep(database), 1, "a forged request cancelled the statement");
    }
    assert_eq!(cancels(&gate), 0);
    send_and_wait_for_close(&gate, &cancel_request(process_id, secret));
    let answer = wire.read_until(b'Z').expect("the session lives on");
    assert_eq!(crate::common::refusal(&answer).0, "57014");
    assert_eq!(cancels(&gate), 1);
}

/// Sends `bytes` on a connection of their own; the gate closes it once it has dealt with them.
fn send_and_wait_for_close(gate: &Gate, bytes: &[u8]) {
    let mut plain = TcpStream::connect(("127.0.0.1", gate.port())).expect("the gate listens");
    plain.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    plain.write_all(bytes).expect("the gate reads");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).expect("the gate closes the connection");
    assert_eq!(answer, b"", "a cancel request has no answer");
}
