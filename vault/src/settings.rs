//! Where a secret store is, and how the gate logs in.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use retrace_access::{SecretRef, TargetTls};

use crate::reference::ApiPath;

/// Where a secret store is, and how the gate logs in. What it names is read at each login.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// The namespace that every path is in.
    pub namespace: Option<ApiPath>,
    /// How it must prove itself, and the gate's own certificate.
    pub tls: TargetTls,
    /// How the gate logs in.
    pub login: Login,
    /// The folder from which relative files count.
    pub base_dir: PathBuf,
}

/// How the gate logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// By a token that somebody else keeps alive, or that is periodic.
    Token(SecretRef),
    /// By a role and its secret.
    AppRole {
        /// Where the method is.
        mount: ApiPath,
        /// Which role.
        role_id: String,
        /// Its secret.
        secret_id: SecretRef,
        /// Whether the secret is a token that it comes by, once.
        is_wrapped: bool,
    },
    /// By a signed statement of who the process is, such as Kubernetes gives to its service accounts.
    Jwt {
        /// Where the method is.
        mount: ApiPath,
        /// Which role.
        role: String,
        /// The statement.
        token: SecretRef,
    },
    /// By the certificate of [`Settings::tls`].
    Certificate {
        /// Where the method is.
        mount: ApiPath,
        /// Which role, if not any that the certificate is good for.
        role: Option<String>,
    },
}

impl Login {
    /// The secret that it goes by, and the field of the configuration that names it.
    #[must_use]
    pub fn secret(&self) -> Option<(&'static str, &SecretRef)> {
        match self {
            Self::Token(token) => Some(("token", token)),
            Self::AppRole { secret_id, .. } => Some(("approle.secret_id", secret_id)),
            Self::Jwt { token, .. } => Some(("kubernetes.token_file", token)),
            Self::Certificate { .. } => None,
        }
    }
}

/// The address of a secret store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Url);

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// It has another form.
    #[error("not the address of a Vault; allowed: https://HOST:PORT")]
    Form,
    /// In cleartext, beyond this machine.
    #[error("the token and every password would go over the network in cleartext: use https://")]
    Cleartext,
}

impl Address {
    /// Checks an address. In cleartext it must be on this machine.
    ///
    /// # Errors
    /// It is not one, or not a safe one.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let url = Url::parse(text).map_err(|_| InvalidAddress::Form)?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        match (url.scheme(), url.host_str()) {
            ("https", Some(_)) if is_bare => Ok(Self(url)),
            ("http", Some(host)) if is_bare && is_loopback(host) => Ok(Self(url)),
            ("http", Some(_)) if is_bare => Err(InvalidAddress::Cleartext),
            _ => Err(InvalidAddress::Form),
        }
    }

    /// Whether it is spoken with inside TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_encrypted_or_on_this_machine() {
        for good in ["https://vault.internal:8200", "https://10.0.0.1", "https://[::2]:8200/"] {
            assert!(Address::parse(good).unwrap().is_encrypted(), "{good}");
        }
        for local in ["http://127.0.0.1:8100", "http://localhost:8100", "http://[::1]:8100"] {
            assert!(!Address::parse(local).unwrap().is_encrypted(), "{local}");
        }
        for open in ["http://10.0.0.1:8200", "http://vault.internal:8200"] {
            assert_eq!(Address::parse(open), Err(InvalidAddress::Cleartext), "{open}");
        }
        let odd = [
            "vault:8200",
            "vault",
            "",
            "ftp://vault",
            "https://",
            "https://user@vault",
            "https://u:p@vault",
            "https://vault/v1",
            "https://vault?x",
            "https://vault#x",
            "unix:///run/vault",
        ];
        for odd in odd {
            assert_eq!(Address::parse(odd), Err(InvalidAddress::Form), "{odd}");
        }
    }
}
