//! `retrace up`, `retrace proxy`, `retrace ingest`, `retrace query`: the services, all in one process or one each.
//!
//! The parts know each other only through the log and the table, in one process exactly as in several. What starts last
//! stops first: the gate, so that no session loses its end; the query service; the reading of control records; whoever signs
//! heads, with a last word; ingest, with a last commit; the log.

mod control;

mod reload;

mod run;

mod targets;

mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use retrace_access::{Directory, Keys, ServerIdentity, TokenFile, tls};
use retrace_eventlog::{ControlLag, EventLog, InstanceStream, WatchedLog};
use retrace_ingest::Ingest;
use retrace_lake::Table;
use retrace_policy::mask::Masker;
use retrace_proto::wire::{InstanceStarted, KeyRole};
use retrace_proto::{Event, Id, Subject};
use retrace_proxy::{Control, Gateway, GatewayLimits, GatewayParts, HeadSigner, Target, Workers};
use retrace_query::{GRPC_ALPN, Options as QueryOptions, Parts, QueryService};
use tokio::net::TcpListener;

use crate::clock;
use crate::config::{self, Config};
use crate::heads_key;
use crate::health::Health;
use crate::output::Output;
use crate::storage;
use control::Obeying;
use reload::Reloader;
pub(crate) use run::Drain;
use run::{Service, Stop, run};
use targets::{fingerprint_key, targets};

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
    if let (config::Log::Embedded(folder), [_]) = (&config.log, roles) {
        bail!(
            "the log in {} belongs to one process, so its services run in one: use `retrace up`, or put the log on Kafka \
             with [log.kafka]",
            folder.display()
        );
    }
    // What the configuration names is there, and the addresses are free, before anything is opened or written.
    let keys = Keys::load(config.dir())?;
    let tokens = TokenFile::load(&config.tokens_file())?;
    let directory = Directory::new(config.principals.clone(), tokens, keys.mock.clone())?;
    let targets = targets(&config, &keys)?;
    let listeners = Listeners::bind(&config, roles).await?;
    let ready = listeners.announced()?;

    let health = Health::new(name_of(roles));
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
    let mut reloader = Reloader::new(&config, &keys, &directory, &instance, &health);
    let process = Process { config, keys, directory, log, name, instance, health };
    let (follower, lag) = control::follower(&process.log);
    if roles != [Role::Ingest] {
        watch::control(&process.health, lag.clone());
    }
    let gateway = match listeners.gate {
        Some(_) => Some(process.gateway(targets, lag.clone(), &mut reloader)?),
        None => None,
    };
    // Nobody is let in before it is known who may not come in any more.
    let control = match roles {
        [Role::Ingest] => None,
        _ => Some(process.obey(gateway.clone())?.start(follower).await?),
    };
    let mut services = Vec::new();
    let mut heads = None;
    if let (Some(listener), Some(gateway)) = (listeners.gate, gateway) {
        heads = Some(process.heads(&gateway)?);
        services.push(process.gate(listener, gateway)?);
    }
    if let Some(doors) = listeners.doors {
        services.push(process.query(doors, lag, &mut reloader).await?);
    }
    services.extend(control);
    services.extend(heads);
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
    keys: Keys,
    directory: Directory,
    log: Arc<dyn EventLog>,
    name: String,
    instance: Arc<InstanceStream>,
    health: Health,
}

impl Process {
    fn gateway(
        &self,
        targets: Vec<Target>,
        lag: ControlLag,
        reloader: &mut Reloader,
    ) -> anyhow::Result<Arc<Gateway>> {
        let identity = ServerIdentity::in_dir(self.config.dir());
        let writer = control::writer(&self.log, &self.name, &self.keys, KeyRole::Proxy)?;
        let gateway = Arc::new(Gateway::new(GatewayParts {
            directory: self.directory.clone(),
            targets,
            log: Arc::clone(&self.log),
            proxy_id: self.name.clone(),
            instance: Arc::clone(&self.instance),
            policy_version: self.config.policy_version().to_owned(),
            control: Control { writer, lag },
            cancel_key: self.keys.cancel.clone(),
            fingerprint_key: fingerprint_key(&self.keys),
            tls: tls::server_tls(&identity.certificate, &identity.key)?,
            limits: GatewayLimits::default(),
        }));
        reloader.gateway(Arc::clone(&gateway));
        gateway.metrics().register(&mut self.health.registry());
        Ok(gateway)
    }

    fn gate(&self, listener: TcpListener, gateway: Arc<Gateway>) -> anyhow::Result<Service> {
        // Threads for sessions alone, so that no query or commit stands in their way, and so that what they cost can be seen.
        let workers = Workers::start(None).context("cannot start the gate's threads")?;
        let stop = Stop::new();
        let gate = retrace_proxy::serve(gateway, listener, workers, stop.watch());
        let gate = Service::start("the gate", stop, async move {
            gate.await;
            Ok(())
        });
        Ok(gate.draining())
    }

    /// The signing of heads, which outlives the sessions.
    fn heads(&self, gateway: &Gateway) -> anyhow::Result<Service> {
        let heads = HeadSigner {
            streams: gateway.open_streams(),
            instance: Arc::clone(&self.instance),
            key: heads_key::signing_key(&self.keys)?,
        };
        let stop = Stop::new();
        let heads = heads.run(stop.wait());
        Ok(Service::start("the signing of heads", stop, async move { Ok(heads.await?) }))
    }

    fn obey(&self, gateway: Option<Arc<Gateway>>) -> anyhow::Result<Obeying> {
        Obeying::new(&self.log, &self.keys, self.directory.clone(), gateway)
    }

    /// The query service at its doors. Either that fails ends it.
    async fn query(&self, doors: Doors, lag: ControlLag, reloader: &mut Reloader) -> anyhow::Result<Service> {
        let table = self.table().await?;
        watch::query(&self.health, Arc::clone(&self.log), table.clone());
        let query = QueryService::new(Parts {
            log: Arc::clone(&self.log),
            table,
            directory: self.directory.clone(),
            control: control::for_orders(&self.log, &self.name, &self.keys, lag)?,
            instance: Arc::clone(&self.instance),
            masker: Masker::everything(fingerprint_key(&self.keys)),
            options: QueryOptions {
                head_keys: heads_key::trusted_keys(&self.keys)?,
                ..QueryOptions::default()
            },
        })?;
        query.reader().register(&mut self.health.registry());
        let stop = Stop::new();
        let postgres = match doors.postgres {
            Some(listener) => Some(query.serve_postgres(listener, reloader.door(&[])?, stop.end())),
            None => None,
        };
        let grpc = query.serve(doors.grpc, reloader.door(&[GRPC_ALPN])?, stop.end());
        Ok(Service::start("the query service", stop, async move {
            let postgres = async {
                if let Some(postgres) = postgres {
                    postgres.await;
                }
                Ok(())
            };
            tokio::try_join!(grpc, postgres)?;
            Ok(())
        })
        .draining())
    }

    async fn ingest(&self) -> anyhow::Result<Service> {
        let table = self.table().await?;
        let ingest = Ingest::new(Arc::clone(&self.log), table.clone(), retrace_ingest::Options::default())?;
        watch::ingest(&self.health, &ingest, table);
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
