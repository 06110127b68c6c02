//! What both sides' sockets have in common.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which a peer is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How long after an unanswered question the next is asked; the system gives up after some of them.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Small messages go at once, and a peer that vanished without a word is noticed, so that it does not hold a session and
/// a target's connection for ever.
pub(crate) fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    let set = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "a socket takes no options; it works without");
    }
}
