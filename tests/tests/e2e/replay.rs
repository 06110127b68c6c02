//! A recorded session, played.

use retrace_tests::{Gate, Postgres, Wire, payment_card};
use serde_json::Value;

fn last_session(gate: &Gate) -> String {
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
    let text = serde_json::to_string(&gate.replay("last")).expect("it was JSON");
    let mut from = 0;
    for number in 0..20 {
        let statement = format!("SELECT {number} AS number");
        let at = text[from..].find(&statement);
        from += at.unwrap_or_else(|| panic!("no {statement} after byte {from} of {text}"));
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
    let shown = gate.retrace(&["replay", "last", "--instant"]).expect_ok();
    assert!(shown.contains("before the kill"), "{shown}");
    let whole = Gate::started(Postgres::shared().database());
    let _ = whole.psql("SELECT 'before the kill'").expect_ok();
    let kinds = |items: Vec<Value>| -> Vec<String> {
        items
            .iter()
            .filter_map(|item| item["type"].as_str().or(item["item"].as_str()))
            .map(str::to_owned)
            .collect()
    };
    let (cut, ended) = (kinds(gate.replay("last")), kinds(whole.replay("last")));
    assert!(!ended.is_empty() && cut != ended, "{cut:?} against {ended:?}");
}
