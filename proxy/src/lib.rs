//! The proxy's shell: sockets, TLS, logins and the loop between them and a session machine. What may pass is decided in
//! `retrace-proxy-core`; here bytes are only moved.
//!
//! In reading order: [`serve`] accepts; `login` finds out who it is and to which target; `dial` opens the target with the
//! gate's credential; `driver` moves bytes between the two sockets, the machine and the log; `outbox` is the log's end of
//! it; `cancel` finds the session that a cancel request means; `streams` knows how
//! far each stream is durable, and `heads` signs it.

mod cancel;
mod clock;
mod dial;
mod driver;
mod gateway;
mod heads;
mod listener;
mod login;
mod outbox;
mod socket;
mod startup;
mod streams;

pub use gateway::{Gateway, GatewayLimits, GatewayParts, Target, TargetEncryption};
pub use heads::HeadSigner;
pub use listener::serve;
pub use streams::OpenStreams;
