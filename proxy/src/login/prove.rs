//! Who a client is: SASL as PostgreSQL wraps it, with SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).

use retrace_access::{Authenticated, Refused, ScramError, ScramServer};
use retrace_proto::wire::login_refused::Reason;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Refusal, limited};
use crate::clock;
use crate::gateway::Gateway;
use crate::source::Source;
use crate::startup;

/// What is to be proved.
pub(super) struct Proving<'a> {
    pub(super) user: &'a str,
    pub(super) source: Source,
    /// Hash of the certificate that the client was shown.
    pub(super) end_point: Option<&'a [u8]>,
}

/// Asks the client for a proof that it has a token of this user's.
pub(super) async fn prove(
    gateway: &Gateway,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    &Proving { user, source, end_point }: &Proving<'_>,
) -> Result<Authenticated, Refusal> {
    let mut scram = gateway.directory.scram(user).bound_to(end_point);
    send(stream, &offer(&scram)).await?;
    let initial = receive(stream).await?;
    let (mechanism, first) = split_initial(&initial).ok_or_else(malformed)?;
    let chosen = scram.choose(mechanism);
    let answer = chosen.and_then(|()| scram.handle_client_first(first, &clock::random()));
    let answer = answer.map_err(|error| refused(&error, user))?;
    send(stream, &[&11_u32.to_be_bytes()[..], &answer].concat()).await?;

    let last = receive(stream).await?;
    // Others may have failed since this one began: as many connections as there may be do not try as many tokens.
    limited::user_may_try(gateway, user, source)?;
    let now_unix_s = clock::unix_us() / 1_000_000;
    let (answer, who) = scram.handle_client_final(&last, now_unix_s).map_err(|error| {
        limited::note_failure(gateway, user, source, &error);
        refused(&error, user)
    })?;
    send(stream, &[&12_u32.to_be_bytes()[..], &answer].concat()).await?;
    Ok(who)
}

/// AuthenticationSASL: the names of what is offered, the best first.
fn offer(scram: &ScramServer) -> Vec<u8> {
    let mut body = 10_u32.to_be_bytes().to_vec();
    for mechanism in scram.mechanisms() {
        body.extend_from_slice(mechanism.name().as_bytes());
        body.push(0);
    }
    body.push(0);
    body
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<(), Refusal> {
    stream.write_all(&startup::message(b'R', body)).await?;
    Ok(stream.flush().await?)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Refusal> {
    match startup::read_message(stream).await? {
        (b'p', body) => Ok(body),
        _ => Err(malformed()),
    }
}

/// SASLInitialResponse: the mechanism, and the first message behind its length.
fn split_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&body[..end], &body[end + 1..]);
    let (length, first) = rest.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == first.len()).then_some((mechanism, first))
}

fn malformed() -> Refusal {
    Refusal::told(Reason::Protocol, "08P01", "retrace: a message of the login is malformed", "")
}

/// One answer to all who are not a principal, or not with this token.
pub(super) fn wrong_credential(user: &str) -> Refusal {
    Refusal::told(
        Reason::Credential,
        "28P01",
        &format!("password authentication failed for user \"{user}\""),
        "The password is an access token (rt_…) of this principal that is neither expired nor revoked.",
    )
}

/// The codes are those that a server has for the same.
fn refused(error: &ScramError, user: &str) -> Refusal {
    let (reason, sqlstate) = match error {
        ScramError::Refused(Refused::Credential) => return wrong_credential(user),
        ScramError::Refused(_) => (Reason::Credential, "28P01"),
        ScramError::Downgrade | ScramError::OtherCertificate => {
            tracing::warn!(%error, "a login was not bound to this gate's certificate");
            (Reason::Credential, "28000")
        }
        ScramError::ChannelBinding(_) => (Reason::Unsupported, "28000"),
        ScramError::Mechanism => (Reason::Unsupported, "08P01"),
        _ => (Reason::Protocol, "08P01"),
    };
    Refusal::told(reason, sqlstate, &format!("retrace: {error}"), "")
}
