//! A secret store that is away.

use retrace_tests::{Database, Gate, Postgres, Vault, Wire, wait_for};
use serde_json::json;

use super::{asks, policy, role, up, wait_until_let_in, wait_until_refused};
use crate::common::{PATIENCE, refusal};

/// A gate that has its credential by this from a store that only it uses, by a login of its own.
fn gate(vault: &Vault, database: Database<'_>, path: &str, credential: &str) -> Gate {
    let policy = policy();
    vault.put_policy(&policy, &[(path, "read")]);
    let approle = vault.approle(&policy, &json!({ "token_period": "15s" }));
    let gate = Gate::new(database);
    gate.put_secret("secret-id", &approle.secret_id);
    gate.log_in_at(
        vault,
        &format!("[approle]\nrole_id = \"{}\"\nsecret_id = {{ file = \"secret-id\" }}", approle.role_id),
    );
    gate.set_credential(credential);
    gate
}

#[test]
fn what_is_in_hand_counts_while_the_store_is_away_and_no_longer_than_its_login() {
    let (vault, database) = (Vault::start(), Postgres::shared().database());
    let role = role(database, "a-canary");
    let path = vault.put_kv(&database.name(), "password", "a-canary");
    let credential = format!("user = \"{role}\"\npassword = {{ vault_kv = \"{path}\" }}");
    let mut gate = gate(&vault, database, &path, &credential);
    let health = up(&mut gate);
    let mut open = Wire::signed_in(&gate).expect("a login");
    let ends = format!("retrace_target_credential_ends_seconds{{credential=\"{path}\"}}");
    for is_sealed in [true, false] {
        if is_sealed {
            vault.seal()
        } else {
            vault.pause()
        }
        let _ = asks(&gate).expect_ok();
        let refused = wait_until_refused(&gate);
        assert!(refused.contains("cannot be had at the moment"), "{refused}");
        assert_eq!(health.told(&ends), Some(0.0));
        assert_eq!(health.ask("GET /readyz").0, 200, "others are served");
        assert!(open.query("SELECT 1").is_ok(), "an open session lives on");
        if is_sealed {
            vault.unseal()
        } else {
            vault.wake()
        }
        wait_until_let_in(&gate);
        assert!(health.metric(&ends) > 0.0);
    }
}

#[test]
fn roles_for_a_time_are_lent_while_the_store_is_away_up_to_their_last_fifth() {
    let (vault, database) = (Vault::start(), Postgres::shared().database());
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "10s", "10m");
    let credential = format!("credential = {{ vault_database = \"{path}\" }}");
    let mut gate = gate(&vault, database, &path, &credential);
    up(&mut gate);
    let mut open = Wire::signed_in(&gate).expect("a login");
    vault.seal();
    let refused = wait_until_refused(&gate);
    assert!(refused.contains("cannot be had at the moment"), "{refused}");
    // Nobody can renew it, so it ends, and its session with it.
    let told = open.read_to_close().expect("a word");
    assert_eq!(refusal(&told).0, "57P01");
    vault.unseal();
    wait_until_let_in(&gate);
}

#[test]
fn a_target_that_the_engine_cannot_reach_is_told_without_its_address() {
    let vault = Vault::start();
    let postgres = Postgres::start(false);
    let database = postgres.database();
    vault.lead_to(database);
    let path = vault.dynamic_role(database, "1h", "2h");
    let credential = format!("credential = {{ vault_database = \"{path}\", lease = \"session\" }}");
    let port = postgres.port().to_string();
    let administrator = format!("{}_vault", database.name());
    let mut gate = gate(&vault, database, &path, &credential);
    up(&mut gate);
    drop(postgres);
    let refused = asks(&gate).expect_failure();
    assert!(refused.contains("cannot be had at the moment"), "{refused}");
    let said = wait_for("the gate says so", PATIENCE, || {
        let said = String::from_utf8_lossy(&gate.said()).into_owned();
        said.contains("a target's credential cannot be fetched").then_some(said)
    });
    let line = said.lines().find(|line| line.contains("cannot be fetched")).expect("a line");
    assert!(line.contains(&path) && !line.contains(&port) && !line.contains(&administrator), "{line}");
}
