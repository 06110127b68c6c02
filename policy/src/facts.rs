//! What a statement is made of, read by PostgreSQL's own parser and independent of any catalogue.
//!
//! [`Facts`] are plain owned data, cheap to keep in a cache keyed by the text. Expressions are flattened into the lists of the
//! query level they stand in, so that whoever reads facts never recurses into them; query levels form an arena of bounded
//! depth. What the walk does not know makes a statement [`StatementKind::Unknown`]: a rule then denies it.
//!
//! [`Facts::of`] recurses as deep as the statement nests, in C and in Rust. Run it on a thread with a stack of
//! [`STACK_BYTES`]; on a smaller one a short statement ends the process. Reading facts needs no such stack.
//!
//! The parser reads string constants as `standard_conforming_strings = on` does and names as UTF-8. A session whose target
//! reads them otherwise needs the care that [`crate::columns`] takes.

mod condition;
mod copy;
mod expression;
mod from;
mod kind;
mod query;
#[cfg(test)]
mod tests;
mod utility;
mod verb;
mod words;
mod write;

use std::fmt;

pub use condition::Condition;
pub use kind::{SettingFacts, StatementKind};

pub use copy::{CopyDirection, CopyEndpoint, CopyFacts, CopyFormat, CopyHeader, ForceColumns};

/// Statements of more bytes are not parsed: a parse of 10 MB takes a second and a gigabyte.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// The stack that [`Facts::of`] may need. libpg_query hands no tree over that nests deeper than about 5,000 expressions, which
/// took 152 MiB in a debug build, whose frames are the largest. Pages that are never touched cost nothing.
pub const STACK_BYTES: usize = 256 << 20;

/// Query levels nested deeper make a statement unparsable, so that readers of facts may recurse.
pub const QUERY_DEPTH_LEVELS_MAX: usize = 64;

/// CTEs of one statement; more make it unknown.
pub const CTES_PER_STATEMENT_MAX: usize = 128;

/// FROM items of one statement; more make it unknown.
pub const FROM_ITEMS_PER_STATEMENT_MAX: usize = 1024;

/// Why there are no facts. It quotes nothing of the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsable {
    /// More than [`STATEMENT_BYTES_MAX`].
    #[error(
        "the statement is larger than {STATEMENT_BYTES_MAX} bytes; send the data by COPY or as parameters"
    )]
    TooLarge,
    /// PostgreSQL's parser refuses it, or it holds a zero byte.
    #[error("the statement is not SQL as PostgreSQL 18 reads it")]
    Syntax,
}

/// The facts of one text: of each of its statements, in order. An empty text has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// One per statement.
    pub statements: Vec<StatementFacts>,
    /// Whether a backslash stands in a string constant that `standard_conforming_strings = off` would read otherwise.
    pub backslash_matters: bool,
    /// Whether every character is one of ASCII.
    pub is_ascii: bool,
}

/// The facts of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementFacts {
    /// What it does.
    pub kind: StatementKind,
    /// Its command in upper case, for the record: `SELECT`, `CREATE TABLE`.
    pub verb: &'static str,
    /// Every query level, the outermost first. Empty if the statement has no query.
    pub levels: Vec<Level>,
    /// Functions called, anywhere.
    pub functions: Vec<FunctionUse>,
    /// Operators used, anywhere.
    pub operators: Vec<Name>,
    /// Types named, in casts and definitions.
    pub types: Vec<Name>,
    /// What the text of a definition names, if the statement is one: see [`Words`].
    pub words: Option<Words>,
}

/// A name that may be qualified by a schema; quotes and case are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The schema, if given.
    pub schema: Option<String>,
    /// The last part.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What the text of a definition names. Definitions are not walked node by node: whatever they may mean is one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Every name and string constant, as PostgreSQL folds it, once.
    pub names: Vec<String>,
    /// Those before an opening bracket: what may be a function call.
    pub called: Vec<String>,
    /// Runs of operator characters.
    pub operators: Vec<String>,
    /// Whether a text stands in it that is not read here (`U&"…"`), so that it may name anything.
    pub unreadable: bool,
}

/// One query level: a SELECT, VALUES, or a writing statement, with what stands in it but not in its sub-queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level around it, always earlier in the arena.
    pub parent: Option<usize>,
    /// How many levels are around it, at most [`QUERY_DEPTH_LEVELS_MAX`].
    pub depth: usize,
    /// Where in the level around it this one stands.
    pub place: Place,
    /// Its form.
    pub shape: Shape,
    /// The CTEs of its WITH, in order.
    pub ctes: Vec<Cte>,
    /// Everything its FROM or USING names, joins flattened, and the relation it writes.
    pub from: Vec<FromItem>,
    /// Joins among these.
    pub joins: Vec<Join>,
    /// What it puts out: the select list or RETURNING.
    pub outputs: Vec<Output>,
    /// References to columns and whole rows that are no plain output.
    pub references: Vec<Reference>,
    /// Positions by which ORDER BY, GROUP BY or DISTINCT ON name an output, from 1.
    pub ordinals: Vec<(Clause, usize)>,
    /// Plain DISTINCT.
    pub distinct: bool,
    /// FOR UPDATE and its like.
    pub locks_rows: bool,
    /// How far WHERE narrows its rows, or ON those of MERGE.
    pub condition: Condition,
    /// Whether it has LIMIT or FETCH FIRST with another count than ALL.
    pub limited: bool,
    /// What it writes, if it writes.
    pub write: Option<Write>,
}

/// Where a query level stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The statement itself, or what EXPLAIN, PREPARE, DECLARE or COPY runs.
    Outermost,
    /// In FROM: its outputs are columns of a [`FromItem`].
    From,
    /// The query of a CTE.
    Cte,
    /// Behind EXISTS, which sees that there are rows and nothing of them.
    Exists,
    /// An operand: scalar, IN, ANY, ALL, ARRAY, a row of an assignment.
    Operand,
    /// What INSERT inserts.
    InsertSource,
    /// A branch of UNION, INTERSECT or EXCEPT.
    Branch,
}

/// The form of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A plain SELECT.
    Select,
    /// Rows of expressions: how many.
    Values(usize),
    /// UNION, INTERSECT, EXCEPT: its branches are levels of their own.
    SetOperation(Vec<usize>),
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// Expressions alone, such as the arguments of EXECUTE.
    Expressions,
}

/// One CTE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cte {
    /// Its name.
    pub name: String,
    /// Whether a list renames its columns, or SEARCH and CYCLE add to them.
    pub columns_renamed: bool,
    /// Its query.
    pub level: usize,
}

/// Something that FROM names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromItem {
    /// By which name columns are qualified; a relation's own if it has no alias.
    pub alias: Option<String>,
    /// Whether a list renames its columns.
    pub columns_renamed: bool,
    /// Whether it stands for the rows that are written: `excluded`, `old`, `new`.
    pub of_target: bool,
    /// What it is.
    pub source: Source,
}

/// What a FROM item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A relation.
    Relation(Name),
    /// A CTE in scope.
    Cte {
        /// The level that has it.
        level: usize,
        /// Which of its CTEs.
        index: usize,
    },
    /// A sub-query.
    Level(usize),
    /// Functions, by their names.
    Functions(Vec<Name>),
    /// XMLTABLE or JSON_TABLE, of expressions.
    Table,
    /// A join that has an alias: the items from the first to before the second.
    Join(usize, usize),
}

/// How items are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// NATURAL.
    pub natural: bool,
    /// The columns of USING.
    pub using: Vec<String>,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The name it is given with AS.
    pub alias: Option<String>,
    /// What it is.
    pub value: OutputValue,
}

/// What an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputValue {
    /// A column, or a whole row by its bare name.
    Column(Vec<String>),
    /// `*`, or all of what the names qualify.
    Star(Vec<String>),
    /// A function call and nothing around it; its arguments are references.
    Function(Name),
    /// Anything else; its parts are references.
    Expression,
}

/// A reference to a column or a whole row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The names, the column's last.
    pub fields: Vec<String>,
    /// Whether `.*` follows.
    pub star: bool,
    /// The clause it stands in.
    pub clause: Clause,
    /// What is done with it.
    pub usage: Usage,
}

/// The clause in which a reference stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// Within an expression of an output.
    Output,
    /// WHERE.
    Where,
    /// ON of a join, and MERGE's.
    Join,
    /// GROUP BY.
    Group,
    /// HAVING.
    Having,
    /// ORDER BY, of the query or within a call.
    Order,
    /// DISTINCT ON.
    Distinct,
    /// A window's PARTITION BY, ORDER BY or frame.
    Window,
    /// LIMIT and OFFSET.
    Limit,
    /// An argument of what stands in FROM.
    From,
    /// VALUES, or what an assignment sets.
    Assignment,
    /// ON CONFLICT.
    Conflict,
    /// A condition of MERGE's WHEN.
    When,
    /// An argument of EXECUTE or CALL.
    Argument,
}

/// What is done with a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It stands in WHERE, joined by AND, OR and NOT alone, as `column = literal` or `column IN (literals)`.
    ComparedWithLiterals {
        /// How many literals or parameters.
        literals: u32,
    },
    /// It stands there as `column IS [NOT] NULL`.
    NullTest,
    /// `ON CONFLICT DO UPDATE SET column = excluded.column`.
    ExcludedSameColumn,
    /// Anything else.
    Other,
}

/// What a level writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The written relation's place in `from`.
    pub target: usize,
    /// What it does to rows: INSERT, UPDATE, DELETE; MERGE may do several.
    pub commands: Vec<&'static str>,
    /// Whether every column may be written: INSERT without a list of columns.
    pub all_columns: bool,
    /// The columns written, each with what is written.
    pub columns: Vec<(String, WriteValue)>,
    /// How many rows INSERT … VALUES has; none for another source.
    pub rows: Option<usize>,
    /// With `all_columns`, what each position of the rows holds.
    pub positions: Vec<WriteValue>,
    /// ON CONFLICT.
    pub on_conflict: bool,
    /// The columns that ON CONFLICT names.
    pub arbiters: Vec<String>,
}

/// What is written to a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteValue {
    /// A literal, a parameter, DEFAULT or NULL.
    Literal,
    /// A column of `excluded`.
    Excluded,
    /// Anything else.
    Computed,
    /// What the source of an INSERT says.
    Source,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUse {
    /// Its name.
    pub name: Name,
    /// Where it is called.
    pub place: FunctionPlace,
    /// Of `set_config` alone, its arguments: those that are string constants, others as none.
    pub texts: Vec<Option<String>>,
}

/// Where a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionPlace {
    /// As an output and nothing around it.
    Output,
    /// In FROM, as an item.
    From,
    /// As `(expression).name`, which may as well be a field.
    Attribute,
    /// Anywhere else.
    Elsewhere,
}

impl Facts {
    /// Reads a text of any number of statements. See the module's documentation for the stack it needs.
    ///
    /// # Errors
    /// [`Unparsable`], upon which nothing is known of the text.
    pub fn of(sql: &str) -> Result<Self, Unparsable> {
        if sql.len() > STATEMENT_BYTES_MAX {
            return Err(Unparsable::TooLarge);
        }
        let parsed = pg_query::parse(sql, 0).map_err(|_| Unparsable::Syntax)?;
        let statements = parsed.protobuf.stmts.iter().map(|raw| utility::statement(sql, raw)).collect();
        Ok(Self { statements, backslash_matters: words::backslash_matters(sql), is_ascii: sql.is_ascii() })
    }

    /// Whether what the text does depends on what its session named before: EXECUTE and FETCH.
    #[must_use]
    pub fn depends_on_session(&self) -> bool {
        fn depends(kind: &StatementKind) -> bool {
            match kind {
                StatementKind::Execute { .. } | StatementKind::Fetch { .. } => true,
                StatementKind::Explain { inner, .. } => depends(inner),
                _ => false,
            }
        }
        self.statements.iter().any(|statement| depends(&statement.kind))
    }

    /// The command of the first statement, for the record; empty if there is none.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        self.statements.first().map_or("", |statement| statement.verb)
    }
}
