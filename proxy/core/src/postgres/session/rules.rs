//! What the rules of the gate say of a command.
//!
//! A statement is decided about when it runs, with what is known then: a prepared one at each Execute, one that SQL prepared at
//! each EXECUTE, what a portal was bound to at each FETCH. To prepare what is denied is denied, too; to prepare what is held is
//! not, since nothing runs yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use retrace_policy::columns::keeps_lexing;
use retrace_policy::decide::{HELD, LEXING, NAMES, Verdict};
use retrace_policy::facts::{Facts, StatementFacts, StatementKind, Unparsable};
use retrace_policy::keyed::HashKey;
use retrace_policy::rules::{Ask, Question, Ruling, Scope, Surroundings};
use retrace_policy::statement::Backslash;
use retrace_proto::wire::Asserted;

use super::Session;
use super::expect::Expect;
use super::grants::{Said, has_meaning};
use crate::Now;

/// Names of prepared statements whose meaning is remembered. What further ones mean is not known.
const NAMES_MAX: usize = 4_096;

/// Meanings of one name that are remembered: the target may have refused to give it a new one. With more it is not known.
const MEANINGS_PER_NAME_MAX: usize = 8;

/// The rules that concern a session.
#[derive(Clone, Debug)]
pub struct SessionRules {
    /// Those of its principal at its target.
    pub scope: Arc<Scope>,
    /// From where its client came.
    pub client_address: Option<IpAddr>,
    /// The key of hashes over what a grant is for.
    pub grants_key: HashKey,
}

/// One statement of a text.
#[derive(Clone, Debug)]
struct Meaning {
    facts: Arc<Facts>,
    index: usize,
}

impl Meaning {
    fn statement(&self) -> &StatementFacts {
        &self.facts.statements[self.index]
    }
}

/// The rules of a session, and what they must know of it.
#[derive(Debug)]
pub(super) struct RuleState {
    rules: Option<SessionRules>,
    /// Whether a catalogue is asked for: what names mean matters to a rule.
    pub(super) needs_names: bool,
    /// What SQL, or the message Parse, prepared by name. One that may mean anything means nothing here.
    prepared: HashMap<String, Vec<Meaning>>,
    /// Whether a transaction was open when the target last said so.
    transaction: Transaction,
    /// Whether a definition of that transaction may have made names mean what the catalogue does not have.
    names_moved: bool,
    /// What was said that may give a later text another meaning.
    pub(super) said: Said,
}

/// Whether a transaction is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    Closed,
    Open,
    /// Rules are asked both ways, and the stricter answer holds.
    Unknown,
}

/// What a statement that is forwarded may change for those behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// It may begin or end a transaction.
    transaction: bool,
    /// It may make a name mean something else.
    names: bool,
}

/// What is to happen with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// It is prepared.
    Later,
    /// It runs.
    Now,
}

impl RuleState {
    pub(super) fn new(rules: Option<SessionRules>, asserted: &[Asserted]) -> Self {
        let mut state = Self {
            rules: None,
            needs_names: false,
            prepared: HashMap::new(),
            transaction: Transaction::Closed,
            names_moved: false,
            said: Said::default(),
        };
        state.adopt(rules);
        if has_meaning(asserted) {
            state.note(0);
        }
        state
    }

    /// Goes by these rules from now on. What was said and prepared while no rule could concern it is not known.
    fn adopt(&mut self, rules: Option<SessionRules>) {
        self.rules = rules.filter(|rules| !rules.scope.is_open());
        self.needs_names = self.rules.as_ref().is_some_and(|rules| rules.scope.reads().names());
        if self.rules.is_none() {
            // What names come to mean from now on is not remembered.
            self.prepared.clear();
        }
    }

    /// The key of hashes over what a grant is for, where a rule may hold something.
    pub(super) fn grants_key(&self) -> Option<&HashKey> {
        self.rules.as_ref().map(|rules| &rules.grants_key)
    }

    /// Whether any rule may say something of a statement.
    pub(super) fn govern(&self) -> bool {
        self.rules.is_some()
    }

    /// What a text may change for what comes behind it; one that nobody could read, anything.
    pub(super) fn moves(&self, facts: Option<&Arc<Facts>>) -> Moves {
        match facts {
            _ if !self.govern() => Moves::default(),
            None => Moves { transaction: true, names: true },
            Some(facts) => Moves {
                transaction: facts.statements.iter().any(|it| moves_transaction(&it.kind)),
                names: facts.statements.iter().any(moves_names),
            },
        }
    }

    /// Remembers what a text prepares by SQL, before it is forwarded.
    pub(super) fn remember_text(&mut self, facts: &Arc<Facts>) {
        for (index, statement) in facts.statements.iter().enumerate() {
            if let StatementKind::Prepare { name, .. } = &statement.kind {
                self.remember(name, Meaning { facts: facts.clone(), index });
            }
        }
    }

    /// Remembers what the message Parse prepares.
    pub(super) fn remember_parsed(&mut self, name: &[u8], facts: Option<&Arc<Facts>>) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        if name.is_empty() {
            return;
        }
        // A text of several statements cannot be prepared so.
        match facts.filter(|facts| facts.statements.len() == 1) {
            Some(facts) => self.remember(name, Meaning { facts: facts.clone(), index: 0 }),
            None => self.forget(name),
        }
    }

    fn remember(&mut self, name: &str, meaning: Meaning) {
        if !self.govern() {
            return;
        }
        if let Some(meanings) = self.prepared.get_mut(&key(name)) {
            let same = |known: &Meaning| known.statement() == meaning.statement();
            if !meanings.is_empty() && !meanings.iter().any(same) {
                meanings.push(meaning);
                if meanings.len() > MEANINGS_PER_NAME_MAX {
                    meanings.clear();
                }
            }
        } else if self.prepared.len() < NAMES_MAX {
            self.prepared.insert(key(name), vec![meaning]);
        }
    }

    fn forget(&mut self, name: &str) {
        if self.govern() && (self.prepared.len() < NAMES_MAX || self.prepared.contains_key(&key(name))) {
            self.prepared.insert(key(name), Vec::new());
        }
    }

    /// An Execute that may have begun or ended a transaction was answered, and no ReadyForQuery came yet.
    pub(super) fn note_executed(&mut self, moves: Moves) {
        if moves.transaction {
            self.transaction = Transaction::Unknown;
        }
        self.names_moved |= moves.names;
    }

    /// ReadyForQuery.
    pub(super) fn note_ready(&mut self, is_idle: bool, moved: Moves) {
        self.transaction = if is_idle { Transaction::Closed } else { Transaction::Open };
        self.names_moved = !is_idle && (self.names_moved || moved.names);
    }
}

/// A server with a one-byte encoding folds letters beyond ASCII, too.
fn key(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { name.to_lowercase() }
}

impl Session {
    /// The configuration was read again.
    pub(super) fn handle_ruled(&mut self, rules: SessionRules, policy_version: String) {
        let governed = self.rules.govern();
        self.policy_version = policy_version;
        self.rules.adopt(Some(rules));
        if self.rules.govern() && !governed {
            // What was said before is not known.
            self.rules.note(0);
        }
        self.catalogue_is_unread();
    }

    /// What the rules say of a text whose facts are these, or of one that nobody could read.
    pub(super) fn ruled(&self, now: Now, facts: Result<&Arc<Facts>, Unparsable>, run: Run) -> Verdict {
        let Some(rules) = &self.rules.rules else { return Verdict::Allow };
        let rolls_back = |facts: &&Arc<Facts>| facts.statements.iter().all(|it| it.verb == "ROLLBACK");
        if facts.is_ok_and(|facts| rolls_back(&facts)) {
            // Whatever the rules are, what was begun may be left.
            return Verdict::Allow;
        }
        if self.rules.needs_names && self.columns.now.is_none() {
            return Verdict::Deny(NAMES);
        }
        let under_way = self.moves_under_way();
        let transaction = if under_way.transaction { Transaction::Unknown } else { self.rules.transaction };
        let asks =
            Asks { session: self, rules, now, run, names_moved: self.rules.names_moved || under_way.names };
        match facts {
            Ok(facts) if self.reads_alike(facts) => asks.text(facts, transaction),
            Ok(_) => asks.not_understood(Unparsable::Syntax, transaction),
            Err(why) => asks.not_understood(why, transaction),
        }
    }

    /// Whether a transaction is open, or may be.
    pub(super) fn may_be_in_transaction(&self) -> bool {
        self.rules.transaction != Transaction::Closed || self.moves_under_way().transaction
    }

    /// What the rules say of a portal with a name, which SQL may run from now on as long as its transaction lasts, whatever
    /// becomes of the name here: it must be allowed whether or not that is open when it is bound.
    pub(super) fn ruled_portal(&self, now: Now, facts: Result<&Arc<Facts>, Unparsable>) -> Verdict {
        let Some(rules) = &self.rules.rules else { return Verdict::Allow };
        if self.rules.needs_names && self.columns.now.is_none() {
            return Verdict::Deny(NAMES);
        }
        let names_moved = self.rules.names_moved || self.moves_under_way().names;
        let asks = Asks { session: self, rules, now, run: Run::Now, names_moved };
        cannot_wait(match facts {
            Ok(facts) if self.reads_alike(facts) => asks.text(facts, Transaction::Unknown),
            Ok(_) => asks.not_understood(Unparsable::Syntax, Transaction::Unknown),
            Err(why) => asks.not_understood(why, Transaction::Unknown),
        })
    }

    /// Whether the target reads a text as the parser did.
    pub(super) fn reads_alike(&self, facts: &Facts) -> bool {
        self.columns.names.backslash == Backslash::Plain || (!facts.backslash_matters && facts.is_ascii)
    }

    /// What texts that the target has not answered may change.
    fn moves_under_way(&self) -> Moves {
        let mut moves = Moves::default();
        for expected in self.newest_first() {
            if let Expect::Query(ran) | Expect::Execute(ran) = &expected.expect {
                moves.transaction |= ran.moves.transaction;
                moves.names |= ran.moves.names;
            }
        }
        moves
    }
}

/// What is the same for all statements of a text.
struct Asks<'a> {
    session: &'a Session,
    rules: &'a SessionRules,
    now: Now,
    run: Run,
    /// Names may mean what the catalogue does not have.
    names_moved: bool,
}

impl<'a> Asks<'a> {
    /// All statements of a text are decided together: one that is denied denies all.
    fn text(mut self, facts: &'a Facts, mut transaction: Transaction) -> Verdict {
        let mut prepared: Vec<(&str, &StatementFacts)> = Vec::new();
        let mut verdict = Verdict::Allow;
        for statement in &facts.statements {
            if !keeps_lexing(statement) {
                return Verdict::Deny(LEXING);
            }
            let run = self.run;
            if let StatementKind::Prepare { name, .. } = &statement.kind {
                prepared.push((name, statement));
                self.run = Run::Later;
            }
            verdict = verdict.and(self.statement(statement, &prepared, transaction));
            self.run = run;
            if let Verdict::Deny(_) = verdict {
                return verdict;
            }
            if moves_transaction(&statement.kind) {
                transaction = after(statement, transaction);
            }
            self.names_moved |= moves_names(statement);
        }
        verdict
    }

    /// A statement, and what it runs that was given a name before: it is all that the name may stand for.
    fn statement(
        &self,
        statement: &'a StatementFacts,
        prepared: &[(&'a str, &'a StatementFacts)],
        transaction: Transaction,
    ) -> Verdict {
        self.asked(statement, transaction).and(match &statement.kind {
            StatementKind::Fetch { name } | StatementKind::Move { name } => {
                cannot_wait(self.fetched(name, transaction))
            }
            kind => match executed(kind) {
                Some(name) => self.executed(name, prepared, transaction),
                None => Verdict::Allow,
            },
        })
    }

    fn executed(
        &self,
        name: &str,
        prepared: &[(&'a str, &'a StatementFacts)],
        transaction: Transaction,
    ) -> Verdict {
        let key = key(name);
        let here =
            prepared.iter().filter(|(known, _)| self::key(known) == key).map(|(_, statement)| *statement);
        let before = self.session.rules.prepared.get(&key);
        let is_forgotten = before.is_some_and(Vec::is_empty);
        let mut meanings = here.chain(before.into_iter().flatten().map(Meaning::statement)).peekable();
        if is_forgotten || meanings.peek().is_none() {
            return self.not_understood(Unparsable::Syntax, transaction);
        }
        meanings.map(|meaning| self.asked(meaning, transaction)).fold(Verdict::Allow, Verdict::and)
    }

    /// A cursor that SQL declared was decided about then; what the message Bind made a portal of runs only now.
    fn fetched(&self, name: &str, transaction: Transaction) -> Verdict {
        let Some(portal) = self.session.portal_named(name.as_bytes()) else { return Verdict::Allow };
        let facts = portal.statement.as_ref().and_then(|statement| statement.understood.facts.as_ref().ok());
        match facts.map(|facts| facts.statements.as_slice()) {
            Some([statement]) => self.asked(statement, transaction),
            Some([]) => Verdict::Allow,
            _ => self.not_understood(Unparsable::Syntax, transaction),
        }
    }

    fn asked(&self, statement: &StatementFacts, transaction: Transaction) -> Verdict {
        let catalogue = self.session.columns.now.as_deref().map(|columns| &columns.catalogue);
        self.either_way(transaction, |in_transaction| {
            let ask = Ask::of(statement, Surroundings { catalogue, in_transaction });
            if self.names_moved { ask.unnamed() } else { ask }
        })
    }

    fn not_understood(&self, why: Unparsable, transaction: Transaction) -> Verdict {
        self.either_way(transaction, |in_transaction| Ask::not_understood(why, in_transaction))
    }

    fn either_way(&self, transaction: Transaction, ask: impl Fn(bool) -> Ask) -> Verdict {
        match transaction {
            Transaction::Closed => self.verdict(&ask(false)),
            Transaction::Open => self.verdict(&ask(true)),
            Transaction::Unknown => self.verdict(&ask(false)).and(self.verdict(&ask(true))),
        }
    }

    fn verdict(&self, ask: &Ask) -> Verdict {
        let scope = &self.rules.scope;
        let question = Question {
            client_address: self.rules.client_address,
            moment: scope.moment(self.now.unix_us),
            statement: Some(ask),
        };
        match scope.decide_statement(&question) {
            Ruling::Allow => Verdict::Allow,
            Ruling::Deny(why) => Verdict::Deny(why.denial()),
            Ruling::Hold(_) if self.run == Run::Later => Verdict::Allow,
            Ruling::Hold(terms) => Verdict::Hold(terms),
        }
    }
}

/// What is held is denied, where it cannot wait.
pub(super) fn cannot_wait(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Hold(_) => Verdict::Deny(HELD),
        verdict => verdict,
    }
}

/// Whether a statement may begin or end a transaction. What a name stands for may be BEGIN, if Parse prepared it.
fn moves_transaction(kind: &StatementKind) -> bool {
    matches!(
        kind,
        StatementKind::Transaction
            | StatementKind::Execute { .. }
            | StatementKind::Do
            | StatementKind::Call
            | StatementKind::Unknown
    )
}

/// Whether a transaction is open behind a statement that may begin or end one.
fn after(statement: &StatementFacts, before: Transaction) -> Transaction {
    match statement.verb {
        "BEGIN" | "START TRANSACTION" => Transaction::Open,
        "SAVEPOINT" | "RELEASE" | "ROLLBACK TO" => before,
        // COMMIT may have AND CHAIN.
        _ => Transaction::Unknown,
    }
}

/// Whether a statement may make a name mean a relation that is there already. A new table does not.
fn moves_names(statement: &StatementFacts) -> bool {
    let is_new = matches!(
        statement.verb,
        "CREATE TABLE" | "CREATE INDEX" | "CREATE SEQUENCE" | "CREATE TABLE AS" | "SELECT"
    );
    match &statement.kind {
        StatementKind::Definition | StatementKind::CreateTableAs | StatementKind::Code => !is_new,
        StatementKind::Do | StatementKind::Call | StatementKind::Unknown => true,
        _ => false,
    }
}

/// The name that a statement executes, if it does.
pub(super) fn executed(kind: &StatementKind) -> Option<&str> {
    match kind {
        StatementKind::Execute { name } | StatementKind::CreateTableAsExecute { name } => Some(name),
        StatementKind::Explain { inner, .. } => executed(inner),
        _ => None,
    }
}
