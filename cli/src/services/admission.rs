//! The services that let somebody in, a gate and the doors of the evidence, and what only they need: keys, tokens, the
//! secrets of targets. Ingest lets nobody in, and a machine that only ingests has none of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use retrace_access::{Directory, Keys, ServerIdentity, TokenFile, tls};
use retrace_eventlog::ControlLag;
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::Masker;
use retrace_proto::wire::KeyRole;
use retrace_proxy::{Control, Gateway, GatewayLimits, GatewayParts, HeadSigner, Target, Workers};
use retrace_query::{GRPC_ALPN, Options as QueryOptions, Parts, QueryService, ReviewBook};
use retrace_vault::Vault;
use tokio::net::TcpListener;

use super::control::{self, Obeying};
use super::reload::Reloader;
use super::run::{Service, Stop};
use super::targets::{fingerprint_key, targets};
use super::{Doors, Process, Role, watch};
use crate::config::Config;
use crate::{control_keys, heads_key};

/// How long the secret store may take for what the configuration names, before anything is served.
const CREDENTIALS_WAIT_MAX: Duration = Duration::from_secs(30);

/// Whom a process lets in, and by what keys.
pub(super) struct Admission {
    keys: Keys,
    directory: Directory,
    /// Where a gate leads to; nowhere without one.
    targets: Vec<Target>,
    /// The store that has credentials of targets.
    vault: Option<Vault>,
}

impl Admission {
    pub(super) async fn load(config: &Config, roles: &[Role], vault: Option<&Vault>) -> anyhow::Result<Self> {
        let keys = Keys::load(config.dir())?;
        let tokens = TokenFile::load(&config.tokens_file())?;
        let directory = Directory::new(config.principals.clone(), tokens, keys.mock.clone())?;
        let targets = if roles.contains(&Role::Proxy) {
            targets(config, &keys, vault, CREDENTIALS_WAIT_MAX).await?
        } else {
            Vec::new()
        };
        Ok(Self { keys, directory, targets, vault: vault.cloned() })
    }
}

impl Process {
    /// Starts the gate and the doors of the evidence, those that have listeners. What starts last stops first.
    pub(super) async fn let_in(
        &self,
        mut admission: Admission,
        gate: Option<TcpListener>,
        doors: Option<Doors>,
        reloader: &mut Reloader,
    ) -> anyhow::Result<Vec<Service>> {
        let (follower, lag) = control::follower(&self.log);
        watch::control(&self.health, lag.clone());
        reloader.directory(admission.directory.clone());
        let targets = std::mem::take(&mut admission.targets);
        let gateway = match gate {
            Some(_) => Some(self.gateway(&admission, targets, lag.clone(), reloader)?),
            None => None,
        };
        // Nobody is let in before it is known who may not come in any more.
        let reviews = ReviewBook::default();
        let obeying = self.obey(&admission, (gateway.clone(), reviews.clone()))?;
        let control = obeying.start(follower).await?;
        let mut services = Vec::new();
        let mut heads = None;
        if let (Some(listener), Some(gateway)) = (gate, gateway) {
            heads = Some(self.heads(&admission, &gateway)?);
            services.push(self.gate(listener, gateway)?);
        }
        if let Some(doors) = doors {
            services.push(self.query(&admission, doors, (lag, reviews), reloader).await?);
        }
        services.push(control);
        services.extend(heads);
        Ok(services)
    }

    fn gateway(
        &self,
        admission: &Admission,
        targets: Vec<Target>,
        lag: ControlLag,
        reloader: &mut Reloader,
    ) -> anyhow::Result<Arc<Gateway>> {
        let identity = ServerIdentity::in_dir(self.config.dir());
        let writer = |for_cancels| {
            control::writer(&self.log, &self.name, &admission.keys, (KeyRole::Proxy, for_cancels))
        };
        let gateway = Arc::new(Gateway::new(GatewayParts {
            directory: admission.directory.clone(),
            targets,
            log: Arc::clone(&self.log),
            proxy_id: self.name.clone(),
            instance: Arc::clone(&self.instance),
            policy: self.config.policy.clone(),
            policy_version: self.config.policy_version().to_owned(),
            control: Control { writer: writer(true)?, reviews: writer(false)?, lag },
            cancel_key: admission.keys.cancel.clone(),
            fingerprint_key: fingerprint_key(&admission.keys),
            grants_key: HashKey::of_grants(admission.keys.mask.expose()),
            tls: tls::server_tls(&identity.certificate, &identity.key)?,
            limits: GatewayLimits::default(),
            source_limits: self.config.source_limits,
        }));
        reloader.gateway(Arc::clone(&gateway), admission.keys.clone(), admission.vault.clone());
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
    fn heads(&self, admission: &Admission, gateway: &Gateway) -> anyhow::Result<Service> {
        let heads = HeadSigner {
            streams: gateway.open_streams(),
            instance: Arc::clone(&self.instance),
            key: heads_key::signing_key(&admission.keys)?,
        };
        let stop = Stop::new();
        let heads = heads.run(stop.wait());
        Ok(Service::start("the signing of heads", stop, async move { Ok(heads.await?) }))
    }

    fn obey(
        &self,
        admission: &Admission,
        who: (Option<Arc<Gateway>>, ReviewBook),
    ) -> anyhow::Result<Obeying> {
        Obeying::new(&self.log, &admission.keys, admission.directory.clone(), who)
    }

    /// The query service at its doors. Either that fails ends it.
    async fn query(
        &self,
        admission: &Admission,
        doors: Doors,
        control: (ControlLag, ReviewBook),
        reloader: &mut Reloader,
    ) -> anyhow::Result<Service> {
        let table = self.table().await?;
        watch::query(&self.health, Arc::clone(&self.log), table.clone());
        let query = QueryService::new(Parts {
            log: Arc::clone(&self.log),
            table,
            directory: admission.directory.clone(),
            control: control::for_orders(&self.log, &self.name, &admission.keys, control)?,
            instance: Arc::clone(&self.instance),
            masker: Masker::everything(fingerprint_key(&admission.keys)),
            options: QueryOptions {
                head_keys: heads_key::trusted_keys(&admission.keys)?,
                control_keys: control_keys::trusted(&admission.keys)?,
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
}
