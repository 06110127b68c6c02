//! Refusals: real at the target, in the client's protocol, on the record.

use retrace_proto::wire::command_completed::Status;
use retrace_proto::wire::command_refused::{Forwarded, Reason};

use crate::harness::*;

fn impossible_bind() -> Vec<u8> {
    message(b'B', format!("\0{IMPOSSIBLE}\0\0\0\0\0\0\0").as_bytes())
}

#[test]
fn a_denied_command_in_a_transaction_fails_the_transaction_at_the_target() {
    let mut bench = Bench::open();
    bench.client(&query("begin"));
    bench.target(&[complete("BEGIN"), ready(b'T')].concat());
    bench.take_client();
    bench.take_target();

    bench.client(&query("copy customers to '/tmp/x'"));
    assert_eq!(bench.take_target(), [impossible_bind(), sync()].concat(), "nothing of the statement itself");
    bench.target(&[error("26000", "prepared statement does not exist"), ready(b'E')].concat());
    let client = bench.take_client();
    assert_eq!(tags(&client), "EZ");
    assert!(contains(&client, b"C42501\0") && !contains(&client, b"26000"));
    assert!(client.ends_with(&ready(b'E')), "the transaction status is the target's own");
    let refused = bench.refusals()[0];
    assert_eq!((refused.reason(), refused.forwarded()), (Reason::Denied, Forwarded::No));
}

#[test]
fn a_refusal_waits_for_its_own_record() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&query("copy t to program 'x'"));
    assert_eq!(bench.events(), ["command_received", "command_refused"]);
    assert_eq!(bench.to_target, b"");
    bench.make_durable();
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "EZ");
}

#[test]
fn several_statements_in_one_query_are_decided_whole() {
    let mut bench = Bench::open();
    bench.client(&query("insert into t values (1); copy t to program 'x'"));
    assert_eq!(bench.take_target(), [impossible_bind(), sync()].concat());
}

#[test]
fn after_a_refusal_in_a_pipeline_everything_up_to_sync_is_skipped_and_said_so() {
    let mut bench = Bench::open();
    let asked = [
        parse("", "insert into t values (1)", &[]),
        bind("", 0, &[], 0),
        execute(),
        parse("", "copy t to program 'x'", &[]),
        bind("", 0, &[], 0),
        execute(),
        sync(),
        query("select 2"),
    ];
    bench.client(&asked.concat());
    assert_eq!(tags(&bench.take_target()), "PBDEBSQ");
    let answer = [
        PARSED.to_vec(),
        BOUND.to_vec(),
        message(b'n', b""),
        complete("INSERT 0 1"),
        error("26000", "x"),
        ready(b'I'),
        complete("SELECT 0"),
        ready(b'I'),
    ];
    bench.target(&answer.concat());
    assert_eq!(tags(&bench.take_client()), "12CEZCZ");
    let reasons: Vec<_> = bench.refusals().iter().map(|refused| refused.reason()).collect();
    assert_eq!(reasons, [Reason::Denied, Reason::Skipped]);
    assert_eq!(bench.completions().len(), 2);
}

#[test]
fn commands_behind_an_error_of_the_target_are_recorded_as_skipped() {
    let mut bench = Bench::open();
    let one = [parse("", "select 1/0", &[]), bind("", 0, &[], 0), execute()].concat();
    let two = [parse("", "select 2", &[]), bind("", 0, &[], 0), execute()].concat();
    bench.client(&[one, two].concat());
    bench.target(&[PARSED, BOUND].concat());
    bench.target(&error("22012", "division by zero"));
    bench.client(&[parse("", "select 3", &[]), bind("", 0, &[], 0), execute(), sync()].concat());
    bench.target(&ready(b'I'));
    assert_eq!(tags(&bench.take_client()), "12EZ");
    let statuses: Vec<_> = bench.completions().iter().map(|completed| completed.status()).collect();
    assert_eq!(statuses, [Status::Error, Status::Skipped, Status::Skipped]);
}

#[test]
fn copy_that_begins_unannounced_ends_the_session() {
    for tag in [b'G', b'H', b'W'] {
        let mut bench = Bench::open();
        bench.client(&query("select 1"));
        bench.take_client();
        bench.target(&message(tag, &[0, 0, 0]));
        bench.target(&message(b'd', b"4111 1111 1111 1111"));
        let client = bench.take_client();
        assert_eq!(tags(&client), "E");
        assert!(contains(&client, b"VFATAL\0"));
        assert!(bench.closed);
    }
}
