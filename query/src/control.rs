//! Orders to the gateway, from those who may give them. Each becomes a signed record of the control topic, which every
//! process reads; nothing is sent to any process.

use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Authenticated, Directory, KillRight};
use retrace_eventlog::{EventLog, VALUE_BYTES_MAX};
use retrace_lake::Table;
use retrace_policy::mask::Masker;
use retrace_proto::log::TopicPartition;
use retrace_proto::{Event, Id, Masked, Subject};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::QueryError;
use crate::holds::OnRecord;
use crate::service::Control;

/// Longest reason of an order, in bytes.
pub const ORDER_REASON_BYTES_MAX: usize = 1024;

/// How long the log may take to make an order durable, and then to give it back.
pub(crate) const RECORD_WAIT_MAX: Duration = Duration::from_secs(10);

/// Where a control record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The partition of the control topic.
    pub at: TopicPartition,
    /// Its offset there.
    pub offset: u64,
}

/// Gives orders.
#[derive(Debug)]
pub(crate) struct Commander {
    pub(crate) control: Control,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) table: Table,
    pub(crate) directory: Directory,
    pub(crate) masker: Masker,
    pub(crate) on_record: Arc<OnRecord>,
    /// How long it may take to find out which holds are on record, in milliseconds.
    pub(crate) query_ms_max: u64,
    /// The wall clock, in microseconds since the Unix epoch.
    pub(crate) clock: fn() -> i64,
    /// For holds, each of which waits for the table.
    pub(crate) holds: Arc<Semaphore>,
}

impl Commander {
    /// Ends a session, if the caller may: with the right to its own alone the order says so, and whoever has the session
    /// looks at whose it is.
    pub(crate) async fn kill(
        &self,
        caller: &Authenticated,
        session: Id,
        reason: &str,
    ) -> Result<Ordered, QueryError> {
        let only_principal = match right(caller)? {
            Right::All => None,
            Right::Own => Some(caller.principal.name.clone()),
        };
        let event = Event::kill_requested(only_principal, self.reason(reason)?);
        self.order(Subject { session_id: Some(session), ..about(caller) }, event).await
    }

    /// Revokes a token, if the caller may.
    pub(crate) async fn revoke_token(
        &self,
        caller: &Authenticated,
        token_id: &str,
        reason: &str,
    ) -> Result<Ordered, QueryError> {
        let right = right(caller)?;
        let principal = self.directory.principal_of(token_id).map_err(|_| QueryError::TokensUnreadable)?;
        // Whoever has but the right to their own learns nothing of others' tokens.
        let is_theirs = principal.as_ref().is_some_and(|name| *name == caller.principal.name);
        if principal.is_none() || (right == Right::Own && !is_theirs) {
            return Err(QueryError::NoSuchToken);
        }
        let event = Event::token_revoked(token_id.to_owned(), self.reason(reason)?);
        self.order(about(caller), event).await
    }

    /// A reason is free text, in which anything may stand.
    pub(crate) fn reason(&self, reason: &str) -> Result<Masked<String>, QueryError> {
        if reason.len() > ORDER_REASON_BYTES_MAX {
            let (bytes, bytes_max) = (reason.len(), ORDER_REASON_BYTES_MAX);
            return Err(QueryError::ReasonTooLong { bytes, bytes_max });
        }
        Ok(self.masker.mask_string(reason))
    }

    pub(crate) async fn order(&self, about: Subject, event: Event) -> Result<Ordered, QueryError> {
        let recorded = self.control.writer.record_within(RECORD_WAIT_MAX, about, event).await;
        self.obeyed(recorded.map_err(QueryError::NotOrdered)?).await
    }

    /// The same where all records of one review stand in one order.
    pub(crate) async fn order_of(
        &self,
        review: Id,
        about: Subject,
        event: Event,
    ) -> Result<Ordered, QueryError> {
        let recorded = self.control.writer.record_of_within(RECORD_WAIT_MAX, review, about, event).await;
        self.obeyed(recorded.map_err(QueryError::NotOrdered)?).await
    }

    async fn obeyed(&self, (at, offset): (TopicPartition, u64)) -> Result<Ordered, QueryError> {
        // Read as everybody reads it: whoever gave the order is not to believe in one that nobody obeys.
        let records = timeout(RECORD_WAIT_MAX, self.log.read(at, offset, VALUE_BYTES_MAX)).await;
        let records = records.map_err(|_elapsed| QueryError::NotSeen { wait_max: RECORD_WAIT_MAX })??;
        let record = records.first().ok_or(QueryError::Internal)?;
        (self.control.check)(at, record).map_err(QueryError::NotObeyed)?;
        Ok(Ordered { at, offset })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Own,
    All,
}

fn right(caller: &Authenticated) -> Result<Right, QueryError> {
    match caller.principal.kill {
        KillRight::All => Ok(Right::All),
        KillRight::Own => Ok(Right::Own),
        KillRight::None => Err(QueryError::KillDenied { principal: caller.principal.name.clone() }),
    }
}

pub(crate) fn about(caller: &Authenticated) -> Subject {
    Subject { principal: Some(caller.to_wire()), ..Subject::default() }
}
