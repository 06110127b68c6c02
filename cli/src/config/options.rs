//! Options that a library knows by its own names, such as librdkafka's.

use std::collections::BTreeMap;
use std::path::Path;

use retrace_access::{SecretError, SecretRef};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::place::{ConfigError, Source};

/// Names and values, the secrets among them not fetched yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    plain: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretRef>,
}

/// An option whose secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {cause}")]
pub(crate) struct UnresolvedOption {
    name: String,
    cause: SecretError,
}

impl Options {
    /// Reads what the file says; `refused` has the problem with an option that is not for setting.
    pub(super) fn read(
        given: BTreeMap<Spanned<String>, Value>,
        refused: impl Fn(&str) -> Option<String>,
        source: &Source<'_>,
    ) -> Result<Self, ConfigError> {
        let mut options = Self::default();
        for (name, value) in given {
            let span = name.span();
            let settings = flat(name.into_inner(), value).ok_or_else(|| {
                let problem =
                    "an option is a text, a number, true or false, { env = \"NAME\" } or { file = \"PATH\" }";
                source.error(span.clone(), problem)
            })?;
            for (name, setting) in settings {
                if let Some(problem) = refused(&name) {
                    return Err(source.error(span, problem));
                }
                match setting {
                    Setting::Plain(value) => drop(options.plain.insert(name, value)),
                    Setting::Secret(secret) => drop(options.secrets.insert(name, secret)),
                }
            }
        }
        Ok(options)
    }

    /// Whether the file sets it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.secrets.contains_key(name)
    }

    /// All of them with their values. Relative files of secrets count from `dir`.
    pub(crate) fn resolve(&self, dir: &Path) -> Result<BTreeMap<String, String>, UnresolvedOption> {
        let mut options = self.plain.clone();
        for (name, secret) in &self.secrets {
            let value =
                secret.resolve(dir).map_err(|cause| UnresolvedOption { name: name.clone(), cause })?;
            options.insert(name.clone(), String::from_utf8_lossy(value.expose()).into_owned());
        }
        Ok(options)
    }
}

enum Setting {
    Plain(String),
    Secret(SecretRef),
}

/// The options that a name stands for: one, or those of a table with the names joined, since TOML reads a name with dots
/// as tables unless it is in quotes. `None` if the value has a type that no option has.
fn flat(name: String, value: Value) -> Option<Vec<(String, Setting)>> {
    let plain = match value {
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text,
        Value::Table(table) => {
            if let Ok(secret) = SecretRef::deserialize(Value::Table(table.clone())) {
                return Some(vec![(name, Setting::Secret(secret))]);
            }
            // Only the password of a target can come from there.
            if table.contains_key("vault_kv") {
                return None;
            }
            let nested = table.into_iter().map(|(rest, value)| flat(format!("{name}.{rest}"), value));
            return Some(nested.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect());
        }
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) => return None,
    };
    Some(vec![(name, Setting::Plain(plain))])
}
