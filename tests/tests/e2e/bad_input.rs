//! Bad input, and what it gets: an answer that tells nothing, and others undisturbed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use retrace_tests::client::{self, Tls, connect_with};
use retrace_tests::{Gate, Postgres, Wire, startup};
use tokio_postgres::Error;

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, code, sentence};

/// A target at a port where nobody listens.
const DOWN: &str = r#"
[[target]]
name = "down"
protocol = "postgres"
address = "127.0.0.1:1"
database = "secret-database"
user = "secret-user"
password = { env = "SHOP_PASSWORD" }
durability = "exchange"
tls = "disable"
"#;

/// What a handshake or a lie may cost in resident memory, in KiB.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// The error that a login ends in.
async fn login_error(gate: &Gate, principal: &str, token: &str, target: &str) -> Error {
    let config = client::config(gate, principal, token, target);
    match connect_with(config, Tls::trusting(&gate.ca())).await {
        Ok(_) => panic!("{principal} was let in to {target}"),
        Err(error) => error,
    }
}

fn logins_refused(gate: &Gate) -> u64 {
    gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'login_refused'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_and_an_unknown_principal_get_the_same_answer_and_are_recorded() {
    let gate = Gate::started(Postgres::shared().database());
    let token = gate.dev_token();
    let short = &token[..token.len() - 1];
    let mut answers = Vec::new();
    for (principal, token) in
        [("dev", "wrong"), ("dev", "rt_00000000_wrong"), ("dev", short), ("nobody", token.as_str())]
    {
        let error = login_error(&gate, principal, token, "shop").await;
        assert_eq!(code(&error), "28P01", "{principal}");
        answers.push(sentence(&error).replace(principal, "…"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(logins_refused(&gate), 4);
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_gets_28p01_while_the_others_of_its_principal_work() {
    let gate = Gate::started(Postgres::shared().database());
    let token = gate.new_token("dev");
    let id = token.split('_').nth(1).expect("a token has an id");
    let tls = Tls::trusting(&gate.ca());
    let live = connect_with(client::config(&gate, "dev", &token, "shop"), tls).await;
    live.expect("a new token works at once");
    let _ = gate.retrace(&["token", "revoke", id]).expect_ok();
    assert_eq!(code(&login_error(&gate, "dev", &token, "shop").await), "28P01");
    let _ = client::connect(&gate).await;
    assert_eq!(logins_refused(&gate), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_target_and_a_forbidden_one_get_the_same_answer_after_authentication() {
    let mut gate = Gate::new(Postgres::shared().database());
    gate.add(&DOWN.replace("\"down\"", "\"elsewhere\""));
    let token = gate.add_principal("agent-7", &["elsewhere"], "none");
    gate.up();
    let forbidden = login_error(&gate, "agent-7", &token, "shop").await;
    let unknown = login_error(&gate, "agent-7", &token, "nowhere").await;
    assert_eq!(code(&forbidden), code(&unknown));
    assert_eq!(sentence(&forbidden).replace("shop", "…"), sentence(&unknown).replace("nowhere", "…"));
    for target in ["shop", "nowhere"] {
        assert_eq!(code(&login_error(&gate, "agent-7", "wrong", target).await), "28P01", "{target}");
    }
    assert_eq!(logins_refused(&gate), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_down_gets_08001_without_its_address() {
    let mut gate = Gate::new(Postgres::shared().database());
    gate.add(DOWN);
    gate.up();
    let error = login_error(&gate, "dev", &gate.dev_token(), "down").await;
    assert_eq!(code(&error), "08001");
    let all = format!("{error:?}");
    for hidden in ["127.0.0.1", ":1\"", "secret-database", "secret-user", retrace_tests::TARGET_PASSWORD] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    let _ = client::connect(&gate).await;
}

#[test]
fn a_target_with_tls_is_verified_and_its_client_notices_nothing() {
    let postgres = Postgres::start(true);
    let database = postgres.database();
    let with = |tls: &str, ca: Option<&std::path::Path>| {
        let mut gate = Gate::new(database);
        gate.edit(|config| {
            let target = config["target"][0].as_table_mut().expect("a table");
            target.insert("tls".into(), tls.into());
            if let Some(ca) = ca {
                target.insert("tls_ca".into(), ca.display().to_string().into());
            }
        });
        gate.up();
        gate.psql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    };
    assert_eq!(with("verify-full", Some(&postgres.ca())).expect_ok(), "t\n");
    assert_eq!(with("require", None).expect_ok(), "t\n");
    let stranger = Gate::new(database);
    for (tls, ca) in [("verify-full", Some(stranger.ca())), ("disable", None)] {
        let error = with(tls, ca.as_deref()).expect_failure();
        assert!(!error.contains(&postgres.port().to_string()), "{error}");
    }
}

/// Openings that are no PostgreSQL client's, some of which never end.
fn openings() -> Vec<Vec<u8>> {
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |bytes: usize| -> Vec<u8> {
        let next = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()[0]
        };
        std::iter::repeat_with(next).take(bytes).collect()
    };
    let mut openings: Vec<Vec<u8>> = (1..=24).map(|size| random(size * size)).collect();
    openings.extend([
        Vec::new(),
        vec![0],
        vec![0, 0, 0, 8, 0x04, 0xd2, 0x16],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        vec![0xff; 64],
        vec![0, 0, 0, 0, 0, 3, 0, 0],
        vec![0, 0, 0, 4],
        vec![0, 0, 0, 9, 0, 9, 0, 0, 0],
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".to_vec(),
        [&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f][..], &[0x16, 3, 1, 0xff, 0xff]].concat(),
        startup(&[("user", &"x".repeat(100_000))]),
    ]);
    openings
}

/// Reads until the other side closes, however it closes.
fn read_to_close(plain: &mut TcpStream) {
    plain.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    let mut bytes = [0; 4096];
    loop {
        match plain.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let open =
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!open, "still open after {PATIENCE:?}");
                return;
            }
        }
    }
}

#[test]
fn random_bytes_and_half_open_handshakes_are_closed_while_others_work() {
    let mut gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 1").expect_ok();
    let before = resident_kib(gate.pid());
    let mut strangers = Vec::new();
    for opening in openings().iter().cycle().take(200) {
        let mut plain = TcpStream::connect(("127.0.0.1", gate.port())).expect("the gate listens");
        plain.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket takes a timeout");
        // It may be closed before it has said all.
        let _ = plain.write_all(opening);
        strangers.push(plain);
    }
    assert_eq!(gate.psql("SELECT 'undisturbed'").expect_ok(), "undisturbed\n");
    for mut stranger in strangers {
        read_to_close(&mut stranger);
    }
    assert_eq!(gate.psql("SELECT 'undisturbed'").expect_ok(), "undisturbed\n");
    assert!(gate.runs(), "the gate ended");
    let grown = resident_kib(gate.pid()).saturating_sub(before);
    assert!(grown <= GROWTH_KIB_MAX, "resident memory grew by {grown} KiB");
}

#[test]
fn a_lying_length_closes_its_session_and_sizes_no_allocation() {
    let mut gate = Gate::started(Postgres::shared().database());
    let mut neighbour = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    let before = resident_kib(gate.pid());
    for lie in [
        &[b'Q', 0x7f, 0xff, 0xff, 0xff][..],
        &[b'Q', 0xff, 0xff, 0xff, 0xff],
        &[b'Q', 0, 0, 0, 3],
        &[b'Q', 0, 0, 0, 0],
        &[b'Q', 0, 0, 0, 5, b'x'],
        &[0, 0, 0, 0, 4],
        &[b'~', 0, 0, 0, 4],
        &[b'B', 0, 0, 0, 12, 0, 0, 0, 0, 0x7f, 0xff, 0, 0],
        &[b'P', 0, 0, 0, 6, 0, 0],
        &[b'C', 0, 0, 0, 5, b'S'],
        &[b'd', 0, 0, 0, 4],
    ] {
        let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
        // It may be closed before it has said all.
        let _ = wire.send_raw(lie).and_then(|()| wire.send(b'S', b""));
        let closed_or_answered = wire.read();
        assert!(
            closed_or_answered.as_ref().is_ok_and(|message| matches!(message.tag, b'E' | b'Z'))
                || closed_or_answered
                    .as_ref()
                    .is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock),
            "{lie:?}: {closed_or_answered:?}"
        );
        assert_eq!(neighbour.query("SELECT 1").expect("others work on").len(), 4, "{lie:?}");
    }
    assert!(gate.runs(), "the gate ended");
    let grown = resident_kib(gate.pid()).saturating_sub(before);
    assert!(grown <= GROWTH_KIB_MAX, "resident memory grew by {grown} KiB");
    assert_nothing_lost_nothing_twice(&gate);
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
