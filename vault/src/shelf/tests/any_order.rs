//! Whatever happens in whatever order: what ends is not lent; each fetch and renewal is asked for once; terms go forward; each
//! asker has one answer; and in the end each lease that was made has gone back once, or has ended.

use super::*;

/// How many things happen, and after how many nobody asks any more.
const ROUNDS: u64 = 600;
const CLOSED_AFTER: u64 = 500;

/// Numbers that any order of events is made of (SplitMix64; Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What a shelf has said so far, and what it is owed.
struct World {
    bench: Bench,
    dice: Dice,
    at: u64,
    askers: u64,
    waiting: Vec<Asker>,
    fetching: usize,
    renewing: Vec<u64>,
    lent: Vec<u64>,
    told: BTreeMap<u64, String>,
    revoked: Vec<u64>,
}

impl World {
    fn new(lending: Lending, seed: u64) -> Self {
        Self {
            bench: Bench::empty(lending),
            dice: Dice(seed),
            at: 0,
            askers: 0,
            waiting: Vec::new(),
            fetching: 0,
            renewing: Vec::new(),
            lent: Vec::new(),
            told: BTreeMap::new(),
            revoked: Vec::new(),
        }
    }

    /// What happens next.
    fn input(&mut self, round: u64) -> Input<u64> {
        self.at += self.dice.below(12);
        match self.dice.below(10) {
            _ if round == CLOSED_AFTER => Input::Closed,
            0..=2 if round < CLOSED_AFTER => {
                self.askers += 1;
                self.waiting.push(self.askers);
                let refused = self.lent.last().copied().filter(|_| self.dice.below(4) == 0);
                Input::Asked { asker: self.askers, refused }
            }
            3 if self.fetching > 0 => {
                self.fetching -= 1;
                Input::Fetched(Err(if self.dice.below(2) == 0 { AWAY } else { Failure::Withdrawn }))
            }
            4 | 5 if self.fetching > 0 => {
                self.fetching -= 1;
                Input::Fetched(Ok(self.bench.lease(self.at)))
            }
            6 if !self.renewing.is_empty() => {
                let edition = self.renewing.swap_remove(0);
                let outcome = match self.dice.below(5) {
                    0 => Renewal::Gone,
                    1 => Renewal::Denied,
                    2 => Renewal::Passes(None),
                    _ => longer(self.dice.below(TERM + 1)),
                };
                Input::Renewed { edition, asked_at: self.bench.at(self.at), outcome }
            }
            9 if !self.waiting.is_empty() => Input::Gone { asker: self.waiting.swap_remove(0) },
            7 | 8 if !self.lent.is_empty() => {
                let which = usize::try_from(self.dice.below(self.lent.len() as u64)).unwrap();
                Input::Returned { edition: self.lent.swap_remove(which) }
            }
            _ => Input::Time,
        }
    }

    /// Takes what the shelf said, and checks that it may say it.
    fn note(&mut self, said: &str) {
        let words: Vec<_> = said.split(' ').collect();
        let number = |word: &str| word.trim_end_matches(':').parse::<u64>();
        match words[..] {
            ["fetch"] => self.fetching += 1,
            ["renew", edition] => {
                let edition = number(edition).unwrap();
                assert!(!self.renewing.contains(&edition) && self.lent.contains(&edition), "{said}");
                self.renewing.push(edition);
            }
            ["revoke", holds] => {
                let holds = number(holds).unwrap();
                assert!(!self.revoked.contains(&holds) && !self.lent.contains(&holds), "{said}");
                self.revoked.push(holds);
            }
            [edition, "is", term] => {
                let before = self.told.insert(number(edition).unwrap(), term.to_owned());
                assert!(before.as_deref() != Some("Over") && before.as_deref() != Some(term), "{said}");
            }
            [asker, answer, ..] => {
                let asker = number(asker).unwrap();
                let place = self.waiting.iter().position(|one| *one == asker);
                self.waiting.swap_remove(place.unwrap_or_else(|| panic!("{said}, and before")));
                if let Ok(edition) = number(answer) {
                    assert!(!self.told.contains_key(&edition) && !self.revoked.contains(&edition), "{said}");
                    self.lent.push(edition);
                }
            }
            _ => panic!("{said}"),
        }
    }

    /// Lets everything come to its end.
    fn end(mut self) {
        for edition in std::mem::take(&mut self.renewing) {
            self.bench.renewed(self.at, edition, Renewal::Denied);
        }
        for _ in 0..self.fetching {
            self.bench.fail(self.at, AWAY);
        }
        for edition in std::mem::take(&mut self.lent) {
            self.bench.back(self.at, edition);
        }
        assert_eq!((self.bench.shelf.leases(), self.bench.shelf.poll_deadline()), (0, None));
    }
}

#[test]
fn in_any_order_of_events_nothing_is_lent_that_ends_and_nothing_is_kept() {
    for seed in 0..1_000 {
        let (lending, fetches_max) =
            if seed % 2 == 0 { (Lending::Shared, 1) } else { (Lending::Session, FETCHES_MAX) };
        let mut world = World::new(lending, seed);
        for round in 0..ROUNDS {
            let input = world.input(round);
            for said in world.bench.tell(world.at, input) {
                world.note(&said);
            }
            assert!(world.fetching <= fetches_max, "seed {seed}: {} at once", world.fetching);
        }
        world.end();
    }
}
