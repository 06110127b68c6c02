use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use retrace_eventlog::{ReadError, may_have_orders};
use retrace_evidence::CONTROL_LIFETIME_US_MAX;
use retrace_proto::log::{Topic, TopicPartition};

use crate::ingest::Ingest;

/// Bytes of control records looked at in one go. What is left is looked at after the next commit.
const LOOK_BYTES_MAX: usize = 256 * 1024;

/// Topic partitions looked at in one go.
const LOOKS_AT_ONCE_MAX: usize = 4;

/// How much longer than a control record is good for the log keeps it, in microseconds: clocks differ.
const KEPT_LONGER_US: i64 = 24 * 3600 * 1_000_000;

impl Ingest {
    /// Lets the log go of what the table has. Control records stay in the log for as long as they are good for, since every
    /// process that starts reads them there; but for cancels, which are good for a moment.
    ///
    /// The log keeping more than it must is no failure: each topic partition's next commit asks again.
    pub(crate) async fn truncate(&mut self) {
        let due = std::mem::take(&mut self.to_truncate);
        let positions = due.iter().filter_map(|at| Some((*at, *self.positions.get(at)?)));
        let control_partitions = self.log.partitions(Topic::Control);
        let (orders, mut below): (Vec<_>, Vec<_>) = positions
            .filter(|(_, position)| *position > 0)
            .partition(|(at, _)| may_have_orders(*at, control_partitions));
        let mut outcome = Ok(());
        for some in orders.chunks(LOOKS_AT_ONCE_MAX) {
            let looks = some.iter().map(|(at, position)| self.out_of_date_below(*at, *position));
            for ((at, _), found) in some.iter().zip(join_all(looks).await) {
                match found {
                    Ok(found) => below.extend(found.map(|offset| (*at, offset))),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
        }
        outcome = outcome.and(self.log.truncate_each_below(&below).await);
        if let Err(error) = outcome {
            tracing::warn!(%error, "the log was not truncated everywhere, it keeps what the table has");
        }
    }

    /// The offset below which, and below the position, every control record is out of date, if there is one: by this machine's
    /// clock, and by the log's, of which the newest record knows. A clock that is wrong deletes no order.
    async fn out_of_date_below(&self, at: TopicPartition, position: u64) -> Result<Option<u64>, ReadError> {
        let start = self.log.offsets(at).await?.start;
        let newest = self.log.read(at, position - 1, 1).await?;
        let log_unix_us = newest.first().map_or(0, |record| record.appended_at_unix_us);
        let now_unix_us = now_unix_us().min(log_unix_us);
        let kept_since_us = now_unix_us.saturating_sub(CONTROL_LIFETIME_US_MAX + KEPT_LONGER_US);
        let records = self.log.read(at, start, LOOK_BYTES_MAX).await?;
        let out_of_date = records.iter().take_while(|record| record.appended_at_unix_us < kept_since_us);
        Ok(out_of_date.last().map(|record| position.min(record.offset + 1)))
    }
}

fn now_unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
