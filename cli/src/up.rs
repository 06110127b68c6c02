//! `retrace up`: gate, log, ingest and query as one process.
//!
//! The parts know each other only through the log and the table, exactly as separate processes would. What starts last
//! stops first: the gate, so that no session loses its end; the query service; whoever signs heads, with a last word; ingest,
//! with a last commit; the log.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use retrace_access::{Directory, Keys, ServerIdentity, TokenFile, tls};
use retrace_eventlog::{EmbeddedLog, EmbeddedOptions, EventLog, InstanceStream};
use retrace_ingest::Ingest;
use retrace_lake::Table;
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proto::wire::InstanceStarted;
use retrace_proto::{Event, Id, Subject};
use retrace_proxy::{Gateway, GatewayLimits, GatewayParts, HeadSigner, Target, TargetEncryption, Workers};
use retrace_proxy_core::postgres::Recording;
use retrace_query::{Options as QueryOptions, Parts, QueryService};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::{self, Config};
use crate::heads_key;
use crate::output::Output;

/// Runs gate, log, ingest and query in this process until it is told to stop.
pub(crate) async fn up(config: Config) -> anyhow::Result<()> {
    quiet_panics();
    let keys = Keys::load(config.dir())?;
    let identity = ServerIdentity::in_dir(config.dir());
    let tokens = TokenFile::load(&config.tokens_file())?;
    let directory = Directory::new(config.principals.clone(), tokens, keys.mock.clone())?;
    let targets = targets(&config, &keys)?;
    let gate = bind(config.proxy_listen, "[proxy.postgres] listen").await?;
    let doors = Doors::bind(&config).await?;

    let log = open_log(&config).await?;
    let events: Arc<dyn EventLog> = log.clone();
    let stream_id = clock::new_id();
    let proxy_id = instance_name(stream_id);
    let instance = open_instance(&events, &config, &proxy_id, stream_id).await?;
    let table = Table::open_or_create(&config.lake_dir.to_string_lossy()).await?;
    let query = QueryService::new(Parts {
        log: events.clone(),
        table: table.clone(),
        directory: directory.clone(),
        instance: instance.clone(),
        masker: Masker::everything(fingerprint_key(&keys)),
        options: QueryOptions { head_keys: heads_key::trusted_keys(&keys)?, ..QueryOptions::default() },
    })?;
    let gateway = Arc::new(Gateway::new(GatewayParts {
        directory,
        targets,
        log: events.clone(),
        proxy_id,
        instance: instance.clone(),
        policy_version: config.policy_version().to_owned(),
        cancel_key: keys.cancel.clone(),
        fingerprint_key: fingerprint_key(&keys),
        tls: tls::server_tls(&identity.certificate, &identity.key)?,
        limits: GatewayLimits::default(),
    }));

    let ready = format!("ready postgres={} {}", gate.local_addr()?, doors.announced()?);
    let heads = HeadSigner {
        streams: gateway.open_streams(),
        instance: instance.clone(),
        key: heads_key::signing_key(&keys)?,
    };
    let [mut stop_gate, mut stop_query, mut stop_heads, mut stop_ingest] = [(); 4].map(|()| Stop::new());
    // Threads for sessions alone, so that no query or commit stands in their way, and so that what they cost can be seen.
    let workers = Workers::start(None).context("cannot start the gate's threads")?;
    let gate = retrace_proxy::serve(gateway, gate, workers, stop_gate.watch());
    let gate = tokio::spawn(async move {
        gate.await;
        Ok(())
    });
    let query = serve_query(query, doors, &identity, &mut stop_query)?;
    let heads = heads.run(stop_heads.wait());
    let heads = tokio::spawn(async move { Ok(heads.await?) });
    let ingest = Ingest::new(events, table, retrace_ingest::Options::default()).run(stop_ingest.wait());
    let ingest = tokio::spawn(async move { Ok(ingest.await?) });
    announce(&ready)?;

    let mut services = [
        Service { name: "the gate", task: gate },
        Service { name: "the query service", task: query },
        Service { name: "the signing of heads", task: heads },
        Service { name: "ingest", task: ingest },
    ];
    let stops = [&stop_gate, &stop_query, &stop_heads, &stop_ingest];
    let ended = wait_for_end(&mut services, &instance).await;
    let mut outcome = ended;
    for (service, stop) in services.iter_mut().zip(stops) {
        stop.now();
        outcome = outcome.and(service.join().await);
    }
    tokio::task::spawn_blocking(move || log.close()).await?;
    outcome
}

/// Where the evidence is asked.
struct Doors {
    grpc: TcpListener,
    postgres: Option<TcpListener>,
}

impl Doors {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let grpc = bind(config.query_listen, "[query.grpc] listen").await?;
        let postgres = match config.door_listen {
            Some(address) => Some(bind(address, "[query.postgres] listen").await?),
            None => None,
        };
        Ok(Self { grpc, postgres })
    }

    /// Where they are, as the ready line says it.
    fn announced(&self) -> anyhow::Result<String> {
        let mut announced = format!("grpc={}", self.grpc.local_addr()?);
        if let Some(postgres) = &self.postgres {
            announced.push_str(&format!(" evidence={}", postgres.local_addr()?));
        }
        Ok(announced)
    }
}

/// Starts the query service at its doors. Either that fails ends it.
fn serve_query(
    query: QueryService,
    doors: Doors,
    identity: &ServerIdentity,
    stop: &mut Stop,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let postgres = match doors.postgres {
        Some(listener) => {
            let tls = tls::server_config(&identity.certificate, &identity.key)?;
            Some(query.serve_postgres(listener, tls, stop.wait()))
        }
        None => None,
    };
    let grpc = query.serve(doors.grpc, identity.to_pem()?, stop.wait());
    Ok(tokio::spawn(async move {
        let postgres = async {
            if let Some(postgres) = postgres {
                postgres.await;
            }
            Ok(())
        };
        tokio::try_join!(grpc, postgres)?;
        Ok(())
    }))
}

/// A part of the process that runs until it is told to stop.
struct Service {
    name: &'static str,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    /// Waits for its end; one that has been waited for already has nothing more to say.
    async fn join(&mut self) -> anyhow::Result<()> {
        if self.task.is_finished() && self.name.is_empty() {
            return Ok(());
        }
        let name = std::mem::take(&mut self.name);
        match (&mut self.task).await {
            Ok(outcome) => outcome.with_context(|| format!("{name} ended")),
            Err(_) => Err(anyhow!("{name} panicked")),
        }
    }
}

/// Tells one service to stop.
struct Stop(watch::Sender<bool>);

impl Stop {
    fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    fn now(&self) {
        self.0.send_replace(true);
    }

    fn watch(&mut self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    fn wait(&mut self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.watch();
        async move {
            // An error means that the process has let go of the sender: stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

/// Waits for a signal, or for a service that ends by itself: none should, so its end is the end of the process.
async fn wait_for_end(services: &mut [Service; 4], instance: &InstanceStream) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let [gate, query, heads, ingest] = services;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        outcome = gate.join() => outcome.and(Err(anyhow!("the gate ended by itself"))),
        outcome = query.join() => outcome.and(Err(anyhow!("the query service ended by itself"))),
        outcome = heads.join() => outcome.and(Err(anyhow!("the signing of heads ended by itself"))),
        outcome = ingest.join() => outcome.and(Err(anyhow!("ingest ended by itself"))),
        () = poisoned(instance) => {
            Err(anyhow!("the log failed the stream of this process; start again once the log's folder can be written"))
        }
    }
}

/// Resolves when the instance's stream is poisoned: reads and refusals could not be recorded any more.
async fn poisoned(instance: &InstanceStream) {
    let mut every_second = tokio::time::interval(std::time::Duration::from_secs(1));
    while !instance.is_poisoned() {
        every_second.tick().await;
    }
}

async fn bind(address: std::net::SocketAddr, field: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{field}: cannot listen on {address}: is something else listening there?"))
}

async fn open_log(config: &Config) -> anyhow::Result<Arc<EmbeddedLog>> {
    let folder = config.log_dir.clone();
    let opened =
        tokio::task::spawn_blocking(move || EmbeddedLog::open(&folder, &EmbeddedOptions::default())).await?;
    Ok(Arc::new(opened?))
}

/// Begins the stream of this process start: that it started, and under which policy.
async fn open_instance(
    log: &Arc<dyn EventLog>,
    config: &Config,
    name: &str,
    stream_id: Id,
) -> anyhow::Result<Arc<InstanceStream>> {
    let instance = InstanceStream::open(log.clone(), name.to_owned(), clock::now_unix_us, stream_id);
    let started = InstanceStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: ["proxy", "ingest", "query"].map(str::to_owned).to_vec(),
    };
    instance.record(Subject::default(), Event::instance_started(started)).await?;
    let loaded = Event::policy_loaded(config.policy_version().to_owned());
    instance.record(Subject::default(), loaded).await?;
    Ok(Arc::new(instance))
}

/// No two starts share it, which a process id alone does not promise: in a container it is always the same.
fn instance_name(stream_id: Id) -> String {
    format!("up-{stream_id}")
}

fn fingerprint_key(keys: &Keys) -> FingerprintKey {
    FingerprintKey::new(keys.mask.expose())
}

fn targets(config: &Config, keys: &Keys) -> anyhow::Result<Vec<Target>> {
    let target = |target: &config::Target| {
        let named = || format!("{}: target `{}`", config.file().display(), target.name);
        let password =
            target.password.resolve(config.dir()).with_context(|| format!("{}: password", named()))?;
        let encryption = match &target.tls {
            Some(tls) => TargetEncryption::tls(tls, &target.host, config.dir()).with_context(named)?,
            None => TargetEncryption::Cleartext,
        };
        let rules = config.mask_rules(&target.name);
        Ok(Target {
            name: target.name.clone(),
            address: address(&target.host, target.port),
            database: target.database.clone(),
            user: target.user.clone(),
            password,
            encryption,
            auth: target.auth,
            protocol_minor_max: target.protocol_minor_max,
            durability: target.durability,
            retention_class: target.retention_class,
            masker: Arc::new(Masker::new(&rules, fingerprint_key(keys))),
            columns: config.column_masks(&target.name),
            recording: Recording {
                responses: target.record.responses,
                beyond: target.record.beyond,
                key: HashKey::new(keys.mask.expose()),
            },
            command_recorded_bytes_max: target.record.copy_data_bytes_max,
        })
    };
    config.targets.iter().map(target).collect()
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// One line for whoever waits for it.
fn announce(ready: &str) -> anyhow::Result<()> {
    let mut out = Output::stdout();
    out.line(ready)?;
    out.flush()?;
    Ok(())
}

/// A panic's message can quote the value that caused it, so only its place is told.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(place, "a part of this process panicked");
    }));
}
