//! Retention: what is older than its period goes, what a legal hold keeps stays whole, and both are on record.

use retrace_tests::{Clock, Gate, Outcome, Postgres, run, wait_for};
use toml::Table;

use crate::common::PATIENCE;

/// A day, in seconds.
const DAY: i64 = 86_400;

/// Commands of a principal that are on record.
fn commands(gate: &Gate, principal: &str) -> u64 {
    let asked = format!(
        "SELECT count(*) AS n FROM commands WHERE principal = '{principal}' AND statement LIKE '%long ago%'"
    );
    gate.number(&asked)
}

fn psql_as(gate: &Gate, principal: &str, token: &str, statement: &str) -> Outcome {
    let mut command = gate.psql_command_as(principal, token);
    command.args(["-At", "-c", statement]);
    run(command, b"", PATIENCE)
}

#[test]
fn what_is_older_than_its_period_goes_and_what_a_hold_keeps_stays_until_it_is_lifted() {
    let mut gate = Gate::new(Postgres::shared().database());
    let ann = gate.add_principal("ann", &["shop"], "own");
    gate.edit(|config| {
        let dev = config["principal"][0].as_table_mut().expect("a table");
        dev.insert("hold".to_owned(), "all".into());
        let days = [("short_days", 10), ("standard_days", 20), ("long_days", 30)];
        let days = days.map(|(class, days)| (class.to_owned(), toml::Value::from(days)));
        config.insert("retention".to_owned(), Table::from_iter(days).into());
    });
    let clock = Clock::new();
    clock.step_to(-40 * DAY);
    gate.up_within(clock.surroundings());
    let _ = gate.psql("SELECT 'long ago'").expect_ok();
    let _ = psql_as(&gate, "ann", &ann, "SELECT 'long ago'").expect_ok();
    let refused = gate.retrace_as(Some(&ann), &["hold", "set", "--principal", "ann"]).expect_failure();
    assert!(refused.contains("`ann` may not set or lift legal holds"), "{refused}");
    let held = gate.retrace(&["hold", "set", "--principal", "ann", "--reason", "case 7"]);
    let said = held.err();
    assert!(held.status.success() && said.contains("the table has its record"), "{said}");
    assert!(said.contains(" events are on record that it keeps"), "{said}");
    let listed = gate.retrace(&["hold", "list", "--format", "json"]).expect_ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed[0]["held"], &listed[0]["reason"]), (&"principal ann".into(), &"case 7".into()));
    let (hold_id, cut) = (listed[0]["hold_id"].as_str().expect("an id").to_owned(), cut(&gate));
    assert_eq!((commands(&gate, "dev"), commands(&gate, "ann")), (1, 1));
    assert!(gate.stop().success(), "a clean end");

    // A log that has not gone on for a day may have a wrong clock.
    clock.step_to(-2 * DAY);
    gate.up_within(clock.surroundings());
    let _ = gate.psql("SELECT 'two days ago'").expect_ok();
    assert!(gate.stop().success(), "a clean end");
    gate.up();
    wait_for("what nobody holds is gone", PATIENCE, || (commands(&gate, "dev") == 0).then_some(()));
    assert_eq!(commands(&gate, "ann"), 1);
    let states = gate.sql("SELECT state FROM sessions WHERE principal = 'ann'");
    assert_eq!(states[0]["state"], "closed", "it is whole, and its end is proved: {states:?}");
    let removals =
        "SELECT count(*) AS n FROM events WHERE event_type = 'retention_applied' AND row_count > 0";
    let told = gate.number(removals);
    assert!(told > 0, "what went is on record");
    let asked = gate.retrace(&["sql", "SELECT 1"]);
    assert!(asked.err().contains("; retention has removed "), "{}", asked.err());
    let past = format!("SELECT count(*) FROM commands WHERE statement LIKE '%long ago%' AS OF CUT '{cut}';");
    let asked = gate.psql_at_evidence("dev", &gate.dev_token(), &past);
    assert_eq!(asked.out().trim(), "1", "{}", asked.err());
    let said = asked.err();
    assert!(said.contains("NOTICE") && said.contains("retention has removed "), "{said}");

    let lifted = gate.retrace(&["hold", "lift", &hold_id, "--reason", "closed"]);
    assert!(lifted.status.success() && lifted.err().contains("the table has its record"), "{}", lifted.err());
    wait_for("what was held is gone", PATIENCE, || (commands(&gate, "ann") == 0).then_some(()));
    assert!(gate.number(removals) > told);
    let sessions = gate.number("SELECT count(*) AS n FROM sessions WHERE principal = 'ann'");
    assert_eq!(sessions, 0, "as a whole");
    let again = gate.retrace(&["hold", "lift", &hold_id]).expect_failure();
    assert!(again.contains("no hold of this id is in force"), "{again}");
    let none = gate.retrace(&["hold", "list", "--format", "jsonl"]).expect_ok();
    assert_eq!(none, "");
    let all = gate.retrace(&["hold", "list", "--all", "--format", "json"]).expect_ok();
    assert!(all.contains(&hold_id) && all.contains("closed"), "{all}");
}

/// Up to where an answer sees the log now.
fn cut(gate: &Gate) -> String {
    let said = gate.retrace(&["sql", "SELECT 1"]).err();
    let cut = said.lines().find_map(|line| line.split_once("every event with "));
    cut.unwrap_or_else(|| panic!("no cut in: {said}")).1.trim().to_owned()
}
