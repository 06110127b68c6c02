//! When and from where: the parts of a question that are the same for whatever is asked.

use std::net::IpAddr;

use cedar_policy::{Context, RestrictedExpression};
use jiff::tz::TimeZone;

use super::Reads;
use super::statement::Ask;
use super::world::uid;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    fn name(self) -> &'static str {
        match self {
            Self::Monday => "monday",
            Self::Tuesday => "tuesday",
            Self::Wednesday => "wednesday",
            Self::Thursday => "thursday",
            Self::Friday => "friday",
            Self::Saturday => "saturday",
            Self::Sunday => "sunday",
        }
    }
}

/// A minute, in the time zone that the rules are read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Minutes since the Unix epoch.
    pub unix_minutes: i64,
    /// The day there.
    pub weekday: Weekday,
    /// Minutes since midnight there, from 0 to 1439.
    pub minute_of_day: u16,
}

impl Moment {
    /// The minute of a point in time, in microseconds since the Unix epoch, as clocks there show it.
    #[must_use]
    pub fn of(unix_us: i64, time_zone: &TimeZone) -> Self {
        // Beyond the year 9999 clocks show the epoch.
        let there = time_zone.to_datetime(jiff::Timestamp::from_microsecond(unix_us).unwrap_or_default());
        Self {
            unix_minutes: unix_us.div_euclid(60_000_000),
            weekday: match there.weekday() {
                jiff::civil::Weekday::Monday => Weekday::Monday,
                jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
                jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
                jiff::civil::Weekday::Thursday => Weekday::Thursday,
                jiff::civil::Weekday::Friday => Weekday::Friday,
                jiff::civil::Weekday::Saturday => Weekday::Saturday,
                jiff::civil::Weekday::Sunday => Weekday::Sunday,
            },
            minute_of_day: u16::try_from(i32::from(there.hour()) * 60 + i32::from(there.minute()))
                .expect("a day has 1440 minutes"),
        }
    }
}

/// `context.client`, as far as it is read.
pub(super) fn client(address: IpAddr, reads: Reads) -> Option<RestrictedExpression> {
    let address = || ("address".to_owned(), RestrictedExpression::new_ip(address.to_string()));
    reads.has(&["client", "address"]).then(|| record([address()]))
}

/// `context.now`, as far as it is read.
pub(super) fn now(moment: Moment, reads: Reads) -> Option<RestrictedExpression> {
    let mut fields = Vec::new();
    if reads.has(&["now", "at"]) {
        // The epoch, and from there in a unit that has no calendar.
        let at = jiff::Timestamp::from_second(moment.unix_minutes.saturating_mul(60)).unwrap_or_default();
        fields.push(("at".to_owned(), RestrictedExpression::new_datetime(at.to_string())));
    }
    if reads.has(&["now", "weekday"]) {
        let weekday = uid("Weekday", moment.weekday.name());
        fields.push(("weekday".to_owned(), RestrictedExpression::new_entity_uid(weekday)));
    }
    if reads.has(&["now", "minute_of_day"]) {
        let minute = RestrictedExpression::new_long(moment.minute_of_day.into());
        fields.push(("minute_of_day".to_owned(), minute));
    }
    (!fields.is_empty()).then(|| record(fields))
}

/// The whole `context`, as far as it is read.
pub(super) fn context(
    client_address: Option<IpAddr>,
    moment: Moment,
    ask: Option<&Ask>,
    reads: Reads,
) -> Context {
    let client =
        client_address.and_then(|address| client(address, reads)).map(|it| ("client".to_owned(), it));
    let now = now(moment, reads).map(|it| ("now".to_owned(), it));
    let statement = ask.map(|ask| ("statement".to_owned(), ask.record(reads)));
    Context::from_pairs(client.into_iter().chain(now).chain(statement)).expect("each name stands there once")
}

pub(super) fn record(
    fields: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> RestrictedExpression {
    RestrictedExpression::new_record(fields).expect("each name stands there once")
}
