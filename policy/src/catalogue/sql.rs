//! The queries that read a catalogue, for PostgreSQL 10 to 18.

/// What a catalogue query reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CatalogueTable {
    /// OID, schema, name and kind of each relation.
    Relations,
    /// Relation, number, name, type and generation of each column.
    Columns,
    /// Kind, from and to of each link between relations.
    Links,
    /// Schema, name, harmlessness and volatility of functions.
    Functions,
    /// Schema, name and harmlessness of operators.
    Operators,
    /// The same of types, as far as casts to or from them may run code.
    Types,
}

impl CatalogueTable {
    /// How errors name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relations => "relations",
            Self::Columns => "columns",
            Self::Links => "links",
            Self::Functions => "functions",
            Self::Operators => "operators",
            Self::Types => "types",
        }
    }
}

/// One query, whose rows are to be read in text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueQuery {
    /// What it reads.
    pub table: CatalogueTable,
    /// One statement.
    pub sql: &'static str,
}

const RELATIONS: &str = "\
SELECT c.oid, n.nspname, c.relname, c.relkind
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY c.oid";

/// Generated columns came with PostgreSQL 12.
const COLUMNS: &str = "\
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.attgenerated
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

const COLUMNS_BEFORE_12: &str = "\
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, ''::pg_catalog.text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

/// A view depends on what its rewrite rule names. Functions of the system itself are pinned and leave no dependency.
const LINKS: &str = "\
SELECT 'inherits'::pg_catalog.text, i.inhrelid, i.inhparent
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE c.relkind IN ('r', 'p', 'f')
UNION
SELECT 'view', w.ev_class, d.refobjid
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
AND d.refobjid <> w.ev_class AND v.relkind IN ('v', 'm') AND v.oid >= 16384
UNION
SELECT 'code', w.ev_class, 0
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
AND p.oid >= 16384 AND NOT (p.provolatile = 'i' AND l.lanname IN ('internal', 'c')) AND v.relkind IN ('v', 'm')
ORDER BY 1, 2, 3";

/// A function that is immutable by contract reads no table; one that is written in SQL or a procedural language may break
/// the contract, one that is compiled was written by who administers the server.
const FUNCTIONS: &str = "\
SELECT n.nspname, p.proname, pg_catalog.bool_and(p.provolatile = 'i' AND l.lanname IN ('internal', 'c')),
pg_catalog.bool_or(p.provolatile = 'v')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
GROUP BY n.nspname, p.proname
ORDER BY n.nspname, p.proname";

/// Operators of extensions may heed a setting, and are stable then.
const OPERATORS: &str = "\
SELECT n.nspname, o.oprname, pg_catalog.bool_and(p.provolatile <> 'v' AND l.lanname IN ('internal', 'c'))
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname <> 'pg_catalog'
GROUP BY n.nspname, o.oprname
ORDER BY n.nspname, o.oprname";

/// Types to or from which a cast may run code, and domains whose CHECK does, with what is made of them.
const TYPES: &str = "\
WITH RECURSIVE checked (oid) AS (
SELECT k.contypid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend d
ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = k.oid
AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= 16384
WHERE k.contypid <> 0
UNION
SELECT t.oid FROM checked c JOIN pg_catalog.pg_type t ON t.typbasetype = c.oid OR t.typelem = c.oid
OR t.typrelid IN (SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE a.atttypid = c.oid AND a.attnum > 0)
)
SELECT n.nspname, t.typname, false
FROM checked c JOIN pg_catalog.pg_type t ON t.oid = c.oid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
UNION
SELECT DISTINCT n.nspname, t.typname, false
FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
JOIN pg_catalog.pg_type t ON t.oid IN (k.castsource, k.casttarget)
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE p.oid >= 16384 AND NOT (p.provolatile = 'i' AND l.lanname IN ('internal', 'c'))
ORDER BY 1, 2";

/// The queries for a server of a version as `server_version_num` has it (150004), in the order their rows are to be taken.
#[must_use]
pub fn queries(server_version_num: u32) -> [CatalogueQuery; 6] {
    let columns = if server_version_num < 120_000 { COLUMNS_BEFORE_12 } else { COLUMNS };
    [
        CatalogueQuery { table: CatalogueTable::Relations, sql: RELATIONS },
        CatalogueQuery { table: CatalogueTable::Columns, sql: columns },
        CatalogueQuery { table: CatalogueTable::Links, sql: LINKS },
        CatalogueQuery { table: CatalogueTable::Functions, sql: FUNCTIONS },
        CatalogueQuery { table: CatalogueTable::Operators, sql: OPERATORS },
        CatalogueQuery { table: CatalogueTable::Types, sql: TYPES },
    ]
}
