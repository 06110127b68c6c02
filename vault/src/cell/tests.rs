use retrace_access::Secret;

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fetched(password: &str, login: u64, login_ends_at: Option<Instant>) -> Fetched<()> {
    Fetched {
        credential: Credential {
            user: "shop".to_owned(),
            password: Secret::new(password.as_bytes().to_vec()),
        },
        fresh_for: None,
        lease: None,
        login,
        login_ends_at,
        holds: (),
    }
}

/// A cell, and what it said since it was last asked.
struct Bench {
    cell: Cell<()>,
    start: Instant,
}

impl Bench {
    fn new(login_ends_in: Option<Duration>) -> Self {
        let start = Instant::now();
        let first = fetched("one", 0, login_ends_in.map(|left| start + left));
        Self { cell: Cell::new(start, first, Backoff::new(1)), start }
    }

    /// What it says to this, `ms` milliseconds after the start.
    fn tell(&mut self, ms: u64, input: Input<()>) -> Vec<String> {
        self.cell.handle(self.start + Duration::from_millis(ms), input);
        let said = std::iter::from_fn(|| self.cell.poll_output()).map(|output| match output {
            Output::Fetch => "fetch".to_owned(),
            Output::Lend { asker, credential, edition } => {
                format!("{asker}: {}/{edition}", String::from_utf8_lossy(credential.password.expose()))
            }
            Output::Refuse { asker, why: NoCredential::Unavailable } => format!("{asker}: unavailable"),
            Output::Refuse { asker, why: NoCredential::Refused } => format!("{asker}: refused"),
            Output::NoOther { asker } => format!("{asker}: no other"),
            output => panic!("{output:?}"),
        });
        said.collect()
    }

    fn deadline_ms(&self) -> u128 {
        self.cell.poll_deadline().expect("there is one").duration_since(self.start).as_millis()
    }
}

fn asked(asker: Asker, refused: Option<u64>) -> Input<()> {
    Input::Asked { asker, refused }
}

const NOTHING: [&str; 0] = [];

#[test]
fn what_is_in_hand_is_lent_at_once_and_looked_at_every_minute() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.tell(5_000, asked(1, None)), ["1: one/1"]);
    assert_eq!(bench.deadline_ms(), 60_000);
    assert_eq!(bench.tell(60_000, Input::Time), ["fetch"]);
    assert_eq!(bench.tell(60_010, asked(2, None)), ["2: one/1"], "nobody waits for it");
    assert_eq!(bench.tell(60_020, Input::Fetched(Ok(fetched("two", 0, None)))), NOTHING);
    assert_eq!(bench.tell(60_030, asked(3, None)), ["3: two/2"]);
    assert_eq!(bench.deadline_ms(), 120_020);
    assert_eq!(bench.cell.editions(), 2);
}

#[test]
fn a_refused_one_is_looked_at_again_and_another_one_is_lent() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.tell(5_000, asked(1, Some(1))), ["fetch"]);
    assert_eq!(bench.tell(5_010, asked(2, Some(1))), NOTHING);
    let said = bench.tell(5_020, Input::Fetched(Ok(fetched("two", 0, None))));
    assert_eq!(said, ["1: two/2", "2: two/2"], "a later one has it as well");
    assert_eq!(bench.tell(5_030, asked(3, Some(1))), ["3: two/2"]);
}

#[test]
fn what_was_fetched_before_the_refusal_proves_nothing_and_there_is_one_look_a_second() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.tell(5_000, asked(1, Some(1))), ["fetch"]);
    assert_eq!(bench.tell(5_010, asked(2, Some(1))), NOTHING, "the look began before");
    assert_eq!(bench.tell(5_020, Input::Fetched(Ok(fetched("one", 0, None)))), ["1: no other"]);
    assert_eq!(bench.deadline_ms(), 6_000);
    assert_eq!(bench.tell(6_000, Input::Time), ["fetch"]);
    assert_eq!(bench.tell(6_010, Input::Fetched(Ok(fetched("two", 0, None)))), ["2: two/2"]);
}

#[test]
fn a_right_that_is_withdrawn_counts_no_more_at_once() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.tell(60_000, Input::Time), ["fetch"]);
    assert_eq!(bench.tell(60_010, Input::Fetched(Err(Failure::Withdrawn))), NOTHING);
    assert_eq!(bench.cell.lends_until(), None);
    assert_eq!(bench.tell(60_100, asked(1, None)), NOTHING);
    assert_eq!(bench.deadline_ms(), 61_000, "whoever waits hurries it");
    assert_eq!(bench.tell(61_000, Input::Time), ["fetch"]);
    assert_eq!(bench.tell(61_010, Input::Fetched(Err(Failure::Withdrawn))), ["1: refused"]);
    assert_eq!(bench.tell(62_000, asked(2, None)), ["fetch"]);
    assert_eq!(bench.tell(62_010, Input::Fetched(Ok(fetched("one", 0, None)))), ["2: one/2"]);
}

#[test]
fn while_the_store_is_away_what_is_in_hand_counts_until_its_login_ends() {
    let mut bench = Bench::new(Some(s(100)));
    assert_eq!(bench.tell(60_000, Input::Time), ["fetch"]);
    assert_eq!(bench.tell(60_010, Input::Fetched(Err(Failure::Passes(None)))), NOTHING);
    assert_eq!(bench.tell(60_020, asked(1, None)), ["1: one/1"]);
    assert_eq!(bench.tell(61_500, asked(2, Some(1))), ["fetch"]);
    assert_eq!(bench.tell(61_600, Input::Fetched(Err(Failure::Passes(None)))), ["2: no other"]);
    assert_eq!(bench.tell(99_999, asked(3, None))[0], "3: one/1");
    bench.tell(99_999, Input::Fetched(Err(Failure::Passes(None))));
    assert_eq!(bench.cell.lends_until(), Some(Some(bench.start + s(100))));
    assert_eq!(bench.tell(100_000, asked(4, None)), NOTHING, "and no longer");
    assert_eq!(bench.tell(101_000, Input::Time), ["fetch"]);
    assert_eq!(bench.tell(101_010, Input::Fetched(Err(Failure::Passes(None)))), ["4: unavailable"]);
}

#[test]
fn a_login_that_is_renewed_or_dead_moves_the_end() {
    let mut bench = Bench::new(Some(s(30)));
    let later = Some(bench.start + s(50));
    assert_eq!(bench.tell(20_000, Input::LoginEnds { login: 0, at: later }), NOTHING);
    assert_eq!(bench.tell(40_000, asked(1, None)), ["1: one/1"]);
    let dead = Some(bench.start + s(41));
    assert_eq!(bench.tell(41_000, Input::LoginEnds { login: 1, at: dead }), NOTHING, "of another one");
    assert_eq!(bench.tell(41_000, asked(2, None)), ["2: one/1"]);
    assert_eq!(bench.tell(41_000, Input::LoginEnds { login: 0, at: dead }), NOTHING);
    assert_eq!(bench.cell.lends_until(), None);
}

#[test]
fn a_new_login_takes_it_over() {
    let mut bench = Bench::new(Some(s(30)));
    assert_eq!(bench.tell(20_000, Input::NewLogin), ["fetch"]);
    let of_next = fetched("one", 1, Some(bench.start + s(90)));
    assert_eq!(bench.tell(20_010, Input::Fetched(Ok(of_next))), NOTHING);
    assert_eq!(bench.tell(40_000, asked(1, None)), ["1: one/1"], "the same edition");
}

#[test]
fn a_password_that_the_store_changes_is_looked_at_when_it_has() {
    let mut bench = Bench::new(None);
    let soon = Fetched { fresh_for: Some(s(10)), ..fetched("one", 0, None) };
    bench.tell(60_000, Input::Time);
    bench.tell(60_000, Input::Fetched(Ok(soon)));
    assert_eq!(bench.deadline_ms(), 71_000);
    let late = Fetched { fresh_for: Some(s(3_600)), ..fetched("one", 0, None) };
    bench.tell(71_000, Input::Time);
    bench.tell(71_000, Input::Fetched(Ok(late)));
    assert_eq!(bench.deadline_ms(), 131_000);
}
