//! Where a simulated worker stops: before each request to the log, and before each put. Nothing goes on until the simulation
//! says so, and how the request ends.

use async_trait::async_trait;
use retrace_lake::faults::{Fault, Judge, Step};
use tokio::sync::{mpsc, oneshot};

/// What a worker is about to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Offsets,
    Read,
    Truncate,
    Put(Step),
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// It is done, and yet fails.
    FailPersisted,
}

#[derive(Debug)]
pub(crate) enum Message {
    Arrived(Request, oneshot::Sender<Verdict>),
    /// A put is over.
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Gate(mpsc::UnboundedSender<Message>);

impl Gate {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, messages) = mpsc::unbounded_channel();
        (Self(sender), messages)
    }

    /// Once the simulation is not there any more, everything fails.
    pub(crate) async fn pass(&self, request: Request) -> Verdict {
        let (sender, verdict) = oneshot::channel();
        match self.0.send(Message::Arrived(request, sender)) {
            Ok(()) => verdict.await.unwrap_or(Verdict::Fail),
            Err(_) => Verdict::Fail,
        }
    }
}

#[async_trait]
impl Judge for Gate {
    async fn judge(&self, step: Step) -> Option<Fault> {
        match self.pass(Request::Put(step)).await {
            Verdict::Pass => None,
            Verdict::Fail => Some(Fault::Failed),
            Verdict::FailPersisted => Some(Fault::FailedButPersisted),
        }
    }

    fn ended(&self, _step: Step) {
        let _ = self.0.send(Message::Ended);
    }
}
