//! Commands that wait for people: which there are, what one is about, and deciding.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use retrace_access::{Authenticated, Directory};
use retrace_evidence::{
    Decided, Order, Person, Review, ReviewDecision, ReviewStatus, Reviewer, Reviews, Written,
};
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::review_withdrawn::Cause;
use retrace_proto::wire::{PrincipalKind, ReviewDecided, ReviewRequested, review_decided::Verdict};
use retrace_proto::{Envelope, Event, Id, Recorded, Subject};

use crate::control::{Commander, Ordered, RECORD_WAIT_MAX, about};
use crate::right::Right;
use crate::{EventRecord, QueryError, wire};

/// The reviews of the gateway, as far as this process has read the control topic.
#[derive(Clone, Debug, Default)]
pub struct ReviewBook(Arc<Mutex<Reviews>>);

impl ReviewBook {
    /// Takes in an order that is obeyed.
    pub fn read(&self, order: &Order, written: Written) {
        self.lock().read(order, written);
    }

    fn lock(&self) -> MutexGuard<'_, Reviews> {
        // Maps of plain values are whole whatever panicked beside them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a review stands, and who may do what about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewRecord {
    /// Which.
    pub review_id: Id,
    /// The hash of its request, which a decision names.
    pub requested_hash: Bytes,
    /// Where it stands: open, granted, rejected, withdrawn, lapsed, expired or used.
    pub state: String,
    /// Who asked.
    pub principal: String,
    /// For whom that is.
    pub on_behalf_of: String,
    /// Where to.
    pub target: String,
    /// The session of the command.
    pub session_id: Option<Id>,
    /// When the log took the request, in microseconds since the Unix epoch.
    pub requested_at_unix_us: i64,
    /// Until when it may be decided, likewise.
    pub open_until_unix_us: i64,
    /// How long an approval is good, in microseconds.
    pub grant_us: i64,
    /// Whether an approval is good for one run.
    pub once: bool,
    /// Whether a transaction is open meanwhile.
    pub in_transaction: bool,
    /// What the rules ask for.
    pub terms: Vec<ReviewTermsRecord>,
    /// What was decided.
    pub decisions: Vec<DecisionRecord>,
    /// Whether the caller may decide.
    pub may_decide: bool,
    /// Whether it is the caller's own, whose person decides nothing about it.
    pub is_own: bool,
    /// Whether the caller has a key of their own, without whose signature no decision of theirs counts.
    pub signs: bool,
}

/// What one rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewTermsRecord {
    /// The rule.
    pub rule: String,
    /// What it says.
    pub text: String,
    /// Who may decide, each as `group NAME` or `principal NAME`.
    pub reviewers: Vec<String>,
    /// How many must approve.
    pub approvals: u32,
    /// Whether an approval needs a reason.
    pub reason_required: bool,
}

/// A decision on record. Those that do not count, by whoever is no reviewer any more, are listed too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRecord {
    /// By whom.
    pub by: String,
    /// When the log took it, in microseconds since the Unix epoch.
    pub at_unix_us: i64,
    /// Approved, or rejected.
    pub approves: bool,
    /// Why, masked.
    pub reason: String,
}

/// A review with what is to be decided.
#[derive(Debug)]
pub struct ReviewShown {
    /// Where it stands.
    pub review: ReviewRecord,
    /// The record of the request, by which [`ReviewShown::is_whole`] checks the rest.
    pub request: EventRecord,
    /// The records of the command, in stream order.
    pub command: Vec<EventRecord>,
    /// What was said before it in its session that may give it another meaning, the first of it.
    pub said: Vec<EventRecord>,
    /// What the principal did before, the latest first.
    pub history: Vec<HistoryRecord>,
}

impl ReviewShown {
    /// Whether the records are those of the request that a decision would name: it has the hash that is decided about, names
    /// whose it is and where, and the command by the hash of its last record, each of which names the one before. So whoever
    /// shows it cannot have something else decided.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.checked().is_some()
    }

    /// How many commands before it may give it another meaning, by the request.
    #[must_use]
    pub fn said_count(&self) -> u64 {
        self.requested().map_or(0, |(_, requested)| requested.said)
    }

    fn requested(&self) -> Option<(Recorded, ReviewRequested)> {
        let request = Envelope::open(self.request.envelope.clone()).ok()?;
        match request.payload() {
            Payload::ReviewRequested(requested) => {
                let requested = requested.clone();
                Some((request, requested))
            }
            _ => None,
        }
    }

    fn checked(&self) -> Option<()> {
        let (request, requested) = self.requested()?;
        let header = request.header();
        let principal = header.principal.as_ref()?;
        let is_request = request.hash().as_bytes()[..] == self.review.requested_hash[..]
            && requested.review_id == self.review.review_id.to_bytes()
            && principal.name == self.review.principal
            && principal.on_behalf_of == self.review.on_behalf_of
            && header.target == self.review.target;
        let named = requested.command.as_ref()?;
        let opened: Result<Vec<_>, _> =
            self.command.iter().map(|event| Envelope::open(event.envelope.clone())).collect();
        let opened = opened.ok()?;
        let (first, last) = (opened.first()?, opened.last()?);
        let is_chained = |pair: &[Recorded]| pair[1].header().prev_hash[..] == pair[0].hash().as_bytes()[..];
        let is_command = first.stream_id().to_bytes() == named.stream_id
            && first.header().stream_seq == named.command_seq
            && last.hash().as_bytes()[..] == named.last_hash[..]
            && opened.windows(2).all(is_chained);
        (is_request && is_command).then_some(())
    }
}

/// Something that a principal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// When, as RFC 3339 has it.
    pub at: String,
    /// Where.
    pub target: String,
    /// What was decided about it.
    pub decision: String,
    /// What it was, masked.
    pub statement: String,
}

/// What a caller decides.
#[derive(Debug)]
pub(crate) struct Deciding {
    pub(crate) review_id: Id,
    pub(crate) requested_hash: Bytes,
    pub(crate) approves: bool,
    pub(crate) reason: String,
    pub(crate) signature: Option<(String, Bytes)>,
}

fn people(directory: &Directory) -> impl Fn(&str) -> Option<Person> + Copy + '_ {
    |name| {
        let principal = directory.principal(name)?;
        Some(Person {
            identity: principal.person.clone(),
            is_human: principal.kind == PrincipalKind::Human,
            groups: principal.groups.clone(),
            // Somebody with a key that is none decides nothing.
            review_key: principal.review_key.as_deref().map(str::parse).transpose().ok()?,
        })
    }
}

fn state(status: &ReviewStatus<'_>) -> &'static str {
    match status {
        ReviewStatus::Open => "open",
        ReviewStatus::Granted { .. } => "granted",
        ReviewStatus::Rejected { .. } => "rejected",
        ReviewStatus::Withdrawn => "withdrawn",
        ReviewStatus::Lapsed => "lapsed",
        ReviewStatus::Expired => "expired",
        ReviewStatus::Used { .. } => "used",
    }
}

impl Commander {
    /// Whatever was asked and decided before now is known from here on.
    async fn know_reviews(&self) -> Result<(), QueryError> {
        let known = self.control.lag.clone().current_as_of_now(RECORD_WAIT_MAX).await;
        known.then_some(()).ok_or(QueryError::OrdersUnknown)
    }

    /// The reviews that concern the caller, the latest first: those that they may decide about, those of their own, and all
    /// for who may read all evidence. Those that are over are left out unless asked for.
    pub(crate) async fn reviews(
        &self,
        caller: &Authenticated,
        with_over: bool,
    ) -> Result<Vec<ReviewRecord>, QueryError> {
        self.know_reviews().await?;
        let reviews = self.control.reviews.lock();
        let records = reviews.iter().rev().filter(|review| self.concerns(caller, review));
        let records = records.map(|review| self.record(caller, review));
        let is_over = |review: &ReviewRecord| !matches!(review.state.as_str(), "open" | "granted");
        Ok(records.filter(|review| with_over || !is_over(review)).collect())
    }

    /// One that concerns the caller, as it was asked for.
    pub(crate) async fn review(
        &self,
        caller: &Authenticated,
        id: Id,
    ) -> Result<(ReviewRecord, Review), QueryError> {
        self.know_reviews().await?;
        let reviews = self.control.reviews.lock();
        let review = reviews.get(id).filter(|review| self.concerns(caller, review));
        let review = review.ok_or(QueryError::NoSuchReview)?;
        Ok((self.record(caller, review), review.clone()))
    }

    /// Decides, if the caller may and the review is what they have seen.
    pub(crate) async fn decide(
        &self,
        caller: &Authenticated,
        deciding: Deciding,
    ) -> Result<Ordered, QueryError> {
        let reason = self.reason(&deciding.reason)?;
        if deciding.signature.is_some() && *reason.get() != deciding.reason {
            return Err(QueryError::ReasonMasked);
        }
        self.know_reviews().await?;
        let about = {
            let reviews = self.control.reviews.lock();
            let review = reviews.get(deciding.review_id).filter(|review| self.concerns(caller, review));
            let review = review.ok_or(QueryError::NoSuchReview)?;
            self.may_decide(caller, review, &deciding)?;
            let Written { session_id, target, .. } = &review.requested;
            Subject { session_id: *session_id, target: target.clone(), ..about(caller) }
        };
        let verdict = if deciding.approves { Verdict::Approve } else { Verdict::Reject };
        let facts = ReviewDecided {
            review_id: deciding.review_id.to_bytes(),
            requested_hash: deciding.requested_hash,
            verdict: verdict.into(),
            reason: String::new(),
            signature: deciding
                .signature
                .map(|(key_id, signature)| retrace_proto::wire::ReviewerSignature { key_id, signature }),
        };
        let ordered = self.order_of(deciding.review_id, about, Event::review_decided(facts, reason)).await?;
        self.know_reviews().await?;
        self.counted(deciding.review_id, deciding.approves, ordered)
    }

    /// Says so if something else was decided before a decision came to its place.
    fn counted(&self, review_id: Id, approves: bool, ordered: Ordered) -> Result<Ordered, QueryError> {
        let reviews = self.control.reviews.lock();
        let Some(review) = reviews.get(review_id) else { return Ok(ordered) };
        let status = review.status((self.clock)(), people(&self.directory));
        let counts = match status {
            ReviewStatus::Open | ReviewStatus::Granted { .. } => approves,
            // It ran by this approval already.
            ReviewStatus::Used { claim, .. } => approves && claim.control.offset > ordered.offset,
            ReviewStatus::Rejected { .. } => !approves,
            ReviewStatus::Withdrawn | ReviewStatus::Lapsed | ReviewStatus::Expired => false,
        };
        match counts {
            true => Ok(ordered),
            false => Err(QueryError::ReviewOver { state: state(&status).to_owned() }),
        }
    }

    /// Takes back what the caller has asked for, or what they may decide about.
    pub(crate) async fn withdraw(
        &self,
        caller: &Authenticated,
        review_id: Id,
        reason: &str,
    ) -> Result<Ordered, QueryError> {
        let reason = self.reason(reason.trim())?;
        let (record, review) = self.review(caller, review_id).await?;
        let is_askers = review.is_askers(&caller.principal.name, people(&self.directory));
        if !is_askers && !record.may_decide {
            return Err(QueryError::NotReviewer);
        }
        if !matches!(record.state.as_str(), "open" | "granted") {
            return Err(QueryError::ReviewOver { state: record.state });
        }
        let Written { session_id, target, .. } = review.requested;
        let about = Subject { session_id, target, ..about(caller) };
        self.order_of(review_id, about, Event::review_withdrawn(review_id, Cause::Asked, reason)).await
    }

    fn may_decide(
        &self,
        caller: &Authenticated,
        review: &Review,
        deciding: &Deciding,
    ) -> Result<(), QueryError> {
        let (name, people) = (&caller.principal.name, people(&self.directory));
        if review.is_own(name, people) {
            return Err(QueryError::OwnReview);
        }
        let terms = review.terms_for(name, people);
        if terms.is_empty() {
            return Err(QueryError::NotReviewer);
        }
        if review.requested.control.hash != deciding.requested_hash {
            return Err(QueryError::ReviewChanged);
        }
        let decision = ReviewDecision {
            review_id: deciding.review_id,
            requested_hash: deciding.requested_hash.clone(),
            approves: deciding.approves,
            reason: deciding.reason.clone(),
            signature: deciding.signature.clone(),
        };
        if !people(name).is_some_and(|person| decision.is_signed_by(person.review_key.as_ref())) {
            return Err(QueryError::DecisionNotSigned);
        }
        let status = review.status((self.clock)(), people);
        match status {
            ReviewStatus::Open => {}
            // What was approved may still be rejected, as long as it has not run.
            ReviewStatus::Granted { .. } if !deciding.approves => {}
            _ => return Err(QueryError::ReviewOver { state: state(&status).to_owned() }),
        }
        let needs_reason = terms.iter().any(|term| review.request.terms[*term].reason_required);
        if deciding.approves && needs_reason && deciding.reason.trim().is_empty() {
            return Err(QueryError::ReasonRequired);
        }
        let is_again = |by: &Decided| by.decision.approves && by.written.principal.name == *name;
        if deciding.approves && review.decisions.iter().any(is_again) {
            return Err(QueryError::DecidedAlready);
        }
        Ok(())
    }

    fn concerns(&self, caller: &Authenticated, review: &Review) -> bool {
        let (name, people) = (&caller.principal.name, people(&self.directory));
        matches!(Right::of(caller), Ok(Right::All))
            || review.is_askers(name, people)
            || !review.terms_for(name, people).is_empty()
    }

    fn record(&self, caller: &Authenticated, review: &Review) -> ReviewRecord {
        let (name, people) = (&caller.principal.name, people(&self.directory));
        let Review { request, requested, decisions, .. } = review;
        let reviewer = |reviewer: &Reviewer| match reviewer {
            Reviewer::Group(name) => format!("group {name}"),
            Reviewer::Principal(name) => format!("principal {name}"),
        };
        let terms = request.terms.iter().map(|terms| ReviewTermsRecord {
            rule: terms.rule.clone(),
            text: terms.text.clone(),
            reviewers: terms.reviewers.iter().map(reviewer).collect(),
            approvals: u32::try_from(terms.approvals).unwrap_or(u32::MAX),
            reason_required: terms.reason_required,
        });
        let decisions = decisions.iter().map(|decided| DecisionRecord {
            by: decided.written.principal.name.clone(),
            at_unix_us: decided.written.appended_at_unix_us,
            approves: decided.decision.approves,
            reason: decided.decision.reason.clone(),
        });
        ReviewRecord {
            review_id: request.review_id,
            requested_hash: requested.control.hash.clone(),
            state: state(&review.status((self.clock)(), people)).to_owned(),
            principal: requested.principal.name.clone(),
            on_behalf_of: requested.principal.on_behalf_of.clone(),
            target: requested.target.clone(),
            session_id: requested.session_id,
            requested_at_unix_us: requested.appended_at_unix_us,
            open_until_unix_us: review.open_until_unix_us(),
            grant_us: request.grant_us,
            once: request.once,
            in_transaction: request.in_transaction,
            terms: terms.collect(),
            decisions: decisions.collect(),
            may_decide: !review.terms_for(name, people).is_empty(),
            is_own: review.is_own(name, people),
            signs: caller.principal.review_key.is_some(),
        }
    }
}

impl ReviewRecord {
    pub(crate) fn into_wire(self) -> wire::Review {
        wire::Review {
            review_id: self.review_id.to_string(),
            requested_hash: self.requested_hash,
            state: self.state,
            principal: self.principal,
            on_behalf_of: self.on_behalf_of,
            target: self.target,
            session_id: self.session_id.map(|id| id.to_string()).unwrap_or_default(),
            requested_at_unix_us: self.requested_at_unix_us,
            open_until_unix_us: self.open_until_unix_us,
            grant_us: self.grant_us,
            once: self.once,
            in_transaction: self.in_transaction,
            terms: self.terms.into_iter().map(ReviewTermsRecord::into_wire).collect(),
            decisions: self.decisions.into_iter().map(DecisionRecord::into_wire).collect(),
            may_decide: self.may_decide,
            own: self.is_own,
            signs: self.signs,
        }
    }

    pub(crate) fn from_wire(it: wire::Review) -> Option<Self> {
        let session_id = Some(it.session_id.as_str()).filter(|id| !id.is_empty());
        Some(Self {
            review_id: it.review_id.parse().ok()?,
            requested_hash: it.requested_hash,
            state: it.state,
            principal: it.principal,
            on_behalf_of: it.on_behalf_of,
            target: it.target,
            session_id: session_id.map(str::parse).transpose().ok()?,
            requested_at_unix_us: it.requested_at_unix_us,
            open_until_unix_us: it.open_until_unix_us,
            grant_us: it.grant_us,
            once: it.once,
            in_transaction: it.in_transaction,
            terms: it.terms.into_iter().map(ReviewTermsRecord::from_wire).collect(),
            decisions: it.decisions.into_iter().map(DecisionRecord::from_wire).collect(),
            may_decide: it.may_decide,
            is_own: it.own,
            signs: it.signs,
        })
    }
}

impl ReviewTermsRecord {
    fn into_wire(self) -> wire::ReviewTerms {
        let Self { rule, text, reviewers, approvals, reason_required } = self;
        wire::ReviewTerms { rule, text, reviewers, approvals, reason_required }
    }

    fn from_wire(it: wire::ReviewTerms) -> Self {
        let wire::ReviewTerms { rule, text, reviewers, approvals, reason_required } = it;
        Self { rule, text, reviewers, approvals, reason_required }
    }
}

impl DecisionRecord {
    fn into_wire(self) -> wire::Decision {
        let Self { by, at_unix_us, approves, reason } = self;
        wire::Decision { by, at_unix_us, approves, reason }
    }

    fn from_wire(it: wire::Decision) -> Self {
        let wire::Decision { by, at_unix_us, approves, reason } = it;
        Self { by, at_unix_us, approves, reason }
    }
}

impl HistoryRecord {
    pub(crate) fn into_wire(self) -> wire::HistoryItem {
        let Self { at, target, decision, statement } = self;
        wire::HistoryItem { at, target, decision, statement }
    }

    pub(crate) fn from_wire(it: wire::HistoryItem) -> Self {
        let wire::HistoryItem { at, target, decision, statement } = it;
        Self { at, target, decision, statement }
    }
}
