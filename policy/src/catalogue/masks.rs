//! Masks of named columns, and what they come to on a target's catalogue.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use retrace_proto::wire::MaskAction;

use super::{Catalogue, Relation, name_key, same_name};

/// A column by its full name, as the configuration writes it: `schema.table.column`, with double quotes around parts that hold
/// a dot or a quote. Case counts, as in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
}

/// A text that names no column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` names no column; write schema.table.column, with double quotes around a part that holds a dot"
)]
pub struct InvalidColumnName {
    /// The text.
    pub name: String,
}

impl FromStr for ColumnName {
    type Err = InvalidColumnName;

    fn from_str(text: &str) -> Result<Self, InvalidColumnName> {
        let invalid = || InvalidColumnName { name: text.to_owned() };
        let mut parts = vec![String::new()];
        let mut quoted = false;
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let part = parts.last_mut().expect("there is always one part");
            match char {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    part.push('"');
                }
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                _ => part.push(char),
            }
        }
        let parts: [String; 3] = parts.try_into().map_err(|_| invalid())?;
        if quoted || parts.iter().any(String::is_empty) {
            return Err(invalid());
        }
        let [schema, table, column] = parts;
        Ok(Self { schema, table, column })
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |part: &str| {
            if part.contains(['.', '"']) {
                format!("\"{}\"", part.replace('"', "\"\""))
            } else {
                part.to_owned()
            }
        };
        write!(f, "{}.{}.{}", quote(&self.schema), quote(&self.table), quote(&self.column))
    }
}

/// One `[[mask]]` of the configuration, as far as it names columns.
#[derive(Clone, Debug)]
pub struct ColumnMask {
    /// The rule's name, which every mask it causes carries.
    pub name: String,
    /// The columns.
    pub columns: Vec<ColumnName>,
    /// What stands in their place.
    pub action: MaskAction,
}

/// The rule that masks a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRule {
    /// The name of the mask.
    pub name: Arc<str>,
    /// What stands in the column's place.
    pub action: MaskAction,
}

/// What the origin of a result column means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A column of a table, and no rule speaks of it.
    Plain,
    /// A masked column.
    Masked(&'a ColumnRule),
    /// No column of a table that the catalogue knows: an expression, a view, or something newer than the catalogue.
    Unknown,
}

/// A mask that names a column the target does not have. Nothing may run on that target: the column may have another name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "mask `{mask}` names the column {column}, which the target does not have; correct the mask, then nothing needs a restart"
)]
pub struct UnresolvedMask {
    /// The mask's name.
    pub mask: String,
    /// The column.
    pub column: ColumnName,
}

/// Masks of columns on one target's catalogue. It belongs to the catalogue it was made from, by [`Resolved::version`].
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    columns: HashMap<(u32, i16), ColumnRule>,
    /// The names of the masked columns of each relation that has any.
    names: HashMap<u32, HashSet<String>>,
    /// Views that read a masked relation or run code, directly or through others: any of their columns may hold anything.
    opaque: HashSet<u32>,
    /// Every name of a masked column, of any relation.
    all_names: BTreeSet<String>,
    /// Every name of a relation that is masked or opaque.
    relation_names: HashSet<String>,
    version: [u8; 32],
}

impl Resolved {
    /// Finds the masked columns in the catalogue, with what hangs together with them by inheritance and partitioning.
    ///
    /// # Errors
    /// [`UnresolvedMask`] for the first column that the catalogue lacks.
    pub fn new(masks: &[ColumnMask], catalogue: &Catalogue) -> Result<Self, UnresolvedMask> {
        let mut resolved = Self { version: catalogue.version, ..Self::default() };
        let kin = Kin::new(catalogue);
        for mask in masks {
            let rule = ColumnRule { name: mask.name.as_str().into(), action: mask.action };
            for column in &mask.columns {
                let unresolved = || UnresolvedMask { mask: mask.name.clone(), column: column.clone() };
                let relation = exact(catalogue, column).ok_or_else(unresolved)?;
                for oid in kin.of(relation.oid) {
                    if let Some(kindred) = catalogue.relation(oid) {
                        resolved.mask(kindred, &column.column, &rule);
                    }
                }
            }
        }
        if !resolved.columns.is_empty() {
            resolved.find_opaque(catalogue);
        }
        Ok(resolved)
    }

    /// Whether no column is masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The version of the catalogue it was made from.
    #[must_use]
    pub fn version(&self) -> &[u8; 32] {
        &self.version
    }

    /// How many columns are masked, kindred tables' included.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// What the origin of a result column means, by the table's OID and the column's number as RowDescription has them.
    #[must_use]
    pub fn origin(&self, catalogue: &Catalogue, table_oid: u32, column_number: i16) -> Origin<'_> {
        if let Some(rule) = self.columns.get(&(table_oid, column_number)) {
            return Origin::Masked(rule);
        }
        let Some(relation) = catalogue.relation(table_oid).filter(|relation| relation.is_base()) else {
            return Origin::Unknown;
        };
        // Numbers below zero are ctid and its like.
        let known = column_number < 0
            || relation.columns.binary_search_by_key(&column_number, |column| column.number).is_ok();
        if known { Origin::Plain } else { Origin::Unknown }
    }

    /// The rule of a column, if it is masked.
    #[must_use]
    pub fn rule(&self, table_oid: u32, column_number: i16) -> Option<&ColumnRule> {
        self.columns.get(&(table_oid, column_number))
    }

    /// The masked columns' names of a relation, in the form of [`name_key`].
    pub(crate) fn names(&self, oid: u32) -> Option<&HashSet<String>> {
        self.names.get(&oid)
    }

    pub(crate) fn is_opaque(&self, oid: u32) -> bool {
        self.opaque.contains(&oid)
    }

    pub(crate) fn names_any_column(&self, name: &str) -> bool {
        self.all_names.contains(&name_key(name))
    }

    /// Every name of a masked column.
    pub(crate) fn every_name(&self) -> &BTreeSet<String> {
        &self.all_names
    }

    pub(crate) fn names_any_relation(&self, name: &str) -> bool {
        self.relation_names.contains(&name_key(name))
    }

    /// The strictest of the rules of one column holds: redact before token before partial, then the earlier one.
    fn mask(&mut self, relation: &Relation, column: &str, rule: &ColumnRule) {
        let Some(column) = relation.column(column) else { return };
        let rank = |action: MaskAction| match action {
            MaskAction::Partial => 2,
            MaskAction::Token => 1,
            MaskAction::Unspecified | MaskAction::Redact => 0,
        };
        let held = self.columns.entry((relation.oid, column.number)).or_insert_with(|| rule.clone());
        if rank(rule.action) < rank(held.action) {
            *held = rule.clone();
        }
        self.names.entry(relation.oid).or_default().insert(name_key(&column.name));
        self.all_names.insert(name_key(&column.name));
        self.relation_names.insert(name_key(&relation.name));
    }

    fn find_opaque(&mut self, catalogue: &Catalogue) {
        let mut readers: HashMap<u32, Vec<u32>> = HashMap::new();
        for link in &catalogue.views {
            readers.entry(link.to).or_default().push(link.from);
        }
        let mut open: Vec<u32> = self.names.keys().copied().collect();
        for view in &catalogue.views_with_code {
            if self.opaque.insert(*view) {
                open.push(*view);
            }
        }
        while let Some(oid) = open.pop() {
            for view in readers.get(&oid).into_iter().flatten() {
                if self.opaque.insert(*view) {
                    open.push(*view);
                }
            }
        }
        let names = self.opaque.iter().filter_map(|oid| catalogue.relation(*oid));
        self.relation_names.extend(names.map(|relation| name_key(&relation.name)));
    }
}

fn exact<'a>(catalogue: &'a Catalogue, column: &ColumnName) -> Option<&'a Relation> {
    let relations = catalogue.relations_named(Some(&column.schema), &column.table);
    relations.into_iter().find(|relation| {
        same_name(&relation.schema, &column.schema) && relation.column(&column.column).is_some()
    })
}

/// Which relations share rows by inheritance or partitioning: a column masked in one is masked in all.
struct Kin {
    neighbours: HashMap<u32, Vec<u32>>,
}

impl Kin {
    fn new(catalogue: &Catalogue) -> Self {
        let mut neighbours: HashMap<u32, Vec<u32>> = HashMap::new();
        for link in &catalogue.inherits {
            neighbours.entry(link.from).or_default().push(link.to);
            neighbours.entry(link.to).or_default().push(link.from);
        }
        Self { neighbours }
    }

    fn of(&self, oid: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([oid]);
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            for neighbour in self.neighbours.get(&oid).into_iter().flatten() {
                if found.insert(*neighbour) {
                    open.push(*neighbour);
                }
            }
        }
        found
    }
}
