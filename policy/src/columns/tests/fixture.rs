//! A target: `customers` with two masked columns, a partitioned and an inherited table, views, and functions of all kinds.

use retrace_proto::wire::MaskAction;

use crate::catalogue::{Catalogue, CatalogueBuilder, CatalogueTable, ColumnMask, Resolved};

const RELATIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("20001", "public", "customers", "r", "id name ssn email address"),
    ("20002", "public", "orders", "r", "id customer_id total note"),
    ("20003", "public", "users", "r", "id email login"),
    ("20004", "app", "items", "r", "id label"),
    ("20005", "public", "customers_view", "v", "id secret"),
    ("20006", "public", "view_of_view", "v", "a"),
    ("20007", "public", "order_totals", "v", "customer_id sum"),
    ("20008", "public", "customers_copy", "m", "id s"),
    ("20010", "public", "people", "p", "id birth ssn"),
    ("20011", "public", "people_2025", "r", "id birth ssn"),
    ("20012", "archive", "customers", "r", "id ssn to_json"),
    ("20013", "public", "remote", "f", "id"),
    ("20014", "public", "orders_id_seq", "S", "last_value"),
    ("20015", "public", "coded_view", "v", "x"),
    ("20016", "public", "doubled", "r", "id twice"),
    ("20018", "app", "pg_stats", "r", "most_common_vals row_to_json"),
    ("20019", "app", "pg_statistic", "r", "stavalues1"),
    ("20020", "app", "pg_authid", "r", "rolpassword"),
    ("20017", "public", "Straße", "r", "id Größe"),
];

const LINKS: &[(&str, &str, &str)] = &[
    ("view", "20005", "20001"),
    ("view", "20006", "20005"),
    ("view", "20007", "20002"),
    ("view", "20008", "20001"),
    ("inherits", "20011", "20010"),
    ("code", "20015", "0"),
];

/// Those that read no table by contract.
const HARMLESS: &str = "lower upper length substr left right md5 count sum min max avg string_agg array_agg abs generate_series \
    int4 text ssn_len_of repeat btrim position unnest array_length array_position array_to_string bool_and row_number rank \
    first_value lag ntile regexp_match regexp_replace xmlforest json_array_length jsonb_array_elements hashtext percentile_cont \
    like_escape int4eq texteq sha256 encode replace ascii pg_size_pretty numeric_in array_upper";

/// Stable and volatile functions of the system; those of the list within are harmless all the same.
const NOT_IMMUTABLE: &str = "now random current_setting set_config to_json row_to_json to_jsonb json_agg jsonb_agg version query_to_xml \
    table_to_xml pg_read_file pg_table_is_visible format_type pg_get_expr obj_description col_description ts_stat nextval \
    concat pg_sleep lo_get pg_ls_dir ts_rewrite pg_stat_get_activity pg_get_userbyid jsonb_build_object json_build_object format \
    pg_notify to_char array_to_json json_populate_record clock_timestamp gen_random_uuid pg_get_viewdef setval";

pub(super) fn catalogue() -> Catalogue {
    let mut builder = CatalogueBuilder::default();
    let mut row = |table, cells: &[&str]| {
        let cells: Vec<_> = cells.iter().copied().map(Some).collect();
        builder.row(table, &cells).expect("the row has the form of its query");
    };
    for (oid, schema, name, kind, _) in RELATIONS {
        row(CatalogueTable::Relations, &[oid, schema, name, kind]);
    }
    for (oid, _, _, _, columns) in RELATIONS {
        // The second column of all was dropped, but for numbers to differ from places.
        for (index, name) in columns.split(' ').enumerate() {
            let number = (if index == 0 { 1 } else { index + 2 }).to_string();
            let generated = if name == "twice" { "s" } else { "" };
            row(CatalogueTable::Columns, &[oid, &number, name, "25", generated]);
        }
    }
    for (kind, from, to) in LINKS {
        row(CatalogueTable::Links, &[kind, from, to]);
    }
    for name in HARMLESS.split_whitespace() {
        row(CatalogueTable::Functions, &["pg_catalog", name, "t", "f"]);
    }
    for name in NOT_IMMUTABLE.split_whitespace() {
        row(CatalogueTable::Functions, &["pg_catalog", name, "f", "f"]);
    }
    for (schema, name, harmless) in [
        ("public", "ssn_of", "f"),
        ("public", "lookup", "f"),
        ("public", "similarity", "t"),
        ("public", "uuid_generate_v4", "f"),
        ("public", "dblink", "f"),
        ("app", "abs", "f"),
        ("information_schema", "_pg_expandarray", "f"),
    ] {
        row(CatalogueTable::Functions, &[schema, name, harmless, "f"]);
    }
    row(CatalogueTable::Operators, &["public", "===", "f"]);
    row(CatalogueTable::Operators, &["public", "<->", "t"]);
    row(CatalogueTable::Types, &["public", "casted", "f"]);
    builder.finish()
}

pub(super) fn masks() -> Vec<ColumnMask> {
    let mask = |name: &str, columns: &[&str], action| ColumnMask {
        name: name.to_owned(),
        columns: columns.iter().map(|column| column.parse().expect("it names a column")).collect(),
        action,
    };
    vec![
        mask("ssn", &["public.customers.ssn", "public.people.ssn"], MaskAction::Redact),
        mask("email", &["public.customers.email"], MaskAction::Partial),
        mask("size", &["public.Straße.Größe"], MaskAction::Redact),
    ]
}

pub(super) fn resolved(catalogue: &Catalogue) -> Resolved {
    Resolved::new(&masks(), catalogue).expect("the catalogue has the columns")
}
