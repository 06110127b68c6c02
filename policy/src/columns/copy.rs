//! Which columns a COPY moves, and by which rules.

use super::deny::{COPIED, COPIED_AT_TARGET};
use super::harmless::{SystemRelation, system_relation};
use super::query::Queried;
use super::{CopyColumn, CopyPlan};
use crate::catalogue::{Catalogue, Column, Relation, Resolved, name_key};
use crate::decide::Denial;
use crate::facts::{CopyDirection, CopyEndpoint, CopyFacts, Name, OutputValue, Shape, Source};

/// The plan of a COPY between target and client.
pub(super) fn plan(facts: &CopyFacts, queried: &Queried<'_>) -> Result<CopyPlan, Denial> {
    if facts.endpoint != CopyEndpoint::Client {
        return Err(COPIED_AT_TARGET);
    }
    let columns = match &facts.relation {
        Some(relation) => of_relation(facts, relation, queried.scope.catalogue, queried.scope.resolved)?,
        None => of_query(queried)?,
    };
    let masks = columns.iter().flatten().any(|column| column.redact || column.rule.is_some());
    if facts.unknown_option && masks {
        return Err(COPIED);
    }
    Ok(CopyPlan { facts: facts.clone(), columns })
}

fn of_relation(
    facts: &CopyFacts,
    name: &Name,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Option<Vec<CopyColumn>>, Denial> {
    let candidates = catalogue.relations_named(name.schema.as_deref(), &name.name);
    let is_masked = |relation: &&Relation| resolved.names(relation.oid).is_some();
    match candidates.as_slice() {
        [] => match (system_relation(name), facts.direction) {
            (Some(SystemRelation::Harmless), _) | (None, CopyDirection::From) => Ok(None),
            _ => Err(COPIED),
        },
        _ if candidates.iter().any(|relation| resolved.is_opaque(relation.oid)) => Err(COPIED),
        [relation] if relation.is_base() => listed(relation, facts, resolved).map(Some),
        _ if candidates.iter().any(is_masked) => Err(COPIED),
        // Views, foreign tables, or one of several relations without masked columns.
        _ if facts.direction == CopyDirection::From
            || candidates.iter().all(|relation| relation.is_base()) =>
        {
            Ok(None)
        }
        _ => Err(COPIED),
    }
}

/// The listed columns, or all that are not generated, in the order of their numbers (`CopyGetAttnums`).
fn listed(relation: &Relation, facts: &CopyFacts, resolved: &Resolved) -> Result<Vec<CopyColumn>, Denial> {
    if facts.columns.is_empty() {
        let stored = relation.columns.iter().filter(|column| !column.generated);
        return Ok(stored.map(|column| of(relation, column, resolved)).collect());
    }
    let named =
        facts.columns.iter().map(|name| relation.column(name).map(|column| of(relation, column, resolved)));
    named.collect::<Option<_>>().ok_or(COPIED)
}

fn of(relation: &Relation, column: &Column, resolved: &Resolved) -> CopyColumn {
    CopyColumn {
        name: column.name.clone(),
        table_oid: relation.oid,
        column_number: column.number,
        type_oid: column.type_oid,
        rule: resolved.rule(relation.oid, column.number).cloned(),
        redact: false,
    }
}

/// The columns of a query. Where no masked value can show, they need not be known.
fn of_query(queried: &Queried<'_>) -> Result<Option<Vec<CopyColumn>>, Denial> {
    let scope = &queried.scope;
    if !queried.may_show() && !scope.uncertain {
        return Ok(None);
    }
    let level = scope.facts.levels.first().ok_or(COPIED)?;
    if level.shape != Shape::Select {
        return Err(COPIED);
    }
    let mut columns = Vec::new();
    for output in &level.outputs {
        match &output.value {
            OutputValue::Star(qualifier) => {
                let qualifier = qualifier.last();
                // USING and NATURAL put shared columns first and once.
                if qualifier.is_none()
                    && level.joins.iter().any(|join| join.natural || !join.using.is_empty())
                {
                    return Err(COPIED);
                }
                let mut found = false;
                for item in &level.from {
                    let meant = qualifier.is_none_or(|qualifier| item.alias.as_ref() == Some(qualifier));
                    if meant {
                        found = true;
                        let relation = single(scope.catalogue, &item.source).ok_or(COPIED)?;
                        columns.extend(
                            relation.columns.iter().map(|column| of(relation, column, scope.resolved)),
                        );
                    }
                }
                if !found {
                    return Err(COPIED);
                }
            }
            OutputValue::Column(fields) => columns.push(column(queried, fields, output.alias.as_deref())),
            OutputValue::Function(name) => {
                columns.push(redacted(output.alias.as_deref().unwrap_or(&name.name)))
            }
            OutputValue::Expression => columns.push(redacted(output.alias.as_deref().unwrap_or_default())),
        }
    }
    Ok(Some(columns))
}

/// A column of the one relation of the query that has one of its name; redacted if that is not to be said.
fn column(queried: &Queried<'_>, fields: &[String], alias: Option<&str>) -> CopyColumn {
    let scope = &queried.scope;
    let level = &scope.facts.levels[0];
    let name = fields.last().map_or("", String::as_str);
    let qualifier = fields.len().checked_sub(2).map(|index| &fields[index]);
    let meant: Vec<_> = level
        .from
        .iter()
        .filter(|item| qualifier.is_none_or(|qualifier| item.alias.as_ref() == Some(qualifier)))
        .map(|item| single(scope.catalogue, &item.source).filter(|_| !item.columns_renamed))
        .collect();
    let has =
        |relation: &&Relation| relation.columns.iter().any(|column| name_key(&column.name) == name_key(name));
    let with: Option<Vec<&Relation>> = meant.into_iter().collect();
    let with: Vec<_> = with.unwrap_or_default().into_iter().filter(has).collect();
    match with.as_slice() {
        [relation] => {
            let column = relation.column(name).expect("it has one of that name");
            let mut column = of(relation, column, scope.resolved);
            if let Some(alias) = alias {
                alias.clone_into(&mut column.name);
            }
            column
        }
        _ => redacted(alias.unwrap_or(name)),
    }
}

fn redacted(name: &str) -> CopyColumn {
    CopyColumn {
        name: name.to_owned(),
        table_oid: 0,
        column_number: 0,
        type_oid: 0,
        rule: None,
        redact: true,
    }
}

/// The one table that a FROM item can mean.
fn single<'a>(catalogue: &'a Catalogue, source: &Source) -> Option<&'a Relation> {
    let Source::Relation(name) = source else { return None };
    if system_relation(name).is_some() {
        return None;
    }
    match catalogue.relations_named(name.schema.as_deref(), &name.name).as_slice() {
        [relation] if relation.is_base() => Some(relation),
        _ => None,
    }
}
