//! The proxy's shell: sockets, TLS, logins and the loop between them and a session machine. What may pass is decided in
//! `retrace-proxy-core`; here bytes are only moved.
//!
//! In reading order: [`serve`] accepts; a connection waits in the `lobby` while `login` finds out who it is and to which
//! target; `limits` is what nobody may have too much of, counted by `attempts`, `seats` and the buckets of sessions, for each
//! principal and `source`; `refusals` counts who is not let in; `dial` opens the target with the gate's credential; `session` runs what they
//! begin, on one of the `workers`; `driver` moves bytes between the two sockets, the machine and the log; `outbox` is the
//! log's end of it; `registry` finds the session that an order means, and `control` obeys those that come by the log; `reviews` asks people about a command
//! that waits, by the log too;
//! `streams` knows how far each stream is durable, and `heads` signs it; `leaving` tells a session that its
//! process or its credential is on the way out; `metrics` counts. `analyst` answers what a machine
//! asks about statements, from `parser` and `catalogue`.

mod analyst;
mod attempts;
mod catalogue;
mod clock;
mod control;
mod dial;
mod driver;
mod gateway;
mod heads;
mod leaving;
mod limits;
mod listener;
mod loaded;
mod lobby;
mod login;
mod metrics;
mod outbox;
mod parser;
mod refusals;
mod registry;
mod reviews;
mod ruling;
mod seats;
mod session;
mod socket;
mod source;
mod stage;
mod startup;
mod streams;
#[cfg(test)]
mod testing;
mod workers;

pub use catalogue::CATALOGUE_PRINCIPAL;
pub use control::Control;
pub use gateway::{Gateway, GatewayLimits, GatewayParts, Reload, Target, TargetEncryption, TargetTlsLink};
pub use heads::HeadSigner;
pub use limits::SourceLimits;
pub use listener::serve;
pub use metrics::ProxyMetrics;
pub use stage::Stage;
pub use streams::OpenStreams;
pub use workers::Workers;
