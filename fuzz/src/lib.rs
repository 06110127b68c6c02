//! What the fuzz targets drive: the pure parts, from arbitrary bytes. Each target is a few lines in `src/bin`; the promises
//! that must hold whatever the bytes say are here.
//!
//! An input is data, never code: [`session`] reads it as a script of what client, target and log do.

pub mod session;
pub mod values;

mod script;
