//! What the gate logs in by at a target: a role with its password, or a credential that brings its role along.
//!
//! Both are read by hand, so that a password written where its reference belongs is refused without being repeated in the
//! error.

use std::fmt;
use std::path::PathBuf;

use retrace_access::SecretRef;
use retrace_vault::{InvalidReference, Lending, Reference};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::form;
use super::place::{ConfigError, Source};

const PASSWORD_EXPECTED: &str =
    "a secret by reference: { env = \"NAME\" }, { file = \"path\" } or { vault_kv = \"MOUNT/data/NAME\" }";

const CREDENTIAL_EXPECTED: &str = "a credential by reference: { vault_database = \"MOUNT/static-creds/ROLE\" } or \
     { vault_database = \"MOUNT/creds/ROLE\", lease = \"shared\" }";

/// What the gate logs in by at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetCredential {
    /// A role with a password that is on this machine; relative files are in [`Config::dir`](super::Config::dir).
    Local {
        /// Whom the gate logs in as.
        user: String,
        /// By which password.
        password: SecretRef,
    },
    /// What a secret store has.
    Vault(Reference),
}

impl TargetCredential {
    /// The field of the file that it is from.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Local { .. } | Self::Vault(Reference::Kv { .. }) => "password",
            Self::Vault(_) => "credential",
        }
    }
}

/// Where a password is, as it is written.
#[derive(Debug)]
pub(super) enum Password {
    Local(SecretRef),
    Kv { path: String, field: Option<String> },
}

/// Where a role with its password is, as it is written.
#[derive(Debug)]
pub(super) struct Credential {
    path: String,
    lease: Option<Lease>,
}

/// Who has a role that was made for a time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Lease {
    Shared,
    Session,
}

/// Checks what a target, whose table is at `at`, says of it.
pub(super) fn credential(
    it: &form::Target,
    at: std::ops::Range<usize>,
    has_vault: bool,
    source: &Source<'_>,
) -> Result<TargetCredential, ConfigError> {
    let (user, password) = match (&it.user, &it.password, &it.credential) {
        (None, None, Some(credential)) => return of_database(credential, has_vault, source),
        (_, _, Some(credential)) => {
            let problem = "it brings the role with it: remove `user` and `password`";
            return Err(source.error(credential.span(), problem));
        }
        (None, Some(_), None) => return Err(source.error(at, "missing key `user`")),
        (_, None, None) => {
            let problem = "missing key `password`, or `credential` in the place of `user` and `password`";
            return Err(source.error(at, problem));
        }
        (Some(user), Some(password), None) => (user.as_ref().clone(), password),
    };
    match password.as_ref() {
        Password::Local(reference) => Ok(TargetCredential::Local { user, password: reference.clone() }),
        Password::Kv { path, field } => {
            let reference = Reference::kv(user, path, field.clone());
            of_vault(reference, password.span(), has_vault, source)
        }
    }
}

fn of_database(
    it: &Spanned<Credential>,
    has_vault: bool,
    source: &Source<'_>,
) -> Result<TargetCredential, ConfigError> {
    let Credential { path, lease } = it.as_ref();
    let lending = lease.map(|lease| match lease {
        Lease::Shared => Lending::Shared,
        Lease::Session => Lending::Session,
    });
    of_vault(Reference::database(path, lending), it.span(), has_vault, source)
}

fn of_vault(
    reference: Result<Reference, InvalidReference>,
    at: std::ops::Range<usize>,
    has_vault: bool,
    source: &Source<'_>,
) -> Result<TargetCredential, ConfigError> {
    if !has_vault {
        let problem =
            "this comes from Vault, and there is no [vault]: say there where it is and how the gate logs in";
        return Err(source.error(at, problem));
    }
    reference.map(TargetCredential::Vault).map_err(|error| source.error(at, error))
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordVisitor)
    }
}

struct PasswordVisitor;

impl<'de> Visitor<'de> for PasswordVisitor {
    type Value = Password;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PASSWORD_EXPECTED)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Password, E> {
        Err(E::custom(format_args!("a secret does not stand here itself; expected {PASSWORD_EXPECTED}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Password, A::Error> {
        let mut found: Option<Password> = None;
        let mut field: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            let place = match key.as_str() {
                "env" => Password::Local(SecretRef::Env(map.next_value()?)),
                "file" => Password::Local(SecretRef::File(map.next_value::<PathBuf>()?)),
                "vault_kv" => Password::Kv { path: map.next_value()?, field: None },
                "field" => {
                    field = Some(map.next_value()?);
                    continue;
                }
                _ => return Err(de::Error::unknown_field(&key, &["env", "file", "vault_kv", "field"])),
            };
            if found.replace(place).is_some() {
                return Err(de::Error::custom("one of env, file and vault_kv, not several"));
            }
        }
        match (found, field) {
            (Some(Password::Kv { path, .. }), field) => Ok(Password::Kv { path, field }),
            (Some(found), None) => Ok(found),
            (_, Some(_)) => {
                Err(de::Error::custom("`field` is a part of a secret in Vault: it goes with vault_kv"))
            }
            (None, None) => Err(de::Error::custom(format_args!("expected {PASSWORD_EXPECTED}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CredentialVisitor)
    }
}

struct CredentialVisitor;

impl<'de> Visitor<'de> for CredentialVisitor {
    type Value = Credential;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CREDENTIAL_EXPECTED)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Credential, E> {
        Err(E::custom(format_args!(
            "a credential does not stand here itself; expected {CREDENTIAL_EXPECTED}"
        )))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Credential, A::Error> {
        let (mut path, mut lease) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "vault_database" => path = Some(map.next_value()?),
                "lease" => lease = Some(map.next_value()?),
                _ => return Err(de::Error::unknown_field(&key, &["vault_database", "lease"])),
            }
        }
        let path = path.ok_or_else(|| de::Error::custom(format_args!("expected {CREDENTIAL_EXPECTED}")))?;
        Ok(Credential { path, lease })
    }
}
