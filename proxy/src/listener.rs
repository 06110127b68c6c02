use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use retrace_eventlog::Append;
use retrace_proto::wire::{self, login_refused::Reason};
use retrace_proto::{Event, Id, StreamWriter, Subject};
use retrace_proxy_core::postgres::message::{Severity, error_response};
use retrace_proxy_core::postgres::{Greeting, Opening, Session};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::dial::{self, DialError, Dialled};
use crate::driver::Driver;
use crate::gateway::Gateway;
use crate::login::{self, Login, Opened, Refusal, Unadmitted};
use crate::outbox::{Outbox, Progress};
use crate::{refusals, socket};

/// How long a refusal waits for its own record before the client is told all the same, since it learns nothing by it.
const REFUSAL_RECORD_WAIT_MAX: Duration = Duration::from_secs(2);

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until `shutdown` says stop, then ends the sessions and waits for their records.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
                connections.spawn(connection(gateway, stream, address, shutdown));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    for (kind, count) in gateway.refusals.take_all() {
        recorded(gateway.record_strangers(kind, count)).await;
    }
}

/// One client connection, from its first byte to the last record of its session.
async fn connection(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    mut shutdown: watch::Receiver<bool>,
) {
    socket::prepare(&stream);
    let mut visit = gateway.lobby.enter();
    let admitted = tokio::select! {
        biased;
        admitted = admit(&gateway, stream) => admitted,
        () = sleep(gateway.limits.login_wait_max) => Err((Refusal::new(Reason::Deadline, None), None)),
        () = visit.must_leave() => Err((Refusal::new(Reason::Deadline, None), None)),
        // Nothing has begun that would have to end well.
        _ = shutdown.wait_for(|stop| *stop) => return,
    };
    drop(visit);
    let (stream, login) = match admitted {
        Ok(Some(admitted)) => admitted,
        Ok(None) => return,
        Err((refusal, stream)) => return refuse(&gateway, stream, address, refusal).await,
    };
    let Ok(place) = gateway.places.clone().try_acquire_owned() else {
        let (message, hint) = ("retrace: the gate has as many sessions as it may", "Try again later.");
        let answer = error_response(Severity::Fatal, "53300", message, hint);
        let refusal = unavailable(login, answer);
        return refuse(&gateway, Some(stream), address, refusal).await;
    };
    let dialling = timeout(gateway.limits.dial_wait_max, dial::dial(&login.target, &login.startup));
    let dialled = match dialling.await.unwrap_or(Err(DialError::Deadline)) {
        Ok(dialled) => dialled,
        Err(error) => {
            tracing::warn!(target = login.target.name, %error, "a target is not ready");
            let answer = error_response(
                Severity::Fatal,
                error.sqlstate(),
                &format!("retrace: the target \"{}\" is not ready: {error}", login.target.name),
                error.hint(),
            );
            let refusal = unavailable(login, answer);
            return refuse(&gateway, Some(stream), address, refusal).await;
        }
    };
    run_session(gateway, *stream, address, login, dialled, shutdown, place).await;
}

/// Everything up to knowing who it is and where to; `None` was a cancel request.
async fn admit(
    gateway: &Gateway,
    stream: TcpStream,
) -> Result<Option<(Box<TlsStream<TcpStream>>, Login)>, (Refusal, Option<Unadmitted>)> {
    let (mut stream, startup) = match login::open(gateway, stream).await? {
        Opened::Login(stream, startup) => (stream, startup),
        Opened::Cancelled => return Ok(None),
    };
    match login::authenticate(gateway, &mut stream, startup).await {
        Ok(login) => Ok(Some((stream, login))),
        Err(refusal) => Err((refusal, Some(stream))),
    }
}

/// The refusal of somebody who may come in and for whom there is no room, here or at the target.
fn unavailable(login: Login, answer: Bytes) -> Refusal {
    Refusal {
        reason: Reason::TargetUnavailable,
        asserted: login.asserted,
        principal: Some(login.who.to_wire()),
        answer: Some(answer),
    }
}

/// Runs the session in a task of its own, so that if it panics it ends alone.
#[expect(clippy::too_many_arguments, reason = "all that a connection gathered goes into its session")]
async fn run_session(
    gateway: Arc<Gateway>,
    client: TlsStream<TcpStream>,
    address: SocketAddr,
    login: Login,
    dialled: Dialled,
    shutdown: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    let session_id = clock::new_id();
    let durable_end = Arc::new(AtomicU64::new(0));
    let (cancel_place, cancel_requests) = gateway.cancels.register(session_id, login.startup.spoken_minor());
    let about = subject(&gateway, session_id, &login);
    let opening = Opening {
        stream: StreamWriter::new(session_id, wire::StreamKind::Session),
        subject: about.clone(),
        masker: login.target.masker.clone(),
        opened: wire::SessionOpened {
            client_address: address.ip().to_string(),
            tls_version: tls_version(&client),
            server_version: server_version(&dialled.settings),
            ..wire::SessionOpened::default()
        },
        greeting: Greeting { settings: dialled.settings, cancel_key: cancel_place.key() },
        asserted: login.asserted,
        policy_version: gateway.policy_version.clone(),
        impossible_name: impossible_name(),
        limits: gateway.limits.session,
    };
    let driver = Driver {
        session: Session::open(opening, clock::now()),
        outbox: Outbox::new(gateway.log.clone(), session_id, gateway.streams.open(session_id)),
        target_config: login.target,
        target_cancel: dialled.cancel,
        cancel_requests,
        shutdown,
        stopping: false,
        close_wait_max: gateway.limits.close_wait_max,
        dial_wait_max: gateway.limits.dial_wait_max,
        durable_end: durable_end.clone(),
    };
    let ended = tokio::spawn(driver.run(client, dialled.stream)).await;
    drop((cancel_place, place));
    match ended {
        Ok(outbox) => settle(&gateway, about, outbox).await,
        Err(_) => {
            tracing::error!(session = %session_id, "a session panicked; it ended alone");
            aborted(&gateway, about, session_id, durable_end.load(Ordering::Acquire)).await;
        }
    }
}

/// Waits until the last records of a session are durable, or says in the instance's stream that they will not be.
async fn settle(gateway: &Gateway, about: Subject, mut outbox: Outbox) {
    let session_id = about.session_id.expect("the subject of a session names it");
    while outbox.is_waiting() {
        if let Progress::Failed(error) = outbox.progress().await {
            tracing::error!(session = %session_id, %error, "a session's last records are not durable");
        }
    }
    if outbox.has_failed() {
        let durable_end = outbox.durable_end();
        aborted(gateway, about, session_id, durable_end).await;
    }
}

async fn aborted(gateway: &Gateway, about: Subject, stream: Id, durable_end: u64) {
    let event = Event::stream_aborted(stream, durable_end.checked_sub(1));
    if let Err(error) = gateway.instance.record(about, event).await {
        tracing::error!(session = %stream, %error, "the end of a stream is not recorded");
    }
}

fn subject(gateway: &Gateway, session_id: Id, login: &Login) -> Subject {
    Subject {
        session_id: Some(session_id),
        connection_id: Some(session_id),
        proxy_id: gateway.proxy_id.clone(),
        principal: Some(login.who.to_wire()),
        target: login.target.name.clone(),
        protocol: wire::Protocol::Postgres,
        durability: login.target.durability,
        retention_class: login.target.retention_class,
    }
}

fn tls_version(client: &TlsStream<TcpStream>) -> String {
    match client.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        _ => String::new(),
    }
}

/// The version that the target reports, if it has the form of one.
fn server_version(settings: &[(Bytes, Bytes)]) -> String {
    let version = settings.iter().find(|(name, _)| name == "server_version").map(|(_, value)| value);
    let number = version.and_then(|value| value.split(|byte| *byte == b' ').next()).unwrap_or_default();
    String::from_utf8_lossy(number)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .take(16)
        .collect()
}

/// The name of a prepared statement that cannot exist, since nobody can guess it.
fn impossible_name() -> String {
    let random: [u8; 16] = clock::random();
    format!("retrace_refused_{:032x}", u128::from_be_bytes(random))
}

/// Records a refusal, then tells the client.
async fn refuse<S: AsyncWrite + Unpin>(
    gateway: &Arc<Gateway>,
    stream: Option<S>,
    address: SocketAddr,
    refusal: Refusal,
) {
    if refusal.is_of_a_stranger() {
        refuse_stranger(gateway, refusal.reason, address).await;
    } else {
        let Refusal { reason, asserted, principal, .. } = refusal;
        recorded(gateway.record_refused(reason, address.ip().to_string(), asserted, principal)).await;
    }
    if let Some(stream) = stream {
        tell(stream, refusal.answer, gateway.limits.close_wait_max).await;
    }
}

/// Records the refusal of a stranger, or counts it if it follows another one alike.
async fn refuse_stranger(gateway: &Arc<Gateway>, reason: Reason, address: SocketAddr) {
    let Some(kind) = gateway.refusals.count(reason, address.ip().to_canonical()) else { return };
    let counting = gateway.clone();
    tokio::spawn(async move {
        sleep(refusals::COUNTED_FOR).await;
        let count = counting.refusals.take(kind);
        if count > 0 {
            recorded(counting.record_strangers(kind, count)).await;
        }
    });
    recorded(gateway.record_strangers(kind, 1)).await;
}

/// Waits for the record of a refusal, and not for ever.
async fn recorded(record: Append) {
    if !matches!(timeout(REFUSAL_RECORD_WAIT_MAX, record).await, Ok(Ok(_))) {
        tracing::error!("a refused login could not be recorded");
    }
}

async fn tell<S: AsyncWrite + Unpin>(mut stream: S, answer: Option<Bytes>, close_wait_max: Duration) {
    let words = async {
        if let Some(answer) = answer {
            stream.write_all(&answer).await?;
        }
        stream.shutdown().await
    };
    let _ = timeout(close_wait_max, words).await;
}
