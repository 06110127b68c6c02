//! Limits that every part shares. Each name says its unit.

/// Largest sealed envelope, in bytes. The log refuses more.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What a part of an event may hold of one command or response, in bytes, before it is cut into chunks. The rest of
/// [`EVENT_BYTES_MAX`] is for header, masks and lengths.
pub const CHUNK_BYTES_MAX: usize = 160 * 1024;

/// The newest schema version that this code reads; it reads every earlier one. Each event names the lowest whose readers
/// understand it, so that what has not changed is read by an earlier release as well.
pub const SCHEMA_VERSION: u32 = 3;
