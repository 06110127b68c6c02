use std::io;

use retrace_access::AuthMethod;
use rustls::CertificateError;

use crate::startup::StartupError;

/// Why a target is not ready. No variant holds what the target said, an address or a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("it cannot be reached ({})", .0.kind())]
    Io(io::Error),
    #[error("it does not speak TLS")]
    NoTls,
    #[error("it does not speak TLS without being asked first: use tls_negotiation = \"postgres\"")]
    NoDirectTls,
    #[error("its certificate {0}")]
    Certificate(&'static str),
    #[error("TLS with it cannot be set up")]
    Tls,
    #[error(
        "it asks for the gate's password by the method {0}, which whoever listens or stands in for it could use: \
         tls = \"verify-full\" makes that safe, allow_weak_auth = true allows it all the same"
    )]
    Weak(AuthMethod),
    #[error("it asks for a proof by the method {0}, which this target's require_auth does not allow")]
    NotAllowed(AuthMethod),
    #[error("it does not bind the proof to the connection, which channel_binding = \"require\" asks for")]
    NotBound,
    #[error("it asks for {0}, which this gate does not do towards targets")]
    Unsupported(&'static str),
    #[error("it does not prove that it knows the gate's password")]
    NoProof,
    #[error("it refuses the gate's login (SQLSTATE {sqlstate})")]
    Refused { sqlstate: String },
    #[error("it does not answer as a PostgreSQL server does")]
    Protocol,
    #[error("it was not ready in time")]
    Deadline,
}

impl DialError {
    /// The code for the client. The target's own where it is about the client's settings or about the target's being full
    /// or not ready, so that a client does what it would do there; never one about the gate's credential.
    pub(crate) fn sqlstate(&self) -> &str {
        match self {
            Self::Refused { sqlstate }
                if ["22", "42", "53", "57"].iter().any(|it| sqlstate.starts_with(it)) =>
            {
                sqlstate
            }
            _ => "08001",
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => Self::Certificate(wrong_with(error)),
            Some(rustls::Error::NoApplicationProtocol) => Self::NoDirectTls,
            Some(_) => Self::Tls,
            None => Self::Io(error),
        }
    }
}

impl From<StartupError> for DialError {
    fn from(error: StartupError) -> Self {
        match error {
            StartupError::Io(error) => error.into(),
            _ => Self::Protocol,
        }
    }
}

/// What is wrong with a certificate, without the names that it has.
fn wrong_with(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => "is not of an authority that the gate trusts for it (tls_ca)",
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "is of another name than the gate was told (tls_server_name)"
        }
        E::Expired | E::ExpiredContext { .. } => "is expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "is not valid yet",
        E::Revoked => "is revoked",
        _ => "is not valid",
    }
}
