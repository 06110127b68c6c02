use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Credential, Loan, NoCredential};
use crate::files::Stamp;
use crate::secret::{SecretError, read_secret};

/// A password in a file that may change: replaced by hand, by an agent, by whoever mounted it.
#[derive(Debug)]
pub(crate) struct PasswordFile {
    user: String,
    path: PathBuf,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    stamp: Stamp,
    credential: Arc<Credential>,
    edition: u64,
}

impl PasswordFile {
    pub(super) fn open(user: String, path: PathBuf) -> Result<Self, SecretError> {
        let (stamp, password) = read_secret(&path)?;
        let credential = Arc::new(Credential { user: user.clone(), password });
        Ok(Self { user, path, latest: Mutex::new(Latest { stamp, credential, edition: 0 }) })
    }

    /// The password as the file has it now. As with tokens: while it cannot be read, nobody gets through.
    pub(super) fn lend(&self) -> Result<Loan, NoCredential> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match self.refresh(&mut latest) {
            Ok(()) => Ok(Loan::for_good(latest.credential.clone(), latest.edition)),
            Err(error) => {
                tracing::error!(%error, "the password of a target cannot be read");
                Err(NoCredential::Unavailable)
            }
        }
    }

    fn refresh(&self, latest: &mut Latest) -> Result<(), SecretError> {
        if Stamp::of_path(&self.path)? == latest.stamp {
            return Ok(());
        }
        let (stamp, password) = read_secret(&self.path)?;
        let credential = Arc::new(Credential { user: self.user.clone(), password });
        *latest = Latest { stamp, credential, edition: latest.edition + 1 };
        tracing::info!(file = %self.path.display(), "the password of a target has changed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::files;

    fn file(dir: &Path) -> PasswordFile {
        fs::write(dir.join("password"), "one\n").unwrap();
        PasswordFile::open("gate".to_owned(), dir.join("password")).unwrap()
    }

    fn lent(file: &PasswordFile) -> (Vec<u8>, u64) {
        let loan = file.lend().unwrap();
        assert_eq!(loan.credential().user, "gate");
        (loan.credential().password.expose().to_vec(), loan.edition)
    }

    #[test]
    fn what_is_written_or_put_into_its_place_counts_with_the_next_loan() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        assert_eq!((lent(&file), lent(&file)), ((b"one".to_vec(), 0), (b"one".to_vec(), 0)));
        fs::write(&file.path, "second").unwrap();
        assert_eq!(lent(&file), (b"second".to_vec(), 1));
        files::replace(&file.path, b"third\n", files::MODE_PRIVATE).unwrap();
        assert_eq!((lent(&file), lent(&file)), ((b"third".to_vec(), 2), (b"third".to_vec(), 2)));
    }

    #[test]
    fn while_it_cannot_be_read_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        fs::remove_file(&file.path).unwrap();
        assert_eq!(file.lend().err(), Some(NoCredential::Unavailable));
        fs::write(&file.path, "\n").unwrap();
        assert_eq!(file.lend().err(), Some(NoCredential::Unavailable));
        fs::write(&file.path, "back").unwrap();
        assert_eq!(lent(&file).0, b"back");
    }
}
