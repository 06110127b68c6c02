//! TLS, made the same way everywhere: versions 1.2 and 1.3, rustls on ring.
//!
//! The provider is always passed explicitly. Two of them are linked into the binary by other crates, and the process-wide
//! default is whichever was installed first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::files::{self, FileError};

/// The largest file of certificates, in bytes: the roots of an operating system are a quarter of it.
const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How far a target is trusted to be who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetTls {
    /// The chain and the name of the target's certificate are checked, like libpq's `verify-full`.
    VerifyFull {
        /// The roots that the chain must end in; without, those of the operating system.
        ca: Option<PathBuf>,
    },
    /// Encrypted, whoever is at the other end, like libpq's `require`. It keeps listeners out and impostors not.
    Require,
}

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
    /// The operating system has no roots to check a target against.
    #[error(
        "this system has no root certificates: install ca-certificates, or name the target's own with `ca`"
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
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Certificate { path: ca.to_owned(), reason: error.to_string() })?;
    }
    verifying(roots)
}

/// The TLS from the gate to a target.
pub fn target_client_config(mode: &TargetTls) -> Result<ClientConfig, TlsError> {
    match mode {
        TargetTls::VerifyFull { ca: Some(ca) } => client_config_trusting(ca),
        TargetTls::VerifyFull { ca: None } => verifying(system_roots()?),
        TargetTls::Require => {
            let builder =
                ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
            let verifier = Arc::new(AnyCertificate { provider: provider() });
            Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn verifying(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_webpki_verifier(verifier).with_no_client_auth())
}

/// The operating system's roots. Single ones that cannot be read are left out: a missing root refuses, it never admits.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoSystemRoots);
    }
    Ok(roots)
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

/// Takes every certificate. The handshake's signature is still checked, so the other end at least holds the key of the
/// certificate it shows, whoever it is.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
