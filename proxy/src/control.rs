//! What control records order, done; and the one kind of them that a proxy writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use retrace_eventlog::{ControlLag, ControlWriter};
use retrace_evidence::{Order, Written};
use retrace_proto::wire::Protocol;
use retrace_proto::{Event, Id, Subject};
use retrace_proxy_core::postgres::CancelKey;

use crate::gateway::Gateway;
use crate::registry::Asked;

/// How long after one cancel request another one with the same key is not passed on: it would say the same.
const SAME_CANCEL_AFTER: Duration = Duration::from_secs(1);

/// Cancel requests passed on to other proxies within [`SAME_CANCEL_AFTER`], at most.
const CANCELS_PASSED_MAX: usize = 256;

/// How long a request waits for its record before its connection is closed.
const RECORD_WAIT_MAX: Duration = Duration::from_secs(2);

/// A gateway's part of the control topic.
#[derive(Debug)]
pub struct Control {
    /// Writes cancels, signed as a proxy.
    pub writer: Arc<ControlWriter>,
    /// Writes what belongs to reviews, signed as a proxy.
    pub reviews: Arc<ControlWriter>,
    /// How far this process has read it. While it lags, no session is told that its records are durable.
    pub lag: ControlLag,
}

/// The cancel requests passed on of late, by process id.
#[derive(Debug, Default)]
pub(crate) struct CancelsPassed(Mutex<HashMap<u32, Instant>>);

impl CancelsPassed {
    /// Whether a request is to be passed on now. It counts as passed on then.
    fn is_due(&self, process_id: u32, now: Instant) -> bool {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.retain(|_, at| now.duration_since(*at) < SAME_CANCEL_AFTER);
        let is_due = passed.len() < CANCELS_PASSED_MAX && !passed.contains_key(&process_id);
        if is_due {
            passed.insert(process_id, now);
        }
        is_due
    }
}

impl Gateway {
    /// Does what a control record orders, as far as it concerns this process.
    pub fn obey(&self, order: Order, written: Written) {
        let control = written.control.clone();
        match order {
            Order::Kill { session_id, only_principal } => {
                self.registry.kill(session_id, only_principal.as_deref(), &control);
            }
            Order::RevokeToken { token_id } => {
                self.directory.revoke(&token_id);
                self.registry.kill_of_token(&token_id, &control);
            }
            Order::Cancel { process_id, connection_id } => {
                self.registry.cancel(process_id, connection_id, control);
            }
            Order::RequestReview(_)
            | Order::DecideReview(_)
            | Order::WithdrawReview { .. }
            | Order::UseGrant { .. } => self.reviews.read(&order, written),
            Order::SetHold { .. } | Order::LiftHold { .. } => {}
        }
    }

    /// Deals with a cancel request: its session is told, or whichever proxy has it.
    pub(crate) async fn cancel(&self, key: &CancelKey) {
        if let Asked::Elsewhere { process_id, connection_id } = self.registry.ask_cancel(key)
            && self.log.is_shared()
            && self.cancels_passed.is_due(process_id, Instant::now())
        {
            self.pass_cancel_on(process_id, connection_id).await;
        }
    }

    async fn pass_cancel_on(&self, process_id: u32, connection_id: Option<Id>) {
        let about = Subject { protocol: Protocol::Postgres, ..Subject::default() };
        let event = Event::cancel_requested(process_id, connection_id);
        if let Err(error) = self.control.writer.record_within(RECORD_WAIT_MAX, about, event).await {
            tracing::error!(%error, "a cancel request for another proxy could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_request_is_passed_on_once_a_second_and_so_are_not_too_many() {
        let passed = CancelsPassed::default();
        let now = Instant::now();
        assert!(passed.is_due(1, now));
        assert!(!passed.is_due(1, now + SAME_CANCEL_AFTER / 2));
        assert!(passed.is_due(1, now + SAME_CANCEL_AFTER));
        let later = now + 3 * SAME_CANCEL_AFTER;
        let count = (0..1000).filter(|process_id| passed.is_due(*process_id, later)).count();
        assert_eq!(count, CANCELS_PASSED_MAX);
        assert!(passed.is_due(5, later + SAME_CANCEL_AFTER));
    }
}
