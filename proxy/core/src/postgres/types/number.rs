//! Numbers and what is made of them.

use std::fmt;
use std::io::Write as _;

use super::{NotPrintable, Reader};

const TAKES: &str = "a vector takes every write";

/// Decimal digits.
pub(super) fn integer(value: impl fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect(TAKES);
}

/// `"char"`: zero is the empty string, what is not ASCII an octal escape (as from PostgreSQL 16 on; before, the bare
/// byte, which is no text in most encodings).
pub(super) fn char(byte: u8, out: &mut Vec<u8>) {
    match byte {
        0 => {}
        0x80.. => write!(out, "\\{byte:03o}").expect(TAKES),
        _ => out.push(byte),
    }
}

/// `(block,offset)`.
pub(super) fn tid(block: [u8; 4], offset: [u8; 2], out: &mut Vec<u8>) {
    write!(out, "({},{})", u32::from_be_bytes(block), u16::from_be_bytes(offset)).expect(TAKES);
}

/// `high/low` in upper case hex.
pub(super) fn lsn(high: [u8; 4], low: [u8; 4], out: &mut Vec<u8>) {
    write!(out, "{:X}/{:X}", u32::from_be_bytes(high), u32::from_be_bytes(low)).expect(TAKES);
}

/// `float8out` with `extra_float_digits` of 1 or more, the default.
pub(super) fn float8(value: f64, out: &mut Vec<u8>) {
    let print = |value, precision| format!("{value:.precision$e}");
    let shortest = format!("{value:e}");
    let is_plain = value == 0.0 || !value.is_finite();
    // An even mantissa owns the two borders of its interval when it is read, so that Rust may print one of them.
    let may_be_border = value.to_bits().is_multiple_of(2);
    float(
        &if is_plain { shortest } else { postgres_shortest(value, &shortest, may_be_border, print, 17) },
        15,
        out,
    );
}

/// `float4out`, likewise.
pub(super) fn float4(value: f32, out: &mut Vec<u8>) {
    let print = |value, precision| format!("{value:.precision$e}");
    let shortest = format!("{value:e}");
    let is_plain = value == 0.0 || !value.is_finite();
    let may_be_border = value.to_bits().is_multiple_of(2);
    float(
        &if is_plain { shortest } else { postgres_shortest(value, &shortest, may_be_border, print, 9) },
        6,
        out,
    );
}

/// Turns Rust's shortest digits into PostgreSQL's, which are not on a border and, of two that are equally near, even.
fn postgres_shortest<F: std::str::FromStr + PartialEq + Copy>(
    value: F,
    shortest: &str,
    may_be_border: bool,
    print: impl Fn(F, usize) -> String,
    digits_max: usize,
) -> String {
    if may_be_border && !reads_alike_nearby(shortest, value) {
        return longer(value, print, digits_max);
    }
    let digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    if digits + 1 < digits_max {
        return shortest.to_owned();
    }
    let even = print(value, digits - 1);
    if even.parse::<F>().is_ok_and(|read| read == value) { even } else { shortest.to_owned() }
}

/// The shortest decimal that lies within the value's interval and not on its border.
///
/// PostgreSQL prints no border, so that readers with other rounding get the same value (`d2s.c`, `acceptBounds`).
fn longer<F: std::str::FromStr + PartialEq + Copy>(
    value: F,
    print: impl Fn(F, usize) -> String,
    digits_max: usize,
) -> String {
    (0..digits_max - 1)
        .map(|precision| print(value, precision))
        .find(|digits| {
            digits.parse::<F>().is_ok_and(|read| read == value) && reads_alike_nearby(digits, value)
        })
        .unwrap_or_else(|| print(value, digits_max - 1))
}

/// Whether decimals a very little above and below `digits` read as the same value: `digits` is on no border then.
fn reads_alike_nearby<F: std::str::FromStr + PartialEq>(digits: &str, value: F) -> bool {
    // Far finer than the least distance between a border and a decimal of 17 digits that is none.
    const ZEROS: &str = "000000000000000000000000000000000000000000000000000000000001";
    const NINES: &str = "999999999999999999999999999999999999999999999999999999999999";
    let Some((mantissa, exponent)) = digits.split_once('e') else { return true };
    let dot = if mantissa.contains('.') { "" } else { "." };
    let above = format!("{mantissa}{dot}{ZEROS}e{exponent}");
    let reads_alike = |text: &str| text.parse::<F>().is_ok_and(|read| read == value);
    if !reads_alike(&above) {
        return false;
    }
    match below(mantissa) {
        Some(below) => reads_alike(&format!("{below}{dot}{NINES}e{exponent}")),
        None => true,
    }
}

/// A decimal with its last digit one less. None for zero.
fn below(mantissa: &str) -> Option<String> {
    let mut bytes = mantissa.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        match *byte {
            b'1'..=b'9' => {
                *byte -= 1;
                return String::from_utf8(bytes).ok();
            }
            b'0' => *byte = b'9',
            _ => {}
        }
    }
    None
}

/// Lays out what `{:e}` gave: fixed notation for exponents from -4 to below `fixed_max`, else at least two exponent
/// digits with their sign.
fn float(digits: &str, fixed_max: i32, out: &mut Vec<u8>) {
    let Some((mantissa, exponent)) = digits.split_once('e') else {
        out.extend_from_slice(match digits {
            "inf" => b"Infinity",
            "-inf" => b"-Infinity",
            _ => b"NaN",
        });
        return;
    };
    let exponent: i32 = exponent.parse().expect("`{:e}` prints a number as exponent");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.extend_from_slice(sign.as_bytes());
    if !(-4..fixed_max).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.abs()).expect(TAKES);
        return;
    }
    let digits: Vec<u8> = mantissa.bytes().filter(|byte| *byte != b'.').collect();
    match usize::try_from(exponent) {
        Ok(exponent) => {
            let integer = exponent + 1;
            out.extend((0..integer).map(|index| digits.get(index).copied().unwrap_or(b'0')));
            if digits.len() > integer {
                out.push(b'.');
                out.extend_from_slice(&digits[integer..]);
            }
        }
        Err(_) => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
            out.extend_from_slice(&digits);
        }
    }
}

/// `numeric_out`: base 10,000 digits, printed with as many decimals as the value says.
pub(super) fn numeric(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    /// Most decimals (`NUMERIC_DSCALE_MASK`).
    const SCALE_DIGITS_MAX: usize = 0x3fff;
    let digits_count = usize::from(reader.u16()?);
    let weight = i16::from_be_bytes(reader.take()?);
    let sign = reader.u16()?;
    let scale = usize::from(reader.u16()?);
    let bytes = reader.bytes(digits_count * 2)?;
    let digits: Vec<u16> =
        bytes.chunks_exact(2).map(|pair| u16::from(pair[0]) << 8 | u16::from(pair[1])).collect();
    match sign {
        0x0000 => {}
        0x4000 => out.push(b'-'),
        0xc000 => out.extend_from_slice(b"NaN"),
        0xd000 => out.extend_from_slice(b"Infinity"),
        0xf000 => out.extend_from_slice(b"-Infinity"),
        _ => return Err(NotPrintable::Malformed),
    }
    if sign >= 0xc000 {
        return Ok(());
    }
    if scale > SCALE_DIGITS_MAX || digits.iter().any(|digit| *digit > 9_999) {
        return Err(NotPrintable::Malformed);
    }
    let digit_at = |place: i32| {
        usize::try_from(i32::from(weight) - place)
            .ok()
            .and_then(|index| digits.get(index))
            .copied()
            .unwrap_or(0)
    };
    if weight < 0 {
        out.push(b'0');
    }
    for place in (0..=i32::from(weight)).rev() {
        match place == i32::from(weight) {
            true => write!(out, "{}", digit_at(place)),
            false => write!(out, "{:04}", digit_at(place)),
        }
        .expect(TAKES);
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + scale;
        let mut place = -1;
        while out.len() < end {
            write!(out, "{:04}", digit_at(place)).expect(TAKES);
            place -= 1;
        }
        out.truncate(end);
    }
    Ok(())
}
