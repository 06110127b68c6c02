//! The keys by which control records are signed, and whose signatures are believed.

use std::path::Path;

use anyhow::{Context, bail};
use retrace_access::{Keys, RoleKey};
use retrace_evidence::{ControlKeys, ControlSigner, PublicKey, SigningKey};
use retrace_proto::Id;
use retrace_proto::wire::KeyRole;

use crate::config::Config;
use crate::output::Output;

/// Prints the public halves to stdout, a line for each role, for machines on which the role is not served.
pub(crate) fn control_keys(config: &Config, create: bool) -> anyhow::Result<()> {
    if create {
        Keys::create_control(config.dir())?;
    }
    let [proxy, query] = Keys::load_control(config.dir())?;
    let mut out = Output::stdout();
    for (name, key) in [("proxy", &proxy), ("query", &query)] {
        out.line(format_args!("{name} {}", public(key, name)?))?;
    }
    out.flush()?;
    Ok(())
}

/// Signs as this role.
pub(crate) fn signer(keys: &Keys, role: KeyRole, topic_id: Id) -> anyhow::Result<ControlSigner> {
    let (key, name) = match role {
        KeyRole::Proxy => (&keys.proxy, "proxy"),
        KeyRole::Query => (&keys.query, "query"),
        KeyRole::Unspecified => bail!("a control record is signed in a role"),
    };
    match key {
        RoleKey::Seed(seed) => Ok(ControlSigner::new(SigningKey::from_seed(seed.expose())?, role, topic_id)),
        RoleKey::Public(_) => bail!(
            "keys/{name}.key is not here, only its public half: a process that serves as {name} signs by it; copy it from \
             where the gateway was made"
        ),
    }
}

/// Whose control records are obeyed here.
pub(crate) fn trusted(keys: &Keys) -> anyhow::Result<ControlKeys> {
    Ok(ControlKeys {
        proxy: [public(&keys.proxy, "proxy")?].into_iter().collect(),
        query: [public(&keys.query, "query")?].into_iter().collect(),
    })
}

/// Whose signature lifts a legal hold: all that a machine needs of these keys which removes what has expired.
pub(crate) fn trusted_to_hold(dir: &Path) -> anyhow::Result<ControlKeys> {
    let query = public(&Keys::load_query(dir)?, "query")?;
    Ok(ControlKeys { query: [query].into_iter().collect(), ..ControlKeys::default() })
}

/// The public half of a key, whose files are called `name`.
pub(crate) fn public(key: &RoleKey, name: &str) -> anyhow::Result<PublicKey> {
    match key {
        RoleKey::Seed(seed) => Ok(SigningKey::from_seed(seed.expose())?.public()),
        RoleKey::Public(text) => text.parse().with_context(|| format!("keys/{name}.pub")),
    }
}
