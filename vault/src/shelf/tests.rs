use retrace_access::Secret;

use super::*;

mod any_order;

/// The first term of the leases here, and the most they live, in seconds.
const TERM: u64 = 100;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A shelf, and a store that gives what it asks for when it is told to.
struct Bench {
    shelf: Shelf<u64>,
    start: Instant,
    /// Of leases that were made.
    made: u64,
}

impl Bench {
    fn empty(lending: Lending) -> Self {
        let start = Instant::now();
        Self { shelf: Shelf::new(start, lending, None, Backoff::new(1)), start, made: 0 }
    }

    /// With the first lease, which was asked for at the start.
    fn shared() -> Self {
        let mut bench = Self::empty(Lending::Shared);
        let first = bench.lease(0);
        bench.shelf = Shelf::new(bench.start, Lending::Shared, Some(first), Backoff::new(1));
        bench
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + s(seconds)
    }

    fn lease(&mut self, at: u64) -> Fetched<u64> {
        self.made += 1;
        let user = format!("role-{}", self.made);
        Fetched {
            credential: Credential { user, password: Secret::new(b"canary".to_vec()) },
            fresh_for: None,
            lease: Some(Lease { asked_at: self.at(at), term: s(TERM), renewable: true }),
            login: 0,
            login_ends_at: None,
            holds: self.made,
        }
    }

    /// What it says to this, so many seconds after the start.
    fn tell(&mut self, at: u64, input: Input<u64>) -> Vec<String> {
        self.shelf.handle(self.at(at), input);
        let said = std::iter::from_fn(|| self.shelf.poll_output()).map(|output| match output {
            Output::Fetch => "fetch".to_owned(),
            Output::Renew { edition } => format!("renew {edition}"),
            Output::Revoke { holds } => format!("revoke {holds}"),
            Output::Tell { edition, term } => format!("{edition} is {term:?}"),
            Output::Lend { asker, credential, edition } => {
                assert_eq!(credential.user, format!("role-{edition}"));
                format!("{asker}: {edition}")
            }
            Output::Refuse { asker, why } => format!("{asker}: {why:?}"),
            Output::NoOther { asker } => format!("{asker}: no other"),
        });
        said.collect()
    }

    fn ask(&mut self, at: u64, asker: Asker) -> Vec<String> {
        self.tell(at, Input::Asked { asker, refused: None })
    }

    fn time(&mut self, at: u64) -> Vec<String> {
        self.tell(at, Input::Time)
    }

    fn back(&mut self, at: u64, edition: u64) -> Vec<String> {
        self.tell(at, Input::Returned { edition })
    }

    /// The store gives a lease.
    fn give(&mut self, at: u64) -> Vec<String> {
        let lease = self.lease(at);
        self.tell(at, Input::Fetched(Ok(lease)))
    }

    fn fail(&mut self, at: u64, failure: Failure) -> Vec<String> {
        self.tell(at, Input::Fetched(Err(failure)))
    }

    fn renewed(&mut self, at: u64, edition: u64, outcome: Renewal) -> Vec<String> {
        self.tell(at, Input::Renewed { edition, asked_at: self.at(at), outcome })
    }

    fn deadline(&self) -> u64 {
        self.shelf.poll_deadline().expect("there is one").duration_since(self.start).as_secs()
    }
}

const NOTHING: [&str; 0] = [];
const AWAY: Failure = Failure::Passes(None);

fn longer(seconds: u64) -> Renewal {
    Renewal::For { term: s(seconds), renewable: true }
}

#[test]
fn one_lease_serves_all_for_two_thirds_of_its_term_and_then_another_one_does() {
    let mut bench = Bench::shared();
    assert_eq!((bench.ask(1, 1), bench.ask(2, 2)), (vec!["1: 1".to_owned()], vec!["2: 1".to_owned()]));
    assert_eq!(bench.deadline(), 66);
    assert_eq!(bench.time(67), ["fetch", "renew 1"]);
    assert_eq!(bench.ask(67, 3), ["3: 1"], "until the other one is there");
    assert_eq!(bench.give(68), NOTHING);
    assert_eq!(bench.ask(69, 4), ["4: 2"]);
    assert_eq!(bench.renewed(69, 1, longer(TERM)), NOTHING);
    assert_eq!((bench.back(70, 1), bench.back(70, 1)), (vec![], vec![]));
    assert_eq!(bench.back(70, 1), ["revoke 1"], "nobody has it any more");
    assert_eq!((bench.shelf.leases(), bench.shelf.editions()), (1, 2));
}

#[test]
fn one_is_kept_ready_and_not_renewed_while_nobody_has_it() {
    let mut bench = Bench::shared();
    assert_eq!(bench.time(67), ["fetch"]);
    assert_eq!(bench.give(67), ["revoke 1"]);
    assert_eq!(bench.deadline(), 67 + 66);
}

#[test]
fn an_old_lease_is_renewed_for_who_has_it_up_to_the_most_that_it_may_live() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    bench.time(67);
    bench.give(67);
    assert_eq!(bench.renewed(67, 1, longer(TERM - 1)), NOTHING, "seconds are cut off");
    assert_eq!(bench.time(133), ["renew 1"]);
    assert_eq!(bench.renewed(133, 1, longer(40)), NOTHING);
    assert_eq!(bench.time(134), ["fetch"], "the second one is to be replaced meanwhile");
    // 40 seconds are less than the term: the end has come in sight.
    assert_eq!(bench.give(134), ["revoke 2"]);
    assert_eq!(bench.time(152), NOTHING);
    assert_eq!(bench.deadline(), 153, "a fifth of the term before the end at 173");
    assert_eq!(bench.time(153), ["1 is Ending"]);
    assert_eq!(bench.time(168), ["1 is Over"]);
    assert_eq!(bench.back(169, 1), ["revoke 1"]);
}

#[test]
fn what_ends_by_itself_is_not_given_back() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    bench.time(67);
    bench.give(67);
    bench.renewed(67, 1, Renewal::Denied);
    assert_eq!(bench.time(80), ["1 is Ending"]);
    assert_eq!(bench.time(95), ["1 is Over"]);
    assert_eq!(bench.back(101, 1), NOTHING);
    assert_eq!(bench.shelf.leases(), 1);
}

#[test]
fn a_lease_that_the_store_let_go_of_ends_its_sessions_at_once() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    bench.time(67);
    bench.give(67);
    assert_eq!(bench.renewed(68, 1, Renewal::Gone), ["1 is Over"]);
    assert_eq!(bench.back(68, 1), NOTHING);
}

#[test]
fn while_the_store_is_away_the_lease_is_lent_up_to_its_last_fifth_and_then_none_is() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    assert_eq!(bench.time(67), ["fetch", "renew 1"]);
    assert_eq!(bench.fail(67, AWAY), NOTHING);
    assert_eq!(bench.renewed(67, 1, Renewal::Passes(None)), NOTHING);
    assert_eq!(bench.ask(79, 2)[0], "2: 1");
    assert_eq!(bench.shelf.lends_until(), Some(Some(bench.at(80))));
    bench.fail(79, AWAY);
    bench.renewed(79, 1, Renewal::Passes(None));
    assert_eq!(bench.ask(81, 3), ["1 is Ending", "fetch"]);
    assert_eq!(bench.fail(82, AWAY), ["3: Unavailable"]);
    assert_eq!(bench.shelf.lends_until(), None);
    assert_eq!(bench.ask(82, 4), NOTHING, "not more than once a second");
    assert_eq!(bench.deadline(), 83);
    assert_eq!(bench.time(83), ["fetch"]);
    assert_eq!(bench.give(83), ["4: 2"]);
    assert_eq!(bench.renewed(84, 1, longer(TERM)), NOTHING, "what was told is not taken back");
    assert_eq!(bench.ask(84, 5), ["5: 2"]);
}

#[test]
fn a_right_that_is_taken_back_lends_no_more() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    bench.time(67);
    assert_eq!(bench.fail(67, Failure::Withdrawn), NOTHING);
    assert_eq!(bench.ask(68, 2), ["fetch"]);
    assert_eq!(bench.fail(68, Failure::Withdrawn), ["2: Refused"]);
}

#[test]
fn a_lease_that_the_target_refuses_is_replaced_and_not_over_and_over() {
    let mut bench = Bench::shared();
    assert_eq!(bench.ask(1, 1), ["1: 1"]);
    let refused = |edition| Input::Asked { asker: 2, refused: Some(edition) };
    assert_eq!(bench.tell(2, refused(1)), ["fetch"]);
    assert_eq!(bench.give(2), ["2: 2"]);
    assert_eq!(bench.back(2, 1), ["revoke 1"]);
    assert_eq!(bench.tell(3, refused(1)), ["2: 2"], "it has been replaced already");
    assert_eq!(bench.tell(4, refused(2)), ["2: no other"]);
    assert_eq!(bench.tell(12, refused(2)), ["fetch"]);
}

#[test]
fn a_lease_dies_with_its_login_and_a_new_login_replaces_it() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    assert_eq!(bench.tell(10, Input::NewLogin), ["fetch"]);
    let of_next = Fetched { login: 1, ..bench.lease(10) };
    assert_eq!(bench.tell(10, Input::Fetched(Ok(of_next))), NOTHING);
    let at = Some(bench.at(50));
    assert_eq!(bench.tell(11, Input::LoginEnds { login: 0, at }), NOTHING);
    assert_eq!(bench.time(30), ["1 is Ending"]);
    assert_eq!(bench.time(45), ["1 is Over"]);
    assert_eq!(bench.ask(46, 2), ["2: 2"]);
    let dead = Some(bench.at(47));
    assert_eq!(bench.tell(47, Input::LoginEnds { login: 1, at: dead }), ["2 is Over", "fetch"]);
}

#[test]
fn a_session_has_a_lease_of_its_own_that_goes_with_it() {
    let mut bench = Bench::empty(Lending::Session);
    assert_eq!((bench.ask(1, 1), bench.ask(1, 2)), (vec!["fetch".to_owned()], vec!["fetch".to_owned()]));
    assert_eq!((bench.give(2), bench.give(2)), (vec!["1: 1".to_owned()], vec!["2: 2".to_owned()]));
    assert_eq!(bench.back(10, 1), ["revoke 1"]);
    assert_eq!(bench.time(69), ["renew 2"]);
    assert_eq!(bench.renewed(69, 2, longer(TERM)), NOTHING);
    assert_eq!(bench.ask(70, 3), ["fetch"]);
    assert_eq!(bench.fail(70, AWAY), ["3: Unavailable"], "nobody else's failure");
    assert_eq!(bench.ask(70, 4), NOTHING);
    assert_eq!(bench.time(71), ["fetch"]);
    // Whoever asked went away: what was made for them is made for the next one, or goes back.
    assert_eq!(bench.give(71), ["4: 3"]);
    assert_eq!(bench.back(71, 3), ["revoke 3"]);
    assert_eq!(bench.back(72, 2), ["revoke 2"]);
    assert_eq!(bench.shelf.leases(), 0);
}

#[test]
fn nothing_is_made_for_who_has_gone_while_the_store_was_away() {
    for lending in [Lending::Session, Lending::Shared] {
        let mut bench = Bench::empty(lending);
        assert_eq!(bench.ask(1, 1), ["fetch"]);
        let more = if lending == Lending::Session { vec!["fetch".to_owned()] } else { vec![] };
        assert_eq!(bench.ask(1, 2), more);
        assert_eq!(bench.tell(2, Input::Gone { asker: 1 }), NOTHING);
        assert_eq!(bench.tell(2, Input::Gone { asker: 2 }), NOTHING);
        assert_eq!(bench.tell(2, Input::Gone { asker: 3 }), NOTHING, "nobody knows it");
        assert_eq!(bench.fail(3, AWAY), NOTHING);
    }
    let mut own = Bench::empty(Lending::Session);
    own.ask(1, 1);
    own.tell(2, Input::Gone { asker: 1 });
    assert_eq!(own.give(3), ["revoke 1"], "what was asked for goes back");
    assert_eq!((own.shelf.leases(), own.shelf.poll_deadline()), (0, None));
}

#[test]
fn a_lease_of_no_time_goes_back_and_is_lent_to_nobody() {
    for lending in [Lending::Session, Lending::Shared] {
        let mut bench = Bench::empty(lending);
        assert_eq!(bench.ask(1, 1), ["fetch"]);
        let mut of_no_time = bench.lease(1);
        of_no_time.lease = of_no_time.lease.map(|lease| Lease { term: Duration::ZERO, ..lease });
        assert_eq!(bench.tell(2, Input::Fetched(Ok(of_no_time))), ["revoke 1", "1: Unavailable"]);
        assert_eq!(bench.shelf.leases(), 0);
    }
}

#[test]
fn a_renewal_that_fails_again_and_again_delays_no_other() {
    let mut bench = Bench::empty(Lending::Session);
    bench.ask(1, 1);
    bench.ask(1, 2);
    bench.give(2);
    bench.give(2);
    assert_eq!(bench.time(69), ["renew 1", "renew 2"]);
    for (failed_at, again_at) in [(69, 70), (70, 72), (72, 76)] {
        assert_eq!(bench.renewed(failed_at, 1, Renewal::Passes(None)), NOTHING);
        assert_eq!(bench.time(again_at), ["renew 1"]);
    }
    assert_eq!(bench.renewed(76, 2, Renewal::Passes(None)), NOTHING);
    assert_eq!(bench.time(77), ["renew 2"], "it has failed once");
}

#[test]
fn nothing_is_made_for_who_asks_no_more() {
    let mut bench = Bench::shared();
    bench.ask(1, 1);
    assert_eq!(bench.tell(2, Input::Closed), NOTHING, "a session has it");
    assert_eq!(bench.time(67), ["renew 1"]);
    bench.renewed(67, 1, longer(TERM));
    assert_eq!(bench.back(70, 1), ["revoke 1"]);
    assert_eq!((bench.shelf.leases(), bench.shelf.poll_deadline()), (0, None));
    let mut idle = Bench::shared();
    assert_eq!(idle.tell(2, Input::Closed), ["revoke 1"]);
}

#[test]
fn asks_at_once_are_bounded() {
    let mut bench = Bench::empty(Lending::Session);
    let fetches: usize = (0..100).map(|asker| bench.ask(1, asker).len()).sum();
    assert_eq!(fetches, FETCHES_MAX);
    assert_eq!(bench.give(2), ["0: 1", "fetch"]);
}
