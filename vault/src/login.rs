//! The ways to log in.

use std::time::Duration;

use retrace_access::{Secret, SecretError, SecretSource};
use tokio::time::Instant;

use crate::answer::{self, Auth, Granted, TokenState, Unwrapped, Wrapped};
use crate::call::{Call, Proof};
use crate::client::Client;
use crate::error::VaultError;
use crate::life::Life;
use crate::metrics::CallMetrics;
use crate::settings::{Login, Settings};

/// Why the gate is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A secret of the gate's own cannot be had.
    #[error("{what}: {source}")]
    Secret {
        /// The field that names it.
        what: &'static str,
        /// What is wrong with it.
        source: SecretError,
    },
    /// What the gate said to log in is not good.
    #[error("the login by {method} is refused (status {status}): {why}")]
    Refused {
        /// How it logged in.
        method: &'static str,
        /// What the answer was.
        status: u16,
        /// What may be wrong.
        why: &'static str,
    },
    /// Somebody was there before.
    #[error(
        "the wrapping token in approle.secret_id was used or is expired: if it was not this gate that used it, somebody else has \
         the secret_id. Revoke it, and put a new one there"
    )]
    WrappingUsed,
    /// It may have been put there by somebody else.
    #[error(
        "the token in approle.secret_id does not wrap a secret_id of approle at auth/{0} but something else, so it is not used: \
         put a wrapped secret_id there"
    )]
    WrapsSomethingElse(String),
    /// It was not asked, or did not answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl LoginError {
    /// Whether it may pass by waiting.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Vault(error) if error.passes())
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Vault(VaultError::Busy { wait }) => *wait,
            _ => None,
        }
    }
}

/// Where the gate logs in, again and again.
#[derive(Debug)]
pub(crate) struct Door {
    settings: Settings,
    metrics: CallMetrics,
    /// The secret by which the login goes, where there is one.
    secret: Option<SecretSource>,
    /// What a wrapping token led to. It does so once.
    unwrapped: Option<Secret>,
}

/// What came of a login.
pub(crate) struct Entry {
    pub(crate) client: Client,
    pub(crate) token: Secret,
    pub(crate) life: Life,
}

impl Door {
    pub(crate) fn new(settings: Settings, metrics: CallMetrics) -> Result<Self, LoginError> {
        let source = |(what, reference)| {
            SecretSource::new(reference, &settings.base_dir)
                .map_err(|source| LoginError::Secret { what, source })
        };
        let secret = settings.login.secret().map(source).transpose()?;
        Ok(Self { settings, metrics, secret, unwrapped: None })
    }

    /// Whether tokens are the gate's own, which it asked for and revokes.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self.settings.login, Login::Token(_))
    }

    /// The token that somebody else keeps, as it is now.
    pub(crate) fn given(&self) -> Option<Secret> {
        if self.is_own() { None } else { self.secret().ok() }
    }

    /// Logs in, with all that the settings name read anew.
    pub(crate) async fn log_in(&mut self) -> Result<Entry, LoginError> {
        let client = Client::new(&self.settings, self.metrics.clone())?;
        let asked_at = Instant::now();
        let (token, term, renewable) = match &self.settings.login {
            Login::Token(_) => {
                let token = self.secret()?;
                let state = client.ask::<TokenState>(&Call::LookUpToken, Some(&token)).await;
                let state = state.map_err(|error| self.refused(error))?.data;
                (token, state.ttl, state.renewable)
            }
            _ => {
                let granted = self.ask(&client).await.map_err(|error| self.refused_or(error))?;
                let Auth { client_token, lease_duration, renewable } = granted.auth;
                (client_token.0, lease_duration, renewable)
            }
        };
        let life = Life::new(asked_at, answer::term(term), renewable, self.is_own());
        Ok(Entry { client, token, life })
    }

    async fn ask(&mut self, client: &Client) -> Result<Granted, LoginError> {
        if let Login::AppRole { is_wrapped: true, .. } = self.settings.login
            && self.unwrapped.is_none()
        {
            self.unwrapped = Some(self.unwrap(client).await?);
        }
        let secret = match (&self.unwrapped, &self.secret) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(_)) => Some(self.secret()?),
            (None, None) => None,
        };
        let (mount, proof) = match (&self.settings.login, &secret) {
            (Login::AppRole { mount, role_id, .. }, Some(secret_id)) => {
                (mount, Proof::AppRole { role_id, secret_id })
            }
            (Login::Jwt { mount, role, .. }, Some(jwt)) => (mount, Proof::Jwt { role, jwt }),
            (Login::Certificate { mount, role }, _) => (mount, Proof::Certificate { role: role.as_deref() }),
            _ => return Err(VaultError::NoLogin.into()),
        };
        Ok(client.ask(&Call::LogIn { mount, proof }, None).await?)
    }

    /// What a wrapping token leads to. That it was made for a `secret_id` of this very method is asked before, so that nobody
    /// can put a token there that leads to something of his own.
    async fn unwrap(&self, client: &Client) -> Result<Secret, LoginError> {
        let Login::AppRole { mount, .. } = &self.settings.login else {
            return Err(VaultError::NoLogin.into());
        };
        let wrapping = self.secret()?;
        let used = |error| match error {
            VaultError::Invalid(_) | VaultError::Denied | VaultError::NotFound => LoginError::WrappingUsed,
            error => error.into(),
        };
        let wrapped: Wrapped = client.ask(&Call::LookUpWrapped(&wrapping), None).await.map_err(used)?;
        let made_by = wrapped.data.creation_path;
        let role = made_by
            .strip_prefix(&format!("auth/{mount}/role/"))
            .and_then(|rest| rest.strip_suffix("/secret-id"));
        if role.is_none_or(|role| role.contains('/')) {
            return Err(LoginError::WrapsSomethingElse(mount.to_string()));
        }
        let unwrapped: Unwrapped = client.ask(&Call::Unwrap, Some(&wrapping)).await.map_err(used)?;
        Ok(unwrapped.data.secret_id.0)
    }

    fn secret(&self) -> Result<Secret, LoginError> {
        let source = self.secret.as_ref().ok_or(VaultError::NoLogin)?;
        let what = self.settings.login.secret().map_or("", |(what, _)| what);
        source.read().map_err(|source| LoginError::Secret { what, source })
    }

    fn refused_or(&self, error: LoginError) -> LoginError {
        match error {
            LoginError::Vault(error) => self.refused(error),
            error => error,
        }
    }

    /// A login that is refused is refused for what was said; waiting does not help.
    fn refused(&self, error: VaultError) -> LoginError {
        let status = match error {
            VaultError::Invalid(status) => status,
            VaultError::Denied => 403,
            VaultError::NotFound => 404,
            error => return error.into(),
        };
        let (method, why) = match &self.settings.login {
            Login::Token(_) => ("token", "it is wrong, expired or revoked"),
            Login::AppRole { .. } => {
                ("approle", "role_id or secret_id is wrong, expired or used up, or there is no such mount")
            }
            Login::Jwt { .. } => (
                "kubernetes",
                "the role does not take this service account's token, or it is expired, or there is no such mount",
            ),
            Login::Certificate { .. } => (
                "cert",
                "no role takes the certificate of tls_cert, or it is expired, or there is no such mount",
            ),
        };
        LoginError::Refused { method, status, why }
    }
}
