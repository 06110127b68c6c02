use std::time::Duration;

use futures::stream::{self, StreamExt};
use retrace_evidence::{HeldOn, SigningKey, sign_decision};
use retrace_proto::Id;
use retrace_proto::log::TopicPartition;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::holds::held_on_to_wire;
use crate::ipc::Decoder;
use crate::wire::control_client::ControlClient;
use crate::wire::query_client::QueryClient;
use crate::wire::reviews_client::ReviewsClient;
use crate::wire::sql_response::Part;
use crate::wire::{
    ControlResponse, DecideRequest, EventsResponse, HoldResponse, KillRequest, LiftHoldRequest,
    ListHoldsRequest, ListReviewsRequest, LogRecord, RevokeTokenRequest, SessionRequest, SetHoldRequest,
    ShowReviewRequest, SqlRequest, SqlResponse, TailRequest, WithdrawReviewRequest,
};
use crate::{
    Batches, Cut, EventRecord, EventsAnswer, HistoryRecord, HoldOrdered, HoldRecord, Ordered, QueryError,
    Removed, ReviewRecord, ReviewShown, SqlAnswer,
};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest message of a server, in bytes: it sends pieces of 1 MiB.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest list of holds, in bytes.
const HOLDS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A client of the query service. Its answers are those of a [`Reader`](crate::Reader), so a caller need not care which
/// of the two it has.
#[derive(Clone, Debug)]
pub struct Client {
    calls: QueryClient<Channel>,
    orders: ControlClient<Channel>,
    reviews: ReviewsClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Client {
    /// Connects to `address` (`host:port`), trusting the authorities in `ca_pem` alone. The token is sent with every call;
    /// whether it is good shows with the first.
    ///
    /// A rustls provider must have been installed as the process's default: more than one is linked.
    ///
    /// # Errors
    /// [`QueryError::Unreachable`] if nothing listens there, or what does is not the service the CA vouches for;
    /// [`QueryError::Unauthenticated`] if `token` cannot be one.
    pub async fn connect(address: &str, ca_pem: &str, token: &str) -> Result<Self, QueryError> {
        let unreachable = |error: tonic::transport::Error| QueryError::Unreachable {
            address: address.to_owned(),
            reason: deepest(&error),
        };
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_not_ascii| QueryError::Unauthenticated)?;
        authorization.set_sensitive(true);
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(unreachable)?
            .connect_timeout(CONNECT_TIMEOUT);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        let channel = match connecting {
            Ok(connected) => connected.map_err(unreachable)?,
            Err(_elapsed) => {
                let reason = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(QueryError::Unreachable { address: address.to_owned(), reason });
            }
        };
        let orders = ControlClient::new(channel.clone()).max_decoding_message_size(HOLDS_BYTES_MAX);
        let reviews = ReviewsClient::new(channel.clone()).max_decoding_message_size(HOLDS_BYTES_MAX);
        let calls = QueryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { calls, orders, reviews, authorization })
    }

    /// See [`Reader::sql`](crate::Reader::sql).
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn sql(&self, statement: &str) -> Result<SqlAnswer, QueryError> {
        let request = self.request(SqlRequest { statement: statement.to_owned() });
        let answer = self.calls.clone().sql(request).await;
        let parts = answer.map_err(|status| QueryError::from_status(&status))?.into_inner();
        let mut rows = Rows { parts, decoder: Decoder::default() };
        let first = rows.next_response().await?.ok_or_else(not_spoken)?;
        let Some(Part::Cut(cut)) = first.part else { return Err(not_spoken()) };
        let cut = Cut::from_wire(cut).ok_or_else(not_spoken)?;
        let removed = first.removed.map(Removed::from_wire);
        // The schema is the first thing of the stream; a large one may take several pieces.
        let mut first = Vec::new();
        let schema = loop {
            if let Some(schema) = rows.decoder.schema() {
                break schema;
            }
            first.extend(rows.next_batches().await?.ok_or_else(not_spoken)?);
        };
        let first = stream::iter(first.into_iter().map(Ok));
        Ok(SqlAnswer { cut, removed, schema, batches: first.chain(rows.batches()).boxed() })
    }

    /// See [`Reader::session`](crate::Reader::session).
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn session(&self, session: Id) -> Result<EventsAnswer, QueryError> {
        let request = self.request(SessionRequest { session_id: session.to_string() });
        let answer = self.calls.clone().session(request).await;
        events(answer.map_err(|status| QueryError::from_status(&status))?.into_inner()).await
    }

    /// See [`Reader::tail`](crate::Reader::tail).
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn tail(&self, session: Option<Id>) -> Result<EventsAnswer, QueryError> {
        let session_id = session.map(|id| id.to_string()).unwrap_or_default();
        let answer = self.calls.clone().tail(self.request(TailRequest { session_id })).await;
        events(answer.map_err(|status| QueryError::from_status(&status))?.into_inner()).await
    }

    /// Ends a session, whichever proxy has it. Returns where the order stands once it is durable.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn kill(&self, session: Id, reason: &str) -> Result<Ordered, QueryError> {
        let request = KillRequest { session_id: session.to_string(), reason: reason.to_owned() };
        ordered(self.orders.clone().kill(self.request(request)).await)
    }

    /// Lets a token no longer be taken, and ends the sessions that it began. Returns where the order stands once it is
    /// durable.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn revoke_token(&self, token_id: &str, reason: &str) -> Result<Ordered, QueryError> {
        let request = RevokeTokenRequest { token_id: token_id.to_owned(), reason: reason.to_owned() };
        ordered(self.orders.clone().revoke_token(self.request(request)).await)
    }

    /// Keeps evidence whatever its age. Returns once the table has the record, from when on it is kept, or after a minute.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn set_hold(&self, on: HeldOn, reason: &str) -> Result<HoldOrdered, QueryError> {
        let request = SetHoldRequest { on: Some(held_on_to_wire(on)), reason: reason.to_owned() };
        held(self.orders.clone().set_hold(self.request(request)).await)
    }

    /// Keeps it no longer. Returns likewise.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn lift_hold(&self, hold_id: Id, reason: &str) -> Result<HoldOrdered, QueryError> {
        let request = LiftHoldRequest { hold_id: hold_id.to_string(), reason: reason.to_owned() };
        held(self.orders.clone().lift_hold(self.request(request)).await)
    }

    /// See [`Reader::holds`](crate::Reader::holds).
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn holds(&self) -> Result<Vec<HoldRecord>, QueryError> {
        let answer = self.orders.clone().list_holds(self.request(ListHoldsRequest {})).await;
        let holds = answer.map_err(|status| QueryError::from_status(&status))?.into_inner().holds;
        holds.into_iter().map(|hold| HoldRecord::from_wire(hold).ok_or_else(not_spoken)).collect()
    }

    /// The reviews that concern the caller, the latest first, those that are over too if wanted.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn reviews(&self, over: bool) -> Result<Vec<ReviewRecord>, QueryError> {
        let answer = self.reviews.clone().list(self.request(ListReviewsRequest { over })).await;
        let reviews = answer.map_err(|status| QueryError::from_status(&status))?.into_inner().reviews;
        reviews.into_iter().map(|review| ReviewRecord::from_wire(review).ok_or_else(not_spoken)).collect()
    }

    /// One of them, with its command and what its principal did of late.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn review(&self, id: Id) -> Result<ReviewShown, QueryError> {
        let request = self.request(ShowReviewRequest { review_id: id.to_string() });
        let answer = self.reviews.clone().show(request).await;
        let shown = answer.map_err(|status| QueryError::from_status(&status))?.into_inner();
        let review = shown.review.and_then(ReviewRecord::from_wire).ok_or_else(not_spoken)?;
        Ok(ReviewShown {
            review,
            request: from_wire(shown.request.ok_or_else(not_spoken)?)?,
            command: shown.command.into_iter().map(from_wire).collect::<Result<_, _>>()?,
            said: shown.said.into_iter().map(from_wire).collect::<Result<_, _>>()?,
            history: shown.history.into_iter().map(HistoryRecord::from_wire).collect(),
        })
    }

    /// Approves or rejects what was seen of a review, signed by the caller's own key if they have one. Returns where the decision stands once it is durable.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn decide(
        &self,
        review: &ReviewRecord,
        (approve, reason): (bool, &str),
        key: Option<&SigningKey>,
    ) -> Result<Ordered, QueryError> {
        let hash = &review.requested_hash;
        let signature = key.map(|key| sign_decision(key, hash, approve, reason));
        let (key_id, signature) = signature.unwrap_or_default();
        let request = DecideRequest {
            review_id: review.review_id.to_string(),
            requested_hash: review.requested_hash.clone(),
            approve,
            reason: reason.to_owned(),
            key_id,
            signature,
        };
        ordered(self.reviews.clone().decide(self.request(request)).await)
    }

    /// Lets nobody decide about a review any more. Returns likewise.
    ///
    /// # Errors
    /// [`QueryError::Remote`] with the server's sentence.
    pub async fn withdraw_review(&self, id: Id, reason: &str) -> Result<Ordered, QueryError> {
        let request = WithdrawReviewRequest { review_id: id.to_string(), reason: reason.to_owned() };
        ordered(self.reviews.clone().withdraw(self.request(request)).await)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }
}

fn ordered(answer: Result<Response<ControlResponse>, Status>) -> Result<Ordered, QueryError> {
    let answer = answer.map_err(|status| QueryError::from_status(&status))?;
    ordered_at(answer.into_inner())
}

fn held(answer: Result<Response<HoldResponse>, Status>) -> Result<HoldOrdered, QueryError> {
    let HoldResponse { hold_id, record, in_table } =
        answer.map_err(|status| QueryError::from_status(&status))?.into_inner();
    let hold_id = hold_id.parse().map_err(|_not_an_id| not_spoken())?;
    let ordered = ordered_at(record.ok_or_else(not_spoken)?)?;
    Ok(HoldOrdered { hold_id, ordered, is_in_table: in_table })
}

fn ordered_at(ControlResponse { topic, partition, offset }: ControlResponse) -> Result<Ordered, QueryError> {
    let topic = topic.parse().map_err(|_unknown| not_spoken())?;
    Ok(Ordered { at: TopicPartition { topic, partition }, offset })
}

/// The rows of an answer that still come in.
struct Rows {
    parts: Streaming<SqlResponse>,
    decoder: Decoder,
}

impl Rows {
    async fn next_response(&mut self) -> Result<Option<SqlResponse>, QueryError> {
        self.parts.message().await.map_err(|status| QueryError::from_status(&status))
    }

    /// The batches that the next piece completes; `None` after the last piece.
    async fn next_batches(&mut self) -> Result<Option<Vec<arrow::array::RecordBatch>>, QueryError> {
        match self.next_response().await?.and_then(|response| response.part) {
            None => Ok(None),
            Some(Part::Cut(_)) => Err(not_spoken()),
            Some(Part::ArrowIpc(piece)) => self.decoder.push(piece).map(Some).map_err(QueryError::encoding),
        }
    }

    fn batches(self) -> Batches {
        stream::unfold(Some(self), |rows| async move {
            let mut rows = rows?;
            match rows.next_batches().await {
                Ok(Some(batches)) => Some((batches.into_iter().map(Ok).collect(), Some(rows))),
                Ok(None) => match rows.decoder.finish() {
                    Ok(()) => None,
                    Err(error) => Some((vec![Err(QueryError::encoding(error))], None)),
                },
                Err(error) => Some((vec![Err(error)], None)),
            }
        })
        .flat_map(stream::iter)
        .boxed()
    }
}

async fn events(mut parts: Streaming<EventsResponse>) -> Result<EventsAnswer, QueryError> {
    let first = parts.message().await.map_err(|status| QueryError::from_status(&status))?;
    let EventsResponse { cut, removed, .. } = first.ok_or_else(not_spoken)?;
    let cut = Cut::from_wire(cut.ok_or_else(not_spoken)?).ok_or_else(not_spoken)?;
    let removed = removed.map(Removed::from_wire);
    let events = parts.flat_map(|message| {
        let events: Vec<_> = match message {
            Ok(message) => message.records.into_iter().map(from_wire).collect(),
            Err(status) => vec![Err(QueryError::from_status(&status))],
        };
        stream::iter(events)
    });
    Ok(EventsAnswer { cut, removed, events: events.boxed() })
}

fn from_wire(record: LogRecord) -> Result<EventRecord, QueryError> {
    let topic = record.topic.parse().map_err(|_unknown| not_spoken())?;
    Ok(EventRecord {
        at: TopicPartition { topic, partition: record.partition },
        offset: record.offset,
        appended_at_unix_us: record.appended_at_unix_us,
        envelope: record.envelope,
    })
}

fn not_spoken() -> QueryError {
    QueryError::NotUnderstood
}

/// The last cause of an error: the transport's own words say only that it failed.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
