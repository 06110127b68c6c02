use std::sync::Arc;

use anyhow::Context;
use retrace_access::{CredentialSource, Keys};
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proxy::{Target, TargetEncryption};
use retrace_proxy_core::postgres::Recording;

use crate::config::{self, Config};

pub(super) fn fingerprint_key(keys: &Keys) -> FingerprintKey {
    FingerprintKey::new(keys.mask.expose())
}

/// What the configuration says of each target, its password and certificates fetched.
pub(super) fn targets(config: &Config, keys: &Keys) -> anyhow::Result<Vec<Target>> {
    let target = |target: &config::Target| {
        let named = || format!("{}: target `{}`", config.file().display(), target.name);
        let credential = CredentialSource::of_user(&target.user, &target.password, config.dir())
            .with_context(|| format!("{}: password", named()))?;
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
    };
    config.targets.iter().map(target).collect()
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
