use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use retrace_proto::log::Topic;
use retrace_proto::{HOLD_EVENTS, Id};

use super::{Held, Retention, STREAM_DAYS_MAX};
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::lift::day;
use crate::places::columns;
use crate::rows::RowKind;

/// The retention classes, as the column spells them.
const CLASSES: [&str; 3] = ["short", "standard", "long"];

/// What tells of retention itself is never removed, nor is what sets and lifts holds.
const REMOVALS: &str = "retention_applied";

/// Without these nobody can tell whether a session that is held is whole.
const HEADS: &str = "stream_heads";

/// The columns that decide whether a row is kept.
pub(super) const COLUMNS: [&str; 11] = [
    "appended_at",
    "occurred_at",
    "row_kind",
    "event_type",
    "stream_kind",
    "stream_id",
    "session_id",
    "connection_id",
    "principal",
    "on_behalf_of",
    "target",
];

/// The day by which it is judged whether an event of a session has expired, in days since the Unix epoch: it has once this is
/// before the first day that is kept of its class ([`Snapshot::first_days_kept`](crate::Snapshot::first_days_kept)).
///
/// It is the day on which the stream began by its id, but none that is more than [`STREAM_DAYS_MAX`] before the log took the
/// event: an id that is made to look old makes nothing old. `None` if these two do not say it: the id has no time, or the log
/// had none, which it shows by the beginning of time.
#[must_use]
pub fn session_day(stream_id: Id, appended_at_unix_us: i64) -> Option<i32> {
    let earliest = known_day(appended_at_unix_us)?.saturating_sub(STREAM_DAYS_MAX);
    let began_us = i64::try_from(stream_id.unix_ms()?).ok()?.checked_mul(1000)?;
    Some(day(began_us).max(earliest))
}

/// The day of a time of the log or of a writer; `None` for the beginning of time, which says that there was none.
fn known_day(unix_us: i64) -> Option<i32> {
    (unix_us > 0).then(|| day(unix_us))
}

impl Held {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.principals.is_empty() && self.targets.is_empty()
    }

    fn holds(&self, row: &Facts<'_>) -> bool {
        let is_in = |names: &BTreeSet<String>, name: Option<&str>| name.is_some_and(|it| names.contains(it));
        is_in(&self.sessions, row.session_id)
            || is_in(&self.sessions, row.stream_id)
            || is_in(&self.sessions, row.connection_id)
            || is_in(&self.principals, row.principal)
            || is_in(&self.principals, row.on_behalf_of)
            || is_in(&self.targets, row.target)
    }
}

impl Retention {
    /// The first day of which is kept what processes wrote of themselves; `None` if it is kept for good.
    pub(super) fn first_day_of_processes(&self) -> Option<i32> {
        let days = CLASSES.map(|class| self.first_days_kept.get(class).copied());
        days.into_iter().collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Whether a file may have rows that are not kept.
    pub(super) fn concerns(&self, file: &DataFile) -> bool {
        let first = self.first_days_kept.get(&file.retention_class);
        first.is_some_and(|first| file.session_date.saturating_sub(STREAM_DAYS_MAX) < *first)
    }

    /// Until when a row of a class is kept.
    pub(super) fn lot(&self, row: &Facts<'_>, topic: Topic) -> Lot {
        let tells_of_retention = row.event_type.is_some_and(|it| it == REMOVALS || HOLD_EVENTS.contains(&it));
        if tells_of_retention || (row.is_dead_letter && topic == Topic::Control) {
            return Lot::Kept;
        }
        let may_be_of_a_held_one = row.event_type == Some(HEADS) || row.is_dead_letter;
        if !self.held.is_empty() && (may_be_of_a_held_one || self.held.holds(row)) {
            return Lot::Kept;
        }
        match row.stream_kind {
            Some("session") => row.begun().map_or(Lot::Kept, Lot::OfSession),
            _ => row.written().map_or(Lot::Kept, Lot::OfProcess),
        }
    }
}

/// What becomes of a row.
pub(super) enum Lot {
    /// It stays, as long as holds are what they are.
    Kept,
    /// It is of a session that began on this day.
    OfSession(i32),
    /// It is of a process, and of this day.
    OfProcess(i32),
}

/// The least days of the rows of a file that may go one day: until these are past nothing of it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Least {
    pub(super) of_sessions: Option<i32>,
    pub(super) of_processes: Option<i32>,
}

impl Least {
    pub(super) fn note(least: &mut Option<i32>, day: i32) {
        *least = Some(least.map_or(day, |least| least.min(day)));
    }

    /// Whether something goes, where these are the first days that are kept.
    pub(super) fn is_due(self, of_sessions: Option<i32>, of_processes: Option<i32>) -> bool {
        let is_due =
            |least: Option<i32>, first: Option<i32>| least.zip(first).is_some_and(|(it, first)| it < first);
        is_due(self.of_sessions, of_sessions) || is_due(self.of_processes, of_processes)
    }
}

/// What of a row decides whether it is kept.
pub(super) struct Facts<'a> {
    /// In microseconds since the Unix epoch, as the other.
    appended_at: Option<i64>,
    occurred_at: Option<i64>,
    is_dead_letter: bool,
    event_type: Option<&'a str>,
    stream_kind: Option<&'a str>,
    stream_id: Option<&'a str>,
    session_id: Option<&'a str>,
    connection_id: Option<&'a str>,
    principal: Option<&'a str>,
    on_behalf_of: Option<&'a str>,
    target: Option<&'a str>,
}

impl Facts<'_> {
    /// The day on which its stream began; `None` if nobody knows.
    fn begun(&self) -> Option<i32> {
        let id = self.stream_id.and_then(|text| text.parse::<Id>().ok());
        let by_id = id.zip(self.appended_at).and_then(|(id, appended_at)| session_day(id, appended_at));
        by_id.or_else(|| self.written())
    }

    /// The day on which it was written; `None` if nobody knows.
    fn written(&self) -> Option<i32> {
        let appended = self.appended_at.and_then(known_day)?;
        Some(self.occurred_at.and_then(known_day).map_or(appended, |occurred| occurred.max(appended)))
    }
}

/// The columns that decide, in the table's own types.
pub(super) struct Deciding {
    appended_at: TimestampMicrosecondArray,
    occurred_at: TimestampMicrosecondArray,
    texts: [StringArray; 9],
}

impl Deciding {
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, LakeError> {
        let [appended_at, occurred_at, texts @ ..] = columns(batch, COLUMNS)?;
        let text = |column: ArrayRef| column.as_string::<i32>().clone();
        let time = |column: ArrayRef| column.as_primitive::<TimestampMicrosecondType>().clone();
        Ok(Self { appended_at: time(appended_at), occurred_at: time(occurred_at), texts: texts.map(text) })
    }

    pub(super) fn row(&self, row: usize) -> Facts<'_> {
        let texts = self.texts.each_ref().map(|column| column.is_valid(row).then(|| column.value(row)));
        let [row_kind, event_type, stream_kind, stream_id, session_id, connection_id, rest @ ..] = texts;
        let [principal, on_behalf_of, target] = rest;
        let time = |times: &TimestampMicrosecondArray| times.is_valid(row).then(|| times.value(row));
        Facts {
            appended_at: time(&self.appended_at),
            occurred_at: time(&self.occurred_at),
            is_dead_letter: row_kind == Some(RowKind::DeadLetter.as_str()),
            event_type,
            stream_kind,
            stream_id,
            session_id,
            connection_id,
            principal,
            on_behalf_of,
            target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noon of a day.
    fn noon_us(day: i32) -> i64 {
        i64::from(day) * 86_400_000_000 + 43_200_000_000
    }

    fn began(day: i32) -> Id {
        Id::from_parts(u64::try_from(noon_us(day) / 1000).expect("after 1970"), [7; 10])
    }

    #[test]
    fn a_session_is_of_the_day_of_its_id_unless_the_log_took_the_event_long_after() {
        let day = |began_on: i32, appended_on: i32| session_day(began(began_on), noon_us(appended_on));
        assert_eq!(day(20_000, 20_000), Some(20_000));
        assert_eq!(day(20_000, 20_002), Some(20_000), "for so long it may write");
        assert_eq!(day(20_000, 20_003), Some(20_001));
        assert_eq!(day(3, 20_003), Some(20_001), "whoever forges an id makes nothing old");
        assert_eq!(day(20_003, 20_000), Some(20_003), "of clocks that differ the later one counts");
    }

    #[test]
    fn of_no_day_is_what_the_log_had_no_time_for_and_what_has_no_time_in_its_id() {
        assert_eq!(session_day(began(20_000), 0), None);
        assert_eq!(session_day(began(20_000), -1), None);
        let random = Id::from_slice(&[7; 16]).expect("16 bytes");
        assert_eq!(session_day(random, noon_us(20_000)), None);
    }

    /// What counts of an event by itself and what is judged of it in the table is one rule.
    #[test]
    fn an_event_of_a_session_is_judged_by_its_session_day() {
        let retention = Retention::default();
        for (began_on, appended_on) in [(20_000, 20_000), (3, 20_003), (20_003, 20_000)] {
            let id = began(began_on).to_string();
            let facts = Facts {
                appended_at: Some(noon_us(appended_on)),
                occurred_at: None,
                is_dead_letter: false,
                event_type: Some("session_opened"),
                stream_kind: Some("session"),
                stream_id: Some(&id),
                session_id: None,
                connection_id: None,
                principal: None,
                on_behalf_of: None,
                target: None,
            };
            let Lot::OfSession(day) = retention.lot(&facts, Topic::Events) else { panic!("of a session") };
            assert_eq!(Some(day), session_day(began(began_on), noon_us(appended_on)));
        }
    }
}
