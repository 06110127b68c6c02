//! Pure decisions: what is sensitive, what stands in its place, what a statement is made of.
//!
//! In reading order: [`detect`] finds sensitive values in bytes, [`statement`] finds the tokens of SQL, [`decide`] says what may run, and [`mask`]
//! puts the two together. On a target with masked columns, [`facts`] says what a statement is made of, [`catalogue`] what the
//! target's names mean, and [`columns`] judges the one by the other. [`rules`] are what a gate's owner writes. `mask` is the one place of the whole project that may make a
//! [`Masked`](retrace_proto::Masked) value; a lint holds everybody else to it.
//!
//! No I/O, no clock, no randomness.

pub mod detect;

pub mod statement;

pub mod decide;

pub mod mask;

pub mod facts;

pub mod catalogue;

pub mod columns;

pub mod rules;

pub mod keyed;
