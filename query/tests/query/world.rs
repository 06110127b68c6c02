use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use retrace_access::{
    Authenticated, Directory, EvidenceRight, HoldRight, KillRight, Principal, Secret, TokenFile,
};
use retrace_eventlog::{EventLog, InstanceStream, MemoryLog, ReadError, partition_for};
use retrace_lake::{Advance, Location, Rows, Table};
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use retrace_proto::wire::{self, StreamKind};
use retrace_proto::{
    CommandReceived, CommandTexts, Envelope, Event, Id, ResponseContent, ResponseEnd, StreamWriter, Subject,
};
use retrace_query::{
    Control, EventRecord, EventsAnswer, Options, Parts, QueryError, QueryService, Reader, Sources, SqlAnswer,
};

mod control;

pub(crate) use control::control_keys;

pub(crate) const NOW_UNIX_US: i64 = MemoryLog::STARTS_AT_UNIX_US;

/// Log, table and reader of one test.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) table: Table,
    pub(crate) service: QueryService,
    pub(crate) directory: Directory,
    pub(crate) tokens: TokenFile,
    pub(crate) instance: Arc<InstanceStream>,
    pub(crate) control: Control,
}

impl World {
    pub(crate) async fn new() -> Self {
        let options = Options { clock: || NOW_UNIX_US, ..Options::default() };
        Self::with(MemoryLog::new(), options).await
    }

    pub(crate) async fn with(log: MemoryLog, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let table = Table::open_or_create(&Location::new(folder.path().join("lake").to_str().unwrap()))
            .await
            .unwrap();
        let log = Arc::new(log);
        let tokens = TokenFile::init(&folder.path().join("tokens.toml")).unwrap();
        let directory =
            Directory::new(principals(), token_file(folder.path()), Secret::new(vec![7; 32])).unwrap();
        let stream = Id::from_parts(NOW_UNIX_US as u64 / 1000, [0xee; 10]);
        let dynamic: Arc<dyn EventLog> = log.clone();
        let instance = Arc::new(InstanceStream::open(dynamic, "test".into(), || NOW_UNIX_US, stream));
        let control = control::control(&log).await;
        let service = QueryService::new(Parts {
            log: log.clone(),
            table: table.clone(),
            directory: directory.clone(),
            control: control.clone(),
            instance: Arc::clone(&instance),
            masker: Masker::everything(FingerprintKey::new(b"key")),
            options,
        })
        .unwrap();
        Self { folder, log, table, service, directory, tokens, instance, control }
    }

    /// A service over the same log and table, to be served.
    pub(crate) fn another_service(&self, options: Options) -> QueryService {
        self.service_on(self.log.clone(), options)
    }

    /// A service of the same table by way of another log.
    pub(crate) fn service_on(&self, log: Arc<dyn EventLog>, options: Options) -> QueryService {
        let parts = Parts {
            log,
            table: self.table.clone(),
            directory: self.directory.clone(),
            control: self.control.clone(),
            instance: Arc::clone(&self.instance),
            masker: Masker::everything(FingerprintKey::new(b"key")),
            options,
        };
        QueryService::new(parts).unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.service.reader()
    }

    pub(crate) fn token_of(&self, principal: &str) -> String {
        let (token, _entry) = self.tokens.create(principal, Duration::from_secs(3600), now_unix_s()).unwrap();
        String::from_utf8(token.expose().to_vec()).unwrap()
    }

    /// Runs a statement as someone who may read everything.
    pub(crate) async fn sql(&self, statement: &str) -> Result<Vec<Vec<String>>, QueryError> {
        rows(self.reader().sql(&caller("auditor", EvidenceRight::All), statement).await?).await
    }

    /// The one number that a statement answers.
    pub(crate) async fn number(&self, statement: &str) -> i64 {
        number(self.reader().sql(&caller("auditor", EvidenceRight::All), statement).await.unwrap()).await
    }

    /// What ingest does once: everything durable now goes into one commit, then the log lets go of it.
    pub(crate) async fn ingest(&self) {
        self.commit().await;
        self.truncate().await;
    }

    pub(crate) async fn commit(&self) {
        commit(&self.log, &self.table).await;
    }

    pub(crate) async fn truncate(&self) {
        truncate(&self.log, &self.table).await;
    }

    /// A reader of the same table by way of another log.
    pub(crate) fn reader_on(&self, log: impl EventLog + 'static) -> Reader {
        self.reader_with(log, Options::default())
    }

    pub(crate) fn reader_with(&self, log: impl EventLog + 'static, options: Options) -> Reader {
        let sources = Sources {
            log: Arc::new(log),
            table: self.table.clone(),
            instance: Arc::clone(&self.instance),
            masker: Masker::everything(FingerprintKey::new(b"key")),
        };
        Reader::new(sources, options).unwrap()
    }

    /// A reader that knows whose orders are believed.
    pub(crate) fn reader_with_keys(&self) -> Reader {
        let options = Options { control_keys: control_keys(), ..Options::default() };
        self.reader_with(MemoryLog::clone(&self.log), options)
    }

    /// Every event of the process's own stream, oldest first.
    pub(crate) async fn instance_events(&self) -> Vec<wire::envelope::Payload> {
        let at = self.instance.topic_partition();
        let records = self.log.read(at, self.log.offsets(at).await.unwrap().start, usize::MAX).await.unwrap();
        let opened = records.into_iter().filter_map(|record| Envelope::open(record.value).ok());
        opened
            .filter(|event| event.stream_id() == self.instance.stream_id())
            .map(|event| event.payload().clone())
            .collect()
    }
}

/// Puts everything durable now into one commit.
pub(crate) async fn commit(log: &MemoryLog, table: &Table) {
    let snapshot = table.snapshot().await.unwrap();
    let mut rows = Rows::new();
    let mut advances = Vec::new();
    for at in partitions(log) {
        let topic_id = log.topic_id(at.topic);
        let from_inclusive = snapshot.position(topic_id, at.partition);
        let records = log.read(at, from_inclusive, usize::MAX).await.unwrap();
        let Some(last) = records.last() else { continue };
        let to_exclusive = last.offset + 1;
        records.iter().for_each(|record| rows.push(at, record));
        advances.push(Advance { topic_id, partition: at.partition, from_inclusive, to_exclusive });
    }
    if !advances.is_empty() {
        let files = table.data_files().add(rows.finish()).await.unwrap().finish().await.unwrap();
        table.commit(&files, &advances).await.unwrap();
    }
}

/// Lets the log go of what the table holds.
pub(crate) async fn truncate(log: &MemoryLog, table: &Table) {
    let snapshot = table.snapshot().await.unwrap();
    for at in partitions(log) {
        let position = snapshot.position(log.topic_id(at.topic), at.partition);
        log.truncate_below(at, position).await.unwrap();
    }
}

pub(crate) fn now_unix_s() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn token_file(folder: &Path) -> TokenFile {
    TokenFile::load(&folder.join("tokens.toml")).unwrap()
}

fn partitions(log: &MemoryLog) -> Vec<TopicPartition> {
    Topic::ALL
        .into_iter()
        .flat_map(|topic| {
            (0..log.partitions(topic)).map(move |partition| TopicPartition { topic, partition })
        })
        .collect()
}

fn principals() -> Vec<Principal> {
    [("auditor", EvidenceRight::All), ("ann", EvidenceRight::Own), ("bob", EvidenceRight::None)]
        .map(|(name, evidence)| principal(name, evidence))
        .to_vec()
}

fn principal(name: &str, evidence: EvidenceRight) -> Principal {
    Principal {
        name: name.to_owned(),
        kind: wire::PrincipalKind::Human,
        on_behalf_of: None,
        person: name.to_owned(),
        review_key: None,
        groups: Vec::new(),
        targets: vec!["*".to_owned()],
        evidence,
        kill: match evidence {
            EvidenceRight::None => KillRight::None,
            EvidenceRight::Own => KillRight::Own,
            EvidenceRight::All => KillRight::All,
        },
        hold: if evidence == EvidenceRight::All { HoldRight::All } else { HoldRight::None },
        evidence_fingerprint: evidence == EvidenceRight::All,
        limits: retrace_access::PrincipalLimits::default(),
    }
}

pub(crate) fn caller(name: &str, evidence: EvidenceRight) -> Authenticated {
    Authenticated { principal: Arc::new(principal(name, evidence)), token_id: "0a1b2c3d".to_owned() }
}

/// The cells of an answer as text; NULL is `NULL`.
pub(crate) async fn rows(answer: SqlAnswer) -> Result<Vec<Vec<String>>, QueryError> {
    let batches: Vec<RecordBatch> = answer.batches.try_collect().await?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    Ok(rows)
}

pub(crate) async fn number(answer: SqlAnswer) -> i64 {
    let batches: Vec<RecordBatch> = answer.batches.try_collect().await.unwrap();
    batches.iter().find(|batch| batch.num_rows() == 1).unwrap().column(0).as_primitive::<Int64Type>().value(0)
}

pub(crate) async fn events(answer: EventsAnswer) -> Result<Vec<EventRecord>, QueryError> {
    answer.events.try_collect().await
}

/// One session that writes to the log as a gate would.
pub(crate) struct Session {
    log: Arc<MemoryLog>,
    stream: StreamWriter,
    about: Subject,
    pub(crate) id: Id,
    pub(crate) sealed: Vec<bytes::Bytes>,
}

impl Session {
    pub(crate) fn new(world: &World, principal: &str) -> Self {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number);
        Self::with_id(world, principal, Id::from_parts(NOW_UNIX_US as u64 / 1000, random))
    }

    pub(crate) fn with_id(world: &World, principal: &str, id: Id) -> Self {
        let about = Subject {
            session_id: Some(id),
            proxy_id: "gate".to_owned(),
            principal: Some(wire::Principal {
                name: principal.to_owned(),
                kind: wire::PrincipalKind::Agent.into(),
                ..Default::default()
            }),
            target: "shop".to_owned(),
            protocol: wire::Protocol::Postgres,
            durability: wire::Durability::Exchange,
            retention_class: wire::RetentionClass::Standard,
            ..Subject::default()
        };
        let stream = StreamWriter::new(id, StreamKind::Session);
        Self { log: Arc::clone(&world.log), stream, about, id, sealed: Vec::new() }
    }

    pub(crate) async fn write(&mut self, command_seq: Option<u64>, event: Event) -> u64 {
        let seq = self.stream.next_seq();
        let occurred_at = NOW_UNIX_US + seq as i64 * 1000;
        let envelope =
            Envelope::seal(&mut self.stream, &self.about, command_seq, occurred_at, event).unwrap();
        let partition = partition_for(self.id, self.log.partitions(Topic::Events));
        let at = TopicPartition { topic: Topic::Events, partition };
        self.log.append(at, self.id.to_bytes(), envelope.bytes().clone()).await.unwrap();
        self.sealed.push(envelope.bytes().clone());
        seq
    }

    pub(crate) async fn open(&mut self) {
        let facts = wire::SessionOpened { client_address: "192.0.2.7:5000".to_owned(), ..Default::default() };
        self.write(None, Event::session_opened(facts, masked(Vec::new()), masked(Vec::new()))).await;
    }

    /// Opens it as the one that goes on from another.
    pub(crate) async fn open_after(&mut self, other: Id) {
        let facts = wire::SessionOpened { continues: other.to_bytes(), ..Default::default() };
        self.write(None, Event::session_opened(facts, masked(Vec::new()), masked(Vec::new()))).await;
    }

    pub(crate) async fn close(&mut self) {
        let reason = wire::session_closed::Reason::ClientClosed.into();
        self.write(None, Event::session_closed(wire::SessionClosed { reason, ..Default::default() })).await;
    }

    /// A command and its seq.
    pub(crate) async fn command(&mut self, statement: &str, parameters: &[Option<&str>]) -> u64 {
        let parameters = parameters
            .iter()
            .map(|value| wire::Parameter { value: value.map(str::to_owned), ..Default::default() });
        let texts = CommandTexts {
            statement: wire::Text { text: statement.to_owned(), escaped: false },
            parameters: parameters.collect(),
            ..Default::default()
        };
        let facts = CommandReceived {
            kind: wire::command_received::Kind::Execute,
            decision: wire::Decision { effect: wire::decision::Effect::Allow.into(), ..Default::default() },
            ..Default::default()
        };
        self.write(None, Event::command_received(facts, masked(texts))).await
    }

    /// A response of one column `name` with these cells.
    pub(crate) async fn complete(&mut self, command_seq: u64, cells: &[&str]) {
        let facts = wire::CommandCompleted {
            status: wire::command_completed::Status::Ok.into(),
            rows: cells.len() as u64,
            duration_us: 1500,
            ..Default::default()
        };
        let end = ResponseEnd { command_tag: format!("SELECT {}", cells.len()), sqlstate: String::new() };
        self.write(Some(command_seq), Event::command_completed(facts, masked(content(cells)), masked(end)))
            .await;
    }

    pub(crate) async fn response_chunk(&mut self, command_seq: u64, index: u32, cells: &[&str]) {
        self.write(Some(command_seq), Event::response_chunk(index, masked(content(cells)))).await;
    }

    pub(crate) async fn refuse(&mut self, command_seq: u64) {
        let facts = wire::CommandRefused {
            reason: wire::command_refused::Reason::Unsupported.into(),
            forwarded: wire::command_refused::Forwarded::No.into(),
            sqlstate: "0A000".to_owned(),
            rule: String::new(),
        };
        self.write(Some(command_seq), Event::command_refused(facts)).await;
    }

    /// A whole session: opened, so many commands answered, closed.
    pub(crate) async fn run(world: &World, principal: &str, commands: usize) -> Self {
        let mut session = Self::new(world, principal);
        session.open().await;
        for command in 0..commands {
            let seq = session.command(&format!("SELECT {command}"), &[]).await;
            session.complete(seq, &["value"]).await;
        }
        session.close().await;
        session
    }
}

fn content(cells: &[&str]) -> ResponseContent {
    use wire::response_part::Part;
    let part = |part| wire::ResponsePart { part: Some(part) };
    let columns = wire::ResultColumns {
        columns: vec![wire::Column { name: "name".to_owned(), type_oid: 25, ..Default::default() }],
        ..Default::default()
    };
    let rows = wire::ResultRows {
        row_count: cells.len() as u32,
        column_count: 1,
        cell_bytes: cells.iter().map(|cell| cell.len() as i32).collect(),
        cells: cells.concat(),
        masks: vec![wire::Mask::default()],
        ..Default::default()
    };
    ResponseContent {
        parts: vec![part(Part::Columns(columns)), part(Part::Rows(rows))],
        fingerprints: Vec::new(),
    }
}

#[allow(clippy::disallowed_methods, reason = "test data that stands for what masking let through")]
pub(crate) fn masked<T>(value: T) -> retrace_proto::Masked<T> {
    retrace_proto::Masked::by_masking(value)
}

/// What a [`Hooked`] log does once, at a place where the race that a test is about would happen.
type Hook = Box<dyn FnOnce() -> futures::future::BoxFuture<'static, ()> + Send>;

/// A log that lets a test act in the middle of a query.
#[derive(Clone)]
pub(crate) struct Hooked {
    pub(crate) log: Arc<MemoryLog>,
    before_read: Arc<Mutex<Option<Hook>>>,
    after_offsets: Arc<Mutex<Option<Hook>>>,
}

impl Hooked {
    pub(crate) fn new(log: &Arc<MemoryLog>) -> Self {
        Self { log: Arc::clone(log), before_read: Arc::default(), after_offsets: Arc::default() }
    }

    /// Before the next read of records.
    pub(crate) fn before_read(self, hook: Hook) -> Self {
        *self.before_read.lock().unwrap() = Some(hook);
        self
    }

    /// After the last topic partition was asked for its offsets.
    pub(crate) fn after_offsets(self, hook: Hook) -> Self {
        *self.after_offsets.lock().unwrap() = Some(hook);
        self
    }
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

#[async_trait::async_trait]
impl EventLog for Hooked {
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }

    fn topic_id(&self, topic: Topic) -> Id {
        self.log.topic_id(topic)
    }

    fn append(&self, to: TopicPartition, key: bytes::Bytes, value: bytes::Bytes) -> retrace_eventlog::Append {
        self.log.append(to, key, value)
    }

    async fn read(
        &self,
        from: TopicPartition,
        start: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let hook = self.before_read.lock().unwrap().take();
        if let Some(hook) = hook {
            hook().await;
        }
        self.log.read(from, start, bytes_max).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        let offsets = self.log.offsets(of).await?;
        if of == *partitions(&self.log).last().unwrap() {
            let hook = self.after_offsets.lock().unwrap().take();
            if let Some(hook) = hook {
                hook().await;
            }
        }
        Ok(offsets)
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.log.wait_past(of, end_exclusive).await
    }

    fn close(&self) {
        self.log.close();
    }

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.log.truncate_below(of, offset).await
    }
}
