//! What a grant is for: whose it is and where, the text and its values. Where anything was said before that may give the text
//! another meaning, it is for this one command in this one session, so that nobody has one thing approved and runs another.

use std::sync::Arc;

use retrace_policy::columns::is_plain_function;
use retrace_policy::facts::{Facts, Source, StatementFacts, StatementKind};
use retrace_policy::rules::HoldTerms;
use retrace_proto::wire::{self, Asserted};

use super::Session;
use super::rules::{RuleState, executed};

/// What was said that may give a later text another meaning.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The commands, by the numbers of their `CommandReceived`; the first ones, and 0 if it was said at the login.
    pub(super) seqs: Vec<u64>,
    /// How many there were.
    pub(super) count: u64,
}

/// Settings that give no statement another meaning, which drivers set.
const WITHOUT_MEANING_SET: [&str; 7] = [
    "application_name",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "work_mem",
];

/// Commands that are remembered so, for who decides to see them.
const SAID_SEQS_MAX: usize = 32;

/// What a client says of itself at its login that gives no statement another meaning.
const WITHOUT_MEANING: [&str; 4] = ["user", "database", "application_name", "client_encoding"];

/// What a grant is for, as the client says it.
pub(super) struct Bound<'a> {
    pub(super) facts: Option<&'a Arc<Facts>>,
    pub(super) sql: &'a [u8],
    /// The body of the Bind message, if there was one, behind its two names.
    pub(super) values: &'a [u8],
    pub(super) type_oids: &'a [u32],
    /// The number of its `CommandReceived`.
    pub(super) command_seq: u64,
}

/// Whether a client's login says something that may give its statements another meaning.
pub(super) fn has_meaning(asserted: &[Asserted]) -> bool {
    asserted.iter().any(|Asserted { name, .. }| !WITHOUT_MEANING.contains(&name.as_str()))
}

impl RuleState {
    pub(super) fn note(&mut self, command_seq: u64) {
        self.said.count += 1;
        if self.said.seqs.len() < SAID_SEQS_MAX {
            self.said.seqs.push(command_seq);
        }
    }

    /// Notes a command that is about to run, if it may give later ones another meaning.
    pub(super) fn note_run(&mut self, facts: Option<&Arc<Facts>>, command_seq: u64) {
        let has_meaning = |facts: &Arc<Facts>| !facts.statements.iter().all(leaves_meaning);
        if self.govern() && facts.is_none_or(has_meaning) {
            self.note(command_seq);
        }
    }

    /// What was said that may give a later text another meaning.
    pub(super) fn said(&self) -> &Said {
        &self.said
    }
}

impl Session {
    /// The name of what a grant is for. The same for the same command and terms of the same principal at the same target,
    /// whichever proxy it is at, if it means the same wherever it is said.
    pub(super) fn bound_to(&self, bound: &Bound<'_>, terms: &[Arc<HoldTerms>]) -> Option<wire::KeyedHash> {
        let key = self.rules.grants_key()?;
        let subject = self.audit.subject();
        let principal =
            subject.principal.as_ref().map(|principal| principal.name.as_str()).unwrap_or_default();
        let mut hasher = key.begin();
        for field in ["retrace grant v1", principal, &subject.target] {
            hasher.field(field.as_bytes());
        }
        hasher.field(&(terms.len() as u64).to_be_bytes());
        for terms in terms {
            // As their author wrote them: a later version may ask for more, or let a grant be good for less.
            hasher.field(format!("{terms:?}").as_bytes());
        }
        let means_the_same = |facts: &&Arc<Facts>| {
            self.reads_alike(facts) && facts.statements.iter().all(|it| executed(&it.kind).is_none())
        };
        if self.rules.said.count > 0 || bound.facts.filter(means_the_same).is_none() {
            hasher.field(b"here alone");
            hasher.field(self.audit.stream_id().as_bytes());
            hasher.field(&bound.command_seq.to_be_bytes());
        } else {
            hasher.field(b"anywhere");
        }
        hasher.field(bound.sql);
        hasher.field(bound.values);
        for oid in bound.type_oids {
            hasher.field(&oid.to_be_bytes());
        }
        Some(key.finish(hasher))
    }
}

/// Whether a statement leaves what later ones mean as it is: it sets nothing, makes nothing that a name may stand for, and calls
/// nothing that may. What PREPARE makes matters to who runs the name alone.
fn leaves_meaning(statement: &StatementFacts) -> bool {
    if let StatementKind::Set(setting) = &statement.kind {
        return WITHOUT_MEANING_SET.contains(&setting.name.as_str());
    }
    let is_plain = matches!(
        statement.kind,
        StatementKind::Select
            | StatementKind::Insert
            | StatementKind::Update
            | StatementKind::Delete
            | StatementKind::Merge
            | StatementKind::Truncate
            | StatementKind::Copy(_)
            | StatementKind::DeclareCursor { .. }
            | StatementKind::Fetch { .. }
            | StatementKind::Move { .. }
            | StatementKind::Prepare { .. }
            | StatementKind::Show
            | StatementKind::Transaction
    );
    let from = statement.levels.iter().flat_map(|level| &level.from);
    let calls_from = from.into_iter().any(|item| match &item.source {
        Source::Functions(names) => !names.iter().all(|name| is_plain_function(&name.name)),
        _ => false,
    });
    is_plain
        && !calls_from
        && statement.functions.iter().all(|function| is_plain_function(&function.name.name))
}
