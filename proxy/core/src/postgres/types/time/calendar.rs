/// A day of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// Astronomical: 0 is 1 BC.
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
    /// 0 is Sunday.
    weekday: u8,
}

impl Date {
    /// The year as people count it, BC or not.
    pub(super) fn year_of_era(&self) -> i64 {
        if self.year > 0 { self.year } else { 1 - self.year }
    }

    /// Three letters.
    pub(super) fn month_name(&self) -> &'static str {
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            [usize::from(self.month) - 1]
    }

    /// Three letters.
    pub(super) fn weekday_name(&self) -> &'static str {
        ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][usize::from(self.weekday)]
    }
}

/// The date so many days after 2000-01-01, which was a Saturday.
///
/// Counts in years that begin in March, so that the leap day is the last of its year.
pub(super) fn date_of_days(days: i64) -> Date {
    /// From 0000-03-01 to 2000-01-01.
    const EPOCH_DAYS: i64 = 730_425;
    const CYCLE_DAYS: i64 = 146_097;
    let (cycle, day) =
        ((days + EPOCH_DAYS).div_euclid(CYCLE_DAYS), (days + EPOCH_DAYS).rem_euclid(CYCLE_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    Date {
        year: cycle * 400 + year + i64::from(month <= 2),
        month: small(month),
        day: small(day_of_month),
        weekday: small((days + 6).rem_euclid(7)),
    }
}

fn small(value: i64) -> u8 {
    u8::try_from(value).expect("months and days are small")
}
