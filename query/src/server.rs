use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use retrace_access::ListenerTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::QueryService;
use crate::lingering::Lingering;
use crate::service::{Calls, End};
use crate::wire::control_server::ControlServer;
use crate::wire::query_server::QueryServer;
use crate::wire::reviews_server::ReviewsServer;

/// Calls at once on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 32;

/// Largest request, in bytes: a statement of the longest allowed and more, so that the limit's own error answers.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The protocol's name inside TLS (ALPN).
pub const GRPC_ALPN: &[u8] = b"h2";

/// How often a quiet connection is asked whether its client is still there, and how long that may take. A client that
/// vanished frees its place after both.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a failed accept the next is tried; out of file descriptors is the usual cause.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the service does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Serving ended with an error.
    #[error("the query service ended")]
    Transport(#[source] tonic::transport::Error),
}

impl QueryService {
    /// Serves the connections of `listener` until the service drains; then nothing new is taken, tails end, and other
    /// answers under way end when they are whole, or with a sentence when the service stops.
    ///
    /// Its clients speak [`GRPC_ALPN`].
    ///
    /// # Errors
    /// If the transport fails.
    pub async fn serve(self, listener: TcpListener, tls: ListenerTls, end: End) -> Result<(), ServeError> {
        let ((draining, is_draining), (stopping, is_stopping)) =
            (watch::channel(false), watch::channel(false));
        let Self { reader, door, commander, .. } = self;
        let calls = Calls { reader: reader.at("grpc"), door, commander, is_draining, is_stopping };
        let orders = ControlServer::new(calls.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
        let reviews = ReviewsServer::new(calls.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
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
        let connections = Connections {
            listener,
            tls,
            places: Arc::new(Semaphore::new(self.options.connections_max)),
            handshake_wait_max: Duration::from_millis(self.options.handshake_ms_max),
            handshakes: JoinSet::new(),
        };
        let serving = Server::builder()
            .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .add_service(calls)
            .add_service(orders)
            .add_service(reviews)
            .serve_with_incoming_shutdown(connections.stream(), drained);
        tokio::select! {
            served = serving => served.map_err(ServeError::Transport),
            () = stopped => unreachable!("it only tells"),
        }
    }
}

/// Connections whose handshake is through.
struct Connections {
    listener: TcpListener,
    tls: ListenerTls,
    places: Arc<Semaphore>,
    handshake_wait_max: Duration,
    handshakes: JoinSet<Option<Connection>>,
}

impl Connections {
    /// Accepts as long as there is a place. Who finds none waits in the listener's backlog; who is slow to shake hands holds
    /// up nobody else.
    fn stream(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |mut connections| async move {
            loop {
                let Self { listener, places, handshakes, .. } = &mut connections;
                tokio::select! {
                    Some(done) = handshakes.join_next() => {
                        if let Ok(Some(connection)) = done {
                            return Some((Ok(connection), connections));
                        }
                    }
                    (socket, place) = accept(listener, places) => connections.shake_hands(socket, place),
                }
            }
        })
        .boxed()
    }

    fn shake_hands(&mut self, socket: TcpStream, place: OwnedSemaphorePermit) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection of the query service will wait to fill its packets");
        }
        let accepting = TlsAcceptor::from(Arc::clone(&self.tls.now().config)).accept(socket);
        let accepting = timeout(self.handshake_wait_max, accepting);
        self.handshakes.spawn(async move {
            let stream = Lingering::new(accepting.await.ok()?.ok()?);
            Some(Connection { stream, _place: place })
        });
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((socket, _client)) => return (socket, place),
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
    stream: Lingering<TlsStream<TcpStream>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().get_ref().0.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
