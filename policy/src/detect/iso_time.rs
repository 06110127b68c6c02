//! Dates and times, which tables are full of and in which nothing sensitive can be.

/// `YYYY-MM-DD`.
const DATE_BYTES: usize = 10;
/// `HH:MM:SS`.
const TIME_BYTES: usize = 8;
/// Most digits of a fraction of a second.
const FRACTION_DIGITS_MAX: usize = 6;

/// Whether the whole text is a date, with or without a time of day and an offset, as ISO 8601 writes it and PostgreSQL prints
/// it (`DateStyle = ISO`): `2026-11-24 10:30:00.25+01`, `2026-11-24T10:30:00Z`. The year has four digits, and the other
/// numbers are those of a clock and a calendar, so that little else can look like one.
pub(super) fn is_time(text: &[u8]) -> bool {
    let Some((date, rest)) = text.split_first_chunk::<DATE_BYTES>() else { return false };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return false };
    let is_date =
        [y1, y2, y3, y4].iter().all(u8::is_ascii_digit) && pair(m1, m2, 1, 12) && pair(d1, d2, 1, 31);
    is_date
        && match rest {
            [] => true,
            [b' ' | b'T', clock @ ..] => is_clock(clock),
            _ => false,
        }
}

fn is_clock(text: &[u8]) -> bool {
    let Some((clock, rest)) = text.split_first_chunk::<TIME_BYTES>() else { return false };
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *clock else { return false };
    if !(pair(h1, h2, 0, 24) && pair(m1, m2, 0, 59) && pair(s1, s2, 0, 60)) {
        return false;
    }
    let rest = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits > FRACTION_DIGITS_MAX {
                return false;
            }
            &fraction[digits..]
        }
        rest => rest,
    };
    is_offset(rest)
}

/// `+01`, `-03:30`, `Z` or nothing.
fn is_offset(text: &[u8]) -> bool {
    match *text {
        [] | [b'Z'] => true,
        [b'+' | b'-', h1, h2] => pair(h1, h2, 0, 15),
        [b'+' | b'-', h1, h2, b':', m1, m2] => pair(h1, h2, 0, 15) && pair(m1, m2, 0, 59),
        _ => false,
    }
}

/// Whether two characters are the digits of a number in this range.
fn pair(tens: u8, ones: u8, least: u8, most: u8) -> bool {
    tens.is_ascii_digit()
        && ones.is_ascii_digit()
        && (least..=most).contains(&((tens - b'0') * 10 + (ones - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_told_from_what_has_their_digits() {
        for text in [
            "2026-11-24",
            "2026-11-24 10:30:00",
            "2026-11-24 10:30:00.123456",
            "2026-11-24 10:30:00.5+01",
            "2026-11-24 23:59:60-03:30",
            "2026-11-24T10:30:00Z",
        ] {
            assert!(is_time(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "2026-11-2",
            "2026-11-244",
            "4111-11-32",
            "4111-13-11",
            "4111-11-11 11:11:11:11",
            "4111-11-11 1111",
            "4111-11-11-1111",
            "2026-11-24 10:30:00.1234567",
            "2026-11-24 10:30:00 4111",
            "2026-11-24 10:30:00+01:00:00",
            "2026/11/24",
        ] {
            assert!(!is_time(text.as_bytes()), "{text}");
        }
    }
}
