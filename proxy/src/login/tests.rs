mod limits;

use std::io::ErrorKind;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use retrace_access::tls::server_end_point;
use retrace_proto::wire::login_refused::Reason;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::gateway::GatewayLimits;
use crate::testing::{Gate, Limits, PATIENCE, listen, read, read_startup, rest, target, welcome};

const LOGIN: &[u8] = b"user\0dev\0database\0shop\0\0";

/// A gate before a target that lets everybody in and tells how each connection began.
async fn gate(limits: impl Into<Limits>) -> (Gate, mpsc::UnboundedReceiver<(u32, Vec<u8>)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            let begun = read_startup(&mut stream).await;
            let _ = tell.send(begun);
            let _ = stream.write_all(&welcome()).await;
            // It listens to its client up to the farewell, and closes then.
            tokio::spawn(async move {
                while startup::read_message(&mut stream).await.is_ok_and(|(tag, _)| tag != b'X') {}
            });
        }
    })
    .await;
    (Gate::limited(target(address), limits.into()).await, told)
}

async fn default_gate() -> Gate {
    gate(GatewayLimits::default()).await.0
}

fn login(minor: u16) -> Vec<u8> {
    startup::startup_message(startup::version(minor), LOGIN)
}

/// The fields of an error's code and text.
fn error(body: &[u8]) -> (String, String) {
    let field = |code: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        let field = fields.find(|field| field.first() == Some(&code)).unwrap_or_default();
        String::from_utf8_lossy(field.get(1..).unwrap_or_default()).into_owned()
    };
    (field(b'C'), field(b'M'))
}

/// The mechanisms that are offered to a login.
async fn offered(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    stream.write_all(&login(0)).await.unwrap();
    let (tag, body) = read(stream).await;
    assert_eq!((tag, &body[..4]), ('R', &[0, 0, 0, 10][..]));
    String::from_utf8(body[4..].to_vec()).unwrap()
}

const BOTH: &str = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

#[tokio::test]
async fn tls_may_be_asked_for_or_begun_with_and_postgresql_is_its_protocol() {
    let gate = default_gate().await;
    for alpn in [&[][..], &[ALPN][..], &[b"http/1.1".as_slice(), ALPN][..]] {
        assert_eq!(offered(&mut gate.negotiated(alpn).await.unwrap()).await, BOTH);
    }
    assert_eq!(offered(&mut gate.direct(&[ALPN]).await.unwrap()).await, BOTH);
    for opened in [gate.direct(&[b"http/1.1"]).await, gate.negotiated(&[b"http/1.1"]).await] {
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn tls_begun_with_by_who_does_not_say_postgresql_is_closed_without_a_word() {
    let gate = default_gate().await;
    let mut stream = gate.direct(&[]).await.unwrap();
    let _ = stream.write_all(&login(0)).await;
    assert_eq!(rest(&mut stream).await, b"");
    assert_eq!(gate.refusals().await, [(Reason::Protocol, 1, 0)]);
}

#[tokio::test]
async fn gssapi_encryption_is_declined_and_the_client_goes_on() {
    let gate = default_gate().await;
    let mut plain = gate.plain().await;
    plain.write_all(&startup::startup_message(80_877_104, b"")).await.unwrap();
    assert_eq!(plain.read_u8().await.unwrap(), b'N');
    plain.write_all(&startup::ssl_request()).await.unwrap();
    assert_eq!(plain.read_u8().await.unwrap(), b'S');
}

#[tokio::test]
async fn what_is_sent_in_cleartext_behind_the_question_for_tls_is_never_taken_for_its_content() {
    let (gate, mut told) = gate(GatewayLimits::default()).await;
    let mut plain = gate.plain().await;
    plain.write_all(&[startup::ssl_request(), login(0)].concat()).await.unwrap();
    let answer = rest(&mut plain).await;
    assert_eq!(answer.first(), Some(&b'S'));
    assert!(!answer.windows(5).any(|bytes| bytes == b"SCRAM"), "{answer:?}");
    assert_eq!(gate.refusals().await, [(Reason::Protocol, 1, 0)]);
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_login_in_cleartext_is_told_to_use_tls() {
    let gate = default_gate().await;
    let mut plain = gate.plain().await;
    plain.write_all(&login(0)).await.unwrap();
    let (tag, body) = read(&mut plain).await;
    let (code, text) = error(&body);
    assert_eq!((tag, code.as_str()), ('E', "28000"));
    assert!(text.contains("TLS only"), "{text}");
}

#[tokio::test]
async fn versions_that_are_not_spoken_are_refused_in_words_that_the_client_shows() {
    let gate = default_gate().await;
    for (code, is_old) in [(2_u32 << 16, true), (0, true), (4 << 16, false), (80_877_105, false)] {
        let message = startup::startup_message(code, &[0; 288]);
        let mut plain = gate.plain().await;
        plain.write_all(&message).await.unwrap();
        let mut encrypted = gate.negotiated(&[]).await.unwrap();
        encrypted.write_all(&message).await.unwrap();
        for answer in [rest(&mut plain).await, rest(&mut encrypted).await] {
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(text.starts_with("EFATAL:  ") && text.ends_with("\n\0"), is_old, "{text:?}");
            assert!(text.contains("is not spoken here"), "{text:?}");
            assert!(is_old || error(&answer[5..]).0 == "0A000", "{text:?}");
        }
    }
    let refusals = gate.refusals().await;
    assert_eq!(refusals.iter().map(|(_, count, _)| count).sum::<u64>(), 8);
    assert!(refusals.iter().all(|(reason, _, _)| *reason == Reason::Unsupported), "{refusals:?}");
}

#[tokio::test]
async fn newer_minor_versions_and_options_are_answered_with_what_is_spoken() {
    let gate = default_gate().await;
    let option = b"user\0dev\0_pq_.one\x001\0_pq_.two\0x\0\0";
    for (minor, parameters, answer) in [
        (0, LOGIN, None),
        (2, LOGIN, None),
        (3, LOGIN, Some((2, &b""[..]))),
        (9999, option, Some((2, b"_pq_.one\0_pq_.two\0"))),
        (0, option, Some((0, b"_pq_.one\0_pq_.two\0"))),
    ] {
        let mut stream = gate.negotiated(&[]).await.unwrap();
        stream.write_all(&startup::startup_message(startup::version(minor), parameters)).await.unwrap();
        let (tag, body) = read(&mut stream).await;
        let Some((spoken, options)) = answer else {
            assert_eq!(tag, 'R', "{minor}");
            continue;
        };
        let count = u32::try_from(options.split(|byte| *byte == 0).count() - 1).unwrap();
        let expect = [&startup::version(spoken).to_be_bytes()[..], &count.to_be_bytes(), options].concat();
        assert_eq!((tag, body), ('v', expect), "{minor}");
        assert_eq!(read(&mut stream).await.0, 'R');
    }
}

#[tokio::test]
async fn replication_is_refused_with_a_sentence_and_on_record() {
    let gate = default_gate().await;
    for value in ["database", "true", "on", "yes", "1", "TRUE", "nonsense"] {
        let mut stream = gate.negotiated(&[]).await.unwrap();
        let parameters = format!("user\0dev\0replication\0{value}\0\0");
        stream.write_all(&startup::startup_message(3 << 16, parameters.as_bytes())).await.unwrap();
        let (code, text) = error(&read(&mut stream).await.1);
        assert_eq!(code, "0A000");
        assert!(text.contains("replication is not supported"), "{text}");
    }
    assert_eq!(gate.refusals().await, [(Reason::Unsupported, 1, 2); 7]);
}

#[tokio::test]
async fn parameters_that_are_not_laid_out_are_refused_with_a_sentence() {
    let gate = default_gate().await;
    for parameters in [&b"user\0dev"[..], b"user\0\xff\0\0", b"user\0dev\0\0more\0"] {
        let mut stream = gate.negotiated(&[]).await.unwrap();
        stream.write_all(&startup::startup_message(3 << 16, parameters)).await.unwrap();
        assert_eq!(error(&read(&mut stream).await.1).0, "08P01");
    }
}

/// Logs in; gives what comes between the proof and ReadyForQuery, or the error's code.
async fn log_in(
    gate: &Gate,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    minor: u16,
    (mechanism, binding): (&str, ChannelBinding),
) -> Result<Vec<(char, Vec<u8>)>, String> {
    stream.write_all(&login(minor)).await.unwrap();
    assert_eq!(read(stream).await.0, 'R');
    let mut scram = ScramSha256::new(gate.token.as_bytes(), binding);
    let length = u32::try_from(scram.message().len()).unwrap().to_be_bytes();
    let first = [mechanism.as_bytes(), b"\0", &length, scram.message()].concat();
    stream.write_all(&startup::message(b'p', &first)).await.unwrap();
    for last in [false, true] {
        let (tag, body) = read(stream).await;
        if tag == 'E' {
            return Err(error(&body).0);
        }
        if last {
            scram.finish(&body[4..]).unwrap();
        } else {
            scram.update(&body[4..]).unwrap();
            stream.write_all(&startup::message(b'p', scram.message())).await.unwrap();
        }
    }
    let mut messages = Vec::new();
    while messages.last().is_none_or(|(tag, _)| *tag != 'Z') {
        messages.push(read(stream).await);
    }
    Ok(messages)
}

fn bound_to(gate: &Gate) -> ChannelBinding {
    let certificate = CertificateDer::from_pem_file(&gate.identity.certificate).unwrap();
    ChannelBinding::tls_server_end_point(server_end_point(&certificate).unwrap())
}

#[tokio::test]
async fn a_login_bound_to_the_gates_certificate_comes_in_and_one_bound_to_another_does_not() {
    let gate = default_gate().await;
    let plus = "SCRAM-SHA-256-PLUS";
    let enter = async |stream: &mut TlsStreamOf, with| log_in(&gate, stream, 0, with).await.map(drop);
    let opened = async || gate.negotiated(&[]).await.unwrap();
    assert_eq!(enter(&mut opened().await, (plus, bound_to(&gate))).await, Ok(()));
    assert_eq!(enter(&mut gate.direct(&[ALPN]).await.unwrap(), (plus, bound_to(&gate))).await, Ok(()));
    assert_eq!(enter(&mut opened().await, ("SCRAM-SHA-256", ChannelBinding::unsupported())).await, Ok(()));
    let another = ChannelBinding::tls_server_end_point(vec![1; 32]);
    for (with, code) in [
        ((plus, another), "28000"),
        (("SCRAM-SHA-256", ChannelBinding::unrequested()), "28000"),
        (("SCRAM-SHA-256", bound_to(&gate)), "28000"),
        ((plus, ChannelBinding::unsupported()), "28000"),
        (("SCRAM-SHA-1", ChannelBinding::unsupported()), "08P01"),
    ] {
        assert_eq!(enter(&mut opened().await, with).await, Err(code.to_owned()));
    }
}

type TlsStreamOf = tokio_rustls::client::TlsStream<TcpStream>;

#[tokio::test]
async fn a_cancel_key_is_as_long_as_the_clients_protocol_has_it_and_cancels_over_either_tls() {
    let (gate, mut told) = gate(GatewayLimits::default()).await;
    for (minor, length) in [(0, 4), (2, 48)] {
        let mut stream = gate.negotiated(&[]).await.unwrap();
        let said = log_in(&gate, &mut stream, minor, ("SCRAM-SHA-256-PLUS", bound_to(&gate))).await.unwrap();
        let (_, key) = said.iter().find(|(tag, _)| *tag == 'K').unwrap();
        assert_eq!(key.len(), 4 + length, "3.{minor}");
        assert_eq!(told.recv().await.unwrap().0, 3 << 16, "the target is asked for 3.0");

        stream.write_all(&startup::message(b'Q', b"SELECT pg_sleep(600)\0")).await.unwrap();
        let request = startup::startup_message(80_877_102, key);
        let mut canceller = gate.direct(&[ALPN]).await.unwrap();
        canceller.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, canceller.read_to_end(&mut answer)).await.expect("it is closed");
        assert!(ended.is_ok() && answer.is_empty(), "no answer and an orderly end: {ended:?} {answer:?}");
        let (code, forwarded) = told.recv().await.unwrap();
        assert_eq!((code, forwarded), (80_877_102, vec![0, 0, 0, 9, 8, 7, 6, 5]));
    }
}

#[tokio::test]
async fn idle_and_half_open_clients_are_closed_at_the_deadline_and_delay_nobody() {
    let limits = GatewayLimits { login_wait_max: Duration::from_secs(3), ..GatewayLimits::default() };
    let (gate, _told) = gate(limits).await;
    let mut idle = Vec::new();
    for opening in [&b""[..], &[0], &[0, 0, 0, 8, 4], &[0x16], &[0x16, 3, 1, 2, 0, 1]].repeat(10) {
        let mut plain = gate.plain().await;
        plain.write_all(opening).await.unwrap();
        idle.push(plain);
    }
    let mut stream = gate.negotiated(&[]).await.unwrap();
    assert!(log_in(&gate, &mut stream, 0, ("SCRAM-SHA-256-PLUS", bound_to(&gate))).await.is_ok());
    for mut plain in idle {
        assert_eq!(rest(&mut plain).await, b"");
    }
    let refusals = gate.refusals().await;
    assert_eq!(refusals.iter().map(|(_, count, _)| count).sum::<u64>(), 50);
    assert!(refusals.len() <= 2, "those alike are one event: {refusals:?}");
    assert!(refusals.iter().all(|(reason, _, asserted)| *reason == Reason::Deadline && *asserted == 0));
}

#[tokio::test]
async fn a_flood_of_connections_makes_room_for_who_logs_in() {
    let never = Duration::from_secs(24 * 60 * 60);
    let limits = GatewayLimits { logins_max: 8, login_wait_max: never, ..GatewayLimits::default() };
    let (gate, _told) = gate(limits).await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(gate.plain().await);
    }
    let mut stream = gate.negotiated(&[]).await.unwrap();
    assert!(log_in(&gate, &mut stream, 0, ("SCRAM-SHA-256-PLUS", bound_to(&gate))).await.is_ok());
    for plain in flood.iter_mut().take(192) {
        assert_eq!(rest(plain).await, b"");
    }
    let refused: u64 = gate.refusals().await.iter().map(|(_, count, _)| count).sum();
    assert!((192..=200).contains(&refused), "{refused}");
}
