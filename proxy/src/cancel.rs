//! Cancel requests: which session one means, and whether it may.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use retrace_access::Secret;
use retrace_proto::Id;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;

use crate::clock;

/// The sessions of this proxy by the process id that their clients know.
#[derive(Clone)]
pub(crate) struct CancelRegistry {
    key: Arc<Hmac<Sha256>>,
    sessions: Arc<Mutex<HashMap<u32, Registered>>>,
}

#[derive(Debug)]
struct Registered {
    secret: u32,
    mailbox: mpsc::Sender<CancelRequested>,
}

/// A valid cancel request came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CancelRequested;

/// A session's place in the registry; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct CancelPlace {
    registry: CancelRegistry,
    process_id: u32,
    secret: u32,
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

    /// Gives a session its cancel key: a free process id, and as the secret a MAC over it and the session's id.
    pub(crate) fn register(&self, session: Id) -> (CancelPlace, mpsc::Receiver<CancelRequested>) {
        // One waiting request is enough: a second one would say the same.
        let (mailbox, requests) = mpsc::channel(1);
        let mut sessions = self.lock();
        loop {
            let process_id = u32::from_be_bytes(clock::random()) >> 1;
            if let Entry::Vacant(vacant) = sessions.entry(process_id) {
                let secret = self.secret(process_id, session);
                vacant.insert(Registered { secret, mailbox });
                return (CancelPlace { registry: self.clone(), process_id, secret }, requests);
            }
        }
    }

    /// Passes a cancel request on if its key is right. Whoever sent it learns nothing either way.
    pub(crate) fn cancel(&self, process_id: u32, secret: u32) {
        if let Some(session) = self.lock().get(&process_id)
            && bool::from(session.secret.ct_eq(&secret))
        {
            let _ = session.mailbox.try_send(CancelRequested);
        }
    }

    fn secret(&self, process_id: u32, session: Id) -> u32 {
        let mut mac = Hmac::clone(&self.key);
        mac.update(&process_id.to_be_bytes());
        mac.update(session.as_bytes());
        let mac = mac.finalize().into_bytes();
        u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]])
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Registered>> {
        // A map of plain values is whole whatever panicked beside it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelPlace {
    /// What the client is given to cancel with.
    pub(crate) fn key(&self) -> (u32, u32) {
        (self.process_id, self.secret)
    }
}

impl Drop for CancelPlace {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_key_reaches_its_session_and_only_while_it_lives() {
        let registry = CancelRegistry::new(Secret::new(vec![7; 32]));
        let (place, mut requests) = registry.register(clock::new_id());
        let (process_id, secret) = place.key();

        registry.cancel(process_id, secret ^ 1);
        registry.cancel(process_id ^ 1, secret);
        assert!(requests.try_recv().is_err());

        registry.cancel(process_id, secret);
        registry.cancel(process_id, secret);
        assert!(requests.try_recv().is_ok());
        assert!(requests.try_recv().is_err(), "two that wait are one");

        drop(place);
        registry.cancel(process_id, secret);
        assert!(registry.lock().is_empty());
    }
}
