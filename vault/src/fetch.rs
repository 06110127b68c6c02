//! What a reference leads to.

use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Credential, Secret};
use tokio::time::Instant;

use crate::answer::{Field, KvRead, StaticAccount, StaticRead};
use crate::call::Call;
use crate::error::VaultError;
use crate::keep::{Failure, Fetched};
use crate::login::LoginError;
use crate::reference::{ApiPath, Reference};
use crate::session::{Logins, Session};

/// Why a credential cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The gate's policy lacks the right.
    #[error(
        "Vault does not let the gate read {0}: its policy needs path \"{0}\" {{ capabilities = [\"read\"] }}"
    )]
    Denied(ApiPath),
    /// There is nothing at the path.
    #[error("Vault has nothing at {0}: write it there, or look at mount and path")]
    NotFound(ApiPath),
    /// The secret has no such field, or no text in it.
    #[error("{path} has no text in the field `{field}`: name another one with `field`")]
    NoField {
        /// Which secret.
        path: ApiPath,
        /// Which field.
        field: String,
    },
    /// The engine does not know the role.
    #[error("Vault gives no credential at {path} (status {status}): look at mount and role")]
    Unknown {
        /// Where.
        path: ApiPath,
        /// How it was refused.
        status: u16,
    },
    /// The gate is not logged in.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// It was not asked, or did not answer.
    #[error(transparent)]
    Vault(VaultError),
}

impl CredentialError {
    fn new(path: &ApiPath, error: VaultError) -> Self {
        match error {
            VaultError::Denied => Self::Denied(path.clone()),
            VaultError::NotFound => Self::NotFound(path.clone()),
            VaultError::Invalid(status) => Self::Unknown { path: path.clone(), status },
            error => Self::Vault(error),
        }
    }

    /// Whether it may pass by waiting.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Login(error) => error.passes(),
            Self::Vault(error) => error.passes(),
            _ => false,
        }
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Login(error) => error.wait(),
            Self::Vault(VaultError::Busy { wait }) => *wait,
            _ => None,
        }
    }

    /// What it means for whoever has a credential in hand. What answers and is not Vault withdraws nothing.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Denied(_) | Self::NotFound(_) | Self::NoField { .. } | Self::Unknown { .. } => {
                Failure::Withdrawn
            }
            Self::Login(_) | Self::Vault(_) => Failure::Passes(self.wait()),
        }
    }
}

/// Fetches what the reference leads to, as it is now.
pub(crate) async fn fetch(
    logins: &Logins,
    reference: &Reference,
) -> Result<Fetched<Arc<Session>>, CredentialError> {
    let failed = |error| CredentialError::new(reference.path(), error);
    let asked_at = Instant::now();
    let (credential, fresh_for, session) = match reference {
        Reference::Kv { user, path, field } => {
            let (read, session) = logins.ask::<KvRead>(&Call::Read(path)).await.map_err(failed)?;
            let password = password(read, path, field)?;
            (Credential { user: user.clone(), password }, None, session)
        }
        Reference::Static { path } => {
            let (read, session) = logins.ask::<StaticRead>(&Call::Read(path)).await.map_err(failed)?;
            let StaticAccount { username, password, ttl } = read.data;
            let ends_at = asked_at + Duration::from_secs(ttl);
            let fresh_for = ends_at.saturating_duration_since(Instant::now());
            (Credential { user: username, password: password.0 }, Some(fresh_for), session)
        }
    };
    Ok(Fetched {
        credential,
        fresh_for,
        login: session.number,
        login_ends_at: session.ends_at(),
        holds: session,
    })
}

fn password(read: KvRead, path: &ApiPath, field: &str) -> Result<Secret, CredentialError> {
    let mut fields = read.data.data.ok_or_else(|| CredentialError::NotFound(path.clone()))?;
    match fields.remove(field) {
        Some(Field::Text(password)) if !password.expose().is_empty() => Ok(password),
        _ => Err(CredentialError::NoField { path: path.clone(), field: field.to_owned() }),
    }
}
