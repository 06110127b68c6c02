//! How refusals of strangers are recorded: those that said nothing of themselves, of which a flood has thousands. The first
//! of a kind is an event at once; those alike that follow it within ten seconds are counted, and become one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use retrace_proto::wire::login_refused::Reason;

/// How long refusals alike are counted before they are recorded.
pub(crate) const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Kinds that are told apart at once. Further ones are counted without their addresses.
const KINDS_MAX: usize = 1024;

/// What makes refusals alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) reason: Reason,
    /// `None` for several.
    pub(crate) address: Option<IpAddr>,
}

/// The refusals that are counted and not recorded yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counted: Mutex<HashMap<Kind, u64>>,
}

impl Refusals {
    /// Counts a refusal. The first of its kind is given back, to be recorded now, and [`Refusals::take`] is due in
    /// [`COUNTED_FOR`].
    pub(crate) fn count(&self, reason: Reason, address: IpAddr) -> Option<Kind> {
        let mut counted = self.lock();
        let mut kind = Kind { reason, address: Some(address) };
        if counted.len() >= KINDS_MAX && !counted.contains_key(&kind) {
            kind.address = None;
        }
        match counted.entry(kind) {
            Entry::Vacant(vacant) => {
                vacant.insert(0);
                Some(kind)
            }
            Entry::Occupied(mut occupied) => {
                *occupied.get_mut() += 1;
                None
            }
        }
    }

    /// Ends the counting of a kind: how many came after its first.
    pub(crate) fn take(&self, kind: Kind) -> u64 {
        self.lock().remove(&kind).unwrap_or_default()
    }

    /// Ends all counting.
    pub(crate) fn take_all(&self) -> Vec<(Kind, u64)> {
        self.lock().drain().filter(|(_, count)| *count > 0).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, u64>> {
        // A map of plain values is whole whatever panicked beside it.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + last).into())
    }

    #[test]
    fn the_first_is_recorded_at_once_and_those_alike_are_counted() {
        let refusals = Refusals::default();
        let kind = refusals.count(Reason::Protocol, address(1)).unwrap();
        assert!((0..5).all(|_| refusals.count(Reason::Protocol, address(1)).is_none()));
        assert!(refusals.count(Reason::Deadline, address(1)).is_some());
        assert!(refusals.count(Reason::Protocol, address(2)).is_some());
        assert_eq!(refusals.take(kind), 5);
        assert_eq!(refusals.take(kind), 0);
        assert!(refusals.count(Reason::Protocol, address(1)).is_some(), "a new count begins");
    }

    #[test]
    fn no_number_of_addresses_grows_the_memory_and_none_is_forgotten() {
        let refusals = Refusals::default();
        let extra = 500;
        let kinds = u32::try_from(KINDS_MAX).unwrap() + extra;
        let at_once =
            (0..kinds).filter(|last| refusals.count(Reason::Protocol, address(*last)).is_some()).count();
        assert!(refusals.lock().len() <= KINDS_MAX + 1);
        let later: u64 = refusals.take_all().into_iter().map(|(_, count)| count).sum();
        assert_eq!(at_once as u64 + later, u64::from(kinds));
    }
}
