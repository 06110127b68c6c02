//! Files that must be whole, or private, or both.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// For the owner alone: keys, tokens, credentials.
pub(crate) const MODE_PRIVATE: u32 = 0o600;
/// For everybody to read: certificates.
pub(crate) const MODE_PUBLIC: u32 = 0o644;

/// Why a file of the gateway could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is made once is there already; overwriting a key would orphan all that was made with it.
    #[error("{} is there already and is not overwritten: move it away, or choose another folder", .0.display())]
    Exists(PathBuf),
    /// The file is larger than its kind can be.
    #[error("{} is larger than {bytes_max} bytes, so it is not the file meant here", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The system gave no random bytes; without them no key or token can be made.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], FileError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(FileError::Random)?;
    Ok(bytes)
}

/// Which state of a file was read: it differs after every replacement and after every edit in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The state a path is in now.
    pub(crate) fn of_path(path: &Path) -> Result<Self, FileError> {
        fs::metadata(path).map(|metadata| Self::of(&metadata)).map_err(FileError::io("read", path))
    }
}

/// Reads a file of at most `bytes_max` bytes, and says which state of it that was.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<(Stamp, Vec<u8>), FileError> {
    let file = File::open(path).map_err(FileError::io("read", path))?;
    let stamp = Stamp::of(&file.metadata().map_err(FileError::io("read", path))?);
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes_max });
    }
    Ok((stamp, bytes))
}

/// Warns of a file that should be its owner's alone and is not. A warning only, because mounted secrets are often
/// readable by a group.
pub(crate) fn warn_if_shared(path: &Path) {
    let shared = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
    if shared {
        tracing::warn!(file = %path.display(), "others than its owner may read this secret file: chmod 600 it");
    }
}

/// Makes a folder that only its owner may enter, if there is none.
pub(crate) fn private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::io("create the folder", path))
}

/// Puts the bytes where the path says, in one step: a reader, or a crash, sees the old file or the new one, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    fs::rename(&temporary.path, path).map_err(FileError::io("write", path))?;
    sync_folder_of(path)
}

/// Like [`replace`], for a file that is made once: what is there already stays, whoever else makes it at the same moment.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    fs::hard_link(&temporary.path, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Io { action: "create", path: path.to_owned(), source },
    })?;
    sync_folder_of(path)
}

/// The bytes on disk under a name of their own beside the path they are meant for; the name goes when this does.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(meant_for: &Path, bytes: &[u8], mode: u32) -> Result<Self, FileError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(meant_for.file_name().unwrap_or_default());
        name.push(format!(".{:016x}", u64::from_ne_bytes(random()?)));
        let path = meant_for.with_file_name(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(FileError::io("create", &path))?;
        let temporary = Self { path };
        file.set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .map_err(FileError::io("write", &temporary.path))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename the name is gone already; what else could fail leaves an unused file and no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a name that was just given to a file survive a power cut.
fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::io("sync the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replacing_leaves_one_file_of_the_asked_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"one", MODE_PUBLIC).unwrap();
        replace(&path, b"two", MODE_PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!((mode(&path), names(dir.path())), (0o600, vec!["a".to_owned()]));
    }

    #[test]
    fn creating_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create(&path, b"one", MODE_PRIVATE).unwrap();
        assert!(matches!(create(&path, b"two", MODE_PRIVATE), Err(FileError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_file_over_its_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().1, b"12345");
        assert!(matches!(read(&path, 4), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn an_edit_in_place_and_a_replacement_change_the_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"1").unwrap();
        let first = Stamp::of_path(&path).unwrap();
        fs::write(&path, b"22").unwrap();
        let second = Stamp::of_path(&path).unwrap();
        replace(&path, b"33", MODE_PRIVATE).unwrap();
        let third = Stamp::of_path(&path).unwrap();
        assert!(first != second && second != third);
    }
}
