//! The judgement on one statement, by what it does.

use super::deny::{CODE, DEFINED, DYNAMIC, UNPARSED};
use super::harmless::{FunctionKind, function_kind};
use super::query::queried;
use super::{Allowance, Diagnostics, UnknownOrigins, copy, session};
use crate::catalogue::{Catalogue, Resolved};
use crate::decide::Denial;
use crate::facts::{Name, StatementFacts, StatementKind, Words};

pub(super) fn judge(
    facts: &StatementFacts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
    by_kind(&facts.kind, facts, catalogue, resolved)
}

fn by_kind(
    kind: &StatementKind,
    facts: &StatementFacts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
    match kind {
        StatementKind::Unknown => Err(UNPARSED),
        StatementKind::Do | StatementKind::Call | StatementKind::Code | StatementKind::SystemSetting => {
            Err(CODE)
        }
        StatementKind::Set(setting) => session::may_set(setting).map(|()| Allowance::pass()),
        StatementKind::Transaction
        | StatementKind::ResetAll
        | StatementKind::Show
        | StatementKind::Deallocate { .. }
        | StatementKind::Move
        | StatementKind::ClosePortal
        | StatementKind::Listen
        | StatementKind::Notify
        | StatementKind::Unlisten
        | StatementKind::Discard => Ok(Allowance::pass()),
        // What the cursor or the prepared statement is made of was judged when it was made, and is not known here.
        StatementKind::Fetch { .. } => Ok(Allowance::redact()),
        StatementKind::Execute { .. } => Ok(query(facts, catalogue, resolved)?.and(Allowance::redact())),
        StatementKind::Select
        | StatementKind::Insert
        | StatementKind::Update
        | StatementKind::Delete
        | StatementKind::Merge
        | StatementKind::DeclareCursor { .. } => query(facts, catalogue, resolved),
        StatementKind::Prepare { inner, .. } => by_kind(inner, facts, catalogue, resolved),
        StatementKind::Explain { inner, .. } => explain(inner, facts, catalogue, resolved),
        StatementKind::CreateTableAs => create_from_query(facts, catalogue, resolved),
        StatementKind::Definition => definition(facts, catalogue, resolved),
        StatementKind::Lock
        | StatementKind::Truncate
        | StatementKind::Drop
        | StatementKind::Housekeeping
        | StatementKind::Vacuum { .. } => Ok(housekeeping(facts, resolved)),
        StatementKind::Copy(copied) => {
            let queried = queried(facts, catalogue, resolved)?;
            let plan = copy::plan(copied, &queried)?;
            let masks = plan.columns.iter().flatten().any(|column| column.redact || column.rule.is_some());
            let diagnostics =
                if masks || queried.may_show() { Diagnostics::Redact } else { Diagnostics::Pass };
            let guesses = queried.guesses;
            Ok(Allowance { diagnostics, guesses, copies: vec![plan], ..Allowance::pass() })
        }
    }
}

fn query(facts: &StatementFacts, catalogue: &Catalogue, resolved: &Resolved) -> Result<Allowance, Denial> {
    let queried = queried(facts, catalogue, resolved)?;
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
fn explain(
    inner: &StatementKind,
    facts: &StatementFacts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
    let mut allowance = by_kind(inner, facts, catalogue, resolved)?;
    let known = !matches!(inner, StatementKind::Execute { .. });
    let queried = queried(facts, catalogue, resolved)?;
    if known && !queried.calls_unknown && !queried.scope.opaque() {
        allowance.unknown_origins = UnknownOrigins::Pass;
    }
    Ok(allowance)
}

/// What is put into a new relation must not hold a masked value, since nothing would mask it there.
fn create_from_query(
    facts: &StatementFacts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
    let queried = queried(facts, catalogue, resolved)?;
    if queried.may_show() {
        return Err(DEFINED);
    }
    definition(facts, catalogue, resolved)
}

fn definition(
    facts: &StatementFacts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
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
