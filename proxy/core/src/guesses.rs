use std::collections::VecDeque;
use std::sync::Mutex;

/// Literals that one principal may compare with masked columns of one target within an hour.
pub const GUESSES_PER_HOUR_MAX: u32 = 60;

const HOUR_US: u64 = 3_600_000_000;

/// How many values were compared with masked columns of late. All sessions of one principal at one target share it, since
/// whoever guesses can open another session.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<VecDeque<(u64, u32)>>);

impl Guesses {
    /// Takes so many guesses, if the hour up to now has them left.
    pub(crate) fn try_take(&self, now_us: u64, count: u32) -> bool {
        if count == 0 {
            return true;
        }
        let mut taken = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while taken.front().is_some_and(|(at_us, _)| now_us.saturating_sub(*at_us) >= HOUR_US) {
            taken.pop_front();
        }
        let sum: u32 = taken.iter().map(|(_, count)| count).sum();
        let is_left = sum.saturating_add(count) <= GUESSES_PER_HOUR_MAX;
        if is_left {
            taken.push_back((now_us, count));
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_come_back_an_hour_later() {
        let guesses = Guesses::default();
        let taken = (0..GUESSES_PER_HOUR_MAX + 5).filter(|at| guesses.try_take(u64::from(*at), 1)).count();
        assert_eq!(taken, GUESSES_PER_HOUR_MAX as usize);
        assert!(!guesses.try_take(HOUR_US - 1, 1));
        assert!(guesses.try_take(HOUR_US, 1));
        assert!(!guesses.try_take(HOUR_US, 1));
    }
}
