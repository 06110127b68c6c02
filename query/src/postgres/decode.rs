//! Parameters of a statement: from the wire, in text or in binary, to values of the engine. They become literals of the
//! plan; no text is ever made of them that is parsed again.

use arrow::datatypes::{DataType, TimeUnit};
use bytes::{Buf, Bytes};
use datafusion::common::ScalarValue;

use super::error::Failure;
use super::types::Wire;

const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = 946_684_800_000_000;

/// The most digits of a number that the engine has.
const NUMERIC_DIGITS_MAX: usize = 38;

/// One parameter: `number` as in `$1`.
pub(super) fn parameter(
    number: usize,
    wire: Wire,
    is_binary: bool,
    value: Option<&Bytes>,
) -> Result<ScalarValue, Failure> {
    let Some(value) = value else {
        return ScalarValue::try_from(&wire.data_type()).map_err(|_| wrong(number, wire));
    };
    let decoded = if is_binary { binary(wire, value.clone()) } else { text(wire, value) };
    decoded.ok_or_else(|| wrong(number, wire))
}

fn wrong(number: usize, wire: Wire) -> Failure {
    let name = wire.sql_name();
    if wire.element().is_some() {
        let problem = format!("parameter ${number} is an array, which this server takes no parameter of");
        return Failure::new("0A000", problem).hinting("List the values: IN ($1, $2).");
    }
    Failure::new("22P02", format!("parameter ${number} is not a value of type {name}"))
}

fn text(wire: Wire, bytes: &[u8]) -> Option<ScalarValue> {
    let text = std::str::from_utf8(bytes).ok()?;
    let trimmed = text.trim();
    let of = |data_type: DataType| ScalarValue::try_from_string(trimmed.to_owned(), &data_type).ok();
    match wire {
        Wire::Text => Some(text.into()),
        Wire::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "1" => Some(true.into()),
            "f" | "false" | "off" | "no" | "0" => Some(false.into()),
            _ => None,
        },
        Wire::Bytea => hex(trimmed.strip_prefix("\\x")?).map(|bytes| ScalarValue::Binary(Some(bytes))),
        Wire::Int2 => trimmed.parse::<i16>().ok().map(Into::into),
        Wire::Int4 => trimmed.parse::<i32>().ok().map(Into::into),
        Wire::Int8 => trimmed.parse::<i64>().ok().map(Into::into),
        Wire::Float4 => trimmed.parse::<f32>().ok().map(Into::into),
        Wire::Float8 => trimmed.parse::<f64>().ok().map(Into::into),
        Wire::Numeric => numeric(trimmed),
        Wire::Date | Wire::Time | Wire::Timestamp | Wire::Timestamptz | Wire::Interval => {
            of(wire.data_type())
        }
        Wire::TextArray | Wire::Int8Array => None,
    }
}

fn numeric(text: &str) -> Option<ScalarValue> {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if digits > NUMERIC_DIGITS_MAX {
        return None;
    }
    let decimal = DataType::Decimal128(NUMERIC_DIGITS_MAX as u8, i8::try_from(scale).ok()?);
    ScalarValue::try_from_string(text.to_owned(), &decimal).ok()
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| (digit as char).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(nibble(*pair.first()?)? << 4 | nibble(*pair.get(1)?)?)).collect()
}

fn binary(wire: Wire, mut bytes: Bytes) -> Option<ScalarValue> {
    if let Ok(size) = usize::try_from(wire.size())
        && bytes.len() != size
    {
        return None;
    }
    Some(match wire {
        Wire::Text => std::str::from_utf8(&bytes).ok()?.into(),
        Wire::Bytea => ScalarValue::Binary(Some(bytes.to_vec())),
        Wire::Bool => (bytes[0] != 0).into(),
        Wire::Int2 => bytes.get_i16().into(),
        Wire::Int4 => bytes.get_i32().into(),
        Wire::Int8 => bytes.get_i64().into(),
        Wire::Float4 => bytes.get_f32().into(),
        Wire::Float8 => bytes.get_f64().into(),
        Wire::Date => ScalarValue::Date32(Some(bytes.get_i32().checked_add(EPOCH_DAYS)?)),
        Wire::Time => ScalarValue::Time64Microsecond(Some(bytes.get_i64())),
        Wire::Timestamp | Wire::Timestamptz => {
            let us = bytes.get_i64().checked_add(EPOCH_US)?;
            let DataType::Timestamp(TimeUnit::Microsecond, zone) = wire.data_type() else { return None };
            ScalarValue::TimestampMicrosecond(Some(us), zone)
        }
        Wire::Interval => {
            let (us, days, months) = (bytes.get_i64(), bytes.get_i32(), bytes.get_i32());
            ScalarValue::new_interval_mdn(months, days, us.checked_mul(1_000)?)
        }
        Wire::Numeric => numeric(&numeric_text(bytes)?)?,
        Wire::TextArray | Wire::Int8Array => return None,
    })
}

/// The digits of a binary numeric; `None` for NaN and the infinities, and for what has more digits than the engine.
fn numeric_text(mut bytes: Bytes) -> Option<String> {
    let count = usize::from(bytes.try_get_u16().ok()?);
    let weight = bytes.try_get_i16().ok()?;
    let sign = bytes.try_get_u16().ok()?;
    let scale = usize::from(bytes.try_get_u16().ok()?);
    if bytes.len() != count * 2 || count > NUMERIC_DIGITS_MAX || scale > NUMERIC_DIGITS_MAX || weight > 9 {
        return None;
    }
    let digits: Vec<u16> = (0..count).map(|_| bytes.get_u16()).collect();
    let at = |place: i32| -> u16 {
        let index = usize::try_from(i32::from(weight) - place).ok();
        index.and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let group = |place| format!("{:04}", at(place));
    let whole: String = (0..=i32::from(weight.max(0))).rev().map(group).collect();
    let fraction: String = (1..=i32::try_from(scale.div_ceil(4)).ok()?).map(|place| group(-place)).collect();
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        _ => return None,
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if scale == 0 { "" } else { "." };
    Some(format!("{sign}{whole}{point}{}", fraction.get(..scale)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(wire: Wire, value: &'static str) -> Result<ScalarValue, Failure> {
        parameter(1, wire, false, Some(&Bytes::from_static(value.as_bytes())))
    }

    fn of_binary(wire: Wire, value: &'static [u8]) -> Result<ScalarValue, Failure> {
        parameter(1, wire, true, Some(&Bytes::from_static(value)))
    }

    #[test]
    fn a_value_is_the_same_in_text_and_in_binary() {
        for (wire, text, binary) in [
            (Wire::Int2, "-2", &b"\xff\xfe"[..]),
            (Wire::Int4, "7", b"\0\0\0\x07"),
            (Wire::Int8, "7", b"\0\0\0\0\0\0\0\x07"),
            (Wire::Bool, "true", b"\x01"),
            (Wire::Text, "it's", b"it's"),
            (Wire::Bytea, "\\x00ff", b"\x00\xff"),
            (Wire::Float8, "1.5", b"\x3f\xf8\0\0\0\0\0\0"),
            (Wire::Date, "2000-01-02", b"\0\0\0\x01"),
            (Wire::Timestamptz, "2000-01-01 00:00:01+00", b"\0\0\0\0\0\x0f\x42\x40"),
            (Wire::Numeric, "12345.60", b"\0\x03\0\x01\0\0\0\x02\0\x01\x09\x29\x17\x70"),
            (Wire::Numeric, "-0.05", b"\0\x01\xff\xff\x40\0\0\x02\x01\xf4"),
        ] {
            assert_eq!(of_text(wire, text).unwrap(), of_binary(wire, binary).unwrap(), "{wire:?} {text}");
        }
    }

    #[test]
    fn what_is_not_of_its_type_is_refused_without_being_repeated() {
        for (wire, text) in [
            (Wire::Int4, "4111111111111111"),
            (Wire::Bool, "maybe"),
            (Wire::Date, "soon"),
            (Wire::Bytea, "\\x0"),
        ] {
            let failure = of_text(wire, text).unwrap_err();
            assert_eq!(failure.sqlstate, "22P02");
            assert!(!failure.message.contains(text), "{}", failure.message);
        }
        assert!(of_binary(Wire::Int8, b"\0\0").is_err(), "too short");
        assert!(of_binary(Wire::Numeric, b"\0\x01\0\0\xc0\0\0\0\0\x01").is_err(), "not a number");
        assert_eq!(of_binary(Wire::TextArray, b"\0\0\0\0").unwrap_err().sqlstate, "0A000");
    }

    #[test]
    fn null_has_the_type_of_its_parameter() {
        assert_eq!(parameter(1, Wire::Int8, true, None).unwrap(), ScalarValue::Int64(None));
    }
}
