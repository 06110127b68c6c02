use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use retrace_eventlog::{ControlFollower, ControlOrigin, ControlWriter, EventLog, MemoryLog};
use retrace_evidence::{ControlKeys, ControlSigner, SigningKey};
use retrace_proto::log::Topic;
use retrace_proto::{Id, wire};
use retrace_query::{Control, ReviewBook};

use super::NOW_UNIX_US;

/// The key of the query services of all worlds.
fn control_key() -> SigningKey {
    SigningKey::from_seed(&[9; 32]).unwrap()
}

/// Whose orders are believed.
pub(crate) fn control_keys() -> ControlKeys {
    ControlKeys { query: [control_key().public()].into_iter().collect(), ..ControlKeys::default() }
}

/// A control topic that is read to its end.
pub(super) async fn control(log: &Arc<MemoryLog>) -> Control {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let new_id = || {
        let mut random = [0xcc; 10];
        random[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Id::from_parts(NOW_UNIX_US as u64 / 1000, random)
    };
    let signer = ControlSigner::new(control_key(), wire::KeyRole::Query, log.topic_id(Topic::Control));
    let sign = move |partition, unsigned: &[u8]| signer.sign(partition, unsigned);
    let log: Arc<dyn EventLog> = log.clone();
    let origin = ControlOrigin { instance: "test".into(), clock: || NOW_UNIX_US, new_id };
    let follower = ControlFollower::new(Arc::clone(&log));
    let lag = follower.lag();
    tokio::spawn(follower.run(|_, _| {}, std::future::pending()));
    lag.clone().current().await;
    let writer = Arc::new(ControlWriter::new(log, origin, false, Box::new(sign)));
    Control { writer, lag, check: Arc::new(|_, _| Ok(())), reviews: ReviewBook::default() }
}
