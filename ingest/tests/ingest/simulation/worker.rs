//! An ingest worker that runs only while it is driven, and can die wherever it stops.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_ingest::{Ingest, IngestError, Next, Options};
use retrace_lake::faults::FaultyStore;
use retrace_proto::log::TopicPartition;
use tokio::sync::{mpsc, oneshot, watch};

use super::gate::{Gate, Message, Request, Verdict};
use crate::support::{Member, open};

/// Real time; a worker that takes longer will never stop anywhere.
const PATIENCE: Duration = Duration::from_secs(120);

type Attempt = Pin<Box<dyn Future<Output = (Ingest, Result<Next, IngestError>)>>>;

/// A process start of a worker.
pub(crate) struct Worker {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) share: watch::Sender<Vec<TopicPartition>>,
    messages: mpsc::UnboundedReceiver<Message>,
    phase: Phase,
}

enum Phase {
    /// Between two attempts.
    Idle(Box<Ingest>),
    /// Within one, before a request.
    Stopped(Attempt, Request, oneshot::Sender<Verdict>),
    /// Only while it is driven.
    Driven,
}

/// Where a worker stops next.
#[derive(Debug)]
pub(crate) enum Stop {
    Before(Request),
    After(Result<Next, IngestError>),
}

/// A put that was under way when its worker died. It is done whenever the store comes to it.
pub(crate) struct Ghost {
    pub(crate) request: Request,
    verdict: oneshot::Sender<Verdict>,
    messages: mpsc::UnboundedReceiver<Message>,
}

impl Worker {
    pub(crate) async fn start(
        log: &Arc<MemoryLog>,
        store: &Arc<dyn ObjectStore>,
        share: Vec<TopicPartition>,
        options: Options,
    ) -> Self {
        let (gate, messages) = Gate::new();
        let (sender, member) = Member::join_at(log, gate.clone());
        sender.send_replace(share);
        let store = FaultyStore::judged(Arc::clone(store), Arc::new(gate));
        let ingest = Ingest::new(member as Arc<dyn EventLog>, open(&store).await, options);
        let phase = Phase::Idle(Box::new(ingest.expect("a member")));
        Self { store, share: sender, messages, phase }
    }

    /// The request that it stopped before.
    pub(crate) fn request(&self) -> Option<Request> {
        match &self.phase {
            Phase::Stopped(_, request, _) => Some(*request),
            Phase::Idle(_) | Phase::Driven => None,
        }
    }

    /// Records that the log has and it has not, as it knows.
    pub(crate) fn lag_records(&self) -> Option<u64> {
        match &self.phase {
            Phase::Idle(ingest) => Some(ingest.status().borrow().lag_records()),
            Phase::Stopped(..) | Phase::Driven => None,
        }
    }

    /// Goes on to where it stops next. The verdict is for the request that it stands before.
    pub(crate) async fn drive(&mut self, verdict: Verdict) -> Stop {
        let mut attempt: Attempt = match std::mem::replace(&mut self.phase, Phase::Driven) {
            Phase::Idle(mut ingest) => Box::pin(async move {
                let outcome = ingest.attempt().await;
                (*ingest, outcome)
            }),
            Phase::Stopped(attempt, _, sender) => {
                sender.send(verdict).expect("the request waits");
                attempt
            }
            Phase::Driven => unreachable!("it is driven by one"),
        };
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    ended = &mut attempt => Err(ended),
                    message = self.messages.recv() => Ok(message.expect("the worker has the other end")),
                }
            };
            match tokio::time::timeout(PATIENCE, next).await.expect("it stops somewhere") {
                Ok(Message::Ended) => {}
                Ok(Message::Arrived(request, sender)) => {
                    self.phase = Phase::Stopped(attempt, request, sender);
                    return Stop::Before(request);
                }
                Err((ingest, outcome)) => {
                    self.phase = Phase::Idle(Box::new(ingest));
                    return Stop::After(outcome);
                }
            }
        }
    }

    /// Dies where it stands. A put that it stands before may be on its way to the store already.
    pub(crate) fn kill(mut self) -> Option<Ghost> {
        while self.messages.try_recv().is_ok() {}
        match self.phase {
            Phase::Stopped(attempt, request @ Request::Put(_), verdict) => {
                drop(attempt);
                Some(Ghost { request, verdict, messages: self.messages })
            }
            _ => None,
        }
    }
}

impl Ghost {
    /// The store does what the dead worker asked for.
    pub(crate) async fn land(mut self) {
        self.verdict.send(Verdict::Pass).expect("the put is under way");
        let ended = tokio::time::timeout(PATIENCE, self.messages.recv()).await.expect("a put ends");
        assert!(matches!(ended, Some(Message::Ended)), "{ended:?}");
    }
}
