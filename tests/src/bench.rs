//! What `make bench` measures. Nothing here asserts a time: machines differ, so ratios are taken within one run, in
//! rounds that go through all ways in turn.

pub mod cluster;
pub mod detectors;
pub mod loads;
pub mod memory;
pub mod neighbours;
pub mod numbers;
pub mod pgbouncer;
pub mod process;
pub mod rows;

mod plan;
mod samples;

pub use plan::Plan;
pub use samples::Samples;

use crate::matrix::Way;

/// A way to the target that is measured.
#[derive(Debug)]
pub struct Lane {
    /// What it is called.
    pub name: String,
    /// How a client comes.
    pub way: Way,
    /// The process in between, if there is one.
    pub pid: Option<u32>,
}
