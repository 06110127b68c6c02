//! `retrace up`, `retrace proxy`, `retrace ingest`, `retrace query`: the services, all in one process or one each.
//!
//! The parts know each other only through the log and the table, in one process exactly as in several. What starts last
//! stops first: the gate, so that no session loses its end; the query service; the reading of control records; whoever signs
//! heads, with a last word; ingest, with a last commit; the log; and what the gate has from a secret store goes back.

mod admission;

mod control;

mod reload;

mod run;

mod targets;

mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use retrace_eventlog::{EventLog, InstanceStream, WatchedLog};
use retrace_ingest::{Ingest, RetentionOptions};
use retrace_lake::Table;
use retrace_proto::wire::InstanceStarted;
use retrace_proto::{Event, Id, Subject};
use retrace_vault::Vault;
use tokio::net::TcpListener;

use crate::clock;
use crate::config::{self, Config};
use crate::control_keys;
use crate::health::Health;
use crate::output::Output;
use crate::storage;
use admission::Admission;
use reload::Reloader;
pub(crate) use run::Drain;
use run::{Service, Stop, run};

/// How long the log may take for the first records of a process.
const LOG_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Clients come in and go on to targets.
    Proxy,
    /// Records of the log become rows of the table.
    Ingest,
    /// Readers ask the evidence.
    Query,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Proxy, Self::Ingest, Self::Query];

    fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Ingest => "ingest",
            Self::Query => "query",
        }
    }
}

/// Runs these services in this process until it is told to stop.
pub(crate) async fn serve(config: Config, roles: &[Role]) -> anyhow::Result<()> {
    quiet_panics();
    // Credentials of targets are a gate's alone. Nothing is asked of the store yet.
    let vault = config.vault.clone().filter(|_| roles.contains(&Role::Proxy)).map(Vault::new);
    let outcome = Box::pin(serve_with(config, roles, vault.as_ref())).await;
    if let Some(vault) = vault {
        // Whichever way it ended, what the gate has from the store goes back.
        vault.stop().await;
    }
    outcome
}

async fn serve_with(config: Config, roles: &[Role], vault: Option<&Vault>) -> anyhow::Result<()> {
    if let (config::Log::Embedded(folder), [_]) = (&config.log, roles) {
        bail!(
            "the log in {} belongs to one process, so its services run in one: use `retrace up`, or put the log on Kafka \
             with [log.kafka]",
            folder.display()
        );
    }
    // What the configuration names is there, and the addresses are free, before anything is opened or written.
    let admission = match roles {
        [Role::Ingest] => None,
        _ => Some(Box::pin(Admission::load(&config, roles, vault)).await?),
    };
    let listeners = Listeners::bind(&config, roles).await?;
    let ready = listeners.announced()?;

    let health = Health::new(name_of(roles));
    if let Some(vault) = vault {
        vault.register(&mut health.registry());
    }
    if let Some(listener) = listeners.health {
        health.serve(listener);
    }
    let starting = health.readiness().part("process");
    let log = WatchedLog::new(storage::log(&config).await?);
    let log_watch = log.watch();
    let log: Arc<dyn EventLog> = Arc::new(log);
    let stream_id = clock::new_id();
    let name = instance_name(roles, stream_id);
    let instance = open_instance(&log, &config, roles, &name, stream_id).await?;
    watch::log(&health, log_watch, Arc::clone(&instance));
    let mut reloader = Reloader::new(&config, &instance, &health);
    let process = Process { config, log, name, instance, health };
    let mut services = match admission {
        Some(admission) => process.let_in(admission, listeners.gate, listeners.doors, &mut reloader).await?,
        None => Vec::new(),
    };
    if roles.contains(&Role::Ingest) {
        services.push(process.ingest().await?);
    }
    reloader.start()?;
    starting.ready();
    announce(&ready)?;
    let outcome = run(services, &process.instance, process.health.readiness(), process.config.drain()).await;
    let log = process.log;
    tokio::task::spawn_blocking(move || log.close()).await?;
    outcome
}

/// Where the process can be reached.
struct Listeners {
    gate: Option<TcpListener>,
    doors: Option<Doors>,
    health: Option<TcpListener>,
}

/// Where the evidence is asked.
struct Doors {
    grpc: TcpListener,
    postgres: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config, roles: &[Role]) -> anyhow::Result<Self> {
        let mut listeners = Self { gate: None, doors: None, health: None };
        if let Some(address) = config.health_listen {
            listeners.health = Some(bind(address, "[health] listen").await?);
        }
        if roles.contains(&Role::Proxy) {
            listeners.gate = Some(bind(config.proxy_listen, "[proxy.postgres] listen").await?);
        }
        if roles.contains(&Role::Query) {
            let grpc = bind(config.query_listen, "[query.grpc] listen").await?;
            let postgres = match config.door_listen {
                Some(address) => Some(bind(address, "[query.postgres] listen").await?),
                None => None,
            };
            listeners.doors = Some(Doors { grpc, postgres });
        }
        Ok(listeners)
    }

    /// The line that says that everything is served, and where.
    fn announced(&self) -> anyhow::Result<String> {
        let doors = self.doors.as_ref();
        let listeners = [
            ("postgres", self.gate.as_ref()),
            ("grpc", doors.map(|doors| &doors.grpc)),
            ("evidence", doors.and_then(|doors| doors.postgres.as_ref())),
            ("health", self.health.as_ref()),
        ];
        let mut line = "ready".to_owned();
        for (name, listener) in listeners {
            if let Some(listener) = listener {
                line.push_str(&format!(" {name}={}", listener.local_addr()?));
            }
        }
        Ok(line)
    }
}

/// What the services of one process share.
struct Process {
    config: Config,
    log: Arc<dyn EventLog>,
    name: String,
    instance: Arc<InstanceStream>,
    health: Health,
}

impl Process {
    async fn ingest(&self) -> anyhow::Result<Service> {
        let table = self.table().await?;
        let mut ingest =
            Ingest::new(Arc::clone(&self.log), table.clone(), retrace_ingest::Options::default())?
                .with_dead_letters_below(self.config.dead_letters_below.clone());
        for (at, below) in &self.config.dead_letters_below {
            tracing::warn!(%at, below, "below this offset, records of later releases are kept as dead letters");
        }
        let periods = self.config.retention;
        if !periods.are_endless() {
            let keys = control_keys::trusted_to_hold(self.config.dir())?;
            let (instance, clock) = (Arc::clone(&self.instance), clock::now_unix_us as fn() -> i64);
            ingest = ingest.with_retention(RetentionOptions { periods, keys, instance, clock });
        }
        watch::ingest(&self.health, Arc::clone(&self.log), &ingest, table);
        let stop = Stop::new();
        let running = ingest.run(stop.wait());
        Ok(Service::start("ingest", stop, async move { Ok(running.await?) }))
    }

    async fn table(&self) -> anyhow::Result<Table> {
        storage::table(&self.config).await
    }
}

async fn bind(address: std::net::SocketAddr, field: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{field}: cannot listen on {address}: is something else listening there?"))
}

/// Begins the stream of this process start: that it started, and under which policy.
async fn open_instance(
    log: &Arc<dyn EventLog>,
    config: &Config,
    roles: &[Role],
    name: &str,
    stream_id: Id,
) -> anyhow::Result<Arc<InstanceStream>> {
    let instance = InstanceStream::open(log.clone(), name.to_owned(), clock::now_unix_us, stream_id);
    let started = InstanceStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: roles.iter().map(|role| role.name().to_owned()).collect(),
    };
    let started = instance.record(Subject::default(), Event::instance_started(started));
    let loaded = Event::policy_loaded(config.policy_version().to_owned());
    let loaded = instance.record(Subject::default(), loaded);
    let durable = async { started.await.and(loaded.await) };
    tokio::time::timeout(LOG_WAIT_MAX, durable).await.with_context(|| {
        format!(
            "the log took no record within {} s: on Kafka, see that as many brokers are up as `min.insync.replicas` asks for",
            LOG_WAIT_MAX.as_secs()
        )
    })??;
    Ok(Arc::new(instance))
}

/// No two starts share it, which a process id alone does not promise: in a container it is always the same.
fn instance_name(roles: &[Role], stream_id: Id) -> String {
    format!("{}-{stream_id}", name_of(roles))
}

fn name_of(roles: &[Role]) -> &'static str {
    match roles {
        [role] => role.name(),
        _ => "up",
    }
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
