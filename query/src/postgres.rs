//! PostgreSQL's wire protocol, so that psql and every driver can ask the evidence.
//!
//! In reading order: [`QueryService::serve_postgres`] accepts; `login` lets in; `connection` answers one client, with its
//! `state`; `setting` knows what drivers say besides asking; `answer`, `encode` and `decode` are values on the wire;
//! `message` is the wire.
//!
//! It is one more door and no way around: every statement goes through [`crate::Reader`], which checks the right of who
//! asks and records the read before its first row is here.

mod answer;
mod cancel;
mod connection;
mod decode;
mod encode;
mod error;
mod login;
mod message;
mod setting;
mod split;
mod state;
mod types;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use retrace_access::ListenerTls;
use retrace_proto::wire::login_refused::Reason;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::door::Door;
use crate::lingering::Lingering;
use crate::{End, QueryService, Reader};
use cancel::Cancels;
use connection::Connection;
use error::Failure;
use login::{Opened, Refusal};
use state::State;

pub(crate) use types::Wire;

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client that is refused may take for its last message, and all of them when the service stops.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Everything that a connection needs.
#[derive(Clone)]
struct Hall {
    reader: Reader,
    door: Arc<Door>,
    tls: ListenerTls,
    cancels: Cancels,
    places: Arc<Semaphore>,
    login_wait_max: Duration,
    is_draining: watch::Receiver<bool>,
    is_stopping: watch::Receiver<bool>,
}

impl QueryService {
    /// Serves PostgreSQL's protocol on `listener` until the service drains; connections then end once they wait for their
    /// client, and with an error when the service stops.
    /// It gives what may be awaited while the service itself goes to [`QueryService::serve`]; both share its limits on
    /// queries.
    ///
    /// Clients without TLS are refused. They prove their tokens by SCRAM-SHA-256, as they do at the gate.
    pub fn serve_postgres(
        &self,
        listener: TcpListener,
        tls: ListenerTls,
        end: End,
    ) -> impl Future<Output = ()> + Send + 'static {
        let ((draining, is_draining), (stopping, is_stopping)) =
            (watch::channel(false), watch::channel(false));
        let hall = Hall {
            reader: self.reader.at("postgres"),
            door: Arc::clone(&self.door),
            tls,
            cancels: Cancels::default(),
            places: Arc::new(Semaphore::new(self.options.connections_max)),
            login_wait_max: Duration::from_millis(self.options.handshake_ms_max),
            is_draining,
            is_stopping,
        };
        async move {
            let mut connections = JoinSet::new();
            tokio::select! {
                () = accept(&hall, &listener, &mut connections) => {}
                () = end.drain => {}
            }
            drop(listener);
            // Fails only if there is nobody to tell.
            let _ = draining.send(true);
            let mut ended = Box::pin(async { while connections.join_next().await.is_some() {} });
            tokio::select! {
                () = &mut ended => return,
                () = end.stop => {}
            }
            let _ = stopping.send(true);
            // Who has not taken their last message by then ends with the set.
            let _ = timeout(CLOSE_WAIT_MAX, ended).await;
        }
    }
}

async fn accept(hall: &Hall, listener: &TcpListener, connections: &mut JoinSet<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => drop(connections.spawn(client(hall.clone(), stream, address))),
            Err(error) => {
                tracing::warn!(%error, "the evidence's PostgreSQL door could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client connection, from its first byte to its last.
async fn client(hall: Hall, stream: TcpStream, address: SocketAddr) {
    let Ok(_place) = Arc::clone(&hall.places).try_acquire_owned() else {
        let problem = "there are as many connections as there may be".to_owned();
        return tell(stream, &Failure::fatal("53300", problem).hinting("Try again later.")).await;
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection will wait to fill its packets");
    }
    let deadline = Instant::now() + hall.login_wait_max;
    let tls = TlsAcceptor::from(Arc::clone(&hall.tls.now().config));
    let opened = match timeout_at(deadline, login::open(stream, &tls, &hall.cancels)).await {
        Ok(opened) => opened,
        Err(_elapsed) => return hall.door.record(Reason::Deadline, &address.to_string()),
    };
    let (mut stream, minor, parameters) = match opened {
        Ok(Opened::Login(stream, minor, parameters)) => (stream, minor, parameters),
        Ok(Opened::Cancelled) => return,
        Err((refusal, stream)) => return refuse(&hall, stream, address, refusal).await,
    };
    let login = login::authenticate(&hall.door, &mut stream, minor, &parameters);
    let login = match timeout_at(deadline, login).await {
        Ok(Ok(login)) => login,
        Ok(Err(refusal)) => return refuse(&hall, Some(stream), address, refusal).await,
        Err(_elapsed) => return hall.door.record(Reason::Deadline, &address.to_string()),
    };
    let connection = Connection {
        stream: BufReader::new(stream),
        reader: hall.reader.clone(),
        who: login.who,
        door: Arc::clone(&hall.door),
        application_name: login.application_name,
        place: hall.cancels.register(login.takes_long_key),
        is_draining: hall.is_draining.clone(),
        is_stopping: hall.is_stopping.clone(),
        state: State::default(),
    };
    connection.run().await;
}

async fn refuse(
    hall: &Hall,
    stream: Option<impl AsyncRead + AsyncWrite + Unpin>,
    address: SocketAddr,
    refusal: Refusal,
) {
    hall.door.record(refusal.reason, &address.to_string());
    // To whom the protocol is foreign, an answer in it says nothing.
    if let Some(stream) = stream.filter(|_| !refusal.failure.is_gone) {
        tell(stream, &refusal.failure).await;
    }
}

async fn tell(stream: impl AsyncRead + AsyncWrite + Unpin, failure: &Failure) {
    let mut stream = Lingering::new(stream);
    let mut out = BytesMut::new();
    message::put_error(&mut out, failure);
    let words = async {
        stream.write_all(&out).await?;
        stream.shutdown().await
    };
    // Whether it listens or not, that was the last word.
    let _ = timeout(CLOSE_WAIT_MAX, words).await;
}
