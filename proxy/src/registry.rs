//! Cancel requests: which session one means, and whether it may.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use retrace_access::Secret;
use retrace_proto::Id;
use retrace_proxy_core::postgres::CancelKey;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;

use crate::clock;

/// How long the secret is that a client of protocol 3.0 gets, in bytes; the protocol has no more.
const SHORT_SECRET_BYTES: usize = 4;

/// The minor version of protocol 3 that has long keys first.
const LONG_KEYS_SINCE_MINOR: u16 = 2;

/// The sessions of this proxy by the process id that their clients know.
#[derive(Clone)]
pub(crate) struct CancelRegistry {
    key: Arc<Hmac<Sha256>>,
    sessions: Arc<Mutex<HashMap<u32, Registered>>>,
}

#[derive(Debug)]
struct Registered {
    key: CancelKey,
    mailbox: mpsc::Sender<CancelRequested>,
}

/// A valid cancel request came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CancelRequested;

/// A session's place in the registry; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct CancelPlace {
    registry: CancelRegistry,
    key: CancelKey,
}

impl fmt::Debug for CancelRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelRegistry")
    }
}

impl CancelRegistry {
    pub(crate) fn new(key: Secret) -> Self {
        let key = Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
        Self { key: Arc::new(key), sessions: Arc::default() }
    }

    /// Gives a session its cancel key: a free process id, and as the secret a MAC over it and the session's id. The whole
    /// MAC where the client's protocol has room for it, its first bytes otherwise.
    pub(crate) fn register(
        &self,
        session: Id,
        protocol_minor: u16,
    ) -> (CancelPlace, mpsc::Receiver<CancelRequested>) {
        // One waiting request is enough: a second one would say the same.
        let (mailbox, requests) = mpsc::channel(1);
        let mut sessions = self.lock();
        loop {
            let process_id = u32::from_be_bytes(clock::random()) >> 1;
            if let Entry::Vacant(vacant) = sessions.entry(process_id) {
                let mut secret = self.secret(process_id, session);
                if protocol_minor < LONG_KEYS_SINCE_MINOR {
                    secret.truncate(SHORT_SECRET_BYTES);
                }
                let key = CancelKey { process_id, secret };
                vacant.insert(Registered { key: key.clone(), mailbox });
                return (CancelPlace { registry: self.clone(), key }, requests);
            }
        }
    }

    /// Passes a cancel request on if its key is right, in full. Whoever sent it learns nothing either way.
    pub(crate) fn cancel(&self, asked: &CancelKey) {
        if let Some(session) = self.lock().get(&asked.process_id)
            && bool::from(session.key.secret.ct_eq(&asked.secret))
        {
            let _ = session.mailbox.try_send(CancelRequested);
        }
    }

    fn secret(&self, process_id: u32, session: Id) -> Vec<u8> {
        let mut mac = Hmac::clone(&self.key);
        mac.update(&process_id.to_be_bytes());
        mac.update(session.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Registered>> {
        // A map of plain values is whole whatever panicked beside it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelPlace {
    /// What the client is given to cancel with.
    pub(crate) fn key(&self) -> CancelKey {
        self.key.clone()
    }
}

impl Drop for CancelPlace {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_key_reaches_its_session_and_only_while_it_lives() {
        let registry = CancelRegistry::new(Secret::new(vec![7; 32]));
        for minor in [0, 2] {
            let (place, mut requests) = registry.register(clock::new_id(), minor);
            let key = place.key();
            for at in 0..key.secret.len() {
                let mut forged = key.clone();
                forged.secret[at] ^= 1;
                registry.cancel(&forged);
            }
            registry.cancel(&CancelKey { process_id: key.process_id ^ 1, ..key.clone() });
            registry.cancel(&CancelKey { secret: Vec::new(), ..key.clone() });
            registry.cancel(&CancelKey { secret: [&key.secret[..], &[0]].concat(), ..key.clone() });
            assert!(requests.try_recv().is_err());

            registry.cancel(&key);
            registry.cancel(&key);
            assert!(requests.try_recv().is_ok());
            assert!(requests.try_recv().is_err(), "two that wait are one");

            drop(place);
            registry.cancel(&key);
            assert!(registry.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn a_client_of_protocol_3_2_has_the_whole_mac_and_its_first_bytes_are_not_enough() {
        let registry = CancelRegistry::new(Secret::new(vec![7; 32]));
        let length = |minor| registry.register(clock::new_id(), minor).0.key().secret.len();
        assert_eq!([0, 1, 2].map(length), [4, 4, 32]);
        let (place, mut requests) = registry.register(clock::new_id(), 2);
        let key = place.key();
        registry.cancel(&CancelKey { secret: key.secret[..4].to_vec(), ..key });
        assert!(requests.try_recv().is_err());
    }
}
