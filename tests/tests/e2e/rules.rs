//! Rules in Cedar, in front of a real PostgreSQL: what they forbid has no effect there, and is on record.

use std::fs;

use retrace_tests::{Gate, Postgres, client, wait_for};
use rustix::process::Signal;

use crate::common::PATIENCE;

const RULES: &str = r#"
permit(principal, action in [Action::"connect", Action::"read"], resource);
permit(principal, action == Action::"execute", resource);
permit(principal in Group::"writers", action in Action::"execute", resource);

@id("payments are not read by agents")
forbid(principal, action in Action::"execute", resource)
when { principal.kind == Kind::"agent" && context.statement.relations.contains("public.payments") };

@id("not everything at once")
@advice("Say in WHERE which rows you mean.")
forbid(principal, action == Action::"write", resource)
unless { context.statement.has_where };

@id("production is not defined by hand")
forbid(principal, action == Action::"ddl", resource)
when { resource.hasTag("env") && resource.getTag("env") == "production" };
"#;

/// A gate with these rules over a shop in production; `dev` is a human who writes, `bot` an agent who may read.
fn gate(rules: &str) -> (Gate, String) {
    let database = Postgres::shared().database();
    database.seed(
        "CREATE TABLE orders (id int PRIMARY KEY, amount int); INSERT INTO orders SELECT n, n FROM generate_series(1, 9) n;
         CREATE TABLE payments (id int, card text); INSERT INTO payments VALUES (1, 'x');
         CREATE VIEW paid AS SELECT card FROM payments;",
    );
    let gate = Gate::new(database);
    let token = gate.add_principal("bot", &[], "none");
    gate.edit(|config| {
        let principals = config["principal"].as_array_mut().expect("a list");
        let dev = principals[0].as_table_mut().expect("a table");
        dev.insert("groups".to_owned(), vec!["writers"].into());
        dev.insert("targets".to_owned(), toml::Value::Array(Vec::new()));
        let file = toml::Table::from_iter([("file".to_owned(), "policy.cedar".into())]);
        config.insert("policy".to_owned(), file.into());
        config["target"][0].as_table_mut().expect("a table").insert(
            "labels".to_owned(),
            toml::Table::from_iter([("env".to_owned(), "production".into())]).into(),
        );
    });
    fs::write(gate.dir().join("policy.cedar"), rules).expect("the folder is ours");
    (gate, token)
}

#[test]
fn what_a_rule_forbids_has_no_effect_and_is_on_record() {
    let (mut gate, token) = gate(RULES);
    gate.up();
    let by_agent = |script: &str| {
        let mut command = gate.psql_command_as("bot", &token);
        command.args(["-Atq", "-c", script]);
        retrace_tests::run(command, b"", PATIENCE)
    };
    assert_eq!(gate.psql("SELECT count(*) FROM orders").expect_ok().trim(), "9");
    assert_eq!(by_agent("SELECT count(*) FROM orders").expect_ok().trim(), "9");
    for (said, rule) in [
        (gate.psql("DELETE FROM orders"), "not everything at once"),
        (gate.psql("UPDATE orders SET amount = 0 WHERE true"), "not everything at once"),
        (gate.psql("DROP TABLE orders"), "production is not defined by hand"),
        (by_agent("SELECT * FROM payments"), "payments are not read by agents"),
        (by_agent("SELECT * FROM paid"), "payments are not read by agents"),
    ] {
        assert!(said.err().contains(&format!("the rule \"{rule}\" forbids this")), "{}", said.err());
    }
    assert!(gate.psql("DELETE FROM orders").err().contains("Say in WHERE which rows you mean."));
    assert!(by_agent("DELETE FROM orders WHERE id = 1").err().contains("no rule permits this"));
    assert_eq!(gate.psql("SELECT card FROM paid").expect_ok().trim(), "x");
    let _ = gate.psql("DELETE FROM orders WHERE id = 1").expect_ok();
    assert_eq!(gate.psql("SELECT count(*) FROM orders").expect_ok().trim(), "8");

    let refused =
        "SELECT count(*) AS n FROM events WHERE event_type = 'command_received' AND decision_rule = ";
    for (rule, count) in [
        ("policy:not everything at once", 3),
        ("policy:production is not defined by hand", 1),
        ("policy:payments are not read by agents", 2),
        ("policy.default", 1),
    ] {
        assert_eq!(gate.number(&format!("{refused}'{rule}'")), count, "{rule}");
    }
}

#[test]
fn rules_are_read_again_with_the_configuration_and_bad_ones_change_nothing() {
    let (mut gate, _) = gate(RULES);
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    let reload = |counter: &str| {
        let before = health.metric(counter);
        gate.signal(Signal::HUP);
        wait_for("the configuration was read again", PATIENCE, || {
            (health.metric(counter) > before).then_some(())
        });
    };
    let file = gate.dir().join("policy.cedar");
    fs::write(&file, "permit(principal in Group::\"writer\", action, resource);").expect("ours");
    reload("retrace_config_reload_failures_total");
    let said = String::from_utf8_lossy(&gate.said()).into_owned();
    assert!(
        said.contains("policy.cedar:1:21: there is no Group::\"writer\"; retrace.toml has writers"),
        "{said}"
    );
    assert!(gate.psql("DELETE FROM orders").err().contains("not everything at once"));

    // An open session goes by the new rules as well.
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let open = runtime.block_on(client::connect(&gate));
    let update = || runtime.block_on(open.client.simple_query("UPDATE orders SET amount = amount"));
    assert!(update().is_err());
    fs::write(
        &file,
        RULES.replace(
            "unless { context.statement.has_where }",
            "unless { context.statement.has_where || context.statement.verb == \"UPDATE\" }",
        ),
    )
    .expect("ours");
    reload("retrace_config_reloads_total");
    let _ = update().expect("it is allowed now");
    fs::write(&file, RULES).expect("ours");
    reload("retrace_config_reloads_total");
    assert!(update().is_err());

    fs::write(&file, "permit(principal, action, resource);").expect("ours");
    reload("retrace_config_reloads_total");
    let _ = update().expect("no rule can concern it");
    assert_eq!(gate.psql("DELETE FROM orders; SELECT count(*) FROM orders").expect_ok().trim(), "0");
    assert_eq!(gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'policy_loaded'"), 4);
}

#[test]
fn who_may_not_connect_is_told_that_there_is_no_such_target() {
    let (mut gate, token) = gate("permit(principal in Group::\"writers\", action, resource);");
    gate.up();
    let mut command = gate.psql_command_as("bot", &token);
    command.args(["-c", "SELECT 1"]);
    let said = retrace_tests::run(command, b"", PATIENCE);
    assert!(said.err().contains("there is no target \"shop\" for \"bot\""), "{}", said.err());
    let _ = gate.psql("SELECT 1").expect_ok();
}

#[test]
fn check_tells_what_is_wrong_with_rules_by_file_line_and_column() {
    let (gate, _) = gate(
        "permit(principal, action, resource);\n\nforbid(principal, action == Action::\"exec\", resource);",
    );
    let said = gate.retrace(&["check"]).expect_failure();
    assert!(said.contains("policy.cedar:3:"), "{said}");
    fs::write(gate.dir().join("policy.cedar"), RULES).expect("ours");
    let _ = gate.retrace(&["check"]).expect_ok();
}
