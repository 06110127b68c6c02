//! The development CA: so that a first start has TLS, and its clients a root to trust.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};

use crate::files;
use crate::keys;
use crate::secret::Secret;
use crate::time;
use crate::tls::{self, TlsError};

const COMMON_NAME: &str = "Retrace development CA";
/// How long the CA's certificate is good: ten years.
const CA_DAYS: u64 = 3650;
/// How long a server's certificate is good. Some clients refuse one of more than 825 days.
const SERVER_DAYS: u64 = 825;
/// How far before its making a certificate is good already, for clients whose clock is behind.
const BACKDATED_DAYS: u64 = 1;
/// The largest file of a key, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// A certificate authority of the gateway's own, in `ca.pem` and `keys/ca.key` of its folder.
///
/// ECDSA on P-256. Whoever holds the key can impersonate the gateway to every client that trusts `ca.pem`, so it is its
/// owner's alone to read.
pub struct Ca {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a server's certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The certificate in PEM.
    pub certificate: PathBuf,
    /// The private key in PEM, readable by its owner alone.
    pub key: PathBuf,
}

impl ServerIdentity {
    /// Where a gateway keeps them.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self { certificate: dir.join("server.pem"), key: keys::folder(dir).join("server.key") }
    }
}

impl Ca {
    /// Makes a new CA in the folder. One that is there already is an error and stays as it is.
    pub fn create(dir: &Path) -> Result<Self, TlsError> {
        files::private_dir(&keys::folder(dir))?;
        let key = new_key()?;
        let params = ca_params();
        let certificate = params.self_signed(&key).map_err(TlsError::Issue)?;
        let key_pem = Secret::new(key.serialize_pem().into_bytes());
        files::create(&key_path(dir), key_pem.expose(), files::MODE_PRIVATE)?;
        files::create(&Self::certificate_path(dir), certificate.pem().as_bytes(), files::MODE_PUBLIC)?;
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Reads the CA of the folder.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let (certificate_path, key_path) = (Self::certificate_path(dir), key_path(dir));
        let pem = zeroize::Zeroizing::new(read_text(&key_path, |_| TlsError::Key(key_path.clone()))?);
        files::warn_if_shared(&key_path);
        let key = KeyPair::from_pem(&pem).map_err(|_| TlsError::Key(key_path.clone()))?;
        let certificates = tls::certificates(&certificate_path)?;
        let public = key.der_bytes();
        let is_ours = certificates[0].windows(public.len()).any(|bytes| bytes == public);
        if !is_ours {
            return Err(TlsError::Pair {
                certificate: certificate_path,
                key: key_path,
                reason: "the certificate is of another key".to_owned(),
            });
        }
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(ca_params(), key) })
    }

    /// Where the CA of a folder has its certificate: what clients are told to trust.
    #[must_use]
    pub fn certificate_path(dir: &Path) -> PathBuf {
        dir.join("ca.pem")
    }

    /// Issues a certificate for a server that is reached by these DNS names and IP addresses, with a new key, in place of
    /// what the folder had.
    pub fn issue_server(&self, names: &[String]) -> Result<ServerIdentity, TlsError> {
        let key = new_key()?;
        let certificate = server_params(names)?.signed_by(&key, &self.issuer).map_err(TlsError::Issue)?;
        let identity = ServerIdentity::in_dir(&self.dir);
        let key_pem = Secret::new(key.serialize_pem().into_bytes());
        files::replace(&identity.key, key_pem.expose(), files::MODE_PRIVATE)?;
        files::replace(&identity.certificate, certificate.pem().as_bytes(), files::MODE_PUBLIC)?;
        Ok(identity)
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn key_path(dir: &Path) -> PathBuf {
    keys::folder(dir).join("ca.key")
}

fn new_key() -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Issue)
}

/// What the CA's certificate says. The parts an issued certificate repeats do not depend on when this is called.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_DAYS);
    params
}

fn server_params(names: &[String]) -> Result<CertificateParams, TlsError> {
    let first = names.first().ok_or_else(|| TlsError::Name(String::new()))?;
    for name in names {
        rustls::pki_types::ServerName::try_from(name.as_str()).map_err(|_| TlsError::Name(name.clone()))?;
    }
    let mut params = CertificateParams::new(names).map_err(TlsError::Issue)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, SERVER_DAYS);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    const DAY_S: u64 = 24 * 60 * 60;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A clock that is far off gives a certificate that is far off, and no panic.
    let now_s = u64::try_from(time::now_unix_s()).unwrap_or_default().min(CLOCK_S_MAX);
    let from_s = now_s.saturating_sub(BACKDATED_DAYS * DAY_S);
    params.not_before = epoch + Duration::from_secs(from_s);
    params.not_after = epoch + Duration::from_secs(now_s + days * DAY_S);
}

/// The last time a certificate is made at, in seconds since the Unix epoch: in the year 4000.
const CLOCK_S_MAX: u64 = 64_000_000_000;

fn read_text(path: &Path, not_text: impl Fn(&'static str) -> TlsError) -> Result<String, TlsError> {
    let (_, bytes) = files::read(path, KEY_FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| not_text("it is not text"))
}

#[cfg(test)]
mod tests;
