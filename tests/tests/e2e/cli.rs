//! The command line: its files, its forms of output, its words.

use std::os::unix::fs::PermissionsExt;

use retrace_tests::{Gate, Postgres, run};
use serde_json::Value;

use crate::common::{PATIENCE, session_ends};

#[test]
fn init_keeps_secrets_to_their_owner_and_refuses_a_second_time() {
    let gate = Gate::new(Postgres::shared().database());
    let mode = |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&gate.dir().join("dev.token")), 0o600);
    let mut secrets = retrace_tests::files_under(&gate.dir().join("keys"));
    secrets.retain(|path| path.extension().is_some_and(|extension| extension == "key"));
    assert!(secrets.len() >= 2, "{secrets:?}");
    for path in secrets {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let token = gate.dev_token();
    let config = std::fs::read(gate.config_file()).expect("it is there");
    let dir = gate.dir().display().to_string();
    let said = gate.retrace(&["init", &dir]).expect_failure();
    assert!(said.contains("retrace.toml"), "{said}");
    assert_eq!(gate.dev_token(), token);
    assert_eq!(std::fs::read(gate.config_file()).expect("it is there"), config);
}

#[test]
fn version_and_help_answer() {
    let gate = Gate::new(Postgres::shared().database());
    let version = gate.retrace(&["version"]).expect_ok();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let help = gate.retrace(&["--help"]).expect_ok();
    for command in ["init", "up", "check", "token", "sessions", "sql", "tail", "replay", "version"] {
        assert!(help.contains(command), "{command} is not in: {help}");
    }
    let wrong = gate.retrace(&["no-such-command"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.err());
}

#[test]
fn sql_answers_in_each_of_its_formats() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 'a, \"b\"\n' AS odd").expect_ok();
    let asked =
        "SELECT 1 AS one, 'a, \"b\"' AS text, NULL AS nothing UNION ALL SELECT 2, 'ü', NULL ORDER BY one";
    let answer = |format: &str| gate.retrace(&["sql", "--format", format, asked]).expect_ok();

    let rows: Vec<Value> = serde_json::from_str(&answer("json")).expect("json is one JSON value");
    let lines: Vec<Value> =
        answer("jsonl").lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(rows, lines);
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["one"], &rows[0]["text"]), (&Value::from(1), &Value::from("a, \"b\"")));
    assert!(rows[0]["nothing"].is_null());
    assert_eq!(answer("csv"), "one,text,nothing\n1,\"a, \"\"b\"\"\",\n2,ü,\n");
    let table = answer("table");
    assert!(["one", "text", "a, \"b\"", "ü"].iter().all(|part| table.contains(part)), "{table}");
    let wrong = gate.retrace(&["sql", "--format", "xml", "SELECT 1"]).expect_failure();
    assert!(["table", "csv", "json", "jsonl"].iter().all(|format| wrong.contains(format)), "{wrong}");
}

#[test]
fn sql_reads_a_statement_from_its_input() {
    let gate = Gate::started(Postgres::shared().database());
    let command = gate.retrace_command(None, &["sql", "--format", "csv", "-"]);
    assert_eq!(run(command, b"SELECT 1 AS one\n", PATIENCE).expect_ok(), "one\n1\n");
}

#[test]
fn a_token_is_created_listed_and_revoked_without_being_shown_again() {
    let gate = Gate::started(Postgres::shared().database());
    let token = gate.new_token("dev");
    let (id, secret) =
        token.trim_start_matches("rt_").split_once('_').expect("a token has an id and a secret");
    let listed = gate.retrace(&["token", "list"]).expect_ok();
    assert!(listed.contains(id) && listed.contains("dev"), "{listed}");
    assert!(!listed.contains(secret), "{listed}");
    assert_eq!(gate.sql_as(Some(&token), "SELECT 1 AS n")[0]["n"], 1);
    let _ = gate.retrace(&["token", "revoke", id]).expect_ok();
    let refused = gate.retrace_as(Some(&token), &["sql", "SELECT 1"]).expect_failure();
    assert!(refused.contains("token"), "{refused}");
    let unknown = gate.retrace(&["token", "create", "nobody-known"]).expect_failure();
    assert!(unknown.contains("nobody-known"), "{unknown}");
    let missing = gate.retrace(&["token", "revoke", "no-such-id"]).expect_failure();
    assert!(missing.contains("token list"), "{missing}");
}

#[test]
fn sessions_lists_who_was_where_and_whether_it_goes_on() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 1; SELECT 2").expect_ok();
    session_ends(&gate, 1);
    let open = retrace_tests::Wire::signed_in(&gate).expect("the gate lets `dev` in");
    let listed = gate.retrace(&["sessions"]).expect_ok();
    assert!(listed.contains("dev") && listed.contains("shop"), "{listed}");
    let rows = gate.sql("SELECT principal, target, state, commands FROM sessions ORDER BY opened_at");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!((&rows[0]["state"], &rows[0]["commands"]), (&Value::from("closed"), &Value::from(2)));
    assert_eq!((&rows[1]["state"], &rows[1]["target"]), (&Value::from("open"), &Value::from("shop")));
    drop(open);
}
