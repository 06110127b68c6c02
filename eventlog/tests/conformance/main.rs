//! The contract of `EventLog`, held against the logs that need no other process; `tests/` holds the log on Kafka to it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod suite;

use retrace_eventlog::{EmbeddedLog, EmbeddedOptions, MemoryLog};
use suite::conformance;

conformance!(memory, async { (MemoryLog::with_partitions(2, 1), ()) });

conformance!(embedded, async {
    let folder = tempfile::tempdir().unwrap();
    // A group of a few records and a segment of a few groups, so that every test crosses both.
    let options =
        EmbeddedOptions { segment_bytes_max: 1000, group_bytes_max: 1500, ..EmbeddedOptions::default() };
    (EmbeddedLog::open(folder.path(), &options).unwrap(), folder)
});
