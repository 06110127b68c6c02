use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Secret, SecretError, SecretRef, read_secret};
use crate::files::Stamp;

/// A secret that is wanted again and again. A file is looked at each time, and read again if it has changed: replaced by
/// hand, by an agent, by whoever mounted it. A variable of the environment does not change while a process runs.
#[derive(Debug)]
pub struct SecretSource(Place);

#[derive(Debug)]
enum Place {
    Environment(Secret),
    File { path: PathBuf, latest: Mutex<Option<(Stamp, Secret)>> },
}

impl SecretSource {
    /// Where the reference leads to. A file is not read yet.
    ///
    /// # Errors
    /// The variable of the environment is not set, or empty.
    pub fn new(reference: &SecretRef, base_dir: &Path) -> Result<Self, SecretError> {
        Ok(Self(match reference {
            SecretRef::Env(_) => Place::Environment(reference.resolve(base_dir)?),
            SecretRef::File(path) => Place::File { path: base_dir.join(path), latest: Mutex::new(None) },
        }))
    }

    /// The secret as it is now. What a file had before never stands in for it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (path, latest) = match &self.0 {
            Place::Environment(secret) => return Ok(secret.clone()),
            Place::File { path, latest } => (path, latest),
        };
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamp::of_path(path)?;
        if let Some((stamp, secret)) = &*latest
            && *stamp == now
        {
            return Ok(secret.clone());
        }
        *latest = None;
        let (_, secret) = &*latest.insert(read_secret(path)?);
        Ok(secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files;

    #[test]
    fn what_is_written_or_put_into_its_place_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let source = SecretSource::new(&SecretRef::File("secret".into()), dir.path()).unwrap();
        let read = || source.read().unwrap().expose().to_vec();
        fs::write(&path, "one\n").unwrap();
        assert_eq!((read(), read()), (b"one".to_vec(), b"one".to_vec()));
        fs::write(&path, "second").unwrap();
        assert_eq!(read(), b"second");
        files::replace(&path, b"third\n", files::MODE_PRIVATE).unwrap();
        assert_eq!(read(), b"third");
    }

    #[test]
    fn what_it_was_does_not_stand_in_for_what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let source = SecretSource::new(&SecretRef::File(path.clone()), dir.path()).unwrap();
        assert!(matches!(source.read(), Err(SecretError::File(_))));
        fs::write(&path, "one").unwrap();
        assert_eq!(source.read().unwrap().expose(), b"one");
        fs::write(&path, "\n").unwrap();
        assert!(matches!(source.read(), Err(SecretError::Empty(_))));
        assert!(matches!(source.read(), Err(SecretError::Empty(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(source.read(), Err(SecretError::File(_))));
        fs::write(&path, "back").unwrap();
        assert_eq!(source.read().unwrap().expose(), b"back");
    }
}
