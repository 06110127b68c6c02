//! What a reference leads to.

use std::sync::Arc;
use std::time::Duration;

use retrace_access::{Credential, Secret};
use tokio::time::Instant;

use crate::answer::{Capable, Field, Issued, KvRead, RenewedLease, StaticAccount, StaticRead, term};
use crate::call::Call;
use crate::error::VaultError;
use crate::keep::{Failure, Fetched, Lease, Renewal};
use crate::login::LoginError;
use crate::reference::{ApiPath, Reference};
use crate::session::{Logins, Session};

/// The longest name of a role, in bytes: PostgreSQL cuts longer ones.
const ROLE_BYTES_MAX: usize = 63;

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
    /// What the engine gives is no role.
    #[error(
        "Vault gives a role at {0} whose name is empty, longer than {ROLE_BYTES_MAX} bytes, or has control characters"
    )]
    Role(ApiPath),
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
            Self::Denied(_)
            | Self::NotFound(_)
            | Self::NoField { .. }
            | Self::Unknown { .. }
            | Self::Role(_) => Failure::Withdrawn,
            Self::Login(_) | Self::Vault(_) => Failure::Passes(self.wait()),
        }
    }
}

/// By what right something is in hand.
#[derive(Debug)]
pub(crate) struct Holds {
    pub(crate) session: Arc<Session>,
    /// The name of the lease, which is as good as a key to end it.
    pub(crate) lease: Option<Secret>,
}

/// Fetches what the reference leads to, as it is now.
pub(crate) async fn fetch(logins: &Logins, reference: &Reference) -> Result<Fetched<Holds>, CredentialError> {
    let failed = |error| CredentialError::new(reference.path(), error);
    let asked_at = Instant::now();
    match reference {
        Reference::Kv { user, path, field } => {
            let (read, session) = logins.ask::<KvRead>(&Call::Read(path)).await.map_err(failed)?;
            let password = password(read, path, field)?;
            Ok(fetched(Credential { user: user.clone(), password }, session))
        }
        Reference::Static { path } => {
            let (read, session) = logins.ask::<StaticRead>(&Call::Read(path)).await.map_err(failed)?;
            let StaticAccount { username, password, ttl } = read.data;
            let ends_at = asked_at + term(ttl);
            let fresh_for = Some(ends_at.saturating_duration_since(Instant::now()));
            let credential = Credential { user: role(username, path)?, password: password.0 };
            Ok(Fetched { fresh_for, ..fetched(credential, session) })
        }
        Reference::Database { path, .. } => {
            let (issued, session) = logins.ask::<Issued>(&Call::Read(path)).await.map_err(failed)?;
            let Issued { lease_id, lease_duration, renewable, data } = issued;
            let lease = Lease { asked_at, term: term(lease_duration), renewable };
            let user = match role(data.username, path) {
                Ok(user) => user,
                Err(error) => {
                    // It was made all the same. What is not given back ends by itself.
                    let _ = session.reach().tell(&Call::RevokeLease(&lease_id.0)).await;
                    return Err(error);
                }
            };
            let mut fetched = fetched(Credential { user, password: data.password.0 }, session);
            fetched.holds.lease = Some(lease_id.0);
            Ok(Fetched { lease: Some(lease), ..fetched })
        }
    }
}

fn fetched(credential: Credential, session: Arc<Session>) -> Fetched<Holds> {
    Fetched {
        credential,
        fresh_for: None,
        lease: None,
        login: session.number,
        login_ends_at: session.ends_at(),
        holds: Holds { session, lease: None },
    }
}

/// Whether the gate may have a role made, without having one made.
pub(crate) async fn may_fetch(logins: &Logins, reference: &Reference) -> Result<(), CredentialError> {
    let path = reference.path();
    let asked = logins.ask::<Capable>(&Call::Capabilities(path)).await;
    let (capable, _) = asked.map_err(|error| CredentialError::new(path, error))?;
    let may_read = |capability: &String| capability == "read" || capability == "root";
    if capable.data.capabilities.iter().any(may_read) {
        Ok(())
    } else {
        Err(CredentialError::Denied(path.clone()))
    }
}

/// Renews a lease, by the token that it hangs on.
pub(crate) async fn renew(logins: Logins, session: Arc<Session>, id: Secret) -> Renewal {
    match session.reach().ask::<RenewedLease>(&Call::RenewLease(&id)).await {
        Ok(RenewedLease { lease_duration, renewable }) => {
            Renewal::For { term: term(lease_duration), renewable }
        }
        Err(VaultError::Invalid(_) | VaultError::NotFound) => Renewal::Gone,
        Err(VaultError::Denied) => {
            // If the token is dead, so is the lease.
            logins.doubt(session.number);
            Renewal::Denied
        }
        Err(VaultError::Busy { wait }) => Renewal::Passes(wait),
        Err(_) => Renewal::Passes(None),
    }
}

/// A name that may go into the gate's login and into its record.
fn role(name: String, path: &ApiPath) -> Result<String, CredentialError> {
    let is_role = (1..=ROLE_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    if is_role { Ok(name) } else { Err(CredentialError::Role(path.clone())) }
}

fn password(read: KvRead, path: &ApiPath, field: &str) -> Result<Secret, CredentialError> {
    let mut fields = read.data.data.ok_or_else(|| CredentialError::NotFound(path.clone()))?;
    match fields.remove(field) {
        Some(Field::Text(password)) if !password.expose().is_empty() => Ok(password),
        _ => Err(CredentialError::NoField { path: path.clone(), field: field.to_owned() }),
    }
}
