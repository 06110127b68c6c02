use std::path::Path;

use retrace_access::{BindingMode, CertificateCheck, SecretRef};

use super::*;

mod vault;

const GOOD: &str = r#"
[proxy.postgres]
listen = "127.0.0.1:7432"
[[principal]]
name = "dev"
kind = "human"
targets = ["*"]
evidence = "all"
[[target]]
name = "shop"
protocol = "postgres"
address = "127.0.0.1:5432"
database = "shop"
user = "shop"
password = { env = "SHOP_PASSWORD" }   # or { file = "…" }
durability = "exchange"
[[mask]]
name = "pii"
targets = ["shop"]
detectors = ["payment_card", "email"]
action = "partial"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("retrace.toml"), Path::new("/etc/gate/retrace.toml"), text)
}

#[test]
fn the_documented_form_is_read() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.proxy_listen.to_string(), "127.0.0.1:7432");
    assert_eq!(config.query_listen.to_string(), QUERY_LISTEN_DEFAULT);
    assert!(matches!(&config.log, Log::Embedded(dir) if dir == Path::new("/etc/gate/data/log")));
    assert_eq!(config.lake.url, "/etc/gate/data/lake");
    assert_eq!(config.principals[0].name, "dev");
    let target = &config.targets[0];
    assert_eq!((target.host.as_str(), target.port, &target.tls), ("127.0.0.1", 5432, &None));
    assert_eq!(target.retention_class, wire::RetentionClass::Standard);
    assert_eq!(config.mask_rules("shop").len(), 1);
    assert_eq!(config.mask_rules("other").len(), 0);
}

const KAFKA: &str = r#"
[log.kafka]
topic_prefix = "audit"
events_partitions = 32
[log.kafka.options]
"bootstrap.servers" = "kafka-1:9092,kafka-2:9092"
security.protocol = "sasl_ssl"
"sasl.password" = { file = "kafka.password" }
"socket.keepalive.enable" = true
"#;

#[test]
fn options_of_kafka_are_read_with_names_in_quotes_or_not() {
    let Log::Kafka(kafka) = parse(KAFKA).unwrap().log else { panic!("the log is on Kafka") };
    let dir = tempfile::tempdir().unwrap();
    assert!(kafka.resolve(dir.path()).unwrap_err().to_string().starts_with("sasl.password: "));
    std::fs::write(dir.path().join("kafka.password"), "s3cret\n").unwrap();
    let options = kafka.resolve(dir.path()).unwrap();
    assert_eq!((options.topic_prefix.as_str(), options.partitions), ("audit", [32, 4]));
    let expected = [
        ("bootstrap.servers", "kafka-1:9092,kafka-2:9092"),
        ("sasl.password", "s3cret"),
        ("security.protocol", "sasl_ssl"),
        ("socket.keepalive.enable", "true"),
    ];
    assert!(options.client.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
    assert!(!format!("{options:?}").contains("s3cret"));
}

#[test]
fn a_log_on_kafka_that_cannot_be_meant_is_an_error() {
    for (was, is, said) in [
        (
            "[log.kafka]",
            "[log]\ndir = \"log\"\n[log.kafka]",
            "retrace.toml:3: log: dir: the log is in a folder or on Kafka",
        ),
        ("\"audit\"", "\"a/b\"", "topic_prefix: the names of topics begin with"),
        ("= 32", "= 0", "events_partitions: 0 is not allowed here: 1 to 1024"),
        ("\"bootstrap.servers\" = \"kafka-1:9092,kafka-2:9092\"", "", "the brokers are missing"),
        ("\"socket.keepalive.enable\" = true", "acks = \"1\"", "`acks` is not for setting"),
        ("\"socket.keepalive.enable\" = true", "retries = [1]", "retries: an option is a text"),
    ] {
        assert!(KAFKA.contains(was), "{was}");
        let error = parse(&KAFKA.replace(was, is)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_ingest_takes_as_dead_letters_is_named_by_topic_partition() {
    let text = "[ingest.dead_letters_below]\n\"retrace.events[3]\" = 1043\n";
    let at = "retrace.events[3]".parse().unwrap();
    assert_eq!(parse(text).unwrap().dead_letters_below, BTreeMap::from([(at, 1043)]));
    let error = parse(&text.replace("[3]", "-3")).unwrap_err().to_string();
    assert!(
        error.starts_with("retrace.toml:2: ") && error.contains("`retrace.events-3` is no topic"),
        "{error}"
    );
    assert!(parse(&text.replace("1043", "-1")).is_err());
}

#[test]
fn an_empty_file_is_a_configuration_with_defaults() {
    let config = parse("").unwrap();
    assert!(config.dead_letters_below.is_empty());
    assert_eq!(config.proxy_listen.to_string(), PROXY_LISTEN_DEFAULT);
    assert!(config.targets.is_empty());
}

#[test]
fn the_policy_version_is_the_hash_of_the_file() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(parse("").unwrap().policy_version(), empty);
    assert_ne!(parse("# a comment").unwrap().policy_version(), empty);
}

#[test]
fn tls_is_checked_in_full_unless_the_target_is_on_this_machine() {
    let of = |address: &str| {
        let text = GOOD.replace("127.0.0.1:5432", address);
        parse(&text).unwrap().targets.remove(0).tls
    };
    assert_eq!(of("localhost:5432"), None);
    assert_eq!(of("[::1]:5432"), None);
    assert_eq!(of("127.8.0.1:5432"), None);
    let full = TargetTls::new(CertificateCheck::Full { ca: None });
    assert_eq!(of("db.example:5432"), Some(full.clone()));
    assert_eq!(of("10.0.0.1:5432"), Some(full));
}

/// The target of [`GOOD`] with these lines.
fn with(lines: &str) -> Result<Target, ConfigError> {
    let text = GOOD.replace("durability =", &format!("{lines}\ndurability ="));
    parse(&text).map(|mut config| config.targets.remove(0))
}

#[test]
fn the_modes_of_libpq_are_read() {
    let check = |lines: &str| with(lines).unwrap().tls.map(|tls| tls.check);
    let db = Path::new("/etc/gate/db.pem").to_owned();
    assert_eq!(check("tls = \"disable\""), None);
    assert_eq!(check("tls = \"require\""), Some(CertificateCheck::Nothing));
    assert_eq!(
        check("tls = \"verify-ca\"\ntls_ca = \"db.pem\""),
        Some(CertificateCheck::Chain { ca: db.clone() })
    );
    assert_eq!(
        check("tls = \"verify-full\"\ntls_ca = \"db.pem\""),
        Some(CertificateCheck::Full { ca: Some(db) })
    );
    let all = "tls = \"verify-full\"\ntls_server_name = \"db\"\ntls_cert = \"gate.pem\"\n\
               tls_key = { file = \"gate.key\" }\ntls_negotiation = \"direct\"";
    let tls = with(all).unwrap().tls.unwrap();
    assert_eq!((tls.server_name.as_deref(), tls.direct), (Some("db"), true));
    let identity = tls.identity.unwrap();
    assert_eq!(identity.certificate, Path::new("/etc/gate/gate.pem"));
    assert_eq!(identity.key, SecretRef::File("gate.key".into()));
}

#[test]
fn a_proof_towards_a_target_is_strict_unless_the_file_says_otherwise() {
    let plain = with("").unwrap();
    assert_eq!((plain.auth, plain.protocol_minor_max), (TargetAuth::default(), 0));
    assert!(!plain.auth.allow_weak);
    let lines = "tls = \"require\"\nchannel_binding = \"require\"\nrequire_auth = \"scram-sha-256\"\n\
                 allow_weak_auth = true\nmax_protocol_version = \"3.2\"";
    let set = with(lines).unwrap();
    assert_eq!((set.auth.binding, set.auth.allow_weak), (BindingMode::Require, true));
    assert_eq!(set.auth.methods, "scram-sha-256".parse().unwrap());
    assert_eq!(set.protocol_minor_max, 2);
}

fn limits_of(lines: &str, of_dev: &str) -> (retrace_access::PrincipalLimits, retrace_proxy::SourceLimits) {
    let text = GOOD.replace("evidence = \"all\"", of_dev);
    let config = parse(&format!("[limits]\n{lines}\n{text}")).unwrap();
    (config.principals[0].limits, config.source_limits)
}

#[test]
fn limits_are_those_of_all_unless_a_principal_has_its_own_and_0_is_none() {
    let max = std::num::NonZeroU64::new;
    let (by_default, sources) = limits_of("", "");
    assert_eq!(by_default, retrace_access::PrincipalLimits::default());
    assert_eq!((by_default.sessions_max, by_default.commands_per_second_max), (max(1_500), None));
    assert_eq!((sources.sessions_max, sources.logins_waiting_max), (None, max(256)));
    assert_eq!((sources.logins_per_minute_max, sources.failed_logins_per_minute_max), (None, max(600)));

    let lines = "sessions_max = 20\ncommands_per_second_max = 100\ncommands_burst_max = 500\nbytes_per_second_max = 7\n\
                 sessions_per_source_max = 30\nlogins_waiting_per_source_max = 0\n\
                 logins_per_minute_per_source_max = 40\nfailed_logins_per_minute_max = 5";
    let (of_all, sources) = limits_of(lines, "");
    assert_eq!((of_all.sessions_max, of_all.bytes_per_second_max), (max(20), max(7)));
    assert_eq!((of_all.commands_per_second_max, of_all.commands_burst_max), (max(100), max(500)));
    assert_eq!((sources.sessions_max, sources.logins_waiting_max), (max(30), None));
    assert_eq!((sources.logins_per_minute_max, sources.failed_logins_per_minute_max), (max(40), max(5)));

    let (own, _) = limits_of(lines, "limits = { sessions_max = 0, commands_per_second_max = 10 }");
    assert_eq!((own.sessions_max, own.bytes_per_second_max), (None, max(7)));
    assert_eq!(
        (own.commands_per_second_max, own.commands_burst_max),
        (max(10), None),
        "the burst is not its own"
    );
    let (own, _) = limits_of(lines, "limits = { commands_burst_max = 3 }");
    assert_eq!((own.commands_per_second_max, own.commands_burst_max), (max(100), max(3)));
}

/// What is replaced in [`GOOD`], by what, and what the error says.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "durability = \"exchange\"",
        "durability = \"sometimes\"",
        "retrace.toml:16: target `shop`: durability: unknown value `sometimes`; allowed: `exchange`, `command`, `relaxed`",
    ),
    (
        "user = \"shop\"",
        "usr = \"shop\"",
        "retrace.toml:14: target `shop`: usr: unknown key `usr`; allowed: `name`, `protocol`, `address`, `database`, \
         `user`, `password`, `credential`, `durability`, `record`, `tls`, `tls_ca`, `tls_server_name`, `tls_cert`, `tls_key`, `tls_negotiation`, \
         `channel_binding`, `require_auth`, `allow_weak_auth`, `max_protocol_version`, `retention_class`, `labels`",
    ),
    ("user = \"shop\"\n", "", "retrace.toml:9: target `shop`: missing key `user`"),
    (
        "password = { env = \"SHOP_PASSWORD\" }",
        "",
        "retrace.toml:9: target `shop`: missing key `password`, or `credential` in the place of `user` and `password`",
    ),
    (
        "kind = \"human\"",
        "kind = \"robot\"",
        "retrace.toml:6: principal `dev`: kind: unknown value `robot`; allowed: `human`, `agent`, `service`",
    ),
    (
        "evidence = \"all\"",
        "evidence = \"some\"",
        "retrace.toml:8: principal `dev`: evidence: unknown value `some`; allowed: `none`, `own`, `all`",
    ),
    (
        "evidence = \"all\"",
        "hold = \"own\"",
        "retrace.toml:8: principal `dev`: hold: unknown value `own`; allowed: `none` or `all`",
    ),
    (
        "protocol = \"postgres\"",
        "protocol = \"mysql\"",
        "retrace.toml:11: target `shop`: protocol: unknown value `mysql`; allowed: `postgres`",
    ),
    (
        "targets = [\"shop\"]",
        "targets = [\"shop\", \"shpo\"]",
        "retrace.toml:19: mask `pii`: targets: no [[target]] is named `shpo`; allowed: *, shop",
    ),
    (
        "targets = [\"*\"]",
        "targets = [\n  \"shop\",\n  \"bank\",\n]",
        "retrace.toml:9: principal `dev`: no [[target]] is named `bank`; allowed: *, shop",
    ),
    (
        "\"payment_card\", \"email\"",
        "\"card\"",
        "retrace.toml:20: mask `pii`: detectors: unknown detector `card`; allowed: payment_card, email, us_ssn, iban, phone, api_key, \
         private_key, jwt, national_id",
    ),
    (
        "\"payment_card\", \"email\"",
        "",
        "retrace.toml:18: mask `pii`: name: a mask without `detectors` and `columns` hides nothing; detectors are \
         payment_card, email, us_ssn, iban, phone, api_key, private_key, jwt, national_id; a column is \
         \"schema.table.column\"",
    ),
    (
        "action = \"partial\"",
        "action = \"hide\"",
        "retrace.toml:21: mask `pii`: action: unknown value `hide`; allowed: `redact`, `token`, `partial`",
    ),
    (
        "listen = \"127.0.0.1:7432\"",
        "listen = \"localhost\"",
        "retrace.toml:3: proxy.postgres: listen: `localhost` is not an address to listen at; allowed: IP:PORT such as \
         127.0.0.1:7432 or [::1]:7432",
    ),
    (
        "listen = \"127.0.0.1:7432\"",
        "listen = \"127.0.0.1:7432\"\n[query.grpc]\nlisten = \"127.0.0.1:7432\"",
        "retrace.toml:5: query.grpc: listen: the gate listens at this address already: take another port",
    ),
    (
        "address = \"127.0.0.1:5432\"",
        "address = \"127.0.0.1\"",
        "retrace.toml:12: target `shop`: address: `127.0.0.1` is not the address of a target; allowed: HOST:PORT such as \
         db.example:5432 or [::1]:5432",
    ),
    (
        "address = \"127.0.0.1:5432\"",
        "address = \"db:0\"",
        "retrace.toml:12: target `shop`: address: `db:0` is not the address of a target; allowed: HOST:PORT such as \
         db.example:5432 or [::1]:5432",
    ),
    (
        "durability = \"exchange\"",
        "tls_ca = \"db.pem\"",
        "retrace.toml:16: target `shop`: tls_ca: certificates are checked with tls = \"verify-full\" or \"verify-ca\" alone: \
         set one of them, or leave tls_ca out",
    ),
    (
        "durability = \"exchange\"",
        "tls = \"prefer\"",
        "retrace.toml:16: target `shop`: tls: goes on in cleartext when somebody says that there is no TLS, so this gate \
         does not do it: use \"verify-full\", or \"disable\" where cleartext is meant",
    ),
    (
        "durability = \"exchange\"",
        "tls = \"allow\"",
        "retrace.toml:16: target `shop`: tls: goes on in cleartext when somebody says that there is no TLS, so this gate \
         does not do it: use \"verify-full\", or \"disable\" where cleartext is meant",
    ),
    (
        "durability = \"exchange\"",
        "tls = \"verify-ca\"",
        "retrace.toml:16: target `shop`: tls: checks the chain alone, and under the roots of the operating system anybody \
         has a chain: name the target's own with tls_ca, or use \"verify-full\"",
    ),
    (
        "durability = \"exchange\"",
        "tls = \"disable\"\nchannel_binding = \"require\"",
        "retrace.toml:17: target `shop`: channel_binding: this target is connected to without TLS: set tls = \
         \"verify-full\"",
    ),
    (
        "durability = \"exchange\"",
        "tls_negotiation = \"direct\"",
        "retrace.toml:16: target `shop`: tls_negotiation: this target is connected to without TLS: set tls = \
         \"verify-full\"",
    ),
    (
        "durability = \"exchange\"",
        "tls = \"require\"\ntls_cert = \"gate.pem\"",
        "retrace.toml:17: target `shop`: tls_cert: a certificate needs its key: set tls_key",
    ),
    (
        "durability = \"exchange\"",
        "require_auth = \"scram-sha-256,gss\"",
        "retrace.toml:16: target `shop`: require_auth: `gss` is not a method of this gate; allowed: password, md5, \
         scram-sha-256, none, or each with `!`",
    ),
    (
        "name = \"dev\"",
        "name = \"retrace\"",
        "retrace.toml:5: principal `retrace`: name: `retrace` is the gateway's own name: choose another",
    ),
    (
        "name = \"shop\"",
        "name = \"my shop\"",
        "retrace.toml:10: target `my shop`: name: the name of a target has only letters, digits, `_`, `-` and `.`, since \
         clients give it as a database",
    ),
    (
        "[[mask]]",
        "[[principal]]\nname = \"dev\"\nkind = \"agent\"\ntargets = []\n[[mask]]",
        "retrace.toml:18: principal `dev`: name: there is a principal `dev` before this one: names are unique",
    ),
    (
        "evidence = \"all\"",
        "limits = { sessions_max = 2, session_max = 1 }",
        "retrace.toml:8: principal `dev`: limits: unknown key `session_max`; allowed: `sessions_max`, \
         `commands_per_second_max`, `commands_burst_max`, `bytes_per_second_max`",
    ),
    (
        "evidence = \"all\"",
        "limits = { commands_burst_max = 9 }",
        "retrace.toml:8: principal `dev`: limits: says nothing without a pace: set commands_per_second_max too, or leave \
         it out",
    ),
    (
        "[[mask]]",
        "[limits]\nsessions_per_source_max = 9\ncommands_burst_max = 9\n[[mask]]",
        "retrace.toml:19: limits: commands_burst_max: says nothing without a pace: set commands_per_second_max too, or \
         leave it out",
    ),
    (
        "[[mask]]",
        "[limits]\nsessions_max = -1\n[[mask]]",
        "retrace.toml:18: limits: sessions_max: invalid value: integer `-1`; allowed: u64",
    ),
    (
        "[[mask]]",
        "[[masks]]",
        "retrace.toml:17: masks `pii`: unknown key `masks`; allowed: `proxy`, `query`, `health`, `drain`, `log`, `lake`, `vault`, `retention`, `ingest`, `limits`, `policy`, `principal`, `target`, `mask`",
    ),
    (
        "database = \"shop\"",
        "database = 5",
        "retrace.toml:13: target `shop`: database: invalid type: integer `5`; allowed: a string",
    ),
    (
        "user = \"shop\"",
        "user = ",
        "retrace.toml:14: target `shop`: user: string values must be quoted; allowed: literal string",
    ),
];

#[test]
fn an_error_names_file_line_field_and_what_is_allowed() {
    for (from, to, expected) in WRONG {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(&text, GOOD, "{from} is not there");
        let error = parse(&text).expect_err(to).to_string();
        assert_eq!(&error, expected, "for {to}");
    }
}

#[test]
fn a_password_in_place_of_its_reference_is_not_repeated() {
    let text = GOOD.replace("{ env = \"SHOP_PASSWORD\" }", "\"hunter2\"");
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.starts_with("retrace.toml:15: target `shop`: password: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = Config::load(Path::new("/nowhere/retrace.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/retrace.toml: "), "{error}");
    assert!(error.contains("retrace init"), "{error}");
}

#[test]
fn periods_of_retention_are_days_and_none_is_longer_than_the_next() {
    let load = |retention: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("retrace.toml");
        std::fs::write(&file, format!("[retention]\n{retention}")).unwrap();
        Config::load(&file).map(|config| config.retention).map_err(|error| error.to_string())
    };
    let days = |short_days, standard_days, long_days| Periods { short_days, standard_days, long_days };
    assert_eq!(load(""), Ok(Periods::default()));
    assert_eq!(load("short_days = 1"), Ok(days(Some(1), None, None)));
    let all = "short_days = 30\nstandard_days = 400\nlong_days = 400";
    assert_eq!(load(all), Ok(days(Some(30), Some(400), Some(400))));
    for (wrong, said) in [
        (
            "short_days = 0",
            ":2: retention: short_days: is in days, 1 to 36525; what is to be kept for good has none",
        ),
        (
            "long_days = 40000",
            ":2: retention: long_days: is in days, 1 to 36525; what is to be kept for good has none",
        ),
        (
            "short_days = 30\nstandard_days = 20",
            ":3: retention: standard_days: `short_days` is 30: no class is kept for longer than the next",
        ),
        (
            "standard_days = 20",
            ":2: retention: standard_days: `short_days` is not there, which is for good: no class is kept for longer than \
             the next",
        ),
        (
            "short_days = 3\nlong_days = 20",
            ":3: retention: long_days: `standard_days` is not there, which is for good: no class is kept for longer than \
             the next",
        ),
        (
            "days = 7",
            ":2: retention: days: unknown key `days`; allowed: `short_days`, `standard_days`, `long_days`",
        ),
    ] {
        let error = load(wrong).unwrap_err();
        assert!(error.ends_with(said), "{error}\n{said}");
    }
}
