use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use super::ServerTls;

/// The TLS of a listener, which may be replaced while it listens: who connects from then on is shown the new certificate,
/// and a connection keeps what it began with. Clones are of one listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    alpn: Vec<Vec<u8>>,
    current: Arc<RwLock<Arc<CurrentTls>>>,
}

/// The TLS of a listener at some moment.
#[derive(Debug)]
pub struct CurrentTls {
    /// The TLS itself.
    pub config: Arc<ServerConfig>,
    /// What clients can bind their logins to, see [`ServerTls`].
    pub end_point: Option<Vec<u8>>,
}

impl ListenerTls {
    /// TLS whose clients say these protocols, if any are named (ALPN).
    #[must_use]
    pub fn new(tls: ServerTls, alpn: &[&[u8]]) -> Self {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let current = Arc::new(RwLock::new(current(tls, &alpn)));
        Self { alpn, current }
    }

    /// As it is now.
    #[must_use]
    pub fn now(&self) -> Arc<CurrentTls> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces certificate and key.
    pub fn replace(&self, tls: ServerTls) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current(tls, &self.alpn);
    }
}

fn current(tls: ServerTls, alpn: &[Vec<u8>]) -> Arc<CurrentTls> {
    let ServerTls { mut config, end_point } = tls;
    config.alpn_protocols = alpn.to_vec();
    Arc::new(CurrentTls { config: Arc::new(config), end_point })
}
