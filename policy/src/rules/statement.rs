//! What is asked about a statement of SQL: which actions it is, and what the rules may know of it.

use std::collections::BTreeSet;

use cedar_policy::RestrictedExpression;

use super::Reads;
use super::context::record;
use super::names::{Mentioned, Names};
use crate::catalogue::Catalogue;
use crate::facts::{
    Condition, CopyDirection, FunctionUse, Level, Shape, Source, StatementFacts, StatementKind, Unparsable,
};

/// An action of the schema that concerns a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// To open a session.
    Connect,
    /// A statement that is none of the three below.
    Execute,
    /// One that reads.
    Read,
    /// One that writes.
    Write,
    /// One that changes definitions, rights, or settings to come.
    Ddl,
}

impl Action {
    /// Those that a statement can be.
    pub const OF_STATEMENTS: [Self; 4] = [Self::Execute, Self::Read, Self::Write, Self::Ddl];

    /// Its name in the schema.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Execute => "execute",
            Self::Read => "read",
            Self::Write => "write",
            Self::Ddl => "ddl",
        }
    }
}

/// What the rules may know of one statement.
///
/// What is not known is not there for them: a rule that asks for it cannot be evaluated, and so denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What it is, at least one: a statement that reads and writes must be allowed both.
    pub actions: BTreeSet<Action>,
    /// Why nothing is known of it, if nothing is.
    pub unparsable: Option<Unparsable>,
    /// What it does, unless it could not be parsed.
    does: Option<Does>,
    /// What it names, unless its text does not tell.
    pub(super) named: Option<Named>,
    in_transaction: bool,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Does {
    verb: String,
    verbs: BTreeSet<&'static str>,
    condition: Condition,
    has_limit: bool,
    locks_rows: bool,
    /// None if a setting is among them that is not known.
    settings: Option<BTreeSet<String>>,
}

/// What a statement names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) relations: BTreeSet<String>,
    pub(super) writes: BTreeSet<String>,
    pub(super) columns: BTreeSet<String>,
    pub(super) functions: BTreeSet<String>,
    pub(super) volatile: bool,
}

/// What names mean where a statement runs.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The target's catalogue. Without it, which is read where rules ask for names, no name is known.
    pub catalogue: Option<&'a Catalogue>,
    /// Whether a transaction is open.
    pub in_transaction: bool,
}

impl Ask {
    /// What cannot be parsed. It may be anything, so it must be allowed everything.
    #[must_use]
    pub fn not_understood(why: Unparsable, in_transaction: bool) -> Self {
        let actions = Action::OF_STATEMENTS.into();
        Self { actions, unparsable: Some(why), does: None, named: None, in_transaction }
    }

    /// What its facts say.
    #[must_use]
    pub fn of(facts: &StatementFacts, surroundings: Surroundings<'_>) -> Self {
        let Surroundings { catalogue, in_transaction } = surroundings;
        if facts.kind == StatementKind::Unknown {
            return Self::not_understood(Unparsable::Syntax, in_transaction);
        }
        let named = catalogue
            .filter(|_| !is_opaque(facts))
            .and_then(|catalogue| Names::of(catalogue, &Mentioned::of(facts, catalogue)).take(facts));
        Self {
            actions: actions(&facts.kind, facts),
            unparsable: None,
            does: Some(Does::of(facts)),
            named,
            in_transaction,
        }
    }

    /// What is not known of it.
    pub(super) fn unknown(&self) -> Option<&'static str> {
        match (self.unparsable, &self.named) {
            (Some(Unparsable::TooLarge), _) => Some("the statement is larger than 1 MiB, so it is not read"),
            (Some(Unparsable::Syntax), _) => Some("it could not be read as PostgreSQL 18 reads SQL"),
            (None, None) => Some("its text does not tell what it reaches"),
            (None, Some(_)) => None,
        }
    }

    /// The same where what its names mean is not known.
    #[must_use]
    pub fn unnamed(self) -> Self {
        Self { named: None, ..self }
    }

    /// Its values, as far as they are known and read.
    pub(super) fn record(&self, reads: Reads) -> RestrictedExpression {
        let flag = RestrictedExpression::new_bool;
        let mut values = vec![
            ("understood", flag(self.does.is_some())),
            ("names_known", flag(self.named.is_some())),
            ("in_transaction", flag(self.in_transaction)),
        ];
        let wants = |name: &str| reads.has(&["statement", name]);
        if let Some(does) = &self.does {
            values.extend([
                ("verb", text(&does.verb)),
                ("verbs", set(does.verbs.iter().copied())),
                ("has_where", flag(does.condition >= Condition::Open)),
                ("narrow", flag(does.condition >= Condition::Narrow)),
                ("has_limit", flag(does.has_limit)),
                ("locks_rows", flag(does.locks_rows)),
            ]);
            values.extend(does.settings.iter().map(|it| ("settings", set(it.iter().map(String::as_str)))));
        }
        if let Some(named) = &self.named {
            let sets = [
                ("relations", &named.relations),
                ("writes", &named.writes),
                ("columns", &named.columns),
                ("functions", &named.functions),
            ];
            let read = sets.into_iter().filter(|(name, _)| wants(name));
            values.extend(read.map(|(name, names)| (name, set(names.iter().map(String::as_str)))));
            values.push(("volatile", flag(named.volatile)));
        }
        record(
            values.into_iter().filter(|(name, _)| wants(name)).map(|(name, value)| (name.to_owned(), value)),
        )
    }
}

impl Does {
    fn of(facts: &StatementFacts) -> Self {
        let verb = verb(&facts.kind, facts);
        let of_levels = facts.levels.iter().filter_map(|level| level.write.as_ref());
        let mut verbs: BTreeSet<_> = of_levels.flat_map(|write| write.commands.iter().copied()).collect();
        if let StatementKind::Explain { analyze: true, inner } = &facts.kind {
            verbs.extend(of_kind(inner));
        }
        verbs.insert(verb);
        Self {
            verb: verb.to_owned(),
            verbs,
            condition: condition(facts),
            has_limit: facts.levels.first().is_some_and(|level| level.limited),
            locks_rows: facts.levels.iter().any(|level| level.locks_rows),
            settings: settings(facts),
        }
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn set<'a>(values: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(text))
}

/// Which actions a statement is.
fn actions(kind: &StatementKind, facts: &StatementFacts) -> BTreeSet<Action> {
    let action = match kind {
        StatementKind::Select | StatementKind::DeclareCursor { .. } => Action::Read,
        StatementKind::Insert
        | StatementKind::Update
        | StatementKind::Delete
        | StatementKind::Merge
        | StatementKind::Truncate => Action::Write,
        StatementKind::Copy(copy) => match copy.direction {
            CopyDirection::To => Action::Read,
            CopyDirection::From => Action::Write,
        },
        // A plan tells of what would be read, and does nothing of it.
        StatementKind::Explain { analyze: false, .. } => return [Action::Read].into(),
        StatementKind::Explain { inner, .. } | StatementKind::Prepare { inner, .. } => {
            return actions(inner, facts);
        }
        StatementKind::CreateTableAs
        | StatementKind::CreateTableAsExecute { .. }
        | StatementKind::Definition
        | StatementKind::Code
        | StatementKind::Drop
        | StatementKind::SystemSetting
        | StatementKind::Vacuum { .. } => Action::Ddl,
        StatementKind::Housekeeping if !matches!(facts.verb, "CHECKPOINT" | "SET CONSTRAINTS") => Action::Ddl,
        // They may do anything at all.
        StatementKind::Do | StatementKind::Call => return Action::OF_STATEMENTS.into(),
        _ => Action::Execute,
    };
    let writes = facts.levels.iter().any(|level| level.write.is_some());
    let reads = facts.levels.iter().any(reads);
    [Some(action), writes.then_some(Action::Write), reads.then_some(Action::Read)]
        .into_iter()
        .flatten()
        .collect()
}

/// The command, as what is prepared or run has it.
fn verb(kind: &StatementKind, facts: &StatementFacts) -> &'static str {
    match kind {
        StatementKind::Copy(copy) if copy.direction == CopyDirection::From => "COPY FROM",
        StatementKind::Copy(_) => "COPY TO",
        StatementKind::Explain { analyze: true, .. } => "EXPLAIN ANALYZE",
        StatementKind::Prepare { inner, .. } => of_kind(inner).unwrap_or(facts.verb),
        _ => facts.verb,
    }
}

/// The command of what EXPLAIN and PREPARE have within.
fn of_kind(kind: &StatementKind) -> Option<&'static str> {
    Some(match kind {
        StatementKind::Select => "SELECT",
        StatementKind::Insert => "INSERT",
        StatementKind::Update => "UPDATE",
        StatementKind::Delete => "DELETE",
        StatementKind::Merge => "MERGE",
        StatementKind::DeclareCursor { .. } => "DECLARE CURSOR",
        StatementKind::CreateTableAs | StatementKind::CreateTableAsExecute { .. } => "CREATE TABLE AS",
        StatementKind::Execute { .. } => "EXECUTE",
        _ => return None,
    })
}

/// Whether what a statement does to which names is not told by its text: code, and what reaches further than it says.
fn is_opaque(facts: &StatementFacts) -> bool {
    let runs_code = matches!(facts.kind, StatementKind::Do | StatementKind::Call);
    // CASCADE, OWNED BY, ALL TABLES IN SCHEMA, and schemas that are dropped or renamed.
    let reaches = |name: &String| matches!(name.as_str(), "cascade" | "owned" | "schema");
    let words = facts.words.as_ref();
    let says_all =
        matches!(facts.kind, StatementKind::Vacuum { .. }) && words.is_some_and(|it| it.names.len() <= 1);
    runs_code || says_all || words.is_some_and(|words| words.unreadable || words.names.iter().any(reaches))
}

fn settings(facts: &StatementFacts) -> Option<BTreeSet<String>> {
    let of_kind = match &facts.kind {
        StatementKind::Set(setting) => Some(setting.name.clone()),
        StatementKind::ResetAll | StatementKind::Discard => Some("all".to_owned()),
        _ => None,
    };
    let configures = |function: &&FunctionUse| function.name.name == "set_config";
    let of_calls = facts.functions.iter().filter(configures).map(|function| {
        function.texts.first().and_then(Option::as_ref).map(|name| name.to_ascii_lowercase())
    });
    of_kind.map(Some).into_iter().chain(of_calls).collect()
}

/// That of the part of a statement which narrows least, among those that change or delete rows.
fn condition(facts: &StatementFacts) -> Condition {
    let changes = |level: &&Level| matches!(level.shape, Shape::Update | Shape::Delete | Shape::Merge);
    let of_levels = facts.levels.iter().filter(changes).map(|level| level.condition).min();
    let of_kind = (facts.kind == StatementKind::Truncate).then_some(Condition::Absent);
    of_levels.into_iter().chain(of_kind).min().unwrap_or(Condition::Narrow)
}

/// Whether a level takes rows from somewhere but what it writes, or gives those that it wrote.
fn reads(level: &Level) -> bool {
    let written = level.write.as_ref().map(|write| write.target);
    let read = |(index, item): (usize, &crate::facts::FromItem)| {
        let from_elsewhere =
            matches!(item.source, Source::Relation(_) | Source::Functions(_) | Source::Table);
        Some(index) != written && !item.of_target && from_elsewhere
    };
    level.from.iter().enumerate().any(read) || written.is_some() && !level.outputs.is_empty()
}
