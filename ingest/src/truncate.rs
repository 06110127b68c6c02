use std::time::{SystemTime, UNIX_EPOCH};

use retrace_eventlog::ReadError;
use retrace_evidence::CONTROL_LIFETIME_US_MAX;
use retrace_proto::log::{Topic, TopicPartition};

use crate::ingest::Ingest;

/// Bytes of control records looked at in one go. What is left is looked at after the next commit.
const LOOK_BYTES_MAX: usize = 256 * 1024;

/// How much longer than a control record is good for the log keeps it, in microseconds: clocks differ.
const KEPT_LONGER_US: i64 = 24 * 3600 * 1_000_000;

impl Ingest {
    /// Lets the log go of what the table has. Control records stay in the log for as long as they are good for, since every
    /// process that starts reads them there.
    ///
    /// The log keeping more than it must is no failure: the next commit asks again.
    pub(crate) async fn truncate(&self, at: TopicPartition, position: u64) {
        let truncated = match at.topic {
            Topic::Events => self.truncate_below(at, position).await,
            Topic::Control => match self.out_of_date_below(at, position).await {
                Ok(below) => self.truncate_below(at, below).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = truncated {
            tracing::warn!(%at, position, %error, "the log was not truncated, it keeps what the table has");
        }
    }

    async fn truncate_below(&self, at: TopicPartition, offset: u64) -> Result<(), ReadError> {
        if offset == 0 {
            return Ok(());
        }
        self.log.truncate_below(at, offset).await
    }

    /// The offset below which, and below the position, every control record is out of date.
    async fn out_of_date_below(&self, at: TopicPartition, position: u64) -> Result<u64, ReadError> {
        let start = self.log.offsets(at).await?.start;
        let kept_since_us = now_unix_us().saturating_sub(CONTROL_LIFETIME_US_MAX + KEPT_LONGER_US);
        let records = self.log.read(at, start, LOOK_BYTES_MAX).await?;
        let out_of_date = records.iter().take_while(|record| record.appended_at_unix_us < kept_since_us);
        let below = out_of_date.last().map_or(start, |record| record.offset + 1);
        Ok(below.min(position))
    }
}

fn now_unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
