use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use retrace_access::Authenticated;
use retrace_eventlog::InstanceStream;
use retrace_proto::wire::evidence_read::Kind;
use retrace_proto::wire::evidence_read_completed::Status;
use retrace_proto::wire::{EvidenceRead, EvidenceReadCompleted, RetentionClass};
use retrace_proto::{Event, Id, Masked, Subject};
use tokio::time::timeout_at;

use crate::metrics::QueryMetrics;
use crate::{Cut, QueryError};

/// What is about to be read.
pub(crate) struct Reading<'a> {
    pub(crate) kind: Kind,
    pub(crate) statement: Masked<String>,
    pub(crate) cut: &'a Cut,
    /// `own`, `all` or `none`.
    pub(crate) right: &'static str,
    /// Where it is counted.
    pub(crate) counted: Counted,
}

/// Where a read is counted, and by which door it came.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) metrics: QueryMetrics,
    pub(crate) door: &'static str,
}

/// The record of one read: begun before its first row leaves, ended when it ends.
///
/// Whatever becomes of the read, its end is recorded once: by [`ReadRecord::end`], or when this is dropped, since then
/// the reader went away.
#[derive(Debug)]
pub(crate) struct ReadRecord {
    instance: Arc<InstanceStream>,
    about: Subject,
    read_id: Bytes,
    began: Instant,
    rows: u64,
    is_ended: bool,
    counted: Counted,
}

impl ReadRecord {
    /// Writes that the read begins and waits until that is durable, at most until `deadline`.
    ///
    /// # Errors
    /// If it did not become durable. Then the read must not happen.
    pub(crate) async fn begin(
        instance: &Arc<InstanceStream>,
        caller: &Authenticated,
        reading: Reading<'_>,
        deadline: Instant,
    ) -> Result<Self, QueryError> {
        let about = Subject {
            principal: Some(caller.to_wire()),
            retention_class: RetentionClass::Standard,
            ..Subject::default()
        };
        let read_id = new_id().to_bytes();
        let facts = EvidenceRead {
            read_id: read_id.clone(),
            kind: reading.kind.into(),
            statement: String::new(),
            cut: reading.cut.to_event(),
            evidence_right: reading.right.to_owned(),
        };
        let append = instance.record(about.clone(), Event::evidence_read(facts, reading.statement));
        // From here on the end will be recorded, also if the caller goes away while this waits.
        let mut record = Self {
            instance: Arc::clone(instance),
            about,
            read_id,
            began: Instant::now(),
            rows: 0,
            is_ended: false,
            counted: reading.counted,
        };
        match timeout_at(deadline.into(), append).await {
            Ok(Ok(_offset)) => Ok(record),
            Ok(Err(error)) => {
                record.is_ended = true;
                Err(QueryError::NotRecorded(error))
            }
            Err(_elapsed) => {
                record.end(Status::Error);
                Err(QueryError::RecordTooSlow)
            }
        }
    }

    /// Counts rows that leave.
    pub(crate) fn count(&mut self, rows: usize) {
        self.rows += rows as u64;
    }

    /// Writes how the read ended. That need not be durable for anything to go on.
    pub(crate) fn end(mut self, status: Status) {
        self.write_end(status);
    }

    fn write_end(&mut self, status: Status) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let Counted { metrics, door } = &self.counted;
        metrics.ended(door, status, self.rows, self.began.elapsed());
        let facts = EvidenceReadCompleted {
            read_id: self.read_id.clone(),
            status: status.into(),
            rows: self.rows,
            duration_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        drop(self.instance.record(self.about.clone(), Event::evidence_read_completed(facts)));
    }
}

impl Drop for ReadRecord {
    fn drop(&mut self) {
        self.write_end(Status::Abandoned);
    }
}

pub(crate) fn new_id() -> Id {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let mut random = [0; 10];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    Id::from_parts(unix_ms, random)
}
