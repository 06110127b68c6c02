use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;

use crate::AppendError;
use crate::watch::Observed;

/// What an append came to.
pub(crate) type Outcome = Result<u64, AppendError>;

/// An append under way. It resolves to the record's offset once the record is durable.
///
/// Dropping it does not undo the append; it only forgets the outcome. Do not poll it again after it resolved.
#[derive(Debug)]
#[must_use = "nothing may depend on the record before this resolves"]
pub struct Append {
    state: State,
    /// For whoever watches the log.
    observed: Option<Observed>,
}

#[derive(Debug)]
enum State {
    Ready(Outcome),
    /// With the moment of the outcome, which may be seen later.
    Waiting(oneshot::Receiver<(Outcome, Instant)>),
    Shared(Shared<Box<Append>>),
}

impl Append {
    /// An append that was decided in the call.
    pub(crate) fn ready(outcome: Outcome) -> Self {
        Self { state: State::Ready(outcome), observed: None }
    }

    /// An append that the log decides later.
    pub(crate) fn waiting() -> (Resolver, Self) {
        let (sender, receiver) = oneshot::channel();
        (Resolver(sender), Self { state: State::Waiting(receiver), observed: None })
    }

    /// Two views of one append.
    pub(crate) fn shared(self) -> (Self, Shared<Box<Append>>) {
        let shared = Box::new(self).shared();
        (Self { state: State::Shared(shared.clone()), observed: None }, shared)
    }

    /// The same append, whose outcome is noted as well.
    pub(crate) fn observed(self, observed: Observed) -> Self {
        Self { observed: Some(observed), ..self }
    }
}

impl Future for Append {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let (outcome, at) = match &mut self.state {
            State::Ready(outcome) => (*outcome, None),
            State::Waiting(receiver) => match ready!(receiver.poll_unpin(context)) {
                Ok((outcome, at)) => (outcome, Some(at)),
                // A log that goes away without an answer may have written the record.
                Err(_) => (Err(AppendError::Unknown), None),
            },
            State::Shared(shared) => (ready!(shared.poll_unpin(context)), None),
        };
        if let Some(observed) = self.observed.take() {
            observed.resolved(outcome, at);
        }
        Poll::Ready(outcome)
    }
}

/// The log's end of an [`Append`].
#[derive(Debug)]
pub(crate) struct Resolver(oneshot::Sender<(Outcome, Instant)>);

impl Resolver {
    /// Tells the caller, who may have stopped waiting.
    pub(crate) fn resolve(self, outcome: Outcome) {
        let _ = self.0.send((outcome, Instant::now()));
    }
}
