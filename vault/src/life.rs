//! How long a token lives, and what keeps it alive. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds are cut off on the way, so that one less is the same.
const CUT_OFF: Duration = Duration::from_secs(1);

/// What is known of a token's life.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// When it was granted or renewed, and for how long; `None` if it does not end.
    term: Option<(Instant, Duration)>,
    renewable: bool,
    /// Whether a renewal brought less than it should: then the most that it may live is reached.
    at_most: bool,
    /// Whether the gate logs in by itself, and so can have another one.
    is_own: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Renew it.
    Renew,
    /// Log in, before it ends.
    LogIn,
}

impl Life {
    /// A token that was asked for at `asked_at`. A term of nothing is none: that is how Vault says it of a root token.
    pub(crate) fn new(asked_at: Instant, term: Duration, renewable: bool, is_own: bool) -> Self {
        Self { term: (!term.is_zero()).then_some((asked_at, term)), renewable, at_most: false, is_own }
    }

    /// When it ends; `None` if it does not. It counts from before the request, so never for too long.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.term.map(|(from, term)| from + term)
    }

    /// What keeps the gate logged in, and when: two thirds of the way, as Vault's own clients do it.
    pub(crate) fn next(&self) -> Option<(Instant, Due)> {
        let (from, term) = self.term?;
        match (self.renewable && !self.at_most, self.is_own) {
            (true, _) => Some((from + term * 2 / 3, Due::Renew)),
            // What is left of it is for logging in.
            (false, true) if self.at_most => Some((from, Due::LogIn)),
            (false, true) => Some((from + term * 2 / 3, Due::LogIn)),
            (false, false) => None,
        }
    }

    /// It was renewed. There is no error at the end of what it may live: the term is shorter than it was.
    pub(crate) fn renewed(&mut self, asked_at: Instant, term: Duration, renewable: bool) {
        let Some((_, before)) = self.term else { return };
        self.at_most = term + CUT_OFF < before;
        self.renewable = renewable;
        // Of a given token the rest was known, which is less than its whole term.
        self.term = Some((asked_at, term));
    }

    /// It is dead before its time.
    pub(crate) fn ended(&mut self, now: Instant) {
        self.term = Some((now, Duration::ZERO));
        self.at_most = true;
    }

    /// It is not renewable: its policy lacks the right, or it is of a kind that is not.
    pub(crate) fn not_renewable(&mut self) {
        self.renewable = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_periodic_token_is_renewed_for_ever() {
        let start = Instant::now();
        let mut life = Life::new(start, s(30), true, true);
        for round in 0..5 {
            let at = start + s(20) * round;
            assert_eq!(life.next(), Some((at + s(20), Due::Renew)));
            assert_eq!(life.ends_at(), Some(at + s(30)));
            // Seconds are cut off.
            life.renewed(at + s(20), s(29) + s(u64::from(round % 2)), true);
            life.renewed(at + s(20), s(30), true);
        }
    }

    #[test]
    fn one_at_its_most_makes_place_for_another_before_it_ends() {
        let start = Instant::now();
        let mut life = Life::new(start, s(10), true, true);
        life.renewed(start + s(6), s(10), true);
        assert_eq!(life.next().map(|next| next.1), Some(Due::Renew));
        life.renewed(start + s(12), s(4), true);
        assert_eq!(life.next(), Some((start + s(12), Due::LogIn)), "at once");
        assert_eq!(life.ends_at(), Some(start + s(16)));
    }

    #[test]
    fn one_that_cannot_be_renewed_is_replaced_if_the_gate_can_log_in() {
        let start = Instant::now();
        assert_eq!(Life::new(start, s(30), false, true).next(), Some((start + s(20), Due::LogIn)));
        assert_eq!(Life::new(start, s(30), false, false).next(), None);
        let mut denied = Life::new(start, s(30), true, true);
        denied.not_renewable();
        assert_eq!(denied.next(), Some((start + s(20), Due::LogIn)));
        denied.ended(start + s(1));
        assert_eq!((denied.next(), denied.ends_at()), (Some((start + s(1), Due::LogIn)), Some(start + s(1))));
        let root = Life::new(start, s(0), false, false);
        assert_eq!((root.next(), root.ends_at()), (None, None));
    }
}
