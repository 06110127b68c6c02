use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use retrace_lake::{Compactor, Sweeper};
use retrace_proto::log::TopicPartition;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::error::IngestError;
use crate::ingest::{Ingest, Options};
use crate::keep;
use crate::retain::Retaining;

/// The pause before a failed step is done again; doubled each time, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Attempts at the last commits before giving up: what is not committed stays in the log.
const DRAIN_ATTEMPTS_MAX: u32 = 5;

/// When to attempt the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After a pause, whatever comes.
    After(Duration),
    /// After a short pause, from where the table stands: another process that shares the log went on first.
    Overtaken,
    /// When a batch is due.
    WhenDue,
}

impl Ingest {
    /// Steps whenever a batch is due, until `shutdown` resolves; then drains.
    ///
    /// Transient errors are waited out and never skip a record. Any other ends it: see [`IngestError`].
    /// Beside the steps it keeps the table, if its share is the one that has to: it merges small files, removes what has
    /// expired, and sweeps what nobody needs.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), IngestError> {
        let Options { orphan_age_min, removed_age_min, compaction, .. } = self.options;
        // They end with this: as a crash would end them.
        let mut keeping = JoinSet::new();
        let sweeper = Sweeper::new(self.table.clone(), orphan_age_min, removed_age_min);
        keeping.spawn(keep::sweep(sweeper, Arc::clone(&self.log), self.share.clone()));
        let compactor = Compactor::new(self.table.clone(), compaction);
        keeping.spawn(keep::compact(compactor, self.metrics.compaction.clone(), self.share.clone()));
        if let Some(options) = self.retention.take() {
            let retaining = Retaining::new(Arc::clone(&self.log), self.table.clone(), options);
            keeping.spawn(keep::retain(retaining, self.metrics.retention.clone(), self.share.clone()));
        }
        tokio::select! {
            ended = self.run_steps(shutdown) => ended,
            Some(ended) = keeping.join_next() => match ended {
                Ok(never) => match never {},
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
        }
    }

    async fn run_steps(mut self, shutdown: impl Future<Output = ()>) -> Result<(), IngestError> {
        let mut shutdown = pin!(shutdown);
        loop {
            let next = self.attempt().await?;
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wait(next) => {}
            }
        }
        self.drain().await
    }

    /// A step, and what [`Ingest::run`] makes of its outcome: all that it does but wait. So a test can have the time.
    pub async fn attempt(&mut self) -> Result<Next, IngestError> {
        match self.step().await {
            Ok(progress) => {
                self.failures = 0;
                tracing::trace!(rows = progress.rows, "stepped");
                // Whatever a full batch had to leave has waited long enough.
                let is_behind = self.status().borrow().lag_records() > 0;
                Ok(if is_behind { Next::After(Duration::ZERO) } else { Next::WhenDue })
            }
            Err(error) if self.is_overtaken(&error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "fenced, another process went on");
                self.metrics.fenced.inc();
                self.forget();
                Ok(Next::Overtaken)
            }
            Err(error) if error.is_transient() => {
                self.failures += 1;
                self.note_outcome(true);
                self.metrics.retried.inc();
                let failures = self.failures;
                tracing::warn!(failures, error = &error as &dyn std::error::Error, "ingest tries again");
                Ok(Next::After(pause(failures)))
            }
            Err(error) => Err(error),
        }
    }

    /// Commits what is durable in the log as of now, for a clean stop. What comes later stays for the next start.
    pub async fn drain(&mut self) -> Result<(), IngestError> {
        let mut failures = 0;
        let mut ends = None;
        loop {
            match self.drain_step(&mut ends).await {
                Ok(true) => return Ok(()),
                Ok(false) => failures = 0,
                Err(error)
                    if (error.is_transient() || self.is_overtaken(&error))
                        && failures < DRAIN_ATTEMPTS_MAX =>
                {
                    failures += 1;
                    if self.is_overtaken(&error) {
                        self.forget();
                    }
                    sleep(pause(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether another process that shares the log moved a position first, as happens when shares change.
    fn is_overtaken(&self, error: &IngestError) -> bool {
        error.is_fenced() && self.log.is_shared()
    }

    /// One step towards the log's ends as they were at first, so that appends do not prolong the drain. Whether they
    /// are reached.
    async fn drain_step(
        &mut self,
        ends: &mut Option<BTreeMap<TopicPartition, u64>>,
    ) -> Result<bool, IngestError> {
        let progress = self.step().await?;
        let ends = match ends {
            Some(ends) => ends,
            None => ends.insert(self.log_ends().await?),
        };
        Ok(progress.rows == 0
            || ends.iter().all(|(at, end)| self.positions.get(at).is_none_or(|position| position >= end)))
    }

    /// After a failure a pause, else until a batch is due: a record, and then as many others as its age allows.
    async fn wait(&self, next: Next) {
        match next {
            Next::After(pause) => return sleep(pause).await,
            Next::Overtaken => return sleep(PAUSE_MIN).await,
            Next::WhenDue => {}
        }
        self.wait_past(0).await;
        let rows_max = u64::try_from(self.options.rows_max).unwrap_or(u64::MAX);
        tokio::select! {
            () = sleep(self.options.age_max) => {}
            () = self.wait_past(rows_max.saturating_sub(1)) => {}
        }
    }

    /// Until some topic partition has more than `records` that are not in the table, or cannot be waited for, or the
    /// share changes: then the next step finds out why.
    async fn wait_past(&self, records: u64) {
        let mut share = self.share.clone();
        let changed = async {
            if share.changed().await.is_err() {
                // It never will.
                std::future::pending::<()>().await;
            }
        };
        let ends: Vec<_> =
            self.positions.iter().map(|(at, position)| (*at, position.saturating_add(records))).collect();
        tokio::select! {
            () = changed => {}
            waited = self.log.wait_past_any(&ends) => {
                if let Err(error) = waited {
                    tracing::debug!(%error, "waiting for the log failed");
                    sleep(PAUSE_MIN).await;
                }
            }
        }
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}
