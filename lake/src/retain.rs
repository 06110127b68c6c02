use std::collections::{BTreeMap, BTreeSet, HashSet};

use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::DeltaOperation;
use retrace_proto::Id;
use retrace_proto::log::{Topic, TopicPartition};

use crate::commit::{add, remove, transaction};
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::positions::{first_day_id, removed_id};
use crate::rewrite::{RewriteError, check_young, rows};
use crate::table::{Loaded, Snapshot, Table, Version};

mod rules;

mod find;

pub use find::Retainer;
pub use rules::session_day;

/// For how many days a session may write its stream: it goes on as another one after a day, or when the exchange is over that
/// is then under way.
pub const STREAM_DAYS_MAX: i32 = 2;

/// How long which events are kept.
///
/// What a session wrote goes by its class and by the day on which its stream began, so that it goes whole; a stream is taken to
/// have begun [`STREAM_DAYS_MAX`] before the log took an event at the earliest, whatever its id says: [`session_day`]. What
/// processes wrote of themselves, reads among it, and what could not be opened, go by the class that keeps longest and by the later
/// of the days on which they were written and on which the log took them. Where clocks differ, so that one of these days is not
/// right, the later one counts. What tells of retention stays, and so does whatever in the control topic could not be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The first day of which sessions are kept, in days since the Unix epoch, by class. A class that is not there is kept for
    /// good.
    pub first_days_kept: BTreeMap<String, i32>,
    /// What is kept whatever its day.
    pub held: Held,
}

/// What legal holds are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Sessions, by the text of their ids, with those that go on from them on the same connection.
    pub sessions: BTreeSet<String>,
    /// Who acted, or on whose behalf.
    pub principals: BTreeSet<String>,
    /// Targets.
    pub targets: BTreeSet<String>,
}

/// Files of which rows have expired, and what takes their place.
#[derive(Clone, Debug, Default)]
pub struct Expired {
    removed: Vec<DataFile>,
    added: Vec<DataFile>,
    rows: BTreeMap<TopicPartition, u64>,
    first_days_kept: BTreeMap<String, i32>,
}

impl Expired {
    /// Rows that go.
    #[must_use]
    pub fn rows_removed(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Rows of the same files that stay.
    #[must_use]
    pub fn rows_kept(&self) -> u64 {
        rows(&self.added)
    }

    /// Files that go or are written anew.
    #[must_use]
    pub fn files_removed(&self) -> usize {
        self.removed.len()
    }

    /// The first day of which sessions are kept, in days since the Unix epoch, of each class that loses something.
    #[must_use]
    pub fn first_days_kept(&self) -> &BTreeMap<String, i32> {
        &self.first_days_kept
    }
}

impl Table {
    /// Removes what has expired, in the version after `after`, or not at all: whatever was committed meanwhile might say that it
    /// is to be kept. `topic_id` says which topic of the log has the positions.
    ///
    /// The rows are counted in the same version, so that the table still tells whether rows are missing
    /// ([`Snapshot::miscount`]). Their files stay in the store for whoever reads an older version, until they are swept.
    ///
    /// If nobody knows whether it was made, it may be begun again: what is gone is not found a second time.
    pub async fn expire(
        &self,
        expired: &Expired,
        after: &Snapshot,
        topic_id: impl Fn(Topic) -> Id,
    ) -> Result<Version, RewriteError> {
        check_young(&expired.added)?;
        let loaded = self.load().await?;
        let there: HashSet<_> = after.files().iter().map(|file| &file.path).collect();
        let is_there = expired.removed.iter().all(|file| there.contains(&file.path));
        if loaded.state.version() != after.version() || !is_there {
            return Err(RewriteError::Overtaken);
        }
        let removals = expired.removed.iter().map(|file| Action::Remove(remove(file, true)));
        let additions = expired.added.iter().map(|file| Action::Add(add(file, true)));
        let actions = removals.chain(additions).collect();
        let counted = count(&loaded, expired, topic_id)?;
        let operation = DeltaOperation::Delete { predicate: None };
        let error = match self.put_next(&loaded, actions, counted, operation).await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        tracing::debug!(%error, "expired rows were not removed or nobody knows, reading the table back");
        let now = self.load().await?;
        if self.is_expired(&now, expired).await? {
            return Ok(now.state.version());
        }
        if now.state.version() == after.version() { Err(error.into()) } else { Err(RewriteError::Overtaken) }
    }

    /// Whether the files are gone, and rows with them.
    async fn is_expired(&self, now: &Loaded, expired: &Expired) -> Result<bool, LakeError> {
        let Some(first) = expired.removed.first() else { return Ok(true) };
        if Snapshot::from(now).files().iter().any(|file| file.path == first.path) {
            return Ok(false);
        }
        let removed = self.removed(now).await?;
        Ok(removed.iter().any(|removed| removed.path == first.path && removed.with_rows))
    }
}

/// What the version says of the rows that it removes.
fn count(
    loaded: &Loaded,
    expired: &Expired,
    topic_id: impl Fn(Topic) -> Id,
) -> Result<Vec<Transaction>, LakeError> {
    let positions = &loaded.positions;
    let mut counted = Vec::new();
    for (at, rows) in &expired.rows {
        let topic_id = topic_id(at.topic);
        let removed = positions.removed(topic_id, at.partition).saturating_add(*rows);
        let removed = i64::try_from(removed).map_err(|_| LakeError::DamagedLog)?;
        counted.push(transaction(removed_id(topic_id, at.partition), removed));
    }
    for (class, day) in &expired.first_days_kept {
        let before = positions.first_days_kept().get(class).copied().unwrap_or(i32::MIN);
        counted.push(transaction(first_day_id(class), (*day).max(before).into()));
    }
    Ok(counted)
}
