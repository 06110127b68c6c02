//! The loop of one session: it moves bytes between two sockets, a machine and the log, and decides nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use retrace_proto::wire;
use retrace_proto::{StreamWriter, Subject};
use retrace_proxy_core::postgres::{Analysed, CancelKey, Input, LogFailure, Output, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::analyst::Analyst;
use crate::cancel::CancelRequested;
use crate::clock;
use crate::dial;
use crate::gateway::{Gateway, Target};
use crate::outbox::{Outbox, Progress};
use crate::session;

/// How much is read from a socket at once, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How much may wait to be written to the target before reading the client stops, in bytes.
const TARGET_UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// What a session's loop works with.
pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) target_config: Arc<Target>,
    pub(crate) target_cancel: CancelKey,
    pub(crate) cancel_requests: mpsc::Receiver<CancelRequested>,
    pub(crate) shutdown: watch::Receiver<bool>,
    /// Whether the machine was told to stop.
    pub(crate) stopping: bool,
    pub(crate) close_wait_max: Duration,
    pub(crate) dial_wait_max: Duration,
    /// Tells whoever watches how far the stream is durable, should the session panic.
    pub(crate) durable_end: Arc<AtomicU64>,
    pub(crate) gateway: Arc<Gateway>,
    /// Whom the stream is about.
    pub(crate) about: Subject,
    /// Streams before this one whose last record is on its way.
    pub(crate) rolled: JoinSet<()>,
    /// Answers what the machine asks about statements.
    pub(crate) analyst: Analyst,
}

/// An answer that is being found out.
type Analysis = Pin<Box<dyn Future<Output = Analysed> + Send>>;

/// One direction of writing: what waits, and whether the stream below still has some of it.
#[derive(Default)]
struct Unsent {
    bytes: BytesMut,
    unflushed: bool,
}

impl Unsent {
    fn is_waiting(&self) -> bool {
        self.unflushed || !self.bytes.is_empty()
    }

    /// Writes on, once. Dropping the future loses nothing.
    async fn write_some(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.bytes.is_empty() {
            stream.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        self.unflushed = true;
        let written = stream.write(&self.bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.advance(written);
        Ok(())
    }

    /// Writes everything.
    async fn write_all(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while self.is_waiting() {
            self.write_some(stream).await?;
        }
        Ok(())
    }
}

/// A socket, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// One of the two sockets, and what waits on its way in and out.
struct Side<S> {
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    incoming: BytesMut,
    unsent: Unsent,
    open: bool,
}

impl<S: Stream> Side<S> {
    fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        let incoming = BytesMut::with_capacity(READ_BYTES_MAX);
        Self { read, write, incoming, unsent: Unsent::default(), open: true }
    }
}

/// What the loop waited for.
enum Event {
    ClientRead(io::Result<usize>),
    ClientWritten(io::Result<()>),
    TargetRead(io::Result<usize>),
    TargetWritten(io::Result<()>),
    Log(Progress),
    Analysed(Analysed),
    Cancel,
    Shutdown,
    Deadline,
}

impl Driver {
    /// Runs the session to its end. Gives back the outbox of its last stream, in which records may still be on their way.
    pub(crate) async fn run<C: Stream, T: Stream>(mut self, client: C, target: T) -> (Subject, Outbox) {
        let mut client = Side::new(client);
        let mut target = Side::new(target);
        let mut analysis: Option<Analysis> = None;
        while self.carry_out(&mut client, &mut target, &mut analysis) {
            let event = self.wait(&mut client, &mut target, &mut analysis).await;
            self.apply(event, &mut client, &mut target);
        }
        if client.open {
            let last_words = async {
                client.unsent.write_all(&mut client.write).await?;
                client.write.shutdown().await
            };
            // A client that does not take its last bytes in time does without.
            let _ = timeout(self.close_wait_max, last_words).await;
        }
        while self.rolled.join_next().await.is_some() {}
        (self.about, self.outbox)
    }

    /// Does what the machine says. Returns whether the session goes on.
    fn carry_out<C: Stream, T: Stream>(
        &mut self,
        client: &mut Side<C>,
        target: &mut Side<T>,
        analysis: &mut Option<Analysis>,
    ) -> bool {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Append(envelope) => self.outbox.append(&envelope),
                Output::ToTarget(bytes) => target.unsent.bytes.extend_from_slice(&bytes),
                Output::ToClient(bytes) => client.unsent.bytes.extend_from_slice(&bytes),
                Output::ForwardCancel => {
                    forward_cancel(&self.target_config, &self.target_cancel, self.dial_wait_max);
                }
                Output::Analyse { sql } => match self.analyst.at_hand(sql.as_ref()) {
                    Some(analysed) => self.session.handle(clock::now(), Input::Analysed(analysed)),
                    None => *analysis = Some(Box::pin(self.analyst.clone().analyse(sql))),
                },
                Output::WantsStream => {
                    let stream = StreamWriter::new(clock::new_id(), wire::StreamKind::Session);
                    self.session.handle(clock::now(), Input::NextStream(stream));
                }
                Output::BeginStream(stream) => {
                    let next = session::outbox(&self.gateway, stream);
                    let before = std::mem::replace(&mut self.outbox, next);
                    self.durable_end.store(0, Ordering::Release);
                    let about = self.about.clone();
                    self.rolled.spawn(session::settle(self.gateway.clone(), about, before));
                    self.about.session_id = Some(stream);
                }
                Output::CatalogueIsOld => self.analyst.catalogue_is_old(),
                Output::Close => return false,
            }
        }
        true
    }

    /// Waits for whatever happens first. What is lost of the others is only that they were waited for.
    async fn wait<C: Stream, T: Stream>(
        &mut self,
        client: &mut Side<C>,
        target: &mut Side<T>,
        analysis: &mut Option<Analysis>,
    ) -> Event {
        let wants_client = client.open
            && self.session.wants_client_bytes()
            && target.unsent.bytes.len() < TARGET_UNSENT_BYTES_MAX;
        let wants_target = target.open && self.session.wants_target_bytes(client.unsent.bytes.len());
        let deadline = self.session.poll_deadline();
        tokio::select! {
            biased;
            _ = self.shutdown.wait_for(|stop| *stop), if !self.stopping => Event::Shutdown,
            Some(CancelRequested) = self.cancel_requests.recv() => Event::Cancel,
            () = sleep_until(clock::instant(deadline.unwrap_or(0))), if deadline.is_some() => Event::Deadline,
            analysed = async { analysis.as_mut().expect("only waited for if there").await },
                if analysis.is_some() => {
                    *analysis = None;
                    Event::Analysed(analysed)
                }
            progress = self.outbox.progress(), if self.outbox.is_waiting() => Event::Log(progress),
            written = target.unsent.write_some(&mut target.write),
                if target.open && target.unsent.is_waiting() => Event::TargetWritten(written),
            written = client.unsent.write_some(&mut client.write),
                if client.open && client.unsent.is_waiting() => Event::ClientWritten(written),
            read = target.read.read_buf(&mut target.incoming), if wants_target => Event::TargetRead(read),
            read = client.read.read_buf(&mut client.incoming), if wants_client => Event::ClientRead(read),
        }
    }

    /// Tells the machine what happened.
    fn apply<C: Stream, T: Stream>(&mut self, event: Event, client: &mut Side<C>, target: &mut Side<T>) {
        let now = clock::now();
        let session = &mut self.session;
        match event {
            Event::ClientRead(Ok(count)) if count > 0 => {
                session.handle(now, Input::ClientBytes(&client.incoming));
                client.incoming.clear();
            }
            Event::ClientRead(_) | Event::ClientWritten(Err(_)) => {
                client.open = false;
                session.handle(now, Input::ClientClosed);
            }
            Event::TargetRead(Ok(count)) if count > 0 => {
                session.handle(now, Input::TargetBytes(&target.incoming));
                target.incoming.clear();
            }
            Event::TargetRead(_) | Event::TargetWritten(Err(_)) => {
                target.open = false;
                session.handle(now, Input::TargetClosed);
            }
            Event::ClientWritten(Ok(())) | Event::TargetWritten(Ok(())) => {}
            Event::Log(Progress::Durable { end }) => {
                self.durable_end.store(end, Ordering::Release);
                session.handle(now, Input::Durable { end });
            }
            Event::Log(Progress::Failed(error)) => {
                tracing::error!(%error, "the log failed a session's stream; the session ends");
                session.handle(now, Input::LogFailed(LogFailure::Permanent));
            }
            Event::Analysed(analysed) => session.handle(now, Input::Analysed(analysed)),
            Event::Cancel => session.handle(now, Input::CancelRequested),
            Event::Shutdown => {
                self.stopping = true;
                session.handle(now, Input::Shutdown);
            }
            Event::Deadline => session.handle(now, Input::DeadlinePassed),
        }
    }
}

fn forward_cancel(target: &Arc<Target>, key: &CancelKey, dial_wait_max: Duration) {
    let (target, key) = (target.clone(), key.clone());
    tokio::spawn(async move {
        match timeout(dial_wait_max, dial::cancel(&target, &key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(target = target.name, %error, "a cancel request was not forwarded")
            }
            Err(_) => tracing::warn!(target = target.name, "a cancel request was not forwarded in time"),
        }
    });
}
