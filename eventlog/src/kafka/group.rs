use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset};
use retrace_proto::log::{Topic, TopicPartition};
use tokio::sync::watch;

use super::listener::{Listener, is_denied};
use crate::contract::topic_partitions;

/// Processes that may commit to the lake at a time: more of them commit less (they wait for each other's versions).
const WORKERS_MAX: u32 = 4;

/// How often the member looks whether it should leave.
const POLL_WAIT_MAX: Duration = Duration::from_millis(100);

/// This process as a member of the group that divides the work of ingest.
///
/// The members divide the first partitions of the control topic among them, at most [`WORKERS_MAX`]; who has one of these
/// has with it every topic partition, of either topic, whose number leaves the same remainder. So however many join, no
/// more than four have anything. Nothing is consumed through the group and no offset is committed to it.
pub(super) struct Member {
    share: watch::Receiver<Vec<TopicPartition>>,
    is_assigned: Arc<AtomicBool>,
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    pub(super) fn join(
        config: &ClientConfig,
        control_topic: &str,
        partitions: [u32; 2],
    ) -> KafkaResult<Self> {
        let (sender, share) = watch::channel(Vec::new());
        let is_assigned = Arc::new(AtomicBool::new(false));
        let context = Shares {
            listener: Listener::default(),
            partitions,
            sender,
            is_assigned: Arc::clone(&is_assigned),
        };
        let consumer: BaseConsumer<Shares> = BaseConsumer::from_config_and_context(config, context)?;
        consumer.subscribe(&[control_topic])?;
        let leaves = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&leaves);
        let thread = thread::Builder::new()
            .name("ingest-group".to_owned())
            .spawn(move || poll(&consumer, &seen))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { share, is_assigned, leaves, thread: Some(thread) })
    }

    pub(super) fn share(&self) -> watch::Receiver<Vec<TopicPartition>> {
        self.share.clone()
    }

    /// Whether the group has told it what its share is, which may be nothing.
    pub(super) fn is_assigned(&self) -> bool {
        self.is_assigned.load(Ordering::Acquire)
    }
}

/// Leaves the group, so that the others need not wait until it is missed.
impl Drop for Member {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked is a member no more.
            drop(thread.join());
        }
    }
}

fn poll(consumer: &BaseConsumer<Shares>, leaves: &AtomicBool) {
    while !leaves.load(Ordering::Acquire) {
        // What is assigned is paused, so that nothing but changes of the group comes here.
        if let Some(Err(error)) = consumer.poll(POLL_WAIT_MAX) {
            if error.rdkafka_error_code().is_some_and(is_denied) {
                tracing::warn!(%error, "the brokers do not let this process into the group of ingest");
            } else {
                tracing::debug!(%error, "the group of ingest");
            }
        }
    }
}

struct Shares {
    listener: Listener,
    partitions: [u32; 2],
    sender: watch::Sender<Vec<TopicPartition>>,
    is_assigned: Arc<AtomicBool>,
}

impl ClientContext for Shares {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ConsumerContext for Shares {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        assigned: &mut TopicPartitionList,
    ) {
        let done = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let slots: Vec<_> =
                    assigned.elements().iter().filter_map(|it| u32::try_from(it.partition()).ok()).collect();
                let share = share_of(&slots, self.partitions);
                tracing::info!(partitions = share.len(), "a share of the log is this process's to ingest");
                self.sender.send_replace(share);
                self.is_assigned.store(true, Ordering::Release);
                assigned
                    .set_all_offsets(Offset::End)
                    .and_then(|()| consumer.assign(assigned))
                    .and_then(|()| consumer.pause(assigned))
            }
            _ => {
                self.is_assigned.store(false, Ordering::Release);
                self.sender.send_replace(Vec::new());
                consumer.unassign()
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a change of the group of ingest was not taken");
        }
    }
}

/// The topic partitions that come with these partitions of the control topic.
fn share_of(slots: &[u32], partitions: [u32; 2]) -> Vec<TopicPartition> {
    let workers = partitions[Topic::Control as usize].min(WORKERS_MAX);
    let mut share = topic_partitions(|topic| partitions[topic as usize]);
    share.retain(|at| slots.iter().any(|slot| *slot < workers && at.partition % workers == *slot));
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_the_slots_are_divided_each_topic_partition_has_one_owner() {
        for partitions in [[1, 1], [2, 1], [16, 4], [3, 7], [40, 16]] {
            let slots: Vec<u32> = (0..partitions[1]).collect();
            for members in 1..=6 {
                let shares: Vec<Vec<TopicPartition>> = (0..members)
                    .map(|member| {
                        slots.iter().copied().filter(|slot| *slot as usize % members == member).collect()
                    })
                    .map(|slots: Vec<u32>| share_of(&slots, partitions))
                    .collect();
                let mut owned: Vec<_> = shares.iter().flatten().copied().collect();
                owned.sort_unstable();
                let all = share_of(&slots, partitions);
                assert_eq!(owned, all, "{partitions:?} among {members}");
                assert_eq!(all.len() as u32, partitions[0] + partitions[1]);
                assert!(shares.iter().filter(|share| !share.is_empty()).count() <= WORKERS_MAX as usize);
            }
        }
    }
}
