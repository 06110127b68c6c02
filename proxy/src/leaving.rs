//! What makes a session end that nobody has done anything to: its process, or its credential, is on the way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use retrace_access::{Loan, Term};
use retrace_proxy_core::postgres::{Input, Leave};
use tokio::sync::watch;

use crate::stage::Stage;

/// How far the machine was told of both.
pub(crate) struct Leaving {
    stages: watch::Receiver<Stage>,
    stage: Stage,
    /// What the gate is logged in with at the target. It is given back with this.
    loan: Loan,
    term: Term,
    /// Resolves when one of them is further. Made anew only after that, so that an exchange makes none.
    next: Pin<Box<dyn Future<Output = Step> + Send>>,
}

enum Step {
    Process(Stage),
    Credential(Term),
}

impl Leaving {
    pub(crate) fn new(stages: watch::Receiver<Stage>, loan: Loan) -> Self {
        let (stage, term) = (Stage::Serving, Term::Running);
        let next = next(stages.clone(), stage, &loan, term);
        Self { stages, stage, loan, term, next }
    }

    /// What the machine is to be told next.
    pub(crate) fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Input<'static>> {
        if self.stage == Stage::Stopping || self.term == Term::Over {
            return Poll::Pending;
        }
        let input = match ready!(self.next.as_mut().poll(context)) {
            Step::Process(stage) => {
                self.stage = stage;
                match stage {
                    Stage::Stopping => Input::Shutdown(Leave::Instance),
                    Stage::Serving | Stage::Draining => Input::Drain(Leave::Instance),
                }
            }
            Step::Credential(term) => {
                self.term = term;
                match term {
                    Term::Over => Input::Shutdown(Leave::Credential),
                    Term::Running | Term::Ending => Input::Drain(Leave::Credential),
                }
            }
        };
        self.next = next(self.stages.clone(), self.stage, &self.loan, self.term);
        Poll::Ready(input)
    }
}

fn next(
    stages: watch::Receiver<Stage>,
    stage: Stage,
    loan: &Loan,
    term: Term,
) -> Pin<Box<dyn Future<Output = Step> + Send>> {
    let (process, credential) = (stage.passed(stages), loan.passed(term));
    Box::pin(async move {
        tokio::select! {
            biased;
            stage = process => Step::Process(stage),
            term = credential => Step::Credential(term),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::testing;

    async fn told(leaving: &mut Leaving) -> String {
        format!("{:?}", poll_fn(|context| leaving.poll_input(context)).await)
    }

    #[tokio::test]
    async fn a_session_is_told_of_its_credential_as_of_its_process_and_gives_it_back() {
        let stages = watch::Sender::new(Stage::Serving);
        let term = watch::Sender::new(Term::Running);
        let (returned, mut back) = mpsc::unbounded_channel();
        let loan = Loan::for_a_time(Arc::new(testing::credential()), 7, term.subscribe(), returned);
        let mut leaving = Leaving::new(stages.subscribe(), loan);
        term.send_replace(Term::Ending);
        assert_eq!(told(&mut leaving).await, "Drain(Credential)");
        stages.send_replace(Stage::Draining);
        assert_eq!(told(&mut leaving).await, "Drain(Instance)");
        // Whoever kept it is gone, and has given it back.
        drop(term);
        assert_eq!(told(&mut leaving).await, "Shutdown(Credential)");
        assert!(back.try_recv().is_err(), "it still has it");
        drop(leaving);
        assert_eq!(back.try_recv(), Ok(7));
    }

    #[tokio::test]
    async fn a_credential_without_end_ends_no_session() {
        let stages = watch::Sender::new(Stage::Serving);
        let loan = Loan::for_good(Arc::new(testing::credential()), 0);
        let mut leaving = Leaving::new(stages.subscribe(), loan);
        let waits = poll_fn(|context| Poll::Ready(leaving.poll_input(context).is_pending())).await;
        assert!(waits);
        stages.send_replace(Stage::Stopping);
        assert_eq!(told(&mut leaving).await, "Shutdown(Instance)");
    }
}
