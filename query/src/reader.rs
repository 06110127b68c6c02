use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use futures::StreamExt;
use futures::stream;
use prometheus_client::registry::Registry;
use retrace_access::Authenticated;
use retrace_eventlog::{EventLog, InstanceStream};
use retrace_lake::{RowReader, Table};
use retrace_policy::mask::Masker;
use retrace_proto::wire::evidence_read::Kind;
use retrace_proto::wire::evidence_read_completed::Status;
use retrace_proto::{Id, Masked};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::as_of::AsOf;
use crate::engine::{Asked, Describing, Description, Engine, Job, Running, What};
use crate::evidence::{Counted, ReadRecord, Reading};
use crate::holds::OnRecord;
use crate::metrics::QueryMetrics;
use crate::right::Right;
use crate::source::{self, Source};
use crate::spill::SpillRoom;
use crate::statement::Parsed;
use crate::{
    Cut, ErrorKind, EventRecord, EventsAnswer, HoldRecord, Options, QueryError, Removed, SqlAnswer,
    fingerprint, holds, statement, tail,
};

mod review;

/// Reads evidence for those who may, and records that they did. The one way to rows: the network service and a command
/// that opens log and table itself both go through it.
///
/// Cheap to clone; clones share limits and threads.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Inner>, &'static str);

/// What a [`Reader`] reads from and writes to.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The log, for its tail.
    pub log: Arc<dyn EventLog>,
    /// The table.
    pub table: Table,
    /// The stream of this process, where reads are recorded.
    pub instance: Arc<InstanceStream>,
    /// Masks statements before they are recorded: a statement may hold the very value it looks for.
    pub masker: Masker,
}

#[derive(Debug)]
struct Inner {
    sources: Sources,
    options: Options,
    /// Room for tails that memory has none for.
    spill_room: SpillRoom,
    engine: Engine,
    queries: Arc<Semaphore>,
    tails: Arc<Semaphore>,
    fingerprints: fingerprint::Asked,
    on_record: Arc<OnRecord>,
    metrics: QueryMetrics,
}

impl Reader {
    /// Starts the threads that queries run on.
    ///
    /// # Errors
    /// If the operating system gives no threads.
    pub fn new(sources: Sources, options: Options) -> Result<Self, std::io::Error> {
        let engine = Engine::new(&sources.table, &options)?;
        let queries = Arc::new(Semaphore::new(options.queries_max));
        let tails = Arc::new(Semaphore::new(options.tails_max));
        let fingerprints = fingerprint::Asked::default();
        let (log, table) = (Arc::clone(&sources.log), sources.table.clone());
        let on_record = Arc::new(OnRecord::new(log, table, options.control_keys.clone()));
        let metrics = QueryMetrics::default();
        let spill_room = SpillRoom::new(options.spill_bytes_max);
        let inner =
            Inner { sources, options, spill_room, engine, queries, tails, fingerprints, on_record, metrics };
        Ok(Self(Arc::new(inner), "local"))
    }

    /// The same reader for those who come by another door, which is counted by its name.
    pub(crate) fn at(&self, door: &'static str) -> Self {
        Self(Arc::clone(&self.0), door)
    }

    /// The holds on record, for whoever lifts one: what was found of them is shared.
    pub(crate) fn on_record(&self) -> Arc<OnRecord> {
        Arc::clone(&self.0.on_record)
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    fn counted(&self) -> Counted {
        Counted { metrics: self.0.metrics.clone(), door: self.1 }
    }

    /// Runs one read-only statement over `events`, `sessions`, `commands` and `responses`.
    ///
    /// Every event that is durable when this is called is in the answer (promise P4), unless the statement ends with `AS OF`:
    /// then those that were, and no others. The record of the read is durable
    /// before this returns (promise P8); so is that of a read that is refused.
    ///
    /// # Errors
    /// Each says what to do; [`QueryError::kind`] sorts them.
    pub async fn sql(&self, caller: &Authenticated, statement: &str) -> Result<SqlAnswer, QueryError> {
        self.ask(caller, Question { statement, parameters: Vec::new() }).await
    }

    /// Like [`Reader::sql`], with the values of the statement's parameters. They are recorded beside it.
    pub(crate) async fn ask(
        &self,
        caller: &Authenticated,
        question: Question<'_>,
    ) -> Result<SqlAnswer, QueryError> {
        let deadline = self.deadline();
        let recorded = question.recorded();
        let Prepared { masked, parsed, right } =
            self.prepare(caller, question.statement, &recorded, deadline).await?;
        let permit = take_permit(&self.0.queries, self.0.options.queries_max)?;
        let (principal, as_of) = (caller.principal.name.clone(), parsed.as_of.clone());
        let asked = Asked { parsed, parameters: question.parameters, principal };
        let what = What::Statement(Box::new(asked));
        let read = Read { kind: Kind::Sql, statement: masked, what, right, as_of, deadline };
        let Started { cut, removed, running, record } = self.start(caller, read, permit).await?;
        let schema = Arc::clone(&running.schema);
        Ok(SqlAnswer { cut, removed, schema, batches: batches(running, record) })
    }

    /// What a statement would answer with, and which parameters it has, of which the caller may declare types.
    ///
    /// It is planned over no rows, so nothing is read and nothing recorded, unless it is refused.
    ///
    /// # Errors
    /// As for [`Reader::sql`].
    pub(crate) async fn describe(
        &self,
        caller: &Authenticated,
        statement: &str,
        declared: Vec<Option<DataType>>,
    ) -> Result<Description, QueryError> {
        let deadline = self.deadline();
        let Prepared { parsed, right, .. } = self.prepare(caller, statement, statement, deadline).await?;
        let permit = take_permit(&self.0.queries, self.0.options.queries_max)?;
        let asked = Asked { parsed, parameters: Vec::new(), principal: caller.principal.name.clone() };
        let what = Describing { asked, declared, right };
        self.0.engine.describe(what, permit, deadline.into()).await
    }

    /// Checks right and statement. Who may not ask, or not so, leaves a record like any other reader.
    async fn prepare(
        &self,
        caller: &Authenticated,
        statement: &str,
        recorded: &str,
        deadline: Instant,
    ) -> Result<Prepared, QueryError> {
        let refusal = Refusal { reader: self, caller, kind: Kind::Sql, deadline };
        let bytes_max = self.0.options.statement_bytes_max;
        if recorded.len() > bytes_max {
            // Too long for the record as well.
            let error = QueryError::StatementTooLong { bytes: recorded.len(), bytes_max };
            return refusal.record(Masked::default(), error).await;
        }
        let checked = Right::of(caller).and_then(|right| Ok((statement::parse(statement, &right)?, right)));
        let mut asks =
            fingerprint::Asks::of(statement, recorded, checked.as_ref().ok().map(|(parsed, _)| parsed));
        let masked = self.0.sources.masker.mask_string(&asks.recorded());
        let replaced = checked.and_then(|(mut parsed, right)| {
            asks.replace(&mut parsed, &self.0.sources.masker, |distinct| {
                self.0.fingerprints.check(&caller.principal, distinct, Instant::now())
            })?;
            Ok((parsed, right))
        });
        match replaced {
            Ok((parsed, right)) => Ok(Prepared { masked, parsed, right }),
            Err(error) => refusal.record(masked, error).await,
        }
    }

    /// Every event of one session that the caller may see, in the order of its stream; none if there is no such session
    /// for them.
    ///
    /// # Errors
    /// As for [`Reader::sql`].
    pub async fn session(&self, caller: &Authenticated, session: Id) -> Result<EventsAnswer, QueryError> {
        let deadline = self.deadline();
        // An id made by this project, which holds no value of the traffic.
        let statement = self.0.sources.masker.mask_string(&session.to_string());
        let refusal = Refusal { reader: self, caller, kind: Kind::Session, deadline };
        let right = match Right::of(caller) {
            Ok(right) => right,
            Err(error) => return refusal.record(statement, error).await,
        };
        let permit = take_permit(&self.0.queries, self.0.options.queries_max)?;
        let what = What::Session(session);
        let read = Read { kind: Kind::Session, statement, what, right, as_of: AsOf::Now, deadline };
        let Started { cut, removed, running, record } = self.start(caller, read, permit).await?;
        let events = batches(running, record).flat_map(|batch| stream::iter(records(batch))).boxed();
        Ok(EventsAnswer { cut, removed, events })
    }

    /// Events as they become durable, from now on, of one session or of every one the caller may see. It ends when it is
    /// dropped, or with an error.
    ///
    /// A slow reader slows only its own tail: events wait in the log. If the log lets go of them meanwhile, the tail
    /// ends with [`QueryError::TailFellBehind`]. Records that are no events are left out; they are rows of `events`.
    ///
    /// # Errors
    /// As for [`Reader::sql`].
    pub async fn tail(
        &self,
        caller: &Authenticated,
        session: Option<Id>,
    ) -> Result<EventsAnswer, QueryError> {
        let deadline = self.deadline();
        let asked = session.map(|id| id.to_string()).unwrap_or_default();
        let statement = self.0.sources.masker.mask_string(&asked);
        let refusal = Refusal { reader: self, caller, kind: Kind::Tail, deadline };
        let right = match Right::of(caller) {
            Ok(right) => right,
            Err(error) => return refusal.record(statement, error).await,
        };
        let permit = take_permit(&self.0.tails, self.0.options.tails_max)?;
        let Sources { log, instance, .. } = &self.0.sources;
        let cut = source::ends(log.as_ref()).await?;
        let reading =
            Reading { kind: Kind::Tail, statement, cut: &cut, right: right.name(), counted: self.counted() };
        let record = ReadRecord::begin(instance, caller, reading, deadline).await?;
        let wanted = tail::Wanted { right, session };
        let events = tail::follow(log, &cut, wanted, record, permit);
        Ok(EventsAnswer { cut, removed: None, events })
    }

    /// Every legal hold that is on record, lifted ones too, for who may set them or see all evidence.
    ///
    /// # Errors
    /// As for [`Reader::sql`].
    pub async fn holds(&self, caller: &Authenticated) -> Result<Vec<HoldRecord>, QueryError> {
        let deadline = self.deadline();
        let statement = self.0.sources.masker.mask_string("legal holds");
        let refusal = Refusal { reader: self, caller, kind: Kind::Sql, deadline };
        if let (false, Err(error)) = (matches!(Right::of(caller), Ok(Right::All)), holds::may_hold(caller)) {
            return refusal.record(statement, error).await;
        }
        let _permit = take_permit(&self.0.queries, self.0.options.queries_max)?;
        let Sources { log, instance, .. } = &self.0.sources;
        let cut = source::ends(log.as_ref()).await?;
        let reading =
            Reading { kind: Kind::Sql, statement, cut: &cut, right: "all", counted: self.counted() };
        let mut record = ReadRecord::begin(instance, caller, reading, deadline).await?;
        let known = self.0.on_record.read();
        let late = |_elapsed| QueryError::Deadline { ms_max: self.0.options.query_ms_max };
        match tokio::time::timeout_at(deadline.into(), known).await.map_err(late).and_then(|known| known) {
            Ok(holds) => {
                record.count(holds.len());
                record.end(Status::Ok);
                Ok(holds)
            }
            Err(error) => {
                record.end(Status::Error);
                Err(error)
            }
        }
    }

    /// An outcome as it is; where somebody asked for what they may not have, that is on record like a read that was refused.
    pub(crate) async fn recorded_if_denied<T>(
        &self,
        caller: &Authenticated,
        what: &str,
        outcome: Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        match outcome {
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::FixTheCall) => {
                let statement = self.0.sources.masker.mask_string(what);
                let refusal = Refusal { reader: self, caller, kind: Kind::Sql, deadline: self.deadline() };
                refusal.record(statement, error).await
            }
            outcome => outcome,
        }
    }

    /// Takes the cut, records the read, and only then starts it.
    async fn start(
        &self,
        caller: &Authenticated,
        read: Read,
        permit: OwnedSemaphorePermit,
    ) -> Result<Started, QueryError> {
        let Read { kind, statement, what, right, as_of, deadline } = read;
        let Inner { sources, options, engine, spill_room, .. } = self.0.as_ref();
        let now_unix_us = (options.clock)();
        let taken = Source::take(sources.log.as_ref(), &sources.table, &as_of, options, spill_room);
        let taken = tokio::time::timeout_at(deadline.into(), taken)
            .await
            .map_err(|_elapsed| QueryError::Deadline { ms_max: options.query_ms_max })?;
        let source = match taken {
            Ok(source) => source,
            // A moment that nobody may ask for; the answer says where the log ends.
            Err(error) if error.kind() == ErrorKind::FixTheCall => {
                return Refusal { reader: self, caller, kind, deadline }.record(statement, error).await;
            }
            Err(error) => return Err(error),
        };
        let (cut, removed) = (source.cut.clone(), source.removed.clone());
        let now_unix_us = source.judged_at_unix_us.map_or(now_unix_us, |at| at.min(now_unix_us));
        self.0.metrics.took_tail(source.tail_bytes());
        let counted = self.counted();
        let reading = Reading { kind, statement, cut: &cut, right: right.name(), counted };
        let record = ReadRecord::begin(&sources.instance, caller, reading, deadline).await?;
        let job = Job { source, right, what, now_unix_us, deadline: deadline.into(), permit };
        match engine.run(job).await {
            Ok(running) => Ok(Started { cut, removed, running, record }),
            Err(error) => {
                let status =
                    if matches!(error, QueryError::Refused(_)) { Status::Denied } else { Status::Error };
                record.end(status);
                Err(error)
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.query_time_max()
    }

    /// How long one statement may take, its rows' way to the client included.
    pub(crate) fn query_time_max(&self) -> Duration {
        self.0.options.query_time_max()
    }
}

/// A statement and the values of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) statement: &'a str,
    pub(crate) parameters: Vec<ScalarValue>,
}

impl Question<'_> {
    /// The statement as its record has it: with the parameters below it, one on each line.
    fn recorded(&self) -> String {
        let mut text = self.statement.to_owned();
        for (index, value) in self.parameters.iter().enumerate() {
            let value = if value.is_null() { "NULL".to_owned() } else { format!("{:?}", value.to_string()) };
            text.push_str(&format!("\n-- ${}: {value}", index + 1));
        }
        text
    }
}

/// A statement that may be planned for who asks.
struct Prepared {
    masked: Masked<String>,
    parsed: Parsed,
    right: Right,
}

/// A read that may go ahead.
struct Read {
    kind: Kind,
    statement: Masked<String>,
    what: What,
    right: Right,
    as_of: AsOf,
    deadline: Instant,
}

/// A read that is on record and runs.
struct Started {
    cut: Cut,
    removed: Option<Removed>,
    running: Running,
    record: ReadRecord,
}

/// A read that may not: it leaves a record like any other.
struct Refusal<'a> {
    reader: &'a Reader,
    caller: &'a Authenticated,
    kind: Kind,
    deadline: Instant,
}

impl Refusal<'_> {
    /// Records the attempt, then gives `why` back. If it cannot be recorded the answer is the same: nothing was read.
    async fn record<T>(self, statement: Masked<String>, why: QueryError) -> Result<T, QueryError> {
        let right = Right::of(self.caller).map_or("none", |right| right.name());
        let counted = self.reader.counted();
        let reading = Reading { kind: self.kind, statement, cut: &Cut::default(), right, counted };
        let instance = &self.reader.0.sources.instance;
        match ReadRecord::begin(instance, self.caller, reading, self.deadline).await {
            Ok(record) => record.end(Status::Denied),
            Err(error) => tracing::error!(%error, "a refused read could not be recorded"),
        }
        Err(why)
    }
}

fn take_permit(of: &Arc<Semaphore>, running_max: usize) -> Result<OwnedSemaphorePermit, QueryError> {
    Arc::clone(of).try_acquire_owned().map_err(|_full| QueryError::Busy { running_max })
}

/// The rows, counted into the record, which ends with them.
fn batches(running: Running, record: ReadRecord) -> crate::Batches {
    let state = Some((running, record));
    stream::unfold(state, |state| async move {
        let (mut running, mut record) = state?;
        match running.next().await {
            Ok(Some(batch)) => {
                record.count(batch.num_rows());
                Some((Ok(batch), Some((running, record))))
            }
            Ok(None) => {
                record.end(Status::Ok);
                None
            }
            Err(error) => {
                record.end(Status::Error);
                Some((Err(error), None))
            }
        }
    })
    .boxed()
}

fn records(
    batch: Result<arrow::record_batch::RecordBatch, QueryError>,
) -> Vec<Result<EventRecord, QueryError>> {
    let read = || {
        let batch = batch?;
        let rows = RowReader::new(&batch)?;
        let event = |row| {
            let (at, record) = rows.record(row)?;
            Ok(EventRecord::new(at, record))
        };
        Ok((0..batch.num_rows()).map(event).collect::<Vec<_>>())
    };
    read().unwrap_or_else(|error| vec![Err(error)])
}
