use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, col, lit};
use futures::TryStreamExt;
use object_store::ObjectStore;
use retrace_evidence::TrustedKeys;
use retrace_lake::{RowKind, RowReader, Table};
use retrace_proto::Id;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::events_table::EventsTable;
use crate::right::Right;
use crate::session_state::SessionStates;
use crate::source::Source;
use crate::statement::{PARAMETERS_MAX, Parsed};
use crate::{Options, QueryError, catalogue, functions, statement, views};

/// Where `events` and the views over it live: `retrace.public`.
pub(crate) const CATALOG: &str = "retrace";
pub(crate) const SCHEMA: &str = "public";

/// Batches that wait between a query and whoever takes its rows.
const BATCHES_WAITING_MAX: usize = 2;

/// Largest batch that is handed on, in bytes of its arrays.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Functions that make much from little in one step, where neither the memory limit nor the deadline can step in.
const FUNCTIONS_WITHOUT_LIMIT: [&str; 10] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "generate_series",
    "range",
    "file_row_index",
];

/// What runs statements: threads of its own, one memory limit, and nothing within reach but the table's files.
///
/// Each query gets a context of its own with the tables of its own cut, so that nothing one query does is seen by
/// another. Queries run on their own threads, so that a long one does not hold up the gate that may run beside it.
#[derive(Debug)]
pub(crate) struct Engine {
    threads: Arc<Threads>,
    state: SessionState,
    memory_bytes_max: usize,
    query_ms_max: u64,
    head_keys: TrustedKeys,
}

/// One thing to run.
pub(crate) struct Job {
    pub(crate) source: Source,
    pub(crate) right: Right,
    pub(crate) what: What,
    /// The reader's clock before the cut was taken, in microseconds since the Unix epoch.
    pub(crate) now_unix_us: i64,
    pub(crate) deadline: Instant,
    /// Held until the query has really ended, which can be later than its reader was told so.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What to run.
pub(crate) enum What {
    /// A statement that [`statement::parse`] let through.
    Statement(Box<Asked>),
    /// Every event of one session, in stream order, with the columns that give the envelopes back.
    Session(Id),
    /// The events of one session with these numbers, likewise.
    Events {
        /// Its stream.
        stream: Id,
        /// Their numbers.
        numbers: Vec<u64>,
    },
}

/// A statement with all that its plan depends on.
pub(crate) struct Asked {
    pub(crate) parsed: Parsed,
    /// The values of `$1` and so on, each of a type of its own: they are literals of the plan and never text of it.
    pub(crate) parameters: Vec<ScalarValue>,
    /// Who asks, for `current_user`.
    pub(crate) principal: String,
}

/// A statement to be described.
pub(crate) struct Describing {
    pub(crate) asked: Asked,
    /// The types that the caller gives its parameters, by position.
    pub(crate) declared: Vec<Option<DataType>>,
    pub(crate) right: Right,
}

/// What is known of a statement before it runs.
pub(crate) struct Description {
    /// The types of its parameters, by position; `None` where nothing says which.
    pub(crate) parameters: Vec<Option<DataType>>,
    pub(crate) schema: SchemaRef,
}

/// A query that runs. Dropping it ends the query.
pub(crate) struct Running {
    pub(crate) schema: SchemaRef,
    batches: mpsc::Receiver<Result<Option<RecordBatch>, QueryError>>,
    deadline: Instant,
    query_ms_max: u64,
    task: AbortHandle,
    /// The answer goes on when whoever asked lets go of the engine.
    _threads: Arc<Threads>,
}

impl Running {
    /// The next batch; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        match timeout_at(self.deadline, self.batches.recv()).await {
            Err(_elapsed) => Err(QueryError::Deadline { ms_max: self.query_ms_max }),
            // The query says when it ends. If it goes without a word it was stopped, or it panicked.
            Ok(None) if Instant::now() >= self.deadline => {
                Err(QueryError::Deadline { ms_max: self.query_ms_max })
            }
            Ok(None) => Err(QueryError::Internal),
            Ok(Some(next)) => next,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    /// # Errors
    /// If the operating system gives no threads.
    pub(crate) fn new(table: &Table, options: &Options) -> Result<Self, std::io::Error> {
        let threads = Arc::new(Threads::start()?);
        let runtime = runtime(table.store(), options).map_err(std::io::Error::other)?;
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_parquet_bloom_filter_pruning(true)
            .with_parquet_page_index_pruning(true);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        for name in FUNCTIONS_WITHOUT_LIMIT {
            context.deregister_udf(name);
        }
        for function in functions::all().into_iter().chain(catalogue::functions()) {
            context.register_udf(function);
        }
        let Options { memory_bytes_max, query_ms_max, .. } = *options;
        let head_keys = options.head_keys.clone();
        Ok(Self { threads, state: context.state(), memory_bytes_max, query_ms_max, head_keys })
    }

    /// Plans a statement over no rows at all: what it would answer with, without a look at the evidence.
    pub(crate) async fn describe(
        &self,
        what: Describing,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Description, QueryError> {
        let (described, description) = oneshot::channel();
        let state = self.state.clone();
        let task = self.threads.spawn(async move {
            drop(described.send(describe(state, what).await));
            // Kept until planning has really ended, which nothing interrupts.
            drop(permit);
        });
        let late = || QueryError::Deadline { ms_max: self.query_ms_max };
        let ended = timeout_at(deadline, description).await;
        task.abort();
        ended.map_err(|_elapsed| late())?.map_err(|_gone| QueryError::Internal)?
    }

    /// Plans and starts a query. The statement's own errors come from here, those of running it from [`Running::next`].
    pub(crate) async fn run(&self, job: Job) -> Result<Running, QueryError> {
        let (started, start) = oneshot::channel();
        let (rows, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let deadline = job.deadline;
        let query = Query {
            state: self.state.clone(),
            memory_bytes_max: self.memory_bytes_max,
            head_keys: self.head_keys.clone(),
            rows,
        };
        let task = self.threads.spawn(async move {
            // Whoever waits has the same deadline and reports it.
            drop(timeout_at(deadline, query.run(job, started)).await);
        });
        // Made before anything is awaited, so that a caller who goes away ends the query.
        let mut running = Running {
            schema: Arc::new(arrow::datatypes::Schema::empty()),
            batches,
            deadline,
            query_ms_max: self.query_ms_max,
            task,
            _threads: Arc::clone(&self.threads),
        };
        running.schema = match timeout_at(deadline, start).await {
            Err(_elapsed) => return Err(QueryError::Deadline { ms_max: self.query_ms_max }),
            Ok(Err(_gone)) if Instant::now() >= deadline => {
                return Err(QueryError::Deadline { ms_max: self.query_ms_max });
            }
            Ok(Err(_gone)) => return Err(QueryError::Internal),
            Ok(Ok(schema)) => schema?,
        };
        Ok(running)
    }
}

/// A query on its own threads.
struct Query {
    state: SessionState,
    memory_bytes_max: usize,
    head_keys: TrustedKeys,
    rows: mpsc::Sender<Result<Option<RecordBatch>, QueryError>>,
}

impl Query {
    async fn run(self, job: Job, started: oneshot::Sender<Result<SchemaRef, QueryError>>) {
        let Job { source, right, what, now_unix_us, permit, .. } = job;
        // The tail's rows count against the memory that queries share, as long as the query runs.
        let tail = MemoryConsumer::new("tail").register(&self.state.runtime_env().memory_pool);
        if tail.try_grow(source.tail_memory_bytes()).is_err() {
            return drop(started.send(Err(QueryError::Memory { bytes_max: self.memory_bytes_max })));
        }
        let visible = Visible { source: Arc::new(source), right };
        let mut stream = match self.open(visible, what, now_unix_us).await {
            Ok(stream) => stream,
            Err(error) => return drop(started.send(Err(error))),
        };
        if started.send(Ok(stream.schema())).is_err() {
            return;
        }
        loop {
            let next = stream.try_next().await;
            let is_last = !matches!(next, Ok(Some(_)));
            let next = next.map_err(|error| QueryError::from_execution(error, self.memory_bytes_max));
            if !self.hand_on(next).await || is_last {
                break;
            }
        }
        drop((stream, tail, permit));
    }

    async fn open(
        &self,
        visible: Visible,
        what: What,
        now_unix_us: i64,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let frame = self.plan(visible, what, now_unix_us).await?;
        let opened = frame.execute_stream().await;
        opened.map_err(|error| QueryError::from_execution(error, self.memory_bytes_max))
    }

    async fn plan(&self, visible: Visible, what: What, now_unix_us: i64) -> Result<DataFrame, QueryError> {
        let context = context(self.state.clone(), &visible).map_err(QueryError::from_statement)?;
        let Asked { parsed, parameters, principal } = match what {
            What::Statement(asked) => *asked,
            What::Session(id) => {
                return session(&context, id, None).await.map_err(QueryError::from_statement);
            }
            What::Events { stream, numbers } => {
                let events = session(&context, stream, Some(&numbers)).await;
                return events.map_err(QueryError::from_statement);
            }
        };
        let removed = visible.source.removed.as_ref();
        let states = SessionStates::new(self.head_keys.clone(), now_unix_us, removed);
        let mut plan = plan_statement(&context, &states, parsed, &principal).await?;
        if !parameters.is_empty() {
            plan = plan.with_param_values(parameters).map_err(QueryError::from_statement)?;
        }
        if SessionStates::are_asked_by(&plan).map_err(QueryError::from_statement)? {
            let every_row = Visible { right: Right::All, ..visible };
            let read = async { states.read_heads(&self::context(self.state.clone(), &every_row)?).await };
            read.await.map_err(|error| QueryError::from_execution(error, self.memory_bytes_max))?;
        }
        Ok(DataFrame::new(context.state(), plan))
    }

    /// Whether it was taken.
    async fn hand_on(&self, next: Result<Option<RecordBatch>, QueryError>) -> bool {
        let parts = match next {
            Ok(Some(batch)) => split(batch).into_iter().map(|batch| Ok(Some(batch))).collect(),
            other => vec![other],
        };
        for part in parts {
            if self.rows.send(part).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// The rows that a query may see.
struct Visible {
    source: Arc<Source>,
    right: Right,
}

async fn plan_statement(
    context: &SessionContext,
    states: &SessionStates,
    parsed: Parsed,
    principal: &str,
) -> Result<LogicalPlan, QueryError> {
    views::register(context, states).await.map_err(QueryError::from_statement)?;
    if parsed.names_catalogue {
        catalogue::register(context, principal).await.map_err(QueryError::from_statement)?;
    }
    let plan =
        context.state().statement_to_plan(parsed.statement).await.map_err(QueryError::from_statement)?;
    statement::check_plan(&plan)?;
    Ok(plan)
}

async fn describe(state: SessionState, what: Describing) -> Result<Description, QueryError> {
    let Describing { asked, declared, right } = what;
    let nothing = Visible { source: Arc::new(Source::empty()), right };
    let context = context(state, &nothing).map_err(QueryError::from_statement)?;
    // Nothing is read, so no key is needed and no time matters.
    let states = SessionStates::new(TrustedKeys::default(), 0, None);
    let plan = plan_statement(&context, &states, asked.parsed, &asked.principal).await?;
    let inferred = plan.get_parameter_types().map_err(QueryError::from_statement)?;
    let mut parameters = declared;
    for (name, data_type) in inferred {
        let position = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let Some(position) = position.filter(|position| (1..=PARAMETERS_MAX).contains(position)) else {
            return Err(QueryError::Refused(format!(
                "a parameter is named $1 to ${PARAMETERS_MAX}, and this one is {name}"
            )));
        };
        if parameters.len() < position {
            parameters.resize(position, None);
        }
        let known = &mut parameters[position - 1];
        *known = known.take().or(data_type);
    }
    let nulls: Result<Vec<ScalarValue>, _> =
        parameters.iter().map(|it| ScalarValue::try_from(it.as_ref().unwrap_or(&DataType::Utf8))).collect();
    let nulls = nulls.map_err(QueryError::from_statement)?;
    let plan = if nulls.is_empty() { Ok(plan) } else { plan.with_param_values(nulls) };
    // The types that the rows will have are those after coercion.
    let optimised =
        plan.and_then(|plan| context.state().optimize(&plan)).map_err(QueryError::from_statement)?;
    Ok(Description { parameters, schema: Arc::new(optimised.schema().as_arrow().clone()) })
}

/// A context in which `events` is the source's rows, as far as the right goes.
fn context(state: SessionState, visible: &Visible) -> Result<SessionContext, DataFusionError> {
    let Visible { source, right } = visible;
    let context = SessionContext::new_with_state(
        SessionStateBuilder::new_from_existing(state)
            .with_catalog_list(Arc::new(datafusion::catalog::MemoryCatalogProviderList::new()))
            .build(),
    );
    let schema = MemorySchemaProvider::new();
    schema.register_table("events".to_owned(), Arc::new(EventsTable::new(source.clone(), right.clone())))?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    context.register_catalog(CATALOG, Arc::new(catalog));
    Ok(context)
}

/// The events of a session, or those with these numbers.
async fn session(
    context: &SessionContext,
    id: Id,
    numbers: Option<&[u64]>,
) -> Result<DataFrame, DataFusionError> {
    let its_events = col("stream_id")
        .eq(lit(id.to_string()))
        .and(col("stream_kind").eq(lit("session")))
        .and(col("row_kind").eq(lit(RowKind::Event.as_str())));
    let its_events = match numbers {
        Some(numbers) => {
            let numbers = numbers.iter().map(|number| lit(i64::try_from(*number).unwrap_or(i64::MAX)));
            its_events.and(col("stream_seq").in_list(numbers.collect(), false))
        }
        None => its_events,
    };
    let order = vec![col("stream_seq").sort(true, false)];
    context.table("events").await?.filter(its_events)?.select_columns(RowReader::columns())?.sort(order)
}

fn runtime(store: Arc<dyn ObjectStore>, options: &Options) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(options.memory_bytes_max)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .with_object_store_registry(Arc::new(TheTableAlone(store)))
        .build_arc()
}

/// The one store that queries reach: whatever URL a plan names, there is only the table.
#[derive(Debug)]
struct TheTableAlone(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for TheTableAlone {
    /// Takes nothing: nobody adds a store.
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        if url.scheme() == EventsTable::URL_SCHEME {
            return Ok(Arc::clone(&self.0));
        }
        Err(DataFusionError::Plan("queries read the tables of this service and nothing else".to_owned()))
    }
}

/// Halves until each part is small enough, or a single row.
fn split(batch: RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let bytes: usize =
        batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    if bytes <= BATCH_BYTES_MAX || rows < 2 {
        return vec![batch];
    }
    let half = rows / 2;
    let mut parts = split(batch.slice(0, half));
    parts.extend(split(batch.slice(half, rows - half)));
    parts
}

/// Threads that outlive no engine and may be dropped anywhere.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> Result<Self, std::io::Error> {
        Builder::new_multi_thread()
            .thread_name("query")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    fn spawn(&self, query: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let runtime = self.0.as_ref().expect("only dropping takes the runtime");
        runtime.spawn(query).abort_handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for what runs is not allowed where this may be dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
