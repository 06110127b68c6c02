use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use retrace_proto::Id;
use retrace_proto::log::Topic;

use super::{Held, Retention, STREAM_DAYS_MAX};
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::lift::day;
use crate::places::columns;
use crate::rows::RowKind;

/// The retention classes, as the column spells them.
const CLASSES: [&str; 3] = ["short", "standard", "long"];

/// What tells of retention itself is never removed.
const ACTS: [&str; 3] = ["legal_hold_set", "legal_hold_lifted", "retention_applied"];

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
        let tells_of_retention = row.event_type.is_some_and(|it| ACTS.contains(&it));
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
    /// `None` if nobody knows.
    appended_day: Option<i32>,
    occurred_day: Option<i32>,
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
        let earliest = self.appended_day?.saturating_sub(STREAM_DAYS_MAX);
        let id = self.stream_id.and_then(|text| text.parse::<Id>().ok());
        let unix_us = id.and_then(|id| i64::try_from(id.unix_ms()?).ok()?.checked_mul(1000));
        unix_us.map_or(self.written(), |unix_us| Some(day(unix_us).max(earliest)))
    }

    /// The day on which it was written; `None` if nobody knows.
    fn written(&self) -> Option<i32> {
        Some(self.appended_day?.max(self.occurred_day.unwrap_or(i32::MIN)))
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
        // A log that has no time for a record gives the beginning of time.
        let day_of = |times: &TimestampMicrosecondArray| {
            let time = times.is_valid(row).then(|| times.value(row)).filter(|unix_us| *unix_us > 0);
            time.map(day)
        };
        Facts {
            appended_day: day_of(&self.appended_at),
            occurred_day: day_of(&self.occurred_at),
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
