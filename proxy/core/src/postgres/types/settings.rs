use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

/// The form of dates and times (`DateStyle`, first word).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateStyle {
    /// `2024-01-31 10:00:00+01`
    #[default]
    Iso,
    /// `01/31/2024 10:00:00 CET`
    Sql,
    /// `Wed Jan 31 10:00:00 2024 CET`
    Postgres,
    /// `31.01.2024 10:00:00 CET`
    German,
}

/// Whether the month comes first (`DateStyle`, second word). Only the older forms ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateOrder {
    /// The month, also where the setting says that years come first.
    #[default]
    MonthFirst,
    /// The day.
    DayFirst,
}

/// The form of intervals (`IntervalStyle`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntervalStyle {
    /// `1 year 2 mons 3 days 04:05:06`
    #[default]
    Postgres,
    /// `@ 1 year 2 mons 3 days 4 hours 5 mins 6 secs`
    PostgresVerbose,
    /// `+1-2 +3 +4:05:06`
    SqlStandard,
    /// `P1Y2M3DT4H5M6S`
    Iso8601,
}

/// The session's settings that change how values are printed, as the target reports them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The form of dates and times.
    pub date_style: DateStyle,
    /// The order of day and month.
    pub date_order: DateOrder,
    /// The form of intervals.
    pub interval_style: IntervalStyle,
    /// The zone in which times with a zone are printed; UTC if the target's is not known here.
    pub time_zone: TimeZone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            date_style: DateStyle::default(),
            date_order: DateOrder::default(),
            interval_style: IntervalStyle::default(),
            time_zone: TimeZone::UTC,
        }
    }
}

impl Settings {
    /// Takes a ParameterStatus of the target. Names that do not matter here are ignored; so are forms of another
    /// server that speaks this protocol, which leaves what was there before.
    pub fn apply(&mut self, name: &str, value: &str) {
        match name {
            "DateStyle" => self.apply_date_style(value),
            "IntervalStyle" => match value {
                "postgres" => self.interval_style = IntervalStyle::Postgres,
                "postgres_verbose" => self.interval_style = IntervalStyle::PostgresVerbose,
                "sql_standard" => self.interval_style = IntervalStyle::SqlStandard,
                "iso_8601" => self.interval_style = IntervalStyle::Iso8601,
                _ => {}
            },
            "TimeZone" => self.time_zone = time_zone(value),
            _ => {}
        }
    }

    fn apply_date_style(&mut self, value: &str) {
        for word in value.split([',', ' ']) {
            match word {
                "ISO" => self.date_style = DateStyle::Iso,
                "SQL" => self.date_style = DateStyle::Sql,
                "Postgres" => self.date_style = DateStyle::Postgres,
                "German" => self.date_style = DateStyle::German,
                "MDY" | "YMD" => self.date_order = DateOrder::MonthFirst,
                "DMY" => self.date_order = DateOrder::DayFirst,
                _ => {}
            }
        }
    }
}

/// A zone of the compiled-in database or a POSIX one, else UTC. The system's database is not read.
fn time_zone(name: &str) -> TimeZone {
    if let Some(zone) = fixed(name) {
        return zone;
    }
    TimeZoneDatabase::bundled().get(name).or_else(|_| TimeZone::posix(name)).unwrap_or(TimeZone::UTC)
}

/// A zone of one offset, `<-03:30>+03:30`, as the target names it after `SET TIME ZONE -3.5`. What follows the name
/// counts to the west.
fn fixed(name: &str) -> Option<TimeZone> {
    let (_, west) = name.strip_prefix('<')?.split_once('>')?;
    let (sign, digits) = match west.strip_prefix('-') {
        Some(digits) => (1, digits),
        None => (-1, west.strip_prefix('+').unwrap_or(west)),
    };
    let mut seconds = 0_i32;
    let mut unit = 3600;
    for part in digits.split(':') {
        let value: u8 = part.parse().ok().filter(|_| part.len() <= 2)?;
        seconds += i32::from(value) * unit;
        unit /= 60;
    }
    Offset::from_seconds(sign * seconds).ok().map(TimeZone::fixed)
}
