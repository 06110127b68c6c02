//! The judgement on query levels: what is done with masked columns.

use super::deny::{
    COMPARED, DYNAMIC, EXPRESSION, FUNCTION, GROUPED, GUESSED, JOINED, LEXED_OTHERWISE, ORDERED, UNPARSED,
    WHOLE_ROW, WRITTEN,
};
use super::harmless::{FunctionKind, function_kind};
use super::scope::{Carrier, Scope, Status, calls_unknown};
use super::{GUESSES_PER_STATEMENT_MAX, session};
use crate::catalogue::{Catalogue, Resolved, name_key};
use crate::decide::Denial;
use crate::facts::{
    Clause, FunctionPlace, Level, Output, OutputValue, Place, Reference, Shape, StatementFacts, Usage,
    WriteValue,
};

/// References times FROM items of one statement: what a judgement may look at.
const LOOKUPS_PER_STATEMENT_MAX: usize = 4_000_000;

/// What the query levels of a statement come to.
pub(super) struct Queried<'a> {
    pub(super) scope: Scope<'a>,
    /// Literals compared with masked columns.
    pub(super) guesses: u32,
    /// A function of unknown effect is called.
    pub(super) calls_unknown: bool,
}

impl Queried<'_> {
    /// Whether a masked value may have its part in what comes back.
    pub(super) fn may_show(&self) -> bool {
        self.scope.touches || self.calls_unknown
    }
}

/// Judges every level of a statement, and the functions, operators and types it uses.
pub(super) fn queried<'a>(
    facts: &'a StatementFacts,
    catalogue: &'a Catalogue,
    resolved: &'a Resolved,
) -> Result<Queried<'a>, Denial> {
    let references: usize =
        facts.levels.iter().map(|level| level.references.len() + level.outputs.len()).sum();
    let items: usize = facts.levels.iter().map(|level| level.from.len()).sum();
    if references.saturating_mul(items) > LOOKUPS_PER_STATEMENT_MAX {
        return Err(UNPARSED);
    }
    let calls_unknown = functions(facts, catalogue)?;
    let scope = Scope::new(facts, catalogue, resolved)?;
    let mut guesses = 0_u32;
    for (index, level) in facts.levels.iter().enumerate() {
        guesses = guesses.saturating_add(one(&scope, index, level)?);
    }
    if guesses > GUESSES_PER_STATEMENT_MAX {
        return Err(GUESSED);
    }
    Ok(Queried { scope, guesses, calls_unknown })
}

/// Whether a function is called whose effect is not known; where it may be.
fn functions(facts: &StatementFacts, catalogue: &Catalogue) -> Result<bool, Denial> {
    let mut unknown = false;
    for function in &facts.functions {
        if function.place == FunctionPlace::Attribute {
            if calls_unknown(catalogue, &function.name.name) {
                return Err(FUNCTION);
            }
            continue;
        }
        if function.name.name == "set_config" && !session::may_configure(&function.texts) {
            return Err(LEXED_OTHERWISE);
        }
        match (function_kind(catalogue, &function.name), function.place) {
            (FunctionKind::Harmless, _) => {}
            (FunctionKind::Dynamic, _) => return Err(DYNAMIC),
            (FunctionKind::Unknown, FunctionPlace::Output | FunctionPlace::From) => unknown = true,
            (FunctionKind::Unknown, _) => return Err(FUNCTION),
        }
    }
    for operator in &facts.operators {
        let schema = operator.schema.as_deref();
        let mut meant = catalogue.operators_named(schema, &operator.name).peekable();
        let elsewhere = schema.is_some_and(|schema| schema != "pg_catalog") && meant.peek().is_none();
        if elsewhere || meant.any(|(_, harmless)| !harmless) {
            return Err(FUNCTION);
        }
    }
    for named in &facts.types {
        if catalogue.types_with_code(named.schema.as_deref(), &named.name).any(|(_, harmless)| !harmless) {
            return Err(FUNCTION);
        }
    }
    Ok(unknown)
}

/// Judges one level; how many literals it compares with masked columns.
fn one(scope: &Scope<'_>, index: usize, level: &Level) -> Result<u32, Denial> {
    let mut guesses = 0_u32;
    for reference in &level.references {
        guesses = guesses.saturating_add(referred(scope, index, level, reference)?);
    }
    joins(scope, index, level)?;
    outputs(scope, index, level)?;
    Ok(guesses.saturating_add(written(scope, index, level)?))
}

fn referred(scope: &Scope<'_>, index: usize, level: &Level, reference: &Reference) -> Result<u32, Denial> {
    if reference.star {
        let clean = scope.starred(index, &reference.fields)?.iter().all(Carrier::is_clean);
        return if clean { Ok(0) } else { Err(WHOLE_ROW) };
    }
    let status = match scope.status(index, &reference.fields) {
        Status::Clear if names_masked_output(scope, index, level, reference) => Status::Masked,
        status => status,
    };
    match (status, reference.usage) {
        (Status::Clear, _) => Ok(0),
        (Status::Whole, _) => Err(WHOLE_ROW),
        (Status::Calls, _) => Err(FUNCTION),
        (Status::Masked, Usage::ComparedWithLiterals { literals }) => Ok(literals),
        (Status::Masked, Usage::NullTest | Usage::ExcludedSameColumn) => Ok(0),
        (Status::Masked, Usage::Other) => Err(by_clause(reference.clause)),
    }
}

/// ORDER BY, GROUP BY and DISTINCT ON may name an output by its alias.
fn names_masked_output(scope: &Scope<'_>, index: usize, level: &Level, reference: &Reference) -> bool {
    let by_alias =
        matches!(reference.clause, Clause::Order | Clause::Group | Clause::Distinct | Clause::Window);
    let [name] = reference.fields.as_slice() else { return false };
    let key = name_key(name);
    by_alias
        && level.outputs.iter().any(|output| match &output.value {
            OutputValue::Star(_) => false,
            OutputValue::Column(fields) => {
                let own = output.alias.as_ref().or(fields.last());
                own.is_some_and(|own| name_key(own) == key) && is_masked(scope, index, output)
            }
            OutputValue::Function(name) => {
                name_key(output.alias.as_ref().unwrap_or(&name.name)) == key
                    && is_masked(scope, index, output)
            }
            OutputValue::Expression => false,
        })
}

fn by_clause(clause: Clause) -> Denial {
    match clause {
        Clause::Where | Clause::Having | Clause::Conflict | Clause::When => COMPARED,
        Clause::Join => JOINED,
        Clause::Group | Clause::Distinct => GROUPED,
        Clause::Order | Clause::Window => ORDERED,
        Clause::Assignment => WRITTEN,
        Clause::Output | Clause::Limit | Clause::From | Clause::Argument => EXPRESSION,
    }
}

fn joins(scope: &Scope<'_>, index: usize, level: &Level) -> Result<(), Denial> {
    let items = scope.items(index);
    for join in &level.joins {
        let natural = join.natural && items.iter().any(|item| !item.is_clean());
        let using = join.using.iter().any(|name| {
            let key = name_key(name);
            items.iter().any(|item| item.opaque || item.masked.contains(&key))
        });
        if natural || using {
            return Err(JOINED);
        }
    }
    Ok(())
}

fn is_masked(scope: &Scope<'_>, index: usize, output: &Output) -> bool {
    match &output.value {
        OutputValue::Star(qualifier) => scope
            .starred(index, qualifier)
            .map_or(true, |carriers| carriers.iter().any(|carrier| !carrier.is_clean())),
        OutputValue::Column(fields) => scope.status(index, fields) != Status::Clear,
        OutputValue::Function(name) => function_kind(scope.catalogue, name) != FunctionKind::Harmless,
        OutputValue::Expression => false,
    }
}

/// What the place of a level makes of its masked outputs.
fn outputs(scope: &Scope<'_>, index: usize, level: &Level) -> Result<(), Denial> {
    let carries = !scope.output(index).is_clean();
    if !carries {
        return Ok(());
    }
    if let Shape::SetOperation(_) = level.shape {
        return Err(GROUPED);
    }
    match level.place {
        Place::Operand => return Err(EXPRESSION),
        Place::InsertSource => return Err(WRITTEN),
        Place::Branch => return Err(GROUPED),
        Place::Outermost | Place::From | Place::Cte | Place::Exists => {}
    }
    if level.distinct {
        return Err(GROUPED);
    }
    let masked: Vec<_> = level.outputs.iter().map(|output| is_masked(scope, index, output)).collect();
    let starred = level.outputs.iter().any(|output| matches!(output.value, OutputValue::Star(_)));
    for (clause, position) in &level.ordinals {
        // A star moves what stands behind it by as many places as it has columns.
        let meant = position.checked_sub(1).and_then(|position| masked.get(position));
        if starred || meant.copied().unwrap_or(true) {
            return Err(by_clause(*clause));
        }
    }
    Ok(())
}

/// Judges what a level writes; what ON CONFLICT tells of values that are there counts as guesses.
fn written(scope: &Scope<'_>, index: usize, level: &Level) -> Result<u32, Denial> {
    let Some(write) = &level.write else { return Ok(0) };
    let target = &scope.items(index)[write.target];
    if target.is_clean() {
        return Ok(0);
    }
    let masked = |name: &String| target.opaque || target.masked.contains(&name_key(name));
    let allowed = |value: WriteValue| match value {
        WriteValue::Literal | WriteValue::Excluded => true,
        // As many values as the text has, and none of them masked: what they are made of is judged by its references.
        WriteValue::Computed => level.shape == Shape::Insert && write.rows.is_some(),
        WriteValue::Source => false,
    };
    if write.columns.iter().any(|(name, value)| masked(name) && !allowed(*value)) {
        return Err(WRITTEN);
    }
    let all_allowed = write.rows.is_some() || write.positions.iter().all(|value| allowed(*value));
    let from_query = level.shape == Shape::Insert && write.rows.is_none();
    if write.all_columns && (from_query || !all_allowed) {
        return Err(WRITTEN);
    }
    let writes_masked = write.all_columns || write.columns.iter().any(|(name, _)| masked(name));
    if write.on_conflict && (writes_masked || write.arbiters.iter().any(masked)) {
        return Ok(write.rows.map_or(u32::MAX, |rows| u32::try_from(rows).unwrap_or(u32::MAX)));
    }
    Ok(0)
}
