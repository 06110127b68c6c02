//! The listener of `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Health;

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;

/// How long a request's head may take, and a connection live.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(5);
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(300);

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn serve(listener: TcpListener, health: Health) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _address)) => {
                let health = health.clone();
                tokio::spawn(async move {
                    connection(stream, &health).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the health listener could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, health: &Health) {
    let answer = service_fn(|request| async move { Ok::<_, Infallible>(answer(health, &request)) });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX);
    let serving = http.serve_connection(TokioIo::new(stream), answer);
    // Whether it ended well is its client's concern.
    let _ = timeout(CONNECTION_LIFE_MAX, serving).await;
}

fn answer(health: &Health, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered\n".to_owned());
        refused.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a header's value"));
        return refused;
    }
    match request.uri().path() {
        "/healthz" => respond(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => match health.readiness.check() {
            Ok(()) => respond(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(lines) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines),
        },
        "/metrics" => respond(StatusCode::OK, OPEN_METRICS, health.metrics()),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "ask for /healthz, /readyz or /metrics\n".to_owned()),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type.parse().expect("a header's value"));
    response
}
