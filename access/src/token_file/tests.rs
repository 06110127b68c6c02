use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::testing::gateway;

const NOW: i64 = 1_795_555_860;
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_made_token_is_listed_without_its_secret() {
    let gateway = gateway();
    let (text, entry) = gateway.token_made_at("ann", NOW);
    assert_eq!(gateway.tokens.list().unwrap(), std::slice::from_ref(&entry));
    assert_eq!((entry.created_unix_s, entry.expires_unix_s), (NOW, NOW + 90 * 86_400));
    let written = fs::read_to_string(gateway.tokens.path()).unwrap();
    let secret = text.rsplit('_').next().unwrap();
    assert!(!written.contains(secret) && written.contains("created = \"2026-11-24T21:31:00Z\""), "{written}");
    assert!(!format!("{entry:?}").contains("salt"));
}

#[test]
fn the_file_is_private_and_no_temporary_is_left() {
    let gateway = gateway();
    gateway.token("ann");
    assert_eq!(fs::metadata(gateway.tokens.path()).unwrap().mode() & 0o777, 0o600);
    let mut names: Vec<_> =
        fs::read_dir(gateway.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["tokens.toml", "tokens.toml.lock"]);
}

#[test]
fn the_tokens_of_a_principal_share_a_salt_that_is_its_own() {
    let gateway = gateway();
    let (_, first) = gateway.token("ann");
    gateway.tokens.revoke(&first.id, NOW).unwrap();
    let (_, second) = gateway.token("ann");
    let (_, other) = gateway.token("bob");
    assert_eq!((first.salt, first.iterations), (second.salt, second.iterations));
    assert_ne!(first.salt, other.salt);
    assert_eq!(first.iterations, 4096);
}

#[test]
fn the_ninth_live_token_is_refused_until_one_is_dead() {
    let gateway = gateway();
    let mut ids: Vec<_> = (0..8).map(|_| gateway.token_made_at("ann", NOW).1.id).collect();
    let refused = gateway.tokens.create("ann", DAY, NOW).unwrap_err();
    assert!(matches!(&refused, TokenError::TooManyLive { principal } if principal == "ann"));
    assert_eq!(refused.to_string(), "ann has 8 live tokens, which is the most: revoke one first");
    gateway.tokens.create("bob", DAY, NOW).unwrap();
    gateway.tokens.revoke(&ids.pop().unwrap(), NOW).unwrap();
    gateway.tokens.create("ann", DAY, NOW).unwrap();
    assert!(gateway.tokens.create("ann", DAY, NOW).is_err());
    gateway.tokens.create("ann", DAY, NOW + 90 * 86_400).unwrap();
    assert_eq!(gateway.tokens.list().unwrap().len(), 11);
}

#[test]
fn a_token_lives_until_the_second_it_expires_or_is_revoked() {
    let gateway = gateway();
    let (_, entry) = gateway.tokens.create("ann", DAY, NOW).unwrap();
    assert!(entry.is_live(NOW + 86_399));
    assert!(!entry.is_live(NOW + 86_400));
    let revoked = gateway.tokens.revoke(&entry.id, NOW + 5).unwrap();
    assert!(!revoked.is_live(NOW + 6));
    assert_eq!(gateway.tokens.revoke(&entry.id, NOW + 9).unwrap().revoked_unix_s, Some(NOW + 5));
    assert_eq!(gateway.tokens.list().unwrap(), [revoked]);
}

#[test]
fn what_cannot_be_a_token_is_refused_before_the_file_changes() {
    let gateway = gateway();
    assert!(matches!(gateway.tokens.create("ann", Duration::ZERO, NOW), Err(TokenError::Ttl)));
    assert!(matches!(gateway.tokens.create("ann", Duration::MAX, NOW), Err(TokenError::Ttl)));
    assert!(matches!(gateway.tokens.create("ann", DAY, i64::MAX), Err(TokenError::Ttl)));
    for name in ["", "retrace", "a\nb", &"a".repeat(64)] {
        assert!(matches!(gateway.tokens.create(name, DAY, NOW), Err(TokenError::PrincipalName(_))));
    }
    assert!(matches!(gateway.tokens.revoke("00000000", NOW), Err(TokenError::UnknownId)));
    assert_eq!(gateway.tokens.list().unwrap(), []);
}

#[test]
fn a_file_that_is_there_is_not_made_anew_and_one_that_is_not_is_named() {
    let gateway = gateway();
    gateway.token("ann");
    assert!(matches!(TokenFile::init(gateway.tokens.path()), Err(TokenError::File(FileError::Exists(_)))));
    assert_eq!(TokenFile::load(gateway.tokens.path()).unwrap().list().unwrap().len(), 1);
    let missing = TokenFile::load(&gateway.dir.path().join("gone.toml")).unwrap_err();
    assert!(missing.to_string().contains("gone.toml"));
}

#[test]
fn makers_at_the_same_moment_lose_nothing() {
    let gateway = gateway();
    std::thread::scope(|scope| {
        for name in ["ann", "bob", "cyd", "dan"] {
            let tokens = TokenFile::load(gateway.tokens.path()).unwrap();
            scope.spawn(move || (0..4).for_each(|_| drop(tokens.create(name, DAY, NOW).unwrap())));
        }
    });
    assert_eq!(gateway.tokens.list().unwrap().len(), 16);
}

/// Two tokens as text, changed, and where and what the error is then.
fn check(change: impl Fn(&str) -> String, line: usize, reason: &str) {
    let gateway = gateway();
    gateway.token_made_at("ann", NOW);
    gateway.token_made_at("ann", NOW);
    let text = fs::read_to_string(gateway.tokens.path()).unwrap();
    fs::write(gateway.tokens.path(), change(&text)).unwrap();
    let error = TokenFile::load(gateway.tokens.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("tokens.toml:{line}: ")) && error.contains(reason), "{error}");
}

/// The text with something else in the second of two places.
fn second(text: &str, from: &str, to: &str) -> String {
    let at = text.rfind(from).unwrap();
    format!("{}{to}{}", &text[..at], &text[at + from.len()..])
}

#[test]
fn a_file_that_is_not_tokens_is_refused_with_line_and_reason() {
    check(|text| second(text, "iterations = 4096", "iterations = 4096 x"), 21, "");
    check(|text| second(text, "iterations = 4096", "iterations = 1"), 15, "iterations must be from 4096");
    check(|text| second(text, "iterations = 4096", "iterations = 5000"), 15, "share salt and iterations");
    check(|text| second(text, "2026-11-24T21:31:00Z", "yesterday"), 15, "created must be a time");
    check(|text| second(text, "stored_key = \"", "stored_key = \"AAAA"), 15, "stored_key must be 32 bytes");
    check(|text| second(text, "principal = \"ann\"", "principal = \"retrace\""), 15, "the gateway's own");
    check(|text| second(text, "principal", "prinzipal"), 17, "prinzipal");
    check(
        |text| format!("{text}{}", &text[text.rfind("[[token]]").unwrap()..]),
        25,
        "two tokens have this id",
    );
    check(|text| format!("{text}\n[other]\n"), 26, "other");
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_line() {
    let gateway = gateway();
    fs::write(gateway.tokens.path(), b"# one\n# two \xff\n").unwrap();
    let error = gateway.tokens.list().unwrap_err().to_string();
    assert!(error.contains("tokens.toml:2: this is not UTF-8"), "{error}");
}
