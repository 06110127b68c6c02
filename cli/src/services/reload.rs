//! SIGHUP: the configuration, the tokens' principals and the certificates are read again, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus_client::metrics::counter::Counter;
use retrace_access::{Directory, Keys, ListenerTls, Principals, ServerIdentity, ServerTls, tls};
use retrace_eventlog::InstanceStream;
use retrace_proto::{Event, Subject};
use retrace_proxy::{Gateway, Reload};
use retrace_vault::Vault;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::targets::targets;
use crate::config::Config;
use crate::health::Health;

/// How long the record of a new configuration may take. Without it the old one stays.
const RECORD_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long the secret store may take for credentials that are new. Those that are in hand are not asked for.
const CREDENTIALS_WAIT_MAX: Duration = Duration::from_secs(10);

/// What reads a process's configuration again, and what it hands it to.
pub(super) struct Reloader {
    config: Config,
    instance: Arc<InstanceStream>,
    /// Who may come in, where somebody may.
    directory: Option<Directory>,
    gateway: Option<Gate>,
    doors: Vec<ListenerTls>,
    done: Counter,
    failed: Counter,
}

/// A gate, and what its targets are made with.
struct Gate {
    gateway: Arc<Gateway>,
    keys: Keys,
    vault: Option<Vault>,
}

impl Reloader {
    pub(super) fn new(config: &Config, instance: &Arc<InstanceStream>, health: &Health) -> Self {
        let (done, failed) = (Counter::default(), Counter::default());
        let mut registry = health.registry();
        let help = "How often the configuration was read again and taken over";
        registry.register("retrace_config_reloads", help, done.clone());
        let help = "How often the configuration was read again and could not be taken over";
        registry.register("retrace_config_reload_failures", help, failed.clone());
        Self {
            config: config.clone(),
            instance: Arc::clone(instance),
            directory: None,
            gateway: None,
            doors: Vec::new(),
            done,
            failed,
        }
    }

    /// Who may come in.
    pub(super) fn directory(&mut self, directory: Directory) {
        self.directory = Some(directory);
    }

    /// What it hands to a gate, whose masks are made by these keys and whose credentials may be in this store.
    pub(super) fn gateway(&mut self, gateway: Arc<Gateway>, keys: Keys, vault: Option<Vault>) {
        self.gateway = Some(Gate { gateway, keys, vault });
    }

    /// The TLS of a listener, which gets a new certificate with the others.
    pub(super) fn door(&mut self, alpn: &[&[u8]]) -> anyhow::Result<ListenerTls> {
        let door = ListenerTls::new(server_tls(&self.config)?, alpn);
        self.doors.push(door.clone());
        Ok(door)
    }

    /// Reads again whenever SIGHUP comes, which no longer ends the process from here on.
    pub(super) fn start(mut self) -> anyhow::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                match self.reload().await {
                    Ok(()) => {
                        self.done.inc();
                        let version = self.config.policy_version();
                        tracing::info!(version, "the configuration was read again and counts now");
                    }
                    Err(error) => {
                        self.failed.inc();
                        tracing::error!("the configuration is not changed: {error:#}");
                    }
                }
            }
        });
        Ok(())
    }

    async fn reload(&mut self) -> anyhow::Result<()> {
        let next = Config::load(self.config.file())?;
        let fixed = self.config.fixed_that_differ(&next);
        if !fixed.is_empty() {
            bail!(
                "{}: {} cannot change while the process runs: restart to change it",
                next.file().display(),
                fixed.join(", ")
            );
        }
        // Whatever can fail does so before anything changes.
        let principals = Principals::new(next.principals.clone())?;
        let gate = match &self.gateway {
            Some(Gate { gateway, keys, vault }) => {
                let targets = Box::pin(targets(&next, keys, vault.as_ref(), CREDENTIALS_WAIT_MAX)).await?;
                Some((gateway, targets, server_tls(&next)?))
            }
            None => None,
        };
        let mut door_tls = Vec::new();
        for _door in &self.doors {
            door_tls.push(server_tls(&next)?);
        }
        let policy_version = next.policy_version().to_owned();
        let loaded = Event::policy_loaded(policy_version.clone());
        let recorded = timeout(RECORD_WAIT_MAX, self.instance.record(Subject::default(), loaded)).await;
        recorded.context("the log did not take its record in time")?.context("it could not be recorded")?;

        for (door, tls) in self.doors.iter().zip(door_tls) {
            door.replace(tls);
        }
        match (gate, &self.directory) {
            (Some((gateway, targets, tls)), _) => {
                let source_limits = next.source_limits;
                let policy = next.policy.clone();
                gateway.reload(Reload { principals, targets, policy, policy_version, tls, source_limits });
            }
            (None, Some(directory)) => directory.replace(principals),
            (None, None) => {}
        }
        self.config = next;
        Ok(())
    }
}

fn server_tls(config: &Config) -> anyhow::Result<ServerTls> {
    let identity = ServerIdentity::in_dir(config.dir());
    Ok(tls::server_tls(&identity.certificate, &identity.key)?)
}
