//! What of the system itself is known to show nothing of a masked column, and what is known to.
//!
//! The lists were drawn from PostgreSQL 15's catalogue and what `psql`'s `\d` family, `pg_dump`, JDBC, Npgsql and asyncpg ask.
//! A name that stands on none of them counts as one that may show anything.

mod lists;

use lists::{DYNAMIC, EXTENSION_FUNCTIONS, INFORMATION_SCHEMA, SYSTEM_FUNCTIONS, SYSTEM_RELATIONS};

use crate::catalogue::Catalogue;
use crate::facts::Name;

/// Whether a list of names has one.
fn lists(names: &str, name: &str) -> bool {
    names.split_ascii_whitespace().any(|listed| listed == name)
}

/// What a function may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FunctionKind {
    /// It reads no table that could hold a masked value.
    Harmless,
    /// Nothing is known of it.
    Unknown,
    /// It runs SQL given as text, or reads a relation given by name.
    Dynamic,
}

pub(super) fn function_kind(catalogue: &Catalogue, name: &Name) -> FunctionKind {
    let last = name.name.as_str();
    if lists(DYNAMIC, last) || DYNAMIC_PREFIXES.iter().any(|prefix| last.starts_with(prefix)) {
        return FunctionKind::Dynamic;
    }
    let of_system = |schema: &str| match schema {
        "pg_catalog" => lists(SYSTEM_FUNCTIONS, last),
        "information_schema" => last.starts_with("_pg_"),
        _ => lists(EXTENSION_FUNCTIONS, last),
    };
    let mut meant = catalogue.functions_named(name.schema.as_deref(), last).peekable();
    let harmless = match (meant.peek(), name.schema.as_deref()) {
        (Some(_), _) => meant.all(|(schema, harmless)| harmless || of_system(schema)),
        // A catalogue lists every function there is; one newer than it may be anything.
        (None, Some(schema)) => of_system(schema),
        (None, None) => of_system("pg_catalog"),
    };
    if harmless { FunctionKind::Harmless } else { FunctionKind::Unknown }
}

/// Whether a function may run SQL that is given as text, or read a relation given by name.
pub(crate) fn calls_sql_in_text(catalogue: &Catalogue, name: &Name) -> bool {
    function_kind(catalogue, name) == FunctionKind::Dynamic
}

/// Whether a function of this name runs SQL that is given as text, or a portal by its name, within the session itself.
pub(super) fn runs_text(name: &str) -> bool {
    lists(RUNS_TEXT, name) || name.starts_with("crosstab")
}

const RUNS_TEXT: &str = "\
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema ts_stat ts_rewrite \
    xpath_table connectby";

/// Whether a function is one of the system's that reads no table and sets nothing, wherever it may be called.
#[must_use]
pub fn is_plain_function(name: &str) -> bool {
    lists(PLAIN, name) || lists(SYSTEM_FUNCTIONS, name) && name != "set_config"
}

/// Functions that compute, of those that every client calls.
const PLAIN: &str = "\
    abs avg ceil coalesce concat concat_ws count current_date date_part date_trunc extract floor format generate_series \
    greatest json_agg json_build_object jsonb_agg jsonb_build_object least left length lower ltrim max min mod now nullif \
    power random replace right round row_number row_to_json rtrim split_part string_agg substr substring sum \
    to_char to_date to_json to_jsonb to_number to_timestamp trim trunc unnest upper array_agg btrim timezone";

/// Whether a function of the system has no effect though it is declared volatile.
pub(crate) fn without_effect(name: &str) -> bool {
    lists(WITHOUT_EFFECT, name)
}

const WITHOUT_EFFECT: &str = "\
    clock_timestamp currval gen_random_uuid lastval pg_blocking_pids pg_database_size pg_export_snapshot pg_indexes_size \
    pg_is_in_backup pg_is_in_recovery pg_is_wal_replay_paused pg_last_wal_receive_lsn pg_last_wal_replay_lsn \
    pg_last_xact_replay_timestamp pg_relation_filenode pg_relation_size pg_safe_snapshot_blocking_pids pg_table_size \
    pg_tablespace_size pg_total_relation_size random random_normal timeofday uuidv4 uuidv7";

/// Whether a name is that of any function, so that `row.name` may call it.
pub(super) fn is_function(catalogue: &Catalogue, name: &str) -> bool {
    catalogue.functions_named(None, name).next().is_some()
        || lists(SYSTEM_FUNCTIONS, name)
        || lists(DYNAMIC, name)
}

/// What a relation of the system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SystemRelation {
    /// Definitions and counters.
    Harmless,
    /// Values or texts of others' statements in these columns.
    Holds(&'static [&'static str]),
    /// Nothing is known of it.
    Unknown,
}

/// What the relation of the system is that a name may mean, if it may mean one.
pub(super) fn system_relation(name: &Name) -> Option<SystemRelation> {
    let last = name.name.as_str();
    let schema = name.schema.as_deref();
    let holds = HOLDING
        .iter()
        .find(|(relation, _)| *relation == last)
        .map(|(_, columns)| SystemRelation::Holds(columns));
    match schema {
        Some("information_schema") => {
            Some(match lists(INFORMATION_SCHEMA, last) || last.starts_with("_pg_") {
                true => SystemRelation::Harmless,
                false => SystemRelation::Unknown,
            })
        }
        Some("pg_catalog") | None => {
            let listed = lists(SYSTEM_RELATIONS, last).then_some(SystemRelation::Harmless);
            // Names that only a search_path with information_schema would reach are looked up there too.
            let by_path = schema.is_none() && lists(INFORMATION_SCHEMA, last);
            let unknown = (schema.is_some() || last.starts_with("pg_")).then_some(SystemRelation::Unknown);
            holds.or(listed).or(by_path.then_some(SystemRelation::Harmless)).or(unknown)
        }
        Some(schema) if schema.starts_with("pg_toast") => Some(SystemRelation::Unknown),
        Some(_) => None,
    }
}

/// Relations, in any schema, of extensions whose columns are known better than their definition tells.
pub(super) fn extension_relation(name: &str) -> Option<SystemRelation> {
    match name {
        "pg_stat_statements" => Some(SystemRelation::Holds(&["query"])),
        "pg_stat_statements_info" => Some(SystemRelation::Harmless),
        _ => None,
    }
}

const DYNAMIC_PREFIXES: &[&str] = &["dblink", "crosstab"];

/// Relations whose columns hold values, or texts of statements with values.
const HOLDING: &[(&str, &[&str])] = &[
    ("pg_stats", &["most_common_vals", "histogram_bounds", "most_common_elems"]),
    ("pg_statistic", &["stavalues1", "stavalues2", "stavalues3", "stavalues4", "stavalues5"]),
    ("pg_stats_ext", &["most_common_vals"]),
    ("pg_stats_ext_exprs", &["most_common_vals", "histogram_bounds", "most_common_elems"]),
    ("pg_statistic_ext_data", &["stxdmcv", "stxdexpr"]),
    ("pg_largeobject", &["data"]),
    ("pg_stat_activity", &["query"]),
    ("pg_prepared_statements", &["statement"]),
    ("pg_cursors", &["statement"]),
    ("pg_stat_statements", &["query"]),
];
