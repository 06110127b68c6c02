//! COPY: which columns move, and by which rules.

use super::{Expect, Judgement, check, judged};
use crate::columns::CopyPlan;
use crate::facts::{CopyDirection, CopyFormat, CopyHeader, ForceColumns};
use Expect::{Deny, Pass};

fn plan(sql: &str) -> CopyPlan {
    match judged(sql) {
        Judgement::Allow(mut allowance) => {
            assert_eq!(allowance.copies.len(), 1, "{sql}");
            allowance.copies.remove(0)
        }
        Judgement::Deny(denial) => panic!("{sql}: {denial:?}"),
    }
}

/// The columns as `name`, `name!rule` if masked, `name?` if redacted.
#[track_caller]
fn columns(sql: &str, expect: &str) {
    let found = plan(sql).columns.map_or_else(
        || "unknown".to_owned(),
        |columns| {
            let one = |column: &crate::columns::CopyColumn| match (&column.rule, column.redact) {
                (Some(rule), _) => format!("{}!{}", column.name, rule.name),
                (None, true) => format!("{}?", column.name),
                (None, false) => column.name.clone(),
            };
            columns.iter().map(one).collect::<Vec<_>>().join(" ")
        },
    );
    assert_eq!(found, expect, "{sql}");
}

#[test]
fn a_table_is_copied_by_the_catalogues_order() {
    columns("copy public.customers to stdout", "id name ssn!ssn email!email address");
    columns("copy public.customers (email, id) to stdout csv", "email!email id");
    columns("copy public.customers from stdin", "id name ssn!ssn email!email address");
    columns("copy people_2025 to stdout", "id birth ssn!ssn");
    columns("copy doubled to stdout", "id");
    columns("copy orders to stdout", "id customer_id total note");
    columns("copy just_made from stdin", "unknown");
    columns("copy pg_catalog.pg_class to stdout", "unknown");
}

#[test]
fn a_query_is_copied_where_its_columns_can_be_told() {
    columns("copy (select * from people) to stdout", "id birth ssn!ssn");
    columns("copy (select ssn as x, c.id, lower(name) from public.customers c) to stdout", "x!ssn id lower?");
    columns(
        "copy (select o.*, c.ssn from orders o join public.customers c on c.id = o.customer_id) to stdout",
        "id customer_id total note ssn!ssn",
    );
    columns("copy (select id from public.customers, orders) to stdout", "id?");
    columns("copy (select ssn from (select ssn from people) s) to stdout", "ssn?");
    columns("copy (select ssn_of(1)) to stdout", "ssn_of?");
    columns("copy (select sum(total) from orders) to stdout", "unknown");
}

#[test]
fn copies_that_cannot_be_masked_are_denied() {
    check(&[
        ("copy customers to stdout", Deny("columns.copy")),
        ("copy customers_view to stdout", Deny("columns.copy")),
        ("copy public.customers (id, nothing) to stdout", Deny("columns.copy")),
        ("copy unheard_of to stdout", Deny("columns.copy")),
        ("copy pg_statistic to stdout", Deny("columns.copy")),
        ("copy (select * from (select * from people) s) to stdout", Deny("columns.copy")),
        ("copy (select * from people join orders using (id)) to stdout", Deny("columns.copy")),
        ("copy (select ssn from people union select 'a') to stdout", Deny("columns.grouped")),
        ("copy (select ssn from people order by ssn) to stdout", Deny("columns.ordered")),
        ("copy (delete from people returning ssn) to stdout", Deny("columns.copy")),
        ("copy public.customers to '/tmp/x'", Deny("columns.copy_at_target")),
        ("copy public.customers to program 'cat'", Deny("columns.copy_at_target")),
        ("copy orders from '/etc/passwd'", Deny("columns.copy_at_target")),
        ("copy public.customers from stdin where ssn > '5'", Deny("columns.compared")),
        ("copy public.customers to stdout (new_option 1)", Deny("columns.copy")),
        ("copy orders to stdout (new_option 1)", Pass),
    ]);
}

#[test]
fn options_are_read_in_both_syntaxes() {
    for sql in [
        "copy orders to stdout csv header delimiter ';' null 'N' quote '!' escape '#' force quote *",
        "copy orders to stdout with (format csv, header true, delimiter ';', null 'N', quote '!', escape '#', force_quote *)",
    ] {
        let facts = plan(sql).facts;
        assert_eq!(facts.direction, CopyDirection::To);
        assert_eq!((facts.format, facts.header), (CopyFormat::Csv, CopyHeader::Present));
        assert_eq!((facts.delimiter.as_deref(), facts.null.as_deref()), (Some(";"), Some("N")));
        assert_eq!((facts.quote.as_deref(), facts.escape.as_deref()), (Some("!"), Some("#")));
        assert_eq!(facts.force_quote, ForceColumns::All);
        assert!(!facts.unknown_option);
    }
    let facts = plan("copy orders from stdin (format binary)").facts;
    assert_eq!((facts.direction, facts.format), (CopyDirection::From, CopyFormat::Binary));
    let facts = plan("copy orders to stdout with csv force quote note, id encoding 'utf8'").facts;
    assert_eq!(facts.force_quote, ForceColumns::Named(vec!["note".to_owned(), "id".to_owned()]));
    assert_eq!(facts.encoding.as_deref(), Some("utf8"));
    assert_eq!(plan("copy orders from stdin (format csv, header match)").facts.header, CopyHeader::Match);
    assert_eq!(plan("copy binary orders to stdout").facts.format, CopyFormat::Binary);
}
