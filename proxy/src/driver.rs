//! The loop of one session: it moves bytes between two sockets, a machine and the log, and decides nothing.
//!
//! A session is one task that polls everything it waits for itself: what it writes goes out in the turn that made it, and no
//! future or timer is made for the waiting of an exchange.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use retrace_proto::wire;
use retrace_proto::{StreamWriter, Subject};
use retrace_proxy_core::postgres::{Analysed, CancelKey, Input, LogFailure, Output, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until, timeout};

use crate::analyst::Analyst;
use crate::clock;
use crate::dial;
use crate::gateway::{Gateway, Target};
use crate::leaving::Leaving;
use crate::metrics::SessionCounters;
use crate::outbox::{Outbox, Progress};
use crate::registry::{SessionOrder, SessionPlace};
use crate::reviews::Asking;
use crate::ruling::Ruling;
use crate::session;

/// How much is read from a socket at once, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How much may wait to be written to the target before reading the client stops, in bytes.
const TARGET_UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// How long a client may take to close after it was told that its session ends: what it sent meanwhile is on its way.
const LATE_BYTES_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a buffer of unsent bytes may keep of its memory once it is empty, in bytes.
const UNSENT_KEPT_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// Where sockets are read into. The machine takes over what came before anything else runs on the thread, so one will do
    /// for all sessions.
    static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice());
}

/// What a session's loop works with.
pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) target_config: Arc<Target>,
    pub(crate) target_cancel: CancelKey,
    pub(crate) place: SessionPlace,
    pub(crate) orders: mpsc::Receiver<SessionOrder>,
    /// Whether the machine was told that this process knows every order.
    pub(crate) knows_orders: bool,
    /// Resolves when it does again, if it does not now.
    pub(crate) control_lags: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pub(crate) leaving: Leaving,
    pub(crate) alarm: Alarm,
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
    /// An answer that is being found out.
    pub(crate) analysis: Option<Analysis>,
    /// What becomes of the command that waits for people.
    pub(crate) asking: Option<Asking>,
    /// Tells it of other rules.
    pub(crate) ruling: Ruling,
    pub(crate) counters: SessionCounters,
}

/// An answer that is being found out.
pub(crate) type Analysis = Pin<Box<dyn Future<Output = Analysed> + Send>>;

/// Rings at the machine's deadline.
///
/// Most deadlines are overtaken by what they wait for, and the next one is later. So a timer that is set too early stays, and
/// is set anew when it rings.
pub(crate) struct Alarm {
    timer: Pin<Box<Sleep>>,
    set_us: Option<u64>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { timer: Box::pin(sleep_until(clock::instant(0))), set_us: None }
    }

    fn poll(&mut self, context: &mut Context<'_>, deadline_us: u64) -> Poll<()> {
        loop {
            let set_us = match self.set_us {
                Some(set_us) if set_us <= deadline_us => set_us,
                _ => {
                    self.timer.as_mut().reset(clock::instant(deadline_us));
                    *self.set_us.insert(deadline_us)
                }
            };
            ready!(self.timer.as_mut().poll(context));
            self.set_us = None;
            if set_us == deadline_us {
                return Poll::Ready(());
            }
        }
    }
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

    /// Writes on until everything is written or the stream takes no more for now.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            self.unflushed = true;
            let written = ready!(Pin::new(&mut *stream).poll_write(context, &self.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(written);
        }
        if self.bytes.try_reclaim(UNSENT_KEPT_BYTES_MAX + 1) {
            self.bytes = BytesMut::new();
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A socket, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// One of the two sockets, and what waits on its way out.
struct Side<S> {
    stream: S,
    unsent: Unsent,
    open: bool,
}

impl<S: Stream> Side<S> {
    fn new(stream: S) -> Self {
        Self { stream, unsent: Unsent::default(), open: true }
    }

    /// Writes what waits. Resolves if the socket has failed; otherwise there is nothing to do about it.
    fn poll_failed_write(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.open || !self.unsent.is_waiting() {
            return Poll::Pending;
        }
        match self.unsent.poll_write(context, &mut self.stream) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Reads once and hands over what came; `None` if the socket has ended or failed, and is closed by that.
    fn poll_read(&mut self, context: &mut Context<'_>, take: impl FnOnce(Option<&[u8]>)) -> Poll<()> {
        ARRIVED.with_borrow_mut(|arrived| {
            let mut arrived = ReadBuf::new(arrived);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut arrived));
            self.open = read.is_ok() && !arrived.filled().is_empty();
            take(self.open.then(|| arrived.filled()));
            Poll::Ready(())
        })
    }
}

/// Reads what still comes, to its end: a socket that is closed on bytes which nobody read is reset, and the last words on
/// their way to the client are lost with it.
async fn discard(stream: &mut impl Stream) -> io::Result<()> {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

impl Driver {
    /// Runs the session to its end. Gives back the outbox of its last stream, in which records may still be on their way.
    pub(crate) async fn run<C: Stream, T: Stream>(mut self, client: C, target: T) -> (Subject, Outbox) {
        let mut client = Side::new(client);
        let mut target = Side::new(target);
        poll_fn(|context| self.poll_to_end(context, &mut client, &mut target)).await;
        if client.open {
            let Side { stream, unsent, .. } = &mut client;
            let last_words = async {
                poll_fn(|context| unsent.poll_write(context, stream)).await?;
                stream.shutdown().await
            };
            // A client that does not take its last bytes in time does without.
            if let Ok(Ok(())) = timeout(self.close_wait_max, last_words).await {
                let _ = timeout(LATE_BYTES_WAIT_MAX, discard(stream)).await;
            }
        }
        while self.rolled.join_next().await.is_some() {}
        (self.about, self.outbox)
    }

    /// Turns until nothing more happens for now, or the machine says that it is over. Others of the thread have their turn
    /// when a socket is not ready, as it is by the runtime's budget at the latest.
    fn poll_to_end<C: Stream, T: Stream>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Side<C>,
        target: &mut Side<T>,
    ) -> Poll<()> {
        while self.carry_out(&mut client.unsent, &mut target.unsent) {
            self.counters.count(self.session.tally());
            ready!(self.poll_turn(context, client, target));
        }
        self.counters.count(self.session.tally());
        Poll::Ready(())
    }

    /// Does what the machine says. Returns whether the session goes on.
    fn carry_out(&mut self, to_client: &mut Unsent, to_target: &mut Unsent) -> bool {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Append { envelope, awaited } => self.outbox.append(&envelope, awaited),
                Output::ToTarget(bytes) => to_target.bytes.extend_from_slice(&bytes),
                Output::ToClient(bytes) => to_client.bytes.extend_from_slice(&bytes),
                Output::ForwardCancel => {
                    forward_cancel(&self.target_config, &self.target_cancel, self.dial_wait_max);
                }
                Output::Analyse { sql } => match self.analyst.at_hand(sql.as_ref()) {
                    Some(analysed) => self.tell(Input::Analysed(analysed)),
                    None => self.analysis = Some(Box::pin(self.analyst.clone().analyse(sql))),
                },
                Output::AskReview(command) => {
                    self.asking = Some(Asking::start(&self.gateway, *command, self.about.clone()));
                }
                Output::WithdrawReview => {
                    if let Some(asking) = &self.asking {
                        asking.withdraw(&self.gateway);
                    }
                }
                Output::LeaveReview => self.asking = None,
                Output::WantsStream => {
                    let stream = StreamWriter::new(clock::new_id(), wire::StreamKind::Session);
                    self.tell(Input::NextStream(stream));
                }
                Output::BeginStream(stream) => {
                    let next = session::outbox(&self.gateway, stream);
                    let before = std::mem::replace(&mut self.outbox, next);
                    self.durable_end.store(0, Ordering::Release);
                    let about = self.about.clone();
                    self.rolled.spawn(session::settle(self.gateway.clone(), about, before));
                    self.about.session_id = Some(stream);
                    self.place.rolled(stream);
                }
                Output::CatalogueIsOld => self.analyst.catalogue_is_old(),
                Output::Close => return false,
            }
        }
        true
    }

    /// Tells the machine what happens first. The order is that of urgency: what was said goes out before more is taken in.
    fn poll_turn<C: Stream, T: Stream>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Side<C>,
        target: &mut Side<T>,
    ) -> Poll<()> {
        if self.poll_own(context).is_ready() {
            return Poll::Ready(());
        }
        if target.poll_failed_write(context).is_ready() {
            target.open = false;
            self.tell(Input::TargetClosed);
            return Poll::Ready(());
        }
        if client.poll_failed_write(context).is_ready() {
            client.open = false;
            self.tell(Input::ClientClosed);
            return Poll::Ready(());
        }
        if target.open && self.session.wants_target_bytes(client.unsent.bytes.len()) {
            let take = |bytes: Option<&_>| self.tell(bytes.map_or(Input::TargetClosed, Input::TargetBytes));
            if target.poll_read(context, take).is_ready() {
                return Poll::Ready(());
            }
        }
        let has_room = target.unsent.bytes.len() < TARGET_UNSENT_BYTES_MAX;
        if client.open && has_room && self.session.wants_client_bytes() {
            let take = |bytes: Option<&_>| self.tell(bytes.map_or(Input::ClientClosed, Input::ClientBytes));
            if client.poll_read(context, take).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// What happens beside the two sockets.
    fn poll_own(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(input) = self.leaving.poll_input(context) {
            self.tell(input);
            return Poll::Ready(());
        }
        if let Some(input) = self.ruling.news(&self.gateway, &mut self.analyst) {
            self.tell(input);
            return Poll::Ready(());
        }
        let knows_orders = self.gateway.control.lag.is_current();
        if knows_orders != self.knows_orders {
            self.knows_orders = knows_orders;
            self.tell(Input::OrdersKnown(knows_orders));
            return Poll::Ready(());
        }
        if let Poll::Ready(Some(order)) = self.orders.poll_recv(context) {
            self.tell(match order {
                SessionOrder::Cancel(control) => Input::CancelRequested(control),
                SessionOrder::Kill(control) => Input::Killed(control),
            });
            return Poll::Ready(());
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(Some(reviewed)) = asking.told.poll_recv(context)
        {
            self.tell(Input::Reviewed(reviewed));
            return Poll::Ready(());
        }
        if self.outbox.is_waiting()
            && self.poll_knows_control(context).is_ready()
            && let Poll::Ready(progress) = self.outbox.poll_progress(context)
        {
            match progress {
                Progress::Durable { end } => {
                    self.durable_end.store(end, Ordering::Release);
                    self.tell(Input::Durable { end });
                }
                Progress::Failed(error) => {
                    tracing::error!(%error, "the log failed a session's stream; the session ends");
                    self.tell(Input::LogFailed(LogFailure::Permanent));
                }
            }
            return Poll::Ready(());
        }
        if let Some(deadline_us) = self.session.poll_deadline()
            && self.alarm.poll(context, deadline_us).is_ready()
        {
            self.tell(Input::DeadlinePassed);
            return Poll::Ready(());
        }
        if let Some(analysis) = &mut self.analysis
            && let Poll::Ready(analysed) = analysis.as_mut().poll(context)
        {
            self.analysis = None;
            self.tell(Input::Analysed(analysed));
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Ready while this process knows every order. Otherwise one to end this session may be among those it does not, and the
    /// session is not told that its records are durable: to it the log is down.
    fn poll_knows_control(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.knows_orders {
            let current = self.gateway.control.lag.clone().current();
            ready!(self.control_lags.get_or_insert_with(|| Box::pin(current)).as_mut().poll(context));
        }
        self.control_lags = None;
        Poll::Ready(())
    }

    fn tell(&mut self, input: Input<'_>) {
        self.session.handle(clock::now(), input);
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
