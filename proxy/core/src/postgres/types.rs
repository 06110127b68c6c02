//! Values of the wire's binary format as PostgreSQL prints them.
//!
//! The record of a result is the same whichever format a driver asked for, and detectors see what a reader would see;
//! so a value in binary format is printed here exactly as PostgreSQL's output functions do. Text is taken to be in the
//! client's encoding and is passed on as it is.
//!
//! Not printed, and so recorded as hex: `money` (its form depends on a setting that is not reported), geometric types,
//! ranges, `tsvector`, the `reg…` types, composites, and every type that is not built in. Time zones come from the
//! database that is compiled in, so a target with other rules for a zone may print another offset.

mod settings;

mod kind;

mod number;

mod time;

mod network;

mod array;

pub use settings::{DateOrder, DateStyle, IntervalStyle, Settings};

use kind::Kind;

/// Why a value was not printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPrintable {
    /// Not a type of this module's table.
    #[error("the type is not known; record the value as hex")]
    Unknown,
    /// The bytes are not a value of their type.
    #[error("the bytes are not a value of their type; record them as hex")]
    Malformed,
}

/// What a mask may do to a value of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypeClass {
    /// Any characters may stand in it, so a mask can too.
    Text,
    /// JSON: a mask can stand inside a string of it.
    Json,
    /// Built in, with a syntax of its own that a mask would break: numbers, dates, arrays and the like.
    Other,
    /// Not built in: an enum, a composite, an extension's type; or not said.
    Unknown,
}

/// How much the values of one message may print as, in bytes; what comes after is not printed. A few bytes of a numeric can
/// print as a hundred thousand.
#[must_use]
pub fn printed_bytes_max(message_bytes: usize) -> usize {
    message_bytes.saturating_mul(16).saturating_add(256 * 1024)
}

/// The first OID that PostgreSQL gives to what users make (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

/// What a mask may do to a value of this type.
#[must_use]
pub fn class(type_oid: u32) -> TypeClass {
    match Kind::of(type_oid) {
        Some(Kind::Text) => TypeClass::Text,
        Some(Kind::Json | Kind::Jsonb) => TypeClass::Json,
        None if type_oid == 0 || type_oid >= FIRST_USER_OID => TypeClass::Unknown,
        _ => TypeClass::Other,
    }
}

/// Appends to `out` the text that PostgreSQL prints for a value in binary format. After an error `out` is as it was.
pub fn print_binary(
    type_oid: u32,
    value: &[u8],
    settings: &Settings,
    out: &mut Vec<u8>,
) -> Result<(), NotPrintable> {
    let kind = Kind::of(type_oid).ok_or(NotPrintable::Unknown)?;
    let before = out.len();
    let printed = match kind {
        Kind::Array => array::print(value, settings, out),
        scalar => print_scalar(scalar, value, settings, out),
    };
    if printed.is_err() {
        out.truncate(before);
    }
    printed
}

/// Prints a value that is no array. What was appended before an error is the caller's to remove.
fn print_scalar(
    kind: Kind,
    value: &[u8],
    settings: &Settings,
    out: &mut Vec<u8>,
) -> Result<(), NotPrintable> {
    let mut reader = Reader(value);
    match kind {
        Kind::Array => return Err(NotPrintable::Malformed),
        Kind::Text | Kind::Json => out.extend_from_slice(reader.rest()),
        Kind::Jsonb => match reader.u8()? {
            1 => out.extend_from_slice(reader.rest()),
            _ => return Err(NotPrintable::Malformed),
        },
        Kind::Void => {}
        Kind::Bytea => {
            out.extend_from_slice(b"\\x");
            network::hex(reader.rest(), out);
        }
        Kind::Bool => out.push(if reader.u8()? == 0 { b'f' } else { b't' }),
        Kind::Char => number::char(reader.u8()?, out),
        Kind::Int2 => number::integer(i16::from_be_bytes(reader.take()?), out),
        Kind::Int4 => number::integer(i32::from_be_bytes(reader.take()?), out),
        Kind::Int8 => number::integer(i64::from_be_bytes(reader.take()?), out),
        Kind::Unsigned4 => number::integer(u32::from_be_bytes(reader.take()?), out),
        Kind::Unsigned8 => number::integer(u64::from_be_bytes(reader.take()?), out),
        Kind::Float4 => number::float4(f32::from_be_bytes(reader.take()?), out),
        Kind::Float8 => number::float8(f64::from_be_bytes(reader.take()?), out),
        Kind::Numeric => number::numeric(&mut reader, out)?,
        Kind::Date => time::date(reader.i32()?, settings, out)?,
        Kind::Time => time::time(reader.i64()?, out)?,
        Kind::TimeTz => time::time_tz(reader.i64()?, reader.i32()?, out)?,
        Kind::Timestamp => time::timestamp(reader.i64()?, settings, out)?,
        Kind::TimestampTz => time::timestamp_tz(reader.i64()?, settings, out)?,
        Kind::Interval => time::interval(&mut reader, settings, out)?,
        Kind::Uuid => network::uuid(reader.take()?, out),
        Kind::Inet => network::inet(&mut reader, out)?,
        Kind::MacAddr => network::mac(&reader.take::<6>()?, out),
        Kind::MacAddr8 => network::mac(&reader.take::<8>()?, out),
        Kind::Bits => network::bits(&mut reader, out)?,
        Kind::Tid => number::tid(reader.take()?, reader.take()?, out),
        Kind::Lsn => number::lsn(reader.take()?, reader.take()?, out),
    }
    reader.end()
}

/// What is left of a value. Every count is checked against it before it is used.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], NotPrintable> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(NotPrintable::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], NotPrintable> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(NotPrintable::Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, NotPrintable> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, NotPrintable> {
        self.take().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, NotPrintable> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, NotPrintable> {
        self.take().map(i64::from_be_bytes)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A value ends where its type does.
    fn end(&self) -> Result<(), NotPrintable> {
        if self.0.is_empty() { Ok(()) } else { Err(NotPrintable::Malformed) }
    }
}

#[cfg(test)]
mod tests;
