//! What a statement names, by the target's catalogue: everything that its names may mean.

use std::collections::BTreeSet;

use super::statement::Named;
use crate::catalogue::{Catalogue, Relation, same_name};
use crate::columns::{calls_sql_in_text, without_effect};
use crate::facts::{
    CopyDirection, FromItem, FunctionPlace, FunctionUse, Level, Name, OutputValue, Source, StatementFacts,
    StatementKind,
};

/// Names that one statement may come to. What comes to more is not told.
const NAMES_MAX: usize = 20_000;

/// Takes in what a statement names.
pub(super) struct Names<'a> {
    catalogue: &'a Catalogue,
    mentioned: &'a Mentioned<'a>,
    named: Named,
    /// Something in it reaches what nothing here names.
    reaches_further: bool,
}

impl<'a> Names<'a> {
    pub(super) fn of(catalogue: &'a Catalogue, mentioned: &'a Mentioned<'a>) -> Self {
        Self { catalogue, mentioned, named: Named::default(), reaches_further: false }
    }

    /// All that a statement names; `None` if that cannot be told.
    pub(super) fn take(mut self, facts: &StatementFacts) -> Option<Named> {
        for level in &facts.levels {
            let written = level.write.as_ref().map(|write| write.target);
            for (index, item) in level.from.iter().enumerate() {
                match &item.source {
                    Source::Relation(name) => self.relation(name, written == Some(index)),
                    Source::Functions(names) => names.iter().for_each(|name| self.function(name)),
                    _ => {}
                }
            }
        }
        if let StatementKind::Copy(copy) = &facts.kind {
            let written = copy.direction == CopyDirection::From;
            copy.relation.iter().for_each(|name| self.relation(name, written));
        }
        for name in facts.words.iter().flat_map(|words| &words.names).map(|name| unqualified(name)) {
            if !self.catalogue.relations_named(None, &name.name).is_empty() {
                self.relation(&name, facts.kind == StatementKind::Truncate);
            }
        }
        for FunctionUse { name, place, .. } in &facts.functions {
            // `(row).name` is a field where there is no such function.
            if *place != FunctionPlace::Attribute || self.is_function(name) {
                self.function(name);
            }
        }
        let called = facts.words.iter().flat_map(|words| &words.called).chain(&self.mentioned.called);
        for name in called.map(|name| unqualified(name)) {
            if self.is_function(&name) {
                self.function(&name);
            }
        }
        self.named.volatile |= self.runs_code(facts);
        (!self.reaches_further).then_some(self.named)
    }

    /// Operators, and casts, that call a function which may do anything.
    fn runs_code(&self, facts: &StatementFacts) -> bool {
        let catalogue = self.catalogue;
        let operator = |name: &Name| {
            catalogue.operators_named(name.schema.as_deref(), &name.name).any(|(_, harmless)| !harmless)
        };
        let cast =
            |name: &Name| catalogue.types_with_code(name.schema.as_deref(), &name.name).next().is_some();
        let of_words = facts.words.iter().flat_map(|words| &words.operators);
        facts.operators.iter().any(operator)
            || facts.types.iter().any(cast)
            || of_words.map(|name| unqualified(name)).any(|name| operator(&name))
    }

    fn is_function(&self, name: &Name) -> bool {
        self.catalogue.volatility(name.schema.as_deref(), &name.name).next().is_some()
    }

    fn relation(&mut self, name: &Name, written: bool) {
        let meant = self.catalogue.relations_named(name.schema.as_deref(), &name.name);
        if meant.is_empty() || name.schema.is_none() && name.name.starts_with("pg_") {
            self.not_known(name, written);
        }
        for relation in meant {
            for other in self.catalogue.with_what_it_stands_for(relation) {
                // A view may put out any column of what it reads, by any name.
                let whole = relation.is_view() && other.oid != relation.oid;
                self.meant(other, written, whole);
                if self.named.relations.len() + self.named.columns.len() > NAMES_MAX {
                    self.reaches_further = true;
                    return;
                }
            }
        }
    }

    fn meant(&mut self, relation: &Relation, written: bool, whole: bool) {
        let full = format!("{}.{}", relation.schema, relation.name);
        self.named.volatile |= self.catalogue.has_code(relation);
        let mentioned = self.mentioned;
        let columns = relation.columns.iter().filter(|column| whole || mentioned.has(&column.name));
        self.named.columns.extend(columns.map(|column| format!("{full}.{}", column.name)));
        self.named.writes.extend(written.then(|| full.clone()));
        self.named.relations.insert(full);
    }

    /// A relation that the catalogue does not have: one of the system's, or one that was just made.
    fn not_known(&mut self, name: &Name, written: bool) {
        let schema = match &name.schema {
            Some(schema) => schema,
            None if name.name.starts_with("pg_") => "pg_catalog",
            None => "?",
        };
        let full = format!("{schema}.{}", name.name);
        self.named.writes.extend(written.then(|| full.clone()));
        self.named.columns.insert(format!("{full}.*"));
        self.named.relations.insert(full);
    }

    fn function(&mut self, name: &Name) {
        self.reaches_further |= calls_sql_in_text(self.catalogue, name);
        let meant: Vec<_> = self.catalogue.volatility(name.schema.as_deref(), &name.name).collect();
        if meant.is_empty() {
            self.named.volatile = true;
            self.named.functions.insert(format!("{}.{}", name.schema.as_deref().unwrap_or("?"), name.name));
        }
        for (schema, volatile) in meant {
            self.named.volatile |= volatile && !(schema == "pg_catalog" && without_effect(&name.name));
            self.named.functions.insert(format!("{schema}.{}", name.name));
        }
    }
}

fn unqualified(name: &str) -> Name {
    Name { schema: None, name: name.to_owned() }
}

/// What a statement says of columns, whichever relation it says it of.
pub(super) struct Mentioned<'a> {
    names: BTreeSet<&'a str>,
    /// `*`, NATURAL, a row as a whole, or a definition.
    everything: bool,
    /// What is written as a field and is the name of a function, too: `row.name` calls it where there is no such column.
    called: BTreeSet<String>,
}

impl<'a> Mentioned<'a> {
    pub(super) fn of(facts: &'a StatementFacts, catalogue: &Catalogue) -> Self {
        let mut mentioned =
            Self { names: BTreeSet::new(), everything: facts.words.is_some(), called: BTreeSet::new() };
        facts.levels.iter().for_each(|level| mentioned.level(level));
        if let StatementKind::Copy(copy) = &facts.kind {
            mentioned.everything |= copy.columns.is_empty() && !copy.query;
            mentioned.names.extend(copy.columns.iter().map(String::as_str));
        }
        // A row as a whole is written as the name of an item of FROM, of any level around, with or without its schema.
        let mut items =
            facts.levels.iter().flat_map(|level| &level.from).filter_map(|item| item.alias.as_deref());
        let last: BTreeSet<_> =
            fields(facts).filter_map(|fields| fields.last()).map(String::as_str).collect();
        mentioned.everything |= items.any(|alias| last.contains(alias));
        let qualified = qualified(facts)
            .into_iter()
            .filter(|(_, name)| catalogue.volatility(None, name).next().is_some());
        let called = qualified.filter(|(row, name)| !is_column(facts, catalogue, row, name));
        mentioned.called = called.map(|(_, name)| name.to_owned()).collect();
        mentioned.everything |= !mentioned.called.is_empty();
        mentioned
    }

    fn has(&self, column: &str) -> bool {
        self.everything || self.names.iter().any(|name| same_name(name, column))
    }

    fn level(&mut self, level: &'a Level) {
        for output in &level.outputs {
            match &output.value {
                OutputValue::Column(fields) => self.names.extend(fields.iter().map(String::as_str)),
                OutputValue::Star(_) => self.everything = true,
                OutputValue::Function(_) | OutputValue::Expression => {}
            }
        }
        for reference in &level.references {
            self.everything |= reference.star;
            self.names.extend(reference.fields.iter().map(String::as_str));
        }
        for join in &level.joins {
            self.everything |= join.natural;
            self.names.extend(join.using.iter().map(String::as_str));
        }
        if let Some(write) = &level.write {
            self.everything |= write.all_columns;
            self.names.extend(write.columns.iter().map(|(name, _)| name.as_str()));
            self.names.extend(write.arbiters.iter().map(String::as_str));
        }
        // A column may go by another name outside.
        self.everything |= level.from.iter().any(|item| item.columns_renamed);
    }
}

/// What a statement names with dots between, or alone.
fn fields(facts: &StatementFacts) -> impl Iterator<Item = &Vec<String>> {
    let outputs =
        facts.levels.iter().flat_map(|level| &level.outputs).filter_map(|output| match &output.value {
            OutputValue::Column(fields) => Some(fields),
            _ => None,
        });
    outputs.chain(facts.levels.iter().flat_map(|level| &level.references).map(|reference| &reference.fields))
}

/// The last two of several fields: what may be a row and a column of it, or a row that a function is called with.
fn qualified(facts: &StatementFacts) -> BTreeSet<(&str, &str)> {
    let last = |fields: &Vec<String>| (fields.len() > 1).then(|| fields.len() - 2);
    fields(facts).filter_map(|it| last(it).map(|at| (it[at].as_str(), it[at + 1].as_str()))).collect()
}

/// Whether a field is a column wherever its row may come from, so that no function is called.
fn is_column(facts: &StatementFacts, catalogue: &Catalogue, row: &str, name: &str) -> bool {
    let puts_out = |level: &Level| {
        level.outputs.iter().any(|output| match (&output.alias, &output.value) {
            (Some(alias), _) => alias == name,
            (None, OutputValue::Column(fields)) => fields.last().is_some_and(|field| field == name),
            _ => false,
        })
    };
    let has = |item: &FromItem| match &item.source {
        Source::Relation(relation) => {
            let meant = catalogue.relations_named(relation.schema.as_deref(), &relation.name);
            !meant.is_empty() && meant.iter().all(|relation| relation.column(name).is_some())
        }
        Source::Level(level) => puts_out(&facts.levels[*level]),
        Source::Cte { level, index } => puts_out(&facts.levels[facts.levels[*level].ctes[*index].level]),
        Source::Functions(_) | Source::Table | Source::Join(..) => false,
    };
    let items = facts.levels.iter().flat_map(|level| &level.from);
    let mut of_row = items.filter(|item| item.alias.as_deref() == Some(row)).peekable();
    of_row.peek().is_some() && of_row.all(|item| !item.columns_renamed && has(item))
}
