use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use retrace_access::{Directory, Keys};
use retrace_eventlog::{ControlFollower, ControlLag, ControlWriter, EventLog};
use retrace_evidence::{ControlReader, NotObeyed, Order};
use retrace_proto::Envelope;
use retrace_proto::log::{Record, Topic, TopicPartition};
use retrace_proto::wire::{ControlReference, KeyRole};
use retrace_proxy::Gateway;

use super::run::{Service, Stop};
use crate::{clock, control_keys};

/// How long reading the control topic to its end may take at a start.
const CONTROL_WAIT_MAX: Duration = Duration::from_secs(30);

/// Writes control records in a role.
pub(super) fn writer(
    log: &Arc<dyn EventLog>,
    instance: &str,
    keys: &Keys,
    role: KeyRole,
) -> anyhow::Result<Arc<ControlWriter>> {
    let signer = control_keys::signer(keys, role, log.topic_id(Topic::Control))?;
    let sign = Box::new(move |partition, unsigned: &[u8]| signer.sign(partition, unsigned));
    let (log, instance) = (Arc::clone(log), instance.to_owned());
    Ok(Arc::new(ControlWriter::new(log, instance, clock::now_unix_us, clock::new_id, sign)))
}

/// Whoever does what control records order.
pub(super) struct Obeying {
    reader: ControlReader,
    directory: Directory,
    gateway: Option<Arc<Gateway>>,
}

impl Obeying {
    pub(super) fn new(
        log: &Arc<dyn EventLog>,
        keys: &Keys,
        directory: Directory,
        gateway: Option<Arc<Gateway>>,
    ) -> anyhow::Result<Self> {
        let reader = ControlReader::new(control_keys::trusted(keys)?, log.topic_id(Topic::Control));
        Ok(Self { reader, directory, gateway })
    }

    /// Reads the control topic from now on; returns once it was read to its end.
    pub(super) async fn start(mut self, follower: ControlFollower) -> anyhow::Result<Service> {
        let lag = follower.lag();
        let stop = Stop::new();
        let following = follower.run(move |at, record| self.obey(at, record), stop.wait());
        let service =
            Service::start("the reading of control records", stop, async move { Ok(following.await?) });
        tokio::time::timeout(CONTROL_WAIT_MAX, lag.current()).await.with_context(|| {
            format!(
                "the control topic could not be read to its end within {} s: see the log output for why",
                CONTROL_WAIT_MAX.as_secs()
            )
        })?;
        Ok(service)
    }

    fn obey(&mut self, at: TopicPartition, record: &Record) {
        let Ok(recorded) = Envelope::open(record.value.clone()) else {
            return tracing::warn!(%at, record.offset, "a record of the control topic is no envelope");
        };
        let order = match self.reader.read(at.partition, &recorded, record.appended_at_unix_us) {
            Ok(order) => order,
            Err(NotObeyed::OutOfDate) => return,
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
        match (&self.gateway, order) {
            (Some(gateway), order) => gateway.obey(order, control),
            (None, Order::RevokeToken { token_id }) => self.directory.revoke(&token_id),
            (None, Order::Kill { .. } | Order::Cancel { .. }) => {}
        }
    }
}

/// How far this process reads control records, before it begins to.
pub(super) fn follower(log: &Arc<dyn EventLog>) -> (ControlFollower, ControlLag) {
    let follower = ControlFollower::new(Arc::clone(log));
    let lag = follower.lag();
    (follower, lag)
}
