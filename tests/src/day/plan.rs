//! How much a day's load is, and how long it takes here.

use std::time::Duration;

/// In so many minutes comes what a day has.
const DAY_MINUTES: u64 = 60;

/// The longest run: a night.
const MINUTES_MAX: u64 = 600;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// What a day has of them on average. Two cores have room beside it, also in a debug build: brokers, proxies and whoever asks
/// take about half of them.
const COMMANDS_PER_SECOND_ON_AVERAGE: u64 = 6;

/// Clients at once.
const SEATS: u64 = 40;

/// Commands of a session that is not one of the long ones.
const SESSION_COMMANDS: u64 = 60;

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Sizes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its length: a day's load takes 60.
    pub minutes: u64,
    /// What a day has of commands a second.
    pub commands_per_second_on_average: u64,
    /// How many come here.
    pub commands_per_second: u64,
    /// All of them.
    pub commands: u64,
    /// Clients at once, each in a session.
    pub seats: u64,
    /// Commands of each session but for the long ones.
    pub session_commands: u64,
    /// How often everything is looked at.
    pub look_every: Duration,
}

impl Plan {
    /// What `MINUTES` says, 60 if it is not there; what is wrong with it if it is none.
    pub fn from_environment() -> Result<Self, String> {
        match std::env::var("MINUTES").ok().filter(|minutes| !minutes.is_empty()) {
            None => Ok(Self::of(DAY_MINUTES)),
            Some(given) => match given.parse() {
                Ok(minutes) if (1..=MINUTES_MAX).contains(&minutes) => Ok(Self::of(minutes)),
                _ => Err(format!(
                    "MINUTES={given} is not a number of minutes from 1 to {MINUTES_MAX}; without it, it is {DAY_MINUTES}"
                )),
            },
        }
    }

    pub(super) fn of(minutes: u64) -> Self {
        let commands_per_second = COMMANDS_PER_SECOND_ON_AVERAGE * DAY_SECONDS / (DAY_MINUTES * 60);
        Self {
            minutes,
            commands_per_second_on_average: COMMANDS_PER_SECOND_ON_AVERAGE,
            commands_per_second,
            commands: commands_per_second * minutes * 60,
            seats: SEATS,
            session_commands: SESSION_COMMANDS,
            look_every: LOOK_EVERY,
        }
    }

    /// Whether it has a day's load at least: its numbers are for writing down.
    #[must_use]
    pub fn is_a_day(&self) -> bool {
        self.minutes >= DAY_MINUTES
    }

    /// How long the load takes.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }

    /// When a command is due, counted from the begin of the load.
    #[must_use]
    pub fn due(&self, number: u64) -> Duration {
        Duration::from_micros(number * 1_000_000 / self.commands_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_the_commands_of_a_day_and_a_minute_comes_as_fast() {
        let day = Plan::of(60);
        assert!(day.is_a_day());
        assert_eq!(day.commands, DAY_SECONDS * COMMANDS_PER_SECOND_ON_AVERAGE);
        let minute = Plan::of(1);
        assert!(!minute.is_a_day());
        assert_eq!(
            (minute.commands_per_second, minute.commands * 60),
            (day.commands_per_second, day.commands)
        );
        assert_eq!(day.due(day.commands), day.duration());
        assert_eq!(minute.due(0), Duration::ZERO);
    }
}
