use std::fs;

use rustls::{ClientConnection, ServerConnection};
use tempfile::TempDir;

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
    let full = |dir: &TempDir| {
        let mode = TargetTls::VerifyFull { ca: Some(Ca::certificate_path(dir.path())) };
        target_client_config(&mode).unwrap()
    };
    let require = target_client_config(&TargetTls::Require).unwrap();
    assert!(talk(full(&dir), listener(&identity), "db.example").is_ok());
    assert!(talk(full(&dir), listener(&identity), "db2.example").is_err());
    assert!(talk(full(&other), listener(&identity), "db.example").is_err());
    assert_eq!(talk(require, listener(&identity), "whatever.example").unwrap(), b"word");
}

#[test]
fn the_roots_of_the_system_do_not_vouch_for_a_ca_of_our_own() {
    let (_dir, identity) = issued(&["db.example"]);
    match target_client_config(&TargetTls::VerifyFull { ca: None }) {
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
        let require = target_client_config(&TargetTls::Require).unwrap();
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
