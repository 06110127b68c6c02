//! The upkeep of the table, beside its filling: small files are merged, expired events removed, and files that nobody needs
//! deleted. It never stops anything: what is left undone is as harmless as what has not been come to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retrace_eventlog::EventLog;
use retrace_lake::{Compactor, RewriteError, Sweeper};
use retrace_proto::log::{Topic, TopicPartition};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::metrics::{CompactionMetrics, RetentionMetrics};
use crate::retain::{RetainError, Retained, Retaining};

/// Whose share this is keeps the table, so that mostly one does. That two may do it is no matter.
const KEEPER: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

/// The pause between two rounds of sweeping. Orphans cost room and nothing else.
const SWEEP_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// The pause after a merge, so that commits of rows come through, and where nothing was to be merged.
const COMPACT_PAUSE: Duration = Duration::from_secs(10);

/// The pause after a merge that failed.
const COMPACT_FAILED_PAUSE: Duration = Duration::from_secs(60);

/// The pause between two looks for what has expired. Mostly nothing has since the last one, and no file is opened then.
const RETAIN_PAUSE: Duration = Duration::from_secs(30);

/// Resolves while this process is the one that keeps the table.
async fn turn(share: &mut watch::Receiver<Vec<TopicPartition>>) {
    if share.wait_for(|share| share.contains(&KEEPER)).await.is_err() {
        // It never will be.
        std::future::pending::<()>().await;
    }
}

/// Sweeps now and every few hours, for as long as it is polled.
pub(crate) async fn sweep(
    mut sweeper: Sweeper,
    log: Arc<dyn EventLog>,
    mut share: watch::Receiver<Vec<TopicPartition>>,
) -> Infallible {
    loop {
        turn(&mut share).await;
        match sweeper.sweep(|topic| log.topic_id(topic)).await {
            Ok(swept) if swept.deleted > 0 => tracing::info!(
                deleted = swept.deleted,
                listed = swept.listed,
                "deleted data files that dead writers left, or that were merged"
            ),
            Ok(swept) => tracing::debug!(listed = swept.listed, "there were no data files to delete"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "data files that nobody needs may not have been deleted"
            ),
        }
        sleep(SWEEP_PAUSE).await;
    }
}

/// Merges small files whenever there are some, for as long as it is polled.
pub(crate) async fn compact(
    mut compactor: Compactor,
    metrics: CompactionMetrics,
    mut share: watch::Receiver<Vec<TopicPartition>>,
) -> Infallible {
    loop {
        turn(&mut share).await;
        let began = Instant::now();
        match compactor.step().await {
            Ok(Some(compacted)) => {
                metrics.note(&compacted, began.elapsed());
                tracing::debug!(?compacted, "merged data files");
                sleep(COMPACT_PAUSE).await;
            }
            Ok(None) => sleep(COMPACT_PAUSE).await,
            Err(RewriteError::Overtaken) => {
                tracing::info!("data files were merged in vain: another process was first");
                sleep(COMPACT_FAILED_PAUSE).await;
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!(error = &error as &dyn std::error::Error, "data files could not be merged");
                sleep(COMPACT_FAILED_PAUSE).await;
            }
        }
    }
}

/// Removes what has expired, for as long as it is polled.
pub(crate) async fn retain(
    mut retaining: Retaining,
    metrics: RetentionMetrics,
    mut share: watch::Receiver<Vec<TopicPartition>>,
) -> Infallible {
    loop {
        turn(&mut share).await;
        match retaining.round().await {
            Ok(retained) => {
                metrics.note(&retained);
                let Retained { rows_removed, unfit, holds } = retained;
                if rows_removed > 0 {
                    tracing::info!(rows_removed, unfit, holds, "removed expired events");
                }
            }
            Err(error @ (RetainError::Behind { .. } | RetainError::HoldsChanged)) => {
                tracing::info!(%error, "expired events are not removed yet");
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired events could not be removed"
                );
            }
        }
        sleep(RETAIN_PAUSE).await;
    }
}
