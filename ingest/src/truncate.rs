use std::time::{SystemTime, UNIX_EPOCH};

use retrace_eventlog::{ReadError, is_for_cancels};
use retrace_evidence::CONTROL_LIFETIME_US_MAX;
use retrace_proto::log::{Topic, TopicPartition};

use crate::ingest::Ingest;

/// Bytes of control records looked at in one go. What is left is looked at after the next commit.
const LOOK_BYTES_MAX: usize = 256 * 1024;

/// How much longer than a control record is good for the log keeps it, in microseconds: clocks differ.
const KEPT_LONGER_US: i64 = 24 * 3600 * 1_000_000;

impl Ingest {
    /// Lets the log go of what the table has. Control records stay in the log for as long as they are good for, since every
    /// process that starts reads them there; but for cancels, which are good for a moment.
    ///
    /// The log keeping more than it must is no failure: the next commit asks again.
    pub(crate) async fn truncate(&self, at: TopicPartition, position: u64) {
        let truncated = match at.topic {
            Topic::Control if position > 0 && !self.is_for_cancels(at) => {
                match self.out_of_date_below(at, position).await {
                    Ok(below) => self.truncate_below(at, below).await,
                    Err(error) => Err(error),
                }
            }
            Topic::Events | Topic::Control => self.truncate_below(at, position).await,
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

    fn is_for_cancels(&self, at: TopicPartition) -> bool {
        is_for_cancels(at.partition, self.log.partitions(at.topic)) == Some(true)
    }

    /// The offset below which, and below the position, every control record is out of date: by this machine's clock, and by
    /// the log's, of which the newest record knows. A clock that is wrong deletes no order.
    async fn out_of_date_below(&self, at: TopicPartition, position: u64) -> Result<u64, ReadError> {
        let start = self.log.offsets(at).await?.start;
        let newest = self.log.read(at, position - 1, 1).await?;
        let log_unix_us = newest.first().map_or(0, |record| record.appended_at_unix_us);
        let now_unix_us = now_unix_us().min(log_unix_us);
        let kept_since_us = now_unix_us.saturating_sub(CONTROL_LIFETIME_US_MAX + KEPT_LONGER_US);
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
