use retrace_vault::{ApiPath, Lending, Login, Reference};

use super::*;

/// [`GOOD`] with a secret store, which its lines follow.
const VAULT: &str = r#"
[vault]
address = "https://vault.internal:8200"
namespace = "team/a/"
tls_ca = "vault.pem"
token = { file = "vault.token" }
"#;

/// The configuration of [`GOOD`] with [`VAULT`] before it, `from` replaced by `to`.
fn with_vault(from: &str, to: &str) -> Result<Config, ConfigError> {
    let text = format!("{VAULT}{GOOD}");
    assert!(text.contains(from), "{from}");
    parse(&text.replacen(from, to, 1))
}

#[test]
fn a_secret_store_and_what_it_has_are_read() {
    let vault = with_vault("", "").unwrap().vault.unwrap();
    assert!(vault.address.is_encrypted());
    assert_eq!(vault.namespace.unwrap().as_str(), "team/a");
    let ca = Some(Path::new("/etc/gate/vault.pem").to_owned());
    assert_eq!(vault.tls, TargetTls::new(CertificateCheck::Full { ca }));
    assert_eq!(vault.login, Login::Token(SecretRef::File("vault.token".into())));

    let credential = |from, to| with_vault(from, to).unwrap().targets.remove(0).credential;
    let password = "password = { env = \"SHOP_PASSWORD\" }";
    let kv = credential(password, "password = { vault_kv = \"secret/data/shop\", field = \"pw\" }");
    let expected = Reference::kv("shop".to_owned(), "secret/data/shop", Some("pw".to_owned())).unwrap();
    assert_eq!((kv.field(), kv), ("password", TargetCredential::Vault(expected)));
    let both = "user = \"shop\"\npassword = { env = \"SHOP_PASSWORD\" }";
    let of_role = credential(both, "credential = { vault_database = \"database/static-creds/shop\" }");
    let expected = Reference::database("database/static-creds/shop", None).unwrap();
    assert_eq!((of_role.field(), of_role), ("credential", TargetCredential::Vault(expected)));
    let of_time = "credential = { vault_database = \"database/creds/shop\", lease = \"session\" }";
    let expected = Reference::database("database/creds/shop", Some(Lending::Session)).unwrap();
    assert_eq!(credential(both, of_time), TargetCredential::Vault(expected));
}

#[test]
fn the_ways_to_log_in_are_read() {
    let login = |to: &str| with_vault("token = { file = \"vault.token\" }", to).unwrap().vault.unwrap().login;
    let mount = |path: &str| ApiPath::parse(path).unwrap();
    assert_eq!(
        login("[vault.approle]\nrole_id = \"r\"\nsecret_id = { env = \"S\" }\nsecret_id_is_wrapped = true"),
        Login::AppRole {
            mount: mount("approle"),
            role_id: "r".to_owned(),
            secret_id: SecretRef::Env("S".to_owned()),
            is_wrapped: true
        }
    );
    let token = SecretRef::File("/var/run/secrets/kubernetes.io/serviceaccount/token".into());
    assert_eq!(
        login("[vault.kubernetes]\nrole = \"r\"\nmount = \"team/jwt\""),
        Login::Jwt { mount: mount("team/jwt"), role: "r".to_owned(), token }
    );
    assert_eq!(
        login("tls_cert = \"g.pem\"\ntls_key = { file = \"g.key\" }\n[vault.cert]"),
        Login::Certificate { mount: mount("cert"), role: None }
    );
}

/// What is replaced in [`VAULT`] and [`GOOD`], by what, and what the error says.
const WRONG_VAULT: &[(&str, &str, &str)] = &[
    (
        "https://vault.internal:8200",
        "http://10.0.0.1:8200",
        "retrace.toml:3: vault: address: the token and every password would go over the network in cleartext: use https://",
    ),
    (
        "https://vault.internal:8200",
        "vault:8200",
        "retrace.toml:3: vault: address: not the address of a Vault; allowed: https://HOST:PORT",
    ),
    (
        "https://vault.internal:8200",
        "http://127.0.0.1:8200",
        "retrace.toml:5: vault: tls_ca: this Vault is spoken with in cleartext: use https:// in `address`",
    ),
    (
        "token = { file = \"vault.token\" }",
        "",
        "retrace.toml:2: vault: how does the gate log in? Add token, [vault.approle], [vault.kubernetes] or [vault.cert]",
    ),
    (
        "token = { file = \"vault.token\" }",
        "token = \"hunter2\"",
        "retrace.toml:6: vault: token: a secret does not stand here itself; expected a secret by reference: { env = \"NAME\" } \
         or { file = \"path\" }",
    ),
    (
        "token = { file = \"vault.token\" }",
        "token = { file = \"vault.token\" }\n[vault.cert]",
        "retrace.toml:7: vault.cert: the gate logs in in one way: remove `token` or `[vault.cert]`",
    ),
    (
        "token = { file = \"vault.token\" }",
        "[vault.cert]",
        "retrace.toml:6: vault.cert: its proof is a certificate: set tls_cert and tls_key in [vault]",
    ),
    (
        "{ env = \"SHOP_PASSWORD\" }",
        "{ vault_kv = \"secret/shop\" }",
        "retrace.toml:21: target `shop`: password: `secret/shop` is not a path of KV version 2; allowed: MOUNT/data/NAME, such \
         as secret/data/shop",
    ),
    (
        "{ env = \"SHOP_PASSWORD\" }",
        "{ vault_kv = \"/secret/data/x\" }",
        "retrace.toml:21: target `shop`: password: a path in Vault has neither / at its ends nor empty parts, `..`, ?, # or %, \
         and 512 bytes at most",
    ),
    (
        "{ env = \"SHOP_PASSWORD\" }",
        "{ env = \"SHOP_PASSWORD\", field = \"pw\" }",
        "retrace.toml:21: target `shop`: password: `field` is a part of a secret in Vault: it goes with vault_kv",
    ),
    (
        "password = { env = \"SHOP_PASSWORD\" }",
        "credential = { vault_database = \"database/static-creds/shop\" }",
        "retrace.toml:21: target `shop`: credential: it brings the role with it: remove `user` and `password`",
    ),
    (
        "user = \"shop\"\npassword = { env = \"SHOP_PASSWORD\" }",
        "credential = { vault_database = \"database/roles/x\" }",
        "retrace.toml:20: target `shop`: credential: `database/roles/x` gives no credential; allowed: MOUNT/creds/ROLE or \
         MOUNT/static-creds/ROLE",
    ),
    (
        "user = \"shop\"\npassword = { env = \"SHOP_PASSWORD\" }",
        "credential = { vault_database = \"database/static-creds/x\", lease = \"shared\" }",
        "retrace.toml:20: target `shop`: credential: a static role has no lease: remove `lease`",
    ),
    (
        "user = \"shop\"\npassword = { env = \"SHOP_PASSWORD\" }",
        "credential = { vault_database = \"database/creds/x\", lease = \"process\" }",
        "retrace.toml:20: target `shop`: credential: unknown value `process`; allowed: `shared` or `session`",
    ),
    (
        "user = \"shop\"\npassword = { env = \"SHOP_PASSWORD\" }",
        "credential = \"hunter2\"",
        "retrace.toml:20: target `shop`: credential: a credential does not stand here itself; expected a credential by reference: \
         { vault_database = \"MOUNT/static-creds/ROLE\" } or { vault_database = \"MOUNT/creds/ROLE\", lease = \"shared\" }",
    ),
    (
        "durability = \"exchange\"",
        "tls = \"require\"\ntls_cert = \"g.pem\"\ntls_key = { vault_kv = \"secret/data/x\" }",
        "retrace.toml:24: target `shop`: tls_key: only the password of a target can come from Vault: use { env = \"NAME\" } or \
         { file = \"path\" }",
    ),
];

#[test]
fn what_cannot_be_meant_of_a_secret_store_is_an_error() {
    for (from, to, expected) in WRONG_VAULT {
        let error = with_vault(from, to).expect_err(to).to_string();
        assert_eq!(&error, expected, "for {to}");
    }
    let without = GOOD.replace("{ env = \"SHOP_PASSWORD\" }", "{ vault_kv = \"secret/data/shop\" }");
    assert_eq!(
        parse(&without).unwrap_err().to_string(),
        "retrace.toml:15: target `shop`: password: this comes from Vault, and there is no [vault]: say there where it is and \
         how the gate logs in"
    );
    let option = KAFKA.replace("{ file = \"kafka.password\" }", "{ vault_kv = \"secret/data/kafka\" }");
    assert!(parse(&option).unwrap_err().to_string().contains("an option is a text"));
}
