//! The PostgreSQL session machine, as transcripts.

#![allow(clippy::unwrap_used)]

#[path = "session/harness.rs"]
mod harness;

#[path = "session/attacks.rs"]
mod attacks;
#[path = "session/columns.rs"]
mod columns;
#[path = "session/copying.rs"]
mod copying;
#[path = "session/draining.rs"]
mod draining;
#[path = "session/failing.rs"]
mod failing;
#[path = "session/gates.rs"]
mod gates;
#[path = "session/holds.rs"]
mod holds;
#[path = "session/interleavings.rs"]
mod interleavings;
#[path = "session/masks.rs"]
mod masks;
#[path = "session/pacing.rs"]
mod pacing;
#[path = "session/refusing.rs"]
mod refusing;
#[path = "session/rules.rs"]
mod rules;
