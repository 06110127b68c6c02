use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use retrace_eventlog::{Append, AppendError};
use retrace_proto::wire::login_refused::Reason;
use retrace_proxy_core::postgres::message::{Severity, error_response};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::dial::{self, DialError};
use crate::gateway::Gateway;
use crate::limits::Limit;
use crate::login::{self, Login, Opened, Refusal, Unadmitted, take_seat};
use crate::session::{self, Entrance};
use crate::source::Source;
use crate::stage::Stage;
use crate::workers::{Place, Workers};
use crate::{refusals, socket};

/// How long a refusal waits for its own record before the client is told all the same, since it learns nothing by it.
const REFUSAL_RECORD_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a login that is under way may still take when the process drains.
const DRAINING_LOGIN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients, whose sessions the workers run, until the process drains; then waits until the sessions have ended and
/// their records are durable. Those with something under way end when that is answered, or when the process stops.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    workers: Workers,
    mut stages: watch::Receiver<Stage>,
) {
    let mut connections = JoinSet::new();
    let counting = tokio::spawn(record_what_is_counted(gateway.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stages.wait_for(|stage| *stage > Stage::Serving) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let (gateway, stages) = (gateway.clone(), stages.clone());
                let Place { runtime, load } = workers.place();
                let connection = async move {
                    match moved(stream) {
                        Ok(stream) => connection(gateway, stream, address, stages).await,
                        Err(error) => tracing::warn!(%error, "a connection could not be taken up"),
                    }
                    drop(load);
                };
                connections.spawn_on(connection, &runtime);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    for keeper in gateway.latest.keepers() {
        keeper.close(gateway.limits.close_wait_max).await;
    }
    counting.abort();
    all_recorded(record_counted(&gateway)).await;
}

/// A connection that was accepted elsewhere, for the runtime of this task.
fn moved(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// One client connection, from its first byte to the last record of its session.
async fn connection(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    stages: watch::Receiver<Stage>,
) {
    socket::prepare(&stream);
    let source = Source::of(address.ip());
    let Some((stream, login)) = log_in(&gateway, stream, address, stages.clone()).await else { return };
    let seat = match take_seat(&gateway, &login.who.principal, source) {
        Ok(seat) => seat,
        Err(refusal) => {
            let refusal = Refusal {
                asserted: login.asserted,
                principal: Some(Box::new(login.who.to_wire())),
                ..refusal
            };
            return refuse(&gateway, Some(stream), address, refusal).await;
        }
    };
    if !gateway.control.lag.is_current() {
        let message = "retrace: the gate may not know yet who may come in no more";
        let answer = error_response(Severity::Fatal, "57P03", message, "Try again in a moment.");
        return refuse(&gateway, Some(stream), address, unavailable(login, answer)).await;
    }
    let dialling = timeout(gateway.limits.dial_wait_max, dial::dial(&login.target, &login.startup));
    let dialled = match dialling.await.unwrap_or(Err(DialError::Deadline)) {
        Ok(dialled) => dialled,
        Err(error) => {
            tracing::warn!(target = login.target.name, %error, "a target is not ready");
            if error.is_of_credential() {
                gateway.metrics.credential_refused(&login.target);
            }
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
    if !Arc::ptr_eq(&login.loaded, &gateway.latest.now()) {
        // Nobody begins with a configuration that counts no more.
        let message = "retrace: the configuration of the gate has just changed";
        let answer = error_response(Severity::Fatal, "57P03", message, "Connect again.");
        return refuse(&gateway, Some(stream), address, unavailable(login, answer)).await;
    }
    let entrance = Entrance {
        principal: login.who.to_wire(),
        loaded: login.loaded,
        target: login.target,
        asserted: login.asserted,
        client_address: address.ip().to_canonical().to_string(),
        tls_version: tls_version(&stream),
        protocol_minor: login.startup.spoken_minor(),
        rules: Some(login.rules),
    };
    session::run(&gateway, *stream, entrance, dialled, stages).await;
    drop(seat);
}

/// Lets a connection wait in the lobby until it is known who it is. `None` if it is over: it was refused, or no login.
async fn log_in(
    gateway: &Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    stages: watch::Receiver<Stage>,
) -> Option<(Box<TlsStream<TcpStream>>, Login)> {
    let source = Source::of(address.ip());
    let waiting_max = gateway.latest.now().source_limits.logins_waiting_max;
    let (mut visit, shown_out) = gateway.lobby.enter(source, waiting_max);
    gateway.metrics.limited(Limit::LoginsWaitingPerSource, shown_out);
    let admitted = tokio::select! {
        biased;
        admitted = admit(gateway, stream, address.ip()) => admitted,
        () = sleep(gateway.limits.login_wait_max) => Err((Refusal::new(Reason::Deadline, None), None)),
        () = visit.must_leave() => Err((Refusal::new(Reason::Deadline, None), None)),
        // Nothing has begun that would have to end well.
        () = no_time_to_log_in(stages) => return None,
    };
    drop(visit);
    match admitted {
        Ok(admitted) => admitted,
        Err((refusal, stream)) => {
            refuse(gateway, stream, address, refusal).await;
            None
        }
    }
}

/// Resolves when the process stops, or drains and has given who is logging in the time to be told so.
async fn no_time_to_log_in(stages: watch::Receiver<Stage>) {
    if Stage::Serving.passed(stages.clone()).await == Stage::Draining {
        let _ = timeout(DRAINING_LOGIN_WAIT_MAX, Stage::Draining.passed(stages)).await;
    }
}

/// Everything up to knowing who it is and where to; `None` was a cancel request.
async fn admit(
    gateway: &Gateway,
    stream: TcpStream,
    address: IpAddr,
) -> Result<Option<(Box<TlsStream<TcpStream>>, Login)>, (Refusal, Option<Unadmitted>)> {
    let (mut stream, tls, startup) = match login::open(gateway, stream).await? {
        Opened::Login(stream, tls, startup) => (stream, tls, startup),
        Opened::Cancelled => return Ok(None),
    };
    match login::authenticate(gateway, &mut stream, &tls, startup, address).await {
        Ok(login) => Ok(Some((stream, login))),
        Err(refusal) => Err((refusal, Some(stream))),
    }
}

/// The refusal of somebody who may come in and cannot go on to the target.
fn unavailable(login: Login, answer: Bytes) -> Refusal {
    Refusal {
        reason: Reason::TargetUnavailable,
        asserted: login.asserted,
        principal: Some(Box::new(login.who.to_wire())),
        answer: Some(answer),
    }
}

fn tls_version(client: &TlsStream<TcpStream>) -> String {
    match client.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        _ => String::new(),
    }
}

/// Records a refusal, then tells the client.
async fn refuse<S: AsyncWrite + Unpin>(
    gateway: &Arc<Gateway>,
    stream: Option<S>,
    address: SocketAddr,
    refusal: Refusal,
) {
    gateway.metrics.login_refused(refusal.reason);
    if gateway.refusals.is_alone(refusal.kind(Source::of(address.ip())), clock::unix_us()) {
        let Refusal { reason, asserted, principal, .. } = refusal;
        let client_address = address.ip().to_canonical().to_string();
        recorded(gateway.record_refused(reason, client_address, asserted, principal.map(|it| *it))).await;
    }
    if let Some(stream) = stream {
        tell(stream, refusal.answer, gateway.limits.close_wait_max).await;
    }
}

/// Records again and again what was counted. It may be ended at any of its waits: what it takes it has recorded before.
async fn record_what_is_counted(gateway: Arc<Gateway>) {
    loop {
        sleep(refusals::WINDOW).await;
        all_recorded(record_counted(&gateway)).await;
    }
}

/// Records the refusals that were counted since this was last done.
fn record_counted(gateway: &Gateway) -> Vec<Append> {
    gateway.refusals.take().into_iter().map(|counted| gateway.record_counted(counted)).collect()
}

/// Waits for records of refusals, and not for ever.
async fn all_recorded(records: Vec<Append>) {
    recorded(async {
        for outcome in join_all(records).await {
            outcome?;
        }
        Ok(())
    })
    .await;
}

/// Waits for the record of a refusal, and not for ever.
async fn recorded<T>(record: impl Future<Output = Result<T, AppendError>>) {
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
