//! What can go wrong, told without a word of Vault's own: its texts hold addresses and names of targets.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use retrace_access::TlsError;
use retrace_access::tls::wrong_with;

/// Why a request was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Nobody answers there.
    #[error("Vault cannot be reached ({0})")]
    Unreachable(&'static str),
    /// Somebody does who does not prove to be it.
    #[error("its certificate {0}")]
    Certificate(&'static str),
    /// It is sealed, or not ready otherwise.
    #[error("Vault is sealed")]
    Sealed,
    /// It wants to be asked less often.
    #[error("Vault is asked too often")]
    Busy {
        /// For how long.
        wait: Option<Duration>,
    },
    /// It cannot do it.
    #[error("Vault fails (status {0})")]
    Fails(u16),
    /// It does not let the gate do it, or does not know the token any more.
    #[error("Vault does not let the gate do this (status 403)")]
    Denied,
    /// There is nothing.
    #[error("Vault has nothing there (status 404)")]
    NotFound,
    /// What was asked makes no sense to it.
    #[error("Vault does not know this, or not any more (status {0})")]
    Invalid(u16),
    /// Something else is at this address.
    #[error("what answers at this address does not answer as Vault does")]
    Answer,
    /// A secret of the gate's own that cannot be sent.
    #[error("the gate's own secret has characters that none of Vault's has")]
    SecretForm,
    /// The gate has not logged in.
    #[error("the gate is not logged in at Vault")]
    NoLogin,
    /// The gate's side of TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The library refuses the settings.
    #[error("the connection to Vault cannot be set up")]
    SetUp,
}

impl VaultError {
    /// What a status other than success means. `is_vaults` is whether the answer has the form of Vault's.
    pub(crate) fn of_status(status: StatusCode, wait: Option<Duration>, is_vaults: bool) -> Self {
        match status.as_u16() {
            503 => Self::Sealed,
            429 => Self::Busy { wait },
            // Through a balancer, 472 and 473 are standby nodes, and 412 is one that lags behind.
            code @ (300..=399 | 412 | 472 | 473 | 500..) => Self::Fails(code),
            _ if !is_vaults => Self::Answer,
            403 => Self::Denied,
            404 => Self::NotFound,
            code => Self::Invalid(code),
        }
    }

    /// What an error of the library means. It can hold the address, so it is looked at and not passed on.
    pub(crate) fn of_transport(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            match error.downcast_ref() {
                Some(rustls::Error::InvalidCertificate(error)) => {
                    return Self::Certificate(wrong_with(error));
                }
                Some(_) => return Self::Unreachable("no TLS with it"),
                None => {}
            }
            let of_system = error.downcast_ref::<io::Error>();
            if let Some(word) = of_system.and_then(|error| word(error.kind())) {
                return Self::Unreachable(word);
            }
            // Such an error passes over the one that it wraps when it is asked for its cause.
            let wrapped = of_system.and_then(io::Error::get_ref).map(|error| error as &(dyn Error + 'static));
            cause = wrapped.or_else(|| error.source());
        }
        Self::Unreachable(if error.is_timeout() { "no answer in time" } else { "the connection was closed" })
    }

    /// Whether it may pass by waiting.
    pub(crate) fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Sealed | Self::Busy { .. } | Self::Fails(_) | Self::NoLogin
        )
    }

    /// A word of a closed set, for metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Certificate(_) => "unreachable",
            Self::Sealed => "sealed",
            Self::Busy { .. } => "busy",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Invalid(_) => "invalid",
            _ => "failed",
        }
    }
}

fn word(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset => Some("connection reset"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some("no way to it"),
        _ => None,
    }
}
