//! Counts that come out only if nothing was lost and nothing is there twice.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Gate;

/// Inserts into the table `sent` that are on record, as far as they can be told apart.
pub const RECORDED_INSERTS: &str =
    "SELECT statement, parameters, status FROM commands WHERE statement LIKE 'INSERT INTO sent VALUES (%'";

/// Fails unless every stream counts from 0 without a gap or a repetition, and every topic partition likewise; gives the
/// number of events.
///
/// # Panics
/// If something is lost or there twice.
#[track_caller]
pub fn assert_nothing_lost_nothing_twice(gate: &Gate) -> u64 {
    for (group, position) in [("stream_id", "stream_seq"), ("topic, topic_partition", "log_offset")] {
        let uneven = gate.sql(&format!(
            "SELECT {group}, count(*) AS n, count(DISTINCT {position}) AS positions, min({position}) AS first,
                    max({position}) AS last, count(*) FILTER (WHERE row_kind <> 'event') AS no_events
             FROM events GROUP BY {group}
             HAVING count(*) <> max({position}) + 1 OR count(DISTINCT {position}) <> count(*) OR min({position}) <> 0"
        ));
        assert!(uneven.is_empty(), "gaps or repetitions by {group}: {uneven:?}");
    }
    let odd = gate.number("SELECT count(*) AS n FROM events WHERE row_kind <> 'event'");
    assert_eq!(odd, 0, "rows that are no events");
    gate.number("SELECT count(*) AS n FROM events")
}

/// Of the rows of [`RECORDED_INSERTS`] the numbers whose insert is on record, and those of them whose answer is.
///
/// # Panics
/// If one is there twice.
#[must_use]
#[track_caller]
pub fn inserts_on_record(rows: &[Value]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut commands, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let statement = row["statement"].as_str().expect("a command has a statement");
        let text =
            if statement.contains("$1") { row["parameters"].to_string() } else { statement.to_owned() };
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        // Only the execution of a prepared statement has parameters.
        let Ok(number) = digits.parse() else { continue };
        assert!(commands.insert(number), "{number} is on record twice");
        if row["status"] == "ok" {
            answered.insert(number);
        }
    }
    (commands, answered)
}
