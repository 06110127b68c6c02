//! What the target, the clients and the evidence say of the same commands, when all is done.

use std::collections::BTreeSet;

use retrace_proto::Id;

use super::load::{Done, now_unix_ms};
use super::services::Services;
use super::work::PREPARED;
use crate::{RECORDED_INSERTS, assert_nothing_lost_nothing_twice, inserts_on_record};

/// Of so much time inserts are asked for at once: an answer of all would not come within a question's time.
const SLICE_MS: u64 = 600_000;

/// Counts that came out as they must.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Rows of the target, inserts that were acknowledged, and such that are on record with their answer.
    pub(super) inserts: usize,
    /// Commands that were asked or prepared, and those on record.
    pub(super) commands: u64,
    /// Those that the gate refused.
    pub(super) refused: u64,
    /// Sessions that were opened, and those on record.
    pub(super) sessions: u64,
    /// All events, each once.
    pub(super) events: u64,
    /// Files that were merged.
    pub(super) merged: f64,
}

/// P1 and P3, by counting against the target. No fault strikes here, so that nothing may differ.
#[track_caller]
pub(super) fn assert_evidence(services: &Services<'_>, done: &Done) -> Counted {
    let rows = services.database.sql("SELECT number FROM sent");
    let held: BTreeSet<u64> = rows.iter().map(|row| row.parse().expect("a number")).collect();
    assert_eq!(rows.len(), held.len(), "a row is there twice");
    assert_same("acknowledged", &done.inserted, &held);
    let (commands, answered) = recorded(services, done.began_unix_ms);
    assert_same("on record", &commands, &held);
    assert_same("on record with their answer", &answered, &held);

    let gate = &services.gate;
    let names: Vec<_> = services.principals.iter().map(|(name, _)| format!("'{name}'")).collect();
    let of_load = |kind: &str| {
        let names = names.join(", ");
        gate.number(&format!(
            "SELECT count(*) AS n FROM events WHERE event_type = '{kind}' AND principal IN ({names}) AND stream_kind = 'session'"
        ))
    };
    let asked = done.answered + PREPARED * done.sessions;
    assert_eq!(
        of_load("command_received"),
        asked,
        "commands on record, and those that were asked or prepared"
    );
    assert_eq!(
        of_load("command_refused"),
        done.refused,
        "refusals on record, and those that clients were told"
    );
    assert_eq!(of_load("session_opened"), done.sessions, "sessions on record, and those that were opened");
    let events = assert_nothing_lost_nothing_twice(gate);
    let merged = assert_upkeep(services);
    Counted {
        inserts: held.len(),
        commands: asked,
        refused: done.refused,
        sessions: done.sessions,
        events,
        merged,
    }
}

/// What ingest did beside its steps came through. Gives how many files were merged.
#[track_caller]
fn assert_upkeep(services: &Services<'_>) -> f64 {
    for metric in [
        "retrace_ingest_dead_letters_total",
        "retrace_ingest_duplicates_total",
        "retrace_compaction_failures_total",
        "retrace_compaction_files_left_alone_total",
        "retrace_retention_failures_total",
        "retrace_retention_files_unfit",
        "retrace_retention_rows_removed_total",
    ] {
        let said = services.ingests_say(metric);
        assert!(said.abs() < 0.5, "{metric} is {said}");
    }
    services.ingests_say("retrace_compaction_files_merged_total")
}

/// The inserts on record since the load began, and those with their answer.
fn recorded(services: &Services<'_>, began_unix_ms: u64) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut commands, mut answered) = (BTreeSet::new(), BTreeSet::new());
    // Ids of sessions begin with the time of their gate, which has the clock of this machine.
    let (mut from, end) = (began_unix_ms.saturating_sub(SLICE_MS), now_unix_ms());
    while from <= end {
        let [first, next] = [from, from + SLICE_MS].map(|unix_ms| Id::from_parts(unix_ms, [0; 10]));
        let asked = format!("{RECORDED_INSERTS} AND session_id >= '{first}' AND session_id < '{next}'");
        let (more_commands, more_answered) = inserts_on_record(&services.gate.sql(&asked));
        for number in more_commands {
            assert!(commands.insert(number), "{number} is on record twice");
        }
        answered.extend(more_answered);
        from += SLICE_MS;
    }
    (commands, answered)
}

#[track_caller]
fn assert_same(what: &str, found: &BTreeSet<u64>, held: &BTreeSet<u64>) {
    let more: Vec<_> = found.difference(held).take(10).collect();
    assert!(more.is_empty(), "{what}, but not in the target: {more:?}");
    let fewer: Vec<_> = held.difference(found).take(10).collect();
    assert!(fewer.is_empty(), "in the target, but not {what}: {fewer:?}");
}
