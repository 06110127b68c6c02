//! Dates, times and intervals, after PostgreSQL's `datetime.c`.

mod calendar;

mod interval;

use std::io::Write as _;

use jiff::Timestamp;

use super::{DateOrder, DateStyle, NotPrintable, Settings};
use calendar::{Date, date_of_days};

pub(super) use interval::interval;

const TAKES: &str = "a vector takes every write";
const DAY_US: i64 = 86_400_000_000;
/// 2000-01-01, from which PostgreSQL counts, in seconds of the Unix epoch.
const EPOCH_UNIX_S: i64 = 946_684_800;
/// The Gregorian calendar repeats after 400 years of so many seconds.
const CYCLE_S: i64 = 146_097 * 86_400;
/// Timestamps PostgreSQL has: from 4714-11-24 BC to before 294277-01-01.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// Dates PostgreSQL has: from 4714-11-24 BC to before 5874898-01-01.
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;

/// `date_out`.
pub(super) fn date(days: i32, settings: &Settings, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ if !DATES.contains(&days) => return Err(NotPrintable::Malformed),
        _ => {
            let date = date_of_days(i64::from(days));
            let separator = if settings.date_style == DateStyle::Postgres { '-' } else { '/' };
            print_date(&date, separator, settings, out);
            era(&date, out);
        }
    }
    Ok(())
}

/// The date without its era; `separator` stands between its parts in the forms SQL and Postgres.
fn print_date(date: &Date, separator: char, settings: &Settings, out: &mut Vec<u8>) {
    let Date { month, day, .. } = date;
    let year = date.year_of_era();
    match (settings.date_style, settings.date_order) {
        (DateStyle::Iso, _) => write!(out, "{year:04}-{month:02}-{day:02}"),
        (DateStyle::German, _) => write!(out, "{day:02}.{month:02}.{year:04}"),
        (_, DateOrder::DayFirst) => write!(out, "{day:02}{separator}{month:02}{separator}{year:04}"),
        (_, DateOrder::MonthFirst) => write!(out, "{month:02}{separator}{day:02}{separator}{year:04}"),
    }
    .expect(TAKES);
}

fn era(date: &Date, out: &mut Vec<u8>) {
    if date.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// `time_out`. 24:00:00 is a time.
pub(super) fn time(us: i64, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    if !(0..=DAY_US).contains(&us) {
        return Err(NotPrintable::Malformed);
    }
    let seconds = us / 1_000_000;
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).expect(TAKES);
    fraction(us % 1_000_000, out);
    Ok(())
}

/// Microseconds after a dot, without zeros at the end; nothing if there are none.
fn fraction(us: i64, out: &mut Vec<u8>) {
    if us != 0 {
        write!(out, ".{:06}", us.abs()).expect(TAKES);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// `timetz_out`; the zone counts seconds to the west.
pub(super) fn time_tz(us: i64, west_s: i32, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    /// Beyond any zone (`TZDISP_LIMIT`).
    const WEST_MAX_S: i32 = 16 * 3600;
    if west_s.abs_diff(0) >= WEST_MAX_S.unsigned_abs() {
        return Err(NotPrintable::Malformed);
    }
    time(us, out)?;
    offset(-west_s, out);
    Ok(())
}

/// A distance from UTC as `+HH[:MM[:SS]]`.
fn offset(east_s: i32, out: &mut Vec<u8>) {
    let s = east_s.unsigned_abs();
    write!(out, "{}{:02}", if east_s < 0 { '-' } else { '+' }, s / 3600).expect(TAKES);
    if !s.is_multiple_of(3600) {
        write!(out, ":{:02}", s / 60 % 60).expect(TAKES);
    }
    if !s.is_multiple_of(60) {
        write!(out, ":{:02}", s % 60).expect(TAKES);
    }
}

/// Whether `us` is a moment; the two infinities are printed.
fn is_moment(us: i64, out: &mut Vec<u8>) -> Result<bool, NotPrintable> {
    match us {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ if TIMESTAMPS.contains(&us) => return Ok(true),
        _ => return Err(NotPrintable::Malformed),
    }
    Ok(false)
}

/// `timestamp_out`.
pub(super) fn timestamp(us: i64, settings: &Settings, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    if is_moment(us, out)? {
        let date = moment(us, settings, out)?;
        era(&date, out);
    }
    Ok(())
}

/// `timestamptz_out`: ISO with the distance from UTC, the older forms with the zone's abbreviation.
pub(super) fn timestamp_tz(us: i64, settings: &Settings, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    if !is_moment(us, out)? {
        return Ok(());
    }
    let mut unix_s = us.div_euclid(1_000_000) + EPOCH_UNIX_S;
    let last_s = Timestamp::MAX.as_second();
    if unix_s > last_s {
        unix_s -= (unix_s - last_s + CYCLE_S - 1) / CYCLE_S * CYCLE_S;
    }
    let at = Timestamp::from_second(unix_s).map_err(|_| NotPrintable::Malformed)?;
    let info = settings.time_zone.to_offset_info(at);
    let date = moment(us + i64::from(info.offset().seconds()) * 1_000_000, settings, out)?;
    if settings.date_style == DateStyle::Iso {
        offset(info.offset().seconds(), out);
    } else {
        out.push(b' ');
        out.extend_from_slice(info.abbreviation().as_bytes());
    }
    era(&date, out);
    Ok(())
}

/// Date and time of day of a moment in the local zone.
fn moment(us: i64, settings: &Settings, out: &mut Vec<u8>) -> Result<Date, NotPrintable> {
    let date = date_of_days(us.div_euclid(DAY_US));
    let time_of_day = us.rem_euclid(DAY_US);
    if settings.date_style == DateStyle::Postgres {
        let (weekday, month) = (date.weekday_name(), date.month_name());
        match settings.date_order {
            DateOrder::DayFirst => write!(out, "{weekday} {:02} {month} ", date.day),
            DateOrder::MonthFirst => write!(out, "{weekday} {month} {:02} ", date.day),
        }
        .expect(TAKES);
        time(time_of_day, out)?;
        write!(out, " {:04}", date.year_of_era()).expect(TAKES);
    } else {
        print_date(&date, '/', settings, out);
        out.push(b' ');
        time(time_of_day, out)?;
    }
    Ok(date)
}
