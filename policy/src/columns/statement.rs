//! The judgement on one statement, by what it does.

use super::deny::{CODE, DEFINED, DYNAMIC, UNPARSED};
use super::harmless::{FunctionKind, function_kind};
use super::query::queried;
use super::{Allowance, Diagnostics, Session, SessionName, Terms, UnknownOrigins, copy, session};
use crate::catalogue::{Catalogue, Resolved};
use crate::decide::Denial;
use crate::facts::{CopyFacts, Name, StatementFacts, StatementKind, Words};

pub(super) fn judge(
    session: &Session,
    facts: &StatementFacts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
    let target = Target { session, catalogue, resolved };
    let mut allowance = by_kind(&facts.kind, facts, target)?;
    if let Some(name) = SessionName::made_by(&facts.kind) {
        allowance.names.push((name, allowance.terms()));
        // It has no rows itself, and compares nothing until it is used; a cursor may run at once.
        if let StatementKind::Prepare { .. } = facts.kind {
            allowance.guesses = 0;
        }
        allowance.unknown_origins = UnknownOrigins::Pass;
    }
    Ok(allowance)
}

/// What a statement is judged by.
#[derive(Clone, Copy)]
struct Target<'a> {
    session: &'a Session,
    catalogue: &'a Catalogue,
    resolved: &'a Resolved,
}

fn by_kind(kind: &StatementKind, facts: &StatementFacts, target: Target<'_>) -> Result<Allowance, Denial> {
    match kind {
        StatementKind::Unknown => Err(UNPARSED),
        // What a prepared statement reads is not known when a table is made of it.
        StatementKind::Do
        | StatementKind::Call
        | StatementKind::Code
        | StatementKind::CreateTableAsExecute { .. }
        | StatementKind::SystemSetting => Err(CODE),
        StatementKind::Set(setting) => session::may_set(setting).map(|()| Allowance::pass()),
        StatementKind::Transaction
        | StatementKind::ResetAll
        | StatementKind::Show
        | StatementKind::Deallocate { .. }
        | StatementKind::Move { .. }
        | StatementKind::ClosePortal
        | StatementKind::Listen
        | StatementKind::Notify
        | StatementKind::Unlisten
        | StatementKind::Discard => Ok(Allowance::pass()),
        StatementKind::Fetch { name } => {
            // FETCH compares nothing anew: its cursor did when it was declared.
            let terms = target.session.terms(&SessionName::Cursor(name.clone()));
            Ok(Allowance::of(Terms { guesses: 0, ..terms }))
        }
        StatementKind::Execute { name } => {
            let terms = target.session.terms(&SessionName::Prepared(name.clone()));
            Ok(query(facts, target)?.and(Allowance::of(terms)))
        }
        StatementKind::Select
        | StatementKind::Insert
        | StatementKind::Update
        | StatementKind::Delete
        | StatementKind::Merge
        | StatementKind::DeclareCursor { .. } => query(facts, target),
        StatementKind::Prepare { inner, .. } => by_kind(inner, facts, target),
        StatementKind::Explain { inner, .. } => explain(inner, facts, target),
        StatementKind::CreateTableAs => create_from_query(facts, target),
        StatementKind::Definition => definition(facts, target),
        StatementKind::Lock
        | StatementKind::Truncate
        | StatementKind::Drop
        | StatementKind::Housekeeping
        | StatementKind::Vacuum { .. } => Ok(housekeeping(facts, target.resolved)),
        StatementKind::Copy(copied) => copy(copied, facts, target),
    }
}

fn copy(copied: &CopyFacts, facts: &StatementFacts, target: Target<'_>) -> Result<Allowance, Denial> {
    let queried = queried(facts, target.catalogue, target.resolved)?;
    let plan = copy::plan(copied, &queried)?;
    let masks = plan.columns.iter().flatten().any(|column| column.redact || column.rule.is_some());
    let diagnostics = if masks || queried.may_show() { Diagnostics::Redact } else { Diagnostics::Pass };
    Ok(Allowance { diagnostics, guesses: queried.guesses, copies: vec![plan], ..Allowance::pass() })
}

fn query(facts: &StatementFacts, target: Target<'_>) -> Result<Allowance, Denial> {
    let queried = queried(facts, target.catalogue, target.resolved)?;
    let shows = queried.may_show();
    let mut allowance = Allowance::pass();
    if shows || queried.scope.uncertain {
        allowance.unknown_origins = UnknownOrigins::Redact;
    }
    if shows {
        allowance.diagnostics = Diagnostics::Redact;
    }
    allowance.guesses = queried.guesses;
    Ok(allowance)
}

/// A plan quotes the literals of the statement itself, and no value that was read; only a function of unknown effect may be
/// evaluated while planning.
fn explain(inner: &StatementKind, facts: &StatementFacts, target: Target<'_>) -> Result<Allowance, Denial> {
    let mut allowance = by_kind(inner, facts, target)?;
    let known = !matches!(inner, StatementKind::Execute { .. });
    let queried = queried(facts, target.catalogue, target.resolved)?;
    if known && !queried.calls_unknown && !queried.scope.opaque() {
        allowance.unknown_origins = UnknownOrigins::Pass;
    }
    Ok(allowance)
}

/// What is put into a new relation must not hold a masked value, since nothing would mask it there.
fn create_from_query(facts: &StatementFacts, target: Target<'_>) -> Result<Allowance, Denial> {
    let queried = queried(facts, target.catalogue, target.resolved)?;
    if queried.may_show() {
        return Err(DEFINED);
    }
    definition(facts, target)
}

fn definition(facts: &StatementFacts, target: Target<'_>) -> Result<Allowance, Denial> {
    let Target { catalogue, resolved, .. } = target;
    let Some(words) = &facts.words else { return Ok(Allowance::pass()) };
    let names_masked = words.names.iter().any(|name| resolved.names_any_relation(name));
    if words.unreadable || names_masked || uses_code(words, catalogue) {
        return Err(DEFINED);
    }
    for name in &words.called {
        let name = Name { schema: None, name: name.clone() };
        if function_kind(catalogue, &name) == FunctionKind::Dynamic {
            return Err(DYNAMIC);
        }
    }
    Ok(Allowance::pass())
}

/// Whether a word before a bracket is a function of unknown effect, or an operator may be one. Words that are no function at
/// all, such as `varchar (`, are not known to the catalogue.
fn uses_code(words: &Words, catalogue: &Catalogue) -> bool {
    let unknown = |name: &String| {
        catalogue.functions_named(None, name).next().is_some()
            && function_kind(catalogue, &Name { schema: None, name: name.clone() }) == FunctionKind::Unknown
    };
    let code = |operator: &String| catalogue.operators_named(None, operator).any(|(_, harmless)| !harmless);
    words.called.iter().any(unknown) || words.operators.iter().any(code)
}

fn housekeeping(facts: &StatementFacts, resolved: &Resolved) -> Allowance {
    let named = facts.words.as_ref().is_some_and(|words| {
        words.unreadable || words.names.iter().any(|name| resolved.names_any_relation(name))
    });
    let diagnostics = if named { Diagnostics::Redact } else { Diagnostics::Pass };
    Allowance { diagnostics, ..Allowance::pass() }
}
