use tokio::sync::watch;

use crate::ReadError;

/// How far a topic partition is durable, and a bell for those who wait for more.
#[derive(Debug)]
pub(crate) struct DurableEnd(watch::Sender<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    end: u64,
    may_grow: bool,
}

impl DurableEnd {
    pub(crate) fn new(end: u64) -> Self {
        Self(watch::Sender::new(State { end, may_grow: true }))
    }

    /// The offset the next durable record will have.
    pub(crate) fn now(&self) -> u64 {
        self.0.borrow().end
    }

    /// Everything below `end` is durable. Comes before the appends resolve.
    pub(crate) fn advance(&self, end: u64) {
        self.0.send_modify(|state| {
            assert!(end >= state.end, "a durable record stays durable");
            state.end = end;
        });
    }

    /// Like [`advance`](Self::advance), where reports may come late: an end below the known one says nothing new.
    pub(crate) fn raise(&self, end: u64) {
        self.0.send_if_modified(|state| {
            let is_news = end > state.end;
            state.end = state.end.max(end);
            is_news
        });
    }

    /// Nothing further will become durable.
    pub(crate) fn stop(&self) {
        self.0.send_modify(|state| state.may_grow = false);
    }

    /// Resolves once the end is above `end_exclusive`.
    pub(crate) fn wait_past(
        &self,
        end_exclusive: u64,
    ) -> impl Future<Output = Result<(), ReadError>> + Send + use<> {
        let mut states = self.0.subscribe();
        async move {
            let decided = |state: &State| state.end > end_exclusive || !state.may_grow;
            match states.wait_for(decided).await {
                Ok(state) if state.end > end_exclusive => Ok(()),
                _ => Err(ReadError::Closed),
            }
        }
    }
}
