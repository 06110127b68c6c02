//! Roles that are made for a time.

use retrace_tests::{Gate, Message, Postgres, Vault, Wire, wait_for};

use super::{logged_in, up, user};
use crate::common::{PATIENCE, refusal, session_ends};

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

#[track_caller]
fn assert_told_of_its_end(messages: &[Message]) {
    let (code, sentence) = refusal(messages);
    assert_eq!(code, "57P01", "{messages:?}");
    assert!(sentence.contains("credential for this target comes to its end"), "{sentence}");
}

/// A session, and the role that it has.
fn session(gate: &Gate) -> (Wire, String) {
    let mut wire = Wire::signed_in(gate).expect("a login");
    let answer = wire.query("SELECT session_user").expect("it is answered");
    let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
    (wire, String::from_utf8_lossy(&row.body[6..]).into_owned())
}

#[test]
fn one_role_serves_all_sessions_and_is_replaced_in_time_and_given_back_after() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "15s", "10m");
    let rights = [(&*path, "read"), ("sys/leases/revoke", "update")];
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let (mut gate, _) = logged_in(vault, database, &rights, &credential);
    up(&mut gate);
    let (mut first, role) = session(&gate);
    let (second, same) = session(&gate);
    assert_eq!(role, same);
    assert_eq!(database.roles_for_a_time(), std::slice::from_ref(&role));
    let next = wait_for("another role is lent", PATIENCE, || Some(user(&gate)).filter(|next| *next != role));
    let third = wait_for("and a third one", PATIENCE, || {
        Some(user(&gate)).filter(|third| *third != role && *third != next)
    });
    // That took longer than the first term: the role was renewed for those who have it.
    assert_eq!(tags(&first.query("SELECT 1").expect("it lives on")), "TDCZ");
    drop((first, second));
    wait_for("what nobody has is given back", PATIENCE, || {
        let roles = database.roles_for_a_time();
        (!roles.contains(&role) && !roles.contains(&next)).then_some(())
    });
    session_ends(&gate, gate.number("SELECT count(*) AS n FROM sessions"));
    let users = "SELECT count(DISTINCT target_user) AS n FROM sessions WHERE target_user LIKE 'v-%'";
    assert!(gate.number(users) >= 3, "the record names {role}, {next} and {third}");
    assert!(gate.stop().success());
    wait_for("a stop gives everything back", PATIENCE, || vault.leases(&path).is_empty().then_some(()));
}

#[test]
fn a_session_has_a_role_of_its_own_that_goes_with_it() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "1h", "2h");
    let rights = [(&*path, "read"), ("sys/leases/revoke", "update")];
    let credential = format!("credential = {{ vault_database = \"{path}\", lease = \"session\" }}");
    let (mut gate, _) = logged_in(vault, database, &rights, &credential);
    up(&mut gate);
    assert_eq!(vault.leases(&path), [""; 0], "nothing is made before somebody comes");
    let (one, first) = session(&gate);
    let (other, second) = session(&gate);
    assert_ne!(first, second);
    let mut both = [first, second.clone()];
    both.sort();
    assert_eq!(database.roles_for_a_time(), both);
    drop(one);
    wait_for("its role goes with it", PATIENCE, || {
        (database.roles_for_a_time() == [second.clone()]).then_some(())
    });
    drop(other);
    wait_for("and the other's", PATIENCE, || database.roles_for_a_time().is_empty().then_some(()));
}

#[test]
fn a_session_whose_role_reaches_its_most_is_answered_first_and_then_told() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "20s", "30s");
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let (mut gate, _) = logged_in(vault, database, &[(&path, "read")], &credential);
    up(&mut gate);
    let (mut busy, role) = session(&gate);
    let (mut idle, _) = session(&gate);
    let mut answered = 0;
    let last = loop {
        busy.send(b'Q', b"SELECT pg_sleep(0.5)\0").expect("it is sent");
        let mut messages = Vec::new();
        while !messages.last().is_some_and(|message: &Message| matches!(message.tag, b'Z' | b'E')) {
            messages.push(busy.read().expect("an answer or a word"));
        }
        if messages.last().is_some_and(|message| message.tag == b'E') {
            break messages;
        }
        assert_eq!(tags(&messages), "TDCZ");
        answered += 1;
    };
    assert!(answered >= 10, "{answered} answers in as many seconds as the role has");
    // It was told between two commands, or behind an answer that had its end: none was cut off.
    assert_eq!(tags(&last), "E");
    assert_told_of_its_end(&last);
    assert_told_of_its_end(&idle.read_to_close().expect("a word"));
    assert_ne!(user(&gate), role, "who connects again has another one");
    let ended = "SELECT count(*) AS n FROM sessions WHERE close_reason = 'credential_ended'";
    wait_for("the record says why", PATIENCE, || (gate.number(ended) == 2).then_some(()));
    let cut = "SELECT count(*) AS n FROM commands WHERE statement LIKE '%pg_sleep%' AND status = 'abandoned'";
    assert_eq!(gate.number(cut), 0);
}

#[test]
fn a_lease_that_the_store_takes_back_ends_its_sessions() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "10s", "10m");
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let (mut gate, _) = logged_in(vault, database, &[(&path, "read")], &credential);
    up(&mut gate);
    let (mut open, role) = session(&gate);
    vault.revoke_all(&path);
    assert_ne!(user(&gate), role, "a role that the target does not know any more is replaced at once");
    assert_told_of_its_end(&open.read_to_close().expect("a word"));
}

#[test]
fn a_stop_gives_every_lease_back_and_a_kill_leaves_them_to_their_terms() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "15s", "15s");
    let rights = [(&*path, "read"), ("sys/leases/revoke", "update")];
    let credential = format!("credential = {{ vault_database = \"{path}\", lease = \"session\" }}");
    let (mut gate, token) = logged_in(vault, database, &rights, &credential);
    up(&mut gate);
    let sessions = [(); 3].map(|()| session(&gate));
    assert_eq!(vault.leases(&path).len(), 3);
    assert!(gate.stop().success());
    drop(sessions);
    wait_for("they are given back", PATIENCE, || vault.leases(&path).is_empty().then_some(()));
    wait_for("their roles are gone", PATIENCE, || database.roles_for_a_time().is_empty().then_some(()));
    let own = [format!("X-Vault-Token: {token}")];
    assert_eq!(vault.ask_with("GET", "auth/token/lookup-self", None, &own).0, 200, "it was given the token");

    gate.up();
    let _session = session(&gate);
    assert_eq!(vault.leases(&path).len(), 1);
    gate.kill();
    wait_for("it ends by itself", PATIENCE, || vault.leases(&path).is_empty().then_some(()));
    wait_for("and its role", PATIENCE, || database.roles_for_a_time().is_empty().then_some(()));
}

#[test]
fn masked_columns_outlive_the_role_by_which_the_catalogue_is_read() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    database.seed("CREATE TABLE customers (ssn text)");
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "6s", "10s");
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let (mut gate, _) = logged_in(vault, database, &[(&path, "read")], &credential);
    gate.add("[[mask]]\nname = \"ssn\"\ntargets = [\"shop\"]\ncolumns = [\"public.customers.ssn\"]\naction = \"redact\"\n");
    up(&mut gate);
    let readers = "SELECT count(*) AS n FROM sessions WHERE principal = 'retrace'";
    wait_for("the catalogue is read by a third role", 2 * PATIENCE, || {
        let _ = gate.psql("SELECT 1").expect_ok();
        (gate.number(readers) >= 3).then_some(())
    });
}
