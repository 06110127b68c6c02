use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::future::try_join_all;
use retrace_access::{CredentialSource, Keys};
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proxy::{Target, TargetEncryption};
use retrace_proxy_core::postgres::Recording;
use retrace_vault::{CredentialError, Vault};

use crate::config::{self, Config, TargetCredential};

pub(super) fn fingerprint_key(keys: &Keys) -> FingerprintKey {
    FingerprintKey::new(keys.mask.expose())
}

/// What the configuration says of each target, its credential and certificates fetched. What a secret store has is there when
/// this resolves, which it does within `wait_max`.
pub(super) async fn targets(
    config: &Config,
    keys: &Keys,
    vault: Option<&Vault>,
    wait_max: Duration,
) -> anyhow::Result<Vec<Target>> {
    let credentials = config.targets.iter().map(|it| Box::pin(credential(config, it, vault, wait_max)));
    let credentials = try_join_all(credentials).await?;
    config
        .targets
        .iter()
        .zip(credentials)
        .map(|(it, credential)| target(config, keys, it, credential))
        .collect()
}

/// What the gate logs in by. An error names the place in the configuration.
async fn credential(
    config: &Config,
    target: &config::Target,
    vault: Option<&Vault>,
    wait_max: Duration,
) -> anyhow::Result<CredentialSource> {
    let file = config.file().display();
    let field = || format!("{file}: target `{}`: {}", target.name, target.credential.field());
    let reference = match &target.credential {
        TargetCredential::Local { user, password } => {
            return CredentialSource::of_user(user, password, config.dir()).with_context(field);
        }
        TargetCredential::Vault(reference) => reference,
    };
    let vault = vault.with_context(field).context("there is no [vault]")?;
    vault.source(reference, wait_max).await.map_err(|error| match error {
        CredentialError::Login(error) => anyhow!(error).context(format!("{file}: [vault]")),
        CredentialError::Vault(error) => anyhow!(error).context(format!("{file}: [vault]")),
        error => anyhow!(error).context(field()),
    })
}

fn target(
    config: &Config,
    keys: &Keys,
    target: &config::Target,
    credential: CredentialSource,
) -> anyhow::Result<Target> {
    let named = || format!("{}: target `{}`", config.file().display(), target.name);
    let encryption = match &target.tls {
        Some(tls) => TargetEncryption::tls(tls, &target.host, config.dir()).with_context(named)?,
        None => TargetEncryption::Cleartext,
    };
    let rules = config.mask_rules(&target.name);
    Ok(Target {
        name: target.name.clone(),
        address: address(&target.host, target.port),
        database: target.database.clone(),
        credential,
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
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
