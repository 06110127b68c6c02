//! What whoever keeps a credential is told, and what it says. Pure: time is an argument.
//!
//! `handle(now, input)`, then `poll_output()` until it gives nothing; `poll_deadline()` says when [`Input::Time`] is due.

use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Credential, NoCredential, Term};
use tokio::time::Instant;

/// A session that waits for a credential.
pub(crate) type Asker = u64;

/// What happened. `H` is what holds the right to what was fetched: the login that it came by.
pub(crate) enum Input<H> {
    /// A session asks. The target may have refused what another edition was.
    Asked { asker: Asker, refused: Option<u64> },
    /// One that asked waits no more.
    Gone { asker: Asker },
    /// What [`Output::Fetch`] has led to.
    Fetched(Result<Fetched<H>, Failure>),
    /// A session that had this edition is over.
    Returned { edition: u64 },
    /// What [`Output::Renew`] has led to.
    Renewed { edition: u64, asked_at: Instant, outcome: Renewal },
    /// The end of a login has moved.
    LoginEnds { login: u64, at: Option<Instant> },
    /// There is a new login: what came by those before goes on for as long as they do.
    NewLogin,
    /// Nobody will ask any more.
    Closed,
    /// The deadline has come.
    Time,
}

/// What was fetched.
pub(crate) struct Fetched<H> {
    pub(crate) credential: Credential,
    /// How long it is surely the one, if that is known.
    pub(crate) fresh_for: Option<Duration>,
    /// For how long it counts, if it was made for a time.
    pub(crate) lease: Option<Lease>,
    /// The number of the login that it came by, and when that ends.
    pub(crate) login: u64,
    pub(crate) login_ends_at: Option<Instant>,
    pub(crate) holds: H,
}

/// For how long a credential was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// Before it was asked for, so that it never counts for too long.
    pub(crate) asked_at: Instant,
    pub(crate) term: Duration,
    pub(crate) renewable: bool,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Renewal {
    For {
        term: Duration,
        renewable: bool,
    },
    /// The store has let go of it.
    Gone,
    /// It may not be renewed.
    Denied,
    /// It was not renewed now.
    Passes(Option<Duration>),
}

/// Why it was not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is none, or not for the gate: what is in hand counts no more either.
    Withdrawn,
    /// It may be there again later.
    Passes(Option<Duration>),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output<H> {
    /// Fetch. Each is answered by one [`Input::Fetched`].
    Fetch,
    /// Renew the lease of this edition.
    Renew {
        edition: u64,
    },
    /// Give a lease back.
    Revoke {
        holds: H,
    },
    /// Tell the sessions that have this edition.
    Tell {
        edition: u64,
        term: Term,
    },
    Lend {
        asker: Asker,
        credential: Arc<Credential>,
        edition: u64,
    },
    Refuse {
        asker: Asker,
        why: NoCredential,
    },
    /// There is no other than the one that was refused.
    NoOther {
        asker: Asker,
    },
}
