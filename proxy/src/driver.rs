//! The loop of one session: it moves bytes between two sockets, a machine and the log, and decides nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use retrace_proxy_core::postgres::{Input, LogFailure, Output, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};

use crate::cancel::CancelRequested;
use crate::clock;
use crate::dial::{self, CancelKey};
use crate::gateway::Target;
use crate::outbox::{Outbox, Progress};

/// How much is read from a socket at once, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How much may wait to be written to the target before reading the client stops, in bytes.
const TARGET_UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// What a session's loop works with.
pub(crate) struct Driver<C, T> {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) client: C,
    pub(crate) target: T,
    pub(crate) target_config: Arc<Target>,
    pub(crate) target_cancel: CancelKey,
    pub(crate) cancel_requests: mpsc::Receiver<CancelRequested>,
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) close_wait_max: Duration,
    pub(crate) dial_wait_max: Duration,
    /// Tells whoever watches how far the stream is durable, should the session panic.
    pub(crate) durable_end: Arc<AtomicU64>,
}

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

/// What the loop waited for.
enum Event {
    ClientRead(io::Result<usize>),
    ClientWritten(io::Result<()>),
    TargetRead(io::Result<usize>),
    TargetWritten(io::Result<()>),
    Log(Progress),
    Cancel,
    Shutdown,
    Deadline,
}

impl<C, T> Driver<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Runs the session to its end. Gives back its outbox, in which records may still be on their way.
    pub(crate) async fn run(mut self) -> Outbox {
        let (mut client_read, mut client_write) = tokio::io::split(self.client);
        let (mut target_read, mut target_write) = tokio::io::split(self.target);
        let (mut to_client, mut to_target) = (Unsent::default(), Unsent::default());
        let mut client_in = BytesMut::with_capacity(READ_BYTES_MAX);
        let mut target_in = BytesMut::with_capacity(READ_BYTES_MAX);
        let (mut client_open, mut target_open) = (true, true);
        loop {
            let mut closed = false;
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Append(envelope) => self.outbox.append(&envelope),
                    Output::ToTarget(bytes) => to_target.bytes.extend_from_slice(&bytes),
                    Output::ToClient(bytes) => to_client.bytes.extend_from_slice(&bytes),
                    Output::ForwardCancel => {
                        forward_cancel(&self.target_config, &self.target_cancel, self.dial_wait_max);
                    }
                    Output::Close => closed = true,
                }
            }
            if closed {
                break;
            }
            let wants_client = client_open
                && self.session.wants_client_bytes()
                && to_target.bytes.len() < TARGET_UNSENT_BYTES_MAX;
            let wants_target = target_open && self.session.wants_target_bytes(to_client.bytes.len());
            let deadline = self.session.poll_deadline();
            let event = tokio::select! {
                biased;
                progress = self.outbox.progress(), if self.outbox.is_waiting() => Event::Log(progress),
                written = to_target.write_some(&mut target_write), if target_open && to_target.is_waiting() =>
                    Event::TargetWritten(written),
                written = to_client.write_some(&mut client_write), if client_open && to_client.is_waiting() =>
                    Event::ClientWritten(written),
                read = target_read.read_buf(&mut target_in), if wants_target => Event::TargetRead(read),
                read = client_read.read_buf(&mut client_in), if wants_client => Event::ClientRead(read),
                Some(CancelRequested) = self.cancel_requests.recv() => Event::Cancel,
                _ = self.shutdown.wait_for(|stop| *stop) => Event::Shutdown,
                () = sleep_until(clock::instant(deadline.unwrap_or(0))), if deadline.is_some() => Event::Deadline,
            };
            let now = clock::now();
            match event {
                Event::ClientRead(Ok(count)) if count > 0 => {
                    self.session.handle(now, Input::ClientBytes(&client_in));
                    client_in.clear();
                }
                Event::ClientRead(_) | Event::ClientWritten(Err(_)) => {
                    client_open = false;
                    self.session.handle(now, Input::ClientClosed);
                }
                Event::TargetRead(Ok(count)) if count > 0 => {
                    self.session.handle(now, Input::TargetBytes(&target_in));
                    target_in.clear();
                }
                Event::TargetRead(_) | Event::TargetWritten(Err(_)) => {
                    target_open = false;
                    self.session.handle(now, Input::TargetClosed);
                }
                Event::ClientWritten(Ok(())) | Event::TargetWritten(Ok(())) => {}
                Event::Log(Progress::Durable { end }) => {
                    self.durable_end.store(end, Ordering::Release);
                    self.session.handle(now, Input::Durable { end });
                }
                Event::Log(Progress::Failed(error)) => {
                    tracing::error!(%error, "the log failed a session's stream; the session ends");
                    self.session.handle(now, Input::LogFailed(LogFailure::Permanent));
                }
                Event::Cancel => self.session.handle(now, Input::CancelRequested),
                Event::Shutdown => self.session.handle(now, Input::Shutdown),
                Event::Deadline => self.session.handle(now, Input::DeadlinePassed),
            }
        }
        if client_open {
            let last_words = async {
                to_client.write_all(&mut client_write).await?;
                client_write.shutdown().await
            };
            // A client that does not take its last bytes in time does without.
            let _ = timeout(self.close_wait_max, last_words).await;
        }
        self.outbox
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
