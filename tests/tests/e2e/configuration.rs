//! A configuration error names file, line and field, and says what is allowed.

use retrace_tests::{Gate, Postgres};

struct Case {
    /// What is replaced in a configuration that is right; nothing: `with` is added at the end.
    replace: &'static str,
    with: &'static str,
    /// Words the error must have.
    says: &'static [&'static str],
}

const fn case(replace: &'static str, with: &'static str, says: &'static [&'static str]) -> Case {
    Case { replace, with, says }
}

const CASES: &[Case] = &[
    case("durability = \"exchange\"", "durability = \"never\"", &["durability", "exchange"]),
    case("protocol = \"postgres\"", "protocol = \"mysql\"", &["protocol", "postgres"]),
    case("action = \"partial\"", "action = \"vanish\"", &["action", "redact", "partial"]),
    case("\"payment_card\"", "\"passport\"", &["passport", "payment_card", "email"]),
    case("targets = [\"shop\"]", "targets = [\"nowhere\"]", &["nowhere", "shop"]),
    case("evidence = \"all\"", "evidence = \"some\"", &["evidence", "none", "own", "all"]),
    case("kind = \"human\"", "kind = \"robot\"", &["kind", "human", "agent", "service"]),
    case("tls = \"disable\"", "tls = \"maybe\"", &["tls", "disable", "require", "verify-ca", "verify-full"]),
    case("tls = \"disable\"", "tls = \"prefer\"", &["tls", "cleartext", "verify-full"]),
    case("tls = \"disable\"", "tlss = \"disable\"", &["tlss"]),
    case("address = \"127.0.0.1:", "address = \"127.0.0.1/", &["address"]),
    case("user = \"shop\"", "user = 7", &["user"]),
    case("[[mask]]", "[[mask]", &["retrace.toml"]),
    case(
        "",
        "\n[[target]]\nname = \"shop\"\nprotocol = \"postgres\"\naddress = \"127.0.0.1:1\"\ndatabase = \"d\"\n\
         user = \"u\"\npassword = { env = \"SHOP_PASSWORD\" }\n",
        &["shop"],
    ),
    case("", "\n[[principal]]\nname = \"dev\"\nkind = \"human\"\ntargets = []\n", &["dev"]),
    case("", "\n[nonsense]\n", &["nonsense"]),
];

#[test]
fn a_configuration_error_names_file_line_field_and_what_is_allowed() {
    let gate = Gate::new(Postgres::shared().database());
    let right = std::fs::read_to_string(gate.config_file()).expect("init wrote it");
    let _ = gate.retrace(&["check"]).expect_ok();
    for Case { replace, with, says } in CASES {
        let wrong = match *replace {
            "" => format!("{right}{with}"),
            there => {
                assert!(right.contains(there), "{there} is not in: {right}");
                right.replacen(there, with, 1)
            }
        };
        std::fs::write(gate.config_file(), &wrong).expect("it is writable");
        let error = gate.retrace(&["check"]).expect_failure();
        for word in *says {
            assert!(error.contains(word), "{with}: no {word} in: {error}");
        }
        let line = error
            .split("retrace.toml:")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let line: usize =
            line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("no line in: {error}"));
        assert!((1..=wrong.lines().count()).contains(&line), "line {line} of: {error}");
    }
}

#[test]
fn up_refuses_a_wrong_configuration_before_it_listens() {
    let mut gate = Gate::new(Postgres::shared().database());
    gate.edit(|config| {
        config["target"][0].as_table_mut().expect("a table").insert("durability".into(), "never".into());
    });
    let error = gate.try_up().expect_err("it must not start");
    assert!(error.contains("retrace.toml:") && error.contains("durability"), "{error}");
}

#[test]
fn up_names_a_secret_that_is_missing() {
    let mut gate = Gate::new(Postgres::shared().database());
    gate.edit(|config| {
        let password: toml::Table = "env = \"NO_SUCH_VARIABLE_OF_RETRACE\"".parse().expect("TOML");
        config["target"][0].as_table_mut().expect("a table").insert("password".into(), password.into());
    });
    let error = gate.try_up().expect_err("it must not start");
    assert!(error.contains("NO_SUCH_VARIABLE_OF_RETRACE"), "{error}");
}

#[test]
fn a_second_gate_on_the_same_log_names_the_process_of_the_first() {
    let gate = Gate::started(Postgres::shared().database());
    let second = gate.retrace(&["up"]).expect_failure();
    assert!(second.contains(&gate.pid().to_string()) || second.contains("in use"), "{second}");
}

#[test]
fn a_missing_configuration_is_named() {
    let gate = Gate::new(Postgres::shared().database());
    std::fs::remove_file(gate.config_file()).expect("init wrote it");
    let error = gate.retrace(&["check"]).expect_failure();
    assert!(error.contains("retrace.toml") && error.contains("init"), "{error}");
}
