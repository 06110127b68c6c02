//! `[limits]`, and what a principal has instead. 0 is no limit, and what is not there is as it would be without it.

use std::num::NonZeroU64;

use retrace_access::PrincipalLimits;
use retrace_proxy::SourceLimits;
use toml::Spanned;

use super::form;
use super::place::{ConfigError, Source};

/// What may come from one source.
pub(super) fn of_sources(it: &form::Limits) -> SourceLimits {
    let default = SourceLimits::default();
    SourceLimits {
        sessions_max: given(it.sessions_per_source_max, default.sessions_max),
        logins_waiting_max: given(it.logins_waiting_per_source_max, default.logins_waiting_max),
        logins_per_minute_max: given(it.logins_per_minute_per_source_max, default.logins_per_minute_max),
        failed_logins_per_minute_max: given(
            it.failed_logins_per_minute_max,
            default.failed_logins_per_minute_max,
        ),
    }
}

/// What each principal may use that has no limits of its own.
pub(super) fn of_all(it: &form::Limits, source: &Source<'_>) -> Result<PrincipalLimits, ConfigError> {
    let own = form::PrincipalLimits {
        sessions_max: it.sessions_max,
        commands_per_second_max: it.commands_per_second_max,
        commands_burst_max: it.commands_burst_max.clone(),
        bytes_per_second_max: it.bytes_per_second_max,
    };
    of_one(&own, PrincipalLimits::default(), source)
}

/// What a principal may use by its own limits, where it has them, and else by those of all.
pub(super) fn of_one(
    it: &form::PrincipalLimits,
    of_all: PrincipalLimits,
    source: &Source<'_>,
) -> Result<PrincipalLimits, ConfigError> {
    let commands_per_second_max = given(it.commands_per_second_max, of_all.commands_per_second_max);
    // A burst goes with its pace: who has a pace of its own does not get the burst of another.
    let burst_of_all = of_all.commands_burst_max.filter(|_| it.commands_per_second_max.is_none());
    let burst = it.commands_burst_max.as_ref();
    if let Some(burst) = burst.filter(|burst| *burst.as_ref() > 0)
        && commands_per_second_max.is_none()
    {
        let problem = "says nothing without a pace: set commands_per_second_max too, or leave it out";
        return Err(source.error(burst.span(), problem));
    }
    Ok(PrincipalLimits {
        sessions_max: given(it.sessions_max, of_all.sessions_max),
        commands_per_second_max,
        commands_burst_max: given(burst.map(|burst: &Spanned<u64>| *burst.as_ref()), burst_of_all),
        bytes_per_second_max: given(it.bytes_per_second_max, of_all.bytes_per_second_max),
    })
}

fn given(limit: Option<u64>, default: Option<NonZeroU64>) -> Option<NonZeroU64> {
    limit.map_or(default, NonZeroU64::new)
}
