use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How fast the sessions of one principal may go, all together. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Commands within a second.
    pub commands_per_second_max: Option<NonZeroU64>,
    /// Commands that may follow each other at once after a pause: if `None`, as many as a second has.
    pub commands_burst_max: Option<NonZeroU64>,
    /// Bytes within a second, both ways.
    pub bytes_per_second_max: Option<NonZeroU64>,
}

/// The buckets of one principal. All of its sessions share them, since whoever is slowed down can open another session.
#[derive(Debug, Default)]
pub struct Buckets {
    /// A token is a command.
    pub commands: Bucket,
    /// A token is a byte.
    pub bytes: Bucket,
}

impl Buckets {
    /// From now on this is the pace. Those who wait keep their places, and wait by the new one.
    pub fn set(&self, now_us: u64, pace: Pace) {
        self.commands.set(now_us, pace.commands_per_second_max, pace.commands_burst_max);
        self.bytes.set(now_us, pace.bytes_per_second_max, None);
    }
}

/// A token bucket with a queue before it.
///
/// Who takes tokens is given a [`Turn`], which comes once the bucket has let go as many as were taken up to then: so turns
/// come in the order in which they were asked for, none is overtaken, and each sleeps until its own. Tokens are counted
/// from the beginning in millionths, of which so many are let go each microsecond as tokens each second: no rounding adds up.
///
/// Sessions run on several threads, so there is a lock. It is held for a few additions, and not at all where there is no
/// limit.
#[derive(Debug, Default)]
pub struct Bucket {
    is_limited: AtomicBool,
    state: Mutex<State>,
}

/// A place in the queue before a bucket: in millionths of a token, what must have been let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u128);

#[derive(Debug, Default)]
struct State {
    /// 0 is no limit.
    per_second: u64,
    burst: u64,
    taken: u128,
    /// Ahead of `taken` by `burst` at most: so much is kept of a pause.
    let_go: u128,
    at_us: u64,
}

const MILLIONTHS: u128 = 1_000_000;

impl Bucket {
    /// From now on it lets go so many tokens each second, and after a pause at most `burst` at once.
    pub fn set(&self, now_us: u64, per_second: Option<NonZeroU64>, burst: Option<NonZeroU64>) {
        let mut state = self.lock();
        state.pass_time(now_us);
        let was_limited = state.per_second > 0;
        state.per_second = per_second.map_or(0, NonZeroU64::get);
        state.burst = burst.map_or(state.per_second, NonZeroU64::get);
        let full = state.taken + u128::from(state.burst) * MILLIONTHS;
        state.let_go = if was_limited { state.let_go.min(full) } else { full };
        self.is_limited.store(per_second.is_some(), Ordering::Relaxed);
    }

    /// Takes tokens that need not be there yet; `None` if there is no limit. Taking none is asking for the end of the queue.
    #[must_use]
    pub fn take(&self, now_us: u64, tokens: u64) -> Option<Turn> {
        if !self.is_limited.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        state.pass_time(now_us);
        state.taken += u128::from(tokens) * MILLIONTHS;
        Some(Turn(state.taken))
    }

    /// How long it is up to a turn, in microseconds, if nothing changes; 0 if it has come.
    #[must_use]
    pub fn wait_us(&self, now_us: u64, turn: Turn) -> u64 {
        let mut state = self.lock();
        state.pass_time(now_us);
        if state.per_second == 0 {
            return 0;
        }
        let missing = turn.0.saturating_sub(state.let_go);
        u64::try_from(missing.div_ceil(u128::from(state.per_second))).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain numbers are whole whatever panicked beside them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pass_time(&mut self, now_us: u64) {
        // Threads read the clock before they come here, so one can be a little behind.
        let passed_us = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        let full = self.taken + u128::from(self.burst) * MILLIONTHS;
        self.let_go =
            full.min(self.let_go.saturating_add(u128::from(self.per_second) * u128::from(passed_us)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn bucket(per_second: u64, burst: Option<u64>) -> Bucket {
        let bucket = Bucket::default();
        bucket.set(0, NonZeroU64::new(per_second), burst.and_then(NonZeroU64::new));
        bucket
    }

    fn waits(bucket: &Bucket, now_us: u64, count: usize) -> Vec<u64> {
        let turns: Vec<_> = (0..count).map(|_| bucket.take(now_us, 1).expect("it is limited")).collect();
        turns.into_iter().map(|turn| bucket.wait_us(now_us, turn)).collect()
    }

    #[test]
    fn a_burst_goes_at_once_and_what_follows_waits_in_order() {
        assert_eq!(waits(&bucket(4, None), 0, 6), [0, 0, 0, 0, SECOND_US / 4, SECOND_US / 2]);
        assert_eq!(waits(&bucket(4, Some(1)), 0, 3), [0, SECOND_US / 4, SECOND_US / 2]);
        let bucket = bucket(4, None);
        let _ = waits(&bucket, 0, 8);
        assert_eq!(
            waits(&bucket, 10 * SECOND_US, 5),
            [0, 0, 0, 0, SECOND_US / 4],
            "a pause keeps a burst, no more"
        );
    }

    #[test]
    fn a_turn_comes_at_its_time_and_no_sooner() {
        let bucket = bucket(3, Some(1));
        let [first, second] = [(); 2].map(|()| bucket.take(0, 1).unwrap());
        assert_eq!(bucket.wait_us(0, first), 0);
        let wait = bucket.wait_us(0, second);
        assert_eq!((bucket.wait_us(wait - 1, second), bucket.wait_us(wait, second)), (1, 0));
        assert_eq!(bucket.wait_us(wait - 5, second), 0, "a clock that is behind takes nothing back");
    }

    #[test]
    fn without_a_limit_nobody_queues_and_those_who_did_go() {
        let free = Bucket::default();
        assert_eq!(free.take(0, 1 << 60), None);
        let bucket = bucket(1, None);
        let _ = bucket.take(0, 1000);
        let turn = bucket.take(0, 1).unwrap();
        assert!(bucket.wait_us(0, turn) > 0);
        bucket.set(0, None, None);
        assert_eq!((bucket.wait_us(0, turn), bucket.take(0, 1)), (0, None));
        bucket.set(5, NonZeroU64::new(2), None);
        assert_eq!(
            waits(&bucket, 5, 3),
            [0, 0, SECOND_US / 2],
            "a limit that is new begins with a full bucket"
        );
    }

    #[test]
    fn who_waits_waits_by_the_new_pace() {
        let bucket = bucket(1, None);
        let _ = bucket.take(0, 11);
        let turn = bucket.take(0, 10).unwrap();
        assert_eq!(bucket.wait_us(0, turn), 20 * SECOND_US);
        bucket.set(10 * SECOND_US, NonZeroU64::new(10), None);
        assert_eq!(bucket.wait_us(10 * SECOND_US, turn), SECOND_US);
        bucket.set(10 * SECOND_US, NonZeroU64::new(1), None);
        assert_eq!(bucket.wait_us(10 * SECOND_US, turn), 10 * SECOND_US);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let bucket = bucket(u64::MAX, None);
        let turn = bucket.take(0, u64::MAX).and_then(|_| bucket.take(u64::MAX, u64::MAX)).unwrap();
        assert_eq!(bucket.wait_us(u64::MAX, turn), 0);
        let slow = self::bucket(1, None);
        let turn = slow.take(0, u64::MAX).unwrap();
        assert_eq!(slow.wait_us(0, turn), u64::MAX);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_pace_since_go(
            per_second in 1_u64..50, burst in 1_u64..20, steps in prop::collection::vec((0_u64..400_000, 1_u64..5), 1..60)
        ) {
            let bucket = bucket(per_second, Some(burst));
            let (mut now_us, mut gone, mut waiting) = (0, 0_u64, std::collections::VecDeque::new());
            for (passed_us, tokens) in steps {
                now_us += passed_us;
                waiting.push_back((bucket.take(now_us, tokens).unwrap(), tokens));
                while let Some((turn, tokens)) = waiting.front().copied() && bucket.wait_us(now_us, turn) == 0 {
                    gone += tokens;
                    waiting.pop_front();
                }
                prop_assert!(gone * SECOND_US <= burst * SECOND_US + per_second * now_us);
            }
            // Everybody's turn comes, when it was said to.
            if let Some((last, _)) = waiting.back().copied() {
                let wait_us = bucket.wait_us(now_us, last);
                prop_assert!(wait_us > 0 && bucket.wait_us(now_us + wait_us, last) == 0);
            }
        }
    }
}
