//! The table's live files, against what compaction leaves at most.

use std::collections::BTreeMap;

use retrace_lake::{CompactionOptions, DataFile};
use retrace_proto::log::TopicPartition;
use retrace_query::Cut;

/// Ingest commits a file of each day, class and topic partition every five seconds, and compaction is not at each of them
/// at once: it begins a step ten seconds after the one before, and a step merges all that is due. So many files may come
/// meanwhile if both are slow: those of two minutes.
const COMING_FILES_MAX: usize = 24;

/// What one version of the table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// Small files of that day, class and topic partition that has most of them.
    pub(super) small_files: usize,
}

/// Small files of one day, class and topic partition at most, whatever was written and for however long: less than the
/// fan-in of each size that is told apart, and those that come while they are merged. A table that nobody merges has as many
/// after four minutes.
pub(super) fn small_files_max() -> usize {
    CompactionOptions::default().small_files_max() + COMING_FILES_MAX
}

/// Counts.
pub(super) fn live(files: &[DataFile]) -> Live {
    let small_bytes = CompactionOptions::default().file_bytes_max / 2;
    let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
    for file in files.iter().filter(|file| file.bytes < small_bytes) {
        *kinds.entry((file.session_date, &file.retention_class, file.topic_partition())).or_default() += 1;
    }
    Live {
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        small_files: kinds.into_values().max().unwrap_or_default(),
    }
}

/// Records below a cut that the files do not have. Nothing expires here, so that as many rows lie below the table's position
/// as it says.
pub(super) fn behind(cut: &Cut, files: &[DataFile]) -> u64 {
    let rows = |at: TopicPartition| -> u64 {
        files.iter().filter(|file| file.topic_partition() == Some(at)).map(|file| file.rows).sum()
    };
    cut.positions().iter().map(|position| position.end_exclusive.saturating_sub(rows(position.at))).sum()
}
