//! The configuration: one TOML file, read strictly. An unknown key, a value that is not allowed, a name that nothing
//! has: each is an error that names file, line and field and says what is allowed. Nothing is guessed, since the
//! configuration decides who may do what and what is masked.

mod build;
mod credential;
mod form;
mod lake;
mod limits;
mod link;
mod log;
mod options;
mod people;
mod place;
mod policy;
mod retention;
mod vault;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use retrace_access::{Principal, TargetAuth, TargetTls};
use retrace_ingest::Periods;
use retrace_policy::catalogue::{ColumnMask, ColumnName};
use retrace_policy::detect::Detector;
use retrace_policy::mask;
use retrace_policy::rules::Policy;
use retrace_proto::log::TopicPartition;
use retrace_proto::wire;
use retrace_proxy::SourceLimits;
use retrace_proxy_core::postgres::Beyond;
use sha2::{Digest, Sha256};

use crate::services::Drain;

pub(crate) use credential::TargetCredential;
pub(crate) use lake::Lake;
pub(crate) use log::Log;
pub(crate) use place::ConfigError;

/// Largest configuration, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Where the gate listens if the file does not say.
pub(crate) const PROXY_LISTEN_DEFAULT: &str = "127.0.0.1:7432";
/// Where the query service listens if the file does not say.
pub(crate) const QUERY_LISTEN_DEFAULT: &str = "127.0.0.1:7434";
/// What the door's errors show as an example of where it may listen.
pub(crate) const DOOR_LISTEN_EXAMPLE: &str = "127.0.0.1:7433";
/// What the health listener's errors show as an example of where it may listen.
pub(crate) const HEALTH_LISTEN_EXAMPLE: &str = "127.0.0.1:7435";

/// How long a process serves on that has said that it drains, and how long what is under way may then take, if the file
/// does not say, in milliseconds.
pub(crate) const DRAIN_GRACE_MS_DEFAULT: u64 = 2_000;
pub(crate) const DRAIN_WAIT_MS_DEFAULT: u64 = 30_000;

/// Longest of either, in milliseconds.
pub(crate) const DRAIN_MS_MAX: u64 = 60 * 60 * 1_000;

/// What may change while a process runs. Whatever else the file has counts from the next start.
const CHANGEABLE: [&str; 5] = ["principal", "target", "mask", "limits", "policy"];

/// Data of one COPY from the client that is recorded if the file does not say, in bytes.
pub(crate) const COPY_DATA_BYTES_MAX_DEFAULT: u64 = 64 * 1024 * 1024;

/// A configuration that passed every check which needs the file alone.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    file: PathBuf,
    dir: PathBuf,
    policy_version: String,
    /// The tables of the file that count from the start of a process to its end.
    fixed: toml::Table,
    /// Where PostgreSQL clients connect. Port 0 takes a free one.
    pub(crate) proxy_listen: SocketAddr,
    /// Where readers of evidence connect. Port 0 takes a free one.
    pub(crate) query_listen: SocketAddr,
    /// Where PostgreSQL clients connect that read evidence; nowhere if the file does not say.
    pub(crate) door_listen: Option<SocketAddr>,
    /// Where the process tells of its health; nowhere if the file does not say.
    pub(crate) health_listen: Option<SocketAddr>,
    drain: Drain,
    /// Where the log is.
    pub(crate) log: Log,
    /// Where the table is.
    pub(crate) lake: Lake,
    /// How long which events are kept.
    pub(crate) retention: Periods,
    /// Below these offsets ingest takes records of a later release as dead letters.
    pub(crate) dead_letters_below: BTreeMap<TopicPartition, u64>,
    /// What may come from one source.
    pub(crate) source_limits: SourceLimits,
    /// The store of credentials, if there is one.
    pub(crate) vault: Option<retrace_vault::Settings>,
    /// Who may come in.
    pub(crate) principals: Vec<Principal>,
    /// What they may reach.
    pub(crate) targets: Vec<Target>,
    /// What is hidden from them.
    pub(crate) masks: Vec<Mask>,
    /// What they may do there.
    pub(crate) policy: Policy,
}

/// A protected PostgreSQL database.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What clients give as the database's name.
    pub(crate) name: String,
    /// Name or address of its host, without brackets.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The database there.
    pub(crate) database: String,
    /// What the gate logs in by.
    pub(crate) credential: TargetCredential,
    /// What the gate waits for.
    pub(crate) durability: wire::Durability,
    /// How much is recorded.
    pub(crate) record: Record,
    /// How the connection is secured; `None` is cleartext. Paths are absolute, a key's reference counts from
    /// [`Config::dir`].
    pub(crate) tls: Option<TargetTls>,
    /// How the gate may prove itself.
    pub(crate) auth: TargetAuth,
    /// The newest minor version of protocol 3 that the gate asks for.
    pub(crate) protocol_minor_max: u16,
    /// The class of its rows in the table.
    pub(crate) retention_class: wire::RetentionClass,
    /// What rules may tell it by.
    pub(crate) labels: BTreeMap<String, String>,
}

/// How much of a target's sessions is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// How much of the responses.
    pub(crate) responses: wire::RecordResponses,
    /// Data of one COPY from the client that is recorded, in bytes.
    pub(crate) copy_data_bytes_max: u64,
    /// What becomes of more.
    pub(crate) beyond: Beyond,
}

/// A rule of masking.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    /// Its name, which every masked value carries.
    pub(crate) name: String,
    /// Targets it applies to; `*` is every one.
    pub(crate) targets: Vec<String>,
    /// What it looks for.
    pub(crate) detectors: Vec<Detector>,
    /// Which columns it hides whole.
    pub(crate) columns: Vec<ColumnName>,
    /// What it puts instead.
    pub(crate) action: wire::MaskAction,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Each names the file, and the line and field where there is one.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
        let absolute = std::path::absolute(file).map_err(unreadable)?;
        if std::fs::metadata(&absolute).map_err(unreadable)?.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: file.to_owned() });
        }
        let bytes = std::fs::read(&absolute).map_err(unreadable)?;
        let text = str::from_utf8(&bytes).map_err(|_| ConfigError::NotText { file: file.to_owned() })?;
        Self::parse(file, &absolute, text)
    }

    fn parse(shown: &Path, absolute: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = place::Source { file: shown, text };
        let form: form::Form = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        let dir = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        build::build(form, &source, absolute, dir)
    }

    /// The file itself, absolute.
    #[must_use]
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder of the file, absolute: relative paths start here, and keys, CA and tokens are in it.
    #[must_use]
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How the process takes its leave. Where nobody can see that it is not ready, it gives nobody time to see it.
    #[must_use]
    pub(crate) fn drain(&self) -> Drain {
        let grace = if self.health_listen.is_some() { self.drain.grace } else { Duration::ZERO };
        Drain { grace, ..self.drain }
    }

    /// The tables in which `next` differs and that do not change while a process runs.
    pub(crate) fn fixed_that_differ(&self, next: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.fixed.keys().chain(next.fixed.keys()).collect();
        let differ = names.into_iter().filter(|name| self.fixed.get(*name) != next.fixed.get(*name));
        differ.map(|name| format!("[{name}]")).collect()
    }

    /// Hex SHA-256 of the file and its rules, which every command's event names.
    #[must_use]
    pub(crate) fn policy_version(&self) -> &str {
        &self.policy_version
    }

    /// Where the tokens' verifiers are kept.
    #[must_use]
    pub(crate) fn tokens_file(&self) -> PathBuf {
        self.dir.join("tokens.toml")
    }

    /// The masks of one target's columns, in the order of the file.
    #[must_use]
    pub(crate) fn column_masks(&self, target: &str) -> Vec<ColumnMask> {
        let applies = |mask: &&Mask| mask.applies_to(target) && !mask.columns.is_empty();
        let columns = |mask: &Mask| ColumnMask {
            name: mask.name.clone(),
            columns: mask.columns.clone(),
            action: mask.action,
        };
        self.masks.iter().filter(applies).map(columns).collect()
    }

    /// The masks of one target, in the order of the file.
    #[must_use]
    pub(crate) fn mask_rules(&self, target: &str) -> Vec<mask::Rule> {
        let applies = |mask: &&Mask| mask.applies_to(target) && !mask.detectors.is_empty();
        let rule = |mask: &Mask| mask::Rule {
            name: mask.name.clone(),
            detectors: mask.detectors.clone(),
            action: mask.action,
        };
        self.masks.iter().filter(applies).map(rule).collect()
    }
}

fn fixed(text: &str) -> toml::Table {
    // It was read as a form before, so it is a table.
    let all: toml::Table = text.parse().unwrap_or_default();
    all.into_iter().filter(|(name, _)| !CHANGEABLE.contains(&name.as_str())).collect()
}

/// That of the file alone, if it has no rules.
fn policy_version(text: &str, rules: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(text);
    if !rules.is_empty() {
        hash.update(Sha256::digest(rules));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Mask {
    fn applies_to(&self, target: &str) -> bool {
        self.targets.iter().any(|name| name == "*" || name == target)
    }
}
