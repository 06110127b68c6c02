//! Credentials of targets from a secret store: HashiCorp Vault or OpenBao, by what both have of the API.
//!
//! The way through this crate, in reading order:
//!
//! * [`Settings`]: where the store is and how the gate logs in. [`Reference`]: what of it a configuration may name.
//! * [`Vault`]: the store itself. [`Vault::source`] leads to a credential that is there.
//! * `call` and `answer` are what is sent and read, and nothing else is; `client` does it, with limits.
//! * `login` knows the ways to log in; `holder` is the one task that stays logged in, by the rules of `life`; `session` is what
//!   one login gave, for as long as somebody uses it.
//! * `keeper` is a task for each credential, around a `machine`: a `cell` for one that changes in its place, a `shelf` for roles
//!   that are made for a time. `keep` has their words, `fetch` what a reference leads to.
//!
//! Promised throughout: no error, log line, metric or `Debug` text of this crate holds a token, a password, or what the store
//! says of an error, since that holds the addresses of targets. When the store does not answer, nothing is lent beyond the
//! end that it gave itself; and who has what ends is told before. And when it takes a right back, what came by that right is lent no more.
//!
//! Secrets are overwritten in memory when they are dropped, as far as they are ours: the buffers of HTTP and TLS are not.

mod reference;
mod settings;

mod vault;

mod answer;
mod call;
mod client;
mod error;

mod holder;
mod life;
mod login;
mod session;

mod keep;

mod cell;
mod shelf;

mod machine;

mod fetch;
mod keeper;
mod kept;

mod backoff;
mod metrics;
mod told;

#[cfg(test)]
mod testing;

pub use error::VaultError;
pub use fetch::CredentialError;
pub use login::LoginError;
pub use reference::{ApiPath, InvalidReference, Lending, Reference};
pub use settings::{Address, InvalidAddress, Login, Settings};
pub use vault::Vault;
