//! What the records of a review say, each by itself.

use bytes::Bytes;
use retrace_proto::wire::review_decided::Verdict;
use retrace_proto::{Id, wire};

use super::Person;
use crate::control::CONTROL_LIFETIME_US_MAX;
use crate::key::{PublicKey, SigningKey};

/// Rules that one review may be for.
const TERMS_MAX: usize = 64;

/// Commands before it that a request may name.
const SAID_SEQS_MAX: usize = 64;

/// Names of who may decide, for one rule.
const REVIEWERS_MAX: usize = 1024;

/// Who may decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reviewer {
    /// Every member of a group.
    Group(String),
    /// One principal.
    Principal(String),
}

/// What one rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewTerms {
    /// The rule.
    pub rule: String,
    /// What it says to who waits and who decides.
    pub text: String,
    /// Who may decide.
    pub reviewers: Vec<Reviewer>,
    /// How many different people must approve, at least one.
    pub approvals: usize,
    /// Whether an approval counts only with a reason.
    pub reason_required: bool,
}

/// A command that runs, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The stream of its session.
    pub stream_id: Id,
    /// The number of its `CommandReceived` there.
    pub command_seq: u64,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewRequest {
    /// Which review it is.
    pub review_id: Id,
    /// The command.
    pub run: Run,
    /// How many `CommandChunk` events it has.
    pub chunks: u32,
    /// The hash of the last of its events.
    pub last_hash: Bytes,
    /// What a grant is for: the name of a key and a hash under it.
    pub bound_to: (String, Bytes),
    /// What the rules ask for, at least one.
    pub terms: Vec<ReviewTerms>,
    /// How long the command waits, in microseconds.
    pub wait_us: i64,
    /// How long it may be decided, from when the log took the request on, in microseconds.
    pub open_us: i64,
    /// How long an approval is good, from when the log took the last one needed on, in microseconds.
    pub grant_us: i64,
    /// Whether an approval is good for one run.
    pub once: bool,
    /// Whether a transaction is open meanwhile, or may be.
    pub in_transaction: bool,
    /// The numbers of commands before it that may give it another meaning: the first ones.
    pub said_seqs: Vec<u64>,
    /// How many there were.
    pub said: u64,
}

/// What somebody decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewDecision {
    /// Of which review.
    pub review_id: Id,
    /// The hash of the request that it is about.
    pub requested_hash: Bytes,
    /// Approved, or rejected.
    pub approves: bool,
    /// Why, masked; empty if it was not said.
    pub reason: String,
    /// By the reviewer's own key: its id, and the signature.
    pub signature: Option<(String, Bytes)>,
}

/// What begins the bytes that a reviewer signs, so that the signature means nothing anywhere else.
const SIGNED_CONTEXT: &[u8] = b"retrace decision v1\0";

/// A reviewer's signature: this verdict, for this reason, about the request with this hash, which no other gateway has.
#[must_use]
pub fn sign_decision(
    key: &SigningKey,
    requested_hash: &[u8],
    approves: bool,
    reason: &str,
) -> (String, Bytes) {
    let signature = key.sign(&signed_bytes(requested_hash, approves, reason));
    (key.public().id(), signature.to_vec().into())
}

/// Context string and fields of fixed length, then the reason: no two meanings have the same bytes.
fn signed_bytes(requested_hash: &[u8], approves: bool, reason: &str) -> Vec<u8> {
    let hash_bytes = (requested_hash.len() as u64).to_be_bytes();
    [SIGNED_CONTEXT, &hash_bytes, requested_hash, &[u8::from(approves)], reason.as_bytes()].concat()
}

impl ReviewDecision {
    /// Whether somebody with this key signed it, or has no key to sign it by.
    #[must_use]
    pub fn is_signed_by(&self, key: Option<&PublicKey>) -> bool {
        let Some(key) = key else { return true };
        let Some((key_id, signature)) = &self.signature else { return false };
        let signed = signed_bytes(&self.requested_hash, self.approves, &self.reason);
        *key_id == key.id() && key.verify(&signed, signature)
    }
}

impl ReviewRequest {
    /// `None` if it lacks anything, or asks for what nobody may ask.
    pub(crate) fn read(it: &wire::ReviewRequested) -> Option<Self> {
        let command = it.command.as_ref()?;
        let bound_to = it.bound_to.as_ref()?;
        let lifetime =
            |us: u64| i64::try_from(us).ok().filter(|us| (1..=CONTROL_LIFETIME_US_MAX).contains(us));
        let terms: Option<Vec<_>> = it.terms.iter().map(ReviewTerms::read).collect();
        let terms = terms.filter(|terms| (1..=TERMS_MAX).contains(&terms.len()))?;
        let is_hash = |hash: &Bytes| hash.len() == 32;
        if !is_hash(&command.last_hash) || !is_hash(&bound_to.hmac_sha256) {
            return None;
        }
        Some(Self {
            review_id: Id::from_slice(&it.review_id).ok()?,
            run: Run {
                stream_id: Id::from_slice(&command.stream_id).ok()?,
                command_seq: command.command_seq,
            },
            chunks: command.chunks,
            last_hash: command.last_hash.clone(),
            bound_to: (bound_to.key_id.clone(), bound_to.hmac_sha256.clone()),
            terms,
            wait_us: lifetime(it.wait_us)?,
            open_us: lifetime(it.open_us)?,
            grant_us: lifetime(it.grant_us)?,
            once: it.once,
            in_transaction: it.in_transaction,
            said_seqs: it.said_seqs.iter().copied().take(SAID_SEQS_MAX).collect(),
            said: it.said,
        })
    }
}

impl ReviewTerms {
    fn read(it: &wire::ReviewTerms) -> Option<Self> {
        let reviewer = |it: &wire::Reviewer| match it.who.as_ref()? {
            wire::reviewer::Who::Group(name) => Some(Reviewer::Group(name.clone())),
            wire::reviewer::Who::Principal(name) => Some(Reviewer::Principal(name.clone())),
        };
        let reviewers: Option<Vec<_>> = it.reviewers.iter().map(reviewer).collect();
        Some(Self {
            rule: it.rule.clone(),
            text: it.text.clone(),
            reviewers: reviewers.filter(|all| (1..=REVIEWERS_MAX).contains(&all.len()))?,
            approvals: usize::try_from(it.approvals).ok().filter(|count| *count >= 1)?,
            reason_required: it.reason_required,
        })
    }

    /// Whether somebody of this name and these groups may decide.
    pub(super) fn names(&self, name: &str, person: &Person) -> bool {
        self.reviewers.iter().any(|reviewer| match reviewer {
            Reviewer::Group(group) => person.groups.contains(group),
            Reviewer::Principal(principal) => principal == name,
        })
    }
}

impl ReviewDecision {
    pub(crate) fn read(it: &wire::ReviewDecided) -> Option<Self> {
        let approves = match it.verdict() {
            Verdict::Approve => true,
            Verdict::Reject => false,
            Verdict::Unspecified => return None,
        };
        Some(Self {
            review_id: Id::from_slice(&it.review_id).ok()?,
            requested_hash: it.requested_hash.clone(),
            approves,
            reason: it.reason.clone(),
            signature: it.signature.as_ref().map(|it| (it.key_id.clone(), it.signature.clone())),
        })
    }
}
