//! The leases of one role of the database engine: which are lent, and which must be renewed, replaced, called in or given
//! back. Pure.
//!
//! One lease serves all sessions that begin in the first two thirds of its first term; then another one is asked for, in
//! advance, and the one before is renewed for as long as a session has it. So every session has at least the difference between
//! the longest and the first term before it. Or each session has a lease of its own, which goes with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Credential, NoCredential, Term};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::keep::{Asker, Failure, Fetched, Input, Lease, Output, Renewal};
use crate::reference::Lending;

/// Leases at once: two for each session that there may be.
const LEASES_MAX: usize = 4096;

/// Leases that are asked for at once.
const FETCHES_MAX: usize = 16;

/// How long nothing is asked for after a failure, even if somebody waits.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// How long one lease that the target refused is the last that is replaced for that: a target that refuses all makes no role a
/// second.
const REFUSAL_PAUSE: Duration = Duration::from_secs(10);

/// How long before a lease ends its sessions are told to come to an end, at most, and how long before they end at once.
const ENDING_BEFORE_MAX: Duration = Duration::from_secs(60);
const OVER_BEFORE_MAX: Duration = Duration::from_secs(5);

/// Seconds are cut off on the way, so that one less is the same.
const CUT_OFF: Duration = Duration::from_secs(1);

/// The leases of one role.
pub(crate) struct Shelf<H> {
    lending: Lending,
    leases: BTreeMap<u64, Held<H>>,
    /// Lent to whoever comes, where one serves all.
    current: Option<u64>,
    editions: u64,
    waiting: VecDeque<Waiting>,
    fetching: usize,
    /// Nothing is asked for before then.
    not_before: Instant,
    /// When what failed is tried again although nobody waits.
    again_at: Instant,
    /// When a lease was last given up because the target refused it.
    refused_at: Option<Instant>,
    /// Nobody asks any more.
    closed: bool,
    backoff: Backoff,
    outputs: VecDeque<Output<H>>,
}

struct Waiting {
    asker: Asker,
    refused: Option<u64>,
}

struct Held<H> {
    credential: Arc<Credential>,
    /// As it was first given.
    term: Duration,
    ends_at: Instant,
    /// `None` if it cannot be renewed, any more.
    renew_at: Option<Instant>,
    renewing: bool,
    /// Of its renewals.
    backoff: Backoff,
    /// When another one is asked for in its place.
    replace_at: Instant,
    login: u64,
    login_ends_at: Option<Instant>,
    loans: u32,
    told: Term,
    holds: H,
}

impl<H> Held<H> {
    /// It dies with the token that asked for it.
    fn end(&self) -> Instant {
        self.login_ends_at.map_or(self.ends_at, |at| at.min(self.ends_at))
    }

    /// How long before its end the sessions that have it are to be told so much.
    fn lead(&self, term: Term) -> Duration {
        match term {
            Term::Running => Duration::MAX,
            Term::Ending => (self.term / 5).min(ENDING_BEFORE_MAX),
            Term::Over => (self.term / 20).min(OVER_BEFORE_MAX),
        }
    }

    fn term_at(&self, now: Instant) -> Term {
        let left = self.end().saturating_duration_since(now);
        [Term::Over, Term::Ending].into_iter().find(|term| left <= self.lead(*term)).unwrap_or_default()
    }

    /// When it is to be renewed, if somebody has it and it is worth it.
    fn renewal_due_at(&self) -> Option<Instant> {
        self.renew_at.filter(|_| self.loans > 0 && !self.renewing && self.told == Term::Running)
    }

    /// When something is next to be done about it.
    fn deadline(&self) -> Option<Instant> {
        let next = match self.told {
            Term::Running => Term::Ending,
            Term::Ending => Term::Over,
            // Whoever has it still has been told everything.
            Term::Over => return None,
        };
        let end = self.end();
        let told_at = end.checked_sub(self.lead(next)).unwrap_or(end);
        Some(self.renewal_due_at().map_or(told_at, |at| at.min(told_at)))
    }
}

impl<H> Shelf<H> {
    /// With the first lease on it, where one serves all.
    pub(crate) fn new(now: Instant, lending: Lending, first: Option<Fetched<H>>, backoff: Backoff) -> Self {
        let mut shelf = Self {
            lending,
            leases: BTreeMap::new(),
            current: None,
            editions: 0,
            waiting: VecDeque::new(),
            fetching: 0,
            not_before: now,
            again_at: now,
            refused_at: None,
            closed: false,
            backoff,
            outputs: VecDeque::new(),
        };
        if let Some(mut first) = first
            && let Some(lease) = first.lease.take()
        {
            shelf.put(first, lease);
        }
        shelf
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<H>) {
        match input {
            Input::Asked { asker, refused } => self.asked(now, asker, refused),
            Input::Gone { asker } => self.waiting.retain(|waiting| waiting.asker != asker),
            Input::Returned { edition } => {
                if let Some(held) = self.leases.get_mut(&edition) {
                    held.loans = held.loans.saturating_sub(1);
                }
            }
            Input::Fetched(outcome) => self.fetched(now, outcome),
            Input::Renewed { edition, asked_at, outcome } => self.renewed(now, edition, asked_at, outcome),
            Input::LoginEnds { login, at } => {
                let of_it = self.leases.values_mut().filter(|held| held.login == login);
                of_it.for_each(|held| held.login_ends_at = at);
            }
            Input::NewLogin => {
                if let Some(held) = self.current.and_then(|current| self.leases.get_mut(&current)) {
                    held.replace_at = now;
                }
            }
            Input::Closed => {
                self.closed = true;
                self.current = None;
            }
            Input::Time => {}
        }
        self.call_in(now);
        self.lend();
        self.fetch_if_due(now);
        self.renew_due(now);
        self.give_back(now);
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output<H>> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due.
    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        let fetch_at = self.fetch_at().map(|at| at.max(self.not_before));
        self.leases.values().filter_map(Held::deadline).chain(fetch_at).min()
    }

    /// What holds the right to what is in hand.
    pub(crate) fn holds(&self) -> impl Iterator<Item = &H> {
        self.leases.values().map(|held| &held.holds)
    }

    /// What holds the right to one of them, and how far its sessions were told that it is.
    pub(crate) fn held(&self, edition: u64) -> Option<(&H, Term)> {
        self.leases.get(&edition).map(|held| (&held.holds, held.told))
    }

    /// Takes everything off, to be given back.
    pub(crate) fn clear(&mut self) -> Vec<H> {
        self.current = None;
        std::mem::take(&mut self.leases).into_values().map(|held| held.holds).collect()
    }

    /// Until when there is a lease for who comes, if none is asked for any more.
    pub(crate) fn lends_until(&self) -> Option<Option<Instant>> {
        let held = self.leases.get(&self.current?)?;
        Some(Some(held.end() - held.lead(Term::Ending)))
    }

    /// How many leases there were.
    pub(crate) fn editions(&self) -> u64 {
        self.editions
    }

    /// How many there are.
    pub(crate) fn leases(&self) -> usize {
        self.leases.len()
    }

    /// A role that the target refuses may be gone: another one is made, and the refused one is lent no more.
    fn asked(&mut self, now: Instant, asker: Asker, refused: Option<u64>) {
        if refused.is_some() && refused == self.current {
            if self.refused_at.is_some_and(|at| now < at + REFUSAL_PAUSE) {
                self.outputs.push_back(Output::NoOther { asker });
                return;
            }
            self.refused_at = Some(now);
            self.current = None;
        }
        self.waiting.push_back(Waiting { asker, refused });
    }

    fn fetched(&mut self, now: Instant, outcome: Result<Fetched<H>, Failure>) {
        self.fetching = self.fetching.saturating_sub(1);
        let failure = match outcome {
            Ok(Fetched { lease: Some(lease), holds, .. }) if lease.term.is_zero() => {
                self.outputs.push_back(Output::Revoke { holds });
                Failure::Passes(None)
            }
            Ok(mut fetched) => match fetched.lease.take() {
                Some(lease) => {
                    self.backoff.reset();
                    return self.put(fetched, lease);
                }
                None => Failure::Passes(None),
            },
            Err(failure) => failure,
        };
        let (wait, why) = match failure {
            // What is lent is Vault's to revoke. It is lent to nobody else.
            Failure::Withdrawn => {
                self.current = None;
                (None, NoCredential::Refused)
            }
            Failure::Passes(wait) => (wait, NoCredential::Unavailable),
        };
        self.not_before = now + wait.unwrap_or_default().max(FAILURE_PAUSE);
        self.again_at = now + self.backoff.next(wait);
        let waited = match self.lending {
            Lending::Shared => self.waiting.len(),
            Lending::Session => 1.min(self.waiting.len()),
        };
        for Waiting { asker, .. } in self.waiting.drain(..waited) {
            self.outputs.push_back(Output::Refuse { asker, why });
        }
    }

    fn put(&mut self, fetched: Fetched<H>, lease: Lease) {
        let Fetched { credential, login, login_ends_at, holds, .. } = fetched;
        let Lease { asked_at, term, renewable } = lease;
        self.editions += 1;
        let replace_at = asked_at + term * 2 / 3;
        let held = Held {
            credential: Arc::new(credential),
            term,
            ends_at: asked_at + term,
            renew_at: renewable.then_some(replace_at),
            renewing: false,
            backoff: self.backoff.another(),
            replace_at,
            login,
            login_ends_at,
            loans: 0,
            told: Term::Running,
            holds,
        };
        self.leases.insert(self.editions, held);
        match self.lending {
            Lending::Shared => self.current = Some(self.editions).filter(|_| !self.closed),
            Lending::Session => {
                if let Some(Waiting { asker, .. }) = self.waiting.pop_front() {
                    self.lend_to(asker, self.editions);
                }
            }
        }
    }

    fn renewed(&mut self, now: Instant, edition: u64, asked_at: Instant, outcome: Renewal) {
        let Some(held) = self.leases.get_mut(&edition) else { return };
        held.renewing = false;
        match outcome {
            Renewal::For { term, renewable } => {
                held.backoff.reset();
                held.ends_at = asked_at + term;
                // There is no error at the most that a lease may live: its term is shorter than it was.
                let is_full = term + CUT_OFF >= held.term;
                held.renew_at = (renewable && is_full).then(|| asked_at + term * 2 / 3);
            }
            // Vault has let go of it: whoever has it ends.
            Renewal::Gone => held.ends_at = now,
            Renewal::Denied => held.renew_at = None,
            Renewal::Passes(wait) => held.renew_at = Some(now + held.backoff.next(wait)),
        }
    }

    /// Tells the sessions of leases that come to their ends.
    fn call_in(&mut self, now: Instant) {
        for (edition, held) in &mut self.leases {
            let term = held.term_at(now);
            if term > held.told {
                held.told = term;
                self.outputs.push_back(Output::Tell { edition: *edition, term });
            }
        }
        let is_running = |current: &u64| self.leases.get(current).is_some_and(|it| it.told == Term::Running);
        self.current = self.current.filter(is_running);
    }

    /// Lends to all who wait, where one lease serves all.
    fn lend(&mut self) {
        let Some(current) = self.current else { return };
        for Waiting { asker, refused } in std::mem::take(&mut self.waiting) {
            if refused == Some(current) {
                self.outputs.push_back(Output::NoOther { asker });
            } else {
                self.lend_to(asker, current);
            }
        }
    }

    fn lend_to(&mut self, asker: Asker, edition: u64) {
        let Some(held) = self.leases.get_mut(&edition) else { return };
        held.loans += 1;
        self.outputs.push_back(Output::Lend { asker, credential: held.credential.clone(), edition });
    }

    /// When a lease is to be asked for; `None` if none is wanted.
    fn fetch_at(&self) -> Option<Instant> {
        if self.closed || self.leases.len() + self.fetching >= LEASES_MAX {
            return None;
        }
        match self.lending {
            Lending::Session => {
                let wanted = self.waiting.len() > self.fetching && self.fetching < FETCHES_MAX;
                wanted.then_some(self.not_before)
            }
            Lending::Shared if self.fetching > 0 => None,
            Lending::Shared if !self.waiting.is_empty() => Some(self.not_before),
            // One is kept ready, so that an outage is not felt at once.
            Lending::Shared => {
                let due_at =
                    self.current.and_then(|current| self.leases.get(&current)).map(|it| it.replace_at);
                Some(due_at.map_or(self.again_at, |at| at.max(self.again_at)))
            }
        }
    }

    fn fetch_if_due(&mut self, now: Instant) {
        while self.fetch_at().is_some_and(|at| at.max(self.not_before) <= now) {
            self.fetching += 1;
            self.outputs.push_back(Output::Fetch);
        }
        // No more leases than there may be: nobody waits for what does not come.
        if self.leases.len() + self.fetching >= LEASES_MAX && self.fetching == 0 {
            for Waiting { asker, .. } in self.waiting.drain(..) {
                self.outputs.push_back(Output::Refuse { asker, why: NoCredential::Unavailable });
            }
        }
    }

    fn renew_due(&mut self, now: Instant) {
        for (edition, held) in &mut self.leases {
            if held.renewal_due_at().is_some_and(|at| at <= now) {
                held.renewing = true;
                self.outputs.push_back(Output::Renew { edition: *edition });
            }
        }
    }

    /// What nobody has and nobody will have goes back, unless it has ended by itself.
    fn give_back(&mut self, now: Instant) {
        let current = self.current;
        let idle = self
            .leases
            .extract_if(.., |edition, held| held.loans == 0 && Some(*edition) != current && !held.renewing);
        for (_, held) in idle {
            if held.end() > now {
                self.outputs.push_back(Output::Revoke { holds: held.holds });
            }
        }
    }
}

#[cfg(test)]
mod tests;
