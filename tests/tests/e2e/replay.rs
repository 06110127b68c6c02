//! A recorded session, played.

use retrace_tests::{Gate, Postgres, Wire, payment_card};
use serde_json::Value;

use crate::common::session_ends;

/// The id of the latest session, once its end is on record.
fn last_session(gate: &Gate) -> String {
    session_ends(gate, 1);
    let rows = gate.sql("SELECT session_id FROM sessions ORDER BY opened_at DESC LIMIT 1");
    rows[0]["session_id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_replay_shows_who_asked_what_and_the_masked_result() {
    let database = Postgres::shared().database();
    let visa = payment_card("492918273645546");
    database.seed(&format!(
        "CREATE TABLE cards (owner text, card text); INSERT INTO cards VALUES ('ada', '{visa}')"
    ));
    let gate = Gate::started(database);
    let _ = gate.psql("SELECT owner, card FROM cards;\nSELECT no_such_column;\nSELECT NULL AS nothing;");
    let session = last_session(&gate);
    let shown = gate.retrace(&["replay", &session, "--instant"]).expect_ok();
    let masked = format!("************{}", &visa[12..]);
    for part in ["dev", "shop", "SELECT owner, card FROM cards", "ada", &masked, "no_such_column", "nothing"]
    {
        assert!(shown.contains(part), "no {part} in:\n{shown}");
    }
    assert!(!shown.contains(&visa), "{shown}");
    let first = shown.find("owner, card").expect("the first statement");
    assert!(first < shown.find("no_such_column").expect("the second statement"), "{shown}");
}

#[test]
fn a_session_is_found_by_its_id_by_a_beginning_of_it_and_as_the_last() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT 'the only session'").expect_ok();
    let session = last_session(&gate);
    let whole = gate.replay(&session);
    assert_eq!(gate.replay(&session[..13]), whole);
    assert_eq!(gate.replay("last"), whole);
    let error = gate.retrace(&["replay", "ffffffff", "--instant"]).expect_failure();
    assert!(error.contains("ffffffff"), "{error}");
}

#[test]
fn a_replay_as_json_is_whole_and_in_order() {
    let gate = Gate::started(Postgres::shared().database());
    let script: String = (0..20).map(|number| format!("SELECT {number} AS number;\n")).collect();
    let _ = gate.psql(&script).expect_ok();
    session_ends(&gate, 1);
    let items = gate.replay("last");
    let kinds: Vec<_> = items.iter().map(|item| item["item"].as_str().expect("an item has a kind")).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("opened", "closed"));
    let commands: Vec<_> = items.iter().filter(|item| item["item"] == "command").collect();
    assert_eq!(commands.len(), 20);
    for (number, command) in commands.iter().enumerate() {
        assert_eq!(command["asked"]["statement"], format!("SELECT {number} AS number;"));
        assert_eq!(command["response"][0]["rows"]["rows"][0][0], number.to_string());
        assert_eq!(command["end"]["status"], "ok");
    }
}

#[test]
fn a_replay_never_sends_what_a_terminal_would_obey() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql("SELECT E'\\x1b[2J\\x07\\u009b31m\\u202e' AS evil").expect_ok();
    let shown = gate.retrace(&["replay", "last", "--instant"]).expect_ok();
    let obeyed = shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(obeyed, None, "{shown:?}");
    assert!(shown.contains("evil"), "{shown}");
}

#[test]
fn a_replay_of_a_killed_gate_says_that_the_end_is_missing() {
    let mut gate = Gate::started(Postgres::shared().database());
    let mut wire = Wire::signed_in(&gate).expect("the gate lets `dev` in");
    wire.query("SELECT 'before the kill'").expect("the session lives");
    gate.kill();
    gate.up();
    let shown = gate.retrace(&["replay", "last", "--instant"]).out();
    assert!(shown.contains("before the kill"), "{shown}");
    let kinds: Vec<String> = gate
        .retrace(&["replay", "last", "--instant", "--format", "json"])
        .out()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
        .filter_map(|item| item["item"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(kinds, ["opened", "command", "missing_end"]);
}
