use std::io::Write as _;

use super::{TAKES, fraction};
use crate::postgres::types::{IntervalStyle, NotPrintable, Reader, Settings};

/// An interval taken apart as `interval2itm` does; each part has its own sign.
struct Parts {
    years: i64,
    months: i64,
    days: i64,
    hours: i64,
    minutes: i64,
    seconds: i64,
    us: i64,
}

impl Parts {
    fn all(&self) -> [i64; 7] {
        [self.years, self.months, self.days, self.hours, self.minutes, self.seconds, self.us]
    }

    fn has_time(&self) -> bool {
        self.all()[3..].iter().any(|part| *part != 0)
    }

    fn is_time_negative(&self) -> bool {
        self.all()[3..].iter().any(|part| *part < 0)
    }
}

/// `interval_out`.
pub(in crate::postgres::types) fn interval(
    reader: &mut Reader<'_>,
    settings: &Settings,
    out: &mut Vec<u8>,
) -> Result<(), NotPrintable> {
    let time_us = reader.i64()?;
    let days = i64::from(reader.i32()?);
    let months = i64::from(reader.i32()?);
    let parts = Parts {
        years: months / 12,
        months: months % 12,
        days,
        hours: time_us / 3_600_000_000,
        minutes: time_us / 60_000_000 % 60,
        seconds: time_us / 1_000_000 % 60,
        us: time_us % 1_000_000,
    };
    match settings.interval_style {
        IntervalStyle::Postgres => postgres(&parts, out),
        IntervalStyle::PostgresVerbose => verbose(&parts, out),
        IntervalStyle::SqlStandard => sql_standard(&parts, out),
        IntervalStyle::Iso8601 => iso_8601(&parts, out),
    }
    Ok(())
}

/// Seconds without sign, padded to two digits if `is_padded`.
fn seconds(parts: &Parts, is_padded: bool, out: &mut Vec<u8>) {
    let seconds = parts.seconds.abs();
    if is_padded { write!(out, "{seconds:02}") } else { write!(out, "{seconds}") }.expect(TAKES);
    fraction(parts.us, out);
}

fn postgres(parts: &Parts, out: &mut Vec<u8>) {
    let mut is_first = true;
    let mut is_before = false;
    for (value, unit) in [(parts.years, "year"), (parts.months, "mon"), (parts.days, "day")] {
        if value != 0 {
            let space = if is_first { "" } else { " " };
            let plus = if is_before && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write!(out, "{space}{plus}{value} {unit}{plural}").expect(TAKES);
            is_before = value < 0;
            is_first = false;
        }
    }
    if is_first || parts.has_time() {
        let space = if is_first { "" } else { " " };
        let sign = match (parts.is_time_negative(), is_before) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        write!(out, "{space}{sign}{:02}:{:02}:", parts.hours.abs(), parts.minutes.abs()).expect(TAKES);
        seconds(parts, true, out);
    }
}

fn verbose(parts: &Parts, out: &mut Vec<u8>) {
    out.push(b'@');
    let mut is_first = true;
    let mut is_before = false;
    let units = ["year", "mon", "day", "hour", "min"];
    for (value, unit) in parts.all().into_iter().zip(units) {
        if value != 0 {
            if is_first {
                is_before = value < 0;
            }
            let value = if is_before { -value } else { value };
            write!(out, " {value} {unit}{}", if value == 1 { "" } else { "s" }).expect(TAKES);
            is_first = false;
        }
    }
    if parts.seconds != 0 || parts.us != 0 {
        let is_negative = parts.seconds < 0 || parts.seconds == 0 && parts.us < 0;
        if is_first {
            is_before = is_negative;
        }
        out.extend_from_slice(if is_negative == is_before { b" " } else { b" -" });
        seconds(parts, false, out);
        let plural = parts.seconds.abs() != 1 || parts.us != 0;
        out.extend_from_slice(if plural { b" secs" } else { b" sec" });
        is_first = false;
    }
    if is_first {
        out.extend_from_slice(b" 0");
    }
    if is_before {
        out.extend_from_slice(b" ago");
    }
}

fn sql_standard(parts: &Parts, out: &mut Vec<u8>) {
    let has_negative = parts.all().iter().any(|part| *part < 0);
    let has_positive = parts.all().iter().any(|part| *part > 0);
    let has_year_month = parts.years != 0 || parts.months != 0;
    let has_day_time = parts.days != 0 || parts.has_time();
    let Parts { years, months, days, hours, minutes, .. } = parts;
    let [years, months, days, hours, minutes] = [years, months, days, hours, minutes].map(|part| part.abs());
    if !has_negative && !has_positive {
        out.push(b'0');
        return;
    }
    if has_negative && has_positive || has_year_month && has_day_time {
        let sign = |is_negative: bool| if is_negative { '-' } else { '+' };
        let year_sign = sign(parts.years < 0 || parts.months < 0);
        let day_sign = sign(parts.days < 0);
        let time_sign = sign(parts.is_time_negative());
        write!(out, "{year_sign}{years}-{months} {day_sign}{days} {time_sign}{hours}:{minutes:02}:")
            .expect(TAKES);
        return seconds(parts, true, out);
    }
    if has_negative {
        out.push(b'-');
    }
    if has_year_month {
        write!(out, "{years}-{months}").expect(TAKES);
        return;
    }
    if days != 0 {
        write!(out, "{days} ").expect(TAKES);
    }
    write!(out, "{hours}:{minutes:02}:").expect(TAKES);
    seconds(parts, true, out);
}

fn iso_8601(parts: &Parts, out: &mut Vec<u8>) {
    if parts.all().iter().all(|part| *part == 0) {
        out.extend_from_slice(b"PT0S");
        return;
    }
    let part = |value: i64, unit: char, out: &mut Vec<u8>| {
        if value != 0 {
            write!(out, "{value}{unit}").expect(TAKES);
        }
    };
    out.push(b'P');
    part(parts.years, 'Y', out);
    part(parts.months, 'M', out);
    part(parts.days, 'D', out);
    if parts.has_time() {
        out.push(b'T');
    }
    part(parts.hours, 'H', out);
    part(parts.minutes, 'M', out);
    if parts.seconds != 0 || parts.us != 0 {
        if parts.seconds < 0 || parts.us < 0 {
            out.push(b'-');
        }
        seconds(parts, false, out);
        out.push(b'S');
    }
}
