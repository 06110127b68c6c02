//! How long to wait after a failure.

use std::time::Duration;

/// The first wait, which doubles with each failure.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Waits of 1, 2, 4 … 30 seconds, each shortened by up to a quarter, so that those who failed together do not come again
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// `seed` is any number; others in the same place have another one.
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed | 1 }
    }

    /// How long to wait after a further failure. Whoever failed may have asked for more.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = WAIT_MAX.min(WAIT_MIN * 2_u32.pow(self.failures.min(8)));
        self.failures = self.failures.saturating_add(1);
        let part = u32::try_from(self.random() % 256).expect("below 256");
        asked.unwrap_or_default().max(wait - wait * part / 1024)
    }

    /// One for something else, which fails by itself.
    pub(crate) fn another(&mut self) -> Self {
        Self::new(self.random())
    }

    /// Marsaglia's xorshift (2003).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// What failed has succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number for [`Backoff::new`].
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without it waits are merely alike.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_differ() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..8).map(|_| backoff.next(None).as_secs_f64()).collect();
        for (wait, most) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!(*wait <= most && *wait >= most * 0.75, "{waits:?}");
        }
        assert!(waits[5] != waits[6], "{waits:?}");
        let minute = Duration::from_secs(60);
        assert_eq!(backoff.next(Some(minute)), minute);
        backoff.reset();
        assert!(backoff.next(Some(Duration::ZERO)) <= WAIT_MIN);
    }
}
