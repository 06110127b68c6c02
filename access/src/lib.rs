//! Who may come in, and how that is proved: principals, their tokens, SCRAM, secrets by reference, the CA and TLS.
//!
//! The way through this crate, in reading order:
//!
//! * [`Principal`]: who may act, on which targets, and how much ([`PrincipalLimits`]). [`Authenticated`]: a principal that
//!   has proved itself by a token.
//! * [`Directory`]: the principals of a gateway with the file of their tokens. It answers a login, and nothing else:
//!   [`Directory::bearer`] for a token as it is, [`Directory::scram`] for a client that proves one without showing it.
//! * [`ScramServer`]: that proof, a machine without I/O.
//! * [`TokenFile`]: where tokens are made, listed and revoked; safe between processes.
//! * [`Secret`], [`SecretRef`]: a value that does not print, and the reference by which a configuration names one.
//! * [`CredentialSource`]: where a target's credential comes from, and [`Loan`]: that credential for one session.
//! * [`Keys`], [`Ca`], [`tls`]: what a gateway keeps in its folder, and the TLS made from it, on both of its sides.
//! * [`TargetAuth`]: how the gate may prove itself to a target.
//!
//! Two things are promised throughout. When the tokens cannot be read, every login is refused, and so it is at a target whose
//! credential cannot be had. And no error, log line or
//! `Debug` text of this crate holds a token, a key, or anything a client sent.

mod principal;

mod limits;

mod directory;

mod scram;

mod token;
mod token_file;
mod verifier;

mod secret;

mod credential;

mod keys;

mod ca;
pub mod tls;

mod target_auth;

mod files;
#[cfg(test)]
mod testing;
mod time;

pub use ca::{Ca, ServerIdentity};
pub use credential::{Ask, Borrower, Credential, CredentialSource, Loan, NoCredential, Term, WeakBorrower};
pub use directory::{Directory, DirectoryError, Principals, Refused};
pub use files::FileError;
pub use keys::{KeyError, Keys, RoleKey};
pub use limits::PrincipalLimits;
pub use principal::{Authenticated, EvidenceRight, HoldRight, KillRight, Principal};
pub use scram::{Mechanism, ScramError, ScramServer};
pub use secret::{Secret, SecretError, SecretRef, SecretSource};
pub use target_auth::{AuthMethod, AuthMethods, AuthMethodsError, BindingMode, TargetAuth};
pub use tls::{CertificateCheck, ClientIdentity, CurrentTls, ListenerTls, ServerTls, TargetTls, TlsError};
pub use token::TokenEntry;
pub use token_file::{TOKEN_TTL_DEFAULT, TOKENS_LIVE_MAX, TokenError, TokenFile};
