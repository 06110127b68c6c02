//! What must not grow, held against its bound.

use super::Plan;
use super::files::small_files_max;
use super::measures::{FILES_OF_A_KIND, Looks, PROCESSES};

/// In the last quarter a process may have so many times what it had in the second.
const MEMORY_GROWTH: f64 = 1.25;

/// And so much more: what an allocator keeps of a single large question.
const MEMORY_SLACK_MIB: f64 = 32.0;

/// A run that is shorter ends while processes still fill what they keep.
const MEMORY_MINUTES_MIN: u64 = 20;

/// Whether a run is long enough for memory to be held against its bound.
pub(super) fn binds_memory(plan: &Plan) -> bool {
    plan.minutes >= MEMORY_MINUTES_MIN
}

/// What a process may have in the last quarter that had so much in the second.
pub(super) fn memory_mib_max(second: f64) -> f64 {
    second * MEMORY_GROWTH + MEMORY_SLACK_MIB
}

/// What went over its bound, if something did.
pub(super) fn breaches(plan: &Plan, looks: &Looks) -> Vec<String> {
    let mut breaches = Vec::new();
    let (most, bound) = (looks.largest(FILES_OF_A_KIND).unwrap_or_default(), small_files_max());
    #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
    if most > bound as f64 {
        breaches.push(format!(
            "{most} small files of one day, class and topic partition, where compaction leaves {bound} at most"
        ));
    }
    if binds_memory(plan) {
        breaches.extend(PROCESSES.iter().filter_map(|process| grown(looks, process)));
    }
    breaches
}

/// A process whose memory went on growing.
fn grown(looks: &Looks, process: &str) -> Option<String> {
    let [second, last] = [2, 4].map(|quarter| looks.quarter(process, quarter).median());
    let (second, last) = (second?, last?);
    (last > memory_mib_max(second))
        .then(|| format!("{process} had {second:.0} MiB in the second quarter and {last:.0} in the last"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::measures::{FILES, Sample};
    use super::*;

    /// An hour of a query service that has so much in the second quarter and later, and a table of so many small files.
    fn looks(second: f64, last: f64, files: f64) -> Looks {
        let mut looks = Looks::during(Duration::from_secs(3600));
        for minute in 0..60 {
            let mut sample = Sample::at(Duration::from_secs(minute * 60));
            sample.set(PROCESSES[4], if minute < 30 { second } else { last });
            sample.set(FILES_OF_A_KIND, files);
            sample.set(FILES, 1_000.0);
            looks.push(sample);
        }
        looks
    }

    #[test]
    fn what_grows_beyond_its_bound_is_named() {
        let plan = Plan::of(60);
        #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
        let most = small_files_max() as f64;
        assert_eq!(breaches(&plan, &looks(100.0, 157.0, most)), Vec::<String>::new());
        let grown = breaches(&plan, &looks(100.0, 158.0, most));
        assert_eq!(grown, ["query had 100 MiB in the second quarter and 158 in the last"]);
        let many = breaches(&plan, &looks(100.0, 100.0, most + 1.0));
        assert!(many.len() == 1 && many[0].contains("small files"), "{many:?}");
        let short = Plan::of(3);
        assert_eq!(breaches(&short, &looks(100.0, 900.0, most)), Vec::<String>::new(), "only reported");
    }
}
