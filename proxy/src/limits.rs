//! What nobody may have too much of, where the configuration says so. A gate counts by itself: a principal that comes to
//! two has what it may at each.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use retrace_access::{Directory, PrincipalLimits};
use retrace_proto::wire::login_refused::Reason;
use retrace_proxy_core::postgres::Slowed;
use retrace_proxy_core::{Buckets, Pace};

/// What may come from one source: an address of IPv4, or a network (/64) of IPv6. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Sessions at once.
    pub sessions_max: Option<NonZeroU64>,
    /// Connections at once that are not logged in yet. A further one takes the place of the source's own that has waited
    /// longest.
    pub logins_waiting_max: Option<NonZeroU64>,
    /// Log-ins within a minute.
    pub logins_per_minute_max: Option<NonZeroU64>,
    /// Log-ins of one user within a minute that failed. Then none of this user is tried.
    pub failed_logins_per_minute_max: Option<NonZeroU64>,
}

impl SourceLimits {
    /// Connections of one source that are not logged in yet, if the configuration does not say: half of what a gate takes.
    pub const LOGINS_WAITING_MAX_DEFAULT: u64 = 256;
    /// Failed log-ins of one user from one source within a minute, if the configuration does not say.
    pub const FAILED_LOGINS_PER_MINUTE_MAX_DEFAULT: u64 = 600;
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            sessions_max: None,
            logins_waiting_max: NonZeroU64::new(Self::LOGINS_WAITING_MAX_DEFAULT),
            logins_per_minute_max: None,
            failed_logins_per_minute_max: NonZeroU64::new(Self::FAILED_LOGINS_PER_MINUTE_MAX_DEFAULT),
        }
    }
}

/// A limit that somebody has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    SessionsInAll,
    Sessions,
    SessionsPerSource,
    LoginsWaitingPerSource,
    LoginsPerMinutePerSource,
    FailedLoginsPerMinute,
    CommandsPerSecond,
    BytesPerSecond,
}

impl Limit {
    pub(crate) const ALL: [Self; 8] = [
        Self::SessionsInAll,
        Self::Sessions,
        Self::SessionsPerSource,
        Self::LoginsWaitingPerSource,
        Self::LoginsPerMinutePerSource,
        Self::FailedLoginsPerMinute,
        Self::CommandsPerSecond,
        Self::BytesPerSecond,
    ];

    /// The name that the configuration has for it, where it can be set.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SessionsInAll => "sessions_in_all_max",
            Self::Sessions => "sessions_max",
            Self::SessionsPerSource => "sessions_per_source_max",
            Self::LoginsWaitingPerSource => "logins_waiting_per_source_max",
            Self::LoginsPerMinutePerSource => "logins_per_minute_per_source_max",
            Self::FailedLoginsPerMinute => "failed_logins_per_minute_max",
            Self::CommandsPerSecond => "commands_per_second_max",
            Self::BytesPerSecond => "bytes_per_second_max",
        }
    }

    /// The limit over which a login was refused, if it was over one.
    pub(crate) fn of_refusal(reason: Reason) -> Option<Self> {
        match reason {
            Reason::SessionsInAll => Some(Self::SessionsInAll),
            Reason::Sessions => Some(Self::Sessions),
            Reason::SessionsPerSource => Some(Self::SessionsPerSource),
            Reason::LoginsPerSource => Some(Self::LoginsPerMinutePerSource),
            Reason::FailedLogins => Some(Self::FailedLoginsPerMinute),
            _ => None,
        }
    }
}

impl From<Slowed> for Limit {
    fn from(slowed: Slowed) -> Self {
        match slowed {
            Slowed::ByCommands => Self::CommandsPerSecond,
            Slowed::ByBytes => Self::BytesPerSecond,
        }
    }
}

/// The buckets of each principal that had a session here.
#[derive(Debug, Default)]
pub(crate) struct AllBuckets(Mutex<HashMap<String, Arc<Buckets>>>);

impl AllBuckets {
    /// Those of one principal, by the configuration as it is now.
    pub(crate) fn of(&self, principal: &str, directory: &Directory, now_us: u64) -> Arc<Buckets> {
        let mut all = self.lock();
        if let Some(buckets) = all.get(principal) {
            return buckets.clone();
        }
        let buckets = Arc::<Buckets>::default();
        // The directory is asked behind the lock, so that no reload passes by unseen.
        if let Some(known) = directory.principal(principal) {
            buckets.set(now_us, pace(&known.limits));
        }
        all.insert(principal.to_owned(), buckets.clone());
        buckets
    }

    /// Takes over the configuration that the directory has since now.
    pub(crate) fn adopt(&self, directory: &Directory, now_us: u64) {
        self.lock().retain(|name, buckets| match directory.principal(name) {
            Some(known) => {
                buckets.set(now_us, pace(&known.limits));
                true
            }
            // Its last sessions go on as they began.
            None => Arc::strong_count(buckets) > 1,
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Buckets>>> {
        // A map of shared values is whole whatever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pace(limits: &PrincipalLimits) -> Pace {
    Pace {
        commands_per_second_max: limits.commands_per_second_max,
        commands_burst_max: limits.commands_burst_max,
        bytes_per_second_max: limits.bytes_per_second_max,
    }
}

#[cfg(test)]
mod tests {
    use retrace_access::{Principal, Principals, Secret, TokenFile};

    use super::*;
    use crate::testing::principal;

    fn ann(commands_per_second_max: u64) -> Principal {
        let commands_per_second_max = NonZeroU64::new(commands_per_second_max);
        Principal {
            limits: PrincipalLimits { commands_per_second_max, ..PrincipalLimits::default() },
            ..principal("ann")
        }
    }

    #[test]
    fn buckets_go_by_the_configuration_that_is_there_and_those_that_nobody_has_are_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = TokenFile::init(&dir.path().join("tokens.toml")).unwrap();
        let directory = Directory::new(vec![ann(1)], tokens, Secret::new(vec![1; 32])).unwrap();
        let all = AllBuckets::default();
        let reload = |principals| {
            directory.replace(Principals::new(principals).unwrap());
            all.adopt(&directory, 0);
        };
        let of_ann = all.of("ann", &directory, 0);
        assert!(of_ann.commands.take(0, 1).is_some());
        assert!(Arc::ptr_eq(&of_ann, &all.of("ann", &directory, 0)), "all of its sessions share them");
        assert_eq!(all.of("retrace", &directory, 0).commands.take(0, 1), None, "the gate's own has no limit");

        let turn = of_ann.commands.take(0, 100).unwrap();
        reload(vec![ann(50)]);
        assert_eq!(of_ann.commands.wait_us(0, turn), 2_000_000, "who waits waits by the new pace");
        reload(vec![ann(0)]);
        assert_eq!(of_ann.commands.take(0, 1), None);

        reload(vec![principal("bob")]);
        assert_eq!(all.lock().len(), 1, "a session goes on with them");
        drop(of_ann);
        reload(Vec::new());
        assert_eq!(all.lock().len(), 0);
    }
}
