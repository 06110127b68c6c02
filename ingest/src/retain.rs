use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use retrace_eventlog::{AppendError, EventLog, InstanceStream, ReadError, may_have_orders};
use retrace_evidence::{ControlKeys, HeldOn, Holds};
use retrace_lake::{
    Expired, Held, LakeError, Miscount, RareRecords, Retainer, Retention, RewriteError, STREAM_DAYS_MAX,
    Snapshot, Table,
};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::{RetentionApplied, RetentionClass, RetentionPeriod};
use retrace_proto::{Envelope, Event, HOLD_EVENTS, Id, OpenError, Recorded, Subject};
use tokio::time::{sleep, timeout};

/// How long the log may take for the record of a removal.
const RECORD_WAIT_MAX: Duration = Duration::from_secs(30);

/// Versions that may come between what was looked at and its removal.
const ATTEMPTS_MAX: u32 = 16;

/// How often it is looked, before a removal, whether the table has the latest orders: for five minutes, with the pauses.
const LOOKS_MAX: u32 = 150;

/// The pause while the table does not have the latest orders.
const BEHIND_PAUSE: Duration = Duration::from_secs(2);

/// Bytes of control records asked of the log at once.
const READ_BYTES_MAX: usize = 1024 * 1024;

const DAY_US: i64 = 86_400_000_000;

/// For how many days events are kept, by the retention class of their target; `None` is for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Periods {
    /// Of the class `short`.
    pub short_days: Option<u32>,
    /// Of the class `standard`.
    pub standard_days: Option<u32>,
    /// Of the class `long`.
    pub long_days: Option<u32>,
}

impl Periods {
    /// Whether everything is kept for good.
    #[must_use]
    pub fn are_endless(&self) -> bool {
        *self == Self::default()
    }

    fn of(&self) -> [(RetentionClass, Option<u32>); 3] {
        [
            (RetentionClass::Short, self.short_days),
            (RetentionClass::Standard, self.standard_days),
            (RetentionClass::Long, self.long_days),
        ]
    }

    /// The first day of which sessions are kept, by class, where today is a day since the Unix epoch. No event is younger than
    /// its period when it goes: one that a session wrote last may be [`STREAM_DAYS_MAX`] younger than the session.
    fn first_days_kept(&self, today: i32) -> BTreeMap<String, i32> {
        let ended = self.of().into_iter().filter_map(|(class, days)| Some((class, days?)));
        let first = |(class, days): (RetentionClass, u32)| {
            let days = i32::try_from(days).unwrap_or(i32::MAX).saturating_add(STREAM_DAYS_MAX);
            (name(class).to_owned(), today.saturating_sub(days))
        };
        ended.map(first).collect()
    }
}

/// As the table spells a class.
fn name(class: RetentionClass) -> &'static str {
    match class {
        RetentionClass::Short => "short",
        RetentionClass::Long => "long",
        RetentionClass::Standard | RetentionClass::Unspecified => "standard",
    }
}

/// What retention goes by.
#[derive(Clone, Debug)]
pub struct RetentionOptions {
    /// How long which events are kept.
    pub periods: Periods,
    /// By whose signature a hold is lifted.
    pub keys: ControlKeys,
    /// Where removals are recorded before they are made.
    pub instance: Arc<InstanceStream>,
    /// The wall clock, in microseconds since the Unix epoch.
    pub clock: fn() -> i64,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Rows that were removed. There may be more if there were some.
    pub rows_removed: u64,
    /// Files of which nobody knows what to keep; they are kept.
    pub unfit: u64,
    /// Holds in force.
    pub holds: usize,
}

/// Why a round removed nothing. Each leaves the table as it was, or without what had expired.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// A hold may be on its way.
    #[error(
        "the table does not have all of {at} yet, in which holds may be: they come into it with the next commits"
    )]
    Behind {
        /// Which topic partition.
        at: TopicPartition,
    },
    /// A later release wrote something, and nobody here knows whether it sets a hold.
    #[error("{at} has a record of a later release, which may set a hold: upgrade ingest")]
    NotUnderstood {
        /// Which topic partition.
        at: TopicPartition,
    },
    /// A hold was set or lifted since the files were looked at.
    #[error("holds were set or lifted meanwhile: it is looked at anew")]
    HoldsChanged,
    /// The table was filled from another log, whose holds are not known.
    #[error("the table holds records of topic {topic_id}, which this log does not have")]
    ForeignLog {
        /// The topic that the table knows.
        topic_id: Id,
    },
    /// Files were taken out of the table, or put into it, by somebody else.
    #[error("{0} (nothing is removed from it)")]
    Miscount(Miscount),
    /// What would be removed is not on record.
    #[error("the record of what would be removed did not become durable: {0}")]
    NotRecorded(AppendError),
    /// The log could not say whether the table has all holds.
    #[error("the log: {0}")]
    Log(#[from] ReadError),
    /// The table could not be read or written, or somebody else rewrote its files.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
}

impl From<LakeError> for RetainError {
    fn from(source: LakeError) -> Self {
        Self::Rewrite(source.into())
    }
}

/// Where topic partitions ended.
type Ends = Vec<(TopicPartition, u64)>;

/// Removes what has expired.
#[derive(Debug)]
pub struct Retaining {
    log: Arc<dyn EventLog>,
    table: Table,
    retainer: Retainer,
    options: RetentionOptions,
    /// What was found in files that set or lift holds.
    records: RareRecords,
    /// Where the control topic ended when a round was begun that the table was not ready for: the next one needs no more.
    awaited: Option<Ends>,
}

impl Retaining {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, table: Table, options: RetentionOptions) -> Self {
        let (retainer, records) = (Retainer::new(table.clone()), RareRecords::new(&HOLD_EVENTS));
        Self { log, table, retainer, options, records, awaited: None }
    }

    /// Removes what has expired as of now, as far as one version goes.
    ///
    /// The steps, and what a crash after each leaves:
    ///
    /// 1. Read the newest version, and see that it is whole and has every record of the control topic that was durable when a
    ///    round was first tried: for most holds that is soon enough. Else leave it to the next round. *Crash:* nothing changed.
    /// 2. Read the holds that it has, find files with expired rows, and write what is kept of each into another. *Crash:* files
    ///    that no version names, which are swept.
    /// 3. Record what is about to go ([`RetentionApplied`]), and wait until that is durable. *Crash:* a record of what did
    ///    not happen; the table itself says what did.
    /// 4. Ask where the control topic ends now, wait for a version that has every record below, and see that its holds are
    ///    the same. As that may have taken minutes, ask once more, read from the log what has come since, and see that no hold
    ///    was set or lifted by it; else begin again.
    /// 5. Remove, in the very next version or not at all; if another came first, go to 4. *Crash:* it is made or it is not,
    ///    and either way there is nothing to settle.
    ///
    /// So a hold keeps what it is on if it was durable when the log was asked last, right before 5, and in any case from the
    /// version on that has its record: whoever sets one is told when that is. Each end is asked for once and then waited for, or
    /// read to: records that come after it, as they may all the time, put nothing off.
    pub async fn round(&mut self) -> Result<Retained, RetainError> {
        let snapshot = self.begun_at().await?;
        let holds = self.holds(&snapshot).await?;
        let retention = self.retention(&snapshot, &holds);
        let found = self.retainer.find(&snapshot, &retention).await?;
        let unfit = self.retainer.unfit();
        let holds_in_force = holds.in_force().count();
        let Some(expired) = found else {
            return Ok(Retained { rows_removed: 0, unfit, holds: holds_in_force });
        };
        self.record(&snapshot, &expired, &holds).await?;
        self.remove(&expired, &holds).await?;
        Ok(Retained { rows_removed: expired.rows_removed(), unfit, holds: holds_in_force })
    }

    /// The version that a round goes by.
    async fn begun_at(&mut self) -> Result<Snapshot, RetainError> {
        let mut ends = self.control_ends().await?;
        // A log that has lost its end is an alarm, which ingest raises; what is gone from it is not waited for.
        for ((_, end), (_, awaited)) in ends.iter_mut().zip(self.awaited.iter().flatten()) {
            *end = (*end).min(*awaited);
        }
        let checked = self.checked_snapshot(&ends).await;
        self.awaited = checked.is_err().then_some(ends);
        checked
    }

    /// Where the control topic ends now: whatever is durable lies below.
    async fn control_ends(&self) -> Result<Ends, RetainError> {
        let mut ends = Ends::new();
        let partitions = self.log.partitions(Topic::Control);
        for partition in 0..partitions {
            let at = TopicPartition { topic: Topic::Control, partition };
            if may_have_orders(at, partitions) {
                ends.push((at, self.log.offsets(at).await?.end));
            }
        }
        Ok(ends)
    }

    /// The newest version, if it is whole and has everything below these ends.
    async fn checked_snapshot(&self, ends: &[(TopicPartition, u64)]) -> Result<Snapshot, RetainError> {
        let snapshot = self.table.snapshot().await?;
        let known = Topic::ALL.map(|topic| self.log.topic_id(topic));
        if let Some(topic_id) = snapshot.foreign_topic(&known) {
            return Err(RetainError::ForeignLog { topic_id });
        }
        if let Some(miscount) = snapshot.miscount(|topic| self.log.topic_id(topic)) {
            return Err(RetainError::Miscount(miscount));
        }
        let position = |at: TopicPartition| snapshot.position(self.log.topic_id(at.topic), at.partition);
        match ends.iter().find(|(at, end)| position(*at) < *end) {
            Some((at, _)) => Err(RetainError::Behind { at: *at }),
            None => Ok(snapshot),
        }
    }

    /// The same, once it has: records come into the table within seconds.
    async fn awaited_snapshot(&self, ends: &[(TopicPartition, u64)]) -> Result<Snapshot, RetainError> {
        for _look in 1..LOOKS_MAX {
            match self.checked_snapshot(ends).await {
                Err(RetainError::Behind { .. }) => sleep(BEHIND_PAUSE).await,
                checked => return checked,
            }
        }
        self.checked_snapshot(ends).await
    }

    /// The holds of a version.
    async fn holds(&mut self, snapshot: &Snapshot) -> Result<Holds, RetainError> {
        let topic_id = self.log.topic_id(Topic::Control);
        let partitions = self.log.partitions(Topic::Control);
        let within = |at| may_have_orders(at, partitions);
        let mut holds = Holds::default();
        for (at, value) in self.records.read(&self.table, snapshot, within).await? {
            take(&mut holds, &self.options.keys, (topic_id, *at), Envelope::open(value.clone()))?;
        }
        Ok(holds)
    }

    /// These holds, with what the log has of them beyond a version and below where it ends now.
    async fn with_later(&self, mut holds: Holds, snapshot: &Snapshot) -> Result<Holds, RetainError> {
        let topic_id = self.log.topic_id(Topic::Control);
        for (at, end) in self.control_ends().await? {
            let mut next = snapshot.position(topic_id, at.partition);
            while next < end {
                let records = self.log.read(at, next, READ_BYTES_MAX).await?;
                next += records.len().max(1) as u64;
                for record in records {
                    take(&mut holds, &self.options.keys, (topic_id, at), Envelope::open(record.value))?;
                }
            }
        }
        Ok(holds)
    }

    fn retention(&self, snapshot: &Snapshot, holds: &Holds) -> Retention {
        let today = i32::try_from(self.today(snapshot)).unwrap_or(0);
        let mut held = Held::default();
        for (_, on) in holds.in_force() {
            match on {
                HeldOn::Session(id) => held.sessions.insert(id.to_string()),
                HeldOn::Principal(name) => held.principals.insert(name.clone()),
                HeldOn::Target(name) => held.targets.insert(name.clone()),
            };
        }
        Retention { first_days_kept: self.options.periods.first_days_kept(today), held }
    }

    /// The day by which it is judged what has expired, since the Unix epoch: that of the newest event which the log took a day
    /// before its newest of all, and never one that is still to come.
    ///
    /// Where a clock is wrong by years at a start, the log's is too, and everything would have expired. So a time counts only
    /// once the log has gone on from it for a day, in which somebody sees it.
    fn today(&self, snapshot: &Snapshot) -> i64 {
        let ends = || {
            let appended = snapshot.files().iter().filter_map(|file| file.stats.appended_at.as_ref());
            appended.map(|times| times.max_inclusive)
        };
        let newest = ends().max().unwrap_or(0);
        let a_day_before = ends().filter(|end| *end <= newest.saturating_sub(DAY_US)).max().unwrap_or(0);
        (self.options.clock)().min(a_day_before).div_euclid(DAY_US)
    }

    async fn record(&self, snapshot: &Snapshot, expired: &Expired, holds: &Holds) -> Result<(), RetainError> {
        let days = expired.first_days_kept();
        let period = |(class, _): (RetentionClass, _)| {
            let first_day_kept = *days.get(name(class))?;
            Some(RetentionPeriod { retention_class: class.into(), first_day_kept })
        };
        let mut hold_ids: Vec<_> = holds.in_force().map(|(id, _)| id.to_bytes()).collect();
        hold_ids.dedup();
        hold_ids.truncate(HOLD_IDS_MAX);
        let facts = RetentionApplied {
            table_version: snapshot.version(),
            periods: self.options.periods.of().into_iter().filter_map(period).collect(),
            rows_removed: expired.rows_removed(),
            rows_kept: expired.rows_kept(),
            files_removed: expired.files_removed() as u64,
            hold_ids,
        };
        let append = self.options.instance.record(Subject::default(), Event::retention_applied(facts));
        match timeout(RECORD_WAIT_MAX, append).await {
            Ok(Ok(_offset)) => Ok(()),
            Ok(Err(error)) => Err(RetainError::NotRecorded(error)),
            Err(_elapsed) => Err(RetainError::NotRecorded(AppendError::Unknown)),
        }
    }

    async fn remove(&mut self, expired: &Expired, holds: &Holds) -> Result<(), RetainError> {
        for _attempt in 0..ATTEMPTS_MAX {
            // For each attempt anew: what was set while another version came first is to be known as well.
            let ends = self.control_ends().await?;
            let snapshot = self.awaited_snapshot(&ends).await?;
            let known = self.holds(&snapshot).await?;
            if known != *holds || self.with_later(known, &snapshot).await? != *holds {
                return Err(RetainError::HoldsChanged);
            }
            let log = &self.log;
            match self.table.expire(expired, &snapshot, |topic| log.topic_id(topic)).await {
                Err(RewriteError::Overtaken) => {}
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(RewriteError::Overtaken.into())
    }
}

/// Takes in what a record of the control topic says of holds, be it of the table or of the log.
fn take(
    holds: &mut Holds,
    keys: &ControlKeys,
    (topic_id, at): (Id, TopicPartition),
    opened: Result<Recorded, OpenError>,
) -> Result<(), RetainError> {
    let recorded = match opened {
        Ok(recorded) => recorded,
        // It may set a hold. The table has it if somebody made a dead letter of it.
        Err(OpenError::NewerSchema { .. }) => return Err(RetainError::NotUnderstood { at }),
        // Nobody was told that this sets a hold.
        Err(_) => return Ok(()),
    };
    if let Err(reason) = holds.read(keys, (topic_id, at.partition), &recorded) {
        tracing::debug!(%at, %reason, "a record would lift a hold and does not: the hold stays");
    }
    Ok(())
}

/// Holds that the record of a removal names, at most; an event has room for them.
const HOLD_IDS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_without_a_period_is_kept_for_good_and_others_until_no_event_is_younger() {
        let periods = Periods { short_days: Some(30), long_days: Some(u32::MAX), ..Periods::default() };
        let days = periods.first_days_kept(20_000);
        assert_eq!(days.get("short"), Some(&(20_000 - 30 - 2)));
        assert_eq!(days.get("standard"), None);
        assert!(days["long"] < -1_000_000, "{days:?}");
        assert!(Periods::default().are_endless() && !periods.are_endless());
    }
}
