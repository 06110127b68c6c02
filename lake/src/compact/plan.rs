use std::collections::{BTreeMap, HashSet};

use object_store::path::Path;

use crate::compact::CompactionOptions;
use crate::data_file::DataFile;
use crate::write::{FileKey, FileName};

/// Files of one merge at most: each of them has a row group in memory.
const FILES_MAX: usize = 16;

/// The least size that is told apart from smaller ones.
const TIER_BYTES_MIN: u64 = 64 * 1024;

/// Files that are to become one, in the order of their first offsets.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    /// What they share.
    pub(crate) key: FileKey,
    pub(crate) files: Vec<DataFile>,
}

/// Chooses files to merge, the smallest first. All files of a merge have one day, class and topic partition.
///
/// Files of about one size are merged once there are [`CompactionOptions::fan_in`] of them, as in a log-structured merge
/// tree with tiers (O'Neil et al. 1996; Luo and Carey 2020, "tiering"): of n files of fresh rows there are never more than
/// about `fan_in · log(n)` left, for which each row was written again `log(n)` times. Where nothing has come for a while,
/// what is small becomes one file whatever its size.
pub(crate) fn plan(
    files: &[DataFile],
    left_alone: &HashSet<Path>,
    now_unix_ms: i64,
    options: &CompactionOptions,
) -> Vec<Merge> {
    let mut groups: BTreeMap<FileKey, Vec<&DataFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| !left_alone.contains(&file.path)) {
        // What somebody else wrote into the table is left as it is.
        let Some(key) = FileKey::of(file) else { continue };
        groups.entry(key).or_default().push(file);
    }
    let mut merges = Vec::new();
    for (key, group) in &groups {
        let made = |files| Merge { key: key.clone(), files };
        let small: Vec<_> =
            group.iter().copied().filter(|file| file.bytes < options.file_bytes_max / 2).collect();
        if is_settled(group, now_unix_ms, options) {
            merges.extend(merge(small, options, 2).map(made));
            continue;
        }
        let mut tiers: BTreeMap<u32, Vec<&DataFile>> = BTreeMap::new();
        for file in small {
            tiers.entry(tier(file.bytes, options.fan_in)).or_default().push(file);
        }
        merges.extend(tiers.into_values().filter_map(|tier| merge(tier, options, options.fan_in)).map(made));
    }
    merges.sort_by_key(|merge| bytes(&merge.files));
    merges
}

/// By when files were written, not by when their rows were: while ingest works off what waited in the log, rows are old
/// and files come all the time.
fn is_settled(group: &[&DataFile], now_unix_ms: i64, options: &CompactionOptions) -> bool {
    let newest = group.iter().map(|file| file.written_at_unix_ms).max().unwrap_or(now_unix_ms);
    let age_ms = now_unix_ms.saturating_sub(newest);
    u128::try_from(age_ms).is_ok_and(|age_ms| age_ms >= options.settled_after.as_millis())
}

/// Sizes of one tier are within one factor of `fan_in` of each other.
pub(super) fn tier(bytes: u64, fan_in: usize) -> u32 {
    let factor = u64::try_from(fan_in).unwrap_or(u64::MAX).max(2);
    (bytes / TIER_BYTES_MIN).checked_ilog(factor).map_or(0, |tier| tier + 1)
}

/// The first of the files, as many as go into one merge; none if these are fewer than `files_min`.
fn merge(mut files: Vec<&DataFile>, options: &CompactionOptions, files_min: usize) -> Option<Vec<DataFile>> {
    files.sort_by_key(|file| FileName::parse(&file.path).map(|name| name.first_offset));
    let mut taken: Vec<DataFile> = Vec::new();
    for file in files.into_iter().take(FILES_MAX) {
        if taken.len() >= files_min && bytes(&taken) + file.bytes > options.file_bytes_max {
            break;
        }
        taken.push(file.clone());
    }
    (taken.len() >= files_min.max(2)).then_some(taken)
}

fn bytes(files: &[DataFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_file::FileStats;

    const NOW_MS: i64 = 1_795_521_600_000;
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn file(partition: u32, first: u64, bytes: u64) -> DataFile {
        let id = format!("00000000-0000-4000-8000-{first:012}");
        let name = format!("retrace.events-{partition}-{first:020}-{first:020}-{id}.parquet");
        let path = Path::from_iter(["session_date=2026-11-29", "retention_class=standard", &name]);
        DataFile {
            path,
            bytes,
            rows: 1,
            session_date: 20_786,
            retention_class: "standard".to_owned(),
            written_at_unix_ms: NOW_MS,
            stats: FileStats::default(),
        }
    }

    fn first(file: &DataFile) -> u64 {
        FileName::parse(&file.path).expect("of ours").first_offset
    }

    fn planned(files: &[DataFile], since_ms: i64) -> Vec<Vec<u64>> {
        let merges = plan(files, &HashSet::new(), NOW_MS + since_ms, &CompactionOptions::default());
        merges.iter().map(|merge| merge.files.iter().map(first).collect()).collect()
    }

    #[test]
    fn as_many_files_of_one_size_as_the_fan_in_become_one_in_the_order_of_offsets() {
        let mut files: Vec<_> = (0..7).rev().map(|first| file(0, first, 10 * KIB)).collect();
        assert_eq!(planned(&files, 0), Vec::<Vec<u64>>::new());
        files.push(file(1, 7, 10 * KIB));
        assert_eq!(planned(&files, 0), Vec::<Vec<u64>>::new(), "of another topic partition");
        files.push(file(0, 8, 600 * KIB));
        assert_eq!(planned(&files, 0), Vec::<Vec<u64>>::new(), "of another size");
        files.push(file(0, 9, 20 * KIB));
        assert_eq!(planned(&files, 0), [[0, 1, 2, 3, 4, 5, 6, 9]]);
    }

    #[test]
    fn what_is_large_or_foreign_is_left_alone() {
        let large: Vec<_> = (0..20).map(|first| file(0, first, 32 * MIB)).collect();
        assert_eq!(planned(&large, 24 * 3600 * 1000), Vec::<Vec<u64>>::new());
        let mut foreign: Vec<_> = (0..20).map(|first| file(0, first, KIB)).collect();
        foreign
            .iter_mut()
            .for_each(|file| file.path = Path::from(format!("part-{}.parquet", file.path.parts().count())));
        assert_eq!(planned(&foreign, 24 * 3600 * 1000), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn where_nothing_comes_any_more_all_small_files_become_one() {
        let files = [file(0, 0, 10 * KIB), file(0, 1, 30 * MIB), file(0, 2, 50 * MIB)];
        assert_eq!(planned(&files, 3600 * 1000 - 1), Vec::<Vec<u64>>::new());
        assert_eq!(planned(&files, 3600 * 1000), [[0, 1]]);
        assert_eq!(planned(&files[..1], 3600 * 1000), Vec::<Vec<u64>>::new(), "one is one");
        let left_alone = HashSet::from([files[1].path.clone()]);
        let merges = plan(&files, &left_alone, NOW_MS + 3600 * 1000, &CompactionOptions::default());
        assert_eq!(merges.len(), 0, "what cannot be merged");
    }

    /// Fresh files come for ever, and what is planned is merged at once.
    #[test]
    fn however_many_files_come_few_are_left_and_no_row_is_written_again_often() {
        let options = CompactionOptions::default();
        let (mut files, mut written, mut most) = (Vec::new(), 0u64, 0);
        const FRESH: u64 = 6_000;
        for offset in 0..FRESH {
            files.push(file(0, offset, 50 * KIB));
            for Merge { files: merged, .. } in plan(&files, &HashSet::new(), NOW_MS, &options) {
                let bytes = bytes(&merged);
                files.retain(|file| !merged.contains(file));
                files.push(file(0, first(&merged[0]), bytes));
                written += bytes;
            }
            let small = files.iter().filter(|file| file.bytes < options.file_bytes_max / 2).count();
            most = most.max(small);
        }
        let amplification = written as f64 / (FRESH * 50 * KIB) as f64;
        let bound = options.small_files_max();
        assert_eq!(bound, 4 * (options.fan_in - 1), "up to 64 KiB, 512 KiB, 4 MiB and 32 MiB");
        assert!(most <= bound, "{most} small files at a time");
        assert!(amplification < 5.0, "each row is written again {amplification} times");
    }
}
