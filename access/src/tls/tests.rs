use std::fs;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use tempfile::TempDir;

use rustls::CertificateError;

use super::*;
use crate::{Ca, ServerIdentity};

/// A folder with a CA and a server's certificate for these names.
fn issued(names: &[&str]) -> (TempDir, ServerIdentity) {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let identity = Ca::create(dir.path()).unwrap().issue_server(&names).unwrap();
    (dir, identity)
}

fn listener(identity: &ServerIdentity) -> ServerConfig {
    server_config(&identity.certificate, &identity.key).unwrap()
}

fn target_config(check: CertificateCheck) -> ClientConfig {
    TargetTls::new(check).client_config(Path::new("")).unwrap()
}

/// A handshake in memory, then a word to the server; the word as it came, or why it did not.
fn talk(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Vec<u8>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let mut word = Vec::new();
    std::io::Write::write_all(&mut client.writer(), b"word").unwrap();
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        let plain = server.process_new_packets()?.plaintext_bytes_to_read();
        word.resize(plain, 0);
        std::io::Read::read_exact(&mut server.reader(), &mut word).unwrap();
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(word)
}

#[test]
fn a_client_that_trusts_the_ca_talks_to_each_name_of_the_server() {
    let (dir, identity) = issued(&["localhost", "gate.example", "127.0.0.1", "::1"]);
    for name in ["localhost", "gate.example", "127.0.0.1", "::1"] {
        let client = client_config_trusting(&Ca::certificate_path(dir.path())).unwrap();
        assert_eq!(talk(client, listener(&identity), name).unwrap(), b"word", "{name}");
    }
}

#[test]
fn another_name_or_another_ca_is_refused() {
    let (dir, identity) = issued(&["localhost"]);
    let (other, _) = issued(&["localhost"]);
    let trusting = |dir: &TempDir| client_config_trusting(&Ca::certificate_path(dir.path())).unwrap();
    assert!(talk(trusting(&dir), listener(&identity), "elsewhere.example").is_err());
    assert!(talk(trusting(&dir), listener(&identity), "127.0.0.1").is_err());
    assert!(talk(trusting(&other), listener(&identity), "localhost").is_err());
    assert!(talk(trusting(&dir), listener(&identity), "localhost").is_ok());
}

#[test]
fn full_verification_of_a_target_refuses_a_stranger_and_require_does_not() {
    let (dir, identity) = issued(&["db.example"]);
    let (other, _) = issued(&["db.example"]);
    let full =
        |dir: &TempDir| target_config(CertificateCheck::Full { ca: Some(Ca::certificate_path(dir.path())) });
    let require = target_config(CertificateCheck::Nothing);
    assert!(talk(full(&dir), listener(&identity), "db.example").is_ok());
    assert!(talk(full(&dir), listener(&identity), "db2.example").is_err());
    assert!(talk(full(&other), listener(&identity), "db.example").is_err());
    assert_eq!(talk(require, listener(&identity), "whatever.example").unwrap(), b"word");
}

#[test]
fn the_roots_of_the_system_do_not_vouch_for_a_ca_of_our_own() {
    let (_dir, identity) = issued(&["db.example"]);
    match TargetTls::new(CertificateCheck::Full { ca: None }).client_config(Path::new("")) {
        Ok(client) => assert!(talk(client, listener(&identity), "db.example").is_err()),
        Err(error) => assert!(matches!(error, TlsError::NoSystemRoots)),
    }
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let (dir, identity) = issued(&["localhost"]);
    let roots = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&Ca::certificate_path(dir.path())).unwrap());
        roots
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]);
        let client = builder.unwrap().with_root_certificates(roots()).with_no_client_auth();
        assert_eq!(talk(client, listener(&identity), "localhost").unwrap(), b"word");
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]);
        let chain = certificates(&identity.certificate).unwrap();
        let key = private_key(&identity.key).unwrap();
        let server = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let require = target_config(CertificateCheck::Nothing);
        assert_eq!(talk(require, server, "localhost").unwrap(), b"word");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_with_both_names() {
    let (_dir, identity) = issued(&["localhost"]);
    let (_other, stranger) = issued(&["localhost"]);
    let error = server_config(&identity.certificate, &stranger.key).unwrap_err().to_string();
    assert!(error.contains("server.pem") && error.contains("server.key"), "{error}");
}

#[test]
fn files_that_hold_something_else_are_named_and_not_repeated() {
    let (dir, identity) = issued(&["localhost"]);
    let odd = dir.path().join("odd.pem");
    fs::write(&odd, "canary").unwrap();
    let errors = [
        server_config(&odd, &identity.key).unwrap_err(),
        server_config(&identity.certificate, &odd).unwrap_err(),
        client_config_trusting(&odd).unwrap_err(),
        client_config_trusting(&dir.path().join("odd.pem.gone")).unwrap_err(),
    ];
    for error in errors.map(|error| error.to_string()) {
        assert!(error.contains("odd.pem") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn verify_ca_checks_the_chain_and_not_the_name() {
    let (dir, identity) = issued(&["db.example"]);
    let (other, _) = issued(&["db.example"]);
    let chain =
        |dir: &TempDir| target_config(CertificateCheck::Chain { ca: Ca::certificate_path(dir.path()) });
    assert_eq!(talk(chain(&dir), listener(&identity), "elsewhere.example").unwrap(), b"word");
    assert!(talk(chain(&other), listener(&identity), "db.example").is_err());
}

/// A server's certificate that is its own authority, as `openssl req -x509` makes it.
fn self_signed(dir: &TempDir, name: &str, not_after_year: i32) -> ServerIdentity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let paths = ["pem", "key"].map(|end| dir.path().join(format!("{name}.{end}")));
    fs::write(&paths[0], certificate.pem()).unwrap();
    fs::write(&paths[1], key.serialize_pem()).unwrap();
    let [certificate, key] = paths;
    ServerIdentity { certificate, key }
}

#[test]
fn a_self_signed_certificate_is_trusted_if_the_configuration_names_that_very_one() {
    let dir = tempfile::tempdir().unwrap();
    let (server, twin) = (self_signed(&dir, "server", 3000), self_signed(&dir, "twin", 3000));
    let full =
        |ca: &ServerIdentity| target_config(CertificateCheck::Full { ca: Some(ca.certificate.clone()) });
    assert_eq!(talk(full(&server), listener(&server), "db.example").unwrap(), b"word");
    assert!(talk(full(&server), listener(&server), "elsewhere.example").is_err());
    assert!(talk(full(&twin), listener(&server), "db.example").is_err());
    let expired = self_signed(&dir, "expired", 2001);
    assert!(talk(full(&expired), listener(&expired), "db.example").is_err());
}

#[test]
fn a_target_that_asks_for_a_certificate_gets_the_gates() {
    let (dir, identity) = issued(&["db.example"]);
    let (gate, gates) = issued(&["gate.example"]);
    let roots = roots_of(Path::new(""), certificates(&Ca::certificate_path(gate.path())).unwrap()).unwrap();
    let asking = || {
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider());
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[
            // In TLS 1.2 a refusal comes before the client's first word.
            &rustls::version::TLS12,
        ]);
        let chain = certificates(&identity.certificate).unwrap();
        let key = private_key(&identity.key).unwrap();
        let builder = builder.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        builder.with_single_cert(chain, key).unwrap()
    };
    let mut mode = TargetTls::new(CertificateCheck::Full { ca: Some(Ca::certificate_path(dir.path())) });
    assert!(talk(mode.client_config(dir.path()).unwrap(), asking(), "db.example").is_err());
    let key = crate::SecretRef::File(gates.key.clone());
    mode.identity = Some(ClientIdentity { certificate: gates.certificate.clone(), key });
    let sent = talk(mode.client_config(dir.path()).unwrap(), asking(), "db.example");
    // The certificate is one for servers, which the target may refuse; that it came is what counts.
    let came = matches!(&sent, Ok(word) if word == b"word")
        || matches!(
            &sent,
            Err(rustls::Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }))
        );
    assert!(came, "{sent:?}");
    mode.identity.as_mut().unwrap().key = crate::SecretRef::File(identity.key.clone());
    let error = mode.client_config(dir.path()).unwrap_err().to_string();
    assert!(error.contains("do not go together"), "{error}");
    mode.identity.as_mut().unwrap().key = crate::SecretRef::File("gone.key".into());
    let error = mode.client_config(dir.path()).unwrap_err().to_string();
    assert!(error.contains("gone.key") && error.contains("server.pem"), "{error}");
}

#[test]
fn the_gates_own_certificate_can_be_bound_to() {
    let (_dir, identity) = issued(&["localhost"]);
    let tls = server_tls(&identity.certificate, &identity.key).unwrap();
    let certificate = &certificates(&identity.certificate).unwrap()[0];
    assert_eq!(tls.end_point, server_end_point(certificate));
    assert_eq!(tls.end_point.unwrap().len(), 32);
}
