use std::io;
use std::path::{Path, PathBuf};

/// Why the embedded log does not open. Nothing was lost by trying.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the log in {} is in use by process {}: stop that process, or ask it instead of opening its log",
        folder.display(), pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The process, unless it died or began this very moment.
        pid: Option<u32>,
        /// The log's folder.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {doing} {}: check that it exists, its owner and mode, and the space left", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
    /// A file is not as the log wrote it.
    #[error("{} is damaged: restore it from a copy; do not delete it, it holds evidence", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What redb found, if it was redb.
        source: Option<Box<redb::Error>>,
    },
    /// Fewer records are there than were acknowledged.
    #[error(
        "the log in {} ends at offset {end} but had acknowledged {watermark}: restore its newest segments from a copy, \
         or, to accept the loss, delete the file watermark in it",
        folder.display()
    )]
    MissingRecords {
        /// The folder of the topic partition.
        folder: PathBuf,
        /// Where the records end.
        end: u64,
        /// Where they ended when the last was acknowledged.
        watermark: u64,
    },
    /// A segment of a later version.
    #[error("{} has format {format}, this version knows {}: upgrade it", path.display(), super::segment::FORMAT)]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// The format it names.
        format: u64,
    },
}

impl OpenError {
    /// Wraps what the file system answered.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// No thread to write with.
    pub(super) fn thread(source: io::Error) -> Self {
        Self::Io { doing: "start the log's thread", path: PathBuf::new(), source }
    }

    /// Wraps what redb answered. An I/O error stays one: the file itself may be whole.
    pub(super) fn redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                Self::Io { doing: "open", path: path.to_owned(), source }
            }
            redb::Error::DatabaseAlreadyOpen => Self::Locked { pid: None, folder: path.to_owned() },
            error => Self::Damaged { path: path.to_owned(), source: Some(Box::new(error)) },
        }
    }
}
