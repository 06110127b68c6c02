//! The rules of a gate, in Cedar: who may do what where, what is held for a person to decide, and what is denied.
//!
//! In reading order: [`World`] is whom and what the rules may name, [`Policy`] the rules as they were loaded and checked,
//! [`Scope`] those of them that can concern one principal at one target, [`Question`] what is asked of a scope, and [`Ruling`]
//! its answer.
//!
//! # How a question is decided
//! Nothing is allowed that no rule permits. Rules that forbid are of two sorts: one with the annotation `@hold` asks for a
//! review, one without refuses.
//!
//! 1. The rules without `@hold` are asked. If they do not allow it, it is denied, whatever else holds.
//! 2. Then those with `@hold` are. Each of them that forbids has its own reviewers, and all of these must approve.
//!
//! Cedar passes over a rule that fails while it is evaluated, such as `resource.getTag("env")` where there is no such tag. Here
//! it denies: a prohibition that cannot be evaluated must not be one that is not there.
//!
//! # What the configuration permits
//! `targets` of a `[[principal]]` is a permission like any other: everything there that no rule forbids.

mod context;
mod decide;
mod hold;
mod load;
mod names;
mod reads;
mod scope;
mod statement;
#[cfg(test)]
mod tests;
mod world;

pub use jiff::tz::TimeZone;

pub use context::{Moment, Weekday};
pub use decide::{Question, Ruling, Why, of_policy};
pub use hold::{HoldTerms, Reviewer};
pub use load::{Policy, Problem};
pub use reads::Reads;
pub use scope::Scope;
pub use statement::{Action, Ask, Surroundings};
pub use world::{World, WorldPrincipal, WorldTarget};

/// The schema that rules are checked by.
pub const SCHEMA: &str = include_str!("rules/retrace.cedarschema");

/// A file of rules may be this large, in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
