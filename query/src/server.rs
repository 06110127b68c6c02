use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use retrace_access::PemIdentity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::QueryService;
use crate::service::{Calls, End};
use crate::wire::control_server::ControlServer;
use crate::wire::query_server::QueryServer;

/// Calls at once on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 32;

/// Largest request, in bytes: a statement of the longest allowed and more, so that the limit's own error answers.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// How often a quiet connection is asked whether its client is still there, and how long that may take. A client that
/// vanished frees its place after both.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a failed accept the next is tried; out of file descriptors is the usual cause.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the service does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Certificate and key were not accepted.
    #[error(
        "the query service cannot use its certificate and key: check that they are PEM and belong together"
    )]
    Identity(#[source] tonic::transport::Error),
    /// The key is not text.
    #[error("the query service's private key is not PEM")]
    KeyNotText,
    /// Serving ended with an error.
    #[error("the query service ended")]
    Transport(#[source] tonic::transport::Error),
}

impl QueryService {
    /// Serves the connections of `listener` until the service drains; then nothing new is taken, tails end, and other
    /// answers under way end when they are whole, or with a sentence when the service stops.
    ///
    /// A rustls provider must have been installed as the process's default: more than one is linked.
    ///
    /// # Errors
    /// If the identity cannot be used, or the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        identity: PemIdentity,
        end: End,
    ) -> Result<(), ServeError> {
        let ((draining, is_draining), (stopping, is_stopping)) =
            (watch::channel(false), watch::channel(false));
        let Self { reader, door, commander, .. } = self;
        let calls = Calls { reader: reader.at("grpc"), door, commander, is_draining, is_stopping };
        let orders = ControlServer::new(calls.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
        let calls = QueryServer::new(calls).max_decoding_message_size(REQUEST_BYTES_MAX);
        let End { drain, stop } = end;
        let drained = async move {
            drain.await;
            // Fails only if there is nobody to tell.
            let _ = draining.send(true);
        };
        let stopped = async move {
            stop.await;
            let _ = stopping.send(true);
            std::future::pending::<()>().await;
        };
        let serving = Server::builder()
            .tls_config(tls(&identity, self.options.handshake_ms_max)?)
            .map_err(ServeError::Identity)?
            .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .add_service(calls)
            .add_service(orders)
            .serve_with_incoming_shutdown(connections(listener, self.options.connections_max), drained);
        tokio::select! {
            served = serving => served.map_err(ServeError::Transport),
            () = stopped => unreachable!("it only tells"),
        }
    }
}

fn tls(identity: &PemIdentity, handshake_ms_max: u64) -> Result<ServerTlsConfig, ServeError> {
    let key = std::str::from_utf8(identity.key.expose()).map_err(|_not_text| ServeError::KeyNotText)?;
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(&identity.certificate, key))
        .timeout(Duration::from_millis(handshake_ms_max)))
}

/// Accepts as long as there is a place. Who finds none waits in the listener's backlog.
fn connections(listener: TcpListener, max: usize) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(max));
    stream::unfold((listener, places), |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let socket = accept(&listener).await;
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection of the query service will wait to fill its packets");
        }
        Some((Ok(Connection { socket, _place: place }), (listener, places)))
    })
    .boxed()
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _client)) => return socket,
            Err(error) => {
                tracing::warn!(%error, "the query service could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A client's connection, which gives its place back when it ends.
#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
