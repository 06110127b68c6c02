//! One credential that may change: a secret of KV, a role whose password the store changes. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Credential, NoCredential};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::keep::{Asker, Failure, Fetched, Input, Output};

/// How old it may be that nobody has looked.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// From one look to the next at least.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long after the store was to change it a look is due.
const CHANGE_DELAY: Duration = Duration::from_secs(1);

/// One credential that may change.
pub(crate) struct Cell<H> {
    value: Option<Value<H>>,
    /// How many there were.
    editions: u64,
    waiting: VecDeque<Waiting>,
    fetching: bool,
    fetch_began_at: Instant,
    fetch_at: Instant,
    backoff: Backoff,
    outputs: VecDeque<Output<H>>,
}

struct Value<H> {
    credential: Arc<Credential>,
    edition: u64,
    login: u64,
    login_ends_at: Option<Instant>,
    holds: H,
}

struct Waiting {
    asker: Asker,
    refused: Option<u64>,
    since: Instant,
}

impl<H> Cell<H> {
    /// One that has just been fetched.
    pub(crate) fn new(now: Instant, first: Fetched<H>, backoff: Backoff) -> Self {
        let mut cell = Self {
            value: None,
            editions: 0,
            waiting: VecDeque::new(),
            fetching: false,
            fetch_began_at: now,
            fetch_at: now,
            backoff,
            outputs: VecDeque::new(),
        };
        cell.take_over(now, first);
        cell
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<H>) {
        match input {
            Input::Asked { asker, refused } => {
                self.waiting.push_back(Waiting { asker, refused, since: now });
            }
            Input::Gone { asker } => self.waiting.retain(|waiting| waiting.asker != asker),
            Input::Fetched(Ok(fetched)) => {
                self.fetching = false;
                self.take_over(now, fetched);
                self.answer_all_before(NoCredential::Unavailable);
            }
            Input::Fetched(Err(failure)) => self.not_fetched(now, failure),
            Input::LoginEnds { login, at } => {
                if let Some(value) = self.value.as_mut().filter(|value| value.login == login) {
                    value.login_ends_at = at;
                }
            }
            Input::NewLogin => self.fetch_at = now,
            // What does not end is not given back.
            Input::Returned { .. } | Input::Renewed { .. } | Input::Closed | Input::Time => {}
        }
        self.drop_if_over(now);
        self.lend();
        self.fetch_if_due(now);
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output<H>> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due.
    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        let ends_at = self.value.as_ref().and_then(|value| value.login_ends_at);
        let fetch_at = (!self.fetching).then(|| self.next_fetch_at());
        ends_at.into_iter().chain(fetch_at).min()
    }

    /// Until when there is a credential for who comes, if nothing is fetched any more; `None` if there is none now. What has no
    /// end ends never.
    pub(crate) fn lends_until(&self) -> Option<Option<Instant>> {
        self.value.as_ref().map(|value| value.login_ends_at)
    }

    /// What holds the right to what is in hand.
    pub(crate) fn holds(&self) -> impl Iterator<Item = &H> {
        self.value.iter().map(|value| &value.holds)
    }

    /// How many credentials there were.
    pub(crate) fn editions(&self) -> u64 {
        self.editions
    }

    fn take_over(&mut self, now: Instant, fetched: Fetched<H>) {
        let Fetched { credential, fresh_for, login, login_ends_at, holds, .. } = fetched;
        self.backoff.reset();
        let fresh_for = fresh_for.map_or(LOOK_EVERY, |fresh| LOOK_EVERY.min(fresh + CHANGE_DELAY));
        self.fetch_at = now + fresh_for;
        let same = self.value.take().filter(|value| {
            value.credential.user == credential.user
                && value.credential.password.is_same(&credential.password)
        });
        let (credential, edition) = match same {
            Some(value) => (value.credential, value.edition),
            None => {
                self.editions += 1;
                (Arc::new(credential), self.editions)
            }
        };
        self.value = Some(Value { credential, edition, login, login_ends_at, holds });
    }

    fn not_fetched(&mut self, now: Instant, failure: Failure) {
        self.fetching = false;
        let (wait, why) = match failure {
            // Whoever has withdrawn a right is obeyed at once, and not when the next password comes.
            Failure::Withdrawn => {
                self.value = None;
                (None, NoCredential::Refused)
            }
            Failure::Passes(wait) => (wait, NoCredential::Unavailable),
        };
        self.fetch_at = now + self.backoff.next(wait);
        self.drop_if_over(now);
        self.answer_all_before(why);
    }

    /// Answers those who came before the fetch began that is over now: it has shown what there is.
    fn answer_all_before(&mut self, why: NoCredential) {
        self.lend();
        let (value, outputs) = (&self.value, &mut self.outputs);
        self.waiting.retain(|Waiting { asker, refused, since }| {
            if *since > self.fetch_began_at {
                return true;
            }
            outputs.push_back(match (value, refused) {
                (Some(_), Some(_)) => Output::NoOther { asker: *asker },
                _ => Output::Refuse { asker: *asker, why },
            });
            false
        });
    }

    /// Lends to all those who wait for no other than what there is.
    fn lend(&mut self) {
        let Some(value) = &self.value else { return };
        let outputs = &mut self.outputs;
        self.waiting.retain(|Waiting { asker, refused, .. }| {
            let is_other = *refused != Some(value.edition);
            if is_other {
                let (credential, edition) = (value.credential.clone(), value.edition);
                outputs.push_back(Output::Lend { asker: *asker, credential, edition });
            }
            !is_other
        });
    }

    /// Nothing outlives the login that it came by.
    fn drop_if_over(&mut self, now: Instant) {
        if self.value.as_ref().is_some_and(|value| value.login_ends_at.is_some_and(|at| at <= now)) {
            self.value = None;
        }
    }

    fn fetch_if_due(&mut self, now: Instant) {
        if !self.fetching && self.next_fetch_at() <= now {
            self.fetching = true;
            self.fetch_began_at = now;
            self.outputs.push_back(Output::Fetch);
        }
    }

    /// Whoever waits hurries it, but not to more than one a second.
    fn next_fetch_at(&self) -> Instant {
        let pause_ends_at = self.fetch_began_at + LOOK_PAUSE;
        if self.waiting.is_empty() { self.fetch_at.max(pause_ends_at) } else { pause_ends_at }
    }
}

#[cfg(test)]
mod tests;
