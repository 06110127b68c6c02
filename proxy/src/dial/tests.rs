use std::sync::Arc;

use postgres_protocol::authentication::md5_hash;
use retrace_access::{
    AuthMethod, BindingMode, CertificateCheck, CredentialSource, SecretRef, TargetAuth, TargetTls, tls,
};
use rustls::ServerConfig;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{self, PASSWORD, issued, listen, read_startup, target, target_tls, welcome};

fn asking(kind: u32, rest: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], rest].concat()
}

const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const PLAIN_OFFERED: &[u8] = b"SCRAM-SHA-256\0\0";
const BOTH_OFFERED: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

/// What the gate says to one question.
fn said(
    auth: TargetAuth,
    privacy: Privacy,
    end_point: Option<&[u8]>,
    question: &[u8],
) -> Result<Vec<u8>, DialError> {
    let credential = testing::credential();
    let step = Prover::new(auth, &credential, privacy, end_point.map(<[u8]>::to_vec)).handle(question)?;
    let Step::Send(message) = step else { return Ok(Vec::new()) };
    Ok(message.expose()[5..].to_vec())
}

#[test]
fn a_password_as_it_is_goes_to_a_proven_target_or_this_machine_or_where_the_configuration_says() {
    let strict = TargetAuth::default();
    let lax = TargetAuth { allow_weak: true, ..strict };
    let as_it_is = format!("{PASSWORD}\0").into_bytes();
    let hashed = format!("{}\0", md5_hash(b"gate", PASSWORD.as_bytes(), [1, 2, 3, 4])).into_bytes();
    for (question, answer, method) in [
        (asking(CLEARTEXT, b""), as_it_is, AuthMethod::Password),
        (asking(MD5, &[1, 2, 3, 4]), hashed, AuthMethod::Md5),
    ] {
        assert_eq!(said(strict, Privacy::Verified, None, &question).unwrap(), answer);
        assert_eq!(said(strict, Privacy::Local, None, &question).unwrap(), answer);
        assert_eq!(said(lax, Privacy::Exposed, None, &question).unwrap(), answer);
        let refused = said(strict, Privacy::Exposed, None, &question).unwrap_err();
        assert!(matches!(refused, DialError::Weak(found) if found == method), "{refused:?}");
        let text = format!("{refused} {refused:?}");
        assert!(text.contains("allow_weak_auth") && !text.contains(PASSWORD), "{text}");
    }
    assert!(matches!(said(strict, Privacy::Local, None, &asking(MD5, &[1])), Err(DialError::Protocol)));
}

#[test]
fn only_what_require_auth_names_is_answered() {
    let questions = [
        (asking(CLEARTEXT, b""), AuthMethod::Password),
        (asking(MD5, &[1, 2, 3, 4]), AuthMethod::Md5),
        (asking(SASL, PLAIN_OFFERED), AuthMethod::ScramSha256),
        (asking(0, b""), AuthMethod::None),
    ];
    for (text, allowed) in [
        ("password", [true, false, false, false]),
        ("md5", [false, true, false, false]),
        ("scram-sha-256", [false, false, true, false]),
        ("none", [false, false, false, true]),
        ("!none", [true, true, true, false]),
        ("md5,scram-sha-256", [false, true, true, false]),
    ] {
        let auth = TargetAuth { methods: text.parse().unwrap(), ..TargetAuth::default() };
        for ((question, method), allowed) in questions.iter().zip(allowed) {
            match said(auth, Privacy::Verified, None, question) {
                Ok(_) => assert!(allowed, "{text} {method}"),
                Err(DialError::NotAsked) => {
                    assert!(!allowed && *method == AuthMethod::None, "{text} {method}")
                }
                Err(DialError::NotAllowed(found)) => assert!(!allowed && found == *method, "{text} {method}"),
                Err(error) => panic!("{text} {method}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_proof_is_bound_to_the_connection_where_both_sides_can() {
    let with = |binding| TargetAuth { binding, ..TargetAuth::default() };
    let says = |binding, end_point, offered: &[u8]| {
        said(with(binding), Privacy::Exposed, end_point, &asking(SASL, offered))
            .map(|said| String::from_utf8_lossy(&said).into_owned())
    };
    let end_point = Some(&[7; 32][..]);
    let bound = says(BindingMode::Prefer, end_point, BOTH_OFFERED).unwrap();
    assert!(
        bound.starts_with("SCRAM-SHA-256-PLUS\0") && bound.contains("p=tls-server-end-point,,"),
        "{bound}"
    );
    let unoffered = says(BindingMode::Prefer, end_point, PLAIN_OFFERED).unwrap();
    assert!(unoffered.starts_with("SCRAM-SHA-256\0") && unoffered.contains("y,,"), "{unoffered:?}");
    for (binding, end_point, offered) in [
        (BindingMode::Disable, end_point, BOTH_OFFERED),
        (BindingMode::Prefer, None, BOTH_OFFERED),
        (BindingMode::Prefer, None, PLAIN_OFFERED),
    ] {
        let unbound = says(binding, end_point, offered).unwrap();
        assert!(unbound.starts_with("SCRAM-SHA-256\0") && unbound.contains("n,,"), "{unbound:?}");
    }
    assert!(says(BindingMode::Require, end_point, BOTH_OFFERED).is_ok());
    for (end_point, offered) in [(end_point, PLAIN_OFFERED), (None, BOTH_OFFERED)] {
        let refused = says(BindingMode::Require, end_point, offered).unwrap_err();
        assert!(matches!(refused, DialError::NotBound), "{refused:?}");
    }
    for question in [asking(0, b""), asking(CLEARTEXT, b""), asking(MD5, &[0; 4])] {
        let refused = said(with(BindingMode::Require), Privacy::Verified, end_point, &question).unwrap_err();
        assert!(matches!(refused, DialError::NotBound), "{refused:?}");
    }
}

#[test]
fn what_the_gate_does_not_do_is_named() {
    for (question, says) in [
        (asking(2, b""), "Kerberos"),
        (asking(7, b""), "GSSAPI"),
        (asking(9, b""), "SSPI"),
        (asking(SASL, b"OAUTHBEARER\0\0"), "OAuth"),
        (asking(SASL, b"SCRAM-SHA-512\0\0"), "SASL"),
        (asking(SASL, b"SCRAM-SHA-256-PLUS\0\0"), "channel binding"),
    ] {
        let refused = said(TargetAuth::default(), Privacy::Verified, None, &question).unwrap_err();
        assert!(matches!(refused, DialError::Unsupported(_)), "{refused:?}");
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn a_target_that_began_scram_owes_its_own_proof() {
    let credential = testing::credential();
    let new = || Prover::new(TargetAuth::default(), &credential, Privacy::Verified, None);
    let begun = || {
        let mut prover = new();
        let Step::Send(first) = prover.handle(&asking(SASL, PLAIN_OFFERED)).unwrap() else {
            panic!("no answer")
        };
        let first = String::from_utf8_lossy(first.expose()).into_owned();
        let nonce = first.rsplit_once("r=").unwrap().1.to_owned();
        (prover, format!("r={nonce}more,s=c2FsdA==,i=4096"))
    };
    let (mut prover, _) = begun();
    assert!(matches!(prover.handle(&asking(0, b"")), Err(DialError::NoProof)));
    let (mut prover, challenge) = begun();
    assert!(matches!(prover.handle(&asking(11, challenge.as_bytes())), Ok(Step::Send(_))));
    assert!(matches!(prover.handle(&asking(0, b"")), Err(DialError::NoProof)));
    let (mut prover, challenge) = begun();
    prover.handle(&asking(11, challenge.as_bytes())).unwrap();
    let forged = prover.handle(&asking(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert!(matches!(forged, Err(DialError::NoProof)));
    for out_of_order in
        [asking(11, b"r=x,s=c2FsdA==,i=4096"), asking(12, b"v=AA=="), asking(99, b""), vec![0]]
    {
        let mut prover = new();
        assert!(matches!(prover.handle(&out_of_order), Err(DialError::Protocol)), "{out_of_order:?}");
    }
}

/// A target in cleartext that reads a startup message, says this, and tells what it read.
async fn saying(words: Vec<u8>) -> (String, mpsc::UnboundedReceiver<(u32, Vec<u8>)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = listen(move |mut stream| {
        let (tell, words) = (tell.clone(), words.clone());
        async move {
            let _ = tell.send(read_startup(&mut stream).await);
            let _ = stream.write_all(&words).await;
            testing::rest(&mut stream).await;
        }
    })
    .await;
    (address, told)
}

fn asked(parameters: &[(&str, &str)]) -> StartupParameters {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    StartupParameters {
        minor: 2,
        protocol_options: vec!["_pq_.x".to_owned()],
        parameters: parameters.iter().map(pair).collect(),
    }
}

#[tokio::test]
async fn a_target_gets_the_gates_user_and_everything_that_the_client_set() {
    let (address, mut told) = saying(welcome()).await;
    let startup = asked(&[
        ("user", "dev"),
        ("user", "admin"),
        ("database", "shop"),
        ("replication", "off"),
        ("options", "-c search_path=a,b -c statement_timeout=5s"),
        ("application_name", "x y"),
        ("client_encoding", "LATIN1"),
        ("DateStyle", "German"),
    ]);
    let dialled = dial(&target(address), &startup).await.unwrap();
    assert_eq!((dialled.ready.cancel.process_id, dialled.ready.cancel.secret), (9, vec![8, 7, 6, 5]));
    let (code, rest) = told.recv().await.unwrap();
    assert_eq!(code, 3 << 16, "3.0 whatever the client spoke");
    let expect = "user\0gate\0database\0shop_1\0options\0-c search_path=a,b -c statement_timeout=5s\0\
                  application_name\0x y\0client_encoding\0LATIN1\0DateStyle\0German\0\0";
    assert_eq!(String::from_utf8(rest).unwrap(), expect);
}

#[tokio::test]
async fn cancel_keys_of_a_target_are_kept_whole_and_sent_back() {
    for length in [4, 32, 256] {
        let key = [&[0, 0, 0, 7][..], &vec![3; length]].concat();
        let words =
            [startup::message(b'R', &[0; 4]), startup::message(b'K', &key), startup::message(b'Z', b"I")];
        let (address, mut told) = saying(words.concat()).await;
        let target = Target { protocol_minor_max: 2, ..target(address) };
        let dialled = dial(&target, &asked(&[])).await.unwrap();
        assert_eq!(told.recv().await.unwrap().0, 3 << 16 | 2);
        drop(dialled.ready.stream);
        cancel(&target, &dialled.ready.cancel).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), (80_877_102, key));
    }
    let words = [startup::message(b'R', &[0; 4]), startup::message(b'K', &[1; 4 + 257])];
    let (address, _told) = saying(words.concat()).await;
    assert!(matches!(dial(&target(address), &asked(&[])).await, Err(DialError::Protocol)));
}

#[tokio::test]
async fn a_target_may_speak_an_older_minor_version_than_it_was_asked_for_and_no_other() {
    let answer = |version: u32, options: u32, asked_minor: u16| async move {
        let body = [version.to_be_bytes(), options.to_be_bytes()].concat();
        let (address, _told) = saying([startup::message(b'v', &body), welcome()].concat()).await;
        let target = Target { protocol_minor_max: asked_minor, ..target(address) };
        dial(&target, &asked(&[])).await
    };
    assert!(answer(3 << 16, 0, 2).await.is_ok());
    for (version, options, asked_minor) in
        [(3 << 16, 0, 0), (3 << 16, 1, 2), (3 << 16 | 1, 0, 2), (3 << 16 | 3, 0, 2), (2 << 16, 0, 2)]
    {
        let error = answer(version, options, asked_minor).await.unwrap_err();
        assert!(matches!(error, DialError::Protocol), "{version:x} {options} {asked_minor}: {error:?}");
    }
}

#[tokio::test]
async fn a_target_that_refuses_is_quoted_by_its_code_alone_and_only_where_the_client_can_act_on_it() {
    for (code, told) in [
        ("42704", "42704"),
        ("22023", "22023"),
        ("53300", "53300"),
        ("57P03", "57P03"),
        ("28P01", "08001"),
        ("42501", "08001"),
        ("3D000", "08001"),
    ] {
        let body = format!("SFATAL\0C{code}\0Msecret of the target\0\0");
        let (address, _told) = saying(startup::message(b'E', body.as_bytes())).await;
        let error = dial(&target(address), &asked(&[])).await.unwrap_err();
        assert_eq!(error.sqlstate(), told);
        let text = format!("{error} {error:?}");
        assert!(text.contains(code) && !text.contains("secret of"), "{text}");
    }
}

#[tokio::test]
async fn a_target_without_tls_or_with_words_before_it_is_not_logged_in_at() {
    let (dir, _) = issued();
    for (words, says_no_tls) in
        [(&b"N"[..], true), (b"E\0\0\0\x0bSFATAL\0\0", true), (b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", false)]
    {
        let (address, mut told) = saying(words.to_vec()).await;
        let target = Target { encryption: target_tls(&dir, false), ..target(address) };
        let error = dial(&target, &asked(&[])).await.unwrap_err();
        assert_eq!(matches!(error, DialError::NoTls), says_no_tls, "{error:?}");
        assert_eq!(told.recv().await.unwrap().0, 80_877_103);
    }
}

/// A target that lets in whoever logs in by `password`, and tells who came.
async fn knowing(password: &'static str) -> (String, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_startup(&mut stream).await;
            let _ = stream.write_all(&startup::message(b'R', &asking(CLEARTEXT, b""))).await;
            let (_, said) = testing::read(&mut stream).await;
            let said = String::from_utf8(said).unwrap();
            let is_known = said.trim_end_matches('\0') == password;
            let _ = tell.send(said);
            let refused = startup::message(b'E', b"SFATAL\0C28P01\0Mno\0\0");
            let _ = stream.write_all(&if is_known { welcome() } else { refused }).await;
            testing::rest(&mut stream).await;
        }
    })
    .await;
    (address, told)
}

fn all(mut told: mpsc::UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

#[tokio::test]
async fn a_password_that_is_refused_and_has_been_replaced_since_is_tried_anew_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "old").unwrap();
    let password = SecretRef::File(path.clone());
    let credential = CredentialSource::of_user("gate", &password, dir.path()).unwrap();
    // As if it had been replaced between the loan and the refusal.
    let refused = credential.lend().await.unwrap();
    std::fs::write(&path, "new, and longer").unwrap();
    let other = credential.lend_other(&refused).await.unwrap().unwrap();
    assert_eq!(other.credential().password.expose(), b"new, and longer");
    assert!(credential.lend_other(&other).await.unwrap().is_none(), "there is no further one");

    let (address, told) = knowing("new, and longer").await;
    let at = Target { credential: credential.clone(), ..target(address) };
    dial(&at, &asked(&[])).await.unwrap();
    assert_eq!(all(told), ["new, and longer\0"]);

    let (address, told) = knowing("something else").await;
    let error = dial(&Target { credential, ..target(address) }, &asked(&[])).await.unwrap_err();
    assert!(error.is_of_credential() && error.sqlstate() == "08001", "{error:?}");
    assert_eq!(all(told), ["new, and longer\0"], "what did not change is not tried again");
}

#[tokio::test]
async fn a_target_is_not_dialled_without_a_credential() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "old").unwrap();
    let credential = CredentialSource::of_user("gate", &SecretRef::File(path.clone()), dir.path()).unwrap();
    std::fs::remove_file(path).unwrap();
    let (address, told) = knowing("old").await;
    let error = dial(&Target { credential, ..target(address) }, &asked(&[])).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08001");
    assert!(error.to_string().contains("cannot be had at the moment"), "{error}");
    assert_eq!(all(told), [""; 0]);
}

/// A target inside TLS, that asks first or begins with it, and lets everybody in.
async fn encrypted(config: ServerConfig, direct: bool) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            if !direct {
                assert_eq!(read_startup(&mut stream).await.0, 80_877_103);
                stream.write_all(b"S").await.unwrap();
            }
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if read_startup_if_any(&mut stream).await {
                let _ = stream.write_all(&welcome()).await;
                testing::rest(&mut stream).await;
            }
        }
    })
    .await
}

async fn read_startup_if_any(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    matches!(startup::read_startup(stream).await, Ok(startup::Startup::Login(_)))
}

#[tokio::test]
async fn tls_begins_with_a_question_or_at_once_as_configured() {
    let (dir, identity) = issued();
    let config = |alpn: &[&[u8]]| {
        let mut config = tls::server_config(&identity.certificate, &identity.key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    };
    let at = |address, direct| Target { encryption: target_tls(&dir, direct), ..target(address) };
    for (alpn, direct) in [(&[][..], false), (&[ALPN][..], false), (&[ALPN][..], true)] {
        let address = encrypted(config(alpn), direct).await;
        let dialled = dial(&at(address, direct), &asked(&[])).await.unwrap();
        assert!(matches!(dialled.ready.stream, TargetStream::Tls(_)));
    }
    for alpn in [&[][..], &[b"http/1.1".as_slice()][..]] {
        let address = encrypted(config(alpn), true).await;
        let error = dial(&at(address, true), &asked(&[])).await.unwrap_err();
        assert!(matches!(error, DialError::NoDirectTls | DialError::Tls), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_without_its_names() {
    let (dir, identity) = issued();
    let (other, _) = issued();
    let address = encrypted(tls::server_config(&identity.certificate, &identity.key).unwrap(), false).await;
    let stranger = Target { encryption: target_tls(&other, false), ..target(address.clone()) };
    let error = dial(&stranger, &asked(&[])).await.unwrap_err();
    assert!(error.to_string().contains("tls_ca"), "{error}");
    let ca = retrace_access::Ca::certificate_path(dir.path());
    let full = CertificateCheck::Full { ca: Some(ca.clone()) };
    let named = |check| {
        let mode = TargetTls { server_name: Some("db.example".to_owned()), ..TargetTls::new(check) };
        let encryption = TargetEncryption::tls(&mode, "127.0.0.1", dir.path()).unwrap();
        Target { encryption, ..target(address.clone()) }
    };
    let error = dial(&named(full), &asked(&[])).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("tls_server_name") && !text.contains("db.example"), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");
    assert!(dial(&named(CertificateCheck::Chain { ca }), &asked(&[])).await.is_ok());
    assert!(dial(&named(CertificateCheck::Nothing), &asked(&[])).await.is_ok());
}
