use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;

use super::Described;
use crate::postgres::Wire;

/// Who owns what there is.
pub(crate) const OWNER: &str = "retrace";

const OWNER_OID: i64 = 10;
const PUBLIC_OID: i64 = 2200;
const CATALOGUE_OID: i64 = 11;
const HEAP_OID: i64 = 2;

/// Tables of PostgreSQL's catalogue that have no row here, ever.
pub(super) const EMPTY: [&str; 42] = [
    "pg_aggregate",
    "pg_attrdef",
    "pg_auth_members",
    "pg_cast",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_language",
    "pg_locks",
    "pg_matviews",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_partitioned_table",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_range",
    "pg_rewrite",
    "pg_sequence",
    "pg_sequences",
    "pg_shdescription",
    "pg_stat_activity",
    "pg_statistic_ext",
    "pg_subscription",
    "pg_tablespace",
    "pg_trigger",
];

/// Of the empty ones those that clients join outwardly, with the columns they name.
const EMPTY_WITH_COLUMNS: [(&str, &[&str]); 5] = [
    ("pg_attrdef", &["oid", "adrelid", "adnum", "adbin"]),
    ("pg_collation", &["oid", "collname", "collnamespace"]),
    ("pg_description", &["objoid", "classoid", "objsubid", "description"]),
    ("pg_index", &["indexrelid", "indrelid", "indisprimary", "indisunique", "indkey"]),
    ("pg_tablespace", &["oid", "spcname", "spcowner"]),
];

/// The column of a table.
enum Cells {
    Number(Vec<i64>),
    Text(Vec<String>),
    Flag(Vec<bool>),
    /// Texts, none of which is there.
    Null,
    /// Lists of texts, none of which is there.
    NullList,
}

type Named = (&'static str, Arc<dyn TableProvider>);

/// Every table of the catalogue.
pub(super) fn all(described: &[Described], principal: &str) -> Result<Vec<Named>> {
    let mut tables = vec![
        classes(described)?,
        attributes(described)?,
        types()?,
        listing("pg_tables", "tablename", described, false)?,
        listing("pg_views", "viewname", described, true)?,
        table(
            "pg_namespace",
            2,
            vec![
                ("oid", Cells::Number(vec![CATALOGUE_OID, PUBLIC_OID])),
                ("nspname", texts(&[super::SCHEMA, crate::engine::SCHEMA])),
                ("nspowner", Cells::Number(vec![OWNER_OID; 2])),
                ("nspacl", Cells::NullList),
            ],
        )?,
        table(
            "pg_am",
            1,
            vec![
                ("oid", Cells::Number(vec![HEAP_OID])),
                ("amname", texts(&["heap"])),
                ("amtype", texts(&["t"])),
            ],
        )?,
        table(
            "pg_settings",
            1,
            vec![("name", texts(&["server_version"])), ("setting", texts(&["15.0"])), ("unit", Cells::Null)],
        )?,
        databases()?,
        roles("pg_roles", principal)?,
        roles("pg_user", principal)?,
    ];
    for (name, columns) in EMPTY_WITH_COLUMNS {
        let column = |name: &&'static str| {
            let is_text = matches!(*name, "collname" | "description" | "spcname" | "adbin" | "indkey");
            (*name, if is_text { Cells::Text(Vec::new()) } else { Cells::Number(Vec::new()) })
        };
        tables.push(table(name, 0, columns.iter().map(column).collect())?);
    }
    Ok(tables)
}

fn texts(texts: &[&str]) -> Cells {
    Cells::Text(texts.iter().map(ToString::to_string).collect())
}

fn table(name: &'static str, rows: usize, columns: Vec<(&'static str, Cells)>) -> Result<Named> {
    let array = |cells| -> ArrayRef {
        match cells {
            Cells::Number(numbers) => Arc::new(Int64Array::from(numbers)),
            Cells::Text(texts) => Arc::new(StringArray::from(texts)),
            Cells::Flag(flags) => Arc::new(BooleanArray::from(flags)),
            Cells::Null => Arc::new(StringArray::new_null(rows)),
            Cells::NullList => new_null_array(&Wire::TextArray.data_type(), rows),
        }
    };
    let columns = columns.into_iter().map(|(name, cells)| (name, array(cells), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    Ok((name, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
}

fn classes(described: &[Described]) -> Result<Named> {
    let rows = described.len();
    let number = |value| Cells::Number(vec![value; rows]);
    let flag = |value| Cells::Flag(vec![value; rows]);
    let text = |value: &str| Cells::Text(vec![value.to_owned(); rows]);
    let by = |of: fn(&Described) -> i64| Cells::Number(described.iter().map(of).collect());
    let kinds = described.iter().map(|it| if it.is_view { "v" } else { "r" }.to_owned()).collect();
    let columns = |it: &Described| i64::try_from(it.schema.fields().len()).unwrap_or(i64::MAX);
    table(
        "pg_class",
        rows,
        vec![
            ("oid", by(|it| it.oid)),
            ("relname", Cells::Text(described.iter().map(|it| it.name.to_owned()).collect())),
            ("relnamespace", number(PUBLIC_OID)),
            ("reltype", number(0)),
            ("reloftype", number(0)),
            ("relowner", number(OWNER_OID)),
            ("relam", by(|it| if it.is_view { 0 } else { HEAP_OID })),
            ("relfilenode", number(0)),
            ("reltablespace", number(0)),
            ("relpages", number(0)),
            ("reltuples", number(-1)),
            ("relallvisible", number(0)),
            ("reltoastrelid", number(0)),
            ("relhasindex", flag(false)),
            ("relisshared", flag(false)),
            ("relpersistence", text("p")),
            ("relkind", Cells::Text(kinds)),
            ("relnatts", Cells::Number(described.iter().map(columns).collect())),
            ("relchecks", number(0)),
            ("relhasrules", flag(false)),
            ("relhastriggers", flag(false)),
            ("relhassubclass", flag(false)),
            ("relrowsecurity", flag(false)),
            ("relforcerowsecurity", flag(false)),
            ("relispopulated", flag(true)),
            ("relreplident", text("d")),
            ("relispartition", flag(false)),
            ("relacl", Cells::NullList),
            ("reloptions", Cells::NullList),
            ("relpartbound", Cells::Null),
        ],
    )
}

fn attributes(described: &[Described]) -> Result<Named> {
    let columns = described.iter().flat_map(|table| {
        table.schema.fields().iter().zip(1..).map(move |(field, number)| (table.oid, field, number))
    });
    let columns: Vec<_> = columns.collect();
    let rows = columns.len();
    let wires: Vec<Wire> = columns.iter().map(|(_, field, _)| Wire::of(field.data_type())).collect();
    let number = |value| Cells::Number(vec![value; rows]);
    let flag = |value| Cells::Flag(vec![value; rows]);
    let text = |value: &str| Cells::Text(vec![value.to_owned(); rows]);
    table(
        "pg_attribute",
        rows,
        vec![
            ("attrelid", Cells::Number(columns.iter().map(|(oid, ..)| *oid).collect())),
            ("attname", Cells::Text(columns.iter().map(|(_, field, _)| field.name().clone()).collect())),
            ("atttypid", Cells::Number(wires.iter().map(|wire| wire.oid().into()).collect())),
            ("attlen", Cells::Number(wires.iter().map(|wire| wire.size().into()).collect())),
            ("attnum", Cells::Number(columns.iter().map(|(.., number)| *number).collect())),
            ("atttypmod", number(-1)),
            ("attnotnull", flag(false)),
            ("atthasdef", flag(false)),
            ("atthasmissing", flag(false)),
            ("attidentity", text("")),
            ("attgenerated", text("")),
            ("attisdropped", flag(false)),
            ("attislocal", flag(true)),
            ("attcollation", number(0)),
            ("attndims", number(0)),
            ("attstorage", text("x")),
            ("attcompression", text("")),
            ("attstattarget", number(-1)),
            ("attoptions", Cells::NullList),
            ("attfdwoptions", Cells::NullList),
            ("attacl", Cells::NullList),
        ],
    )
}

fn types() -> Result<Named> {
    let rows = Wire::ALL.len();
    let number = |value| Cells::Number(vec![value; rows]);
    let text = |value: &str| Cells::Text(vec![value.to_owned(); rows]);
    let by = |of: fn(&Wire) -> i64| Cells::Number(Wire::ALL.iter().map(of).collect());
    table(
        "pg_type",
        rows,
        vec![
            ("oid", by(|wire| wire.oid().into())),
            ("typname", Cells::Text(Wire::ALL.iter().map(|wire| wire.type_name().to_owned()).collect())),
            ("typnamespace", number(CATALOGUE_OID)),
            ("typowner", number(OWNER_OID)),
            ("typlen", by(|wire| wire.size().into())),
            ("typtype", text("b")),
            ("typcategory", text("U")),
            ("typrelid", number(0)),
            ("typelem", by(|wire| wire.element().map_or(0, |element| element.oid().into()))),
            ("typarray", number(0)),
            ("typbasetype", number(0)),
            ("typtypmod", number(-1)),
            ("typcollation", number(0)),
            ("typnotnull", Cells::Flag(vec![false; rows])),
            ("typdelim", text(",")),
            ("typdefault", Cells::Null),
        ],
    )
}

fn listing(
    name: &'static str,
    names: &'static str,
    described: &[Described],
    are_views: bool,
) -> Result<Named> {
    let listed: Vec<String> =
        described.iter().filter(|it| it.is_view == are_views).map(|it| it.name.to_owned()).collect();
    let rows = listed.len();
    let owner = if are_views { "viewowner" } else { "tableowner" };
    table(
        name,
        rows,
        vec![
            ("schemaname", Cells::Text(vec![crate::engine::SCHEMA.to_owned(); rows])),
            (names, Cells::Text(listed)),
            (owner, Cells::Text(vec![OWNER.to_owned(); rows])),
        ],
    )
}

fn databases() -> Result<Named> {
    table(
        "pg_database",
        1,
        vec![
            ("oid", Cells::Number(vec![1])),
            ("datname", texts(&[crate::engine::CATALOG])),
            ("datdba", Cells::Number(vec![OWNER_OID])),
            ("encoding", Cells::Number(vec![6])),
            ("datlocprovider", texts(&["c"])),
            ("datistemplate", Cells::Flag(vec![false])),
            ("datallowconn", Cells::Flag(vec![true])),
            ("datconnlimit", Cells::Number(vec![-1])),
            ("dattablespace", Cells::Number(vec![0])),
            ("datcollate", texts(&["C"])),
            ("datctype", texts(&["C"])),
            ("daticulocale", Cells::Null),
            ("datcollversion", Cells::Null),
            ("datacl", Cells::NullList),
        ],
    )
}

/// The owner and whoever asks: nobody learns here who else there is.
fn roles(name: &'static str, principal: &str) -> Result<Named> {
    let flag = |value| Cells::Flag(vec![value; 2]);
    let (oid, named) = if name == "pg_user" { ("usesysid", "usename") } else { ("oid", "rolname") };
    table(
        name,
        2,
        vec![
            (oid, Cells::Number(vec![OWNER_OID, OWNER_OID + 1])),
            (named, texts(&[OWNER, principal])),
            ("rolsuper", flag(false)),
            ("rolinherit", flag(true)),
            ("rolcreaterole", flag(false)),
            ("rolcreatedb", flag(false)),
            ("rolcanlogin", flag(true)),
            ("rolreplication", flag(false)),
            ("rolbypassrls", flag(false)),
            ("rolconnlimit", Cells::Number(vec![-1; 2])),
            ("rolvaliduntil", Cells::Null),
        ],
    )
}
