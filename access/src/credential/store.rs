use tokio::sync::{mpsc, oneshot};

use super::{Loan, NoCredential};

/// Questions of sessions that begin which whoever keeps a credential has not taken up. Further ones wait.
const QUESTIONS_MAX: usize = 256;

/// What a session asks of whoever keeps a credential.
#[derive(Debug)]
pub struct Ask {
    /// The edition of the loan that the target has refused, if it has refused one.
    pub refused: Option<u64>,
    /// `None` if there is no other than the one that was refused.
    pub reply: oneshot::Sender<Result<Option<Loan>, NoCredential>>,
}

/// The way to whoever keeps a credential, who is done when the last clone of this is gone and nothing is lent any more.
#[derive(Clone, Debug)]
pub struct Borrower(mpsc::Sender<Ask>);

/// A [`Borrower`] that keeps nobody at it.
#[derive(Clone, Debug)]
pub struct WeakBorrower(mpsc::WeakSender<Ask>);

impl Borrower {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(QUESTIONS_MAX);
        (Self(asks), asked)
    }

    /// The same way, for whoever may come back to it.
    #[must_use]
    pub fn downgrade(&self) -> WeakBorrower {
        WeakBorrower(self.0.downgrade())
    }

    /// An answer for somebody who has gone meanwhile is dropped with its loan, which is given back by that.
    pub(super) async fn ask(&self, refused: Option<u64>) -> Result<Option<Loan>, NoCredential> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask { refused, reply }).await.map_err(|_| NoCredential::Unavailable)?;
        answer.await.unwrap_or(Err(NoCredential::Unavailable))
    }
}

impl WeakBorrower {
    /// The way itself, if somebody still keeps the credential for someone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Borrower> {
        self.0.upgrade().filter(|asks| !asks.is_closed()).map(Borrower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_way_to_a_keeper_who_has_gone() {
        let (borrower, asked) = Borrower::new();
        let weak = borrower.downgrade();
        assert!(weak.upgrade().is_some());
        drop(asked);
        assert!(weak.upgrade().is_none(), "though somebody still has the way");
    }
}
