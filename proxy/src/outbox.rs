//! The log's end of a session: what was appended, in order, and how far it is durable.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use retrace_eventlog::{Append, AppendError, EventLog, partition_for};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::{Envelope, Hash, Id};

use crate::streams::StreamEnd;

/// The records of one stream on their way into the log.
///
/// Its bound is the machine's: a session whose bytes wait for records stops reading, so that it makes no more of them.
#[derive(Debug)]
pub(crate) struct Outbox {
    log: Arc<dyn EventLog>,
    to: TopicPartition,
    key: Bytes,
    /// The log takes them in order, so that only the first is worth waiting for.
    under_way: VecDeque<(Append, Hash)>,
    durable_end: u64,
    /// Tells whoever signs heads how far the stream is.
    stream_end: StreamEnd,
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
    pub(crate) fn new(log: Arc<dyn EventLog>, stream: Id, stream_end: StreamEnd) -> Self {
        let partition = partition_for(stream, log.partitions(Topic::Events));
        Self {
            log,
            to: TopicPartition { topic: Topic::Events, partition },
            key: stream.to_bytes(),
            under_way: VecDeque::new(),
            durable_end: 0,
            stream_end,
            failed: false,
        }
    }

    /// Appends the stream's next event. After a failure nothing more is.
    pub(crate) fn append(&mut self, envelope: &Envelope, awaited: bool) {
        if !self.failed {
            let (key, value) = (self.key.clone(), envelope.bytes().clone());
            let append = if awaited {
                self.log.append(self.to, key, value)
            } else {
                self.log.append_unhurried(self.to, key, value)
            };
            self.under_way.push_back((append, envelope.hash()));
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

    /// The next progress; all that came at once is one.
    pub(crate) fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Progress> {
        let mut last = None;
        let mut failed = None;
        while let Some((append, hash)) = self.under_way.front_mut()
            && let Poll::Ready(outcome) = Pin::new(append).poll(context)
        {
            match outcome {
                Ok(_offset) => last = Some(*hash),
                Err(error) => failed = Some(error),
            }
            self.under_way.pop_front();
            if failed.is_some() {
                break;
            }
            self.durable_end += 1;
        }
        if let Some(hash) = last {
            self.stream_end.moved(self.durable_end, hash);
        }
        match (failed, last) {
            (Some(error), _) => {
                self.failed = true;
                Poll::Ready(Progress::Failed(error))
            }
            (None, Some(_)) => Poll::Ready(Progress::Durable { end: self.durable_end }),
            (None, None) => Poll::Pending,
        }
    }

    /// The next progress. Dropping the future loses nothing.
    pub(crate) async fn progress(&mut self) -> Progress {
        poll_fn(|context| self.poll_progress(context)).await
    }
}

#[cfg(test)]
mod tests {
    use retrace_eventlog::MemoryLog;
    use retrace_proto::wire::{SessionClosed, StreamKind};
    use retrace_proto::{Event, StreamWriter, Subject};

    use super::*;
    use crate::streams::OpenStreams;

    struct Writer {
        outbox: Outbox,
        stream: StreamWriter,
    }

    impl Writer {
        fn new(log: &MemoryLog, streams: &OpenStreams) -> Self {
            let id = Id::from_parts(1, [0; 10]);
            let outbox = Outbox::new(Arc::new(log.clone()), id, streams.open(id));
            Self { outbox, stream: StreamWriter::new(id, StreamKind::Session) }
        }

        fn append(&mut self) -> Hash {
            let event = Event::session_closed(SessionClosed::default());
            let sealed = Envelope::seal(&mut self.stream, &Subject::default(), None, 0, event).unwrap();
            self.outbox.append(&sealed, true);
            sealed.hash()
        }
    }

    fn head(streams: &OpenStreams) -> Option<(u64, [u8; 32])> {
        streams.take_heads().first().map(|head| (head.end_exclusive, head.hash))
    }

    #[tokio::test]
    async fn a_head_is_the_last_durable_event_and_never_one_under_way() {
        let (log, streams) = (MemoryLog::new(), OpenStreams::default());
        let mut writer = Writer::new(&log, &streams);
        let hashes = [writer.append(), writer.append()];
        assert_eq!(writer.outbox.progress().await, Progress::Durable { end: 2 });
        assert_eq!(head(&streams), Some((2, *hashes[1].as_bytes())));

        let held = log.faults().hold();
        let third = writer.append();
        assert!(futures::FutureExt::now_or_never(writer.outbox.progress()).is_none());
        assert_eq!(head(&streams), Some((2, *hashes[1].as_bytes())));
        held.open();
        assert_eq!(writer.outbox.progress().await, Progress::Durable { end: 3 });
        assert_eq!(head(&streams), Some((3, *third.as_bytes())));
    }

    #[tokio::test]
    async fn what_was_durable_before_a_failure_is_the_head() {
        let (log, streams) = (MemoryLog::new(), OpenStreams::default());
        let mut writer = Writer::new(&log, &streams);
        let first = writer.append();
        log.faults().fail_next(1, AppendError::Unknown);
        writer.append();
        assert_eq!(writer.outbox.progress().await, Progress::Failed(AppendError::Unknown));
        assert_eq!((writer.outbox.durable_end(), writer.outbox.has_failed()), (1, true));
        drop(writer);
        assert_eq!(head(&streams), Some((1, *first.as_bytes())));
        assert_eq!(head(&streams), None);
    }
}
