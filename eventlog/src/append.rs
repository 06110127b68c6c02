use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;

use crate::AppendError;

/// What an append came to.
pub(crate) type Outcome = Result<u64, AppendError>;

/// An append under way. It resolves to the record's offset once the record is durable.
///
/// Dropping it does not undo the append; it only forgets the outcome. Do not poll it again after it resolved.
#[derive(Debug)]
#[must_use = "nothing may depend on the record before this resolves"]
pub struct Append(State);

#[derive(Debug)]
enum State {
    Ready(Outcome),
    Waiting(oneshot::Receiver<Outcome>),
    Shared(Shared<Box<Append>>),
}

impl Append {
    /// An append that was decided in the call.
    pub(crate) fn ready(outcome: Outcome) -> Self {
        Self(State::Ready(outcome))
    }

    /// An append that the log decides later.
    pub(crate) fn waiting() -> (Resolver, Self) {
        let (sender, receiver) = oneshot::channel();
        (Resolver(sender), Self(State::Waiting(receiver)))
    }

    /// Two views of one append.
    pub(crate) fn shared(self) -> (Self, Shared<Box<Append>>) {
        let shared = Box::new(self).shared();
        (Self(State::Shared(shared.clone())), shared)
    }
}

impl Future for Append {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            State::Ready(outcome) => Poll::Ready(*outcome),
            // A log that goes away without an answer may have written the record.
            State::Waiting(receiver) => {
                Poll::Ready(ready!(receiver.poll_unpin(context)).unwrap_or(Err(AppendError::Unknown)))
            }
            State::Shared(shared) => shared.poll_unpin(context),
        }
    }
}

/// The log's end of an [`Append`].
#[derive(Debug)]
pub(crate) struct Resolver(oneshot::Sender<Outcome>);

impl Resolver {
    /// Tells the caller, who may have stopped waiting.
    pub(crate) fn resolve(self, outcome: Outcome) {
        let _ = self.0.send(outcome);
    }
}
