use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::registry::Registry;
use retrace_access::{Borrower, CredentialSource, WeakBorrower};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::{Backoff, seed};
use crate::error::VaultError;
use crate::fetch::{CredentialError, fetch, may_fetch};
use crate::holder::Holder;
use crate::keeper::Keeper;
use crate::kept::Kept;
use crate::login::{Door, LoginError};
use crate::metrics::CallMetrics;
use crate::reference::{Lending, Reference};
use crate::session::Logins;
use crate::settings::Settings;
use crate::told::Told;

/// How long a stop may take: what is under way is waited for, then everything is given back.
const STOP_WAIT_MAX: Duration = Duration::from_secs(15);

/// A secret store, and what the gate keeps from it. Clones are of one.
///
/// Its tasks run where [`Vault::source`] is called, which must be a runtime that outlives everybody who borrows.
#[derive(Clone, Debug)]
pub struct Vault {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    calls: CallMetrics,
    /// Once somebody has needed it.
    entered: OnceCell<Entered>,
    slots: Mutex<HashMap<Reference, Arc<Slot>>>,
    kept: Mutex<Vec<Weak<Kept>>>,
    stop: watch::Sender<bool>,
}

/// What there is once the gate has logged in.
#[derive(Debug)]
struct Entered {
    logins: Logins,
    /// Held by every keeper, and until the stop by this.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    holder: Mutex<Option<JoinHandle<()>>>,
}

/// The way to the keeper of a reference. Locked while the first credential is fetched.
type Slot = tokio::sync::Mutex<Option<WeakBorrower>>;

impl Vault {
    /// A secret store that nobody has asked anything yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                calls: CallMetrics::new(),
                entered: OnceCell::new(),
                slots: Mutex::default(),
                kept: Mutex::default(),
                stop: watch::Sender::new(false),
            }),
        }
    }

    /// The way to a credential that is there. The same reference has one keeper for as long as somebody has the way to it,
    /// so that whoever reads the configuration again asks the store for nothing.
    ///
    /// # Errors
    /// It cannot be had: for a reason that only a change can mend, or not within `wait_max`.
    pub async fn source(
        &self,
        reference: &Reference,
        wait_max: Duration,
    ) -> Result<CredentialSource, CredentialError> {
        let deadline = Instant::now() + wait_max;
        let slot = {
            let mut slots = locked(&self.shared.slots);
            slots.entry(reference.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(borrower) = slot.as_ref().and_then(WeakBorrower::upgrade) {
            return Ok(CredentialSource::store(borrower));
        }
        let mut backoff = Backoff::new(seed());
        loop {
            match self.keep(reference).await {
                Ok(borrower) => {
                    *slot = Some(borrower.downgrade());
                    return Ok(CredentialSource::store(borrower));
                }
                Err(error) => {
                    let again_at = Instant::now() + backoff.next(error.wait());
                    if !error.passes() || again_at > deadline {
                        return Err(error);
                    }
                    tracing::warn!(credential = %reference, %error, "Vault is asked again");
                    sleep(again_at - Instant::now()).await;
                }
            }
        }
    }

    /// Gives everything back. Nothing is lent any more.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        let Some(entered) = self.shared.entered.get() else { return };
        drop(locked(&entered.alive).take());
        let holder = locked(&entered.holder).take();
        if let Some(holder) = holder
            && timeout(STOP_WAIT_MAX, holder).await.is_err()
        {
            tracing::warn!("not everything was given back to Vault in time: it ends by itself");
        }
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.calls.register(registry);
        registry.register_collector(Box::new(Told(Arc::downgrade(&self.shared))));
    }

    async fn keep(&self, reference: &Reference) -> Result<Borrower, CredentialError> {
        let entered = self.shared.entered.get_or_try_init(|| self.log_in()).await?;
        let alive = locked(&entered.alive).clone().ok_or(CredentialError::Vault(VaultError::NoLogin))?;
        let first = match reference {
            // Nothing is made before somebody has it.
            Reference::Database { lending: Lending::Session, .. } => {
                may_fetch(&entered.logins, reference).await?;
                None
            }
            _ => Some(fetch(&entered.logins, reference).await?),
        };
        let (borrower, asked) = Borrower::new();
        let kept = Arc::new(Kept::new(reference));
        {
            let mut all = locked(&self.shared.kept);
            all.retain(|kept| kept.strong_count() > 0);
            all.push(Arc::downgrade(&kept));
        }
        let keeper = Keeper {
            reference: Arc::new(reference.clone()),
            logins: entered.logins.clone(),
            asked,
            stop: self.shared.stop.subscribe(),
            kept,
            alive,
        };
        tokio::spawn(keeper.run(first));
        Ok(borrower)
    }

    async fn log_in(&self) -> Result<Entered, LoginError> {
        let door = Door::new(self.shared.settings.clone(), self.shared.calls.clone())?;
        let (holder, logins) = Holder::log_in(door).await?;
        let (alive, users) = mpsc::channel(1);
        let mut stop = self.shared.stop.subscribe();
        let stopped = async move {
            // An error means that nobody is left who could say so: stop as well.
            let _ = stop.wait_for(|stops| *stops).await;
        };
        let holder = tokio::spawn(holder.run(stopped, users));
        Ok(Entered { logins, alive: Mutex::new(Some(alive)), holder: Mutex::new(Some(holder)) })
    }
}

impl Shared {
    /// When the gate's token ends, if it does.
    pub(crate) fn token_ends_at(&self) -> Option<Instant> {
        let newest = self.entered.get()?.logins.newest.borrow().clone();
        newest?.ends_at()
    }

    /// What is kept.
    pub(crate) fn kept(&self) -> Vec<Arc<Kept>> {
        locked(&self.kept).iter().filter_map(Weak::upgrade).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
