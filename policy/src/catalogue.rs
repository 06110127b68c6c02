//! What a target's catalogue says, as far as masks of columns need it: relations with their columns, what hangs together by
//! inheritance and by views, and which functions, operators and types may run code that reads tables.
//!
//! The shell reads it with [`queries`] on a connection of the gate's own, whose `search_path` is `pg_catalog` and whose
//! `client_encoding` is UTF8, all within one REPEATABLE READ transaction, and hands every row to a [`CatalogueBuilder`].

mod masks;
mod sql;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

pub use masks::{ColumnMask, ColumnName, ColumnRule, InvalidColumnName, Origin, Resolved, UnresolvedMask};
pub use sql::{CatalogueQuery, CatalogueTable, queries};

/// Relations of a target.
pub const RELATIONS_MAX: usize = 100_000;

/// Columns of all its relations.
pub const COLUMNS_MAX: usize = 2_000_000;

/// Links of inheritance, partitions and views.
pub const LINKS_MAX: usize = 1_000_000;

/// Functions, operators and types, each counted alone.
pub const NAMES_MAX: usize = 200_000;

/// One relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relkind`: `r` and `p` are tables, `v` and `m` views, `f` foreign tables, `S` sequences.
    pub kind: u8,
    /// Its columns by number, those that were dropped left out.
    pub columns: Vec<Column>,
}

impl Relation {
    /// Whether it holds its own rows, so that the origin of a result column that names it is the whole truth.
    #[must_use]
    pub fn is_base(&self) -> bool {
        matches!(self.kind, b'r' | b'p' | b'S')
    }

    /// Whether it is a view or a materialized view.
    #[must_use]
    pub fn is_view(&self) -> bool {
        matches!(self.kind, b'v' | b'm')
    }

    /// A column by its name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| same_name(&column.name, name))
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attnum`, from 1.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// The OID of its type.
    pub type_oid: u32,
    /// Whether it is generated, so that COPY leaves it out.
    pub generated: bool,
}

/// Whether two names may be the same to the target. A server with a one-byte encoding folds letters beyond ASCII too.
#[must_use]
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    one == other || !(one.is_ascii() && other.is_ascii()) && one.to_lowercase() == other.to_lowercase()
}

/// The form of a name under which it is looked up: [`same_name`] holds if and only if these are equal.
pub(crate) fn name_key(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { name.to_lowercase() }
}

/// What is known of a name.
#[derive(Clone, Debug)]
struct Known {
    schema: String,
    harmless: bool,
    volatile: bool,
}

/// A link between two relations.
#[derive(Clone, Copy, Debug)]
struct Link {
    from: u32,
    to: u32,
}

/// What a target's catalogue says.
#[derive(Clone, Debug)]
pub struct Catalogue {
    relations: Vec<Relation>,
    by_oid: HashMap<u32, usize>,
    by_name: HashMap<String, Vec<usize>>,
    inherits: Vec<Link>,
    views: Vec<Link>,
    views_with_code: Vec<u32>,
    /// What is read with a relation: what a view names, and the partitions and children of a table.
    read_with: HashMap<u32, Vec<u32>>,
    /// The parents of partitions and children.
    parents: HashMap<u32, Vec<u32>>,
    functions: HashMap<String, Vec<Known>>,
    operators: HashMap<String, Vec<Known>>,
    types: HashMap<String, Vec<Known>>,
    version: [u8; 32],
}

impl Catalogue {
    /// A SHA-256 over everything that was read: equal catalogues have equal versions.
    #[must_use]
    pub fn version(&self) -> &[u8; 32] {
        &self.version
    }

    /// How many relations it has.
    #[must_use]
    pub fn relation_count(&self) -> usize {
        self.relations.len()
    }

    /// A relation by its OID.
    #[must_use]
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.by_oid.get(&oid).map(|index| &self.relations[*index])
    }

    /// Every relation that a name may mean: with a schema those of that schema, and if it has none of that name, like a
    /// name without, those of every schema, since which is meant is not known here.
    #[must_use]
    pub fn relations_named(&self, schema: Option<&str>, name: &str) -> Vec<&Relation> {
        let all =
            || self.by_name.get(&name_key(name)).into_iter().flatten().map(|index| &self.relations[*index]);
        if let Some(schema) = schema {
            let exact: Vec<_> = all().filter(|relation| same_name(&relation.schema, schema)).collect();
            if !exact.is_empty() {
                return exact;
            }
        }
        all().collect()
    }

    /// A relation with all that it stands for: what a view reads, the partitions of a table, and theirs; then what these are
    /// partitions of. Other partitions of those are not meant.
    pub(crate) fn with_what_it_stands_for<'a>(&'a self, relation: &'a Relation) -> Vec<&'a Relation> {
        let mut seen = HashSet::from([relation.oid]);
        let mut found = vec![relation];
        for links in [&self.read_with, &self.parents] {
            let mut next = 0;
            while let Some(relation) = found.get(next) {
                next += 1;
                let others = links.get(&relation.oid).into_iter().flatten();
                let others: Vec<_> = others.filter(|oid| seen.insert(**oid)).collect();
                found.extend(others.into_iter().filter_map(|oid| self.relation(*oid)));
            }
        }
        found
    }

    /// Whether a view calls a function that may do anything.
    pub(crate) fn has_code(&self, relation: &Relation) -> bool {
        self.views_with_code.binary_search(&relation.oid).is_ok()
    }

    /// Every function that a name may mean: its schema, and whether it is volatile.
    pub(crate) fn volatility(&self, schema: Option<&str>, name: &str) -> impl Iterator<Item = (&str, bool)> {
        let known = self.functions.get(&name_key(name)).into_iter().flatten();
        known
            .filter(move |known| schema.is_none_or(|schema| same_name(&known.schema, schema)))
            .map(|known| (known.schema.as_str(), known.volatile))
    }

    /// Every function that a name may mean: its schema, and whether it is known to read no table.
    pub(crate) fn functions_named(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> impl Iterator<Item = (&str, bool)> {
        named(&self.functions, schema, name)
    }

    /// The same of operators outside `pg_catalog`.
    pub(crate) fn operators_named(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> impl Iterator<Item = (&str, bool)> {
        named(&self.operators, schema, name)
    }

    /// The types that a name may mean, as far as casts to or from them may run code.
    pub(crate) fn types_with_code(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> impl Iterator<Item = (&str, bool)> {
        named(&self.types, schema, name)
    }
}

fn named<'a>(
    names: &'a HashMap<String, Vec<Known>>,
    schema: Option<&str>,
    name: &str,
) -> impl Iterator<Item = (&'a str, bool)> {
    names
        .get(&name_key(name))
        .into_iter()
        .flatten()
        .filter(move |known| schema.is_none_or(|schema| same_name(&known.schema, schema)))
        .map(|known| (known.schema.as_str(), known.harmless))
}

/// Why rows are no catalogue. It quotes nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A row has another number of cells than its query has columns, or a cell that is absent or no number.
    #[error("the target answered the catalogue query `{0}` with a row of another form")]
    Malformed(&'static str),
    /// More rows than the limit.
    #[error(
        "the target has more {what} than {max}, so columns cannot be masked there; mask by detectors alone"
    )]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// Takes the rows of the catalogue queries.
#[derive(Debug, Default)]
pub struct CatalogueBuilder {
    relations: Vec<Relation>,
    by_oid: HashMap<u32, usize>,
    inherits: Vec<Link>,
    views: Vec<Link>,
    views_with_code: Vec<u32>,
    functions: HashMap<String, Vec<Known>>,
    operators: HashMap<String, Vec<Known>>,
    types: HashMap<String, Vec<Known>>,
    columns: usize,
    names: [usize; 3],
    hash: Sha256,
}

impl CatalogueBuilder {
    /// Takes one row, in text format and UTF-8, of the query that reads `table`. All relations come before their columns.
    ///
    /// # Errors
    /// [`CatalogueError`]; the builder is then of no more use.
    pub fn row(&mut self, table: CatalogueTable, cells: &[Option<&str>]) -> Result<(), CatalogueError> {
        let malformed = CatalogueError::Malformed(table.name());
        self.absorb(table, cells);
        let cells = cells.iter().copied().collect::<Option<Vec<_>>>().ok_or(malformed)?;
        match (table, cells.as_slice()) {
            (CatalogueTable::Relations, [oid, schema, name, kind]) => {
                let oid = oid.parse().map_err(|_| malformed)?;
                let &[kind] = kind.as_bytes() else { return Err(malformed) };
                self.relation(Relation {
                    oid,
                    schema: (*schema).to_owned(),
                    name: (*name).to_owned(),
                    kind,
                    columns: Vec::new(),
                })
            }
            (CatalogueTable::Columns, [relation, number, name, type_oid, generated]) => {
                let relation = relation.parse().map_err(|_| malformed)?;
                let column = Column {
                    number: number.parse().map_err(|_| malformed)?,
                    name: (*name).to_owned(),
                    type_oid: type_oid.parse().map_err(|_| malformed)?,
                    generated: !generated.is_empty(),
                };
                self.column(relation, column)
            }
            (CatalogueTable::Links, [kind, from, to]) => {
                let link = Link {
                    from: from.parse().map_err(|_| malformed)?,
                    to: to.parse().map_err(|_| malformed)?,
                };
                self.link(kind, link)
            }
            (CatalogueTable::Functions, [schema, name, harmless, volatile]) => {
                let known = known(schema, harmless, volatile);
                take(&mut self.functions, &mut self.names[0], "functions", (name, known))
            }
            (CatalogueTable::Operators, [schema, name, harmless]) => {
                let known = known(schema, harmless, "f");
                take(&mut self.operators, &mut self.names[1], "operators", (name, known))
            }
            (CatalogueTable::Types, [schema, name, harmless]) => {
                let known = known(schema, harmless, "f");
                take(&mut self.types, &mut self.names[2], "types", (name, known))
            }
            _ => Err(malformed),
        }
    }

    /// The catalogue, when every row of every query was taken.
    #[must_use]
    pub fn finish(mut self) -> Catalogue {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, relation) in self.relations.iter_mut().enumerate() {
            relation.columns.sort_by_key(|column| column.number);
            by_name.entry(name_key(&relation.name)).or_default().push(index);
        }
        self.views_with_code.sort_unstable();
        let mut read_with: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut parents: HashMap<u32, Vec<u32>> = HashMap::new();
        for link in &self.views {
            read_with.entry(link.from).or_default().push(link.to);
        }
        for link in &self.inherits {
            read_with.entry(link.to).or_default().push(link.from);
            parents.entry(link.from).or_default().push(link.to);
        }
        Catalogue {
            relations: self.relations,
            by_oid: self.by_oid,
            by_name,
            inherits: self.inherits,
            views: self.views,
            views_with_code: self.views_with_code,
            read_with,
            parents,
            functions: self.functions,
            operators: self.operators,
            types: self.types,
            version: self.hash.finalize().into(),
        }
    }

    /// Every cell goes into the version behind its length, so that no two catalogues share a text.
    fn absorb(&mut self, table: CatalogueTable, cells: &[Option<&str>]) {
        self.hash.update([table as u8]);
        self.hash.update((cells.len() as u64).to_be_bytes());
        for cell in cells {
            let cell = cell.unwrap_or_default();
            self.hash.update((cell.len() as u64).to_be_bytes());
            self.hash.update(cell);
        }
    }

    fn relation(&mut self, relation: Relation) -> Result<(), CatalogueError> {
        if self.relations.len() >= RELATIONS_MAX {
            return Err(CatalogueError::TooMany { what: "relations", max: RELATIONS_MAX });
        }
        if self.by_oid.insert(relation.oid, self.relations.len()).is_some() {
            return Err(CatalogueError::Malformed(CatalogueTable::Relations.name()));
        }
        self.relations.push(relation);
        Ok(())
    }

    fn column(&mut self, relation: u32, column: Column) -> Result<(), CatalogueError> {
        if self.columns >= COLUMNS_MAX {
            return Err(CatalogueError::TooMany { what: "columns", max: COLUMNS_MAX });
        }
        self.columns += 1;
        let index =
            self.by_oid.get(&relation).ok_or(CatalogueError::Malformed(CatalogueTable::Columns.name()))?;
        self.relations[*index].columns.push(column);
        Ok(())
    }

    fn link(&mut self, kind: &str, link: Link) -> Result<(), CatalogueError> {
        if self.inherits.len() + self.views.len() + self.views_with_code.len() >= LINKS_MAX {
            return Err(CatalogueError::TooMany { what: "links between relations", max: LINKS_MAX });
        }
        match kind {
            "inherits" => self.inherits.push(link),
            "view" => self.views.push(link),
            "code" => self.views_with_code.push(link.from),
            _ => return Err(CatalogueError::Malformed(CatalogueTable::Links.name())),
        }
        Ok(())
    }
}

fn take(
    names: &mut HashMap<String, Vec<Known>>,
    count: &mut usize,
    what: &'static str,
    (name, known): (&str, Known),
) -> Result<(), CatalogueError> {
    if *count >= NAMES_MAX {
        return Err(CatalogueError::TooMany { what, max: NAMES_MAX });
    }
    *count += 1;
    names.entry(name_key(name)).or_default().push(known);
    Ok(())
}

fn known(schema: &str, harmless: &str, volatile: &str) -> Known {
    Known { schema: schema.to_owned(), harmless: harmless == "t", volatile: volatile == "t" }
}
