use bytes::BytesMut;
use futures::StreamExt;
use tokio::time::Instant;

use super::encode::{self, Column, Rows};
use crate::{Batches, QueryError, SqlAnswer};

/// The answer to one statement on its way to a client. Dropping it ends the query.
pub(super) struct Answer {
    schema: arrow::datatypes::SchemaRef,
    batches: Batches,
    columns: Vec<Column>,
    rows: Option<Rows>,
    sent: u64,
    deadline: Instant,
}

impl Answer {
    pub(super) fn new(answer: SqlAnswer, formats: &[u16], deadline: Instant) -> Self {
        let SqlAnswer { schema, batches, .. } = answer;
        let columns = encode::columns(&schema, formats);
        Self { schema, batches, columns, rows: None, sent: 0, deadline }
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Until when its rows must have been taken.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn put_description(&self, out: &mut BytesMut) {
        encode::put_description(out, &self.schema, &self.columns);
    }

    /// Appends the next row of the batch at hand, if it has one.
    pub(super) fn put_next(&mut self, out: &mut BytesMut) -> bool {
        let is_put = self.rows.as_mut().is_some_and(|rows| rows.put_next(out));
        self.sent += u64::from(is_put);
        is_put
    }

    /// Gets the next batch; `false` if there is none.
    pub(super) async fn next_batch(&mut self) -> Result<bool, QueryError> {
        self.rows = None;
        let Some(batch) = self.batches.next().await else { return Ok(false) };
        self.rows = Some(Rows::new(&batch?, &self.columns).map_err(QueryError::encoding)?);
        Ok(true)
    }

    /// What CommandComplete says.
    pub(super) fn tag(&self) -> String {
        format!("SELECT {}", self.sent)
    }
}
