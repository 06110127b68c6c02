//! What the gate proves itself with at a target: where it comes from, and for how long it counts.

mod file;
mod store;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::secret::{Secret, SecretError, SecretRef};

use file::PasswordFile;
pub use store::{Ask, Borrower, WeakBorrower};

/// A role of a target with its password.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The role's name, which is no secret.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// How far a credential is on its way out. It goes forward only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// Not at all.
    #[default]
    Running,
    /// What is under way with it should come to an end.
    Ending,
    /// It counts no more.
    Over,
}

/// A credential for one session, which gives it back by dropping this.
#[derive(Debug)]
pub struct Loan {
    credential: Arc<Credential>,
    /// Counts how often it was another one before.
    edition: u64,
    term: Option<watch::Receiver<Term>>,
    _back: Option<Back>,
}

/// Tells whoever lent it. There is one for each session at most, which bounds the channel.
#[derive(Debug)]
struct Back {
    edition: u64,
    returned: mpsc::UnboundedSender<u64>,
}

impl Drop for Back {
    fn drop(&mut self) {
        // Whoever is gone has given everything back already.
        let _ = self.returned.send(self.edition);
    }
}

impl Loan {
    /// One that nobody takes back.
    #[must_use]
    pub fn for_good(credential: Arc<Credential>, edition: u64) -> Self {
        Self { credential, edition, term: None, _back: None }
    }

    /// One for a time: `term` tells of its end, and `returned` hears of its edition when it is dropped.
    #[must_use]
    pub fn for_a_time(
        credential: Arc<Credential>,
        edition: u64,
        term: watch::Receiver<Term>,
        returned: mpsc::UnboundedSender<u64>,
    ) -> Self {
        Self { credential, edition, term: Some(term), _back: Some(Back { edition, returned }) }
    }

    /// Resolves once it is further on its way out than this: where it is then. Never, if it has no end.
    pub fn passed(&self, told: Term) -> impl Future<Output = Term> + Send + 'static {
        let term = self.term.clone();
        async move {
            match term {
                // Whoever is gone has given it back.
                Some(mut term) => term.wait_for(|term| *term > told).await.map_or(Term::Over, |term| *term),
                None => std::future::pending().await,
            }
        }
    }

    /// What is lent.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }
}

/// Why there is no credential. A client may be told; whoever keeps it says more in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCredential {
    /// It cannot be read or fetched now.
    #[error("the gate's credential for it cannot be had at the moment")]
    Unavailable,
    /// Whoever has it does not give it.
    #[error("the gate is not given a credential for it")]
    Refused,
}

/// Where a target's credential comes from. Clones are of one source.
#[derive(Clone, Debug)]
pub struct CredentialSource(Source);

#[derive(Clone, Debug)]
enum Source {
    /// As it was when the configuration was read.
    Fixed(Arc<Credential>),
    /// In a file, which is looked at with each loan and read again if it changed.
    File(Arc<PasswordFile>),
    /// In a store, kept by a task.
    Store(Borrower),
}

impl CredentialSource {
    /// A credential that does not change.
    #[must_use]
    pub fn fixed(credential: Credential) -> Self {
        Self(Source::Fixed(Arc::new(credential)))
    }

    /// This role with the password that the reference leads to. A file counts as it is whenever a session begins; a
    /// variable of the environment does not change while a process runs.
    ///
    /// # Errors
    /// The password is not there.
    pub fn of_user(user: &str, password: &SecretRef, base_dir: &Path) -> Result<Self, SecretError> {
        match password {
            SecretRef::Env(_) => {
                let password = password.resolve(base_dir)?;
                Ok(Self::fixed(Credential { user: user.to_owned(), password }))
            }
            SecretRef::File(_) => {
                let file = PasswordFile::open(user.to_owned(), password, base_dir)?;
                Ok(Self(Source::File(Arc::new(file))))
            }
        }
    }

    /// What whoever is at the other end of `borrower` lends.
    #[must_use]
    pub fn store(borrower: Borrower) -> Self {
        Self(Source::Store(borrower))
    }

    /// A credential for a session that begins.
    ///
    /// # Errors
    /// There is none: the session must not begin.
    pub async fn lend(&self) -> Result<Loan, NoCredential> {
        match &self.0 {
            Source::Fixed(credential) => Ok(Loan::for_good(credential.clone(), 0)),
            Source::File(file) => file.lend(),
            Source::Store(borrower) => borrower.ask(None).await?.ok_or(NoCredential::Unavailable),
        }
    }

    /// Another one in the place of one that the target has just refused; `None` if there is no other.
    ///
    /// # Errors
    /// As [`CredentialSource::lend`].
    pub async fn lend_other(&self, refused: &Loan) -> Result<Option<Loan>, NoCredential> {
        match &self.0 {
            Source::Fixed(_) => Ok(None),
            Source::Store(borrower) => borrower.ask(Some(refused.edition)).await,
            // It may have been replaced since.
            Source::File(file) => {
                file.lend().map(|loan| Some(loan).filter(|loan| loan.edition != refused.edition))
            }
        }
    }
}
