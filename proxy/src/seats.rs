//! Who has how many sessions open: in all, of each principal, from each source.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use retrace_access::Principal;

use crate::source::Source;

/// The sessions that are open. It knows as many principals and sources as have one.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    sessions_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_principal: HashMap<String, u64>,
    by_source: HashMap<Source, u64>,
}

/// A session's place; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    principal: String,
    source: Source,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The gate has as many sessions as it may.
    InAll,
    /// The principal has.
    Principal,
    /// The source has.
    Source,
}

impl Seats {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self { sessions_max, taken: Arc::default() }
    }

    /// Takes a place for a session of a principal, if each limit has one left.
    pub(crate) fn take(
        &self,
        principal: &Principal,
        source: Source,
        per_source_max: Option<NonZeroU64>,
    ) -> Result<Seat, Full> {
        let mut taken = self.lock();
        if taken.in_all >= self.sessions_max {
            return Err(Full::InAll);
        }
        let of_principal = taken.by_principal.get(&principal.name).copied().unwrap_or_default();
        if is_reached(principal.limits.sessions_max, of_principal) {
            return Err(Full::Principal);
        }
        if is_reached(per_source_max, taken.of_source(source)) {
            return Err(Full::Source);
        }
        taken.in_all += 1;
        *taken.by_principal.entry(principal.name.clone()).or_default() += 1;
        *taken.by_source.entry(source).or_default() += 1;
        Ok(Seat { seats: self.clone(), principal: principal.name.clone(), source })
    }

    /// Whether a source has as many sessions as it may.
    pub(crate) fn is_full_for(&self, source: Source, per_source_max: Option<NonZeroU64>) -> bool {
        per_source_max.is_some() && is_reached(per_source_max, self.lock().of_source(source))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Plain counts are whole whatever panicked beside them.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn of_source(&self, source: Source) -> u64 {
        self.by_source.get(&source).copied().unwrap_or_default()
    }
}

fn is_reached(limit: Option<NonZeroU64>, count: u64) -> bool {
    limit.is_some_and(|limit| count >= limit.get())
}

/// Counts one less, and forgets who has none.
fn leave<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.in_all -= 1;
        leave(&mut taken.by_principal, std::mem::take(&mut self.principal));
        leave(&mut taken.by_source, self.source);
    }
}

#[cfg(test)]
mod tests {
    use retrace_access::PrincipalLimits;

    use super::*;
    use crate::testing::principal;

    fn limited(name: &str, sessions_max: u64) -> Principal {
        let sessions_max = NonZeroU64::new(sessions_max);
        let limits = PrincipalLimits { sessions_max, ..PrincipalLimits::default() };
        Principal { limits, ..principal(name) }
    }

    fn source(last: u8) -> Source {
        Source::of([10, 0, 0, last].into())
    }

    #[test]
    fn each_limit_refuses_by_itself_and_a_place_that_is_left_is_free_again() {
        let seats = Seats::new(5);
        let [ann, bob, eve] = [("ann", 2), ("bob", 0), ("eve", 0)].map(|(name, max)| limited(name, max));
        let per_source_max = NonZeroU64::new(3);
        let take = |who: &Principal, last| seats.take(who, source(last), per_source_max);
        let first = take(&ann, 1).unwrap();
        let _second = take(&ann, 2).unwrap();
        assert_eq!(take(&ann, 3).unwrap_err(), Full::Principal);
        let _others = [(); 2].map(|()| take(&bob, 1).unwrap());
        assert!(seats.is_full_for(source(1), per_source_max) && !seats.is_full_for(source(1), None));
        assert_eq!(take(&eve, 1).unwrap_err(), Full::Source, "several principals are one source");
        let last = take(&eve, 2).unwrap();
        assert_eq!(take(&eve, 9).unwrap_err(), Full::InAll);
        drop((first, last));
        assert!(take(&ann, 1).is_ok());
    }

    #[test]
    fn who_has_no_session_is_forgotten() {
        let seats = Seats::new(10);
        drop([1, 2].map(|last| seats.take(&limited("ann", 1), source(last), None).ok()));
        let taken = seats.lock();
        assert_eq!((taken.in_all, taken.by_principal.len(), taken.by_source.len()), (0, 0, 0));
    }
}
