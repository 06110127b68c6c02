//! TLS, made the same way everywhere: versions 1.2 and 1.3, rustls on ring.
//!
//! The provider is always passed explicitly. Two of them are linked into the binary by other crates, and the process-wide
//! default is whichever was installed first.

mod end_point;
mod listener;
mod problem;
mod target;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::files::{self, FileError};
use crate::secret::SecretError;

pub use end_point::server_end_point;
pub use listener::{CurrentTls, ListenerTls};
pub use problem::wrong_with;
pub use target::{CertificateCheck, ClientIdentity, TargetTls};

/// The largest file of certificates, in bytes: the roots of an operating system are a quarter of it.
const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file has no certificate, or one that is broken.
    #[error("{} holds no readable certificate in PEM: {reason}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The file has no private key, or one that is broken. What it has is not repeated.
    #[error("{} holds no readable private key in PEM", .0.display())]
    Key(PathBuf),
    /// Certificate and key are each readable and do not go together.
    #[error("{} and {} do not go together: {reason}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The key that a configuration references cannot be had.
    #[error("the key of {}: {source}", certificate.display())]
    KeyReference {
        /// The file of the certificate that it belongs to.
        certificate: PathBuf,
        /// What is wrong with the reference.
        source: SecretError,
    },
    /// The operating system has no roots to check a target against.
    #[error(
        "this system has no root certificates: install ca-certificates, or name the target's own with `tls_ca`"
    )]
    NoSystemRoots,
    /// A name that no certificate can carry.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// A certificate could not be made.
    #[error("the certificate cannot be made: {0}")]
    Issue(rcgen::Error),
    /// The library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// The TLS of a listener, and what its clients can bind their logins to.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The TLS itself. A caller whose protocol uses ALPN sets it.
    pub config: ServerConfig,
    /// Hash of the listener's certificate for channel binding, where it has one.
    pub end_point: Option<Vec<u8>>,
}

/// The TLS of a listener whose clients prove themselves inside it.
///
/// # Errors
/// As [`server_config`].
pub fn server_tls(certificate: &Path, key: &Path) -> Result<ServerTls, TlsError> {
    let config = server_config(certificate, key)?;
    let end_point = certificates(certificate)?.first().and_then(server_end_point);
    if end_point.is_none() {
        tracing::info!(
            certificate = %certificate.display(),
            "this certificate's signature names no hash, so logins cannot be bound to it (SCRAM-SHA-256-PLUS)"
        );
    }
    Ok(ServerTls { config, end_point })
}

/// The TLS of a listener: this certificate chain and key, no client certificates.
///
/// A caller whose protocol uses ALPN sets it on what it gets.
pub fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = certificates(certificate)?;
    let private = private_key(key)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    builder.with_no_client_auth().with_single_cert(chain, private).map_err(|error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

/// The TLS of a client that trusts what these roots have signed, and nothing else.
pub fn client_config_trusting(ca: &Path) -> Result<ClientConfig, TlsError> {
    let roots = roots_of(ca, certificates(ca)?)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_webpki_verifier(verifier).with_no_client_auth())
}

/// A store of what stands in this file.
fn roots_of(ca: &Path, certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Certificate { path: ca.to_owned(), reason: error.to_string() })?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (_, bytes) = files::read(path, PEM_FILE_BYTES_MAX)?;
    let broken = |reason: String| TlsError::Certificate { path: path.to_owned(), reason };
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(broken("there is none in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (_, bytes) = files::read(path, PEM_FILE_BYTES_MAX)?;
    let bytes = zeroize::Zeroizing::new(bytes);
    files::warn_if_shared(path);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Key(path.to_owned()))
}

#[cfg(test)]
mod tests;
