use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::testing::{Gateway, gateway};
use crate::time::now_unix_s;

const NONCE: [u8; 18] = [7; 18];

/// A login by PostgreSQL's client, both sides checking each other.
fn login(gateway: &Gateway, user: &str, password: &str) -> Result<Authenticated, ScramError> {
    let client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    login_at(gateway, user, client, &NONCE, now_unix_s())
}

fn login_at(
    gateway: &Gateway,
    user: &str,
    mut client: ScramSha256,
    nonce: &[u8; 18],
    now_unix_s: i64,
) -> Result<Authenticated, ScramError> {
    let mut server = gateway.directory.scram(user);
    client.update(&server.handle_client_first(client.message(), nonce)?).unwrap();
    let (answer, authenticated) = server.handle_client_final(client.message(), now_unix_s)?;
    client.finish(&answer).unwrap();
    Ok(authenticated)
}

/// A client that has been challenged, with its last message.
fn challenged(gateway: &Gateway, user: &str, password: &str) -> (ScramServer, String) {
    let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let mut server = gateway.directory.scram(user);
    client.update(&server.handle_client_first(client.message(), &NONCE).unwrap()).unwrap();
    (server, String::from_utf8(client.message().to_vec()).unwrap())
}

#[test]
fn each_of_eight_tokens_logs_in_as_itself() {
    let gateway = gateway();
    for (text, entry) in (0..8).map(|_| gateway.token("ann")).collect::<Vec<_>>() {
        let authenticated = login(&gateway, "ann", &text).unwrap();
        assert_eq!((authenticated.principal.name.as_str(), authenticated.token_id), ("ann", entry.id));
    }
}

#[test]
fn wrong_tokens_and_unknown_users_are_refused_alike() {
    let gateway = gateway();
    let (ann, _) = gateway.token("ann");
    let (stranger, _) = gateway.token("stranger");
    let wrong = format!("{}{}", &ann[..54], if ann.ends_with('a') { 'b' } else { 'a' });
    for (user, password) in [
        ("ann", wrong.as_str()),
        ("ann", "x"),
        ("bob", &ann),
        ("mallory", &ann),
        ("stranger", &stranger),
        ("", &ann),
    ] {
        assert_eq!(login(&gateway, user, password).unwrap_err(), Refused::Credential.into(), "{user}");
    }
    assert!(login(&gateway, "ann", &ann).is_ok());
}

#[test]
fn a_token_is_its_owners_alone_even_where_salts_are_equal() {
    let gateway = gateway();
    let (text, ann) = gateway.token("ann");
    let (_, bob) = gateway.token("bob");
    let file = std::fs::read_to_string(gateway.tokens.path()).unwrap();
    let same = file.replace(&STANDARD.encode(bob.salt), &STANDARD.encode(ann.salt));
    std::fs::write(gateway.tokens.path(), same).unwrap();
    assert!(login(&gateway, "ann", &text).is_ok());
    assert_eq!(login(&gateway, "bob", &text).unwrap_err(), Refused::Credential.into());
}

#[test]
fn expired_and_revoked_tokens_are_refused_and_their_neighbours_are_not() {
    let gateway = gateway();
    let now = now_unix_s();
    let (expired, _) = gateway.token_made_at("ann", now - 91 * 86_400);
    let (revoked, entry) = gateway.token("ann");
    let (live, _) = gateway.token("ann");
    assert!(login(&gateway, "ann", &revoked).is_ok());
    gateway.tokens.revoke(&entry.id, now).unwrap();
    assert_eq!(login(&gateway, "ann", &revoked).unwrap_err(), Refused::Credential.into());
    assert_eq!(login(&gateway, "ann", &expired).unwrap_err(), Refused::Credential.into());
    assert!(login(&gateway, "ann", &live).is_ok());
}

#[test]
fn a_token_revoked_during_the_exchange_does_not_match() {
    let gateway = gateway();
    let (text, entry) = gateway.token("ann");
    let (mut server, last) = challenged(&gateway, "ann", &text);
    gateway.tokens.revoke(&entry.id, now_unix_s()).unwrap();
    let refused = server.handle_client_final(last.as_bytes(), now_unix_s()).unwrap_err();
    assert_eq!(refused, Refused::Credential.into());
}

#[test]
fn a_changed_nonce_or_channel_binding_is_refused() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let check = |change: &dyn Fn(&str) -> String| {
        let (mut server, last) = challenged(&gateway, "ann", &text);
        let changed = change(&last);
        assert_ne!(changed, last);
        server.handle_client_final(changed.as_bytes(), now_unix_s()).unwrap_err()
    };
    assert!(matches!(check(&|last| last.replacen(",p=", "A,p=", 1)), ScramError::Malformed(_)));
    assert!(matches!(check(&|last| last.replacen(",r=", ",r=A", 1)), ScramError::Malformed(_)));
    assert!(matches!(check(&|last| last.replacen("c=biws", "c=eSws", 1)), ScramError::Malformed(_)));
    let extended = check(&|last| last.replacen(",p=", ",x=1,p=", 1));
    assert_eq!(extended, Refused::Credential.into());
}

#[test]
fn a_proof_does_not_work_twice() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let (mut server, last) = challenged(&gateway, "ann", &text);
    assert!(server.handle_client_final(last.as_bytes(), now_unix_s()).is_ok());
    let again = server.handle_client_final(last.as_bytes(), now_unix_s()).unwrap_err();
    assert_eq!(again, ScramError::OutOfOrder);
    let mut other = gateway.directory.scram("ann");
    other.handle_client_first(b"n,,n=,r=abc", &[8; 18]).unwrap();
    let replayed = other.handle_client_final(last.as_bytes(), now_unix_s()).unwrap_err();
    assert!(matches!(replayed, ScramError::Malformed(_)));
}

#[test]
fn messages_out_of_order_end_the_exchange() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let (mut server, last) = challenged(&gateway, "ann", &text);
    let first = server.handle_client_first(b"n,,n=,r=abc", &NONCE).unwrap_err();
    assert_eq!(first, ScramError::OutOfOrder);
    let after = server.handle_client_final(last.as_bytes(), now_unix_s()).unwrap_err();
    assert_eq!(after, ScramError::OutOfOrder);
    let mut fresh = gateway.directory.scram("ann");
    assert_eq!(fresh.handle_client_final(last.as_bytes(), 0).unwrap_err(), ScramError::OutOfOrder);
}

#[test]
fn first_messages_are_taken_or_refused_by_the_letter() {
    let gateway = gateway();
    let first =
        |message: &str| gateway.directory.scram("ann").handle_client_first(message.as_bytes(), &NONCE);
    for message in ["n,,n=,r=abc", "y,,n=*,r=abc", "n,,n=someone,r=!~,x=extension"] {
        assert!(first(message).is_ok(), "{message}");
    }
    let bound = first("p=tls-server-end-point,,n=,r=abc").unwrap_err();
    assert!(matches!(bound, ScramError::ChannelBinding(_)));
    let long = format!("n,,n=,r={}", "a".repeat(257));
    let longer = format!("n,,n={},r=abc", "a".repeat(2048));
    for message in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,r=abc",
        "n,,n=,r=",
        "n,,n=,r=a c",
        "n,,n=,r=é",
        "x,,n=,r=abc",
        "n,a=bob,n=,r=abc",
        "n,,m=1,n=,r=abc",
        &long,
        &longer,
    ] {
        assert!(matches!(first(message).unwrap_err(), ScramError::Malformed(_)), "{message}");
    }
    let bytes = gateway.directory.scram("ann").handle_client_first(b"n,,n=\xff,r=abc", &NONCE);
    assert!(matches!(bytes.unwrap_err(), ScramError::Malformed(_)));
}

#[test]
fn the_answer_carries_both_nonces_the_salt_and_the_rounds() {
    let gateway = gateway();
    let (_, entry) = gateway.token("ann");
    let first = gateway.directory.scram("ann").handle_client_first(b"n,,n=,r=abc", &NONCE).unwrap();
    let expect = format!("r=abc{},s={},i=4096", STANDARD.encode(NONCE), STANDARD.encode(entry.salt));
    assert_eq!(String::from_utf8(first).unwrap(), expect);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn postgres_clients_log_in_exactly_with_live_tokens_of_their_own(
        count in 1usize..=8,
        chosen in any::<prop::sample::Index>(),
        dead in prop::collection::vec(any::<bool>(), 8),
        nonce in any::<[u8; 18]>(),
        offers_binding in any::<bool>(),
        late in any::<bool>(),
    ) {
        let gateway = gateway();
        let now = now_unix_s();
        let made: Vec<_> = (0..count).map(|_| gateway.token_made_at("ann", now)).collect();
        for ((_, entry), _) in made.iter().zip(&dead).filter(|(_, dead)| **dead) {
            gateway.tokens.revoke(&entry.id, now).unwrap();
        }
        let chosen = chosen.index(count);
        let (text, entry) = &made[chosen];
        let binding = if offers_binding { ChannelBinding::unrequested() } else { ChannelBinding::unsupported() };
        let at = if late { entry.expires_unix_s } else { entry.expires_unix_s - 1 };
        match login_at(&gateway, "ann", ScramSha256::new(text.as_bytes(), binding), &nonce, at) {
            Ok(authenticated) => {
                prop_assert!(!dead[chosen] && !late);
                prop_assert_eq!(&authenticated.token_id, &entry.id);
            }
            Err(error) => {
                prop_assert!(dead[chosen] || late);
                prop_assert_eq!(error, Refused::Credential.into());
            }
        }
    }
}

#[test]
fn random_and_truncated_messages_are_refused_without_a_panic() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let (_, last) = challenged(&gateway, "ann", &text);
    for cut in 0..last.len() {
        let (mut server, last) = challenged_by_hand(&gateway, &last);
        assert!(server.handle_client_final(&last.as_bytes()[..cut], now_unix_s()).is_err());
    }
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let alike = || "[ny]?,?,?(a=|n=|m=|c=|r=|p=|biws|eSws|[A-Za-z0-9+/=,]){0,12}";
    proptest!(|(first in bytes(), second in bytes(), like_first in alike(), like_last in alike())| {
        for message in [&first[..], like_first.as_bytes()] {
            let _ = gateway.directory.scram("ann").handle_client_first(message, &NONCE);
        }
        for message in [&second[..], like_last.as_bytes()] {
            let (mut server, _) = challenged_by_hand(&gateway, "");
            prop_assert!(server.handle_client_final(message, now_unix_s()).is_err());
        }
    });
}

/// A challenged server without the cost of a client.
fn challenged_by_hand<'a>(gateway: &Gateway, last: &'a str) -> (ScramServer, &'a str) {
    let mut server = gateway.directory.scram("ann");
    server.handle_client_first(b"n,,n=,r=abc", &NONCE).unwrap();
    (server, last)
}

const END_POINT: &[u8] = &[9; 32];

/// A login with this choice, against a gate that shows the certificate of [`END_POINT`].
fn login_bound(
    gateway: &Gateway,
    password: &str,
    mechanism: Mechanism,
    binding: ChannelBinding,
) -> Result<Authenticated, ScramError> {
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let mut server = gateway.directory.scram("ann").bound_to(Some(END_POINT));
    server.choose(mechanism.name().as_bytes())?;
    client.update(&server.handle_client_first(client.message(), &NONCE)?).unwrap();
    let (answer, authenticated) = server.handle_client_final(client.message(), now_unix_s())?;
    client.finish(&answer).unwrap();
    Ok(authenticated)
}

#[test]
fn each_of_eight_tokens_logs_in_bound_to_the_certificate() {
    let gateway = gateway();
    for (text, entry) in (0..8).map(|_| gateway.token("ann")).collect::<Vec<_>>() {
        let binding = ChannelBinding::tls_server_end_point(END_POINT.to_vec());
        let authenticated = login_bound(&gateway, &text, Mechanism::Plus, binding).unwrap();
        assert_eq!(authenticated.token_id, entry.id);
        let plain = login_bound(&gateway, &text, Mechanism::Plain, ChannelBinding::unsupported()).unwrap();
        assert_eq!(plain.token_id, entry.id);
    }
}

#[test]
fn a_client_that_saw_another_certificate_is_refused() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    for other in [vec![8; 32], vec![9; 31], vec![9; 48], Vec::new()] {
        let binding = ChannelBinding::tls_server_end_point(other);
        let refused = login_bound(&gateway, &text, Mechanism::Plus, binding).unwrap_err();
        assert_eq!(refused, ScramError::OtherCertificate);
    }
}

#[test]
fn a_client_that_could_bind_and_was_not_offered_it_is_refused_where_it_was_offered() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let refused = login_bound(&gateway, &text, Mechanism::Plain, ChannelBinding::unrequested()).unwrap_err();
    assert_eq!(refused, ScramError::Downgrade);
    let client = ScramSha256::new(text.as_bytes(), ChannelBinding::unrequested());
    assert!(login_at(&gateway, "ann", client, &NONCE, now_unix_s()).is_ok(), "without TLS it was right");
}

#[test]
fn header_and_mechanism_must_go_together() {
    let gateway = gateway();
    let first = |mechanism: Mechanism, message: &str| {
        let mut server = gateway.directory.scram("ann").bound_to(Some(END_POINT));
        server.choose(mechanism.name().as_bytes())?;
        server.handle_client_first(message.as_bytes(), &NONCE)
    };
    assert!(first(Mechanism::Plus, "p=tls-server-end-point,,n=,r=abc").is_ok());
    for (mechanism, message) in [
        (Mechanism::Plus, "n,,n=,r=abc"),
        (Mechanism::Plus, "y,,n=,r=abc"),
        (Mechanism::Plus, "p=tls-unique,,n=,r=abc"),
        (Mechanism::Plus, "p=tls-exporter,,n=,r=abc"),
        (Mechanism::Plus, "p=,,n=,r=abc"),
        (Mechanism::Plain, "p=tls-server-end-point,,n=,r=abc"),
    ] {
        let refused = first(mechanism, message).unwrap_err();
        assert!(matches!(refused, ScramError::ChannelBinding(_)), "{mechanism:?} {message}");
    }
}

#[test]
fn everybody_is_offered_the_same_and_nothing_else_can_be_chosen() {
    let gateway = gateway();
    let _ = gateway.token("ann");
    for user in ["ann", "bob", "mallory"] {
        let mut bound = gateway.directory.scram(user).bound_to(Some(END_POINT));
        assert_eq!(bound.mechanisms(), [Mechanism::Plus, Mechanism::Plain], "{user}");
        assert_eq!(bound.choose(b"SCRAM-SHA-1").unwrap_err(), ScramError::Mechanism);
        let mut free = gateway.directory.scram(user);
        assert_eq!(free.mechanisms(), [Mechanism::Plain], "{user}");
        assert_eq!(free.choose(b"SCRAM-SHA-256-PLUS").unwrap_err(), ScramError::Mechanism);
        let first = bound
            .choose(b"SCRAM-SHA-256-PLUS")
            .and_then(|()| bound.handle_client_first(b"p=tls-server-end-point,,n=,r=abc", &NONCE));
        assert!(first.is_ok(), "{user}");
    }
}

#[test]
fn a_binding_changed_between_the_messages_is_refused() {
    let gateway = gateway();
    let (text, _) = gateway.token("ann");
    let binding = ChannelBinding::tls_server_end_point(END_POINT.to_vec());
    let mut client = ScramSha256::new(text.as_bytes(), binding);
    let mut server = gateway.directory.scram("ann").bound_to(Some(END_POINT));
    server.choose(b"SCRAM-SHA-256-PLUS").unwrap();
    client.update(&server.handle_client_first(client.message(), &NONCE).unwrap()).unwrap();
    let last = String::from_utf8(client.message().to_vec()).unwrap();
    let (_, rest) = last.split_once(',').unwrap();
    let refused = server.handle_client_final(format!("c=biws,{rest}").as_bytes(), now_unix_s()).unwrap_err();
    assert_eq!(refused, ScramError::OtherCertificate);
}
