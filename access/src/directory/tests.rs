use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use retrace_proto::wire;
use tracing::span;

use super::*;
use crate::testing::{directory, gateway, principal};

fn challenge(directory: &Directory, user: &str) -> String {
    let first = directory.scram(user).handle_client_first(b"n,,n=,r=abc", &[0; 18]).unwrap();
    String::from_utf8(first).unwrap()
}

#[test]
fn a_bearer_token_says_who_it_is() {
    let gateway = gateway();
    let (text, entry) = gateway.token("ann");
    let authenticated = gateway.directory.bearer(&text).unwrap();
    assert_eq!((authenticated.principal.name.as_str(), authenticated.token_id), ("ann", entry.id));
}

#[test]
fn wrong_foreign_and_malformed_bearer_tokens_are_refused_alike() {
    let gateway = gateway();
    let (ann, _) = gateway.token("ann");
    let (bob, _) = gateway.token("bob");
    let (stranger, _) = gateway.token("stranger");
    let mixed = format!("{}{}", &ann[..12], &bob[12..]);
    let unknown = format!("rt_ffffffff_{}", &ann[12..]);
    for token in ["", "rt_", &ann[..54], &mixed, &unknown, &stranger, &ann.to_uppercase()] {
        assert_eq!(gateway.directory.bearer(token).unwrap_err(), Refused::Credential);
    }
    assert!(gateway.directory.bearer(&ann).is_ok());
}

#[test]
fn expired_bearer_tokens_are_refused() {
    let gateway = gateway();
    let now = time::now_unix_s();
    let (expired, _) = gateway.token_made_at("ann", now - 91 * 86_400);
    let (live, _) = gateway.token_made_at("ann", now - 89 * 86_400);
    assert_eq!(gateway.directory.bearer(&expired).unwrap_err(), Refused::Credential);
    assert!(gateway.directory.bearer(&live).is_ok());
}

#[test]
fn a_running_directory_sees_tokens_made_and_revoked_elsewhere() {
    let gateway = gateway();
    let elsewhere = TokenFile::load(gateway.tokens.path()).unwrap();
    let now = time::now_unix_s();
    let (text, entry) = elsewhere.create("ann", crate::TOKEN_TTL_DEFAULT, now).unwrap();
    let text = std::str::from_utf8(text.expose()).unwrap();
    assert!(gateway.directory.bearer(text).is_ok());
    elsewhere.revoke(&entry.id, now).unwrap();
    assert_eq!(gateway.directory.bearer(text).unwrap_err(), Refused::Credential);
}

#[test]
fn a_token_that_was_revoked_elsewhere_is_taken_no_longer_whatever_the_file_says() {
    let gateway = gateway();
    let (text, entry) = gateway.token("ann");
    let (other, _) = gateway.token("ann");
    assert_eq!(gateway.directory.principal_of(&entry.id), Ok(Some("ann".to_owned())));
    let who = gateway.directory.bearer(&text).unwrap();
    assert!(gateway.directory.still(&who).is_ok());
    gateway.directory.clone().revoke(&entry.id);
    assert_eq!(gateway.directory.still(&who).unwrap_err(), Refused::Credential);
    assert_eq!(gateway.directory.bearer(&text).unwrap_err(), Refused::Credential);
    assert!(gateway.directory.bearer(&other).is_ok());
    assert!(gateway.directory.has_revoked(&entry.id));
}

#[test]
fn while_the_tokens_cannot_be_read_nobody_comes_in() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let good = fs::read(gateway.tokens.path()).unwrap();
    let refused = || {
        assert_eq!(gateway.directory.bearer(&text).unwrap_err(), Refused::Unavailable);
        let mut scram = gateway.directory.scram("ann");
        let first = scram.handle_client_first(b"n,,n=,r=abc", &[0; 18]).unwrap_err();
        assert_eq!(first, Refused::Unavailable.into());
    };
    fs::remove_file(gateway.tokens.path()).unwrap();
    refused();
    fs::write(gateway.tokens.path(), &good[..good.len() - 9]).unwrap();
    refused();
    fs::write(gateway.tokens.path(), &good).unwrap();
    assert!(gateway.directory.bearer(&text).is_ok());
}

#[test]
fn unreadable_tokens_are_logged_once_with_file_and_line() {
    let gateway = gateway();
    let log = Arc::new(Log::default());
    tracing::subscriber::with_default(Arc::clone(&log), || {
        fs::write(gateway.tokens.path(), "\n[[token]]\nid = 'canary\n").unwrap();
        for _ in 0..5 {
            assert_eq!(gateway.directory.bearer("").unwrap_err(), Refused::Unavailable);
        }
    });
    let lines = log.lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("ERROR") && lines[0].contains("tokens.toml:3:"), "{lines:?}");
    assert!(!lines[0].contains("canary"));
}

#[test]
fn an_unknown_user_gets_the_same_salt_each_time_and_not_that_of_another() {
    let gateway = gateway();
    gateway.token("ann");
    let mallory = challenge(&gateway.directory, "mallory");
    assert_eq!(mallory, challenge(&gateway.directory, "mallory"));
    assert_eq!(mallory, challenge(&directory(&gateway.tokens, 1), "mallory"));
    assert_ne!(mallory, challenge(&gateway.directory, "trudy"));
    assert_ne!(mallory, challenge(&directory(&gateway.tokens, 2), "mallory"));
}

#[test]
fn the_challenge_of_an_unknown_user_looks_like_that_of_a_known_one() {
    let gateway = gateway();
    gateway.token("ann");
    let shape = |user| {
        let challenge = challenge(&gateway.directory, user);
        let (before, rest) = challenge.split_once(",s=").unwrap();
        let (salt, after) = rest.split_once(',').unwrap();
        (before.to_owned(), salt.len(), after.to_owned())
    };
    assert_eq!(shape("ann"), shape("mallory"));
    assert_eq!(shape("ann"), shape("bob"));
}

#[test]
fn the_salt_of_a_user_outlives_its_tokens() {
    let gateway = gateway();
    let (_, entry) = gateway.token("ann");
    let before = challenge(&gateway.directory, "ann");
    gateway.tokens.revoke(&entry.id, 0).unwrap();
    assert_eq!(before, challenge(&gateway.directory, "ann"));
}

#[test]
fn principals_that_cannot_be_told_apart_are_refused() {
    let gateway = gateway();
    let make = |principals| Directory::new(principals, gateway.tokens.clone(), Secret::new(vec![1; 32]));
    let twice = make(vec![principal("ann"), principal("ann")]).unwrap_err();
    assert!(matches!(twice, DirectoryError::Duplicate(name) if name == "ann"));
    let reserved = make(vec![principal("retrace")]).unwrap_err();
    assert!(matches!(reserved, DirectoryError::Name { .. }));
    let nothing = Principal { kind: wire::PrincipalKind::Unspecified, ..principal("ann") };
    assert!(matches!(make(vec![nothing]).unwrap_err(), DirectoryError::Kind(_)));
}

/// Collects what is logged, as `LEVEL field=value …`.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    spans: AtomicUsize,
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1 + self.spans.fetch_add(1, Ordering::Relaxed) as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn principals_that_are_replaced_are_those_of_the_next_login() {
    let gateway = gateway();
    let (ann, _) = gateway.token("ann");
    assert!(gateway.directory.bearer(&ann).is_ok());
    let clone = gateway.directory.clone();
    clone.replace(Principals::new(vec![principal("bob")]).unwrap());
    assert_eq!(gateway.directory.bearer(&ann).unwrap_err(), Refused::Credential);
    let (bob, _) = gateway.token("bob");
    assert!(gateway.directory.bearer(&bob).is_ok());
    assert!(Principals::new(vec![principal("bob"), principal("bob")]).is_err());
}
