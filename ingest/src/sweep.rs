use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use retrace_eventlog::EventLog;
use retrace_lake::Sweeper;
use retrace_proto::log::{Topic, TopicPartition};
use tokio::sync::watch;
use tokio::time::sleep;

/// The pause between two rounds. Orphans cost room and nothing else.
const ROUND_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// Whose share this is sweeps, so that mostly one does. That two may do it is no matter.
const SWEEPS: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

/// Sweeps now and every few hours, for as long as it is polled. It never stops anything: what it leaves is as harmless as
/// what it has not come to.
pub(crate) async fn sweep(
    mut sweeper: Sweeper,
    log: Arc<dyn EventLog>,
    mut share: watch::Receiver<Vec<TopicPartition>>,
) -> Infallible {
    loop {
        if share.wait_for(|share| share.contains(&SWEEPS)).await.is_err() {
            // It never will be.
            std::future::pending::<()>().await;
        }
        match sweeper.sweep(|topic| log.topic_id(topic)).await {
            Ok(swept) if swept.deleted > 0 => tracing::info!(
                deleted = swept.deleted,
                listed = swept.listed,
                "deleted data files that dead writers left"
            ),
            Ok(swept) => tracing::debug!(listed = swept.listed, "no dead writer left data files"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "data files that dead writers may have left were not swept"
            ),
        }
        sleep(ROUND_PAUSE).await;
    }
}
