use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Directory, Secret};
use retrace_eventlog::{Append, EventLog, InstanceStream};
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proto::wire::{self, Durability, RetentionClass, login_refused};
use retrace_proto::{Event, Masked, Subject};
use retrace_proxy_core::postgres::SessionLimits;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::cancel::CancelRegistry;
use crate::streams::OpenStreams;

/// A PostgreSQL server behind the gate.
#[derive(Debug)]
pub struct Target {
    /// What clients call it: the name of the database they connect to.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// The database it is there.
    pub database: String,
    /// Whom the gate logs in as.
    pub user: String,
    /// With which password.
    pub password: Secret,
    /// How the connection is encrypted.
    pub encryption: TargetEncryption,
    /// What its sessions wait for.
    pub durability: Durability,
    /// How long the lake keeps their events.
    pub retention_class: RetentionClass,
    /// What is masked.
    pub masker: Arc<Masker>,
}

/// How the gate's connection to a target is encrypted.
#[derive(Clone)]
pub enum TargetEncryption {
    /// Not at all.
    Cleartext,
    /// By TLS, with the name that the certificate must have.
    Tls {
        /// How the certificate is checked.
        config: Arc<ClientConfig>,
        /// The name it is checked for.
        server_name: ServerName<'static>,
    },
}

impl fmt::Debug for TargetEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cleartext => "Cleartext",
            Self::Tls { .. } => "Tls",
        })
    }
}

/// Limits of one proxy.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Client connections at once, logins included. Further ones are refused with a sentence.
    pub connections_max: usize,
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
            connections_max: 2_000,
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
    /// Hash of the configuration that decides.
    pub policy_version: String,
    /// The key of cancel keys.
    pub cancel_key: Secret,
    /// The key of fingerprints.
    pub fingerprint_key: FingerprintKey,
    /// The TLS of the client side.
    pub tls: ServerConfig,
    /// Limits.
    pub limits: GatewayLimits,
}

/// A proxy, shared by all of its sessions.
pub struct Gateway {
    pub(crate) directory: Directory,
    pub(crate) targets: HashMap<String, Arc<Target>>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) instance: Arc<InstanceStream>,
    pub(crate) proxy_id: String,
    pub(crate) policy_version: String,
    pub(crate) cancels: CancelRegistry,
    pub(crate) streams: OpenStreams,
    /// For what a client says of itself before there is a target.
    pub(crate) masks_everything: Masker,
    pub(crate) tls: TlsAcceptor,
    pub(crate) limits: GatewayLimits,
    pub(crate) places: Arc<Semaphore>,
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
        let targets = parts.targets.into_iter().map(|target| (target.name.clone(), Arc::new(target)));
        Self {
            directory: parts.directory,
            targets: targets.collect(),
            log: parts.log,
            instance: parts.instance,
            proxy_id: parts.proxy_id,
            policy_version: parts.policy_version,
            cancels: CancelRegistry::new(parts.cancel_key),
            streams: OpenStreams::default(),
            masks_everything: Masker::everything(parts.fingerprint_key),
            tls: TlsAcceptor::from(Arc::new(parts.tls)),
            limits: parts.limits,
            places: Arc::new(Semaphore::new(parts.limits.connections_max)),
        }
    }

    /// Its sessions' streams, for [`crate::HeadSigner`].
    #[must_use]
    pub fn open_streams(&self) -> OpenStreams {
        self.streams.clone()
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
}
