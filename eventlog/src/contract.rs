use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use retrace_proto::Id;
use retrace_proto::limits::EVENT_BYTES_MAX;
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use tokio::sync::watch;

use crate::{Append, AppendError, ReadError};

/// Largest key of a record, in bytes. Keys are stream ids, 16 bytes; the rest is room for control records.
pub const KEY_BYTES_MAX: usize = 256;

/// Largest value of a record, in bytes: one sealed envelope.
pub const VALUE_BYTES_MAX: usize = EVENT_BYTES_MAX;

/// How long a log may hold back a record that nobody waits for.
pub const UNHURRIED_WAIT_MAX: Duration = Duration::from_millis(10);

/// An append-only log of two topics, each of one or more partitions. This documentation is the contract; the
/// conformance suite holds every implementation to it.
///
/// **Durable.** An append resolves to its offset once the record is durable: fsynced in the embedded log, held by this
/// process in the in-memory one. A record is visible to [`read`](Self::read) only once it is durable, and from the moment
/// its append resolves on.
///
/// **Ordered.** Offsets of one topic partition are dense from 0: no gaps, no reuse, across restarts too. What is
/// written of one topic partition stands in the order in which `append` was called; calls from several threads have the
/// order in which they happened. Append times are the log's own clock; within a topic partition they never go backwards,
/// unless the log is of several machines and another clock takes over. Appends of one topic
/// partition resolve in call order, except those refused in the call itself ([`AppendError::Full`],
/// [`AppendError::TooLarge`], [`AppendError::Closed`]), which are resolved when the call returns.
///
/// **Failed.** A failed append is failed for good: the log never retries it after reporting it. Nothing overtakes:
/// a record whose outcome is [`AppendError::Unknown`] is either at its place in the order or nowhere. A later append may
/// nevertheless succeed, and then the failed record is a gap in its stream. So the contract binds the caller as well:
/// after any failure of a key's record, append nothing more under that key. The embedded log goes further and closes
/// the topic partition: what was queued behind a failed write is [`AppendError::Refused`], what comes later
/// [`AppendError::Closed`], until the log is opened again.
///
/// **Crash.** After a crash at any moment the log holds a prefix, in call order, of what was appended to a topic
/// partition; it contains every record whose append resolved to an offset, and may contain further ones whose callers
/// never heard.
///
/// **Ranges** are half-open. A reader that finds the end of the log below its own position has found evidence missing;
/// it must stop and say so, never start over. [`ReadError::AboveEnd`] is how `read` says it.
#[async_trait]
pub trait EventLog: Send + Sync + std::fmt::Debug {
    /// How many partitions a topic has, at least one; fixed for the life of the log, which is another one if they become
    /// more ([`ReadError::Changed`]).
    fn partitions(&self, topic: Topic) -> u32;

    /// The topic's identity, made when it was created. Lake commits name it, so that a log made anew at the same place
    /// is not mistaken for the one they know.
    fn topic_id(&self, topic: Topic) -> Id;

    /// Queues a record and returns at once; it never blocks. The record is queued by the call, not by polling.
    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append;

    /// Like [`append`](Self::append), for a record that nobody waits for: the log may hold it back for
    /// [`UNHURRIED_WAIT_MAX`] so that more records share what it costs to make them durable. A hurried one behind it in the
    /// same topic partition takes it along.
    fn append_unhurried(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        self.append(to, key, value)
    }

    /// Durable records from `start_inclusive` on, dense, in order: at least one if there is any, then as many as fit in
    /// `bytes_max` (keys and values), or fewer. Empty exactly if `start_inclusive` is the durable end.
    async fn read(
        &self,
        from: TopicPartition,
        start_inclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError>;

    /// From the first offset kept to the durable end: the offset the next durable record will have.
    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError>;

    /// [`offsets`](Self::offsets) of each of these topic partitions, as it is at some time during the call.
    async fn offsets_of(
        &self,
        of: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, OffsetRange)>, ReadError> {
        let mut all = Vec::with_capacity(of.len());
        for at in of {
            all.push((*at, self.offsets(*at).await?));
        }
        Ok(all)
    }

    /// [`offsets_of`](Self::offsets_of) every topic partition.
    async fn all_offsets(&self) -> Result<Vec<(TopicPartition, OffsetRange)>, ReadError> {
        self.offsets_of(&topic_partitions(|topic| self.partitions(topic))).await
    }

    /// Resolves once the durable end is above `end_exclusive`, at once if it is already. [`ReadError::Closed`] if
    /// that cannot happen any more.
    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError>;

    /// Resolves once the durable end of one of several topic partitions is above the offset given with it.
    /// [`ReadError::Closed`] if that cannot happen any more; never if none is given.
    async fn wait_past_any(&self, ends: &[(TopicPartition, u64)]) -> Result<(), ReadError> {
        let waits = ends.iter().map(|(of, end_exclusive)| self.wait_past(*of, *end_exclusive));
        match waits.collect::<FuturesUnordered<_>>().next().await {
            Some(waited) => waited,
            None => std::future::pending().await,
        }
    }

    /// The topic partitions that this process is to bring into the lake, as of now and whenever that changes: all of them
    /// where one process has the log, else its share of what the processes divide that asked for one.
    ///
    /// Two processes may believe for a while that they have the same topic partition. The lake's positions decide then.
    /// [`ReadError::Unavailable`] if the process cannot ask for one.
    fn ingest_share(&self) -> Result<watch::Receiver<Vec<TopicPartition>>, ReadError> {
        Ok(watch::Sender::new(topic_partitions(|topic| self.partitions(topic))).subscribe())
    }

    /// Whether this process was told what its share is, be it nothing, once it asked. One that never is may lack a right.
    fn is_share_assigned(&self) -> bool {
        true
    }

    /// Whether other processes may have a share too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Waits for what is queued, then takes no more; afterwards everything says closed. It blocks. Closing twice is closing
    /// once.
    fn close(&self);

    /// Lets go of records below `offset`. The log may keep more of them; it never drops one at or above `offset`.
    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError>;

    /// [`truncate_below`](Self::truncate_below) of each of these topic partitions. That one fails keeps none of the others;
    /// what failed first is told.
    async fn truncate_each_below(&self, below: &[(TopicPartition, u64)]) -> Result<(), ReadError> {
        let mut outcome = Ok(());
        for (of, offset) in below {
            outcome = outcome.and(self.truncate_below(*of, *offset).await);
        }
        outcome
    }
}

/// Every topic partition of a log whose topics have so many, in a fixed order.
pub(crate) fn topic_partitions(partitions: impl Fn(Topic) -> u32) -> Vec<TopicPartition> {
    let of = |topic| (0..partitions(topic)).map(move |partition| TopicPartition { topic, partition });
    Topic::ALL.into_iter().flat_map(of).collect()
}

/// Refuses in the call what no log takes.
pub(crate) fn check_size(key: &Bytes, value: &Bytes) -> Result<(), AppendError> {
    for (bytes, bytes_max) in [(key.len(), KEY_BYTES_MAX), (value.len(), VALUE_BYTES_MAX)] {
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
    }
    Ok(())
}
