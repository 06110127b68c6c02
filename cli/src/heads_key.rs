//! The key by which a gateway signs where its streams stand.

use anyhow::bail;
use retrace_access::{Keys, RoleKey};
use retrace_evidence::{SigningKey, TrustedKeys};

use crate::config::Config;
use crate::control_keys;
use crate::output::Output;

/// What the key's files are called.
const NAME: &str = "heads";

/// Prints the public key alone to stdout, for whoever checks evidence without trusting this gateway.
pub(crate) fn heads_key(config: &Config, create: bool) -> anyhow::Result<()> {
    if create {
        Keys::create_heads(config.dir())?;
    }
    let key = Keys::load_heads(config.dir())?;
    let mut out = Output::stdout();
    out.line(control_keys::public(&key, NAME)?)?;
    out.flush()?;
    Ok(())
}

/// Signs for the gateway of these keys.
pub(crate) fn signing_key(keys: &Keys) -> anyhow::Result<SigningKey> {
    match &keys.heads {
        RoleKey::Seed(seed) => Ok(SigningKey::from_seed(seed.expose())?),
        RoleKey::Public(_) => bail!(
            "keys/{NAME}.key is not here, only its public half: a gate signs by it; copy it from where the gateway was made"
        ),
    }
}

/// Whom a reader beside the gateway believes: the gateway.
pub(crate) fn trusted_keys(keys: &Keys) -> anyhow::Result<TrustedKeys> {
    Ok([control_keys::public(&keys.heads, NAME)?].into_iter().collect())
}
