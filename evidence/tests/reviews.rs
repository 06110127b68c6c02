//! Reviews by their records: whose decision counts, for how long a grant is good, and that one run has it.

use bytes::Bytes;
use proptest::prelude::*;
use retrace_evidence::{
    Order, Person, Review, ReviewDecision, ReviewRequest, ReviewStatus, ReviewTerms, Reviewer, Reviews, Run,
    SigningKey, Written, sign_decision,
};
use retrace_proto::{Id, wire};

const MINUTE_US: i64 = 60_000_000;
const START_US: i64 = 1_800_000_000_000_000;

fn id(last: u8) -> Id {
    Id::from_parts(1_800_000_000_000, [last; 10])
}

/// Ann, who has two accounts, Bob and Cy review; `bot` is Ann's agent and has got into the group.
fn people(name: &str) -> Option<Person> {
    let (identity, is_human, group) = match name {
        "ann" | "ann-admin" => ("ann", true, "dba"),
        "bot" => ("ann", false, "dba"),
        "bob" => ("bob", true, "dba"),
        "cy" => ("cy", true, "sec"),
        "jo" => ("jo", true, "dev"),
        _ => return None,
    };
    let (identity, groups) = (identity.to_owned(), vec![group.to_owned()]);
    Some(Person { identity, is_human, groups, review_key: None })
}

fn terms(rule: &str, group: &str, approvals: usize) -> ReviewTerms {
    ReviewTerms {
        rule: rule.to_owned(),
        text: "think twice".to_owned(),
        reviewers: vec![Reviewer::Group(group.to_owned())],
        approvals,
        reason_required: false,
    }
}

fn request(review: u8) -> ReviewRequest {
    ReviewRequest {
        review_id: id(review),
        run: Run { stream_id: id(100), command_seq: 7 },
        chunks: 0,
        last_hash: Bytes::from_static(&[1; 32]),
        bound_to: ("key".to_owned(), Bytes::from_static(&[2; 32])),
        terms: vec![terms("ddl", "dba", 1)],
        wait_us: MINUTE_US,
        open_us: 60 * MINUTE_US,
        grant_us: 15 * MINUTE_US,
        once: true,
        in_transaction: false,
        said_seqs: Vec::new(),
        said: 0,
    }
}

/// A control topic of one partition.
#[derive(Default)]
struct Topic {
    reviews: Reviews,
    offset: u64,
}

impl Topic {
    /// Writes a record so many minutes after the start, by somebody.
    fn write(&mut self, minutes: i64, by: &str, order: Order) -> bool {
        self.write_in(0, minutes, by, order)
    }

    fn write_in(&mut self, partition: u32, minutes: i64, by: &str, order: Order) -> bool {
        let control = wire::ControlReference {
            topic: "retrace.control".to_owned(),
            partition,
            offset: self.offset,
            hash: hash(self.offset),
        };
        self.offset += 1;
        let written = Written {
            control,
            appended_at_unix_us: START_US + minutes * MINUTE_US,
            principal: wire::Principal { name: by.to_owned(), ..wire::Principal::default() },
            session_id: None,
            target: "shop".to_owned(),
            sealed: Bytes::new(),
        };
        self.reviews.read(&order, written).is_some()
    }

    fn request(&mut self, by: &str) {
        self.request_with(by, |_| {});
    }

    fn request_with(&mut self, by: &str, change: impl FnOnce(&mut ReviewRequest)) {
        let mut request = request(1);
        change(&mut request);
        assert!(self.write(0, by, Order::RequestReview(Box::new(request))));
    }

    fn decide(&mut self, minutes: i64, by: &str, approves: bool) -> bool {
        self.write(minutes, by, decision(approves, ""))
    }

    fn review(&self) -> &Review {
        self.reviews.get(id(1)).expect("it was asked for")
    }

    fn state(&self, minutes: i64) -> &'static str {
        match self.review().status(START_US + minutes * MINUTE_US, people) {
            ReviewStatus::Open => "open",
            ReviewStatus::Granted { .. } => "granted",
            ReviewStatus::Rejected { .. } => "rejected",
            ReviewStatus::Withdrawn => "withdrawn",
            ReviewStatus::Lapsed => "lapsed",
            ReviewStatus::Expired => "expired",
            ReviewStatus::Used { .. } => "used",
        }
    }
}

fn hash(offset: u64) -> Bytes {
    Bytes::from(vec![u8::try_from(offset % 256).expect("a remainder"); 32])
}

/// About the record at offset 0.
fn decision(approves: bool, reason: &str) -> Order {
    let reason = reason.to_owned();
    let requested_hash = hash(0);
    Order::DecideReview(ReviewDecision {
        review_id: id(1),
        requested_hash,
        approves,
        reason,
        signature: None,
    })
}

fn claim(stream: u8) -> Order {
    Order::UseGrant { review_id: id(1), run: Run { stream_id: id(stream), command_seq: 7 } }
}

#[test]
fn an_approval_in_time_grants_for_a_time() {
    let mut topic = Topic::default();
    topic.request("jo");
    assert_eq!((topic.state(0), topic.state(60), topic.state(61)), ("open", "open", "lapsed"));
    topic.decide(60, "bob", true);
    assert_eq!((topic.state(75), topic.state(76)), ("granted", "expired"));
    let mut late = Topic::default();
    late.request("jo");
    late.decide(61, "bob", true);
    assert_eq!(late.state(61), "lapsed");
}

#[test]
fn nobody_decides_about_what_is_their_own_by_whichever_account() {
    for (requester, decider, counts) in [
        ("jo", "bob", true),
        ("jo", "jo", false),
        ("jo", "cy", false),
        ("jo", "bot", false),
        ("jo", "stranger", false),
        ("ann", "ann", false),
        ("ann", "ann-admin", false),
        ("ann-admin", "ann", false),
        ("ann", "bot", false),
        ("bot", "ann", false),
        ("bot", "ann-admin", false),
        ("bot", "bot", false),
        ("bot", "bob", true),
    ] {
        for approves in [true, false] {
            let mut topic = Topic::default();
            topic.request(requester);
            topic.decide(1, decider, approves);
            let expected = match (counts, approves) {
                (false, _) => "open",
                (true, true) => "granted",
                (true, false) => "rejected",
            };
            assert_eq!(topic.state(1), expected, "{requester} by {decider}");
            assert_eq!(topic.review().terms_for(decider, people).is_empty(), !counts);
        }
    }
}

#[test]
fn on_whose_behalf_it_was_is_known_though_the_configuration_has_forgotten() {
    let mut topic = Topic::default();
    let order = Order::RequestReview(Box::new(request(1)));
    let principal = wire::Principal {
        name: "gone".to_owned(),
        on_behalf_of: "ann-admin".to_owned(),
        ..wire::Principal::default()
    };
    let control = wire::ControlReference { hash: hash(0), ..wire::ControlReference::default() };
    let written = Written {
        control,
        appended_at_unix_us: START_US,
        principal,
        session_id: None,
        target: "shop".to_owned(),
        sealed: Bytes::new(),
    };
    topic.reviews.read(&order, written);
    topic.offset = 1;
    topic.decide(1, "ann", true);
    assert_eq!(topic.state(1), "open");
    topic.decide(2, "bob", true);
    assert_eq!(topic.state(2), "granted");
}

#[test]
fn so_many_people_are_so_many_people() {
    let mut topic = Topic::default();
    topic.request_with("jo", |request| request.terms = vec![terms("ddl", "dba", 2)]);
    for by in ["ann", "ann", "ann-admin", "bot", "jo", "cy"] {
        topic.decide(1, by, true);
        assert_eq!(topic.state(1), "open", "{by}");
    }
    topic.decide(20, "bob", true);
    assert_eq!((topic.state(20), topic.state(36)), ("granted", "expired"), "since the last one needed");
}

#[test]
fn each_rule_has_its_own_reviewers() {
    let mut topic = Topic::default();
    topic.request_with("jo", |request| request.terms = vec![terms("ddl", "dba", 1), terms("pii", "sec", 1)]);
    topic.decide(1, "ann", true);
    topic.decide(1, "bob", true);
    assert_eq!(topic.state(1), "open");
    topic.decide(2, "cy", true);
    assert_eq!(topic.state(2), "granted");
}

#[test]
fn an_approval_without_the_reason_that_is_asked_for_is_none() {
    let mut topic = Topic::default();
    topic.request_with("jo", |request| request.terms[0].reason_required = true);
    topic.write(1, "bob", decision(true, " \t"));
    assert_eq!(topic.state(1), "open");
    topic.write(2, "bob", decision(true, "change 7"));
    assert_eq!(topic.state(2), "granted");
}

#[test]
fn a_rejection_stands_until_the_grant_is_taken() {
    let mut topic = Topic::default();
    topic.request("jo");
    topic.decide(1, "ann", true);
    topic.decide(2, "bob", false);
    assert_eq!(topic.state(2), "rejected");
    topic.decide(3, "ann-admin", true);
    assert_eq!(topic.state(3), "rejected");
    let mut topic = Topic::default();
    topic.request("jo");
    topic.decide(1, "ann", true);
    assert!(topic.write(2, "jo", claim(100)));
    topic.decide(3, "bob", false);
    assert_eq!(topic.state(3), "used");
}

#[test]
fn the_first_run_has_the_grant_and_no_other() {
    let mut topic = Topic::default();
    topic.request("jo");
    topic.decide(1, "bob", true);
    assert!(topic.write(2, "jo", claim(101)));
    assert!(!topic.write(2, "jo", claim(102)));
    let ReviewStatus::Used { run, claim, .. } = topic.review().status(START_US, people) else {
        panic!("it is used")
    };
    assert_eq!((run.stream_id, claim.control.offset), (id(101), 2));
}

#[test]
fn a_claim_before_the_grant_or_after_its_time_gives_nothing_and_takes_it_away() {
    for (claimed, decided) in [(1, 2), (20, 1)] {
        let mut topic = Topic::default();
        topic.request("jo");
        let mut steps = [(claimed, true), (decided, false)];
        steps.sort();
        for (minutes, is_claim) in steps {
            match is_claim {
                true => assert!(topic.write(minutes, "jo", claim(100))),
                false => assert!(topic.decide(minutes, "bob", true)),
            }
        }
        assert_eq!(topic.state(3), "expired");
    }
}

#[test]
fn what_is_withdrawn_is_neither_decided_nor_used() {
    let withdraw = || Order::WithdrawReview { review_id: id(1) };
    let mut topic = Topic::default();
    topic.request("jo");
    assert!(topic.write(1, "jo", withdraw()));
    topic.decide(2, "bob", true);
    assert!(!topic.write(3, "jo", claim(100)));
    assert_eq!(topic.state(3), "withdrawn");
    let mut topic = Topic::default();
    topic.request("jo");
    topic.decide(1, "bob", true);
    assert!(topic.write(2, "jo", claim(100)));
    assert!(!topic.write(3, "jo", withdraw()));
    assert_eq!(topic.state(3), "used");
}

#[test]
fn a_decision_is_about_the_request_that_was_seen_and_stands_where_it_does() {
    let mut topic = Topic::default();
    topic.request("jo");
    let about = |requested_hash: Bytes| {
        Order::DecideReview(ReviewDecision {
            review_id: id(1),
            requested_hash,
            approves: true,
            reason: String::new(),
            signature: None,
        })
    };
    assert!(!topic.write(1, "bob", about(hash(5))), "another request");
    assert!(!topic.write(1, "bob", about(Bytes::new())));
    assert!(!topic.write_in(1, 1, "bob", about(hash(0))), "where its order is not that of the others");
    assert!(!topic.write_in(1, 1, "jo", claim(100)));
    assert!(!topic.write_in(1, 1, "jo", Order::WithdrawReview { review_id: id(1) }));
    // The id of a review is taken once.
    assert!(!topic.write(1, "jo", Order::RequestReview(Box::new(request(1)))));
    assert_eq!(topic.state(1), "open");
}

#[test]
fn who_may_review_no_more_has_approved_nothing_that_has_not_run() {
    let mut topic = Topic::default();
    topic.request("jo");
    topic.decide(1, "bob", true);
    let without_bob = |name: &str| people(name).filter(|_| name != "bob");
    assert_eq!(topic.review().status(START_US + MINUTE_US, without_bob), ReviewStatus::Open);
}

/// A process that starts reads one partition after the other, and what was asked last may so come first.
#[test]
fn the_last_review_is_the_same_in_whichever_order_partitions_are_read() {
    // The first is rejected, and the second asked for after that.
    let mut topic = Topic::default();
    let second = Order::RequestReview(Box::new(request(2)));
    topic.offset = 7;
    assert!(topic.write_in(1, 20, "jo", second));
    topic.offset = 0;
    topic.request("jo");
    topic.decide(10, "bob", false);
    assert_eq!(topic.reviews.of(&request(1).bound_to).unwrap().request.review_id, id(2));
    // Had the decision come after it, both would wait for the first.
    let mut topic = Topic::default();
    topic.request("jo");
    topic.decide(30, "bob", true);
    assert!(topic.write_in(1, 20, "jo", Order::RequestReview(Box::new(request(2)))));
    assert_eq!(topic.reviews.of(&request(1).bound_to).unwrap().request.review_id, id(1));
}

#[test]
fn who_has_a_key_decides_by_it_alone() {
    let [own, strange] = [[1; 32], [2; 32]].map(|seed| SigningKey::from_seed(&seed).unwrap());
    let with_key =
        |name: &str| people(name).map(|person| Person { review_key: Some(own.public()), ..person });
    let by = |key: &SigningKey, about: u64, approves, reason| {
        Some(sign_decision(key, &hash(about), approves, reason))
    };
    for (signature, counts) in [
        (by(&own, 0, true, "why"), true),
        (None, false),
        (by(&strange, 0, true, "why"), false),
        (by(&own, 1, true, "why"), false),
        (by(&own, 0, false, "why"), false),
        (by(&own, 0, true, "because"), false),
        (by(&own, 0, true, "why").map(|(_, signature)| ("00".to_owned(), signature)), false),
    ] {
        let mut topic = Topic::default();
        topic.request("jo");
        let decision = ReviewDecision {
            review_id: id(1),
            requested_hash: hash(0),
            approves: true,
            reason: "why".to_owned(),
            signature,
        };
        assert!(topic.write(1, "bob", Order::DecideReview(decision)));
        let status = topic.review().status(START_US + MINUTE_US, with_key);
        assert_eq!(matches!(status, ReviewStatus::Granted { .. }), counts);
    }
}

#[test]
fn what_nothing_can_come_of_is_forgotten() {
    let mut topic = Topic::default();
    topic.request("jo");
    let next = |number| Order::RequestReview(Box::new(request(number)));
    let last = |topic: &Topic| topic.reviews.of(&request(1).bound_to).unwrap().request.review_id;
    topic.write(59, "jo", next(2));
    assert_eq!(last(&topic), id(1), "who asks meanwhile waits for the same");
    topic.write(75, "jo", next(3));
    assert_eq!(last(&topic), id(3), "nobody can decide about the first any more");
    assert!(topic.reviews.get(id(1)).is_some());
    topic.write(76, "jo", next(4));
    assert!(topic.reviews.get(id(1)).is_none() && topic.reviews.get(id(2)).is_some());
    assert_eq!(topic.reviews.count_of("jo", START_US + 76 * MINUTE_US), (3, 3));
    // What is over is known for as long as somebody may wait to hear so.
    topic.write(77, "jo", Order::WithdrawReview { review_id: id(4) });
    topic.write(86, "jo", next(5));
    assert_eq!(topic.reviews.count_of("jo", START_US + 86 * MINUTE_US), (3, 4));
    topic.write(88, "jo", next(6));
    assert!(topic.reviews.get(id(4)).is_none());
    assert_eq!(topic.reviews.count_of("bob", START_US), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Decide(&'static str, bool),
    Claim(u8),
    Withdraw,
}

fn step() -> impl Strategy<Value = Step> {
    let who = prop::sample::select(vec!["ann", "ann-admin", "bot", "bob", "cy", "jo", "stranger"]);
    prop_oneof![
        (who, any::<bool>()).prop_map(|(who, approves)| Step::Decide(who, approves)),
        (100_u8..104).prop_map(Step::Claim),
        Just(Step::Withdraw),
    ]
}

proptest! {
    /// Whatever is written in whatever order: one run at most has the grant, only after as many people approved as must, of whom
    /// none is who asked, and nothing after it changes that.
    #[test]
    fn a_grant_is_used_once_and_by_right(
        requester in prop::sample::select(vec!["jo", "ann", "bot"]),
        approvals in 1_usize..3,
        steps in prop::collection::vec((0_i64..9, step()), 0..12),
    ) {
        let mut topic = Topic::default();
        topic.request_with(requester, |request| request.terms = vec![terms("ddl", "dba", approvals)]);
        let mut now = 0;
        let mut right = Vec::new();
        let mut over = false;
        let mut first = None;
        for (minutes, step) in steps {
            now += minutes;
            match step {
                Step::Decide(by, approves) => {
                    topic.decide(now, by, approves);
                    let is_own = requester == by || (requester != "jo" && by.starts_with("ann"));
                    if matches!(by, "ann" | "ann-admin" | "bob") && !is_own && first.is_none() {
                        let person = if by == "bob" { by } else { "ann" };
                        match approves {
                            true if now <= 60 => right.push((person, now)),
                            true => {}
                            false => over = true,
                        }
                    }
                }
                Step::Claim(stream) => {
                    let was_taken = topic.write(now, "jo", claim(stream));
                    prop_assert_eq!(was_taken, first.is_none() && topic.review().withdrawn.is_none());
                    if was_taken {
                        first = Some((stream, now));
                    }
                }
                Step::Withdraw => { topic.write(now, "jo", Order::WithdrawReview { review_id: id(1) }); }
            }
            let mut people_before = Vec::new();
            let mut granted_at = None;
            for (person, at) in &right {
                if !people_before.contains(person) {
                    people_before.push(*person);
                }
                if people_before.len() >= approvals {
                    granted_at = granted_at.or(Some(*at));
                }
            }
            let may_run = |claimed_at: i64| {
                !over && granted_at.is_some_and(|at| claimed_at <= at + 15)
            };
            if let ReviewStatus::Used { run, .. } = topic.review().status(START_US + now * MINUTE_US, people) {
                let (stream, claimed_at) = first.unwrap();
                prop_assert_eq!(run.stream_id, id(stream));
                prop_assert!(may_run(claimed_at));
            } else if let Some((_, claimed_at)) = first {
                prop_assert!(!may_run(claimed_at));
            }
        }
    }
}
