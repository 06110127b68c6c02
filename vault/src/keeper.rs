//! Who keeps a credential: a task for each, which shares nothing with anybody. Sessions ask it by a channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use retrace_access::{Ask, Credential, Loan, NoCredential, Term};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backoff::{Backoff, seed};
use crate::call::Call;
use crate::cell::Cell;
use crate::error::VaultError;
use crate::fetch::{CredentialError, Holds, fetch, renew};
use crate::keep::{Asker, Fetched, Input, Output, Renewal};
use crate::kept::Kept;
use crate::machine::Machine;
use crate::reference::{Lending, Reference};
use crate::session::Logins;
use crate::shelf::Shelf;

/// How long giving leases back may take when the process stops.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Leases that are given back at once while there is other work, which would wait behind them.
const REVOCATIONS_MAX: usize = 4;

/// What a keeper works with.
pub(crate) struct Keeper {
    pub(crate) reference: Arc<Reference>,
    pub(crate) logins: Logins,
    pub(crate) asked: mpsc::Receiver<Ask>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) kept: Arc<Kept>,
    /// Tells by its end that the keeper has ended.
    pub(crate) alive: mpsc::Sender<()>,
}

/// A keeper at work.
struct Work {
    machine: Machine<Holds>,
    reference: Arc<Reference>,
    logins: Logins,
    askers: HashMap<Asker, Ask>,
    next_asker: Asker,
    /// What tells the sessions that have a lease, by its edition.
    terms: HashMap<u64, watch::Sender<Term>>,
    returned: mpsc::UnboundedSender<u64>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Closed when the process stops: then there is no other work.
    revocations: Arc<Semaphore>,
    /// The login that it was told of last.
    login: u64,
    fails: bool,
    /// Whether leases can be given back one by one, as far as it was tried.
    may_revoke: bool,
}

/// What became of a request.
enum Done {
    Fetched(Result<Fetched<Holds>, CredentialError>),
    Renewed { edition: u64, asked_at: Instant, outcome: Renewal },
    Revoked(Result<(), VaultError>),
}

impl Keeper {
    /// Lends what there is, until nobody can ask any more and nothing is lent, or the process stops.
    pub(crate) async fn run(mut self, first: Option<Fetched<Holds>>) {
        let (returned, mut returns) = mpsc::unbounded_channel();
        let mut work = Work::new(&self, first, returned);
        let mut is_asked = true;
        loop {
            work.tell(&self.kept);
            if !is_asked && work.is_done() {
                break;
            }
            let deadline = work.machine.poll_deadline();
            let inputs = tokio::select! {
                ask = self.asked.recv(), if is_asked => match ask {
                    Some(ask) => {
                        work.asked(ask);
                        continue;
                    }
                    None => {
                        is_asked = false;
                        vec![Input::Closed]
                    }
                },
                Some(edition) = returns.recv() => vec![Input::Returned { edition }],
                Some(done) = work.calls.next() => work.done(done),
                () = self.logins.changed() => work.logins_changed(),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => vec![Input::Time],
                _ = self.stop.wait_for(|stops| *stops) => break,
            };
            work.gone().into_iter().chain(inputs).for_each(|input| work.handle(input));
        }
        work.stop().await;
        drop(self.alive);
    }
}

impl Work {
    fn new(keeper: &Keeper, first: Option<Fetched<Holds>>, returned: mpsc::UnboundedSender<u64>) -> Self {
        let (now, backoff) = (Instant::now(), Backoff::new(seed()));
        let login = first.as_ref().map(|first| first.login);
        let lending = match &*keeper.reference {
            Reference::Database { lending, .. } => Some(*lending),
            Reference::Kv { .. } | Reference::Static { .. } => None,
        };
        let machine = match (lending, first) {
            (None, Some(first)) => Machine::Cell(Box::new(Cell::new(now, first, backoff))),
            (lending, first) => {
                Machine::Shelf(Box::new(Shelf::new(now, lending.unwrap_or_default(), first, backoff)))
            }
        };
        let newest = || keeper.logins.newest.borrow().as_ref().map_or(0, |session| session.number);
        Self {
            machine,
            reference: keeper.reference.clone(),
            logins: keeper.logins.clone(),
            askers: HashMap::new(),
            next_asker: 0,
            terms: HashMap::new(),
            returned,
            calls: FuturesUnordered::new(),
            revocations: Arc::new(Semaphore::new(REVOCATIONS_MAX)),
            login: login.unwrap_or_else(newest),
            fails: false,
            may_revoke: true,
        }
    }

    fn handle(&mut self, input: Input<Holds>) {
        self.machine.handle(Instant::now(), input);
        while let Some(output) = self.machine.poll_output() {
            self.carry_out(output);
        }
        let machine = &self.machine;
        self.terms.retain(|edition, _| machine.held(*edition).is_some());
    }

    fn carry_out(&mut self, output: Output<Holds>) {
        match output {
            Output::Fetch => {
                let (logins, reference) = (self.logins.clone(), self.reference.clone());
                self.calls.push(Box::pin(async move { Done::Fetched(fetch(&logins, &reference).await) }));
            }
            Output::Renew { edition } => self.renew(edition),
            Output::Revoke { holds } => self.revoke(holds),
            Output::Tell { edition, term } => {
                if let Some(told) = self.terms.get(&edition) {
                    told.send_replace(term);
                }
            }
            Output::Lend { asker, credential, edition } => {
                let loan = self.loan(credential, edition);
                self.answer(asker, Ok(Some(loan)));
            }
            Output::Refuse { asker, why } => self.answer(asker, Err(why)),
            Output::NoOther { asker } => self.answer(asker, Ok(None)),
        }
    }

    fn renew(&mut self, edition: u64) {
        let Some((Holds { session, lease: Some(id) }, _)) = self.machine.held(edition) else { return };
        let (logins, session, id) = (self.logins.clone(), session.clone(), id.clone());
        let asked_at = Instant::now();
        self.calls.push(Box::pin(async move {
            Done::Renewed { edition, asked_at, outcome: renew(logins, session, id).await }
        }));
    }

    fn revoke(&self, holds: Holds) {
        let revocations = self.revocations.clone();
        self.calls.push(Box::pin(async move {
            let _one_of_few = revocations.acquire().await;
            Done::Revoked(revoke(holds).await)
        }));
    }

    fn loan(&mut self, credential: Arc<Credential>, edition: u64) -> Loan {
        let Some((_, term)) = self.machine.held(edition) else { return Loan::for_good(credential, edition) };
        let told = self.terms.entry(edition).or_insert_with(|| watch::Sender::new(term));
        Loan::for_a_time(credential, edition, told.subscribe(), self.returned.clone())
    }

    fn asked(&mut self, ask: Ask) {
        let (asker, refused) = (self.next_asker, ask.refused);
        self.next_asker += 1;
        self.askers.insert(asker, ask);
        self.handle(Input::Asked { asker, refused });
    }

    /// Those who wait no more: nothing is made for them.
    fn gone(&mut self) -> Vec<Input<Holds>> {
        let gone = self.askers.extract_if(|_, ask| ask.reply.is_closed());
        gone.map(|(asker, _)| Input::Gone { asker }).collect()
    }

    /// An answer for somebody who has gone meanwhile is dropped, and a loan with it is given back.
    fn answer(&mut self, asker: Asker, answer: Result<Option<Loan>, NoCredential>) {
        if let Some(ask) = self.askers.remove(&asker) {
            let _ = ask.reply.send(answer);
        }
    }

    fn done(&mut self, done: Done) -> Vec<Input<Holds>> {
        match done {
            Done::Fetched(outcome) => vec![self.fetched(outcome)],
            Done::Renewed { edition, asked_at, outcome } => {
                vec![Input::Renewed { edition, asked_at, outcome }]
            }
            Done::Revoked(outcome) => {
                self.revoked(&outcome);
                Vec::new()
            }
        }
    }

    fn fetched(&mut self, outcome: Result<Fetched<Holds>, CredentialError>) -> Input<Holds> {
        match &outcome {
            Err(error) if !self.fails => {
                tracing::warn!(credential = %self.reference, %error, "a target's credential cannot be fetched");
            }
            Ok(_) if self.fails => {
                tracing::info!(credential = %self.reference, "a target's credential can be fetched again");
            }
            _ => {}
        }
        self.fails = outcome.is_err();
        let outcome = outcome.map(|fetched| Fetched {
            // It may have moved since the answer came.
            login_ends_at: fetched.holds.session.ends_at(),
            ..fetched
        });
        Input::Fetched(outcome.map_err(|error| error.failure()))
    }

    /// What is not given back ends by itself.
    fn revoked(&mut self, outcome: &Result<(), VaultError>) {
        if let Err(error) = outcome
            && self.may_revoke
        {
            tracing::warn!(
                credential = %self.reference, %error,
                "a lease was not given back and ends by itself; the gate's policy needs \
                 path \"sys/leases/revoke\" {{ capabilities = [\"update\"] }}"
            );
        }
        self.may_revoke = outcome.is_ok();
    }

    /// The end of a login has moved by which something came that is kept, or there is a new one.
    fn logins_changed(&mut self) -> Vec<Input<Holds>> {
        let end = |holds: &Holds| (holds.session.number, holds.session.ends_at());
        let ends: BTreeMap<_, _> = self.machine.holds().into_iter().map(end).collect();
        let mut inputs: Vec<_> = ends.into_iter().map(|(login, at)| Input::LoginEnds { login, at }).collect();
        let newest = self.logins.newest.borrow().as_ref().map(|session| session.number);
        if let Some(newest) = newest.filter(|newest| *newest > self.login) {
            self.login = newest;
            inputs.push(Input::NewLogin);
        }
        inputs
    }

    fn tell(&self, kept: &Kept) {
        let changed = kept.tell(self.machine.lends_until(), self.machine.editions(), self.machine.leases());
        let is_one = !matches!(&*self.reference, Reference::Database { lending: Lending::Session, .. });
        if changed && is_one {
            tracing::info!(credential = %self.reference, "a target's credential has changed");
        }
    }

    /// Whether nothing is left to be given back.
    fn is_done(&self) -> bool {
        self.machine.leases() == 0 && self.calls.is_empty()
    }

    /// Gives back what there is, and what comes of requests that are under way. What came by a token of the gate's own goes
    /// with it.
    async fn stop(mut self) {
        let deadline = Instant::now() + STOP_WAIT_MAX;
        self.revocations.close();
        let mut given = self.machine.clear();
        loop {
            given.into_iter().filter(|holds| !holds.session.is_own()).for_each(|holds| self.revoke(holds));
            given = match timeout_at(deadline, self.calls.next()).await {
                Ok(None) => return,
                Ok(Some(Done::Fetched(Ok(fetched)))) => vec![fetched.holds],
                Ok(Some(Done::Revoked(outcome))) => {
                    self.revoked(&outcome);
                    Vec::new()
                }
                Ok(Some(_)) => Vec::new(),
                Err(_) => break,
            };
        }
        tracing::warn!(credential = %self.reference, "leases were not given back in time: they end by themselves");
    }
}

/// Gives a lease back.
async fn revoke(holds: Holds) -> Result<(), VaultError> {
    let Some(id) = &holds.lease else { return Ok(()) };
    holds.session.reach().tell(&Call::RevokeLease(id)).await
}

#[cfg(test)]
mod tests;
