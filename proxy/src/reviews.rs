//! Reviews as this proxy knows them, and the asking on behalf of one command.
//!
//! What is asked, decided and used stands in the control topic, which every proxy reads. So it does not matter which of them
//! has asked, nor whether it still runs: a review that is granted is granted wherever the same command comes again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use retrace_access::{Directory, Principal};
use retrace_evidence::{Order, Person, Review, ReviewStatus, ReviewTerms, Reviewer, Reviews, Run, Written};
use retrace_policy::rules::{self, HoldTerms};
use retrace_proto::wire::{self, PrincipalKind, review_withdrawn::Cause};
use retrace_proto::{Event, Id, Masked, Subject};
use retrace_proxy_core::postgres::{HeldCommand, Reviewed};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use crate::clock;
use crate::gateway::Gateway;

/// How long the log may take to make a record durable, and then to give it back.
const RECORD_WAIT_MAX: Duration = Duration::from_secs(10);

/// Open reviews that one principal may have.
const OPEN_REVIEWS_MAX: usize = 100;

/// Reviews of one principal that may be known, those among them that are over.
const KNOWN_REVIEWS_MAX: usize = 1_000;

/// What is told to a session of its review and not yet taken up: that it was asked for, and what became of it.
const NEWS_MAX: usize = 2;

/// The reviews of the gateway, as far as this process has read the control topic.
#[derive(Debug, Default)]
pub(crate) struct Book {
    reviews: Mutex<Reviews>,
    changed: watch::Sender<()>,
}

impl Book {
    /// Takes in an order that is obeyed.
    pub(crate) fn read(&self, order: &Order, written: Written) {
        if self.lock().read(order, written).is_some() {
            self.changed.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reviews> {
        // Maps of plain values are whole whatever panicked beside them.
        self.reviews.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds of the reviews; `None` if it does not in time.
    async fn until<T>(&self, holds: impl Fn(&Reviews) -> Option<T>) -> Option<T> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                let found = holds(&self.lock());
                match found {
                    Some(found) => return Some(found),
                    None => changed.changed().await.ok()?,
                }
            }
        };
        timeout(RECORD_WAIT_MAX, waiting).await.ok().flatten()
    }
}

/// The asking on behalf of one command. It goes on until this is dropped, or the session has heard what became of it.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) told: mpsc::Receiver<Reviewed>,
    command: HeldCommand,
    about: Subject,
    task: AbortHandle,
}

impl Asking {
    pub(crate) fn start(gateway: &Arc<Gateway>, command: HeldCommand, about: Subject) -> Self {
        let (tell, told) = mpsc::channel(NEWS_MAX);
        let asks = Asks { gateway: gateway.clone(), command: command.clone(), about: about.clone() };
        let task: JoinHandle<()> = tokio::spawn(async move {
            if let Some(reviewed) = asks.run(&tell).await {
                let _ = tell.send(reviewed).await;
            }
        });
        Self { told, command, about, task: task.abort_handle() }
    }

    /// Lets nobody decide any more, if it is this command that the review was asked for. It may be another's, too, which is then
    /// asked for again.
    pub(crate) fn withdraw(&self, gateway: &Arc<Gateway>) {
        let (gateway, command, about) = (gateway.clone(), self.command.clone(), self.about.clone());
        tokio::spawn(async move {
            let found =
                gateway.reviews.until(|reviews| of(reviews, &command).map(own_or_not(&command))).await;
            let Some(Some(review_id)) = found else { return };
            let event = Event::review_withdrawn(review_id, Cause::Cancelled, Masked::default());
            let writer = &gateway.control.reviews;
            if let Err(error) = writer.record_of_within(RECORD_WAIT_MAX, review_id, about, event).await {
                tracing::error!(%review_id, %error, "a review of a cancelled command could not be withdrawn");
            }
        });
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The last review of what a command would be granted for.
fn of<'a>(reviews: &'a Reviews, command: &HeldCommand) -> Option<&'a Review> {
    reviews.of(&(command.bound_to.key_id.clone(), command.bound_to.hmac_sha256.clone()))
}

/// The id of a review that was asked for by this very command.
fn own_or_not(command: &HeldCommand) -> impl Fn(&Review) -> Option<Id> {
    let run = run(command);
    move |review| (review.request.run == run).then_some(review.request.review_id)
}

fn run(command: &HeldCommand) -> Run {
    Run { stream_id: command.stream_id, command_seq: command.command_seq }
}

/// Where the review of a command stands.
enum Standing {
    /// There is none that could be decided about or used.
    Nothing,
    Open(Id),
    Granted {
        review_id: Id,
        decision: wire::ControlReference,
    },
    /// Nothing more comes of it.
    Over(Reviewed),
}

struct Asks {
    gateway: Arc<Gateway>,
    command: HeldCommand,
    about: Subject,
}

impl Asks {
    /// Asks, tells that it was asked for, and gives what became of it.
    async fn run(&self, tell: &mpsc::Sender<Reviewed>) -> Option<Reviewed> {
        let mut changed = self.gateway.reviews.changed.subscribe();
        let mut told = None;
        let mut has_requested = false;
        loop {
            changed.borrow_and_update();
            match self.stands(told) {
                // What was just asked for is open, or nobody can decide about it.
                Standing::Nothing if has_requested => return Some(Reviewed::Unavailable),
                Standing::Nothing => match self.request().await {
                    Ok(()) => {
                        has_requested = true;
                        continue;
                    }
                    Err(failed) => return Some(failed),
                },
                Standing::Open(review_id) if told != Some(review_id) => {
                    (told, has_requested) = (Some(review_id), false);
                    tell.send(Reviewed::Asked { review_id }).await.ok()?;
                }
                Standing::Open(_) => {}
                Standing::Granted { review_id, decision } if self.command.once() => {
                    match self.claim(review_id).await {
                        Ok(Some(used)) => {
                            return Some(Reviewed::Granted { review_id, decision, used: Some(used) });
                        }
                        // Another run was first.
                        Ok(None) => continue,
                        Err(failed) => return Some(failed),
                    }
                }
                Standing::Granted { review_id, decision } => {
                    return Some(Reviewed::Granted { review_id, decision, used: None });
                }
                Standing::Over(reviewed) => return Some(reviewed),
            }
            changed.changed().await.ok()?;
        }
    }

    /// Where the last review of this command stands. One that the session was told of does not end in silence.
    fn stands(&self, told: Option<Id>) -> Standing {
        let now_unix_us = clock::unix_us();
        let reviews = self.gateway.reviews.lock();
        let Some(review) = of(&reviews, &self.command) else { return Standing::Nothing };
        let review_id = review.request.review_id;
        if review.request.terms != terms(&self.command) || review.request.once != self.command.once() {
            return Standing::Nothing;
        }
        let is_told = told == Some(review_id);
        match review.status(now_unix_us, people(&self.gateway.directory)) {
            ReviewStatus::Open => Standing::Open(review_id),
            ReviewStatus::Granted { decision, .. } => {
                Standing::Granted { review_id, decision: decision.control.clone() }
            }
            // A rejection stands as long as there could have been an approval.
            ReviewStatus::Rejected { decision } if is_told || now_unix_us <= review.open_until_unix_us() => {
                Standing::Over(Reviewed::Rejected { review_id, decision: decision.control.clone() })
            }
            // Who asked for it has it asked for no more; whoever else waits for it asks anew.
            ReviewStatus::Withdrawn if is_told && review.request.run == run(&self.command) => {
                Standing::Over(Reviewed::Withdrawn { review_id })
            }
            ReviewStatus::Lapsed | ReviewStatus::Expired if is_told => {
                Standing::Over(Reviewed::Lapsed { review_id })
            }
            _ => Standing::Nothing,
        }
    }

    /// Has people asked. Returns once this process has read so itself.
    async fn request(&self) -> Result<(), Reviewed> {
        let principal =
            self.about.principal.as_ref().map(|principal| principal.name.as_str()).unwrap_or_default();
        let (open, known) = self.gateway.reviews.lock().count_of(principal, clock::unix_us());
        if open >= OPEN_REVIEWS_MAX || known >= KNOWN_REVIEWS_MAX {
            return Err(Reviewed::TooMany);
        }
        let review_id = clock::new_id();
        let event = Event::review_requested(requested(&self.command, review_id));
        let writer = &self.gateway.control.reviews;
        let recorded = writer.record_of_within(RECORD_WAIT_MAX, review_id, self.about.clone(), event).await;
        if let Err(error) = recorded {
            tracing::error!(%review_id, %error, "a review could not be asked for");
            return Err(Reviewed::Unavailable);
        }
        let seen = self.gateway.reviews.until(|reviews| reviews.get(review_id).map(drop)).await;
        seen.ok_or(Reviewed::Unavailable)
    }

    /// Takes a grant that is good for one run. `None` if another run has it.
    async fn claim(&self, review_id: Id) -> Result<Option<wire::ControlReference>, Reviewed> {
        let run = run(&self.command);
        let event = Event::grant_used(review_id, run.stream_id, run.command_seq);
        let writer = &self.gateway.control.reviews;
        let recorded = writer.record_of_within(RECORD_WAIT_MAX, review_id, self.about.clone(), event).await;
        if let Err(error) = recorded {
            tracing::error!(%review_id, %error, "a grant could not be taken");
            return Err(Reviewed::Unavailable);
        }
        // Whoever is first in the log has it.
        let directory = &self.gateway.directory;
        let settled = |reviews: &Reviews| match reviews
            .get(review_id)?
            .status(clock::unix_us(), people(directory))
        {
            ReviewStatus::Granted { .. } | ReviewStatus::Open => None,
            ReviewStatus::Used { run: first, claim, .. } if first == run => Some(Some(claim.control.clone())),
            _ => Some(None),
        };
        self.gateway.reviews.until(settled).await.ok_or(Reviewed::Unavailable)
    }
}

/// The principals of the configuration as those who review, and are reviewed.
fn people(directory: &Directory) -> impl Fn(&str) -> Option<Person> + '_ {
    |name| person(&*directory.principal(name)?)
}

/// Somebody with a key that is none decides nothing.
fn person(principal: &Principal) -> Option<Person> {
    Some(Person {
        identity: principal.person.clone(),
        is_human: principal.kind == PrincipalKind::Human,
        groups: principal.groups.clone(),
        review_key: principal.review_key.as_deref().map(str::parse).transpose().ok()?,
    })
}

fn terms(command: &HeldCommand) -> Vec<ReviewTerms> {
    let of_one = |terms: &Arc<HoldTerms>| ReviewTerms {
        rule: terms.rule.clone(),
        text: terms.text.clone(),
        reviewers: terms.reviewers.iter().map(reviewer).collect(),
        approvals: terms.approvals as usize,
        reason_required: terms.reason_required,
    };
    command.terms.iter().map(of_one).collect()
}

fn reviewer(reviewer: &rules::Reviewer) -> Reviewer {
    match reviewer {
        rules::Reviewer::Group(name) => Reviewer::Group(name.clone()),
        rules::Reviewer::Principal(name) => Reviewer::Principal(name.clone()),
    }
}

fn requested(command: &HeldCommand, review_id: Id) -> wire::ReviewRequested {
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let who = |reviewer: &rules::Reviewer| match reviewer {
        rules::Reviewer::Group(name) => wire::reviewer::Who::Group(name.clone()),
        rules::Reviewer::Principal(name) => wire::reviewer::Who::Principal(name.clone()),
    };
    let of_one = |terms: &Arc<HoldTerms>| wire::ReviewTerms {
        rule: terms.rule.clone(),
        text: terms.text.clone(),
        reviewers: terms.reviewers.iter().map(|it| wire::Reviewer { who: Some(who(it)) }).collect(),
        approvals: terms.approvals,
        reason_required: terms.reason_required,
    };
    wire::ReviewRequested {
        review_id: review_id.to_bytes(),
        command: Some(wire::ReviewedCommand {
            stream_id: command.stream_id.to_bytes(),
            command_seq: command.command_seq,
            chunks: command.chunks,
            last_hash: command.last_hash.as_bytes().to_vec().into(),
        }),
        bound_to: Some(command.bound_to.clone()),
        terms: command.terms.iter().map(of_one).collect(),
        wait_us: us(command.wait()),
        open_us: us(command.open()),
        grant_us: us(command.grant()),
        once: command.once(),
        in_transaction: command.in_transaction,
        policy_version: command.policy_version.clone(),
        said_seqs: command.said_seqs.clone(),
        said: command.said,
    }
}
