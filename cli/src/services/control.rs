use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use retrace_access::{Directory, Keys};
use retrace_eventlog::{ControlFollower, ControlLag, ControlOrigin, ControlWriter, EventLog, is_for_cancels};
use retrace_evidence::{ControlReader, NotObeyed, Order, Standing, Written};
use retrace_proto::Envelope;
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::{ControlReference, KeyRole};
use retrace_proxy::Gateway;
use retrace_query::ReviewBook;

use super::run::{Service, Stop};
use crate::{clock, control_keys};

/// How long nothing of the control topic may come in at a start before it counts as unreadable.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How long ago the log took a record of which nobody needs to hear that it is out of date, in microseconds.
const OLD_NEWS_US: i64 = 3600 * 1_000_000;

/// Writes control records in a role: cancels, or everything else.
pub(super) fn writer(
    log: &Arc<dyn EventLog>,
    instance: &str,
    keys: &Keys,
    (role, for_cancels): (KeyRole, bool),
) -> anyhow::Result<Arc<ControlWriter>> {
    let signer = control_keys::signer(keys, role, log.topic_id(Topic::Control))?;
    let sign = Box::new(move |partition, unsigned: &[u8]| signer.sign(partition, unsigned));
    let origin =
        ControlOrigin { instance: instance.to_owned(), clock: clock::now_unix_us, new_id: clock::new_id };
    Ok(Arc::new(ControlWriter::new(Arc::clone(log), origin, for_cancels, sign)))
}

/// What the query service needs of the control topic.
pub(super) fn for_orders(
    log: &Arc<dyn EventLog>,
    instance: &str,
    keys: &Keys,
    (lag, reviews): (ControlLag, ReviewBook),
) -> anyhow::Result<retrace_query::Control> {
    let trusted = control_keys::trusted(keys)?;
    let (topic_id, partitions) = (log.topic_id(Topic::Control), log.partitions(Topic::Control));
    let check = move |at: TopicPartition, record: &Record| {
        let recorded = Envelope::open(record.value.clone()).map_err(|_| NotObeyed::NoOrder)?;
        let mut reader = ControlReader::new(trusted.clone(), topic_id);
        reader.read(&recorded, standing(at, partitions, record)).map(drop)
    };
    let writer = writer(log, instance, keys, (KeyRole::Query, false))?;
    Ok(retrace_query::Control { writer, lag, check: Arc::new(check), reviews })
}

fn standing(at: TopicPartition, partitions: u32, record: &Record) -> Standing {
    Standing {
        partition: at.partition,
        is_for_cancels: is_for_cancels(at.partition, partitions),
        appended_at_unix_us: record.appended_at_unix_us,
        now_unix_us: clock::now_unix_us(),
    }
}

/// Whoever does what control records order.
pub(super) struct Obeying {
    reader: ControlReader,
    partitions: u32,
    directory: Directory,
    gateway: Option<Arc<Gateway>>,
    /// Of the query service.
    reviews: ReviewBook,
}

impl Obeying {
    pub(super) fn new(
        log: &Arc<dyn EventLog>,
        keys: &Keys,
        directory: Directory,
        (gateway, reviews): (Option<Arc<Gateway>>, ReviewBook),
    ) -> anyhow::Result<Self> {
        let reader = ControlReader::new(control_keys::trusted(keys)?, log.topic_id(Topic::Control));
        Ok(Self { reader, partitions: log.partitions(Topic::Control), directory, gateway, reviews })
    }

    /// Reads the control topic from now on; returns once it was read to its end.
    pub(super) async fn start(mut self, follower: ControlFollower) -> anyhow::Result<Service> {
        let lag = follower.lag();
        let stop = Stop::new();
        let following = follower.run(move |at, record| self.obey(at, record), stop.wait());
        let service =
            Service::start("the reading of control records", stop, async move { Ok(following.await?) });
        if !lag.current_unless_stuck(STUCK_AFTER).await {
            bail!(
                "nothing of the control topic could be read for {} s: see the log output for why",
                STUCK_AFTER.as_secs()
            );
        }
        Ok(service)
    }

    fn obey(&mut self, at: TopicPartition, record: &Record) {
        let recorded = match Envelope::open(record.value.clone()) {
            Ok(recorded) => recorded,
            Err(reason) => {
                return tracing::warn!(%at, record.offset, %reason, "a record of the control topic is not understood");
            }
        };
        let standing = standing(at, self.partitions, record);
        let order = match self.reader.read(&recorded, standing) {
            Ok(order) => order,
            Err(NotObeyed::OutOfDate) if standing.now_unix_us - record.appended_at_unix_us > OLD_NEWS_US => {
                return;
            }
            Err(reason) => {
                return tracing::warn!(%at, record.offset, %reason, "a record of the control topic is not obeyed");
            }
        };
        let control = ControlReference {
            topic: at.topic.name().to_owned(),
            partition: at.partition,
            offset: record.offset,
            hash: recorded.hash().as_bytes().to_vec().into(),
        };
        let written = Written::of(&recorded, control, record.appended_at_unix_us);
        self.reviews.read(&order, written.clone());
        match (&self.gateway, order) {
            (Some(gateway), order) => gateway.obey(order, written),
            (None, Order::RevokeToken { token_id }) => self.directory.revoke(&token_id),
            (None, _) => {}
        }
    }
}

/// How far this process reads control records, before it begins to.
pub(super) fn follower(log: &Arc<dyn EventLog>) -> (ControlFollower, ControlLag) {
    let follower = ControlFollower::new(Arc::clone(log));
    let lag = follower.lag();
    (follower, lag)
}
