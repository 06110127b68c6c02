use deltalake::DeltaTableError;
use object_store::path::Path;

use crate::read::RowError;
use crate::table::{Miscount, TABLE_SCHEMA};

/// Why the table could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location is not one that can be served.
    #[error("{location} is not a place for the lake: give a folder, or an s3://, gs:// or az:// URL")]
    Location {
        /// As it was given.
        location: String,
    },
    /// An option that the store does not have.
    #[error(
        "`{name}` is not an option of the store at {location}: see the names that object_store has for it"
    )]
    Option {
        /// Its name.
        name: String,
        /// Where the table is.
        location: String,
    },
    /// There is nothing to put the table into.
    #[error("there is no bucket or container for {location}: make it first, or correct the URL")]
    NoBucket {
        /// Where the table should be.
        location: String,
    },
    /// The store does not let this credential write.
    #[error(
        "the store refused the credential for {location}: check its key and secret, and that it may read, write and delete"
    )]
    Denied {
        /// Where the table should be.
        location: String,
    },
    /// A Delta table that somebody else made.
    #[error("the Delta table there was not made by retrace: choose an empty folder for the lake")]
    Foreign,
    /// A table of a later release.
    #[error("the table has schema {version}, this release knows up to {TABLE_SCHEMA}: upgrade retrace first")]
    Newer {
        /// What the table says.
        version: u64,
    },
    /// The store would let two writers make the same commit.
    #[error(
        "the object store overwrites what it was asked to create: commits would be lost; use one with conditional put"
    )]
    NoConditionalPut,
    /// The store failed; asking again may help.
    #[error("the lake's store failed: check that it can be reached and has room, then try again")]
    Store {
        /// What it said.
        #[source]
        source: object_store::Error,
    },
    /// The table's log says what no writer of ours writes.
    #[error("the table's log is damaged: restore `_delta_log` from a copy; the data files are not affected")]
    DamagedLog,
    /// The library could not read or write the table's log.
    #[error("the table's log could not be read or written")]
    Delta {
        /// What it said.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// A commit came to nothing: below the newest version, where the log had been cleaned up.
    #[error(
        "the commit is not part of the table's log, which was cleaned up meanwhile: if this comes again, compare the clocks of the \
         machines and of the store"
    )]
    Stale,
    /// Files were taken out of the table, or put into it, by somebody else.
    #[error("{0} (nothing was deleted)")]
    Miscount(#[from] Miscount),
    /// A batch of another schema than the table's, or of more than 2^32 rows.
    #[error("the rows are not a batch of the table's schema: make them with `Rows`")]
    WrongRows,
    /// Rows that could not be put into a file.
    #[error("the rows could not be encoded")]
    Encode {
        /// What the encoder said.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A data file that is not one, or was changed since it was written.
    #[error("the data file {path} could not be decoded: restore it from a copy")]
    Decode {
        /// Which, within the table.
        path: Path,
        /// What the decoder said.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A data file that the table's log names is gone.
    #[error("the data file {path} is not there, but the table's log names it: restore it from a copy")]
    MissingFile {
        /// Which, within the table.
        path: Path,
    },
    /// Rows of a data file that do not give their records back.
    #[error("the data file {path} does not hold what was recorded: restore it from a copy")]
    Rows {
        /// Which, within the table.
        path: Path,
        /// What is the matter with them.
        #[source]
        source: RowError,
    },
    /// Rows that could not be rearranged.
    #[error("the rows could not be arranged as the table has them")]
    Arrow {
        /// What arrow said.
        #[source]
        source: arrow::error::ArrowError,
    },
}

impl LakeError {
    pub(crate) fn delta(source: DeltaTableError) -> Self {
        Self::Delta { source: Box::new(source) }
    }

    pub(crate) fn encode(source: parquet::errors::ParquetError) -> Self {
        Self::Encode { source }
    }
}
