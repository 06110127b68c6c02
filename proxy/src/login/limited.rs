//! Logins that are one too many: of a source or of a user before anybody proves who they are, of a principal after.

use std::num::NonZeroU64;

use retrace_access::{Principal, Refused, ScramError};
use retrace_proto::wire::login_refused::Reason;

use super::Refusal;
use crate::clock;
use crate::gateway::Gateway;
use crate::seats::{Full, Seat};
use crate::source::Source;

/// What PostgreSQL has for connections that are too many.
const TOO_MANY: &str = "53300";

const LATER: &str = "Close sessions that are not needed, or try again later.";

/// Whether a source may log in once more. It is asked before a proof, which others there may be able to give.
pub(super) fn source_may_log_in(gateway: &Gateway, source: Source) -> Result<(), Refusal> {
    let limits = gateway.latest.now().source_limits;
    let now_us = clock::now().monotonic_us;
    if !gateway.attempts.try_log_in(source, limits.logins_per_minute_max, now_us) {
        let message = "retrace: too many log-ins within a minute from where this client is";
        let hint = "Wait a little, and keep connections open instead of making new ones.";
        return Err(Refusal::told(Reason::LoginsPerSource, TOO_MANY, message, hint));
    }
    match gateway.seats.is_full_for(source, limits.sessions_max) {
        true => Err(full_source()),
        false => Ok(()),
    }
}

/// Whether a user may try to prove that it is one. The answer is the same for users that do not exist.
pub(super) fn user_may_try(gateway: &Gateway, user: &str, source: Source) -> Result<(), Refusal> {
    if gateway.attempts.may_try(user, source, failures_max(gateway), clock::now().monotonic_us) {
        return Ok(());
    }
    let message = "retrace: too many failed log-ins of this user within a minute from where this client is";
    let hint = "Wait a little, and use a token that is neither expired nor revoked.";
    Err(Refusal::told(Reason::FailedLogins, TOO_MANY, message, hint))
}

/// Counts a proof that failed, if that is what failed.
pub(super) fn note_failure(gateway: &Gateway, user: &str, source: Source, error: &ScramError) {
    if *error == ScramError::Refused(Refused::Credential) {
        gateway.attempts.has_failed(user, source, failures_max(gateway), clock::now().monotonic_us);
    }
}

fn failures_max(gateway: &Gateway) -> Option<NonZeroU64> {
    gateway.latest.now().source_limits.failed_logins_per_minute_max
}

fn full_source() -> Refusal {
    let message = "retrace: as many sessions as there may be are open from where this client is";
    Refusal::told(Reason::SessionsPerSource, TOO_MANY, message, LATER)
}

/// Takes a place for a session of a principal who has proved who it is.
pub(crate) fn take_seat(gateway: &Gateway, principal: &Principal, source: Source) -> Result<Seat, Refusal> {
    let per_source_max = gateway.latest.now().source_limits.sessions_max;
    gateway.seats.take(principal, source, per_source_max).map_err(|full| match full {
        Full::InAll => {
            let message = "retrace: the gate has as many sessions as it may";
            Refusal::told(Reason::SessionsInAll, TOO_MANY, message, "Try again later.")
        }
        Full::Principal => {
            let message =
                format!("retrace: \"{}\" has as many sessions as it may at this gate", principal.name);
            Refusal::told(Reason::Sessions, TOO_MANY, &message, LATER)
        }
        Full::Source => full_source(),
    })
}
