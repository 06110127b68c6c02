use std::io;

use retrace_access::tls::wrong_with;
use retrace_access::{AuthMethod, NoCredential};

use crate::startup::StartupError;

/// Why a target is not ready. No variant holds what the target said, an address or a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    NoCredential(#[from] NoCredential),
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
    #[error("it asks for no proof, which this target's require_auth does not allow")]
    NotAsked,
    #[error("it does not bind the proof to the connection, which channel_binding = \"require\" asks for")]
    NotBound,
    #[error("it asks for {0}, which this gate does not do towards targets")]
    Unsupported(&'static str),
    #[error("it does not prove that it knows the gate's password")]
    NoProof,
    #[error("it refuses a setting that this client asks for (SQLSTATE {sqlstate})")]
    Setting { sqlstate: String },
    #[error("it is busy or not up (SQLSTATE {sqlstate})")]
    Busy { sqlstate: String },
    #[error("it refuses the gate's login (SQLSTATE {sqlstate})")]
    Refused { sqlstate: String },
    #[error("it does not answer as a PostgreSQL server does")]
    Protocol,
    #[error("it was not ready in time")]
    Deadline,
}

impl DialError {
    /// What a target's own error says, by its code (PostgreSQL, appendix A) and nothing else of it.
    pub(crate) fn of_target(sqlstate: String) -> Self {
        match sqlstate.as_str() {
            "42704" | "42602" => Self::Setting { sqlstate },
            code if code.starts_with("22") => Self::Setting { sqlstate },
            code if code.starts_with("53") || code.starts_with("57") => Self::Busy { sqlstate },
            _ => Self::Refused { sqlstate },
        }
    }

    /// The code for the client: the target's own where a client can act on it as it would there, never one about the
    /// gate's credential.
    pub(crate) fn sqlstate(&self) -> &str {
        match self {
            Self::Setting { sqlstate } | Self::Busy { sqlstate } => sqlstate,
            _ => "08001",
        }
    }

    /// Whether it may be that the credential has been changed: everything that PostgreSQL says by class 28.
    pub(crate) fn is_of_credential(&self) -> bool {
        matches!(self, Self::Refused { sqlstate } if sqlstate.starts_with("28"))
    }

    /// What the client can do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "Look at the options and settings of your connection.",
            _ => "Try again later, or ask whoever runs the gate.",
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
