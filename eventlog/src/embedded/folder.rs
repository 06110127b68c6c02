use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use retrace_proto::Id;

use super::OpenError;

/// Makes a folder that survives a crash and that only its owner may enter; one that is there is fine as it is.
pub(super) fn create(folder: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(OpenError::io("create", folder))?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent).map_err(OpenError::io("sync", parent))?;
    }
    Ok(())
}

/// Makes what happened to the names in `folder` durable.
pub(super) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Microseconds since the Unix epoch by the wall clock.
pub(super) fn now_unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The id in the topic's folder; a new topic gets a new one.
pub(super) fn topic_id(folder: &Path) -> Result<Id, OpenError> {
    let path = folder.join("topic-id");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| OpenError::Damaged { path, source: None }),
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.join("0").exists() => {
            let id = new_id().map_err(OpenError::io("draw random bytes for", &path))?;
            write_durably(&path, id.to_string().as_bytes()).map_err(OpenError::io("write", &path))?;
            Ok(id)
        }
        Err(error) => Err(OpenError::io("read", &path)(error)),
    }
}

fn new_id() -> std::io::Result<Id> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
    let unix_ms = u64::try_from(now_unix_us() / 1000).unwrap_or_default();
    Ok(Id::from_parts(unix_ms, random))
}

/// Writes a file that is there whole or not at all, whatever happens meanwhile.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Holds the log's folder for this process. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    locked: File,
}

/// As many digits as a process id can have; the file is overwritten in place, so that it is never empty.
const PID_DIGITS: usize = 10;

impl FolderLock {
    pub(super) fn acquire(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("LOCK");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(OpenError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(OpenError::Locked { pid, folder: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", &path)(error)),
        }
        let pid = format!("{:<PID_DIGITS$}\n", std::process::id());
        file.write_all_at(pid.as_bytes(), 0).map_err(OpenError::io("write", &path))?;
        Ok(Self { locked: file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that this one is just starting has it open too, until it runs a program
        // of its own. If this fails, closing is what is left.
        let _ = self.locked.unlock();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_at_once_though_a_process_that_starts_has_the_lock_open_too() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire(folder.path()).unwrap();
        assert!(matches!(FolderLock::acquire(folder.path()), Err(OpenError::Locked { .. })));
        // What a fork leaves behind: another descriptor of the same open file.
        let _inherited = lock.locked.try_clone().unwrap();
        drop(lock);
        assert!(FolderLock::acquire(folder.path()).is_ok());
    }
}
