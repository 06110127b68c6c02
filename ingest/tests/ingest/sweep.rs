//! What a worker that died left is swept beside the work of the others.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_ingest::{Ingest, Options};
use retrace_lake::faults::{Fault, FaultyStore, Step};
use retrace_proto::log::TopicPartition;

use crate::support::{CONTROL, EVENTS, Member, Writer, assert_exactly, ingest, open, options, store};

async fn data_files(store: &Arc<FaultyStore>) -> usize {
    let all: Vec<_> = store.list(None).try_collect().await.expect("listed");
    let is_data = |path: &str| path.starts_with("session_date=") && path.ends_with(".parquet");
    all.iter().filter(|file| is_data(file.location.as_ref())).count()
}

/// Runs a worker with a share until the table has everything and `ended` says so.
async fn run_until(
    log: &Arc<MemoryLog>,
    store: &Arc<FaultyStore>,
    share: &[TopicPartition],
    ended: impl AsyncFn() -> bool,
) {
    let (sender, member) = Member::join(log);
    sender.send_replace(share.to_vec());
    let bounds = Options { orphan_age_min: Duration::ZERO, ..options() };
    let running = Ingest::new(member as Arc<dyn EventLog>, open(store).await, bounds).expect("a member");
    let mut status = running.status();
    let done = async {
        let all_in =
            |status: &retrace_ingest::Status| !status.partitions.is_empty() && status.lag_records() == 0;
        status.wait_for(all_in).await.expect("ingest runs");
        let patience = std::time::Instant::now();
        while !ended().await {
            assert!(patience.elapsed() < Duration::from_secs(60), "it never ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    running.run(done).await.expect("nothing to stop for");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_swept_by_the_worker_that_has_the_first_control_partition() {
    let (log, store) = (Arc::new(MemoryLog::new()), store());
    let mut writer = Writer::new(&log, 1);
    let appended = writer.append(EVENTS, 7).await;
    store.arm(Step::DataFile, Fault::FailedButPersisted);
    ingest(&log, open(&store).await).step().await.expect_err("it dies with its file written");
    assert_eq!(data_files(&store).await, 1, "an orphan");
    let began = std::time::Instant::now();
    // Long enough for a sweep, if it were this worker's.
    run_until(&log, &store, &[EVENTS], async || began.elapsed() > Duration::from_millis(200)).await;
    assert_eq!(data_files(&store).await, 2, "not this worker's to sweep");
    run_until(&log, &store, &[CONTROL], async || data_files(&store).await == 1).await;
    assert_exactly(&store, EVENTS, &appended).await;
}
