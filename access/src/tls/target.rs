//! The TLS from the gate to a target, with the modes that libpq has.
//!
//! `allow` and `prefer` are missing on purpose: both go on in cleartext when an attacker says that there is no TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{TlsError, certificates, provider, roots_of};
use crate::secret::SecretRef;

/// How the gate speaks TLS with a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTls {
    /// How far the target must prove who it is.
    pub check: CertificateCheck,
    /// The name that the certificate must have and that is asked for (SNI), where it is not the target's host.
    pub server_name: Option<String>,
    /// The certificate by which the gate proves itself.
    pub identity: Option<ClientIdentity>,
    /// Whether TLS begins at once, as PostgreSQL 17 can, rather than after a question in cleartext.
    pub direct: bool,
}

/// How far a target is trusted to be who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateCheck {
    /// The chain and the name of the target's certificate are checked: libpq's `verify-full`.
    Full {
        /// The roots that the chain must end in; without, those of the operating system.
        ca: Option<PathBuf>,
    },
    /// The chain alone is checked: libpq's `verify-ca`. The roots are never those of the operating system, under which
    /// anybody has a certificate.
    Chain {
        /// The roots that the chain must end in.
        ca: PathBuf,
    },
    /// Encrypted, whoever is at the other end: libpq's `require`. It keeps listeners out and impostors not.
    Nothing,
}

/// A certificate of the gate's own, for targets that ask for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The file of the certificate, with the chain behind it, in PEM.
    pub certificate: PathBuf,
    /// Where its key is, in PEM.
    pub key: SecretRef,
}

impl TargetTls {
    /// TLS with this check and nothing else asked for.
    #[must_use]
    pub fn new(check: CertificateCheck) -> Self {
        Self { check, server_name: None, identity: None, direct: false }
    }

    /// Whether the other end must prove who it is.
    #[must_use]
    pub fn verifies(&self) -> bool {
        self.check != CertificateCheck::Nothing
    }

    /// The library's configuration. A key by reference with a relative path counts from `base_dir`.
    ///
    /// # Errors
    /// Names the file or reference that cannot be used.
    pub fn client_config(&self, base_dir: &Path) -> Result<ClientConfig, TlsError> {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let verifier = Arc::new(TargetVerifier::new(&self.check)?);
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let Some(identity) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(&identity.certificate)?;
        let key = identity.private_key(base_dir)?;
        builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Pair {
            certificate: identity.certificate.clone(),
            key: identity.shown_key(),
            reason: error.to_string(),
        })
    }
}

impl ClientIdentity {
    fn private_key(&self, base_dir: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        let key = self
            .key
            .resolve(base_dir)
            .map_err(|source| TlsError::KeyReference { certificate: self.certificate.clone(), source })?;
        PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| TlsError::Key(self.shown_key()))
    }

    /// Where the key is, for errors.
    fn shown_key(&self) -> PathBuf {
        match &self.key {
            SecretRef::File(path) => path.clone(),
            SecretRef::Env(name) => format!("${name}").into(),
        }
    }
}

/// Checks a target's certificate. The handshake's signature is checked always, so the other end at least holds the key of
/// the certificate it shows.
#[derive(Debug)]
struct TargetVerifier {
    provider: Arc<CryptoProvider>,
    /// `None`: whoever it is.
    trusted: Option<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    roots: RootCertStore,
    /// Certificates that are trusted themselves: what stands in the file of the roots.
    pinned: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl TargetVerifier {
    fn new(check: &CertificateCheck) -> Result<Self, TlsError> {
        let trusted = match check {
            CertificateCheck::Full { ca: Some(ca) } => Some(Trusted::of(ca, true)?),
            CertificateCheck::Full { ca: None } => {
                Some(Trusted { roots: system_roots()?, pinned: Vec::new(), checks_name: true })
            }
            CertificateCheck::Chain { ca } => Some(Trusted::of(ca, false)?),
            CertificateCheck::Nothing => None,
        };
        Ok(Self { provider: provider(), trusted })
    }
}

impl Trusted {
    fn of(ca: &Path, checks_name: bool) -> Result<Self, TlsError> {
        let pinned = certificates(ca)?;
        Ok(Self { roots: roots_of(ca, pinned.clone())?, pinned, checks_name })
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms.all;
        let chain = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        );
        match chain {
            Err(error) if is_only_its_own_authority(&error) && self.pinned.contains(end_entity) => {}
            chain => chain?,
        }
        if self.checks_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(())
    }
}

/// Whether the one thing wrong with a certificate is that it is an authority as well, as those are that the PostgreSQL
/// documentation has people make for a server. Its dates have been checked before that. If the configuration names the very
/// certificate, that is all that a chain could prove.
fn is_only_its_own_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
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

impl ServerCertVerifier for TargetVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trusted) = &self.trusted {
            trusted.verify(end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
