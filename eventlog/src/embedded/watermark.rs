use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use twox_hash::XxHash64;

use super::{OpenError, folder};

const NAME: &str = "watermark";

/// Remembers beside the segments up to where records were acknowledged.
///
/// redb answers a damaged last commit by going back to the one before, without a word. The watermark is how that is
/// noticed. It is written after the records are durable and before their appends resolve, and not synced: it is never
/// ahead of what was durable, and after the death of a process, as opposed to that of the machine, it is exact.
#[derive(Debug)]
pub(super) struct Watermark(File);

/// An offset and its checksum, each 8 bytes, little endian.
const BYTES: usize = 16;

fn encode(end: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&end.to_le_bytes());
    bytes[8..].copy_from_slice(&XxHash64::oneshot(0, &end.to_le_bytes()).to_le_bytes());
    bytes
}

/// What was acknowledged in `folder`; nothing if the folder is new, or an operator accepted a loss.
pub(super) fn read(folder: &Path) -> Result<Option<u64>, OpenError> {
    let path = folder.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("read", &path)(error)),
    };
    let end = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    match end {
        Some(end) if bytes == encode(end) => Ok(Some(end)),
        _ => Err(OpenError::Damaged { path, source: None }),
    }
}

impl Watermark {
    /// Makes the file that [`read`] finds.
    pub(super) fn create(folder: &Path, end: u64) -> Result<Self, OpenError> {
        let path: PathBuf = folder.join(NAME);
        let open = || {
            folder::write_durably(&path, &encode(end))?;
            OpenOptions::new().write(true).open(&path)
        };
        open().map(Self).map_err(OpenError::io("write", &path))
    }

    pub(super) fn advance(&self, end: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(end), 0)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
