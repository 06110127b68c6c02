//! What can be told of a credential that is kept.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::reference::{Lending, Reference};

/// What can be told of a credential that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) name: String,
    /// Whether each session has one of its own, so that there is none for the next one.
    pub(crate) is_each_its_own: bool,
    figures: Mutex<Figures>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Until when there is one for who comes; `None` if there is none now, and `Some(None)` if it has no end.
    pub(crate) lends_until: Option<Option<Instant>>,
    /// How many there were.
    pub(crate) editions: u64,
    /// How many there are that end.
    pub(crate) leases: usize,
}

impl Figures {
    /// Of two that have one name.
    pub(crate) fn and(self, other: Self) -> Self {
        let lends_until = match (self.lends_until, other.lends_until) {
            (None, _) | (_, None) => None,
            (Some(None), end) | (end, Some(None)) => end,
            (Some(one), Some(two)) => Some(one.min(two)),
        };
        Self { lends_until, editions: self.editions + other.editions, leases: self.leases + other.leases }
    }
}

impl Kept {
    pub(crate) fn new(reference: &Reference) -> Self {
        let is_each_its_own = matches!(reference, Reference::Database { lending: Lending::Session, .. });
        Self { name: reference.to_string(), is_each_its_own, figures: Mutex::default() }
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the figures of now. Whether there is another credential than the first.
    pub(crate) fn tell(&self, lends_until: Option<Option<Instant>>, editions: u64, leases: usize) -> bool {
        let mut told = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *told, Figures { lends_until, editions, leases });
        before.editions > 0 && editions > before.editions
    }
}
