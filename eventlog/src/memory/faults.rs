use std::sync::{Arc, Mutex};

use super::state::{Fault, State, lock};
use crate::{AppendError, ReadError};

/// Makes a [`MemoryLog`](crate::MemoryLog) fail.
///
/// The methods ending in `_next` write a script: each append takes the next line of it, over all topic partitions, in
/// call order. Once the script is used up, appends succeed.
#[derive(Debug, Clone)]
pub struct Faults(pub(super) Arc<Mutex<State>>);

impl Faults {
    /// The next `appends` succeed.
    pub fn pass_next(&self, appends: usize) {
        self.script(appends, Fault::Pass);
    }

    /// The next `appends` fail with `error` and are not written.
    pub fn fail_next(&self, appends: usize, error: AppendError) {
        self.script(appends, Fault::Fail(error));
    }

    /// The next `appends` are written, readers see them, and their callers are told `error`, as when an
    /// acknowledgement is lost.
    pub fn fail_next_persisted(&self, appends: usize, error: AppendError) {
        self.script(appends, Fault::FailPersisted(error));
    }

    /// The next `appends` never resolve and are not written; those behind them are not held up.
    pub fn hang_next(&self, appends: usize) {
        self.script(appends, Fault::Hang);
    }

    /// The next `reads` (of records or offsets) fail with `error`.
    pub fn fail_next_reads(&self, reads: usize, error: ReadError) {
        lock(&self.0).read_faults.extend(std::iter::repeat_n(error, reads));
    }

    /// From now on appends queue, undecided, until the gate lets them through.
    ///
    /// # Panics
    /// If a gate is there already.
    #[must_use = "the gate opens when it is dropped"]
    pub fn hold(&self) -> Gate {
        let mut state = lock(&self.0);
        assert!(!state.is_held, "one gate at a time");
        state.is_held = true;
        drop(state);
        Gate(Arc::clone(&self.0))
    }

    fn script(&self, appends: usize, fault: Fault) {
        lock(&self.0).script.extend(std::iter::repeat_n(fault, appends));
    }
}

/// Holds appends back. Dropping it opens it.
#[derive(Debug)]
pub struct Gate(Arc<Mutex<State>>);

impl Gate {
    /// How many appends wait.
    #[must_use]
    pub fn held(&self) -> usize {
        lock(&self.0).held.len()
    }

    /// Resolves once at least `appends` wait.
    pub async fn wait_held(&self, appends: usize) {
        let mut held = lock(&self.0).held_count.subscribe();
        held.wait_for(|held| *held >= appends).await.expect("the gate keeps the log's state alive");
    }

    /// Lets the oldest `appends` of those that wait through, in call order. Returns how many there were.
    pub fn release(&self, appends: usize) -> usize {
        lock(&self.0).release(appends)
    }

    /// Lets everything through and holds nothing any more.
    pub fn open(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_held = false;
        state.release(usize::MAX);
    }
}
