use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Hears what the library says about its connections, which is more than its calls' errors say.
#[derive(Debug, Default)]
pub(super) struct Listener {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Listener {
    /// The last trouble, for a sentence to the user.
    pub(super) fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether the brokers refuse it for want of a right, which no waiting mends.
pub(super) fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        if let Some(code) = error.rdkafka_error_code() {
            // That all brokers are down follows from what was said of each.
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_none() || code != RDKafkaErrorCode::AllBrokersDown {
                *last = Some((code, reason.to_owned()));
            }
        }
    }
}

impl ConsumerContext for Listener {}
