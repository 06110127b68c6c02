//! Masked columns: hidden by origin, by position in COPY, and whole where nobody can tell.

use std::sync::Arc;

use retrace_policy::catalogue::{CatalogueBuilder, CatalogueTable, ColumnMask, Resolved};
use retrace_proto::wire::MaskAction;
use retrace_proxy_core::postgres::Columns;

use crate::harness::*;

const TABLE: u32 = 16_400;
const SECRET: &str = "wren-70817";

/// A target whose `public.t (id int, ssn text)` has the second column masked.
fn masked() -> Bench {
    let mut catalogue = CatalogueBuilder::default();
    let mut add = |table, cells: &[&str]| {
        let cells: Vec<_> = cells.iter().map(|cell| Some(*cell)).collect();
        catalogue.row(table, &cells).unwrap();
    };
    add(CatalogueTable::Relations, &["16400", "public", "t", "r"]);
    add(CatalogueTable::Columns, &["16400", "1", "id", "23", ""]);
    add(CatalogueTable::Columns, &["16400", "2", "ssn", "25", ""]);
    add(CatalogueTable::Functions, &["pg_catalog", "upper", "t", "f"]);
    let catalogue = catalogue.finish();
    let mask = ColumnMask {
        name: "ssn".to_owned(),
        columns: vec!["public.t.ssn".parse().unwrap()],
        action: MaskAction::Redact,
    };
    let resolved = Resolved::new(&[mask], &catalogue).unwrap();
    let mut bench = Bench::opening_with(false, |opening| opening.has_column_masks = true);
    bench.columns = Some(Arc::new(Columns { catalogue, resolved, version: "1".to_owned() }));
    bench.settle();
    bench.take_client();
    bench
}

/// A RowDescription of text columns with these origins.
fn described(origins: &[(u32, u16)]) -> Vec<u8> {
    let mut body = u16::try_from(origins.len()).unwrap().to_be_bytes().to_vec();
    for (table, column) in origins {
        body.extend_from_slice(b"c\0");
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&column.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    message(b'T', &body)
}

fn is_hidden(bench: &mut Bench) {
    let client = bench.take_client();
    assert!(contains(&client, b"[masked]"), "{client:?}");
    assert!(!contains(&client, SECRET.as_bytes()) && !bench.recorded(SECRET));
}

#[test]
fn a_value_is_hidden_by_its_origin_and_where_its_origin_is_not_known() {
    for origin in [(TABLE, 2), (0, 0), (99, 1), (TABLE, 9)] {
        let mut bench = masked();
        bench.client(&query("select id, ssn from t"));
        assert_eq!(tags(&bench.take_target()), "Q");
        bench.target(
            &[described(&[(TABLE, 1), origin]), row(&[Some(b"17"), Some(SECRET.as_bytes())])].concat(),
        );
        bench.target(&[complete("SELECT 1"), ready(b'I')].concat());
        assert!(contains(&bench.to_client, b"17"), "its neighbour is not");
        is_hidden(&mut bench);
    }
}

#[test]
fn an_execute_is_masked_by_the_description_right_before_it() {
    let mut bench = masked();
    bench.client(&[parse("", "select ssn from t", &[]), bind("", 0, &[], 0), execute(), sync()].concat());
    assert_eq!(tags(&bench.take_target()), "PBDES");
    let rows = [described(&[(TABLE, 2)]), row(&[Some(SECRET.as_bytes())]), complete("SELECT 1"), ready(b'I')];
    bench.target(&[PARSED.to_vec(), BOUND.to_vec(), rows.concat()].concat());
    is_hidden(&mut bench);
}

#[test]
fn a_statement_whose_name_a_batch_gives_away_is_not_taken_for_what_it_was() {
    let run = |sql: &str| [parse("", sql, &[]), bind("", 0, &[], 0), execute()].concat();
    for away in ["deallocate s", "deallocate U&\"\\0073\"", "deallocate all"] {
        let mut bench = masked();
        bench.client(&[parse("s", "select 1", &[]), sync()].concat());
        bench.target(&[PARSED.to_vec(), ready(b'I')].concat());
        let again = [run(away), run("prepare s as select id from t")].concat();
        bench.client(&[again, bind("s", 0, &[], 0), execute(), sync()].concat());
        let ran = |tag: &str| [PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), complete(tag)].concat();
        bench.target(&[ran("DEALLOCATE"), ran("PREPARE"), BOUND.to_vec()].concat());
        let row = row(&[Some(SECRET.as_bytes())]);
        bench.target(&[described(&[(0, 0)]), row, complete("SELECT 1"), ready(b'I')].concat());
        is_hidden(&mut bench);
    }
}

#[test]
fn a_name_that_sql_may_have_given_away_is_not_known_any_more() {
    let mut bench = masked();
    bench.client(&[parse("s", "select 1", &[]), sync()].concat());
    bench.target(&[PARSED.to_vec(), ready(b'I')].concat());
    for (sql, tag) in
        [(r#"deallocate U&"\0073""#, "DEALLOCATE"), (r#"prepare U&"\0073" as select id from t"#, "PREPARE")]
    {
        bench.client(&query(sql));
        bench.target(&[complete(tag), ready(b'I')].concat());
    }
    bench.client(&[bind("s", 0, &[], 0), execute(), sync()].concat());
    let row = row(&[Some(SECRET.as_bytes())]);
    bench.target(&[BOUND.to_vec(), described(&[(0, 0)]), row, complete("SELECT 1"), ready(b'I')].concat());
    is_hidden(&mut bench);
}

#[test]
fn a_session_that_read_backslashes_otherwise_once_is_taken_to_do_so_for_good() {
    let set = |value: &str| message(b'S', format!("standard_conforming_strings\0{value}\0").as_bytes());
    let mut bench = masked();
    bench.target(&[set("off"), set("on")].concat());
    bench.client(&query(r"select id from t where id::text = 'a\'"));
    assert_eq!(bench.refusals()[0].rule, "columns.session");
    let mut bench = masked();
    bench.client(&query(r"select id from t where id::text = 'a\'"));
    assert!(bench.refusals().is_empty());
}

#[test]
fn copied_data_is_hidden_by_position_and_whole_where_a_row_does_not_fit() {
    for line in [
        format!("1\t{SECRET}\n"),
        format!("{SECRET}\n"),
        format!("1\tx\t{SECRET}\n"),
        format!("{SECRET}\r\tx\n"),
    ] {
        let mut bench = masked();
        bench.client(&query("copy public.t to stdout"));
        assert_eq!(tags(&bench.take_target()), "Q");
        bench.target(&message(b'H', &[0, 0, 2, 0, 0, 0, 0]));
        bench.target(
            &[message(b'd', line.as_bytes()), message(b'c', b""), complete("COPY 1"), ready(b'I')].concat(),
        );
        is_hidden(&mut bench);
    }
}

#[test]
fn texts_of_errors_are_hidden_until_the_transaction_ends() {
    let mut bench = masked();
    bench.client(&query("begin"));
    bench.target(&[complete("BEGIN"), ready(b'T')].concat());
    bench.client(&query("select id from t"));
    bench.target(&[described(&[(TABLE, 1)]), complete("SELECT 0"), ready(b'T')].concat());
    bench.client(&query("commit"));
    bench.take_client();
    bench.target(&[error("23505", SECRET), ready(b'I')].concat());
    let client = bench.take_client();
    assert!(contains(&client, b"C23505\0") && contains(&client, b"is hidden"));
    assert!(!contains(&client, SECRET.as_bytes()) && !bench.recorded(SECRET));
    bench.client(&query("select 1 / 0"));
    bench.target(&[error("22012", "division by zero"), ready(b'I')].concat());
    assert!(contains(&bench.take_client(), b"division by zero"), "nothing of the table is in it");
}

#[test]
fn what_compares_is_denied_and_without_a_catalogue_everything_is() {
    for (sql, rule) in [
        ("select id from t where ssn > 'a'", "columns.compared"),
        ("select id from t order by ssn", "columns.ordered"),
    ] {
        let mut bench = masked();
        bench.client(&query(sql));
        assert_eq!(tags(&bench.take_target()), "BS", "{sql}");
        assert_eq!(bench.refusals()[0].rule, rule);
    }
    let mut bench = masked();
    bench.columns = None;
    bench.client(&query("select 1"));
    assert_eq!(tags(&bench.take_target()), "BS");
    assert_eq!(bench.refusals()[0].rule, "columns.catalogue");
}

#[test]
fn a_definition_makes_the_catalogue_old() {
    let mut bench = masked();
    bench.client(&query("create table n (a int)"));
    bench.target(&[complete("CREATE TABLE"), ready(b'I')].concat());
    assert!(bench.catalogue_reads > 0);
    let before = bench.catalogue_reads;
    bench.client(&query("select id from t"));
    bench.target(&[described(&[(TABLE, 1)]), complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(bench.catalogue_reads, before);
}

#[test]
fn a_statement_that_sql_prepared_counts_as_guesses_where_columns_are_masked_and_nowhere_else() {
    let asked = [bind("of_sql", 0, &[], 0), execute(), sync()].concat();
    let answer = [BOUND.to_vec(), message(b'n', b""), complete("SELECT 0"), ready(b'I')].concat();
    let mut open = Bench::open();
    let mut closed = masked();
    for _ in 0..30 {
        open.client(&asked);
        open.target(&answer);
        closed.client(&asked);
        if closed.refusals().is_empty() {
            closed.target(&answer);
        }
    }
    assert!(open.refusals().is_empty());
    assert_eq!(closed.refusals()[0].rule, "columns.guesses_spent");
    assert_eq!(closed.completions().len(), 20, "three at a time, sixty in all");
}
