//! The key by which a gateway signs where its streams stand.

use retrace_access::Keys;
use retrace_evidence::{SigningKey, TrustedKeys};

use crate::config::Config;
use crate::output::Output;

/// Prints the public key alone to stdout, for whoever checks evidence without trusting this gateway.
pub(crate) fn heads_key(config: &Config, create: bool) -> anyhow::Result<()> {
    if create {
        Keys::create_heads(config.dir())?;
    }
    let key = signing_key(&Keys::load(config.dir())?)?;
    let mut out = Output::stdout();
    out.line(key.public())?;
    out.flush()?;
    Ok(())
}

/// Signs for the gateway of these keys.
pub(crate) fn signing_key(keys: &Keys) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_seed(keys.heads.expose())?)
}

/// Whom a reader beside the gateway believes: the gateway.
pub(crate) fn trusted_keys(keys: &Keys) -> anyhow::Result<TrustedKeys> {
    Ok([signing_key(keys)?.public()].into_iter().collect())
}
