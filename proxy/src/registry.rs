//! The sessions of this proxy, found by what orders name: the key of a cancel request, a session's id, a token.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use retrace_access::Secret;
use retrace_proto::Id;
use retrace_proto::wire::ControlReference;
use retrace_proxy_core::postgres::CancelKey;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;

use crate::clock;

/// How long the secret is that a client of protocol 3.0 gets, in bytes; the protocol has no more.
const SHORT_SECRET_BYTES: usize = 4;

/// How long the id is that a long secret begins with, in bytes.
const ID_BYTES: usize = 16;

/// The minor version of protocol 3 that has long keys first.
const LONG_KEYS_SINCE_MINOR: u16 = 2;

/// Ids of a rolled connection that are known beside its first, the latest.
const ROLLED_IDS_MAX: usize = 256;

/// Orders that wait for one session: one of each kind, since a second would say the same.
const ORDERS_MAX: usize = 2;

/// The sessions of this proxy.
///
/// A cancel key carries a MAC, so that any proxy of the gateway can tell whether it is one of theirs, whoever has the
/// session. The secret of protocol 3.2 is the session's first id and the MAC over it; that of 3.0 has room for four bytes of
/// a MAC over the process id alone.
#[derive(Clone)]
pub(crate) struct Registry {
    key: Arc<Hmac<Sha256>>,
    sessions: Arc<Mutex<Sessions>>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// By the process id that their clients know.
    by_process_id: HashMap<u32, Registered>,
    /// Tokens whose sessions end, and the control records that want it.
    revoked: HashMap<String, ControlReference>,
}

/// Whose session it is.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    pub(crate) session_id: Id,
    pub(crate) principal: String,
    pub(crate) token_id: String,
    /// The minor version of protocol 3 that the client speaks.
    pub(crate) protocol_minor: u16,
}

#[derive(Debug)]
struct Registered {
    key: CancelKey,
    connection_id: Id,
    /// The ids under which it went on, the latest last.
    rolled: VecDeque<Id>,
    principal: String,
    token_id: String,
    orders: mpsc::Sender<SessionOrder>,
}

/// What a session is told to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SessionOrder {
    /// Cancel what runs, for a request that came in here or, as the control record says, elsewhere.
    Cancel(Option<ControlReference>),
    /// End.
    Kill(ControlReference),
}

/// What a cancel request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A session of this proxy, which is told.
    Here,
    /// A session that another proxy may have.
    Elsewhere {
        process_id: u32,
        /// Of the session, if the key names it.
        connection_id: Option<Id>,
    },
    /// Nothing that the gateway ever handed out.
    Nothing,
}

/// A session's place in the registry; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct SessionPlace {
    registry: Registry,
    key: CancelKey,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    pub(crate) fn new(key: Secret) -> Self {
        let key = Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
        Self { key: Arc::new(key), sessions: Arc::default() }
    }

    /// Gives a session its cancel key under a free process id, and a place where orders reach it.
    pub(crate) fn register(&self, entrant: Entrant) -> (SessionPlace, mpsc::Receiver<SessionOrder>) {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let mut sessions = self.lock();
        let revoked = sessions.revoked.get(&entrant.token_id).cloned();
        loop {
            let process_id = u32::from_be_bytes(clock::random()) >> 1;
            if let Entry::Vacant(vacant) = sessions.by_process_id.entry(process_id) {
                let secret = if entrant.protocol_minor < LONG_KEYS_SINCE_MINOR {
                    self.short_secret(process_id)
                } else {
                    self.long_secret(process_id, entrant.session_id)
                };
                let key = CancelKey { process_id, secret };
                let registered = vacant.insert(Registered {
                    key: key.clone(),
                    connection_id: entrant.session_id,
                    rolled: VecDeque::new(),
                    principal: entrant.principal,
                    token_id: entrant.token_id,
                    orders,
                });
                if let Some(control) = revoked {
                    // Its token was taken while the session was on its way in.
                    registered.kill(control);
                }
                return (SessionPlace { registry: self.clone(), key }, received);
            }
        }
    }

    /// Looks at the key of a cancel request, and passes it on if the session is here. Whoever sent it learns nothing either
    /// way.
    pub(crate) fn ask_cancel(&self, asked: &CancelKey) -> Asked {
        if let Some(session) = self.lock().by_process_id.get(&asked.process_id)
            && bool::from(session.key.secret.ct_eq(&asked.secret))
        {
            session.cancel(None);
            return Asked::Here;
        }
        let process_id = asked.process_id;
        let (connection_id, expected) = match asked.secret.split_first_chunk::<ID_BYTES>() {
            Some((id, _)) => match Id::from_slice(id) {
                Ok(id) => (Some(id), self.long_secret(process_id, id)),
                Err(_) => return Asked::Nothing,
            },
            None => (None, self.short_secret(process_id)),
        };
        match bool::from(expected.ct_eq(&asked.secret)) {
            true => Asked::Elsewhere { process_id, connection_id },
            false => Asked::Nothing,
        }
    }

    /// Passes on what another proxy was asked. It has looked at the key.
    pub(crate) fn cancel(&self, process_id: u32, connection_id: Option<Id>, control: ControlReference) {
        // A short key names no session, and so counts for none whose own key does.
        let is_meant = |session: &Registered| match connection_id {
            Some(id) => id == session.connection_id,
            None => session.key.secret.len() == SHORT_SECRET_BYTES,
        };
        if let Some(session) = self.lock().by_process_id.get(&process_id)
            && is_meant(session)
        {
            session.cancel(Some(control));
        }
    }

    /// Ends a session, if it is here and `only_principal`'s.
    pub(crate) fn kill(&self, session_id: Id, only_principal: Option<&str>, control: &ControlReference) {
        for session in self.lock().by_process_id.values() {
            let is_meant = session.connection_id == session_id || session.rolled.contains(&session_id);
            if is_meant && only_principal.is_none_or(|name| name == session.principal) {
                session.kill(control.clone());
            }
        }
    }

    /// Ends every session that a token began, and those that it is about to begin.
    pub(crate) fn kill_of_token(&self, token_id: &str, control: &ControlReference) {
        let mut sessions = self.lock();
        sessions.revoked.insert(token_id.to_owned(), control.clone());
        for session in sessions.by_process_id.values().filter(|session| session.token_id == token_id) {
            session.kill(control.clone());
        }
    }

    fn short_secret(&self, process_id: u32) -> Vec<u8> {
        let mut mac = self.mac(b"retrace cancel 3.0\0", process_id, &[]);
        mac.truncate(SHORT_SECRET_BYTES);
        mac
    }

    fn long_secret(&self, process_id: u32, connection_id: Id) -> Vec<u8> {
        let mac = self.mac(b"retrace cancel 3.2\0", process_id, connection_id.as_bytes());
        [connection_id.as_bytes(), &mac[..]].concat()
    }

    fn mac(&self, context: &[u8], process_id: u32, id: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::clone(&self.key);
        mac.update(context);
        mac.update(&process_id.to_be_bytes());
        mac.update(id);
        mac.finalize().into_bytes().to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Maps of plain values are whole whatever panicked beside them.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// Tells it to cancel, unless an order waits already: a cancel would say the same, and a kill says more.
    fn cancel(&self, control: Option<ControlReference>) {
        if self.orders.capacity() == ORDERS_MAX {
            let _ = self.orders.try_send(SessionOrder::Cancel(control));
        }
    }

    /// Tells it to end. There is room beside a cancel; where there is none, it was told.
    fn kill(&self, control: ControlReference) {
        let _ = self.orders.try_send(SessionOrder::Kill(control));
    }
}

impl SessionPlace {
    /// What the client is given to cancel with.
    pub(crate) fn key(&self) -> CancelKey {
        self.key.clone()
    }

    /// The session goes on under another id.
    pub(crate) fn rolled(&self, session_id: Id) {
        if let Some(session) = self.registry.lock().by_process_id.get_mut(&self.key.process_id) {
            if session.rolled.len() == ROLLED_IDS_MAX {
                session.rolled.pop_front();
            }
            session.rolled.push_back(session_id);
        }
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        self.registry.lock().by_process_id.remove(&self.key.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(Secret::new(vec![7; 32]))
    }

    fn entrant(principal: &str, token_id: &str, protocol_minor: u16) -> Entrant {
        Entrant {
            session_id: clock::new_id(),
            principal: principal.to_owned(),
            token_id: token_id.to_owned(),
            protocol_minor,
        }
    }

    fn control(offset: u64) -> ControlReference {
        ControlReference { offset, ..ControlReference::default() }
    }

    #[tokio::test]
    async fn only_the_right_key_reaches_its_session_and_only_while_it_lives() {
        let registry = registry();
        for minor in [0, 2] {
            let (place, mut orders) = registry.register(entrant("jo", "t", minor));
            let key = place.key();
            for at in 0..key.secret.len() {
                let mut forged = key.clone();
                forged.secret[at] ^= 1;
                assert_eq!(registry.ask_cancel(&forged), Asked::Nothing);
            }
            let forged = [
                CancelKey { process_id: key.process_id ^ 1, ..key.clone() },
                CancelKey { secret: Vec::new(), ..key.clone() },
                CancelKey { secret: [&key.secret[..], &[0]].concat(), ..key.clone() },
            ];
            assert!(forged.iter().all(|forged| registry.ask_cancel(forged) == Asked::Nothing));
            assert!(orders.try_recv().is_err());

            assert_eq!([0; 2].map(|_| registry.ask_cancel(&key)), [Asked::Here; 2]);
            assert_eq!(orders.try_recv(), Ok(SessionOrder::Cancel(None)));
            assert!(orders.try_recv().is_err(), "two that wait are one");

            drop(place);
            assert!(
                matches!(registry.ask_cancel(&key), Asked::Elsewhere { .. }),
                "it may have been another's"
            );
            assert!(registry.lock().by_process_id.is_empty());
        }
    }

    #[tokio::test]
    async fn a_client_of_protocol_3_2_has_the_whole_mac_and_its_first_bytes_are_not_enough() {
        let registry = registry();
        let length = |minor| registry.register(entrant("jo", "t", minor)).0.key().secret.len();
        assert_eq!([0, 1, 2].map(length), [4, 4, 48]);
        let (place, mut orders) = registry.register(entrant("jo", "t", 2));
        let key = place.key();
        for length in [4, 16, 47] {
            let shortened = CancelKey { secret: key.secret[..length].to_vec(), ..key };
            assert_eq!(registry.ask_cancel(&shortened), Asked::Nothing);
        }
        assert!(orders.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_key_of_one_proxy_is_known_at_another_of_the_same_gateway() {
        let (here, there) = (registry(), registry());
        for minor in [0, 2] {
            let (place, mut orders) = there.register(entrant("jo", "t", minor));
            let Asked::Elsewhere { process_id, connection_id } = here.ask_cancel(&place.key()) else {
                panic!("it is a key of the gateway")
            };
            assert_eq!(connection_id.is_some(), minor == 2);
            there.cancel(process_id ^ 1, connection_id, control(1));
            there.cancel(process_id, Some(clock::new_id()), control(2));
            if minor == 2 {
                there.cancel(process_id, None, control(2));
            }
            assert!(orders.try_recv().is_err(), "those are others");
            there.cancel(process_id, connection_id, control(3));
            assert_eq!(orders.try_recv(), Ok(SessionOrder::Cancel(Some(control(3)))));
        }
        let stranger = Registry::new(Secret::new(vec![8; 32]));
        let (place, _orders) = there.register(entrant("jo", "t", 0));
        assert_eq!(stranger.ask_cancel(&place.key()), Asked::Nothing);
    }

    #[tokio::test]
    async fn a_kill_reaches_its_session_under_each_of_its_ids_and_past_a_cancel_that_waits() {
        let registry = registry();
        let jo = entrant("jo", "t", 0);
        let first_id = jo.session_id;
        let (place, mut orders) = registry.register(jo);
        registry.kill(clock::new_id(), None, &control(1));
        registry.kill(first_id, Some("ann"), &control(2));
        assert!(orders.try_recv().is_err(), "those are others'");
        let next_id = clock::new_id();
        place.rolled(next_id);
        place.rolled(clock::new_id());
        registry.ask_cancel(&place.key());
        registry.kill(next_id, Some("jo"), &control(3));
        registry.kill(first_id, None, &control(4));
        let received = [orders.try_recv(), orders.try_recv()];
        assert_eq!(received, [Ok(SessionOrder::Cancel(None)), Ok(SessionOrder::Kill(control(3)))]);
        assert!(orders.try_recv().is_err(), "it was told");
    }

    #[tokio::test]
    async fn a_revoked_token_ends_its_sessions_and_those_that_were_on_their_way_in() {
        let registry = registry();
        let (_first, mut before) = registry.register(entrant("jo", "bad", 0));
        let (_second, mut other) = registry.register(entrant("jo", "good", 0));
        registry.kill_of_token("bad", &control(5));
        let (_third, mut after) = registry.register(entrant("jo", "bad", 2));
        assert_eq!(before.try_recv(), Ok(SessionOrder::Kill(control(5))));
        assert_eq!(after.try_recv(), Ok(SessionOrder::Kill(control(5))));
        assert!(other.try_recv().is_err());
    }
}
