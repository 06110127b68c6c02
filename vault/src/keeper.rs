//! Who keeps a credential: a task for each, which nobody shares anything with. Sessions ask it by a channel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use retrace_access::{Ask, Loan};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::{Backoff, seed};
use crate::cell::Cell;
use crate::fetch::{CredentialError, fetch};
use crate::keep::{Asker, Fetched, Input, Output};
use crate::reference::Reference;
use crate::session::{Logins, Session};

/// What can be told of a credential that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) name: String,
    figures: Mutex<Figures>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Until when there is one for who comes; `None` if there is none now, and `Some(None)` if it has no end.
    pub(crate) lends_until: Option<Option<Instant>>,
    /// How many there were.
    pub(crate) editions: u64,
}

impl Figures {
    /// Of two that have one name.
    pub(crate) fn worse(self, other: Self) -> Self {
        let lends_until = match (self.lends_until, other.lends_until) {
            (None, _) | (_, None) => None,
            (Some(None), end) | (end, Some(None)) => end,
            (Some(one), Some(two)) => Some(one.min(two)),
        };
        Self { lends_until, editions: self.editions + other.editions }
    }
}

impl Kept {
    pub(crate) fn new(reference: &Reference) -> Self {
        Self { name: reference.to_string(), figures: Mutex::default() }
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    cell: Cell<Arc<Session>>,
    reference: Arc<Reference>,
    logins: Logins,
    askers: HashMap<Asker, Ask>,
    next_asker: Asker,
    fetches: FuturesUnordered<BoxFuture<'static, Result<Fetched<Arc<Session>>, CredentialError>>>,
    /// The login that it was told of last.
    login: u64,
    fails: bool,
}

impl Keeper {
    /// Lends what there is, until nobody can ask any more or the process stops.
    pub(crate) async fn run(mut self, first: Fetched<Arc<Session>>) {
        let mut work = Work {
            login: first.login,
            cell: Cell::new(Instant::now(), first, Backoff::new(seed())),
            reference: self.reference.clone(),
            logins: self.logins.clone(),
            askers: HashMap::new(),
            next_asker: 0,
            fetches: FuturesUnordered::new(),
            fails: false,
        };
        loop {
            work.tell(&self.kept);
            let deadline = work.cell.poll_deadline().unwrap_or_else(Instant::now);
            let inputs = tokio::select! {
                ask = self.asked.recv() => match ask {
                    Some(ask) => vec![work.asked(ask)],
                    None => break,
                },
                Some(outcome) = work.fetches.next() => vec![work.fetched(outcome)],
                () = self.logins.changed() => work.logins_changed(),
                () = sleep_until(deadline) => vec![Input::Time],
                _ = self.stop.wait_for(|stops| *stops) => break,
            };
            inputs.into_iter().for_each(|input| work.handle(input));
        }
        drop(self.alive);
    }
}

impl Work {
    fn handle(&mut self, input: Input<Arc<Session>>) {
        self.cell.handle(Instant::now(), input);
        while let Some(output) = self.cell.poll_output() {
            match output {
                Output::Fetch => {
                    let (logins, reference) = (self.logins.clone(), self.reference.clone());
                    self.fetches.push(Box::pin(async move { fetch(&logins, &reference).await }));
                }
                Output::Lend { asker, credential, edition } => {
                    self.answer(asker, Ok(Some(Loan::for_good(credential, edition))));
                }
                Output::Refuse { asker, why } => self.answer(asker, Err(why)),
                Output::NoOther { asker } => self.answer(asker, Ok(None)),
            }
        }
    }

    fn asked(&mut self, ask: Ask) -> Input<Arc<Session>> {
        let (asker, refused) = (self.next_asker, ask.refused);
        self.next_asker += 1;
        self.askers.insert(asker, ask);
        Input::Asked { asker, refused }
    }

    fn answer(&mut self, asker: Asker, answer: Result<Option<Loan>, retrace_access::NoCredential>) {
        if let Some(ask) = self.askers.remove(&asker) {
            // Whoever has gone meanwhile needs none.
            let _ = ask.reply.send(answer);
        }
    }

    fn fetched(&mut self, outcome: Result<Fetched<Arc<Session>>, CredentialError>) -> Input<Arc<Session>> {
        let fails = outcome.is_err();
        match &outcome {
            Err(error) if !self.fails => {
                tracing::warn!(credential = %self.reference, %error, "a target's credential cannot be fetched");
            }
            Ok(_) if self.fails => {
                tracing::info!(credential = %self.reference, "a target's credential can be fetched again");
            }
            _ => {}
        }
        self.fails = fails;
        Input::Fetched(outcome.map_err(|error| error.failure()))
    }

    /// The end of a login has moved by which something came that is kept, or there is a new one.
    fn logins_changed(&mut self) -> Vec<Input<Arc<Session>>> {
        let ends = |session: &Arc<Session>| Input::LoginEnds { login: session.number, at: session.ends_at() };
        let mut inputs: Vec<_> = self.cell.holds().map(ends).collect();
        let newest = self.logins.newest.borrow().as_ref().map(|session| session.number);
        if let Some(newest) = newest.filter(|newest| *newest > self.login) {
            self.login = newest;
            inputs.push(Input::NewLogin);
        }
        inputs
    }

    fn tell(&self, kept: &Kept) {
        let figures = Figures { lends_until: self.cell.lends_until(), editions: self.cell.editions() };
        let mut told = kept.figures.lock().unwrap_or_else(PoisonError::into_inner);
        if figures.editions > told.editions && told.editions > 0 {
            tracing::info!(credential = %self.reference, "a target's credential has changed");
        }
        *told = figures;
    }
}
