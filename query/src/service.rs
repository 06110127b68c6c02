use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use retrace_access::{Authenticated, Directory};
use retrace_eventlog::{ControlLag, ControlWriter, EventLog, InstanceStream};
use retrace_evidence::NotObeyed;
use retrace_lake::Table;
use retrace_policy::mask::Masker;
use retrace_proto::Id;
use retrace_proto::log::{Record, TopicPartition};
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status};

use crate::control::{Commander, Ordered};
use crate::door::Door;
use crate::holds::{HOLDS_AT_ONCE_MAX, held_on};
use crate::ipc::Encoder;
use crate::reviews::{Deciding, HistoryRecord, ReviewBook, ReviewRecord};
use crate::wire::control_server::Control as ControlCalls;
use crate::wire::query_server::Query;
use crate::wire::reviews_server::Reviews as ReviewCalls;
use crate::wire::sql_response::Part;
use crate::wire::{
    ControlResponse, DecideRequest, EventsResponse, HoldResponse, KillRequest, LiftHoldRequest,
    ListHoldsRequest, ListHoldsResponse, ListReviewsRequest, ListReviewsResponse, LogRecord,
    RevokeTokenRequest, SessionRequest, SetHoldRequest, ShowReviewRequest, ShowReviewResponse, SqlRequest,
    SqlResponse, TailRequest, WithdrawReviewRequest,
};
use crate::{
    Batches, EventRecord, EventsAnswer, HoldOrdered, HoldRecord, Options, QueryError, Reader, Sources,
    SqlAnswer,
};

/// How many events that are ready at once are looked at together.
const EVENTS_TOGETHER_MAX: usize = 256;

/// Largest message of events, in bytes of their envelopes. A single event may be 256 KiB.
const EVENTS_BYTES_MAX: usize = 1024 * 1024;

/// Whether an order is obeyed that the log has so.
pub type OrderCheck = dyn Fn(TopicPartition, &Record) -> Result<(), NotObeyed> + Send + Sync;

/// The query service's part of the control topic.
#[derive(Clone)]
pub struct Control {
    /// Writes orders to the gateway, signed as a query service.
    pub writer: Arc<ControlWriter>,
    /// How far this process has read it. While it lags, nobody is let in.
    pub lag: ControlLag,
    /// Whether an order is obeyed that the log has so.
    pub check: Arc<OrderCheck>,
    /// The reviews, as far as this process has read it.
    pub reviews: ReviewBook,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// What the query service is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The log, for its tail.
    pub log: Arc<dyn EventLog>,
    /// The table.
    pub table: Table,
    /// Who may come in.
    pub directory: Directory,
    /// The control topic.
    pub control: Control,
    /// The stream of this process, where reads and refused logins are recorded.
    pub instance: Arc<InstanceStream>,
    /// Masks statements before they are recorded; [`Masker::everything`] is meant for it.
    pub masker: Masker,
    /// Limits.
    pub options: Options,
}

/// When a service ends. What drains first stops later; the other way round, draining is stopping.
pub struct End {
    /// Resolves when nothing new is to be taken.
    pub drain: BoxFuture<'static, ()>,
    /// Resolves when nothing is to go on.
    pub stop: BoxFuture<'static, ()>,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}

/// The query service: a [`Reader`] behind gRPC, TLS and bearer tokens.
#[derive(Debug)]
pub struct QueryService {
    pub(crate) reader: Reader,
    pub(crate) door: Arc<Door>,
    pub(crate) commander: Arc<Commander>,
    pub(crate) options: Options,
}

impl QueryService {
    /// Nothing listens yet: see [`QueryService::serve`].
    ///
    /// # Errors
    /// If the operating system gives no threads for queries.
    pub fn new(parts: Parts) -> Result<Self, std::io::Error> {
        let Parts { log, table, directory, control, instance, masker, options } = parts;
        let door = Arc::new(Door::new(directory.clone(), control.lag.clone(), Arc::clone(&instance)));
        let sources =
            Sources { log: Arc::clone(&log), table: table.clone(), instance, masker: masker.clone() };
        let reader = Reader::new(sources, options.clone())?;
        let commander = Commander {
            control,
            log,
            table,
            directory,
            masker,
            on_record: reader.on_record(),
            query_ms_max: options.query_ms_max,
            clock: options.clock,
            holds: Arc::new(Semaphore::new(HOLDS_AT_ONCE_MAX)),
        };
        Ok(Self { reader, door, commander: Arc::new(commander), options })
    }

    /// The reader behind the service, for use in this process.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }
}

/// The calls, as the generated server takes them.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) reader: Reader,
    pub(crate) door: Arc<Door>,
    pub(crate) commander: Arc<Commander>,
    /// Becomes true when the server drains. Tails end then: they would not by themselves.
    pub(crate) is_draining: watch::Receiver<bool>,
    /// Becomes true when the server stops. Answers under way end then.
    pub(crate) is_stopping: watch::Receiver<bool>,
}

impl Calls {
    fn admit<T>(&self, request: &Request<T>) -> Result<Authenticated, Status> {
        let client = request.remote_addr().map(|address| address.to_string()).unwrap_or_default();
        self.door.admit(request.metadata(), &client).map_err(|error| error.to_status())
    }

    /// The answer until it ends, fails, or must end.
    fn respond<T: Send + 'static>(
        parts: impl Stream<Item = Result<T, QueryError>> + Send + 'static,
        must_end: impl Future<Output = QueryError> + Send + 'static,
    ) -> Response<BoxStream<'static, Result<T, Status>>> {
        let stopping = stream::once(must_end).map(Err);
        let parts = parts.map(Some).chain(stream::iter([None]));
        let either = stream::select(parts, stopping.map(Some));
        let until_end = either.scan(false, |is_over, part| {
            let part = part.filter(|_| !*is_over);
            *is_over |= matches!(part, Some(Err(_)));
            futures::future::ready(part)
        });
        Response::new(until_end.map(|part| part.map_err(|error| error.to_status())).boxed())
    }
}

#[tonic::async_trait]
impl Query for Calls {
    type SqlStream = BoxStream<'static, Result<SqlResponse, Status>>;
    type SessionStream = BoxStream<'static, Result<EventsResponse, Status>>;
    type TailStream = BoxStream<'static, Result<EventsResponse, Status>>;

    async fn sql(&self, request: Request<SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        let caller = self.admit(&request)?;
        let answer = self.reader.sql(&caller, &request.get_ref().statement).await;
        let parts = answer.and_then(sql_parts).map_err(|error| error.to_status())?;
        Ok(Self::respond(parts, stopped(&self.is_stopping)))
    }

    async fn session(
        &self,
        request: Request<SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = self.admit(&request)?;
        let id = session_id(&request.get_ref().session_id).map_err(|error| error.to_status())?;
        let answer = self.reader.session(&caller, id).await.map_err(|error| error.to_status())?;
        Ok(Self::respond(event_parts(answer), stopped(&self.is_stopping)))
    }

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let caller = self.admit(&request)?;
        let asked = &request.get_ref().session_id;
        let id = (!asked.is_empty()).then(|| session_id(asked)).transpose();
        let id = id.map_err(|error| error.to_status())?;
        let answer = self.reader.tail(&caller, id).await.map_err(|error| error.to_status())?;
        let (door, draining) = (Arc::clone(&self.door), stopped(&self.is_draining));
        // It ends neither by itself nor with the right to it.
        let must_end = async move {
            tokio::select! {
                error = draining => error,
                error = door.no_longer(&caller) => error,
            }
        };
        Ok(Self::respond(event_parts(answer), must_end))
    }
}

#[tonic::async_trait]
impl ControlCalls for Calls {
    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<ControlResponse>, Status> {
        let caller = self.admit(&request)?;
        let KillRequest { session_id: asked, reason } = request.get_ref();
        let session = session_id(asked).map_err(|error| error.to_status())?;
        ordered(self.commander.kill(&caller, session, reason).await)
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        let caller = self.admit(&request)?;
        let RevokeTokenRequest { token_id, reason } = request.get_ref();
        ordered(self.commander.revoke_token(&caller, token_id, reason).await)
    }

    async fn set_hold(&self, request: Request<SetHoldRequest>) -> Result<Response<HoldResponse>, Status> {
        let caller = self.admit(&request)?;
        let SetHoldRequest { on, reason } = request.into_inner();
        let on = on.and_then(held_on).ok_or_else(|| QueryError::NotASessionId.to_status())?;
        let outcome = self.commander.set_hold(&caller, on, &reason).await;
        held(self.reader.recorded_if_denied(&caller, "a legal hold to be set", outcome).await)
    }

    async fn lift_hold(&self, request: Request<LiftHoldRequest>) -> Result<Response<HoldResponse>, Status> {
        let caller = self.admit(&request)?;
        let LiftHoldRequest { hold_id, reason } = request.get_ref();
        let hold_id = hold_id.parse().map_err(|_not_an_id| QueryError::NoSuchHold.to_status())?;
        let outcome = self.commander.lift_hold(&caller, hold_id, reason).await;
        held(self.reader.recorded_if_denied(&caller, "a legal hold to be lifted", outcome).await)
    }

    async fn list_holds(
        &self,
        request: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        let caller = self.admit(&request)?;
        let holds = self.reader.holds(&caller).await.map_err(|error| error.to_status())?;
        Ok(Response::new(ListHoldsResponse { holds: holds.into_iter().map(HoldRecord::into_wire).collect() }))
    }
}

#[tonic::async_trait]
impl ReviewCalls for Calls {
    async fn list(
        &self,
        request: Request<ListReviewsRequest>,
    ) -> Result<Response<ListReviewsResponse>, Status> {
        let caller = self.admit(&request)?;
        let reviews = self.commander.reviews(&caller, request.get_ref().over).await;
        let reviews = reviews.map_err(|error| error.to_status())?;
        let reviews = self.reader.reviews(&caller, reviews).await.map_err(|error| error.to_status())?;
        let reviews = reviews.into_iter().map(ReviewRecord::into_wire).collect();
        Ok(Response::new(ListReviewsResponse { reviews }))
    }

    async fn show(
        &self,
        request: Request<ShowReviewRequest>,
    ) -> Result<Response<ShowReviewResponse>, Status> {
        let caller = self.admit(&request)?;
        let id = review_id(&request.get_ref().review_id)?;
        let found = self.commander.review(&caller, id).await;
        let found = self.reader.recorded_if_denied(&caller, "a review to be shown", found).await;
        let (record, review) = found.map_err(|error| error.to_status())?;
        let shown = self.reader.review(&caller, record, &review).await.map_err(|error| error.to_status())?;
        Ok(Response::new(ShowReviewResponse {
            review: Some(shown.review.into_wire()),
            command: shown.command.into_iter().map(to_wire).collect(),
            request: Some(to_wire(shown.request)),
            said: shown.said.into_iter().map(to_wire).collect(),
            history: shown.history.into_iter().map(HistoryRecord::into_wire).collect(),
        }))
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<ControlResponse>, Status> {
        let caller = self.admit(&request)?;
        let DecideRequest { review_id: id, requested_hash, approve, reason, key_id, signature } =
            request.into_inner();
        let signature = Some((key_id, signature)).filter(|(_, signature)| !signature.is_empty());
        let review_id = review_id(&id)?;
        let deciding = Deciding { review_id, requested_hash, approves: approve, reason, signature };
        let outcome = self.commander.decide(&caller, deciding).await;
        ordered(self.reader.recorded_if_denied(&caller, "a review to be decided", outcome).await)
    }

    async fn withdraw(
        &self,
        request: Request<WithdrawReviewRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        let caller = self.admit(&request)?;
        let WithdrawReviewRequest { review_id: id, reason } = request.get_ref();
        let outcome = self.commander.withdraw(&caller, review_id(id)?, reason).await;
        ordered(self.reader.recorded_if_denied(&caller, "a review to be withdrawn", outcome).await)
    }
}

fn review_id(text: &str) -> Result<Id, Status> {
    text.parse().map_err(|_not_an_id| QueryError::NoSuchReview.to_status())
}

fn stopped(stops: &watch::Receiver<bool>) -> impl Future<Output = QueryError> + Send + use<> {
    let mut stops = stops.clone();
    async move {
        // The sender goes away only with the server.
        drop(stops.wait_for(|stops| *stops).await);
        QueryError::Stopping
    }
}

fn ordered(outcome: Result<Ordered, QueryError>) -> Result<Response<ControlResponse>, Status> {
    Ok(Response::new(control_response(outcome.map_err(|error| error.to_status())?)))
}

fn control_response(Ordered { at, offset }: Ordered) -> ControlResponse {
    ControlResponse { topic: at.topic.name().to_owned(), partition: at.partition, offset }
}

fn held(outcome: Result<HoldOrdered, QueryError>) -> Result<Response<HoldResponse>, Status> {
    let HoldOrdered { hold_id, ordered, is_in_table } = outcome.map_err(|error| error.to_status())?;
    let record = Some(control_response(ordered));
    Ok(Response::new(HoldResponse { hold_id: hold_id.to_string(), record, in_table: is_in_table }))
}

fn session_id(text: &str) -> Result<Id, QueryError> {
    text.parse().map_err(|_not_an_id| QueryError::NotASessionId)
}

/// The cut, then the rows as one Arrow IPC stream in pieces.
fn sql_parts(
    answer: SqlAnswer,
) -> Result<impl Stream<Item = Result<SqlResponse, QueryError>> + Send + 'static, QueryError> {
    let SqlAnswer { cut, removed, schema, batches } = answer;
    let mut encoder = Encoder::new(&schema).map_err(QueryError::encoding)?;
    let first = encoder.schema();
    let removed = removed.map(|removed| removed.to_wire());
    let cut = stream::iter([Ok(SqlResponse { part: Some(Part::Cut(cut.to_wire())), removed })]);
    let state = Some((encoder, batches));
    let rest = stream::unfold(state, |state| async move {
        let (encoder, batches) = state?;
        Some(match next_pieces(encoder, batches).await {
            Ok((pieces, state)) => (pieces.into_iter().map(Ok).collect(), state),
            Err(error) => (vec![Err(error)], None),
        })
    });
    let first = stream::iter(first).map(Ok);
    let pieces = first.chain(rest.flat_map(stream::iter));
    let pieces = pieces
        .map(|piece| piece.map(|piece| SqlResponse { part: Some(Part::ArrowIpc(piece)), removed: None }));
    Ok(cut.chain(pieces))
}

/// What is left of an answer: nothing once its end was encoded.
type Rest = Option<(Encoder, Batches)>;

async fn next_pieces(mut encoder: Encoder, mut batches: Batches) -> Result<(Vec<Bytes>, Rest), QueryError> {
    match batches.next().await {
        Some(batch) => {
            let pieces = encoder.batch(&batch?).map_err(QueryError::encoding)?;
            Ok((pieces, Some((encoder, batches))))
        }
        None => Ok((encoder.finish().map_err(QueryError::encoding)?, None)),
    }
}

/// The cut alone, so that the caller knows at once that the read began, then the events.
fn event_parts(
    answer: EventsAnswer,
) -> impl Stream<Item = Result<EventsResponse, QueryError>> + Send + 'static {
    let EventsAnswer { cut, removed, events } = answer;
    let removed = removed.map(|removed| removed.to_wire());
    let cut = EventsResponse { cut: Some(cut.to_wire()), records: Vec::new(), removed };
    let messages = events.ready_chunks(EVENTS_TOGETHER_MAX).flat_map(|ready| stream::iter(pack(ready)));
    stream::iter([Ok(cut)]).chain(messages)
}

/// Events in as few messages as the size of one allows.
fn pack(events: Vec<Result<EventRecord, QueryError>>) -> Vec<Result<EventsResponse, QueryError>> {
    let mut messages = Vec::new();
    let mut message = EventsResponse::default();
    let mut bytes = 0;
    for event in events {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                messages.extend([Ok(std::mem::take(&mut message)), Err(error)]);
                continue;
            }
        };
        if bytes + event.envelope.len() > EVENTS_BYTES_MAX {
            messages.push(Ok(std::mem::take(&mut message)));
            bytes = 0;
        }
        bytes += event.envelope.len();
        message.records.push(to_wire(event));
    }
    messages.push(Ok(message));
    messages
}

fn to_wire(event: EventRecord) -> LogRecord {
    LogRecord {
        topic: event.at.topic.name().to_owned(),
        partition: event.at.partition,
        offset: event.offset,
        appended_at_unix_us: event.appended_at_unix_us,
        envelope: event.envelope,
    }
}
