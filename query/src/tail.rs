use std::sync::Arc;

use futures::{StreamExt, stream};
use retrace_eventlog::{EventLog, ReadError};
use retrace_proto::log::TopicPartition;
use retrace_proto::wire::evidence_read_completed::Status;
use retrace_proto::{Envelope, Id, OpenError, Recorded};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use crate::cut::Position;
use crate::evidence::ReadRecord;
use crate::right::Right;
use crate::{Cut, EventRecord, Events, QueryError};

/// Events that wait for a tail's reader, at most 256 KiB each; the rest waits in the log.
const EVENTS_WAITING_MAX: usize = 32;

/// How much of the log a tail reads at a time, in bytes.
const READ_BYTES: usize = 1024 * 1024;

/// Which events a tail gives.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) right: Right,
    /// Of one session only.
    pub(crate) session: Option<Id>,
}

impl Wanted {
    fn includes(&self, recorded: &Recorded) -> bool {
        let may_see = match &self.right {
            Right::All => true,
            Right::Own(name) => {
                recorded.header().principal.as_ref().is_some_and(|principal| principal.name == *name)
            }
        };
        may_see
            && self.session.is_none_or(|id| recorded.session_id() == Some(id) || recorded.stream_id() == id)
    }
}

/// Follows every topic partition of the log from the cut on. The permit and the record end with the stream.
pub(crate) fn follow(
    log: &Arc<dyn EventLog>,
    from: &Cut,
    wanted: Wanted,
    record: ReadRecord,
    permit: OwnedSemaphorePermit,
) -> Events {
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let mut followers = JoinSet::new();
    for &Position { at, end_exclusive } in from.positions() {
        let follower = Follower { log: Arc::clone(log), at, wanted: wanted.clone(), events: sender.clone() };
        followers.spawn(follower.run(end_exclusive));
    }
    let open = Open { events, record, _followers: followers, _permit: permit };
    stream::unfold(Some(open), |open| async move {
        let mut open = open?;
        match open.events.recv().await {
            Some(Ok(event)) => {
                open.record.count(1);
                Some((Ok(event), Some(open)))
            }
            Some(Err(error)) => {
                open.record.end(Status::Error);
                Some((Err(error), None))
            }
            None => {
                open.record.end(Status::Error);
                Some((Err(QueryError::Internal), None))
            }
        }
    })
    .boxed()
}

/// A tail that is open. Dropping it stops its followers.
struct Open {
    events: mpsc::Receiver<Result<EventRecord, QueryError>>,
    record: ReadRecord,
    _followers: JoinSet<()>,
    _permit: OwnedSemaphorePermit,
}

/// Follows one topic partition.
struct Follower {
    log: Arc<dyn EventLog>,
    at: TopicPartition,
    wanted: Wanted,
    events: mpsc::Sender<Result<EventRecord, QueryError>>,
}

impl Follower {
    async fn run(self, start_inclusive: u64) {
        if let Err(error) = self.follow(start_inclusive).await {
            // Nobody listens if the reader went away meanwhile.
            drop(self.events.send(Err(error)).await);
        }
    }

    /// Ends without an error when the reader is gone.
    async fn follow(&self, mut next: u64) -> Result<(), QueryError> {
        loop {
            self.log.wait_past(self.at, next).await?;
            let records = match self.log.read(self.at, next, READ_BYTES).await {
                Err(ReadError::BelowStart { .. }) => return Err(QueryError::TailFellBehind),
                records => records?,
            };
            for record in records {
                next = record.offset + 1;
                let is_wanted = match Envelope::open(record.value.clone()) {
                    Ok(recorded) => self.wanted.includes(&recorded),
                    // A tail without it would lack something in silence.
                    Err(source @ OpenError::NewerSchema { .. }) => {
                        return Err(QueryError::Newer { at: self.at, offset: record.offset, source });
                    }
                    Err(_) => false,
                };
                if is_wanted && self.events.send(Ok(EventRecord::new(self.at, record))).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
