//! A recorded session, played.
//!
//! The way through this crate, in reading order:
//!
//! * [`Timeline`]: the records of one session, opened, put in stream order, their chain checked. Whatever is missing or
//!   does not fit stands in it as an item of its own, at its place.
//! * [`Item`]: what stands in a timeline.
//! * [`text`]: an item as a terminal shows it, with nothing in it that the terminal would obey.
//! * [`json`]: an item as one JSON object.
//! * [`Player`]: a timeline as texts with the pauses that lay between them.
//! * [`table`] and [`safe`]: the parts of the above that other printers of evidence share.
//!
//! Pure: no I/O, no clock, no sleep. The caller brings the records and keeps the time.

mod timeline;

mod item;

mod assemble;

mod response;

mod look;

pub mod json;
mod player;
pub mod safe;
pub mod table;
pub mod text;
pub mod time;

pub use item::{
    Asked, Command, CommandEnd, Damage, Item, MaskedCell, Note, Omitted, Refusal, ResponseItem, ResultSet,
};
pub use look::Look;
pub use player::{Beat, Pace, PaceError, Player};
pub use timeline::{Record, Timeline};
