//! The catalogue of a target with masked columns, read through the gate itself: in a session of the principal `retrace`,
//! recorded like any other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use retrace_policy::catalogue::{CatalogueBuilder, CatalogueTable, Resolved, queries};
use retrace_proto::wire::{self, PrincipalKind};
use retrace_proto::{Event, Masked, Subject};
use retrace_proxy_core::postgres::Columns;
use retrace_proxy_core::postgres::frame::{Framer, Reader, TARGET_FRAME_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::dial;
use crate::gateway::{Gateway, Target};
use crate::session::{self, Entrance};
use crate::stage::Stage;
use crate::startup::StartupParameters;

/// The principal that reads catalogues. Nobody else may have its name.
pub const CATALOGUE_PRINCIPAL: &str = "retrace";

/// How old a catalogue may be when a statement is judged by it.
const CATALOGUE_AGE_MAX: Duration = Duration::from_secs(5);

/// How long reading it may take.
const READ_WAIT_MAX: Duration = Duration::from_secs(20);

/// What of the session's bytes may wait between its two ends, in bytes.
const PIPE_BYTES_MAX: usize = 256 * 1024;

/// Keeps the catalogue of one target.
#[derive(Debug)]
pub(crate) struct Keeper {
    target: Arc<Target>,
    latest: RwLock<Latest>,
    /// Counts how often what was read became old.
    old: AtomicU64,
    reading: Mutex<Option<Reading>>,
}

/// The session that reads the catalogue: its client's end, and its task.
#[derive(Debug)]
struct Reading {
    stream: DuplexStream,
    session: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Latest {
    columns: Option<Arc<Columns>>,
    /// When its reading began, and the count of `old` then.
    read: Option<(Instant, u64)>,
}

/// Why a catalogue cannot be used. No variant holds a value of the target's.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the target is not ready: {0}")]
    Dial(#[from] dial::DialError),
    #[error("the session that reads it ended ({})", .0.kind())]
    Io(#[from] std::io::Error),
    #[error("the target does not answer as a PostgreSQL server does")]
    Protocol,
    #[error("the target refuses to be asked (SQLSTATE {0})")]
    Refused(String),
    #[error("it was not read in time")]
    Deadline,
    #[error(transparent)]
    Catalogue(#[from] retrace_policy::catalogue::CatalogueError),
    #[error(transparent)]
    Unresolved(#[from] retrace_policy::catalogue::UnresolvedMask),
}

impl Keeper {
    pub(crate) fn new(target: Arc<Target>) -> Self {
        Self { target, latest: RwLock::default(), old: AtomicU64::new(0), reading: Mutex::new(None) }
    }

    /// What was read before now is out of date.
    pub(crate) fn is_old(&self) {
        self.old.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends the session that reads the catalogue, and waits until its end is on record.
    pub(crate) async fn close(&self, wait_max: Duration) {
        if let Some(Reading { stream, session }) = self.reading.lock().await.take() {
            drop(stream);
            let _ = timeout(wait_max, session).await;
        }
    }

    /// The catalogue, if it is fresh.
    pub(crate) fn at_hand(&self) -> Option<Arc<Columns>> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        let (read_at, old) = latest.read?;
        let fresh = read_at.elapsed() < CATALOGUE_AGE_MAX && old == self.old.load(Ordering::Acquire);
        latest.columns.clone().filter(|_| fresh)
    }

    /// The catalogue, read anew if it is not fresh; `None` if it cannot be read or lacks a masked column.
    pub(crate) async fn current(&self, gateway: &Arc<Gateway>) -> Option<Arc<Columns>> {
        let asked_at = Instant::now();
        let mut connection = self.reading.lock().await;
        if let Some(columns) = self.at_hand() {
            return Some(columns);
        }
        if let Some(columns) = self.read_since(asked_at) {
            return columns;
        }
        let began = (Instant::now(), self.old.load(Ordering::Acquire));
        let read = timeout(READ_WAIT_MAX, self.read(gateway, &mut connection)).await;
        let columns = match read.unwrap_or(Err(ReadError::Deadline)) {
            Ok(columns) => Some(Arc::new(columns)),
            Err(error) => {
                *connection = None;
                tracing::error!(
                    target = self.target.name, %error,
                    "the catalogue by which columns are masked cannot be used; statements are refused"
                );
                None
            }
        };
        let changed = columns.as_ref().filter(|columns| !self.has_version(&columns.version));
        if let Some(columns) = changed {
            self.record_change(gateway, columns).await?;
        }
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        *latest = Latest { columns: columns.clone(), read: Some(began) };
        columns
    }

    /// What was read since then, which may be that it cannot be read: whoever waits meanwhile is answered alike.
    fn read_since(&self, asked_at: Instant) -> Option<Option<Arc<Columns>>> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        let (read_at, old) = latest.read?;
        let counts = read_at >= asked_at && old == self.old.load(Ordering::Acquire);
        counts.then(|| latest.columns.clone())
    }

    fn has_version(&self, version: &str) -> bool {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.columns.as_ref().is_some_and(|columns| columns.version == version)
    }

    /// What statements are judged by is on record before any is. `None` if it cannot be recorded.
    async fn record_change(&self, gateway: &Gateway, columns: &Columns) -> Option<()> {
        let about = Subject {
            principal: Some(principal()),
            target: self.target.name.clone(),
            protocol: wire::Protocol::Postgres,
            ..Subject::default()
        };
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let event = Event::catalogue_changed(wire::CatalogueChanged {
            catalogue_version: columns.version.clone(),
            relations: bounded(columns.catalogue.relation_count()),
            masked_columns: bounded(columns.resolved.column_count()),
        });
        // Whoever waits for the catalogue waits for this too, so not for ever.
        match timeout(READ_WAIT_MAX, gateway.instance.record(about, event)).await {
            Ok(Ok(_)) => Some(()),
            Ok(Err(error)) => {
                tracing::error!(target = self.target.name, %error, "a new catalogue could not be recorded");
                None
            }
            Err(_) => {
                tracing::error!(target = self.target.name, "a new catalogue was not recorded in time");
                None
            }
        }
    }

    async fn read(
        &self,
        gateway: &Arc<Gateway>,
        connection: &mut Option<Reading>,
    ) -> Result<Columns, ReadError> {
        // An idle connection may have ended since.
        for attempt in 0..2 {
            // It goes back only whole: whoever waits may go away in the middle of an answer.
            let mut reading = match connection.take() {
                Some(reading) => reading,
                None => self.open(gateway).await?,
            };
            match ask(&mut reading.stream).await {
                Err(ReadError::Io(_)) if attempt == 0 => {}
                outcome => {
                    let catalogue = outcome?;
                    *connection = Some(reading);
                    return self.resolve(catalogue);
                }
            }
        }
        Err(ReadError::Protocol)
    }

    fn resolve(&self, catalogue: CatalogueBuilder) -> Result<Columns, ReadError> {
        let catalogue = catalogue.finish();
        let resolved = Resolved::new(&self.target.columns, &catalogue)?;
        let version = catalogue.version().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Columns { catalogue, resolved, version })
    }

    /// Opens the session, and waits until it is ready.
    async fn open(&self, gateway: &Arc<Gateway>) -> Result<Reading, ReadError> {
        let startup = StartupParameters {
            parameters: [
                ("client_encoding", "UTF8"),
                ("application_name", CATALOGUE_PRINCIPAL),
                ("options", "-c search_path=pg_catalog -c statement_timeout=15000 -c default_transaction_read_only=on"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            ..StartupParameters::default()
        };
        let dialled = timeout(gateway.limits.dial_wait_max, dial::dial(&self.target, &startup)).await;
        let dialled = dialled.unwrap_or(Err(dial::DialError::Deadline))?;
        let entrance = Entrance {
            principal: principal(),
            loaded: gateway.latest.now(),
            target: self.target.clone(),
            asserted: Masked::from_iter([]),
            client_address: String::new(),
            tls_version: String::new(),
            protocol_minor: 0,
            rules: None,
        };
        let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES_MAX);
        let gateway = gateway.clone();
        let session = tokio::spawn(async move {
            // It ends with its client, which is us.
            let (_stage, stages) = watch::channel(Stage::Serving);
            session::run(&gateway, theirs, entrance, dialled, stages).await;
        });
        read_answer(&mut ours, |_, _| Ok(())).await?;
        Ok(Reading { stream: ours, session })
    }
}

fn principal() -> wire::Principal {
    wire::Principal {
        name: CATALOGUE_PRINCIPAL.to_owned(),
        kind: PrincipalKind::Service.into(),
        ..wire::Principal::default()
    }
}

/// Asks everything as one query, which is one moment of the target's.
async fn ask(stream: &mut DuplexStream) -> Result<CatalogueBuilder, ReadError> {
    let version = server_version_num(stream).await?;
    let queries = queries(version);
    let mut sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned();
    for query in &queries {
        sql.push_str(";\n");
        sql.push_str(query.sql);
    }
    sql.push_str(";\nCOMMIT");
    send_query(stream, &sql).await?;
    let mut builder = CatalogueBuilder::default();
    let mut tables = queries.iter().map(|query| query.table);
    let mut table: Option<CatalogueTable> = None;
    read_answer(stream, |tag, body| {
        match tag {
            b'T' => table = Some(tables.next().ok_or(ReadError::Protocol)?),
            b'D' => with_cells(body, |cells| Ok(builder.row(table.ok_or(ReadError::Protocol)?, cells)?))?,
            _ => {}
        }
        Ok(())
    })
    .await?;
    if tables.next().is_some() {
        return Err(ReadError::Protocol);
    }
    Ok(builder)
}

async fn server_version_num(stream: &mut DuplexStream) -> Result<u32, ReadError> {
    send_query(stream, "SHOW server_version_num").await?;
    let mut version = None;
    read_answer(stream, |tag, body| {
        if tag == b'D' {
            with_cells(body, |cells| {
                version = cells.first().copied().flatten().and_then(|text| text.parse().ok());
                Ok(())
            })?;
        }
        Ok(())
    })
    .await?;
    version.ok_or(ReadError::Protocol)
}

async fn send_query(stream: &mut DuplexStream, sql: &str) -> Result<(), ReadError> {
    let length = u32::try_from(sql.len() + 5).expect("a short text");
    let mut message = vec![b'Q'];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    Ok(stream.write_all(&message).await?)
}

/// Hands every message to `each`, up to ReadyForQuery.
async fn read_answer(
    stream: &mut DuplexStream,
    mut each: impl FnMut(u8, &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut framer = Framer::new(TARGET_FRAME_BYTES_MAX);
    let mut buffer = vec![0; PIPE_BYTES_MAX];
    loop {
        while let Some(frame) = framer.poll_frame().map_err(|_| ReadError::Protocol)? {
            match frame.tag() {
                b'Z' => return Ok(()),
                b'E' => return Err(ReadError::Refused(dial::sqlstate(frame.body()))),
                tag => each(tag, frame.body())?,
            }
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            count => framer.push(&buffer[..count]),
        }
    }
}

fn with_cells(
    body: &[u8],
    take: impl FnOnce(&[Option<&str>]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut reader = Reader::new(body);
    let count = reader.count(4).map_err(|_| ReadError::Protocol)?;
    let mut cells = Vec::with_capacity(count);
    for _ in 0..count {
        let value = reader.value().map_err(|_| ReadError::Protocol)?;
        cells.push(value.map(std::str::from_utf8).transpose().map_err(|_| ReadError::Protocol)?);
    }
    take(&cells)
}
