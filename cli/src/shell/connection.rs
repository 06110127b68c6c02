//! The way to the evidence between statements: kept while it is good, found anew when it was lost.

use futures::TryStreamExt;
use retrace_query::{ErrorKind, QueryError, SqlAnswer};

use crate::args::Reach;
use crate::config::Config;
use crate::evidence::Evidence;
use crate::rows;

pub(super) struct Connection<'a> {
    config: &'a Config,
    reach: &'a Reach,
    evidence: Option<Evidence>,
}

impl<'a> Connection<'a> {
    /// Nothing is reached yet.
    pub(super) fn new(config: &'a Config, reach: &'a Reach) -> Self {
        Self { config, reach, evidence: None }
    }

    /// Finds the way, if there is none, and proves who asks.
    ///
    /// # Errors
    /// Those of [`Evidence::reach`].
    pub(super) async fn open(&mut self) -> anyhow::Result<&Evidence> {
        let found = match self.evidence.take() {
            Some(evidence) => evidence,
            None => Box::pin(Evidence::reach(self.config, self.reach)).await?,
        };
        Ok(self.evidence.insert(found))
    }

    /// Asks one statement. Dropping the answer, or this future, cancels it.
    ///
    /// # Errors
    /// Those of [`Evidence::sql`], and of finding the way.
    pub(super) async fn sql(&mut self, statement: &str) -> anyhow::Result<SqlAnswer> {
        self.open().await?.sql(statement).await
    }

    /// Every row of a statement, as texts.
    ///
    /// # Errors
    /// As for [`Connection::sql`], and if the rows end with an error.
    pub(super) async fn texts(&mut self, statement: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let batches: Vec<_> = self.sql(statement).await?.batches.try_collect().await?;
        let mut texts = Vec::new();
        for batch in &batches {
            texts.extend(rows::texts(batch)?);
        }
        Ok(texts)
    }

    /// Lets go of what must not be kept until the next statement: the log, since nothing else could open it meanwhile,
    /// and a service that was lost.
    ///
    /// # Errors
    /// If the log cannot be closed.
    pub(super) async fn rest<T>(&mut self, asked: &anyhow::Result<T>) -> anyhow::Result<()> {
        let is_lost = asked.as_ref().is_err_and(is_lost);
        if is_lost || matches!(self.evidence, Some(Evidence::Opened(_))) {
            self.close().await?;
        }
        Ok(())
    }

    /// Lets go of everything.
    ///
    /// # Errors
    /// If the log cannot be closed.
    pub(super) async fn close(&mut self) -> anyhow::Result<()> {
        match self.evidence.take() {
            Some(evidence) => evidence.close().await,
            None => Ok(()),
        }
    }
}

/// Whether a statement failed in a way that another connection, or a newer token, may mend.
fn is_lost(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<QueryError>() {
        Some(error) => match error.kind() {
            ErrorKind::Unauthenticated | ErrorKind::Unavailable | ErrorKind::Internal => true,
            ErrorKind::Denied | ErrorKind::FixTheCall | ErrorKind::Limit | ErrorKind::Deadline => false,
        },
        // Cancelled perhaps, and that perhaps because nothing came.
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_connection_may_mend_ends_one() {
        let lost = QueryError::Unreachable { address: "a:1".to_owned(), reason: "gone".to_owned() };
        assert!(is_lost(&lost.into()));
        assert!(is_lost(&QueryError::Unauthenticated.into()));
        assert!(is_lost(&anyhow::anyhow!("cancelled")));
        assert!(!is_lost(&QueryError::Statement("no such column".to_owned()).into()));
        assert!(!is_lost(&QueryError::Deadline { ms_max: 1 }.into()));
    }
}
