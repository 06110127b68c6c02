//! Who stays logged in: the one task that renews the token, and logs in anew before it ends.

use std::sync::Arc;
use std::time::Duration;

use retrace_access::Secret;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::answer::{Granted, term};
use crate::backoff::{Backoff, seed};
use crate::call::Call;
use crate::error::VaultError;
use crate::life::{Due, Life};
use crate::login::{Door, Entry, LoginError};
use crate::session::{Logins, Reach, Session};

/// How often a token that somebody else keeps is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the gate waits from one login to the next at least.
const LOGIN_PAUSE: Duration = Duration::from_secs(1);

/// How long giving everything back may take.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Doubts about tokens that were not looked into.
const DOUBTS_MAX: usize = 16;

/// Stays logged in.
pub(crate) struct Holder {
    door: Door,
    life: Life,
    newest: watch::Sender<Option<Arc<Session>>>,
    doubts: mpsc::Receiver<u64>,
    retire: mpsc::UnboundedSender<Reach>,
    retired: mpsc::UnboundedReceiver<Reach>,
    logged_in_at: Instant,
    /// When what failed is tried again.
    again_at: Option<Instant>,
    backoff: Backoff,
}

enum Action {
    Due(Due),
    /// Look at a token that somebody else keeps.
    Look,
    Doubt(u64),
    Retire(Reach),
}

impl Holder {
    /// Logs in for the first time.
    pub(crate) async fn log_in(mut door: Door) -> Result<(Self, Logins), LoginError> {
        let entry = door.log_in().await?;
        let (doubts_of_all, doubts) = mpsc::channel(DOUBTS_MAX);
        let (retire, retired) = mpsc::unbounded_channel();
        let mut holder = Self {
            door,
            life: entry.life.clone(),
            newest: watch::Sender::default(),
            doubts,
            retire,
            retired,
            logged_in_at: Instant::now(),
            again_at: None,
            backoff: Backoff::new(seed()),
        };
        warn_of(&entry.life, holder.door.is_own());
        holder.enter(entry);
        let logins = Logins { newest: holder.newest.subscribe(), doubts: doubts_of_all };
        Ok((holder, logins))
    }

    /// Stays logged in until `stop` resolves, and gives back what is the gate's own once `users` are gone.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>, mut users: mpsc::Receiver<()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let action = tokio::select! {
                action = self.select() => action,
                () = &mut stop => break,
            };
            // What is under way when the process stops is waited for: a token that is granted is revoked.
            self.apply(action).await;
        }
        let deadline = Instant::now() + STOP_WAIT_MAX;
        let gone = async { while users.recv().await.is_some() {} };
        let _ = timeout_at(deadline, gone).await;
        self.newest.send_replace(None);
        self.retired.close();
        while let Some(reach) = self.retired.recv().await {
            match timeout_at(deadline, reach.tell(&Call::RevokeToken)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a token of the gate's own was not revoked: it ends by itself")
                }
                Err(_) => {
                    tracing::warn!("a token of the gate's own was not revoked in time: it ends by itself")
                }
            }
        }
    }

    async fn select(&mut self) -> Action {
        let due = self.life.next();
        let at = match (due, self.again_at) {
            (Some((at, _)), again_at) => again_at.map_or(at, |again_at| again_at.max(at)),
            (None, _) => Instant::now() + LOOK_EVERY,
        };
        let look_at = Instant::now() + LOOK_EVERY;
        tokio::select! {
            Some(doubt) = self.doubts.recv() => Action::Doubt(doubt),
            Some(reach) = self.retired.recv() => Action::Retire(reach),
            () = sleep_until(look_at), if !self.door.is_own() => Action::Look,
            () = sleep_until(at), if due.is_some() => Action::Due(due.map_or(Due::Renew, |(_, due)| due)),
        }
    }

    async fn apply(&mut self, action: Action) {
        match action {
            Action::Due(Due::Renew) => self.renew().await,
            Action::Due(Due::LogIn) => self.log_in_anew().await,
            Action::Look => self.look().await,
            Action::Doubt(number) => self.look_into(number).await,
            Action::Retire(reach) => {
                if let Err(error) = reach.tell(&Call::RevokeToken).await {
                    tracing::warn!(%error, "a token of the gate's own was not revoked: it ends by itself");
                }
            }
        }
    }

    async fn renew(&mut self) {
        let Some(session) = self.newest.borrow().clone() else { return };
        let asked_at = Instant::now();
        match session.reach().ask::<Granted>(&Call::RenewToken).await {
            Ok(granted) => {
                self.life.renewed(asked_at, term(granted.auth.lease_duration), granted.auth.renewable);
                session.set_end(self.life.ends_at());
                self.newest.send_modify(|_| ());
                self.succeeded();
            }
            Err(VaultError::Denied) => {
                // The token is dead, or may not be renewed.
                self.life.not_renewable();
                self.look_into(session.number).await;
            }
            Err(VaultError::Invalid(_)) => self.life.not_renewable(),
            Err(error) => self.failed(&error.into()),
        }
    }

    /// A new login is there before the old one ends: what came by the old one goes on until nobody uses it.
    async fn log_in_anew(&mut self) {
        self.logged_in_at = Instant::now();
        match self.door.log_in().await {
            Ok(entry) => {
                self.enter(entry);
                self.succeeded();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Takes over a token that somebody else has put in the place of the one before.
    async fn look(&mut self) {
        let is_known = |token: &Secret| self.newest.borrow().as_ref().is_some_and(|it| it.reach().has(token));
        if self.door.given().is_some_and(|token| !is_known(&token)) {
            self.log_in_anew().await;
        }
    }

    /// Finds out whether the newest token is dead, and takes another one in its place.
    async fn look_into(&mut self, number: u64) {
        let Some(session) = self.newest.borrow().clone().filter(|session| session.number == number) else {
            return;
        };
        let state = session.reach().tell(&Call::LookUpToken).await;
        if !matches!(state, Err(VaultError::Denied)) {
            return;
        }
        tracing::warn!("Vault does not know the gate's token any more");
        self.life.ended(Instant::now());
        session.set_end(self.life.ends_at());
        self.newest.send_modify(|_| ());
        drop(session);
        if self.door.is_own() {
            sleep_until(self.logged_in_at + LOGIN_PAUSE).await;
            self.log_in_anew().await;
        } else {
            self.look().await;
        }
    }

    fn enter(&mut self, entry: Entry) {
        let Entry { client, token, life } = entry;
        let number = self.newest.borrow().as_ref().map_or(0, |before| before.number + 1);
        let retire = self.door.is_own().then(|| self.retire.clone());
        let session = Session::new(Reach::new(client, token), number, life.ends_at(), retire);
        self.life = life;
        self.newest.send_replace(Some(Arc::new(session)));
    }

    fn succeeded(&mut self) {
        if self.again_at.take().is_some() {
            tracing::info!("the gate is logged in at Vault again");
        }
        self.backoff.reset();
    }

    fn failed(&mut self, error: &LoginError) {
        if self.again_at.is_none() {
            tracing::warn!(%error, "the gate cannot stay logged in at Vault; it tries again");
        }
        self.again_at = Some(Instant::now() + self.backoff.next(error.wait()));
    }
}

/// What may surprise whoever runs the gate.
fn warn_of(life: &Life, is_own: bool) {
    /// A token that lives shorter makes an outage of Vault one of the gate.
    const SHORT: Duration = Duration::from_secs(600);
    match life.ends_at() {
        None => tracing::warn!("the gate's token at Vault never ends: give it a period instead"),
        Some(at) if at < Instant::now() + SHORT && !is_own && life.next().is_none() => {
            tracing::warn!("the gate's token at Vault ends within minutes and cannot be renewed by the gate");
        }
        Some(_) => {}
    }
}
