//! Credentials of targets that change: in a file, and in a real secret store. What is new counts without a restart; what ends, or
//! is taken back, counts no more; and nothing of it is written anywhere.

mod leases;

mod logins;

mod outages;

use std::sync::atomic::{AtomicU32, Ordering};

use retrace_tests::{Database, Gate, Health, Outcome, Postgres, Surroundings, Vault, Wire, wait_for};
use rustix::process::Signal;
use serde_json::json;

use crate::canaries::{Canary, assert_none_in, assert_none_written};
use crate::common::PATIENCE;

/// How a gate logs in by the token that [`logged_in`] has written.
const BY_TOKEN: &str = "token = { file = \"vault.token\" }";

/// A name for a policy that no other test of this process has.
fn policy() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("gate-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A gate that logs in by a token which may do this, and logs in at its target by this. Gives the token.
fn logged_in(
    vault: &Vault,
    database: Database<'_>,
    rights: &[(&str, &str)],
    credential: &str,
) -> (Gate, String) {
    let gate = Gate::new(database);
    let policy = policy();
    vault.put_policy(&policy, rights);
    let token = vault.new_token(&policy, &json!({ "period": "1h" }));
    gate.put_secret("vault.token", &token);
    gate.log_in_at(vault, BY_TOKEN);
    gate.set_credential(credential);
    (gate, token)
}

/// Lets the gate serve, and tell of its health.
fn up(gate: &mut Gate) -> Health {
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    health
}

/// A role of one database with this password; gives its name.
fn role(database: Database<'_>, password: &str) -> String {
    let role = format!("{}_login", database.name());
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'"));
    role
}

fn change(database: Database<'_>, role: &str, password: &str) {
    database.sql(&format!("ALTER ROLE {role} PASSWORD '{password}'"));
}

/// As whom a new session is logged in at the target.
#[track_caller]
fn user(gate: &Gate) -> String {
    gate.psql("SELECT session_user").expect_ok().trim().to_owned()
}

/// A new session, which may be refused.
fn asks(gate: &Gate) -> Outcome {
    gate.psql("SELECT 1")
}

/// Waits until new sessions are refused, and gives the sentence.
#[track_caller]
fn wait_until_refused(gate: &Gate) -> String {
    wait_for("new sessions are refused", 2 * PATIENCE, || {
        let outcome = asks(gate);
        (!outcome.status.success()).then(|| outcome.err())
    })
}

#[track_caller]
fn wait_until_let_in(gate: &Gate) {
    wait_for("new sessions are let in", 2 * PATIENCE, || asks(gate).status.success().then_some(()));
}

#[test]
fn a_password_in_a_file_that_is_replaced_counts_for_who_comes_next() {
    let database = Postgres::shared().database();
    let role = role(database, "first-canary");
    let mut gate = Gate::new(database);
    gate.put_secret("shop.password", "first-canary\n");
    gate.set_credential(&format!("user = \"{role}\"\npassword = {{ file = \"shop.password\" }}"));
    let health = up(&mut gate);
    let mut before = Wire::signed_in(&gate).expect("a login");
    change(database, &role, "second-canary");
    let refused = asks(&gate).expect_failure();
    assert!(refused.contains("refuses the gate's login") && !refused.contains("canary"), "{refused}");
    assert!(health.metric("retrace_target_credential_refused_total{target=\"shop\"}") >= 1.0);
    gate.put_secret("shop.password", "second-canary\n");
    assert_eq!(user(&gate), role);
    std::fs::remove_file(gate.dir().join("shop.password")).expect("it is there");
    let gone = asks(&gate).expect_failure();
    assert!(gone.contains("cannot be had at the moment"), "{gone}");
    let answer = before.query("SELECT 1").expect("an open session lives on");
    assert_eq!(answer.last().map(|message| message.tag), Some(b'Z'));
    assert_none_written(&gate, &[Canary::text("first-canary"), Canary::text("second-canary")]);
}

#[test]
fn a_password_in_kv_lets_the_gate_in_and_a_new_one_counts_without_a_restart() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    let role = role(database, "first-canary");
    let path = vault.put_kv(&database.name(), "pw", "first-canary");
    let credential = format!("user = \"{role}\"\npassword = {{ vault_kv = \"{path}\", field = \"pw\" }}");
    let (mut gate, _) = logged_in(vault, database, &[(&path, "read")], &credential);
    let health = up(&mut gate);
    let mut before = Wire::signed_in(&gate).expect("a login");
    change(database, &role, "second-canary");
    let refused = asks(&gate).expect_failure();
    assert!(refused.contains("refuses the gate's login"), "{refused}");
    vault.put_kv(&database.name(), "pw", "second-canary");
    assert_eq!(user(&gate), role, "the old one is refused, and the new one tried");
    let changes = format!("retrace_target_credential_changes_total{{credential=\"{path}#pw\"}}");
    assert!((health.metric(&changes) - 2.0).abs() < 0.1);
    assert!(before.query("SELECT 1").is_ok(), "an open session lives on");
    drop(before);
    assert_eq!(gate.number(&format!("SELECT count(*) AS n FROM sessions WHERE target_user <> '{role}'")), 0);
    assert!(gate.stop().success());
}

#[test]
fn a_static_role_is_rotated_under_load_and_no_login_fails() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.static_role(database);
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let (mut gate, _) = logged_in(vault, database, &[(&path, "read")], &credential);
    up(&mut gate);
    let role = format!("{}_static", database.name());
    for _ in 0..5 {
        vault.rotate(database);
        std::thread::scope(|scope| {
            let logins = [(); 4].map(|()| scope.spawn(|| user(&gate)));
            for login in logins {
                assert_eq!(login.join().expect("a login"), role);
            }
        });
    }
}

#[test]
fn a_right_that_is_taken_back_counts_no_more() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    let role = role(database, "a-canary");
    let path = vault.put_kv(&database.name(), "password", "a-canary");
    let policy = policy();
    vault.put_policy(&policy, &[(&path, "read")]);
    let mut gate = Gate::new(database);
    gate.put_secret("vault.token", &vault.new_token(&policy, &json!({ "period": "1h" })));
    gate.log_in_at(vault, BY_TOKEN);
    gate.set_credential(&format!("user = \"{role}\"\npassword = {{ vault_kv = \"{path}\" }}"));
    let health = up(&mut gate);
    vault.put_policy(&policy, &[("secret/data/nothing", "read")]);
    // It looks when the target refuses it, and else once a minute.
    change(database, &role, "another-canary");
    let refused = asks(&gate).expect_failure();
    assert!(refused.contains("is not given a credential for it"), "{refused}");
    let ends = format!("retrace_target_credential_ends_seconds{{credential=\"{path}\"}}");
    assert_eq!(health.told(&ends), Some(0.0));
    change(database, &role, "a-canary");
    let refused = asks(&gate).expect_failure();
    assert!(refused.contains("is not given"), "what it had in hand is gone: {refused}");
    vault.put_policy(&policy, &[(&path, "read")]);
    wait_until_let_in(&gate);
    assert!(health.metric(&ends) > 60.0);
}

#[test]
fn what_is_in_hand_is_not_asked_for_again_when_the_configuration_is_read_again() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "1h", "2h");
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let (mut gate, _) = logged_in(vault, database, &[(&path, "read")], &credential);
    let health = up(&mut gate);
    let before = user(&gate);
    gate.edit(|config| config["mask"][0]["detectors"].as_array_mut().expect("a list").push("phone".into()));
    gate.signal(Signal::HUP);
    wait_for("the configuration was read again", PATIENCE, || {
        (health.metric("retrace_config_reloads_total") > 0.0).then_some(())
    });
    assert_eq!(user(&gate), before);
    let reads = "retrace_vault_requests_total{operation=\"read\",outcome=\"ok\"}";
    assert!((health.metric(reads) - 1.0).abs() < 0.1);
    assert_eq!(vault.leases(&path).len(), 1);

    gate.edit(|config| {
        drop(config["vault"].as_table_mut().expect("a table").insert("namespace".into(), "x".into()))
    });
    gate.signal(Signal::HUP);
    wait_for("the configuration was refused", PATIENCE, || {
        (health.metric("retrace_config_reload_failures_total") > 0.0).then_some(())
    });
    let said = String::from_utf8_lossy(&gate.said()).into_owned();
    assert!(said.contains("[vault] cannot change while the process runs"), "{said}");
}

#[test]
fn the_same_path_in_two_namespaces_is_two_secrets() {
    let (vault, database) = (Vault::start(), Postgres::shared().database());
    let role = role(database, "inner-canary");
    let path = vault.put_kv("shop", "password", "outer-canary");
    vault.put("POST", "sys/namespaces/team", &json!({}));
    let headers = [format!("X-Vault-Token: {}", vault.root_token()), "X-Vault-Namespace: team".to_owned()];
    let within = |method: &str, path: &str, body: serde_json::Value| {
        let (status, answer) = vault.ask_with(method, path, Some(&body), &headers);
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    };
    within("POST", "sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } }));
    wait_for("it takes secrets", PATIENCE, || {
        let body = json!({ "data": { "password": "inner-canary" } });
        (vault.ask_with("POST", &path, Some(&body), &headers).0 == 200).then_some(())
    });
    let rule = format!("path \"{path}\" {{ capabilities = [\"read\"] }}");
    within("PUT", "sys/policies/acl/gate", json!({ "policy": rule }));
    let made = within("POST", "auth/token/create-orphan", json!({ "policies": ["gate"], "period": "1h" }));
    let mut gate = Gate::new(database);
    gate.put_secret("vault.token", made["auth"]["client_token"].as_str().expect("a token"));
    gate.log_in_at(&vault, &format!("{BY_TOKEN}\nnamespace = \"team\""));
    gate.set_credential(&format!("user = \"{role}\"\npassword = {{ vault_kv = \"{path}\" }}"));
    up(&mut gate);
    assert_eq!(user(&gate), role);
}

#[test]
fn p2_nothing_of_a_secret_store_is_written_anywhere() {
    let (vault, database) = (Vault::start(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "1h", "2h");
    let policy = policy();
    vault.put_policy(&policy, &[(&path, "read"), ("secret/data/*", "read")]);
    let approle = vault.approle(&policy, &json!({ "token_period": "1h" }));
    let mut gate = Gate::new(database);
    gate.put_secret("secret-id", &approle.secret_id);
    gate.log_in_at(
        &vault,
        &format!("[approle]\nrole_id = \"{}\"\nsecret_id = {{ file = \"secret-id\" }}", approle.role_id),
    );
    gate.set_credential(&format!("credential = {{ vault_database = \"{path}\" }}"));
    let kv = vault.put_kv("other", "password", "kv-canary-8231");
    gate.add_target("other", database, "exchange");
    gate.edit(|config| {
        let reference: toml::Table = format!("vault_kv = \"{kv}\"").parse().expect("TOML");
        config["target"][1].as_table_mut().expect("a table").insert("password".into(), reference.into());
    });
    gate.tell_health();
    // The libraries below say what they can, too.
    let loud = Surroundings {
        environment: vec![("RETRACE_LOG".to_owned(), "trace".to_owned())],
        ..Surroundings::default()
    };
    let mut process = gate.service_in(loud, "up", 1, |_| ());
    let at = process.postgres_port.to_string();
    let ask = |target: &str| {
        let mut psql = gate.psql_command();
        psql.args(["-p", &at, "-d", target, "-c", "SELECT 1"]);
        retrace_tests::run(psql, b"", PATIENCE)
    };
    let _ = ask("shop").expect_ok();
    // The target does not take it, and Vault is asked again.
    let refused = ask("other").expect_failure();
    let leases = vault.leases(&path);
    assert_eq!(leases.len(), 1);
    let health = process.health.expect("it tells of its health");
    let metrics = health.ask("GET /metrics").1;
    assert!(metrics.contains("retrace_vault_requests_total"), "{metrics}");
    vault.seal();
    let _ = ask("other").expect_failure();
    vault.unseal();
    assert!(process.stop().success());

    let secrets = [
        approle.secret_id.as_str(),
        "kv-canary-8231",
        vault.root_token(),
        &leases[0],
        "n0body-may-see-th1s-admin",
    ];
    let canaries: Vec<_> = secrets.iter().map(|secret| Canary::text(secret)).collect();
    let said = process.said();
    assert!(said.contains("TRACE"), "it says all that it can");
    assert_none_in("what retrace up said", said.as_bytes(), &canaries);
    // Tokens of the store's begin alike, whichever the gate got.
    for prefix in ["hvs.", "s.", "sbr."] {
        let token = |word: &str| word.starts_with(prefix) && word.len() > 20;
        let words = said.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
        let found: Vec<_> = words.filter(|word| token(word)).collect();
        assert!(found.is_empty(), "a token in what retrace up said: {found:?}");
    }
    assert_none_in("the metrics", metrics.as_bytes(), &canaries);
    assert_none_in("what a client is told", refused.as_bytes(), &canaries);
    gate.up();
    assert_none_written(&gate, &canaries);
}
