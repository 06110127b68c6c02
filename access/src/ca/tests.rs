use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::FileError;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn certificates_are_for_everybody_and_keys_for_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path()).unwrap().issue_server(&names(&["localhost"])).unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("ca.pem"), mode("server.pem")), (0o644, 0o644));
    assert_eq!((mode("keys/ca.key"), mode("keys/server.key"), mode("keys")), (0o600, 0o600, 0o700));
}

#[test]
fn a_ca_read_back_issues_what_its_clients_trust() {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path()).unwrap();
    let identity = Ca::load(dir.path()).unwrap().issue_server(&names(&["localhost"])).unwrap();
    let issued = tls::certificates(&identity.certificate).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(tls::certificates(&Ca::certificate_path(dir.path())).unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let now = rustls::pki_types::UnixTime::now();
    rustls::client::danger::ServerCertVerifier::verify_server_cert(
        &*verifier,
        &issued[0],
        &[],
        &name,
        &[],
        now,
    )
    .unwrap();
}

#[test]
fn a_ca_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path()).unwrap();
    let before = fs::read(Ca::certificate_path(dir.path())).unwrap();
    assert!(matches!(Ca::create(dir.path()), Err(TlsError::File(FileError::Exists(_)))));
    assert_eq!(fs::read(Ca::certificate_path(dir.path())).unwrap(), before);
    Ca::load(dir.path()).unwrap();
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Ca::create(one.path()).unwrap();
    Ca::create(two.path()).unwrap();
    fs::copy(key_path(one.path()), key_path(two.path())).unwrap();
    assert!(matches!(Ca::load(two.path()), Err(TlsError::Pair { .. })));
}

#[test]
fn a_missing_or_broken_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path()).unwrap();
    fs::write(key_path(dir.path()), "canary").unwrap();
    let broken = Ca::load(dir.path()).unwrap_err().to_string();
    assert!(broken.contains("ca.key") && !broken.contains("canary"), "{broken}");
    fs::remove_file(key_path(dir.path())).unwrap();
    assert!(Ca::load(dir.path()).unwrap_err().to_string().contains("ca.key"));
}

#[test]
fn names_that_no_certificate_can_carry_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path()).unwrap();
    for name in ["", "two words", "héllo", "127.0.0.1:5432"] {
        let error = ca.issue_server(&names(&["localhost", name])).unwrap_err();
        assert!(matches!(error, TlsError::Name(named) if named == name));
    }
    assert!(matches!(ca.issue_server(&[]), Err(TlsError::Name(_))));
}
