//! Log to lake, exactly once.
//!
//! The way through this crate, in reading order:
//!
//! * [`Ingest`]: one writer of the table. [`Ingest::step`] takes one batch all the way, [`Ingest::run`] repeats it.
//! * [`Retaining`]: removes what has expired and no legal hold keeps.
//! * [`Status`]: how far it is, for whoever wants to know.
//! * [`IngestError`]: why it stopped. It stops rather than start over.
//!
//! The log is the buffer: nothing is kept here between two steps but positions and what the table says just below
//! them, so there is nothing to lose. A position moves in the commit that adds the rows it counts, and the log lets go of
//! records only after that commit; of control records, which every process reads at its start, only once they are out of date.

mod ingest;

mod run;

mod recent;

mod truncate;

mod retain;

mod keep;

mod status;

mod metrics;

mod error;

pub use error::IngestError;
pub use ingest::{Ingest, Options, Progress};
pub use recent::RECENT_EVENTS_MAX;
pub use retain::{Periods, RetainError, Retained, Retaining, RetentionOptions};
pub use run::Next;
pub use status::{PartitionStatus, Status};
