//! How often somebody tries to log in: counted within a minute, for those who may not try more often.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::source::Source;

const MINUTE_US: u64 = 60_000_000;

/// Of each kind, who is told apart at once. Whoever comes beyond them is counted together with all others.
const KEYS_MAX: usize = 65_536;

/// How long to leave a full table alone before looking again who is in it without need.
const SWEPT_FOR_US: u64 = 1_000_000;

/// Longest name of a principal, in bytes. Longer ones are nobody's, and need not be told apart.
const NAME_BYTES_MAX: usize = 63;

/// The attempts to log in of late.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// By where they come from.
    sources: Meter<Source>,
    /// Those that failed, by who it was to be as well: so nobody elsewhere locks a principal out.
    failed: Meter<(String, Source)>,
}

impl Attempts {
    /// Counts an attempt, if there may be one more.
    pub(crate) fn try_log_in(&self, source: Source, per_minute_max: Option<NonZeroU64>, now_us: u64) -> bool {
        let Some(per_minute_max) = per_minute_max else { return true };
        self.sources.lock().count(source, per_minute_max, now_us, Counting::IfThereIsRoom)
    }

    /// Whether this user may still try from there. It is the same for users that do not exist.
    pub(crate) fn may_try(
        &self,
        user: &str,
        source: Source,
        per_minute_max: Option<NonZeroU64>,
        now_us: u64,
    ) -> bool {
        let Some(per_minute_max) = per_minute_max else { return true };
        self.failed.lock().count(key(user, source), per_minute_max, now_us, Counting::Nothing)
    }

    /// Counts an attempt that failed.
    pub(crate) fn has_failed(
        &self,
        user: &str,
        source: Source,
        per_minute_max: Option<NonZeroU64>,
        now_us: u64,
    ) {
        if let Some(per_minute_max) = per_minute_max {
            self.failed.lock().count(key(user, source), per_minute_max, now_us, Counting::Always);
        }
    }
}

fn key(user: &str, source: Source) -> (String, Source) {
    let user = if user.len() > NAME_BYTES_MAX { "" } else { user };
    (user.to_owned(), source)
}

/// Counts by keys that a peer may choose, so there is a limit on them.
#[derive(Debug)]
struct Meter<K>(Mutex<Counts<K>>);

impl<K> Default for Meter<K> {
    fn default() -> Self {
        Self(Mutex::new(Counts { free_us: HashMap::new(), others_free_us: 0, swept_us: None }))
    }
}

/// Up to when each has used up what it may: an attempt moves that on by what it costs of a minute, and there is room for
/// one as long as that lies a minute ahead at most (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Counts<K> {
    free_us: HashMap<K, u64>,
    others_free_us: u64,
    swept_us: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    Nothing,
    IfThereIsRoom,
    Always,
}

impl<K: Eq + Hash> Meter<K> {
    fn lock(&self) -> MutexGuard<'_, Counts<K>> {
        // A map of plain values is whole whatever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// Whether there is room for one more, and counts it if it is to.
    fn count(&mut self, key: K, per_minute_max: NonZeroU64, now_us: u64, counting: Counting) -> bool {
        self.sweep(now_us);
        let cost_us = (MINUTE_US / per_minute_max.get()).max(1);
        let is_told_apart = self.free_us.len() < KEYS_MAX || self.free_us.contains_key(&key);
        let known_us =
            if is_told_apart { self.free_us.get(&key).copied().unwrap_or(0) } else { self.others_free_us };
        let next_us = known_us.max(now_us) + cost_us;
        let has_room = next_us <= now_us + MINUTE_US;
        if counting == Counting::Always || (counting == Counting::IfThereIsRoom && has_room) {
            // Nobody owes more than a minute: who tried on while there was no room waits no longer for it.
            let next_us = next_us.min(now_us + MINUTE_US);
            if is_told_apart {
                self.free_us.insert(key, next_us);
            } else {
                self.others_free_us = next_us;
            }
        }
        has_room
    }

    /// Makes room where there is none, by forgetting those who have used up nothing.
    fn sweep(&mut self, now_us: u64) {
        let is_due = self.swept_us.is_none_or(|swept_us| now_us >= swept_us + SWEPT_FOR_US);
        if self.free_us.len() >= KEYS_MAX && is_due {
            self.free_us.retain(|_, free_us| *free_us > now_us);
            self.swept_us = Some(now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn max(per_minute: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(per_minute)
    }

    #[test]
    fn so_many_log_ins_a_minute_and_room_comes_back_with_time() {
        let attempts = Attempts::default();
        let tried = |last, now_us, count| {
            (0..count).filter(|_| attempts.try_log_in(source(last), max(60), now_us)).count()
        };
        assert_eq!(tried(1, 0, 100), 60);
        assert_eq!(tried(2, 0, 100), 60, "another source");
        assert_eq!(tried(1, 10_000_000, 100), 10);
        assert_eq!(tried(1, 10 * MINUTE_US, 100), 60, "and no more than a minute's");
        assert!((0..1_000).all(|_| attempts.try_log_in(source(3), None, 0)), "no limit");
        assert_eq!(attempts.sources.lock().free_us.len(), 2, "what has no limit is not kept");
    }

    #[test]
    fn failures_count_by_user_and_source_and_those_who_do_not_fail_are_not_counted() {
        let attempts = Attempts::default();
        let may = |user: &str, last, now_us| attempts.may_try(user, source(last), max(5), now_us);
        assert!((0..100).all(|_| may("dev", 1, 0)));
        (0..50).for_each(|_| attempts.has_failed("dev", source(1), max(5), 0));
        assert!(!may("dev", 1, 0) && may("dev", 2, 0) && may("ann", 1, 0));
        assert!(!may("dev", 1, MINUTE_US / 5 - 1));
        assert!(may("dev", 1, MINUTE_US / 5), "what failed beyond the limit costs nothing more");
        assert!(attempts.may_try("dev", source(1), None, 0), "no limit");
    }

    #[test]
    fn no_number_of_sources_and_names_grows_the_memory_and_those_beyond_are_counted_together() {
        let attempts = Attempts::default();
        let keys = u32::try_from(KEYS_MAX).unwrap();
        let failed = |name: &str, last, now_us| attempts.has_failed(name, source(last), max(5), now_us);
        (0..keys + 5).for_each(|last| failed("dev", last, 0));
        let count = || attempts.failed.lock().free_us.len();
        assert_eq!(count(), KEYS_MAX);
        assert!(!attempts.may_try("dev", source(keys + 9), max(5), 0), "one of the others");
        assert!(attempts.may_try("dev", source(1), max(5), 0));
        let long = "x".repeat(100);
        failed(&long, 1, MINUTE_US);
        assert_eq!(count(), 1, "who has used up nothing is forgotten");
        assert!(attempts.failed.lock().free_us.keys().all(|(name, _)| name.is_empty()));
    }
}
