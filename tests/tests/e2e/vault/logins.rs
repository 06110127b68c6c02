//! The ways to log in, and what is said at the start where one does not lead in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519, SigningKey};
use retrace_tests::{Database, Gate, Postgres, Vault, wait_for};
use serde_json::{Value, json};

use super::{BY_TOKEN, logged_in, policy, role, up, user};
use crate::common::PATIENCE;

/// A gate whose target's password is in KV, readable by a policy; gives the path.
fn gate_of_kv(vault: &Vault, database: Database<'_>, policy: &str) -> (Gate, String) {
    let role = role(database, "a-canary");
    let path = vault.put_kv(&database.name(), "password", "a-canary");
    vault.put_policy(policy, &[(&path, "read")]);
    let gate = Gate::new(database);
    gate.set_credential(&format!("user = \"{role}\"\npassword = {{ vault_kv = \"{path}\" }}"));
    (gate, path)
}

#[test]
fn a_token_that_an_agent_replaces_is_taken_over() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    let policy = policy();
    let (mut gate, path) = gate_of_kv(vault, database, &policy);
    let first = vault.new_token(&policy, &json!({ "ttl": "1h" }));
    gate.put_secret("vault.token", &first);
    gate.log_in_at(vault, BY_TOKEN);
    let health = up(&mut gate);
    let second = vault.new_token(&policy, &json!({ "ttl": "2h" }));
    gate.put_secret("vault.token", &second);
    let ends = format!("retrace_target_credential_ends_seconds{{credential=\"{path}\"}}");
    wait_for("the new token counts", PATIENCE, || (health.metric(&ends) > 3_700.0).then_some(()));
    vault.put("POST", "auth/token/revoke", &json!({ "token": first }));
    assert_eq!(user(&gate), format!("{}_login", database.name()));
}

#[test]
fn a_login_at_its_most_is_replaced_and_no_session_notices() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    let policy = policy();
    let (mut gate, _) = gate_of_kv(vault, database, &policy);
    let approle = vault.approle(&policy, &json!({ "token_ttl": "6s", "token_max_ttl": "9s" }));
    gate.put_secret("secret-id", &approle.secret_id);
    let login =
        format!("[approle]\nrole_id = \"{}\"\nsecret_id = {{ file = \"secret-id\" }}", approle.role_id);
    gate.log_in_at(vault, &login);
    let health = up(&mut gate);
    let logins = "retrace_vault_requests_total{operation=\"log_in\",outcome=\"ok\"}";
    wait_for("it has logged in a third time", PATIENCE, || {
        let _ = user(&gate);
        (health.metric(logins) >= 3.0).then_some(())
    });
    let revoked = "retrace_vault_requests_total{operation=\"revoke_token\",outcome=\"ok\"}";
    wait_for("tokens that nobody needs are revoked", PATIENCE, || {
        (health.metric(revoked) >= 2.0).then_some(())
    });
}

#[test]
fn a_wrapped_secret_id_is_good_for_one_start_and_its_second_use_is_an_alarm() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    let policy = policy();
    let (mut gate, _) = gate_of_kv(vault, database, &policy);
    let approle = vault.approle(&policy, &json!({ "token_period": "1h" }));
    gate.put_secret("secret-id", &vault.wrapped_secret_id(&approle));
    gate.log_in_at(
        vault,
        &format!(
            "[approle]\nrole_id = \"{}\"\nsecret_id = {{ file = \"secret-id\" }}\nsecret_id_is_wrapped = true",
            approle.role_id
        ),
    );
    gate.up();
    assert_eq!(user(&gate), format!("{}_login", database.name()));
    assert!(gate.stop().success());
    let error = gate.try_up().expect_err("it was used");
    assert!(error.contains("[vault]: the wrapping token in approle.secret_id was used"), "{error}");
    let headers = [format!("X-Vault-Token: {}", vault.root_token()), "X-Vault-Wrap-TTL: 300s".to_owned()];
    let (_, wrapped) =
        vault.ask_with("POST", "sys/wrapping/wrap", Some(&json!({ "secret_id": "x" })), &headers);
    gate.put_secret("secret-id", wrapped["wrap_info"]["token"].as_str().expect("a token"));
    let error = gate.try_up().expect_err("it wraps something else");
    assert!(error.contains("does not wrap a secret_id"), "{error}");
}

#[test]
fn a_certificate_of_the_gates_own_lets_it_in() {
    let (vault, database) = (Vault::shared(), Postgres::shared().database());
    let policy = policy();
    let (mut gate, _) = gate_of_kv(vault, database, &policy);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["gate".to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    gate.put_secret("gate.pem", &certificate);
    gate.put_secret("gate.key", &key.serialize_pem());
    let settings = json!({ "certificate": certificate, "token_policies": [policy], "token_period": "1h" });
    vault.put("POST", &format!("auth/cert/certs/{policy}"), &settings);
    gate.log_in_at(
        vault,
        &format!("tls_cert = \"gate.pem\"\ntls_key = {{ file = \"gate.key\" }}\n[cert]\nrole = \"{policy}\""),
    );
    gate.up();
    assert_eq!(user(&gate), format!("{}_login", database.name()));
}

/// A statement of who it is about, signed as a cluster signs those of its service accounts.
fn jwt(key: &KeyPair, claims: &Value) -> String {
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let head = encode(json!({ "alg": "EdDSA", "typ": "JWT" }).to_string().as_bytes());
    let signed = format!("{head}.{}", encode(claims.to_string().as_bytes()));
    let signature = key.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", encode(&signature))
}

#[test]
fn a_service_accounts_token_lets_the_gate_in() {
    let (vault, database) = (Vault::start(), Postgres::shared().database());
    let policy = policy();
    let (mut gate, _) = gate_of_kv(&vault, database, &policy);
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    vault.put("POST", "auth/jwt/config", &json!({ "jwt_validation_pubkeys": [key.public_key_pem()] }));
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "token_policies": [policy],
        "token_period": "1h",
    });
    vault.put("POST", "auth/jwt/role/retrace", &role);
    let login = "[kubernetes]\nrole = \"retrace\"\ntoken_file = \"account.jwt\"\nmount = \"jwt\"";
    gate.log_in_at(&vault, login);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = |audience: &str| json!({ "sub": "gate", "aud": audience, "iat": now - 5, "exp": now + 600 });
    gate.put_secret("account.jwt", &jwt(&key, &claims("another")));
    let error = gate.try_up().expect_err("it is for somebody else");
    assert!(error.contains("the login by kubernetes is refused") && !error.contains("eyJ"), "{error}");
    gate.put_secret("account.jwt", &jwt(&key, &claims("vault")));
    gate.up();
    assert_eq!(user(&gate), format!("{}_login", database.name()));
}

#[test]
fn what_is_wrong_is_said_at_the_start_and_ends_the_process() {
    let (vault, database) = (Vault::start(), Postgres::shared().database());
    let path = vault.put_kv("shop", "password", "a-canary");
    let of =
        |path: &str, more: &str| format!("user = \"shop\"\npassword = {{ vault_kv = \"{path}\"{more} }}");
    for (rights, credential, said) in [
        (
            "secret/data/else",
            of(&path, ""),
            "does not let the gate read secret/data/shop: its policy needs path",
        ),
        ("secret/data/*", of("secret/data/none", ""), "has nothing at secret/data/none"),
        ("secret/data/*", of(&path, ", field = \"pw\""), "secret/data/shop has no text in the field `pw`"),
        (
            "database/*",
            "credential = { vault_database = \"database/creds/none\" }".to_owned(),
            "(status 400)",
        ),
        (
            "secret/data/*",
            "credential = { vault_database = \"database/creds/none\", lease = \"session\" }".to_owned(),
            "does not let the gate read database/creds/none",
        ),
    ] {
        let (mut gate, _) = logged_in(&vault, database, &[(rights, "read")], &credential);
        let error = gate.try_up().expect_err("it must not start");
        assert!(error.contains("target `shop`: ") && error.contains(said), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let (mut gate, _) = logged_in(&vault, database, &[(&path, "read")], &of(&path, ""));
    gate.put_secret("vault.token", "hvs.no-such-token-canary");
    let error = gate.try_up().expect_err("it must not start");
    assert!(error.contains("[vault]: the login by token is refused (status 403)"), "{error}");
    assert!(!error.contains("canary"), "{error}");
    // Silence is waited out for as long as a start may take.
    vault.seal();
    let error = gate.try_up().expect_err("it must not start");
    assert!(error.contains("[vault]: Vault is sealed"), "{error}");
}
