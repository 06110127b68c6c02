use super::super::command::CommandIn;
use super::*;
use crate::statement::Backslash;

fn statement(sql: &str) -> String {
    let command = CommandIn {
        statement: sql.as_bytes(),
        backslash: Backslash::Plain,
        statement_name: b"",
        portal_name: b"",
        parameters: &[],
    };
    every(MaskAction::Redact).mask_command(&command).texts.into_inner().statement.text
}

#[test]
fn a_word_beside_a_number_counts_though_it_is_another_token() {
    assert_eq!(statement("select * from t where ssn = 123456789"), "select * from t where ssn = [us_ssn]");
    assert_eq!(
        statement("select * from t where ssn = '123456789'"),
        "select * from t where ssn = '[us_ssn]'"
    );
    assert_eq!(statement("select * from t where id = 123456789"), "select * from t where id = 123456789");
}

#[test]
fn every_part_of_a_number_over_several_tokens_is_hidden() {
    assert_eq!(statement("select 123-45-6789, 5"), "select [us_ssn]-[us_ssn]-[us_ssn], 5");
    assert_eq!(
        statement("values (4111 -1111 -1111 -1111)"),
        "values ([payment_card] -[payment_card] -[payment_card] -[payment_card])"
    );
}

#[test]
fn the_begin_of_a_key_in_a_comment_hides_only_the_comment() {
    assert_eq!(
        statement("/* -----BEGIN PRIVATE KEY----- */ update t set role = 'admin'"),
        "/* [private_key]*/ update t set role = 'admin'"
    );
    assert_eq!(statement("select '-----BEGIN PRIVATE KEY-----\nMIIE', 'x'"), "select '[private_key]', 'x'");
    assert_eq!(statement("select $k$-----BEGIN PRIVATE KEY-----$k$, 1"), "select $k$[private_key]$k$, 1");
    assert_eq!(statement("select '-----BEGIN PRIVATE KEY-----"), "select '[private_key]");
}
