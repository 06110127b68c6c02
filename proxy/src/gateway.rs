use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use retrace_access::{
    CredentialSource, Directory, ListenerTls, Principals, Secret, ServerTls, TargetAuth, TargetTls, TlsError,
};
use retrace_eventlog::{Append, EventLog, InstanceStream};
use retrace_policy::catalogue::ColumnMask;
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_policy::rules::Policy;
use retrace_proto::wire::{self, Durability, RetentionClass, login_refused};
use retrace_proto::{Event, Masked, Subject};
use retrace_proxy_core::Guesses;
use retrace_proxy_core::postgres::{Recording, SessionLimits};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::attempts::Attempts;
use crate::clock;
use crate::control::{CancelsPassed, Control};
use crate::limits::{AllBuckets, SourceLimits};
use crate::loaded::{Latest, Loaded};
use crate::lobby::Lobby;
use crate::metrics::ProxyMetrics;
use crate::parser::Parser;
use crate::refusals::{Counted, Refusals};
use crate::registry::Registry;
use crate::reviews::Book;
use crate::seats::Seats;
use crate::streams::OpenStreams;

/// The protocol's name inside TLS (ALPN), by which a client of another protocol shows.
pub(crate) const ALPN: &[u8] = b"postgresql";

/// A PostgreSQL server behind the gate.
#[derive(Debug)]
pub struct Target {
    /// What clients call it: the name of the database they connect to.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// The database it is there.
    pub database: String,
    /// Whom the gate logs in as, and by what.
    pub credential: CredentialSource,
    /// How the gate may prove itself.
    pub auth: TargetAuth,
    /// The newest minor version of protocol 3 to ask for: 0, or 2 for longer cancel keys.
    pub protocol_minor_max: u16,
    /// How the connection is encrypted.
    pub encryption: TargetEncryption,
    /// What its sessions wait for.
    pub durability: Durability,
    /// How long the lake keeps their events.
    pub retention_class: RetentionClass,
    /// What detectors mask.
    pub masker: Arc<Masker>,
    /// The masks of columns.
    pub columns: Vec<ColumnMask>,
    /// How much is recorded.
    pub recording: Recording,
    /// Data of one command that is recorded, in bytes; `recording` says what becomes of more.
    pub command_recorded_bytes_max: u64,
}

/// How the gate's connection to a target is encrypted.
#[derive(Clone, Debug)]
pub enum TargetEncryption {
    /// Not at all.
    Cleartext,
    /// By TLS.
    Tls(TargetTlsLink),
}

/// TLS with one target, ready for use.
#[derive(Clone)]
pub struct TargetTlsLink {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
    /// Whether TLS begins without a question in cleartext.
    pub(crate) direct: bool,
    /// Whether the target must prove who it is.
    pub(crate) verifies: bool,
}

impl TargetEncryption {
    /// TLS as configured, with a target at this host. A key by reference with a relative path counts from `base_dir`.
    ///
    /// # Errors
    /// A file that cannot be used, or a name that no certificate can have.
    pub fn tls(tls: &TargetTls, host: &str, base_dir: &Path) -> Result<Self, TlsError> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        let server_name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        let mut config = tls.client_config(base_dir)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let link = TargetTlsLink {
            config: Arc::new(config),
            server_name,
            direct: tls.direct,
            verifies: tls.verifies(),
        };
        Ok(Self::Tls(link))
    }
}

impl fmt::Debug for TargetTlsLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetTlsLink")
            .field("direct", &self.direct)
            .field("verifies", &self.verifies)
            .finish_non_exhaustive()
    }
}

/// Limits of one proxy.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Sessions at once. Who logs in beyond them is refused with a sentence.
    pub sessions_max: usize,
    /// Connections at once that are not logged in yet. A further one takes the place of whoever has waited longest.
    pub logins_max: usize,
    /// From accepting a connection to knowing who it is.
    pub login_wait_max: Duration,
    /// From dialling a target to its being ready.
    pub dial_wait_max: Duration,
    /// How long a client may take to take the last bytes of its session.
    pub close_wait_max: Duration,
    /// Limits of each session.
    pub session: SessionLimits,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            sessions_max: 2_000,
            logins_max: 512,
            login_wait_max: Duration::from_secs(20),
            dial_wait_max: Duration::from_secs(10),
            close_wait_max: Duration::from_secs(30),
            session: SessionLimits::default(),
        }
    }
}

/// What a proxy is made of.
#[derive(Debug)]
pub struct GatewayParts {
    /// Who may come in.
    pub directory: Directory,
    /// Where to.
    pub targets: Vec<Target>,
    /// Where evidence goes.
    pub log: Arc<dyn EventLog>,
    /// The stream of this process start.
    pub instance: Arc<InstanceStream>,
    /// The name of this process start.
    pub proxy_id: String,
    /// The rules, over these principals and targets.
    pub policy: Policy,
    /// Hash of the configuration that decides.
    pub policy_version: String,
    /// The control topic.
    pub control: Control,
    /// The key of cancel keys.
    pub cancel_key: Secret,
    /// The key of fingerprints.
    pub fingerprint_key: FingerprintKey,
    /// The key of hashes over what grants are for, the same at every proxy of the gateway.
    pub grants_key: HashKey,
    /// The TLS of the client side.
    pub tls: ServerTls,
    /// Limits.
    pub limits: GatewayLimits,
    /// What may come from one source.
    pub source_limits: SourceLimits,
}

/// What of a proxy may change while it runs.
#[derive(Debug)]
pub struct Reload {
    /// Who may come in.
    pub principals: Principals,
    /// Where to.
    pub targets: Vec<Target>,
    /// The rules, over these principals and targets.
    pub policy: Policy,
    /// Hash of the configuration that decides.
    pub policy_version: String,
    /// The TLS of the client side.
    pub tls: ServerTls,
    /// What may come from one source.
    pub source_limits: SourceLimits,
}

/// A proxy, shared by all of its sessions.
pub struct Gateway {
    pub(crate) directory: Directory,
    pub(crate) latest: Latest,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) instance: Arc<InstanceStream>,
    pub(crate) proxy_id: String,
    pub(crate) control: Control,
    pub(crate) registry: Registry,
    pub(crate) reviews: Book,
    pub(crate) grants_key: HashKey,
    pub(crate) cancels_passed: CancelsPassed,
    pub(crate) streams: OpenStreams,
    /// For what a client says of itself before there is a target.
    pub(crate) masks_everything: Masker,
    /// For what the gate itself asks.
    pub(crate) masks_nothing: Arc<Masker>,
    pub(crate) parser: Arc<Parser>,
    /// By principal and target.
    guesses: Mutex<HashMap<(String, String), Arc<Guesses>>>,
    pub(crate) tls: ListenerTls,
    pub(crate) limits: GatewayLimits,
    pub(crate) seats: Seats,
    pub(crate) lobby: Lobby,
    pub(crate) attempts: Attempts,
    pub(crate) buckets: AllBuckets,
    pub(crate) refusals: Refusals,
    pub(crate) metrics: ProxyMetrics,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("proxy_id", &self.proxy_id).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: GatewayParts) -> Self {
        Self {
            latest: Latest::new(Loaded::new(
                parts.targets,
                parts.policy,
                parts.policy_version,
                parts.source_limits,
            )),
            parser: Parser::start(),
            guesses: Mutex::default(),
            masks_nothing: Arc::new(Masker::new(&[], parts.fingerprint_key.clone())),
            directory: parts.directory,
            log: parts.log,
            instance: parts.instance,
            proxy_id: parts.proxy_id,
            control: parts.control,
            registry: Registry::new(parts.cancel_key),
            reviews: Book::default(),
            grants_key: parts.grants_key,
            cancels_passed: CancelsPassed::default(),
            streams: OpenStreams::default(),
            masks_everything: Masker::everything(parts.fingerprint_key),
            tls: ListenerTls::new(parts.tls, &[ALPN]),
            limits: parts.limits,
            seats: Seats::new(parts.limits.sessions_max),
            lobby: Lobby::new(parts.limits.logins_max),
            attempts: Attempts::default(),
            buckets: AllBuckets::default(),
            refusals: Refusals::default(),
            metrics: ProxyMetrics::default(),
        }
    }

    /// From now on this counts. Sessions that are open keep what they began with, but for the pace of their principal and the
    /// rules, which count from the next command on.
    pub fn reload(&self, reload: Reload) {
        let Reload { principals, targets, policy, policy_version, tls, source_limits } = reload;
        self.tls.replace(tls);
        let next = Loaded::new(targets, policy, policy_version, source_limits);
        self.latest.replace(next, &self.directory, principals);
        self.buckets.adopt(&self.directory, clock::now().monotonic_us);
    }

    /// What a principal has compared with masked columns of a target of late. As many are kept as there are principals and
    /// targets.
    pub(crate) fn guesses(&self, principal: &str, target: &str) -> Arc<Guesses> {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.entry((principal.to_owned(), target.to_owned())).or_default().clone()
    }

    /// Its sessions' streams, for [`crate::HeadSigner`].
    #[must_use]
    pub fn open_streams(&self) -> OpenStreams {
        self.streams.clone()
    }

    /// What it counts, to be registered.
    #[must_use]
    pub fn metrics(&self) -> ProxyMetrics {
        self.metrics.clone()
    }

    /// Records that a client was not let in.
    pub(crate) fn record_refused(
        &self,
        reason: login_refused::Reason,
        client_address: String,
        asserted: Masked<Vec<wire::Asserted>>,
        principal: Option<wire::Principal>,
    ) -> Append {
        let about = Subject { principal, protocol: wire::Protocol::Postgres, ..Subject::default() };
        let refused = wire::LoginRefused {
            reason: reason.into(),
            client_address,
            count: 1,
            ..wire::LoginRefused::default()
        };
        self.instance.record(about, Event::login_refused(refused, asserted))
    }

    /// Records that so many were not let in, alike.
    pub(crate) fn record_counted(&self, counted: Counted) -> Append {
        let Counted { kind, count, first_unix_us, last_unix_us } = counted;
        // They may have come with several of its tokens.
        let principal = kind.principal.map(|it| wire::Principal { token_id: String::new(), ..it });
        let about = Subject { principal, protocol: wire::Protocol::Postgres, ..Subject::default() };
        let refused = wire::LoginRefused {
            reason: kind.reason.into(),
            client_address: kind.source.map(|source| source.to_string()).unwrap_or_default(),
            count,
            first_unix_us,
            last_unix_us,
            ..wire::LoginRefused::default()
        };
        self.instance.record(about, Event::login_refused(refused, Masked::from_iter([])))
    }
}
