//! A log in which something happens when somebody asks where its control topic ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use retrace_eventlog::{Append, ControlWriter, EventLog, MemoryLog, ReadError};
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use retrace_proto::{Event, Id, Subject};

use crate::support::CONTROL;

#[derive(Debug)]
pub(super) struct Asked {
    log: Arc<MemoryLog>,
    what_happens: Happens,
    /// How often somebody has asked, of each topic partition by itself.
    times: AtomicU32,
}

#[derive(Debug)]
pub(super) enum Happens {
    /// There is one record more, each time.
    More(Box<ControlWriter>),
    /// This is written right after the answer, once it was asked so often.
    Written(u32, Bytes),
    /// So many answers are too high: the log loses its end after them.
    Lost(u32),
}

impl Asked {
    pub(super) fn new(log: &Arc<MemoryLog>, what_happens: Happens) -> Arc<Self> {
        Arc::new(Self { log: Arc::clone(log), what_happens, times: AtomicU32::new(0) })
    }
}

#[async_trait]
impl EventLog for Asked {
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }

    fn topic_id(&self, topic: Topic) -> Id {
        self.log.topic_id(topic)
    }

    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        self.log.append(to, key, value)
    }

    async fn read(&self, from: TopicPartition, start: u64, bytes: usize) -> Result<Vec<Record>, ReadError> {
        self.log.read(from, start, bytes).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        if of.topic != Topic::Control {
            return self.log.offsets(of).await;
        }
        if let Happens::More(orders) = &self.what_happens {
            let (_, append) = orders.record(Subject::default(), Event::policy_loaded("v".to_owned()));
            append.await.expect("no fault is set");
        }
        let mut range = self.log.offsets(of).await?;
        let times = self.times.fetch_add(1, Ordering::SeqCst) + 1;
        match &self.what_happens {
            Happens::Written(after, value) if times == *after => {
                let append = self.log.append(CONTROL, Bytes::from_static(b"key"), value.clone());
                append.await.expect("no fault is set");
            }
            Happens::Lost(answers) if times <= *answers => range.end += 3,
            _ => {}
        }
        Ok(range)
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.log.wait_past(of, end_exclusive).await
    }

    fn close(&self) {}

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.log.truncate_below(of, offset).await
    }
}
