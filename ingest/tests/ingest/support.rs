//! A log in memory, a table in memory, and what is in it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use retrace_eventlog::{Append, EventLog, MemoryLog, ReadError};
use retrace_ingest::{Ingest, Options};
use retrace_lake::faults::FaultyStore;
use retrace_lake::{RowReader, Table};
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use retrace_proto::wire::StreamKind;
use retrace_proto::{Envelope, Event, Id, StreamWriter, Subject};
use tokio::sync::watch;

use crate::simulation::gate::{Gate, Request, Verdict};

pub(crate) const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };
pub(crate) const CONTROL: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

pub(crate) fn options() -> Options {
    Options { age_max: Duration::from_millis(1), rows_max: 7, bytes_max: 1024 * 1024, ..Options::default() }
}

pub(crate) struct Writer {
    log: Arc<MemoryLog>,
    pub(crate) stream: StreamWriter,
}

impl Writer {
    pub(crate) fn new(log: &Arc<MemoryLog>, seed: u8) -> Self {
        let id = Id::from_parts(MemoryLog::STARTS_AT_UNIX_US as u64 / 1000, [seed; 10]);
        Self { log: Arc::clone(log), stream: StreamWriter::new(id, StreamKind::Session) }
    }

    pub(crate) async fn append(&mut self, to: TopicPartition, events: u64) -> Vec<Envelope> {
        let mut sealed = Vec::new();
        for _ in 0..events {
            let event = Event::policy_loaded("v".to_owned());
            let envelope =
                Envelope::seal(&mut self.stream, &Subject::default(), None, 0, event).expect("small");
            append(&self.log, to, &envelope).await;
            sealed.push(envelope);
        }
        sealed
    }
}

pub(crate) async fn append(log: &MemoryLog, to: TopicPartition, envelope: &Envelope) {
    let (key, value) = (envelope.stream_id().to_bytes(), envelope.bytes().clone());
    log.append(to, key, value).await.expect("no fault is set");
}

pub(crate) async fn open(store: &Arc<FaultyStore>) -> Table {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Table::open_or_create_in(store, "memory:///").await.expect("a table")
}

pub(crate) fn store() -> Arc<FaultyStore> {
    FaultyStore::new(Arc::new(InMemory::new()))
}

pub(crate) fn ingest(log: &Arc<MemoryLog>, table: Table) -> Ingest {
    Ingest::new(Arc::clone(log) as Arc<dyn EventLog>, table, options()).expect("the share of a log in memory")
}

/// Every row of the table with its kind, in the order of topic partition and offset.
pub(crate) async fn found(store: &Arc<FaultyStore>) -> Vec<(TopicPartition, Record, String)> {
    let table = open(store).await;
    let mut found = Vec::new();
    for file in table.snapshot().await.expect("readable").files() {
        for batch in table.read(file).await.expect("readable") {
            let reader = RowReader::new(&batch).expect("all columns");
            let kinds = batch.column_by_name("row_kind").expect("a kind").as_string::<i32>();
            for row in 0..batch.num_rows() {
                let (at, record) = reader.record(row).expect("whole");
                found.push((at, record, kinds.value(row).to_owned()));
            }
        }
    }
    found.sort_by_key(|(at, record, _)| (*at, record.offset));
    found
}

/// Asserts that the table has what was appended, in order, each once.
pub(crate) async fn assert_exactly(store: &Arc<FaultyStore>, at: TopicPartition, appended: &[Envelope]) {
    let found = found(store).await;
    let found: Vec<_> = found.into_iter().filter(|(of, ..)| *of == at).collect();
    assert_eq!(found.len(), appended.len(), "{at}");
    for ((offset, envelope), (_, record, kind)) in (0..).zip(appended).zip(&found) {
        assert_eq!((record.offset, &record.value, kind.as_str()), (offset, envelope.bytes(), "event"));
    }
}

/// The kind of each row of a topic partition, whose offsets are dense from 0.
pub(crate) fn kinds(found: &[(TopicPartition, Record, String)], at: TopicPartition) -> Vec<&str> {
    let of: Vec<_> = found.iter().filter(|(of, ..)| *of == at).collect();
    assert!((0..).zip(&of).all(|(offset, (_, record, _))| record.offset == offset), "{at} has a gap");
    of.into_iter().map(|(_, _, kind)| kind.as_str()).collect()
}

/// A log that several workers share, each by a member of its own, as the test divides it.
#[derive(Debug)]
pub(crate) struct Member {
    log: Arc<MemoryLog>,
    share: watch::Receiver<Vec<TopicPartition>>,
    gate: Option<Gate>,
}

impl Member {
    pub(crate) fn join(log: &Arc<MemoryLog>) -> (watch::Sender<Vec<TopicPartition>>, Arc<Self>) {
        let (sender, share) = watch::channel(Vec::new());
        (sender, Arc::new(Self { log: Arc::clone(log), share, gate: None }))
    }

    /// A member whose every request to the log waits at a gate.
    pub(crate) fn join_at(
        log: &Arc<MemoryLog>,
        gate: Gate,
    ) -> (watch::Sender<Vec<TopicPartition>>, Arc<Self>) {
        let (sender, share) = watch::channel(Vec::new());
        (sender, Arc::new(Self { log: Arc::clone(log), share, gate: Some(gate) }))
    }

    async fn pass(&self, request: Request) {
        if let Some(gate) = &self.gate
            && gate.pass(request).await != Verdict::Pass
        {
            self.log.faults().fail_next_reads(1, ReadError::Unavailable);
        }
    }
}

#[async_trait]
impl EventLog for Member {
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
        self.pass(Request::Read).await;
        self.log.read(from, start, bytes).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        self.pass(Request::Offsets).await;
        self.log.offsets(of).await
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.log.wait_past(of, end_exclusive).await
    }

    fn ingest_share(&self) -> Result<watch::Receiver<Vec<TopicPartition>>, ReadError> {
        Ok(self.share.clone())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn close(&self) {}

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.pass(Request::Truncate).await;
        self.log.truncate_below(of, offset).await
    }
}
