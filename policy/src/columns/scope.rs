//! What the names of a query level may mean: which columns each FROM item carries, and whether a reference may be a masked one.
//!
//! PostgreSQL binds a name to the innermost level that has it, under rules of visibility (LATERAL, ON). Here a name is masked
//! if any level around it has it masked, seen or not: too much is refused rather than too little.

use std::collections::BTreeSet;

use super::deny::{FUNCTION, WHOLE_ROW};
use super::harmless::{
    FunctionKind, SystemRelation, extension_relation, function_kind, is_function, system_relation,
};
use crate::catalogue::{Catalogue, Relation, Resolved, name_key, same_name};
use crate::decide::Denial;
use crate::facts::{FromItem, Name, OutputValue, Shape, Source, StatementFacts};

/// The columns that a FROM item or a query puts out.
#[derive(Clone, Debug, Default)]
pub(super) struct Carrier {
    /// Those that are masked or of a value that is not known to be harmless.
    pub(super) masked: BTreeSet<String>,
    /// Others that are known.
    pub(super) clear: BTreeSet<String>,
    /// Any column of whatever name may be masked.
    pub(super) opaque: bool,
    /// Whether there may be columns beside those named.
    pub(super) incomplete: bool,
}

impl Carrier {
    pub(super) fn is_clean(&self) -> bool {
        self.masked.is_empty() && !self.opaque
    }

    fn absorb(&mut self, other: &Self) {
        self.masked.extend(other.masked.iter().cloned());
        self.clear.extend(other.clear.iter().cloned());
        self.opaque |= other.opaque;
        self.incomplete |= other.incomplete;
    }

    fn opaque() -> Self {
        Self { opaque: true, incomplete: true, ..Self::default() }
    }

    fn incomplete() -> Self {
        Self { incomplete: true, ..Self::default() }
    }

    /// The columns by other names, which are not followed.
    fn renamed(&mut self) {
        if !self.is_clean() {
            self.opaque = true;
        }
        self.clear.clear();
        self.incomplete = true;
    }

    /// Whether a column of this name may be masked.
    fn may_mask(&self, key: &str) -> bool {
        self.masked.contains(key) || self.opaque && !self.clear.contains(key)
    }
}

/// What a reference may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// No masked column.
    Clear,
    /// A masked column.
    Masked,
    /// A row that holds one, or a function called with such a row.
    Whole,
    /// A function of unknown effect, called with a row that holds none.
    Calls,
}

/// The names of one statement, resolved as far as they can be.
pub(super) struct Scope<'a> {
    pub(super) facts: &'a StatementFacts,
    pub(super) catalogue: &'a Catalogue,
    pub(super) resolved: &'a Resolved,
    /// What each level's FROM items carry, as far as they are entered.
    items: Vec<Vec<Carrier>>,
    /// What each level puts out; absent while it is being found.
    outputs: Vec<Option<Carrier>>,
    /// A relation with masked columns, or an opaque one, is named.
    pub(super) touches: bool,
    /// A relation or function is named of which too little is known to let results of unknown origin pass.
    pub(super) uncertain: bool,
}

impl<'a> Scope<'a> {
    /// Resolves every level.
    pub(super) fn new(
        facts: &'a StatementFacts,
        catalogue: &'a Catalogue,
        resolved: &'a Resolved,
    ) -> Result<Self, Denial> {
        let count = facts.levels.len();
        let mut scope = Self {
            facts,
            catalogue,
            resolved,
            items: vec![Vec::new(); count],
            outputs: vec![None; count],
            touches: false,
            uncertain: false,
        };
        for level in 0..count {
            scope.enter(level)?;
        }
        Ok(scope)
    }

    pub(super) fn items(&self, level: usize) -> &[Carrier] {
        &self.items[level]
    }

    /// Whether anything is named whose columns may be of any value.
    pub(super) fn opaque(&self) -> bool {
        self.items.iter().flatten().any(|item| item.opaque)
    }

    pub(super) fn output(&self, level: usize) -> Carrier {
        self.outputs[level].clone().unwrap_or_else(Carrier::opaque)
    }

    /// Finds what a level puts out, once. Levels around it are entered as far as it can see them: all of them if it is an
    /// operand, the items before it if it stands in FROM, and none of the level whose WITH it stands in.
    fn enter(&mut self, level: usize) -> Result<Carrier, Denial> {
        if let Some(found) = &self.outputs[level] {
            return Ok(found.clone());
        }
        // A recursive CTE that reads itself finds this; what may mask it is found in the branch that does not.
        self.outputs[level] = Some(Carrier::incomplete());
        let facts = &self.facts.levels[level];
        for cte in &facts.ctes {
            self.enter(cte.level)?;
        }
        for item in &facts.from {
            let carrier = self.carrier(level, item)?;
            self.touches |= !carrier.is_clean();
            self.items[level].push(carrier);
        }
        let carrier = match &facts.shape {
            Shape::SetOperation(branches) => {
                let mut carrier = Carrier::default();
                for branch in branches {
                    carrier.absorb(&self.enter(*branch)?);
                }
                carrier.renamed();
                carrier
            }
            Shape::Values(_) | Shape::Expressions => Carrier::incomplete(),
            Shape::Select | Shape::Insert | Shape::Update | Shape::Delete | Shape::Merge => {
                self.put_out(level)?
            }
        };
        self.outputs[level] = Some(carrier.clone());
        Ok(carrier)
    }

    fn carrier(&mut self, level: usize, item: &FromItem) -> Result<Carrier, Denial> {
        let mut carrier = match &item.source {
            Source::Relation(name) => self.relation(name),
            Source::Cte { level, index } => {
                let cte = &self.facts.levels[*level].ctes[*index];
                let mut carrier = self.enter(cte.level)?;
                if cte.columns_renamed {
                    carrier.renamed();
                }
                carrier
            }
            Source::Level(inner) => self.enter(*inner)?,
            Source::Functions(names) => {
                let unknown =
                    names.iter().any(|name| function_kind(self.catalogue, name) != FunctionKind::Harmless);
                if unknown { Carrier::opaque() } else { Carrier::incomplete() }
            }
            Source::Table => Carrier::incomplete(),
            Source::Join(first, end) => {
                let mut carrier = Carrier::default();
                for part in &self.items[level][*first..*end] {
                    carrier.absorb(part);
                }
                carrier
            }
        };
        if item.columns_renamed {
            carrier.renamed();
        }
        Ok(carrier)
    }

    /// The union of everything that a relation's name may mean.
    fn relation(&mut self, name: &Name) -> Carrier {
        let mut carrier = Carrier::default();
        let candidates = self.catalogue.relations_named(name.schema.as_deref(), &name.name);
        for relation in &candidates {
            self.candidate(relation, &mut carrier);
        }
        match system_relation(name) {
            Some(SystemRelation::Harmless) => carrier.incomplete = true,
            Some(SystemRelation::Holds(columns)) if candidates.is_empty() => {
                self.holds(columns, &mut carrier)
            }
            Some(SystemRelation::Unknown) if candidates.is_empty() => {
                self.uncertain = true;
                carrier.absorb(&Carrier::opaque());
            }
            None if candidates.is_empty() => {
                // Newer than the catalogue, or of a transaction that it does not see. What is called like a masked column
                // counts as one: a table may have been renamed.
                self.uncertain = true;
                carrier.masked = self.resolved.every_name().clone();
                carrier.incomplete = true;
            }
            _ => {}
        }
        carrier
    }

    fn candidate(&mut self, relation: &Relation, carrier: &mut Carrier) {
        if let Some(SystemRelation::Holds(columns)) =
            extension_relation(&relation.name).filter(|_| relation.is_view())
        {
            self.holds(columns, carrier);
        } else if self.resolved.is_opaque(relation.oid) {
            carrier.absorb(&Carrier::opaque());
        }
        self.uncertain |= !relation.is_base();
        let masked = self.resolved.names(relation.oid);
        for column in &relation.columns {
            let key = name_key(&column.name);
            match masked.is_some_and(|masked| masked.contains(&key)) {
                true => carrier.masked.insert(key),
                false => carrier.clear.insert(key),
            };
        }
    }

    fn holds(&mut self, columns: &[&str], carrier: &mut Carrier) {
        self.uncertain = true;
        carrier.masked.extend(columns.iter().map(|column| (*column).to_owned()));
        carrier.incomplete = true;
    }

    /// The outputs of a level by name.
    fn put_out(&mut self, level: usize) -> Result<Carrier, Denial> {
        let mut carrier = Carrier::default();
        for output in &self.facts.levels[level].outputs {
            match &output.value {
                OutputValue::Star(qualifier) => {
                    for part in self.starred(level, qualifier)? {
                        carrier.absorb(&part);
                    }
                }
                OutputValue::Column(fields) => {
                    let own = fields.last().expect("a reference has a name");
                    let key = name_key(output.alias.as_ref().unwrap_or(own));
                    match self.status(level, fields) {
                        Status::Clear => carrier.clear.insert(key),
                        Status::Masked => carrier.masked.insert(key),
                        Status::Whole => return Err(WHOLE_ROW),
                        Status::Calls => return Err(FUNCTION),
                    };
                }
                OutputValue::Function(name) => {
                    let key = name_key(output.alias.as_ref().unwrap_or(&name.name));
                    match function_kind(self.catalogue, name) {
                        FunctionKind::Harmless => carrier.clear.insert(key),
                        FunctionKind::Unknown | FunctionKind::Dynamic => carrier.masked.insert(key),
                    };
                }
                OutputValue::Expression => match &output.alias {
                    Some(alias) => {
                        carrier.clear.insert(name_key(alias));
                    }
                    None => carrier.incomplete = true,
                },
            }
        }
        // Two outputs of one name: the masked one counts.
        carrier.clear.retain(|key| !carrier.masked.contains(key));
        Ok(carrier)
    }

    /// What `*` or `qualifier.*` stands for.
    pub(super) fn starred(&self, level: usize, qualifier: &[String]) -> Result<Vec<Carrier>, Denial> {
        let Some(alias) = qualifier.last() else { return Ok(self.items[level].clone()) };
        let found: Vec<_> = self.qualified(level, alias).map(|(_, _, carrier)| carrier.clone()).collect();
        // The target will not know it either, or it is a name whose meaning escapes us.
        if found.is_empty() && self.touches { Err(WHOLE_ROW) } else { Ok(found) }
    }

    /// The levels from this one outwards.
    fn around(&self, level: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(level), |level| self.facts.levels[*level].parent)
    }

    /// Every item that a qualifier may mean.
    fn qualified<'s>(
        &'s self,
        level: usize,
        alias: &'s str,
    ) -> impl Iterator<Item = (usize, &'s FromItem, &'s Carrier)> + 's {
        self.around(level).flat_map(move |level| {
            self.facts.levels[level]
                .from
                .iter()
                .zip(&self.items[level])
                .filter(|(item, _)| item.alias.as_deref().is_some_and(|own| same_name(own, alias)))
                .map(move |(item, carrier)| (level, item, carrier))
        })
    }

    /// What a reference in a level may be.
    pub(super) fn status(&self, level: usize, fields: &[String]) -> Status {
        match fields {
            [] => Status::Whole,
            [name] => self.bare(level, name),
            [.., qualifier, name] => self.qualified_status(level, qualifier, name),
        }
    }

    fn bare(&self, level: usize, name: &str) -> Status {
        let key = name_key(name);
        if self.around(level).any(|level| self.items[level].iter().any(|item| item.masked.contains(&key))) {
            return Status::Masked;
        }
        let named_here = |level: usize| self.items[level].iter().any(|item| item.clear.contains(&key));
        let whole = self.qualified(level, name).any(|(level, item, carrier)| {
            !carrier.is_clean() && !matches!(item.source, Source::Functions(_)) && !named_here(level)
        });
        if whole {
            return Status::Whole;
        }
        let opaque = self
            .around(level)
            .any(|level| self.items[level].iter().any(|item| item.opaque) && !named_here(level));
        if opaque { Status::Masked } else { Status::Clear }
    }

    fn qualified_status(&self, level: usize, qualifier: &str, name: &str) -> Status {
        let key = name_key(name);
        let mut found = false;
        let mut status = Status::Clear;
        for (_, _, carrier) in self.qualified(level, qualifier) {
            found = true;
            if carrier.may_mask(&key) {
                return Status::Masked;
            }
            if carrier.clear.contains(&key) || is_system_column(name) {
                continue;
            }
            // `row.name` calls the function of that name with the row if the row has no such column.
            if !carrier.is_clean() && (!carrier.incomplete || is_function(self.catalogue, name)) {
                return Status::Whole;
            }
            if calls_unknown(self.catalogue, name) {
                status = Status::Calls;
            }
        }
        match found {
            true => status,
            false if self.touches || self.resolved.names_any_column(name) => Status::Masked,
            false => Status::Clear,
        }
    }
}

/// Whether a name that is no known column calls a function of unknown effect.
pub(super) fn calls_unknown(catalogue: &Catalogue, name: &str) -> bool {
    let name = Name { schema: None, name: name.to_owned() };
    catalogue.functions_named(None, &name.name).next().is_some()
        && function_kind(catalogue, &name) != FunctionKind::Harmless
}

fn is_system_column(name: &str) -> bool {
    matches!(name, "ctid" | "tableoid" | "xmin" | "xmax" | "cmin" | "cmax" | "oid")
}
