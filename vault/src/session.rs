//! Being logged in: what a login gave, for as long as somebody uses it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use retrace_access::Secret;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::answer::TokenState;
use crate::call::Call;
use crate::client::Client;
use crate::error::VaultError;

/// How long a new login may take that is waited for, since the one before is found to be over.
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(2);

/// What one login gave.
///
/// A lease dies with the token that asked for it, so whoever keeps one keeps its session too. A session of the gate's own is
/// revoked when nobody keeps it any more.
#[derive(Debug)]
pub(crate) struct Session {
    reach: Reach,
    /// Counts logins.
    pub(crate) number: u64,
    ends_at: Mutex<Option<Instant>>,
    /// Where a token goes that nobody needs; `None` if it is not the gate's own.
    retire: Option<mpsc::UnboundedSender<Reach>>,
}

/// A token, and the connection that it is good for.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    client: Client,
    token: Secret,
}

impl Reach {
    pub(crate) fn new(client: Client, token: Secret) -> Self {
        Self { client, token }
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, VaultError> {
        self.client.ask(call, Some(&self.token)).await
    }

    /// Asks for something that is answered by nothing.
    pub(crate) async fn tell(&self, call: &Call<'_>) -> Result<(), VaultError> {
        self.client.send(call, Some(&self.token)).await.map(drop)
    }

    pub(crate) fn has(&self, token: &Secret) -> bool {
        self.token.is_same(token)
    }
}

impl Session {
    pub(crate) fn new(
        reach: Reach,
        number: u64,
        ends_at: Option<Instant>,
        retire: Option<mpsc::UnboundedSender<Reach>>,
    ) -> Self {
        Self { reach, number, ends_at: Mutex::new(ends_at), retire }
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// When it ends; `None` if it does not.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        *self.ends_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_end(&self, at: Option<Instant>) {
        *self.ends_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Whether its token is the gate's own, which is revoked with all that came by it.
    pub(crate) fn is_own(&self) -> bool {
        self.retire.is_some()
    }

    fn is_over(&self) -> bool {
        self.ends_at().is_some_and(|at| at <= Instant::now())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(retire) = &self.retire
            && !self.is_over()
        {
            // Whoever revokes it has gone only if the process is about to.
            let _ = retire.send(self.reach.clone());
        }
    }
}

/// The way to whoever is logged in. Clones are of one.
#[derive(Clone, Debug)]
pub(crate) struct Logins {
    pub(crate) newest: watch::Receiver<Option<Arc<Session>>>,
    /// Takes numbers of sessions whose token may be dead.
    pub(crate) doubts: mpsc::Sender<u64>,
}

impl Logins {
    /// The newest session, unless it is over.
    pub(crate) fn current(&self) -> Result<Arc<Session>, VaultError> {
        let newest = self.newest.borrow().clone();
        newest.filter(|session| !session.is_over()).ok_or(VaultError::NoLogin)
    }

    /// Resolves when there is a new session, or the end of one has moved. Never, once nobody logs in any more.
    pub(crate) async fn changed(&mut self) {
        if self.newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks by the newest session. Where that is refused, the token may be dead or its policy may lack the right, which are
    /// one answer: the token is looked at, and if it is dead, the question is asked once more by the next one.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<(T, Arc<Session>), VaultError> {
        let session = self.current()?;
        match session.reach.ask(call).await {
            Err(VaultError::Denied) => {}
            answer => return answer.map(|answer| (answer, session)),
        }
        match session.reach.ask::<TokenState>(&Call::LookUpToken).await {
            Ok(_) => return Err(VaultError::Denied),
            Err(VaultError::Denied) => {}
            Err(error) => return Err(error),
        }
        let next = self.after(session.number).await?;
        next.reach.ask(call).await.map(|answer| (answer, next))
    }

    /// Has somebody look whether the token of a session is dead.
    pub(crate) fn doubt(&self, number: u64) {
        // A doubt that finds no room is one among others about the same.
        let _ = self.doubts.try_send(number);
    }

    /// The session after one that is over.
    async fn after(&self, number: u64) -> Result<Arc<Session>, VaultError> {
        self.doubt(number);
        let mut newest = self.newest.clone();
        let is_next = |session: &Option<Arc<Session>>| session.as_ref().is_some_and(|it| it.number > number);
        let next = timeout(LOGIN_WAIT_MAX, newest.wait_for(is_next)).await;
        next.ok().and_then(Result::ok).and_then(|session| session.clone()).ok_or(VaultError::NoLogin)
    }
}
