use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Credential, Loan, NoCredential};
use crate::secret::{SecretError, SecretRef, SecretSource};

/// A password in a file that may change.
#[derive(Debug)]
pub(super) struct PasswordFile {
    source: SecretSource,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    credential: Arc<Credential>,
    edition: u64,
}

impl PasswordFile {
    pub(super) fn open(user: String, file: &SecretRef, base_dir: &Path) -> Result<Self, SecretError> {
        let source = SecretSource::new(file, base_dir)?;
        let credential = Arc::new(Credential { user, password: source.read()? });
        Ok(Self { source, latest: Mutex::new(Latest { credential, edition: 0 }) })
    }

    /// The password as the file has it now. As with tokens: while it cannot be read, nobody gets through.
    pub(super) fn lend(&self) -> Result<Loan, NoCredential> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let password = self.source.read().map_err(|error| {
            tracing::error!(%error, "the password of a target cannot be read");
            NoCredential::Unavailable
        })?;
        if !password.is_same(&latest.credential.password) {
            let user = latest.credential.user.clone();
            *latest =
                Latest { credential: Arc::new(Credential { user, password }), edition: latest.edition + 1 };
        }
        Ok(Loan::for_good(latest.credential.clone(), latest.edition))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lent(file: &PasswordFile) -> (Vec<u8>, u64) {
        let loan = file.lend().unwrap();
        assert_eq!(loan.credential().user, "gate");
        (loan.credential().password.expose().to_vec(), loan.edition)
    }

    #[test]
    fn what_the_file_has_now_is_lent_and_nothing_while_it_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        fs::write(&path, "one\n").unwrap();
        let file = SecretRef::File(path.clone());
        let file = PasswordFile::open("gate".to_owned(), &file, dir.path()).unwrap();
        assert_eq!((lent(&file), lent(&file)), ((b"one".to_vec(), 0), (b"one".to_vec(), 0)));
        fs::write(&path, "second").unwrap();
        assert_eq!((lent(&file), lent(&file)), ((b"second".to_vec(), 1), (b"second".to_vec(), 1)));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.lend().err(), Some(NoCredential::Unavailable));
        fs::write(&path, "second\n").unwrap();
        assert_eq!(lent(&file), (b"second".to_vec(), 1), "it is the same one");
    }
}
