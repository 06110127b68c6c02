//! What was tried against the machine and must never work again.

use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::facts::Facts;
use retrace_proto::wire::command_received::Kind;
use retrace_proxy_core::postgres::{Analysed, Input, LogFailure};

use crate::harness::*;

const CARD_AS_INT8: [u8; 8] = 4_111_111_111_111_111_i64.to_be_bytes();

/// A numeric of ten bytes that prints as 131,072 digits.
const LARGE_NUMERIC: [u8; 10] = [0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1];

fn statement(bench: &Bench, index: usize) -> String {
    bench.commands()[index].statement.as_ref().map(|text| text.text.clone()).unwrap_or_default()
}

#[test]
fn a_name_that_sql_gives_another_meaning_is_read_by_what_the_target_says_now() {
    let mut bench = Bench::open();
    bench.client(&[parse("s", "fetch 10 from c", &[]), message(b'D', b"Ss\0"), sync()].concat());
    let described = [PARSED.to_vec(), message(b't', b"\0\0"), row_description(&[("x", 25, 0)]), ready(b'T')];
    bench.target(&described.concat());
    // In between, SQL puts a cursor over numbers behind the same name.
    bench.client(&[bind("s", 0, &[], 1), execute(), sync()].concat());
    bench.target(&[BOUND.to_vec(), row_description(&[("card", 20, 1)])].concat());
    bench.target(&[row(&[Some(&CARD_AS_INT8)]), complete("FETCH 1"), ready(b'T')].concat());
    assert!(!contains(&bench.take_client(), &CARD_AS_INT8));
}

#[test]
fn rows_are_read_by_the_portal_that_was_described_last() {
    let mut bench = Bench::open();
    let named = |name: &str| message(b'D', format!("P{name}\0").as_bytes());
    bench.client(&[named(""), named("other"), execute(), sync()].concat());
    assert_eq!(tags(&bench.take_target()), "DDDES", "described anew, right before its rows");
}

#[test]
fn rows_that_nothing_described_end_the_session() {
    let mut bench = Bench::open();
    bench.client(&[execute(), sync()].concat());
    bench.target(&[message(b'n', b""), row(&[Some(b"4111 1111 1111 1111")])].concat());
    let client = bench.take_client();
    assert!(contains(&client, b"VFATAL\0") && !contains(&client, b"4111"));
}

#[test]
fn names_that_the_target_would_cut_off_are_refused() {
    let long = "a".repeat(64);
    for asked in [parse(&long, "select 1", &[]), bind(&long, 0, &[], 0)] {
        let mut bench = Bench::open();
        bench.client(&asked);
        assert!(contains(&bench.take_client(), b"C42622\0"));
        assert!(bench.closed);
    }
}

#[test]
fn what_a_name_means_is_not_guessed_while_the_target_decides_it() {
    let mut bench = Bench::open();
    bench.client(&[parse("s", "delete from customers", &[]), sync()].concat());
    bench.target(&[PARSED.to_vec(), ready(b'I')].concat());
    let pipelined = [parse("s", "select 1", &[]), sync(), bind("s", 0, &[], 0), execute(), sync()];
    bench.take_target();
    bench.client(&pipelined.concat());
    assert_eq!(tags(&bench.take_target()), "PS", "the rest waits for the answer");
    assert!(!bench.session.wants_client_bytes());
    bench.target(&[error("42P05", "it exists"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_target()), "BDES");
    assert_eq!(statement(&bench, 2), "delete from customers", "the one that runs");
    assert_eq!(bench.commands()[2].kind(), Kind::Execute);
}

#[test]
fn every_statement_and_every_bind_has_a_record() {
    let mut bench = Bench::open();
    let value: [Option<&[u8]>; 1] = [Some(b"7")];
    bench.client(
        &[
            parse("a", "select 1", &[]),
            parse("b", "select effect($1)", &[23]),
            bind("b", 0, &value, 0),
            bind("a", 0, &[], 0),
            execute(),
            sync(),
        ]
        .concat(),
    );
    let recorded: Vec<_> = (0..3).map(|index| statement(&bench, index)).collect();
    assert_eq!(recorded, ["select 1", "select effect($1)", "select 1"]);
    assert_eq!(bench.commands()[1].parameters[0].value.as_deref(), Some("7"));
    assert_eq!(tags(&bench.take_target()), "PPBBDES");
}

#[test]
fn a_few_bytes_do_not_become_a_huge_record() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    let values: Vec<Option<&[u8]>> = vec![Some(&LARGE_NUMERIC); 2000];
    let asked = [parse("", "select 1", &vec![1700; 2000]), bind("", 1, &values, 0), execute(), sync()];
    bench.client(&asked.concat());
    let recorded: usize = bench.log.iter().map(|recorded| recorded.bytes().len()).sum();
    assert!(recorded < 2_000_000, "{recorded} bytes");
}

#[test]
fn a_row_of_a_few_bytes_does_not_become_a_huge_record() {
    let mut bench = Bench::open();
    bench.client(&query("select"));
    bench.target(&row_description(&vec![("n", 1700, 1); 200]));
    bench.target(&row(&vec![Some(&LARGE_NUMERIC[..]); 200]));
    bench.target(&[complete("SELECT 1"), ready(b'I')].concat());
    let recorded: usize = bench.log.iter().map(|recorded| recorded.bytes().len()).sum();
    assert!(recorded < 2_000_000, "{recorded} bytes");
}

#[test]
fn executing_a_large_statement_again_and_again_waits_for_the_log() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    let large = format!("select 1 -- {}", "x".repeat(1_000_000));
    let mut asked = [parse("", &large, &[]), bind("", 0, &[], 0)].concat();
    for _ in 0..40 {
        asked.extend_from_slice(&execute());
    }
    bench.client(&asked);
    let recorded = |bench: &Bench| bench.log.iter().map(|recorded| recorded.bytes().len()).sum::<usize>();
    assert!(recorded(&bench) < 7_000_000, "{} bytes", recorded(&bench));
    assert!(!bench.session.wants_client_bytes());
    bench.log_is_healthy = true;
    bench.make_durable();
    assert_eq!(bench.commands().len(), 40, "and goes on when the log does");
}

#[test]
fn a_value_with_thousands_of_addresses_is_masked_and_recorded() {
    let mut bench = Bench::open();
    bench.client(&query("select string_agg(email, ',') from customers"));
    let value: String = (0..20_000).map(|index| format!("user{index}@example.com,")).collect();
    let answer =
        [row_description(&[("x", 25, 0)]), row(&[Some(value.as_bytes())]), complete("SELECT 1"), ready(b'I')];
    bench.target(&answer.concat());
    let client = bench.take_client();
    assert_eq!(tags(&client), "TDCZ");
    assert!(!contains(&client, b"user"));
    assert!(!bench.recorded("user1"));
}

#[test]
fn text_in_another_encoding_is_hidden_on_a_target_with_masks() {
    // Fullwidth digits in EUC-JP, after SET client_encoding in the same query.
    let card: Vec<u8> = "4111111111111111".bytes().flat_map(|digit| [0xa3, digit + 0x80]).collect();
    let mut bench = Bench::open();
    bench.client(&query("set client_encoding = 'EUC_JP'; select card from customers"));
    let answer = [
        complete("SET"),
        row_description(&[("card", 25, 0)]),
        row(&[Some(&card)]),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    bench.target(&answer.concat());
    let client = bench.take_client();
    assert!(!contains(&client, &card) && contains(&client, b"[unreadable]"));
}

#[test]
fn hex_of_bytes_is_looked_into_wherever_it_stands() {
    let hex = "\\x34313131313131313131313131313131";
    for (type_oid, text) in [
        (1001, format!("{{\"\\{hex}\"}}")),
        (2249, format!("(\"\\{hex}\",1)")),
        (114, format!("[\"\\{hex}\"]")),
    ] {
        let mut bench = Bench::open();
        bench.client(&query("select t from t"));
        let answer = [
            row_description(&[("t", type_oid, 0)]),
            row(&[Some(text.as_bytes())]),
            complete("SELECT 1"),
            ready(b'I'),
        ];
        bench.target(&answer.concat());
        assert!(!contains(&bench.take_client(), b"343131"), "{text}");
        assert!(!bench.recorded("343131"), "{text}");
    }
}

#[test]
fn a_commit_on_its_way_is_not_called_not_executed() {
    let mut bench = Bench::open();
    bench.client(
        &[parse("", "insert into t values (1)", &[]), bind("", 0, &[], 0), execute(), sync()].concat(),
    );
    bench.target(&[PARSED, BOUND, &message(b'n', b""), &complete("INSERT 0 1")].concat());
    assert_eq!(tags(&bench.take_client()), "12C");
    bench.input(Input::LogFailed(LogFailure::Permanent));
    let told = bench.take_client();
    assert!(contains(&told, b"C08007\0"), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn settings_of_the_login_are_masked_and_recorded_too() {
    let mut bench = Bench::opening(true);
    bench.settle();
    assert!(contains(&bench.take_client(), b"application_name\0j***@example.com\0"));
    assert!(bench.recorded("application_name") && bench.recorded("j***@example.com"));
}

#[test]
fn a_refusal_while_the_target_skips_sends_nothing_that_ends_the_skip() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "bad", &[]), message(b'H', b"")].concat());
    bench.take_target();
    bench.target(&error("42601", "syntax error"));
    bench.client(&query("copy t to program 'x'"));
    assert_eq!(bench.take_target(), b"");
    bench.client(&sync());
    bench.target(&ready(b'I'));
    assert_eq!(tags(&bench.take_client()), "EZ");
}

#[test]
fn many_binds_that_are_not_answered_wait_for_answers_that_the_gate_asks_for() {
    let mut bench = Bench::open();
    let value = vec![b'x'; 1_000_000];
    let values: [Option<&[u8]>; 1] = [Some(&value)];
    bench.client(&parse("s", "insert into t values ($1)", &[25]));
    let mut sent = 0;
    while bench.session.wants_client_bytes() {
        bench.client(&[bind("s", 0, &values, 0), execute()].concat());
        sent += 1;
        assert!(sent < 100, "not everything is taken in");
    }
    let asked = tags(&bench.take_target());
    assert!(asked.ends_with("BDEH"), "{asked}");
    bench.target(PARSED);
    let answer = [BOUND.to_vec(), message(b'n', b""), complete("INSERT 0 1")].concat();
    bench.target(&answer.repeat(sent - 1));
    assert_eq!(tags(&bench.take_target()), "BDE", "the one that waited");
    assert!(bench.session.wants_client_bytes() && !bench.closed);
}

#[test]
fn binds_without_an_execute_are_asked_to_be_answered_too() {
    let mut bench = Bench::open();
    let value = vec![b'x'; 1_000_000];
    let values: [Option<&[u8]>; 1] = [Some(&value)];
    bench.client(&parse("s", "insert into t values ($1)", &[25]));
    let mut sent = 0;
    while bench.session.wants_client_bytes() {
        bench.client(&bind("s", 0, &values, 0));
        sent += 1;
        assert!(sent < 100, "not everything is taken in");
    }
    let asked = tags(&bench.take_target());
    assert!(asked.ends_with("BH"), "{asked}");
    bench.target(&[PARSED.to_vec(), BOUND.repeat(sent - 1)].concat());
    assert!(bench.session.wants_client_bytes() && !bench.closed);
}

#[test]
fn statements_that_are_described_and_closed_leave_nothing_behind() {
    let mut bench = Bench::open();
    bench.client(&query("begin"));
    bench.target(&[complete("BEGIN"), ready(b'T')].concat());
    let named = |tag: u8| message(tag, b"Ss\0");
    for _ in 0..3 {
        bench.client(&[parse("s", "select $1::int", &[]), named(b'D'), sync()].concat());
        let described = [message(b't', b"\0\x01\0\0\0\x17"), row_description(&[("a", 23, 0)])].concat();
        bench.target(&[PARSED.to_vec(), described, ready(b'T')].concat());
        bench.client(&[bind("s", 0, &[Some(b"1")], 0), execute(), sync(), named(b'C'), sync()].concat());
        let rows = [row_description(&[("a", 23, 0)]), row(&[Some(b"1")]), complete("SELECT 1"), ready(b'T')];
        bench.target(&[BOUND.to_vec(), rows.concat(), message(b'3', b""), ready(b'T')].concat());
    }
    bench.client(&query("commit"));
    bench.target(&[complete("COMMIT"), ready(b'I')].concat());
    assert!(!bench.closed);
}

#[test]
fn a_refusal_behind_a_sync_whose_answer_is_on_its_way_is_answered() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&[parse("", "bad", &[]), sync()].concat());
    bench.make_durable();
    bench.client(&query("copy t to program 'x'"));
    bench.target(&error("42601", "syntax error"));
    bench.make_durable();
    bench.take_target();
    bench.target(&ready(b'I'));
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    bench.make_durable();
    assert_eq!(tags(&bench.take_client()), "EZEZ");
}

#[test]
fn many_parameters_that_cannot_be_read_are_counted() {
    let mut bench = Bench::open();
    let values: Vec<Option<&[u8]>> = vec![Some(&[0, 0, 0, 1]); 20_000];
    bench.client(&[parse("", "select 1", &[]), bind("", 1, &values, 0), execute(), sync()].concat());
    assert!(!bench.closed);
    assert!(bench.commands()[0].masks_omitted > 19_000);
}

#[test]
fn an_error_at_a_sync_belongs_to_what_that_sync_ends() {
    let mut bench = Bench::open();
    let one = [parse("", "insert into t values (1)", &[]), bind("", 0, &[], 0), execute(), sync()].concat();
    bench.client(&[one.clone(), one].concat());
    let answer = [PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), complete("INSERT 0 1")].concat();
    bench.target(&[answer, error("23503", "deferred"), ready(b'I')].concat());
    let failed = bench.log.iter().find(|recorded| recorded.event_type() == "async_message").unwrap();
    assert_eq!(failed.header().command_seq, Some(1), "the first command, not the one behind it");
}

#[test]
fn a_command_that_never_leaves_the_gate_has_its_end_recorded() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&query("delete from customers"));
    bench.input(Input::TargetClosed);
    assert_eq!(bench.events(), ["command_received", "command_refused", "session_closed"]);
    assert_eq!(bench.to_target, b"");
}

#[test]
fn a_log_that_hangs_has_a_deadline_though_nobody_waits_for_a_reply() {
    let mut bench = Bench::open();
    bench.client(&query("select big"));
    bench.input(Input::ClientClosed);
    bench.log_is_healthy = false;
    bench.target(&row_description(&[("x", 25, 0)]));
    let value = "x".repeat(100_000);
    let mut sent = 0;
    while bench.session.wants_target_bytes(0) {
        bench.target(&row(&[Some(value.as_bytes())]));
        sent += 1;
        assert!(sent < 200, "what is sealed and not durable is bounded");
    }
    // The first one is of the target's silence.
    bench.deadline();
    bench.deadline();
    assert!(bench.closed);
}

#[test]
fn a_statement_that_sql_deallocates_is_not_named_in_the_record() {
    let mut bench = Bench::open();
    bench.client(&[parse("s", "select 1", &[]), sync()].concat());
    bench.target(&[PARSED.to_vec(), ready(b'I')].concat());
    let redefine = query("deallocate s; prepare s as delete from customers");
    bench.client(&[redefine, bind("s", 0, &[], 0), execute(), sync()].concat());
    assert!(tags(&bench.take_target()).ends_with('Q'), "what the name means is not known yet");
    bench.target(&[complete("DEALLOCATE"), complete("PREPARE"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_target()), "BDES");
    let executed = bench.commands().into_iter().next_back().unwrap();
    assert_eq!(executed.statement.as_ref().unwrap().text, "");
    assert_eq!(executed.statement_name, "s", "its PREPARE is on record");
}

#[test]
fn a_notice_longer_than_the_record_keeps_is_cut_for_the_client_too() {
    let mut bench = Bench::open();
    bench.client(&query("do"));
    let long = "n".repeat(100_000);
    bench.target(&message(b'N', format!("SNOTICE\0VNOTICE\0C00000\0M{long}\0\0").as_bytes()));
    bench.target(&[complete("DO"), ready(b'I')].concat());
    let client = bench.take_client();
    assert!(client.len() < 10_000 && contains(&client, b"bytes omitted"));
}

#[test]
fn a_cancel_whose_record_comes_after_the_session_has_ended_is_not_forwarded() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "select 1", &[]), bind("", 0, &[], 0), execute()].concat());
    bench.log_is_healthy = false;
    bench.input(Input::CancelRequested(None));
    bench.target(&[PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), complete("SELECT 0")].concat());
    while !bench.closed {
        bench.deadline();
    }
    bench.make_durable();
    assert_eq!(bench.cancels, 0);
}

#[test]
fn facts_are_of_no_use_for_another_statement() {
    let mut bench = Bench::open();
    // The machine asks about the first; it is told of it only when that no longer waits.
    bench.session.handle(bench.now, Input::ClientBytes(&query("copy t to program 'x'")));
    let harmless = Bytes::from_static(b"copy t to stdout");
    let facts = Facts::of("copy t to stdout").map(Arc::new);
    let answer = Analysed { facts: Some((harmless, facts)), columns: None };
    bench.session.handle(bench.now, Input::Analysed(answer));
    bench.settle();
    assert_eq!(tags(&bench.take_target()), "BS");
    assert_eq!(bench.commands()[0].decision.as_ref().expect("decided").rule, "builtin.copy_on_server");
}

/// Found by fuzzing: the description of a portal said how rows are read, and rows came without any Execute. They went to the
/// client with the next answer, and no record had them.
#[test]
fn a_row_that_no_execute_asked_for_ends_the_session() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "select 1", &[]), bind("", 0, &[], 0), describe_portal(), sync()].concat());
    let described = [PARSED.to_vec(), BOUND.to_vec(), row_description(&[("c", 25, 0)])].concat();
    bench.target(&described);
    bench.take_client();
    bench.target(&[row(&[Some(b"unasked")]), error("22012", "x"), ready(b'I')].concat());
    assert!(bench.closed);
    assert!(!contains(&bench.to_client, b"unasked"));
}

/// Found by fuzzing: a client that was gone was said goodbye for after the session had ended.
#[test]
fn nothing_is_sent_or_recorded_for_a_client_that_is_gone_once_the_session_has_ended() {
    let mut bench = Bench::open();
    bench.client(&query("select 1"));
    bench.take_target();
    bench.log_is_healthy = false;
    let megabyte = row(&[Some(&[b'x'; 1024 * 1024])]);
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    bench.target(&[row_description(&[("c", 25, 0)]), megabyte.repeat(6), fatal].concat());
    assert!(!bench.session.wants_target_bytes(0), "the record is so far behind that both sides wait");
    bench.input(Input::ClientClosed);
    bench.input(Input::TargetClosed);
    bench.log_is_healthy = true;
    bench.make_durable();
    bench.settle();
    assert!(bench.closed);
    assert_eq!(tags(&bench.take_target()), "");
    assert_eq!(bench.events().iter().filter(|it| **it == "session_closed").count(), 1);
    assert_eq!(bench.events().last(), Some(&"session_closed"));
}
