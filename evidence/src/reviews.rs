mod request;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use retrace_proto::{Id, Recorded, wire};

use crate::control::Order;
use crate::key::PublicKey;

pub use request::{ReviewDecision, ReviewRequest, ReviewTerms, Reviewer, Run, sign_decision};

/// Reviews that are known at a time. Who asks for one beyond them is not heard, and so has its command refused.
pub const REVIEWS_MAX: usize = 65_536;

/// Decisions that are kept of one review. As many people as a rule may ask for have room several times over.
const DECISIONS_MAX: usize = 256;

/// How long a review is known that was withdrawn, or whose grant was taken, for those who wait to hear so, in microseconds.
const OVER_US: i64 = 600_000_000;

/// Who wrote a control record, where it stands and since when.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Where, and its hash.
    pub control: wire::ControlReference,
    /// When the log took it, in microseconds since the Unix epoch.
    pub appended_at_unix_us: i64,
    /// Whose it is.
    pub principal: wire::Principal,
    /// The session that it is about.
    pub session_id: Option<Id>,
    /// Where that is to.
    pub target: String,
    /// As it was sealed.
    pub sealed: Bytes,
}

impl Written {
    /// Of a record that stands there.
    #[must_use]
    pub fn of(recorded: &Recorded, control: wire::ControlReference, appended_at_unix_us: i64) -> Self {
        let header = recorded.header();
        Self {
            control,
            appended_at_unix_us,
            principal: header.principal.clone().unwrap_or_default(),
            session_id: recorded.session_id(),
            target: header.target.clone(),
            sealed: recorded.bytes().clone(),
        }
    }
}

/// A principal, as the configuration has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who it is: the same for all accounts of one person, and for an agent whom it acts for.
    pub identity: String,
    /// Only people decide.
    pub is_human: bool,
    /// What it is a member of.
    pub groups: Vec<String>,
    /// The key that its decisions must be signed by, beside what they are written by.
    pub review_key: Option<PublicKey>,
}

/// A decision on record. Whether it counts, [`Review::status`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What.
    pub decision: ReviewDecision,
    /// By whom, where and when.
    pub written: Written,
}

/// One review, by the records that there are of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// What is asked.
    pub request: ReviewRequest,
    /// For whom, and when.
    pub requested: Written,
    /// What was decided, in order.
    pub decisions: Vec<Decided>,
    /// That it was withdrawn.
    pub withdrawn: Option<Written>,
    /// The run that has the grant, if it is good for one and was taken.
    pub used: Option<(Run, Written)>,
}

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReviewStatus<'a> {
    /// People may decide.
    Open,
    /// It was approved by all who are needed, and the grant is good.
    Granted {
        /// The last approval that was needed.
        decision: &'a Written,
        /// Until when the grant is good, in microseconds since the Unix epoch.
        until_unix_us: i64,
    },
    /// Somebody who may decide rejected it.
    Rejected {
        /// Who, where and when.
        decision: &'a Written,
    },
    /// It was withdrawn.
    Withdrawn,
    /// Not enough people decided in time.
    Lapsed,
    /// It was approved, and not used in time.
    Expired,
    /// Its grant was taken.
    Used {
        /// The last approval that was needed.
        decision: &'a Written,
        /// Who has it.
        run: Run,
        /// Where that stands.
        claim: &'a Written,
    },
}

/// All reviews of a gateway, by the control records that it obeys: whoever has read them has the same.
///
/// Times are those at which the log took the records. What the reader's clock decides is whether a grant that nobody has taken
/// is still good, which for a grant that is good for one run its claim's own time decides in the end.
///
/// Whom a decision is of is on record, whether it counts is decided when it is asked for, by the people that the
/// configuration then has: who may no longer review has approved nothing that has not run.
#[derive(Clone, Debug, Default)]
pub struct Reviews {
    by_id: BTreeMap<Id, Review>,
    /// The reviews of what a grant would be for.
    by_binding: HashMap<(String, Bytes), BTreeSet<Id>>,
    /// Until when anything can come of each.
    of_use_until: BTreeSet<(i64, Id)>,
    /// How many are of whom.
    by_principal: HashMap<String, usize>,
}

impl Reviews {
    /// Takes in an order that is obeyed. Returns the review that it changed.
    pub fn read(&mut self, order: &Order, written: Written) -> Option<Id> {
        match order {
            Order::RequestReview(request) => self.request(request, written),
            Order::DecideReview(decision) => {
                let review = self.of_partition(decision.review_id, &written)?;
                let is_about = review.requested.control.hash == decision.requested_hash;
                if !is_about || review.decisions.len() >= DECISIONS_MAX {
                    return None;
                }
                review.decisions.push(Decided { decision: decision.clone(), written });
                Some(decision.review_id)
            }
            Order::WithdrawReview { review_id } => {
                let review = self.of_partition(*review_id, &written)?;
                if review.used.is_some() || review.withdrawn.is_some() {
                    return None;
                }
                let over_at = written.appended_at_unix_us;
                review.withdrawn = Some(written);
                self.is_over(*review_id, over_at);
                Some(*review_id)
            }
            Order::UseGrant { review_id, run } => {
                let review = self.of_partition(*review_id, &written)?;
                if !review.request.once || review.used.is_some() || review.withdrawn.is_some() {
                    return None;
                }
                let over_at = written.appended_at_unix_us;
                review.used = Some((*run, written));
                self.is_over(*review_id, over_at);
                Some(*review_id)
            }
            _ => None,
        }
    }

    fn request(&mut self, request: &ReviewRequest, written: Written) -> Option<Id> {
        let id = request.review_id;
        self.forget_old(written.appended_at_unix_us);
        if self.by_id.contains_key(&id) || self.by_id.len() >= REVIEWS_MAX {
            return None;
        }
        self.by_binding.entry(request.bound_to.clone()).or_default().insert(id);
        *self.by_principal.entry(written.principal.name.clone()).or_default() += 1;
        let review = Review {
            request: request.clone(),
            requested: written,
            decisions: Vec::new(),
            withdrawn: None,
            used: None,
        };
        self.of_use_until.insert((review.of_use_until_unix_us(), id));
        self.by_id.insert(id, review);
        Some(id)
    }

    /// The records of one review are in order with each other only within the partition that its request is in.
    fn of_partition(&mut self, id: Id, written: &Written) -> Option<&mut Review> {
        let review = self.by_id.get_mut(&id)?;
        (review.requested.control.partition == written.control.partition).then_some(review)
    }

    /// Forgets what nobody can decide about or use any more.
    fn forget_old(&mut self, appended_at_unix_us: i64) {
        while let Some((until_unix_us, id)) = self.of_use_until.first().copied()
            && until_unix_us < appended_at_unix_us
        {
            self.of_use_until.pop_first();
            let Some(review) = self.by_id.remove(&id) else { continue };
            if let Some(ids) = self.by_binding.get_mut(&review.request.bound_to) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_binding.remove(&review.request.bound_to);
                }
            }
            let name = &review.requested.principal.name;
            if let Some(count) = self.by_principal.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.by_principal.remove(name);
                }
            }
        }
    }

    /// Nothing more comes of a review.
    fn is_over(&mut self, id: Id, at_unix_us: i64) {
        if let Some(review) = self.by_id.get(&id) {
            let until_unix_us = review.of_use_until_unix_us();
            self.of_use_until.remove(&(until_unix_us, id));
            self.of_use_until.insert((until_unix_us.min(at_unix_us.saturating_add(OVER_US)), id));
        }
    }

    /// A review.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Review> {
        self.by_id.get(&id)
    }

    /// The last review of a command that is bound to this. One that was asked for while another could be decided about, as two
    /// may be at the same time, does not count.
    ///
    /// It is told by the times at which the log took the records, since their partitions are read in any order.
    #[must_use]
    pub fn of(&self, bound_to: &(String, Bytes)) -> Option<&Review> {
        let ids = self.by_binding.get(bound_to)?;
        let mut reviews: Vec<_> = ids.iter().filter_map(|id| self.get(*id)).collect();
        reviews.sort_by_key(|review| (review.requested.appended_at_unix_us, review.request.review_id));
        let last = |last: &Review, next: &Review| !last.is_undecided_at(next.requested.appended_at_unix_us);
        reviews.into_iter().reduce(|kept, next| if last(kept, next) { next } else { kept })
    }

    /// How many reviews of a principal may still be decided about, at most, and how many are known.
    #[must_use]
    pub fn count_of(&self, principal: &str, now_unix_us: i64) -> (usize, usize) {
        let known = self.by_principal.get(principal).copied().unwrap_or(0);
        if known == 0 {
            return (0, 0);
        }
        let is_open = |review: &&Review| {
            review.requested.principal.name == principal
                && review.withdrawn.is_none()
                && review.used.is_none()
                && review.open_until_unix_us() >= now_unix_us
        };
        (self.iter().filter(is_open).count(), known)
    }

    /// All that are known, by id, which is by time.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Review> {
        self.by_id.values()
    }
}

impl Review {
    /// Whether people could decide about it then, and nobody had.
    fn is_undecided_at(&self, unix_us: i64) -> bool {
        let ends = [&self.withdrawn].into_iter().flatten().chain(self.used.iter().map(|(_, claim)| claim));
        let mut records = ends.chain(self.decisions.iter().map(|decided| &decided.written));
        self.open_until_unix_us() >= unix_us && records.all(|written| written.appended_at_unix_us > unix_us)
    }

    /// Until when anything can come of it, in microseconds since the Unix epoch.
    fn of_use_until_unix_us(&self) -> i64 {
        let of_all = self.requested.appended_at_unix_us.saturating_add(self.request.open_us);
        of_all.saturating_add(self.request.grant_us)
    }

    /// Until when people may decide, in microseconds since the Unix epoch.
    #[must_use]
    pub fn open_until_unix_us(&self) -> i64 {
        self.requested.appended_at_unix_us.saturating_add(self.request.open_us)
    }

    /// Where it stands, by this clock and these people.
    ///
    /// A rejection counts as long as the grant is not taken, whatever was approved before it.
    pub fn status(&self, now_unix_us: i64, people: impl Fn(&str) -> Option<Person>) -> ReviewStatus<'_> {
        let requester = self.requester(&people);
        let mut approved = vec![BTreeSet::new(); self.request.terms.len()];
        let mut granted = None;
        let claimed_at = self.used.as_ref().map_or(u64::MAX, |(_, claim)| claim.control.offset);
        let before = |decided: &&Decided| decided.written.control.offset < claimed_at;
        for decided in self.decisions.iter().take_while(before) {
            let Some((identity, counts_for)) = self.counts_for(decided, &requester, &people) else {
                continue;
            };
            if !decided.decision.approves {
                return ReviewStatus::Rejected { decision: &decided.written };
            }
            for term in counts_for {
                approved[term].insert(identity.clone());
            }
            let mut terms = self.request.terms.iter().zip(&approved);
            if granted.is_none() && terms.all(|(term, approved)| approved.len() >= term.approvals) {
                granted = Some(&decided.written);
            }
        }
        let until = |decision: &Written| decision.appended_at_unix_us.saturating_add(self.request.grant_us);
        match (granted, &self.used) {
            _ if self.withdrawn.is_some() => ReviewStatus::Withdrawn,
            (Some(decision), Some((run, claim))) if claim.appended_at_unix_us <= until(decision) => {
                ReviewStatus::Used { decision, run: *run, claim }
            }
            // Claimed by who should not have: what is taken is gone.
            (_, Some(_)) => ReviewStatus::Expired,
            (Some(decision), None) if now_unix_us <= until(decision) => {
                ReviewStatus::Granted { decision, until_unix_us: until(decision) }
            }
            (Some(_), None) => ReviewStatus::Expired,
            (None, None) if now_unix_us <= self.open_until_unix_us() => ReviewStatus::Open,
            (None, None) => ReviewStatus::Lapsed,
        }
    }

    /// Who a decision is by and which of the terms it counts for; `None` if it does not count.
    fn counts_for(
        &self,
        decided: &Decided,
        requester: &BTreeSet<String>,
        people: &impl Fn(&str) -> Option<Person>,
    ) -> Option<(String, Vec<usize>)> {
        let name = &decided.written.principal.name;
        let at_unix_us = decided.written.appended_at_unix_us;
        let ReviewDecision { approves, reason, .. } = &decided.decision;
        let in_time = at_unix_us <= self.open_until_unix_us() || !approves;
        let person = people(name).filter(|_| in_time)?;
        if !decided.decision.is_signed_by(person.review_key.as_ref()) {
            return None;
        }
        let terms = self.may_decide(name, &person, requester);
        let counts = |term: &usize| {
            !reason.trim().is_empty() || !approves || !self.request.terms[*term].reason_required
        };
        let terms: Vec<_> = terms.into_iter().filter(counts).collect();
        (!terms.is_empty()).then_some((person.identity, terms))
    }

    /// Which of the terms somebody may decide about, by these people.
    #[must_use]
    pub fn terms_for(&self, name: &str, people: impl Fn(&str) -> Option<Person>) -> Vec<usize> {
        let requester = self.requester(&people);
        people(name).map(|person| self.may_decide(name, &person, &requester)).unwrap_or_default()
    }

    /// Whether somebody may see and take back what was asked: who did, or the person who did so by another account or an agent.
    pub fn is_askers(&self, name: &str, people: impl Fn(&str) -> Option<Person>) -> bool {
        let requester = self.requester(&people);
        let is_person = |person: Person| person.is_human && requester.contains(&person.identity);
        self.requested.principal.name == name || people(name).is_some_and(is_person)
    }

    /// Whether somebody is the person whose command it is, by any account.
    pub fn is_own(&self, name: &str, people: impl Fn(&str) -> Option<Person>) -> bool {
        let requester = self.requester(&people);
        requester.contains(name) || people(name).is_some_and(|person| requester.contains(&person.identity))
    }

    /// Nobody decides about what is their own.
    fn may_decide(&self, name: &str, person: &Person, requester: &BTreeSet<String>) -> Vec<usize> {
        if !person.is_human || requester.contains(name) || requester.contains(&person.identity) {
            return Vec::new();
        }
        let terms = self.request.terms.iter().enumerate();
        terms.filter(|(_, term)| term.names(name, person)).map(|(index, _)| index).collect()
    }

    /// All names of whose command it is: on record, and as the configuration has it now.
    fn requester(&self, people: &impl Fn(&str) -> Option<Person>) -> BTreeSet<String> {
        let wire::Principal { name, on_behalf_of, .. } = &self.requested.principal;
        let recorded = [name, on_behalf_of].into_iter().filter(|name| !name.is_empty());
        recorded
            .flat_map(|name| [Some(name.clone()), people(name).map(|person| person.identity)])
            .flatten()
            .collect()
    }
}
