//! Catalogues from rows, and masks found in them.

use retrace_proto::wire::MaskAction;

use super::*;

fn row(builder: &mut CatalogueBuilder, table: CatalogueTable, cells: &[&str]) -> Result<(), CatalogueError> {
    let cells: Vec<_> = cells.iter().copied().map(Some).collect();
    builder.row(table, &cells)
}

/// Relations as `oid schema name kind columns…`, the columns numbered from 1.
fn catalogue(relations: &[&str], links: &[(&str, &str, &str)]) -> Catalogue {
    let mut builder = CatalogueBuilder::default();
    for relation in relations {
        let parts: Vec<_> = relation.split(' ').collect();
        row(&mut builder, CatalogueTable::Relations, &parts[..4]).expect("a relation");
        for (index, column) in parts[4..].iter().enumerate() {
            let number = (index + 1).to_string();
            row(&mut builder, CatalogueTable::Columns, &[parts[0], &number, column, "25", ""])
                .expect("a column");
        }
    }
    for (kind, from, to) in links {
        row(&mut builder, CatalogueTable::Links, &[kind, from, to]).expect("a link");
    }
    builder.finish()
}

fn mask(name: &str, column: &str, action: MaskAction) -> ColumnMask {
    ColumnMask { name: name.to_owned(), columns: vec![column.parse().expect("it names a column")], action }
}

#[test]
fn names_of_columns_are_read_and_printed() {
    for text in ["public.customers.ssn", r#"a."b.c"."d""e""#, "S.Größe.x y"] {
        assert_eq!(text.parse::<ColumnName>().expect("it names a column").to_string(), text);
    }
    for text in ["", "ssn", "customers.ssn", "a.b.c.d", "a..c", r#"a."b.c"#] {
        let error = text.parse::<ColumnName>().expect_err("it names none");
        assert_eq!(error.name, text);
    }
}

#[test]
fn a_column_that_the_target_lacks_is_an_error_that_names_it() {
    let catalogue = catalogue(&["1 public t r a b", "2 app t r c"], &[]);
    for column in ["public.t.c", "app.t.a", "public.u.a", "nowhere.t.a", "public.t.A"] {
        let error = Resolved::new(&[mask("m", column, MaskAction::Redact)], &catalogue).expect_err(column);
        assert_eq!(error.column.to_string(), column);
        assert!(error.to_string().contains(column), "{error}");
    }
}

#[test]
fn origins_are_masked_plain_or_unknown() {
    let catalogue =
        catalogue(&["1 public t r a b", "2 public v v a", "3 public f f a", "4 public p p a"], &[]);
    let resolved =
        Resolved::new(&[mask("m", "public.t.b", MaskAction::Token)], &catalogue).expect("it is there");
    assert!(matches!(resolved.origin(&catalogue, 1, 2), Origin::Masked(rule) if &*rule.name == "m"));
    for (oid, number, origin) in [
        (1, 1, Origin::Plain),
        (1, -1, Origin::Plain),
        (4, 1, Origin::Plain),
        (1, 0, Origin::Unknown),
        (1, 3, Origin::Unknown),
        (2, 1, Origin::Unknown),
        (3, 1, Origin::Unknown),
        (0, 0, Origin::Unknown),
        (1259, 1, Origin::Unknown),
    ] {
        assert_eq!(resolved.origin(&catalogue, oid, number), origin, "{oid} {number}");
    }
}

#[test]
fn masks_spread_over_inheritance_and_partitions() {
    let relations =
        ["1 a root p x ssn", "2 a left r ssn x", "3 a right r x ssn", "4 a leaf r ssn", "5 a other r ssn"];
    let links = [("inherits", "2", "1"), ("inherits", "3", "1"), ("inherits", "4", "3")];
    let catalogue = catalogue(&relations, &links);
    let resolved =
        Resolved::new(&[mask("m", "a.left.ssn", MaskAction::Redact)], &catalogue).expect("it is there");
    assert_eq!(resolved.column_count(), 4);
    for (oid, number) in [(1, 2), (2, 1), (3, 2), (4, 1)] {
        assert!(resolved.rule(oid, number).is_some(), "{oid} {number}");
    }
    assert!(resolved.rule(5, 1).is_none());
}

#[test]
fn the_strictest_rule_of_a_column_holds_in_any_order() {
    let catalogue = catalogue(&["1 public t r a"], &[]);
    let masks = [
        mask("partial", "public.t.a", MaskAction::Partial),
        mask("token", "public.t.a", MaskAction::Token),
        mask("first", "public.t.a", MaskAction::Redact),
        mask("second", "public.t.a", MaskAction::Redact),
    ];
    let name = |masks: &[ColumnMask]| {
        let resolved = Resolved::new(masks, &catalogue).expect("it is there");
        resolved.rule(1, 1).expect("it is masked").name.to_string()
    };
    assert_eq!(name(&masks), "first");
    assert_eq!(name(&[masks[1].clone(), masks[0].clone()]), "token");
    assert_eq!(name(&masks[..1]), "partial");
}

#[test]
fn views_are_opaque_through_any_number_of_views() {
    let relations = ["1 a t r x", "2 a v v x", "3 a w m x", "4 a u v x", "5 a coded v x", "6 a over v x"];
    let links =
        [("view", "2", "1"), ("view", "3", "2"), ("view", "4", "99"), ("code", "5", "0"), ("view", "6", "5")];
    let catalogue = catalogue(&relations, &links);
    let resolved = Resolved::new(&[mask("m", "a.t.x", MaskAction::Redact)], &catalogue).expect("it is there");
    let opaque: Vec<_> = (1..=6).filter(|oid| resolved.is_opaque(*oid)).collect();
    assert_eq!(opaque, [2, 3, 5, 6]);
}

#[test]
fn versions_differ_where_anything_does() {
    let version = |relations: &[&str], links: &[(&str, &str, &str)]| *catalogue(relations, links).version();
    let first = version(&["1 a t r x"], &[]);
    assert_eq!(first, version(&["1 a t r x"], &[]));
    assert_ne!(first, version(&["1 a t r y"], &[]));
    assert_ne!(first, version(&["1 a t v x"], &[]));
    assert_ne!(first, version(&["1 a t r x"], &[("view", "1", "2")]));
    assert_ne!(version(&["1 a bc r"], &[]), version(&["1 ab c r"], &[]));
}

#[test]
fn rows_of_another_form_are_refused() {
    let check = |table, cells: &[Option<&str>]| {
        let found = CatalogueBuilder::default().row(table, cells);
        assert_eq!(found, Err(CatalogueError::Malformed(table.name())), "{cells:?}");
    };
    check(CatalogueTable::Relations, &[Some("1"), Some("a"), Some("t")]);
    check(CatalogueTable::Relations, &[Some("x"), Some("a"), Some("t"), Some("r")]);
    check(CatalogueTable::Relations, &[Some("1"), Some("a"), Some("t"), Some("")]);
    check(CatalogueTable::Relations, &[Some("1"), None, Some("t"), Some("r")]);
    check(CatalogueTable::Columns, &[Some("7"), Some("1"), Some("a"), Some("25"), Some("")]);
    check(CatalogueTable::Links, &[Some("other"), Some("1"), Some("2")]);
    let mut twice = CatalogueBuilder::default();
    row(&mut twice, CatalogueTable::Relations, &["1", "a", "t", "r"]).expect("the first");
    assert!(row(&mut twice, CatalogueTable::Relations, &["1", "a", "u", "r"]).is_err());
}

#[test]
fn each_version_of_a_server_gets_queries_it_knows() {
    let columns = |version| {
        queries(version).iter().find(|query| query.table == CatalogueTable::Columns).expect("one").sql
    };
    assert!(!columns(110_022).contains("attgenerated"));
    assert!(columns(120_000).contains("attgenerated"));
    assert_eq!(queries(180_000)[0].table, CatalogueTable::Relations, "columns need their relations first");
}
