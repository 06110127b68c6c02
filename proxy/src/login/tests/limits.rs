//! Who logs in too often, or has too much, is refused in words that the client shows, and cannot flood the record.

use std::num::NonZeroU64;

use retrace_access::PrincipalLimits;

use super::*;
use crate::SourceLimits;

/// Logs in as `user`. Gives the connection that is ready for queries, or the code and the sentence of the refusal, and
/// whether a proof was asked for before it.
async fn attempt(gate: &Gate, user: &str, token: &str) -> Result<TlsStreamOf, (String, String, bool)> {
    attempt_on(gate.negotiated(&[]).await.unwrap(), user, token).await
}

async fn attempt_on(
    stream: TlsStreamOf,
    user: &str,
    token: &str,
) -> Result<TlsStreamOf, (String, String, bool)> {
    let (stream, proof) = asked_for_proof(stream, user, token).await?;
    prove(stream, &proof).await
}

/// A connection that is asked for a proof, and the one that this token makes.
async fn asked_for_proof(
    mut stream: TlsStreamOf,
    user: &str,
    token: &str,
) -> Result<(TlsStreamOf, Vec<u8>), (String, String, bool)> {
    let parameters = format!("user\0{user}\0database\0shop\0\0");
    stream.write_all(&startup::startup_message(3 << 16, parameters.as_bytes())).await.unwrap();
    let (tag, body) = read(&mut stream).await;
    if tag == 'E' {
        let (code, sentence) = error(&body);
        return Err((code, sentence, false));
    }
    let mut scram = ScramSha256::new(token.as_bytes(), ChannelBinding::unsupported());
    let length = u32::try_from(scram.message().len()).unwrap().to_be_bytes();
    let first = [b"SCRAM-SHA-256\0", &length[..], scram.message()].concat();
    stream.write_all(&startup::message(b'p', &first)).await.unwrap();
    scram.update(&read(&mut stream).await.1[4..]).unwrap();
    Ok((stream, scram.message().to_vec()))
}

async fn prove(mut stream: TlsStreamOf, proof: &[u8]) -> Result<TlsStreamOf, (String, String, bool)> {
    stream.write_all(&startup::message(b'p', proof)).await.unwrap();
    loop {
        match read(&mut stream).await {
            ('E', body) => {
                let (code, sentence) = error(&body);
                return Err((code, sentence, true));
            }
            ('Z', _) => return Ok(stream),
            _ => {}
        }
    }
}

async fn refused(gate: &Gate, user: &str, token: &str) -> (String, String, bool) {
    attempt(gate, user, token).await.expect_err("it is refused")
}

fn max(number: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(number)
}

async fn limited(source: SourceLimits, principal: PrincipalLimits) -> Gate {
    gate(Limits { source, principal, ..Limits::default() }).await.0
}

#[tokio::test]
async fn who_logs_in_beyond_the_sessions_that_there_may_be_is_told_so() {
    let gate = gate(GatewayLimits { sessions_max: 1, ..GatewayLimits::default() }).await.0;
    let token = gate.token.clone();
    let _first = attempt(&gate, "dev", &token).await.unwrap();
    let (code, sentence, asked) = refused(&gate, "dev", &token).await;
    assert_eq!((code.as_str(), asked), ("53300", true));
    assert!(sentence.contains("the gate has as many sessions"), "{sentence}");
    assert_eq!(gate.refusals().await, [(Reason::SessionsInAll, 1, 2)]);
}

#[tokio::test]
async fn a_principal_has_so_many_sessions_and_who_cannot_prove_to_be_it_does_not_learn_it() {
    let limits = PrincipalLimits { sessions_max: max(2), ..PrincipalLimits::default() };
    let gate = limited(SourceLimits::default(), limits).await;
    let token = gate.token.clone();
    let first = attempt(&gate, "dev", &token).await.unwrap();
    let _second = attempt(&gate, "dev", &token).await.unwrap();
    let (code, sentence, asked) = refused(&gate, "dev", &token).await;
    assert_eq!((code.as_str(), asked), ("53300", true));
    assert!(sentence.contains("\"dev\" has as many sessions"), "{sentence}");
    assert_eq!(refused(&gate, "dev", "rt_wrong").await.0, "28P01");
    drop(first);
    // The place is free once the end of its session is on record.
    let again = async {
        while attempt(&gate, "dev", &token).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("a place is free");
    let refusals = gate.refusals().await;
    let reasons = |wanted| refusals.iter().filter(|(reason, ..)| *reason == wanted).count();
    assert!(reasons(Reason::Sessions) >= 1 && reasons(Reason::Credential) == 1, "{refusals:?}");
}

#[tokio::test]
async fn a_source_that_has_its_sessions_is_refused_before_a_proof() {
    let limits = SourceLimits { sessions_max: max(1), ..SourceLimits::default() };
    let gate = limited(limits, PrincipalLimits::default()).await;
    let token = gate.token.clone();
    let _first = attempt(&gate, "dev", &token).await.unwrap();
    for user in ["dev", "nobody"] {
        let (code, sentence, asked) = refused(&gate, user, &token).await;
        assert_eq!((code.as_str(), asked), ("53300", false), "{user}");
        assert!(sentence.contains("from where this client is"), "{sentence}");
    }
    let elsewhere = gate.negotiated_from([127, 0, 0, 2], &[]).await.unwrap();
    assert!(attempt_on(elsewhere, "dev", &token).await.is_ok(), "another source");
    assert_eq!(gate.refusals().await, [(Reason::SessionsPerSource, 1, 2); 2]);
}

#[tokio::test]
async fn a_source_that_logs_in_too_often_is_refused_before_a_proof() {
    // So few that none comes back while the test runs.
    let limits = SourceLimits { logins_per_minute_max: max(2), ..SourceLimits::default() };
    let gate = limited(limits, PrincipalLimits::default()).await;
    let token = gate.token.clone();
    let _first = attempt(&gate, "dev", &token).await.unwrap();
    assert_eq!(refused(&gate, "nobody", &token).await.0, "28P01");
    let (code, _, asked) = refused(&gate, "dev", &token).await;
    assert_eq!((code.as_str(), asked), ("53300", false));
    assert_eq!(gate.refusals().await, [(Reason::Credential, 1, 2), (Reason::LoginsPerSource, 1, 2)]);
}

#[tokio::test]
async fn a_user_is_not_tried_after_too_many_failures_and_others_are() {
    let limits = SourceLimits { failed_logins_per_minute_max: max(3), ..SourceLimits::default() };
    let gate = limited(limits, PrincipalLimits::default()).await;
    let token = gate.token.clone();
    for user in ["dev", "nobody"] {
        for _ in 0..3 {
            assert_eq!(refused(&gate, user, "rt_wrong").await.0, "28P01");
        }
    }
    // Alike whether there is such a user, and whatever the token is.
    for user in ["dev", "nobody"] {
        let (code, sentence, asked) = refused(&gate, user, &token).await;
        assert_eq!((code.as_str(), asked), ("53300", false), "{user}");
        assert!(sentence.contains("too many failed log-ins"), "{sentence}");
    }
    assert_eq!(refused(&gate, "another", "rt_wrong").await.0, "28P01");
}

#[tokio::test]
async fn connections_that_were_asked_for_a_proof_before_others_failed_are_not_tried_either() {
    let limits = SourceLimits { failed_logins_per_minute_max: max(1), ..SourceLimits::default() };
    let gate = limited(limits, PrincipalLimits::default()).await;
    let mut asked = Vec::new();
    for token in ["rt_wrong", "rt_wrong", &gate.token] {
        let stream = gate.negotiated(&[]).await.unwrap();
        asked.push(asked_for_proof(stream, "dev", token).await.unwrap());
    }
    let mut codes = Vec::new();
    for (stream, proof) in asked {
        codes.push(prove(stream, &proof).await.expect_err("it is refused").0);
    }
    assert_eq!(codes, ["28P01", "53300", "53300"]);
}

#[tokio::test]
async fn those_who_do_not_fail_are_not_counted_as_failures() {
    let limits = SourceLimits { failed_logins_per_minute_max: max(1), ..SourceLimits::default() };
    let gate = limited(limits, PrincipalLimits::default()).await;
    let token = gate.token.clone();
    for _ in 0..5 {
        assert!(attempt(&gate, "dev", &token).await.is_ok());
    }
}

#[tokio::test]
async fn wrong_tokens_by_the_hundred_are_few_events_whose_counts_sum_up() {
    let gate = default_gate().await;
    let began = std::time::Instant::now();
    for number in 0..100 {
        assert_eq!(refused(&gate, &format!("user-{}", number % 7), "rt_wrong").await.0, "28P01");
    }
    // Ten of a window by themselves and one for the others; it may have begun in the middle of one.
    let windows = began.elapsed().as_secs() / 10 + 2;
    let refusals = gate.refusals().await;
    assert!(refusals.len() as u64 <= 11 * windows, "{refusals:?}");
    assert!(refusals.len() < 100);
    assert_eq!(refusals.iter().map(|(_, count, _)| count).sum::<u64>(), 100);
    assert!(refusals.iter().all(|(reason, ..)| *reason == Reason::Credential), "{refusals:?}");
    assert!(refusals.iter().all(|(_, count, asserted)| (*count > 1) == (*asserted == 0)), "{refusals:?}");
}

/// A gate before a target that lets everybody in and answers every query, and whose principal has this pace.
async fn paced(principal: PrincipalLimits) -> Gate {
    let address = listen(|mut stream| async move {
        read_startup(&mut stream).await;
        stream.write_all(&welcome()).await.unwrap();
        tokio::spawn(async move {
            let answer = [startup::message(b'C', b"SELECT 0\0"), startup::message(b'Z', b"I")].concat();
            while let Ok((b'Q', _)) = startup::read_message(&mut stream).await {
                stream.write_all(&answer).await.unwrap();
            }
        });
    })
    .await;
    Gate::limited(target(address), Limits { principal, ..Limits::default() }).await
}

#[tokio::test]
async fn who_is_slowed_down_is_answered_to_the_end() {
    let by_commands = PrincipalLimits {
        commands_per_second_max: max(50),
        commands_burst_max: max(1),
        ..PrincipalLimits::default()
    };
    let by_bytes = PrincipalLimits { bytes_per_second_max: max(500), ..PrincipalLimits::default() };
    for limits in [by_commands, by_bytes] {
        let gate = paced(limits).await;
        let mut stream = attempt(&gate, "dev", &gate.token).await.unwrap();
        stream.write_all(&startup::message(b'Q', b"SELECT\0").repeat(20)).await.unwrap();
        for _ in 0..20 {
            assert_eq!((read(&mut stream).await.0, read(&mut stream).await.0), ('C', 'Z'));
        }
        stream.write_all(&startup::message(b'X', b"")).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn a_flood_from_one_source_makes_room_among_its_own() {
    let never = Duration::from_secs(24 * 60 * 60);
    let gateway = GatewayLimits { logins_max: 100, login_wait_max: never, ..GatewayLimits::default() };
    let source = SourceLimits { logins_waiting_max: max(4), ..SourceLimits::default() };
    let gate = gate(Limits { gateway, source, ..Limits::default() }).await.0;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(gate.plain().await);
    }
    let token = gate.token.clone();
    assert!(attempt(&gate, "dev", &token).await.is_ok());
    for plain in flood.iter_mut().take(16) {
        assert_eq!(rest(plain).await, b"");
    }
    let refused: u64 = gate.refusals().await.iter().map(|(_, count, _)| count).sum();
    assert!((16..=20).contains(&refused), "{refused}");
}
