//! The machine of one reference, of either kind.

use retrace_access::Term;
use tokio::time::Instant;

use crate::cell::Cell;
use crate::keep::{Input, Output};
use crate::shelf::Shelf;

/// One credential that may change, or leases of a role.
pub(crate) enum Machine<H> {
    Cell(Box<Cell<H>>),
    Shelf(Box<Shelf<H>>),
}

impl<H> Machine<H> {
    pub(crate) fn handle(&mut self, now: Instant, input: Input<H>) {
        match self {
            Self::Cell(cell) => cell.handle(now, input),
            Self::Shelf(shelf) => shelf.handle(now, input),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output<H>> {
        match self {
            Self::Cell(cell) => cell.poll_output(),
            Self::Shelf(shelf) => shelf.poll_output(),
        }
    }

    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        match self {
            Self::Cell(cell) => cell.poll_deadline(),
            Self::Shelf(shelf) => shelf.poll_deadline(),
        }
    }

    /// What holds the right to what is in hand.
    pub(crate) fn holds(&self) -> Vec<&H> {
        match self {
            Self::Cell(cell) => cell.holds().collect(),
            Self::Shelf(shelf) => shelf.holds().collect(),
        }
    }

    /// What holds the right to an edition that ends, and how far it is; `None` if there is no such.
    pub(crate) fn held(&self, edition: u64) -> Option<(&H, Term)> {
        match self {
            Self::Cell(_) => None,
            Self::Shelf(shelf) => shelf.held(edition),
        }
    }

    /// Until when there is a credential for who comes, if the store stays away; `None` if there is none now. What has no end
    /// ends never.
    pub(crate) fn lends_until(&self) -> Option<Option<Instant>> {
        match self {
            Self::Cell(cell) => cell.lends_until(),
            Self::Shelf(shelf) => shelf.lends_until(),
        }
    }

    /// How many credentials there were.
    pub(crate) fn editions(&self) -> u64 {
        match self {
            Self::Cell(cell) => cell.editions(),
            Self::Shelf(shelf) => shelf.editions(),
        }
    }

    /// Leases that are in hand.
    pub(crate) fn leases(&self) -> usize {
        match self {
            Self::Cell(_) => 0,
            Self::Shelf(shelf) => shelf.leases(),
        }
    }

    /// Takes out all that is to be given back.
    pub(crate) fn clear(&mut self) -> Vec<H> {
        match self {
            Self::Cell(_) => Vec::new(),
            Self::Shelf(shelf) => shelf.clear(),
        }
    }
}
