//! The log's end of a session: what was appended, in order, and how far it is durable.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use retrace_eventlog::{Append, AppendError, EventLog, partition_for};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::{Envelope, Id};

/// The records of one stream on their way into the log.
///
/// Its bound is the machine's: a session whose bytes wait for records stops reading, so that it makes no more of them.
#[derive(Debug)]
pub(crate) struct Outbox {
    log: Arc<dyn EventLog>,
    to: TopicPartition,
    key: Bytes,
    under_way: FuturesOrdered<Append>,
    durable_end: u64,
    failed: bool,
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Every event below is durable.
    Durable { end: u64 },
    /// One is not and will not be, or nobody can tell.
    Failed(AppendError),
}

impl Outbox {
    /// The outbox of a stream, which keeps its topic partition for life.
    pub(crate) fn new(log: Arc<dyn EventLog>, stream: Id) -> Self {
        let partition = partition_for(stream, log.partitions(Topic::Events));
        Self {
            log,
            to: TopicPartition { topic: Topic::Events, partition },
            key: stream.to_bytes(),
            under_way: FuturesOrdered::new(),
            durable_end: 0,
            failed: false,
        }
    }

    /// Appends the stream's next event. After a failure nothing more is.
    pub(crate) fn append(&mut self, envelope: &Envelope) {
        if !self.failed {
            let append = self.log.append(self.to, self.key.clone(), envelope.bytes().clone());
            self.under_way.push_back(append);
        }
    }

    /// Whether records are on their way.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.failed && !self.under_way.is_empty()
    }

    /// Whether a record failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Every event below is durable.
    pub(crate) fn durable_end(&self) -> u64 {
        self.durable_end
    }

    /// The next progress; all that came at once is one. Dropping the future loses nothing.
    pub(crate) async fn progress(&mut self) -> Progress {
        let Some(first) = self.under_way.next().await else {
            return std::future::pending().await;
        };
        let mut outcome = Some(first);
        while let Some(durable) = outcome {
            match durable {
                Ok(_offset) => self.durable_end += 1,
                Err(error) => {
                    self.failed = true;
                    return Progress::Failed(error);
                }
            }
            outcome = futures::FutureExt::now_or_never(self.under_way.next()).flatten();
        }
        Progress::Durable { end: self.durable_end }
    }
}
