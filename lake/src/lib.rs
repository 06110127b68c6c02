//! The lake: one Delta table, `events`, that other engines read as it is.
//!
//! The way through this crate, in reading order:
//!
//! * [`schema`]: the columns, whose names are a public contract.
//! * [`Rows`]: records of the log become rows; [`RowReader`] and [`envelope_bytes`] turn them back, bit for bit.
//! * [`Table`]: opens the table; a [`DataFileWriter`] makes its [`DataFile`]s while rows come; they are committed
//!   together with the positions they reach.
//! * [`Snapshot`]: the table as of one version: its files and, per topic partition, the next offset.
//! * [`Place`]: what a writer must know of the latest events to tell the next ones from their duplicates.
//! * [`Compactor`]: merges small files into large ones.
//! * [`RareRecords`]: a few kinds of records among many.
//! * [`Retention`]: which events have expired, those of sessions by [`session_day`]; a [`Retainer`] finds them, [`Table::expire`]
//!   removes them.
//! * [`Sweeper`]: deletes files that a writer left when it died before its commit, and those that were replaced.
//! * [`faults`]: an object store that fails on demand, for crash tests.
//!
//! Nobody else names deltalake or parquet. Positions live in the same commit as the data: whoever reads a snapshot
//! knows exactly which offsets its files hold, and a writer that comes second is fenced.

mod schema;

mod names;

mod lift;

mod rows;

mod read;

mod data_file;

mod write;

mod scan;

mod ranges;

mod places;

mod durable;

mod location;

mod table;

mod positions;

mod commit;

mod rewrite;

mod input;

mod compact;

mod records;

mod retain;

mod sweep;

mod error;

pub mod faults;

pub use commit::{Advance, CommitError};
pub use compact::{Compacted, CompactionOptions, Compactor};
pub use data_file::{DataFile, FileStats, MinMax};
pub use durable::DurableFiles;
pub use error::LakeError;
pub use location::Location;
pub use places::Place;
pub use read::{RowError, RowReader, envelope_bytes};
pub use records::RareRecords;
pub use retain::{Expired, Held, Retainer, Retention, STREAM_DAYS_MAX, session_day};
pub use rewrite::RewriteError;
pub use rows::{RowKind, Rows};
pub use schema::{PARTITION_COLUMNS, file_schema, schema};
pub use sweep::{Sweeper, Swept};
pub use table::{Miscount, REMOVED_KEPT, Snapshot, Table, Version};
pub use write::DataFileWriter;
