use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use retrace_access::{Authenticated, Directory, Refused};
use retrace_eventlog::{ControlLag, InstanceStream};
use retrace_proto::wire::{LoginRefused, RetentionClass, login_refused::Reason};
use retrace_proto::{Event, Masked, Subject};
use tonic::metadata::MetadataMap;

use crate::QueryError;

/// Refused logins that are recorded one by one within [`WINDOW`]; what comes on top is counted into the next record,
/// so that guessing tokens does not fill the log.
const REFUSALS_RECORDED_MAX: u32 = 20;

const WINDOW: Duration = Duration::from_secs(1);

/// How often it is looked whether someone may still read who is given events without asking.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Who may come in over the network: by bearer token (RFC 6750, section 2.1), or by proving one.
#[derive(Debug)]
pub(crate) struct Door {
    directory: Directory,
    lag: ControlLag,
    instance: Arc<InstanceStream>,
    refusals: Mutex<Refusals>,
}

#[derive(Debug)]
struct Refusals {
    window_began: Instant,
    recorded: u32,
    /// Refused since the last record, without one of their own.
    uncounted: u64,
}

impl Door {
    pub(crate) fn new(directory: Directory, lag: ControlLag, instance: Arc<InstanceStream>) -> Self {
        let refusals = Refusals { window_began: Instant::now(), recorded: 0, uncounted: 0 };
        Self { directory, lag, instance, refusals: Mutex::new(refusals) }
    }

    /// Who sends this request. Whoever is refused is recorded; what they sent is not.
    pub(crate) fn admit(&self, request: &MetadataMap, client: &str) -> Result<Authenticated, QueryError> {
        self.knows_orders()?;
        let admitted = match bearer(request) {
            Some(token) => self.directory.bearer(token),
            None => Err(Refused::Credential),
        };
        admitted.map_err(|refused| {
            self.record(Reason::Credential, client);
            told(refused)
        })
    }

    /// Whether someone who came in before may still read, and with which rights.
    pub(crate) fn still(&self, who: &Authenticated) -> Result<Authenticated, QueryError> {
        self.knows_orders()?;
        self.directory.still(who).map_err(told)
    }

    /// Resolves when someone may read no more, within a second of it, and says why.
    pub(crate) async fn no_longer(&self, who: &Authenticated) -> QueryError {
        loop {
            tokio::time::sleep(LOOK_PERIOD).await;
            if let Err(error) = self.still(who) {
                return error;
            }
        }
    }

    /// While an order may be unknown, so may be that a token is not to be taken any more.
    pub(crate) fn knows_orders(&self) -> Result<(), QueryError> {
        if self.lag.is_current() { Ok(()) } else { Err(QueryError::OrdersUnknown) }
    }

    /// Who may come in, for a client that proves its token without showing it.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Records that a client was not let in.
    pub(crate) fn record(&self, reason: Reason, client: &str) {
        let Some(count) = self.lock().count(Instant::now()) else { return };
        let facts = LoginRefused {
            reason: reason.into(),
            client_address: client.to_owned(),
            count,
            ..LoginRefused::default()
        };
        let about = Subject { retention_class: RetentionClass::Standard, ..Subject::default() };
        // The refusal stands whether or not this becomes durable.
        drop(self.instance.record(about, Event::login_refused(facts, Masked::default())));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusals {
    /// How many refusals the next record stands for; `None` if there is none for now.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.window_began) >= WINDOW {
            self.window_began = now;
            self.recorded = 0;
        }
        self.uncounted += 1;
        if self.recorded == REFUSALS_RECORDED_MAX {
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.uncounted))
    }
}

fn told(refused: Refused) -> QueryError {
    match refused {
        Refused::Credential => QueryError::Unauthenticated,
        Refused::Unavailable => QueryError::TokensUnreadable,
    }
}

/// The scheme's name is compared without case (RFC 9110, section 11.1).
fn bearer(request: &MetadataMap) -> Option<&str> {
    let (scheme, token) = request.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_recorded_a_few_times_a_second() {
        let began = Instant::now();
        let mut refusals = Refusals { window_began: began, recorded: 0, uncounted: 0 };
        let recorded: Vec<u64> = (0..1_000).filter_map(|_| refusals.count(began)).collect();
        assert_eq!(recorded, vec![1; 20]);
        let later = refusals.count(began + WINDOW);
        assert_eq!(later, Some(981), "those without a record of their own are in the next one");
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        let sent = |value: &str| {
            let mut map = MetadataMap::new();
            map.insert("authorization", value.parse().unwrap());
            bearer(&map).map(str::to_owned)
        };
        assert_eq!(sent("Bearer rt_a_b"), Some("rt_a_b".to_owned()));
        assert_eq!(sent("bearer  rt_a_b"), Some("rt_a_b".to_owned()));
        assert_eq!(sent("Basic rt_a_b"), None);
        assert_eq!(sent("rt_a_b"), None);
        assert_eq!(bearer(&MetadataMap::new()), None);
    }
}
