use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// Bytes of a cancel key: of protocol 3.2, and of those before, which have no place for more. The process id beside it
/// is as random.
const KEY_BYTES: usize = 32;
const SHORT_KEY_BYTES: usize = 4;

/// The connections of this door by the process id that their clients know.
#[derive(Clone, Default)]
pub(super) struct Cancels(Arc<Mutex<HashMap<u32, Registered>>>);

struct Registered {
    key: Vec<u8>,
    /// Counts the requests, so that one that came before a statement does not end it.
    requests: watch::Sender<u64>,
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    cancels: Cancels,
    pub(super) process_id: u32,
    pub(super) key: Vec<u8>,
    pub(super) requests: watch::Receiver<u64>,
}

impl fmt::Debug for Cancels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancels")
    }
}

impl Cancels {
    /// Gives a connection its place, with a long key if its protocol has room for one.
    pub(super) fn register(&self, is_long: bool) -> Place {
        let mut key = vec![0; if is_long { KEY_BYTES } else { SHORT_KEY_BYTES }];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        let (sender, requests) = watch::channel(0);
        let mut places = self.lock();
        loop {
            let mut id = [0; 4];
            getrandom::fill(&mut id).expect("the operating system gives random bytes");
            let process_id = u32::from_be_bytes(id) >> 1;
            if let Entry::Vacant(free) = places.entry(process_id) {
                free.insert(Registered { key: key.clone(), requests: sender });
                return Place { cancels: self.clone(), process_id, key, requests };
            }
        }
    }

    /// Passes a request on if its key is right. Whoever sent it learns nothing either way.
    pub(super) fn cancel(&self, process_id: u32, key: &[u8]) {
        if let Some(place) = self.lock().get(&process_id)
            && bool::from(place.key.ct_eq(key))
        {
            place.requests.send_modify(|requests| *requests += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Registered>> {
        // A map of plain values is whole whatever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_reaches_its_connection_and_only_while_it_lives() {
        let cancels = Cancels::default();
        for is_long in [true, false] {
            let mut place = cancels.register(is_long);
            place.requests.borrow_and_update();
            assert_eq!(place.key.len(), if is_long { 32 } else { 4 });
            let mut wrong = place.key.clone();
            wrong[0] ^= 1;
            cancels.cancel(place.process_id, &wrong);
            cancels.cancel(place.process_id, &place.key[1..]);
            cancels.cancel(place.process_id ^ 1, &place.key);
            assert!(!place.requests.has_changed().unwrap());
            cancels.cancel(place.process_id, &place.key);
            assert!(place.requests.has_changed().unwrap());
        }
        assert!(cancels.lock().is_empty(), "a place is freed with its connection");
    }
}
