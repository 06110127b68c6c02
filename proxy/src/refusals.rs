//! How refusals are recorded, so that nobody floods the log by being refused. The first ones are events of their own at
//! once; those alike that follow within ten seconds are counted, and become one event that says how many and when.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use retrace_proto::wire::{Principal, login_refused::Reason};

use crate::source::Source;

/// How long refusals alike are counted before they are recorded.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Refusals alike within a window that are events of their own: what each client says of itself is in them.
const REFUSALS_ALONE_MAX: u32 = 10;

/// The same of those that said nothing of themselves, of which a second would say nothing new.
const STRANGERS_ALONE_MAX: u32 = 1;

/// Refusals within a window that are events of their own, in all.
const REFUSALS_ALONE_IN_ALL_MAX: u32 = 200;

/// Kinds that are told apart at once. Further ones are counted by their reason alone.
const KINDS_MAX: usize = 1024;

/// What makes refusals alike. Nothing of it is for the client to choose but where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) reason: Reason,
    /// `None` for several.
    pub(crate) source: Option<Source>,
    /// Who it is, if that was proved; never who it says it is.
    pub(crate) principal: Option<Principal>,
    /// Whether the client said nothing of itself.
    pub(crate) is_of_a_stranger: bool,
}

/// Refusals alike that were counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counted {
    pub(crate) kind: Kind,
    pub(crate) count: u64,
    pub(crate) first_unix_us: i64,
    pub(crate) last_unix_us: i64,
}

/// The refusals of this window.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    alone: u32,
    kinds: HashMap<Key, OfAKind>,
}

/// The reason's number, the source, the principal's name, and whether it is a stranger's.
type Key = (i32, Option<Source>, String, bool);

#[derive(Debug, Default)]
struct OfAKind {
    alone: u32,
    counted: Option<Counted>,
}

impl Refusals {
    /// Counts a refusal, unless it is one of the first, which is to be an event of its own: then this is true.
    pub(crate) fn is_alone(&self, mut kind: Kind, now_unix_us: i64) -> bool {
        let mut state = self.lock();
        if state.kinds.len() >= KINDS_MAX && !state.kinds.contains_key(&key(&kind)) {
            (kind.source, kind.principal) = (None, None);
        }
        let in_all = state.alone;
        let of_a_kind = state.kinds.entry(key(&kind)).or_default();
        let alone_max = if kind.is_of_a_stranger { STRANGERS_ALONE_MAX } else { REFUSALS_ALONE_MAX };
        if of_a_kind.alone < alone_max && in_all < REFUSALS_ALONE_IN_ALL_MAX {
            of_a_kind.alone += 1;
            state.alone += 1;
            return true;
        }
        let begun = || Counted { kind, count: 0, first_unix_us: now_unix_us, last_unix_us: now_unix_us };
        let counted = of_a_kind.counted.get_or_insert_with(begun);
        counted.count += 1;
        counted.last_unix_us = now_unix_us;
        false
    }

    /// Ends the window: what was counted in it.
    pub(crate) fn take(&self) -> Vec<Counted> {
        let State { kinds, .. } = std::mem::take(&mut *self.lock());
        kinds.into_values().filter_map(|of_a_kind| of_a_kind.counted).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A map of plain values is whole whatever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(kind: &Kind) -> Key {
    let name = kind.principal.as_ref().map(|principal| principal.name.clone()).unwrap_or_default();
    (kind.reason.into(), kind.source, name, kind.is_of_a_stranger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(reason: Reason, last: u32) -> Kind {
        let source = Some(Source::of(std::net::Ipv4Addr::from_bits(last).into()));
        Kind { reason, source, principal: None, is_of_a_stranger: false }
    }

    fn stranger(reason: Reason, last: u32) -> Kind {
        Kind { is_of_a_stranger: true, ..kind(reason, last) }
    }

    #[test]
    fn the_first_are_events_at_once_and_those_alike_are_counted_with_their_times() {
        let refusals = Refusals::default();
        let alone = |kind: &Kind, at| refusals.is_alone(kind.clone(), at);
        let [credential, other] = [1, 2].map(|last| kind(Reason::Credential, last));
        assert_eq!((0..200).filter(|at| alone(&credential, *at)).count(), 10);
        assert!(alone(&other, 200) && alone(&kind(Reason::Target, 1), 200));
        let counted = Counted { kind: credential.clone(), count: 190, first_unix_us: 10, last_unix_us: 199 };
        assert_eq!(refusals.take(), [counted]);
        assert!(refusals.take().is_empty() && alone(&credential, 300), "a new window begins");
    }

    #[test]
    fn of_strangers_only_the_first_is_an_event_of_its_own() {
        let refusals = Refusals::default();
        assert!(refusals.is_alone(stranger(Reason::Protocol, 1), 0));
        assert!((0..5).all(|_| !refusals.is_alone(stranger(Reason::Protocol, 1), 0)));
        assert!(refusals.is_alone(stranger(Reason::Deadline, 1), 0));
        assert!(refusals.is_alone(kind(Reason::Protocol, 1), 0), "this one said something");
    }

    #[test]
    fn principals_are_told_apart_by_their_names_alone() {
        let refusals = Refusals::default();
        let of = |name: &str, token_id: &str| {
            let principal =
                Principal { name: name.to_owned(), token_id: token_id.to_owned(), ..Principal::default() };
            refusals.is_alone(Kind { principal: Some(principal), ..kind(Reason::Sessions, 1) }, 0)
        };
        assert_eq!((0..100).filter(|at| of("ann", &at.to_string())).count(), 10);
        assert!(of("bob", "0"));
        assert_eq!(refusals.take().len(), 1);
    }

    #[test]
    fn nothing_is_forgotten_and_neither_memory_nor_events_grow_with_sources() {
        let refusals = Refusals::default();
        let sources = u32::try_from(KINDS_MAX).unwrap() + 500;
        let (mut alone, mut refused) = (0, 0);
        for last in (0..sources).chain(0..sources) {
            for reason in [Reason::Credential, Reason::Deadline] {
                refused += 1;
                alone += u64::from(refusals.is_alone(kind(reason, last), i64::from(last)));
            }
        }
        assert!(refusals.lock().kinds.len() <= KINDS_MAX + 2, "one more for each reason");
        let counted = refusals.take();
        assert!(alone <= u64::from(REFUSALS_ALONE_IN_ALL_MAX) && counted.len() <= KINDS_MAX + 2);
        assert_eq!(alone + counted.iter().map(|counted| counted.count).sum::<u64>(), refused);
        assert!(counted.iter().all(|counted| counted.first_unix_us <= counted.last_unix_us));
        assert_eq!(counted.iter().filter(|counted| counted.kind.source.is_none()).count(), 2);
    }
}
