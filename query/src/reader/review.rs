//! What who decides about a command is to see, whatever else of the evidence they may read.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use retrace_access::Authenticated;
use retrace_evidence::{Review, ReviewRequest, Written};
use retrace_proto::log::TopicPartition;
use retrace_proto::wire::evidence_read::Kind;
use retrace_proto::wire::evidence_read_completed::Status;

use super::{Read, Reader, Started, batches, take_permit};
use crate::as_of::AsOf;
use crate::engine::{Asked, What};
use crate::evidence::{ReadRecord, Reading};
use crate::right::Right;
use crate::{Cut, EventRecord, HistoryRecord, QueryError, ReviewRecord, ReviewShown, statement};

impl Reader {
    /// A review with its command, as it is on record, and what its principal did of late, for who may decide about it or whose
    /// it is, whatever else of the evidence they may read.
    pub(crate) async fn review(
        &self,
        caller: &Authenticated,
        record: ReviewRecord,
        review: &Review,
    ) -> Result<ReviewShown, QueryError> {
        let ReviewRequest { run, chunks, said_seqs, .. } = &review.request;
        let of_command = (0..=u64::from(*chunks)).map(|chunk| run.command_seq.saturating_add(chunk));
        let events = async |numbers: Vec<u64>| {
            let what = What::Events { stream: run.stream_id, numbers };
            let batches = self.read_for_review(caller, &record, what).await?;
            batches.flat_map(|batch| stream::iter(super::records(batch))).try_collect::<Vec<_>>().await
        };
        let command = events(of_command.collect()).await?;
        let said = if said_seqs.is_empty() { Vec::new() } else { events(said_seqs.clone()).await? };
        let parsed = statement::parse(HISTORY, &Right::All)?;
        let parameters = vec![
            ScalarValue::from(record.principal.as_str()),
            ScalarValue::from(run.stream_id.to_string()),
            ScalarValue::from(i64::try_from(run.command_seq).unwrap_or(i64::MAX)),
        ];
        let asked = Asked { parsed, parameters, principal: caller.principal.name.clone() };
        let batches = self.read_for_review(caller, &record, What::Statement(Box::new(asked))).await?;
        let batches: Vec<_> = batches.try_collect().await?;
        let history = batches.iter().map(history).collect::<Result<Vec<_>, _>>()?.concat();
        let request = requested(&review.requested).ok_or(QueryError::Internal)?;
        Ok(ReviewShown { review: record, request, command, said, history })
    }

    /// Records that somebody sees which reviews there are that concern them, which leave once that is durable.
    pub(crate) async fn reviews(
        &self,
        caller: &Authenticated,
        reviews: Vec<ReviewRecord>,
    ) -> Result<Vec<ReviewRecord>, QueryError> {
        let statement = self.0.sources.masker.mask_string("reviews");
        let right = Right::of(caller).map_or("none", |right| right.name());
        let cut = Cut::default();
        let reading = Reading { kind: Kind::Review, statement, cut: &cut, right, counted: self.counted() };
        let mut record =
            ReadRecord::begin(&self.0.sources.instance, caller, reading, self.deadline()).await?;
        record.count(reviews.len());
        record.end(Status::Ok);
        Ok(reviews)
    }

    async fn read_for_review(
        &self,
        caller: &Authenticated,
        record: &ReviewRecord,
        what: What,
    ) -> Result<crate::Batches, QueryError> {
        let permit = take_permit(&self.0.queries, self.0.options.queries_max)?;
        let statement = self.0.sources.masker.mask_string(&record.review_id.to_string());
        let deadline = self.deadline();
        let read =
            Read { kind: Kind::Review, statement, what, right: Right::All, as_of: AsOf::Now, deadline };
        let Started { running, record, .. } = self.start(caller, read, permit).await?;
        Ok(batches(running, record))
    }
}

/// The record of a request, as this process has read it.
fn requested(Written { control, appended_at_unix_us, sealed, .. }: &Written) -> Option<EventRecord> {
    let at = TopicPartition { topic: control.topic.parse().ok()?, partition: control.partition };
    let (offset, envelope) = (control.offset, sealed.clone());
    Some(EventRecord { at, offset, appended_at_unix_us: *appended_at_unix_us, envelope })
}

/// What a principal did of late, for who is to decide about its next command.
const HISTORY: &str = "SELECT at, target, decision, left(statement, 500) FROM commands \
    WHERE principal = $1 AND NOT (session_id = $2 AND seq = $3) AND at > now() - INTERVAL '1 day' ORDER BY at DESC LIMIT 20";

fn history(batch: &RecordBatch) -> Result<Vec<HistoryRecord>, QueryError> {
    let column = |index: usize| -> Result<std::vec::IntoIter<String>, QueryError> {
        let cast =
            arrow::compute::cast(batch.column(index), &DataType::Utf8).map_err(QueryError::encoding)?;
        let texts = cast.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned());
        Ok(texts.collect::<Vec<_>>().into_iter())
    };
    let rows = column(0)?.zip(column(1)?).zip(column(2)?.zip(column(3)?));
    let item = |((at, target), (decision, statement))| HistoryRecord { at, target, decision, statement };
    Ok(rows.map(item).collect())
}
