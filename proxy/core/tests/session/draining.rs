//! An instance that is about to stop, or a credential that comes to its end: what is under way is finished, and then the session
//! ends with a word.

use retrace_proto::wire::session_closed::Reason;
use retrace_proto::wire::{Durability, envelope::Payload};
use retrace_proxy_core::postgres::{Input, Leave};

use crate::harness::*;

fn assert_told_and_closed(bench: &mut Bench, before: &str) {
    let client = bench.take_client();
    assert_eq!(tags(&client), format!("{before}E"));
    assert!(contains(&client, b"VFATAL\0C57P01\0") && contains(&client, b"Retrace is shutting down"));
    assert!(bench.closed);
    let Some(Payload::SessionClosed(closed)) = bench.log.last().map(|event| event.payload()) else {
        panic!("the last event is {:?}", bench.events().last());
    };
    assert_eq!(closed.reason(), Reason::Shutdown);
}

#[test]
fn an_idle_session_ends_at_once() {
    let mut bench = Bench::open();
    bench.input(Input::Drain(Leave::Instance));
    assert_told_and_closed(&mut bench, "");
}

#[test]
fn a_command_under_way_is_answered_first() {
    let mut bench = Bench::open();
    bench.client(&query("select pg_sleep(2)"));
    bench.input(Input::Drain(Leave::Instance));
    assert!(!bench.closed && bench.take_client().is_empty());
    bench.target(&[row_description(&[("a", 25, 0)]), row(&[Some(b"")])].concat());
    assert!(!bench.closed, "the answer is not whole");
    bench.target(&[complete("SELECT 1"), ready(b'I')].concat());
    assert_told_and_closed(&mut bench, "TDCZ");
    assert_eq!(bench.completions().len(), 1);
}

#[test]
fn a_command_that_waits_for_its_record_runs_and_is_answered_first() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&query("insert into t values (1)"));
    bench.input(Input::Drain(Leave::Instance));
    assert_eq!(bench.to_target, b"");
    bench.log_is_healthy = true;
    bench.make_durable();
    assert_eq!(bench.take_target(), query("insert into t values (1)"));
    bench.target(&[complete("INSERT 0 1"), ready(b'I')].concat());
    assert_told_and_closed(&mut bench, "CZ");
}

#[test]
fn an_answer_that_waits_for_its_record_goes_out_first() {
    let mut bench = Bench::open();
    bench.client(&query("select 1"));
    bench.log_is_healthy = false;
    bench.target(&[complete("SELECT 1"), ready(b'I')].concat());
    bench.input(Input::Drain(Leave::Instance));
    assert!(!bench.closed && bench.to_client.is_empty());
    bench.log_is_healthy = true;
    bench.make_durable();
    assert_told_and_closed(&mut bench, "CZ");
}

#[test]
fn an_open_transaction_ends_with_the_exchange_and_not_with_the_commit() {
    let mut bench = Bench::open();
    bench.client(&query("begin"));
    bench.input(Input::Drain(Leave::Instance));
    bench.target(&[complete("BEGIN"), ready(b'T')].concat());
    assert_told_and_closed(&mut bench, "CZ");
}

#[test]
fn messages_without_their_execute_and_data_without_their_end_are_waited_for() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "select 1", &[]), bind("", 0, &[], 0)].concat());
    bench.input(Input::Drain(Leave::Instance));
    assert!(!bench.closed);
    bench.client(&[execute(), sync()].concat());
    let answer = [&b"1\0\0\0\x042\0\0\0\x04"[..], &message(b'n', b""), &complete("SELECT 1"), &ready(b'I')];
    bench.target(&answer.concat());
    assert!(bench.closed, "told {}", tags(&bench.to_client));

    let mut bench = Bench::open();
    bench.client(&query("copy t from stdin"));
    bench.target(&message(b'G', b"\0\0\x01\0\0"));
    bench.input(Input::Drain(Leave::Instance));
    bench.client(&message(b'd', b"1\n"));
    assert!(!bench.closed);
    bench.client(&message(b'c', b""));
    bench.target(&[complete("COPY 1"), ready(b'I')].concat());
    assert_told_and_closed(&mut bench, "GCZ");
}

#[test]
fn a_session_that_waits_for_nothing_does_not_wait_for_records_either() {
    let relaxed = |opening: &mut retrace_proxy_core::postgres::Opening| {
        opening.subject.durability = Durability::Relaxed;
    };
    let mut bench = Bench::opening_with(true, relaxed);
    bench.settle();
    bench.log_is_healthy = false;
    bench.client(&query("select 1"));
    bench.target(&[complete("SELECT 1"), ready(b'I')].concat());
    bench.take_client();
    bench.input(Input::Drain(Leave::Instance));
    assert_told_and_closed(&mut bench, "");
}

#[test]
fn who_does_not_finish_is_ended_when_the_instance_stops() {
    let mut bench = Bench::open();
    bench.client(&query("select pg_sleep(1000)"));
    bench.input(Input::Drain(Leave::Instance));
    bench.input(Input::Shutdown(Leave::Instance));
    assert_told_and_closed(&mut bench, "");
}

#[test]
fn a_credential_that_ends_is_told_as_that_and_stands_as_that_on_record() {
    let told = |mut bench: Bench, before: &str| {
        let client = bench.take_client();
        assert_eq!(tags(&client), format!("{before}E"));
        assert!(contains(&client, b"VFATAL\0C57P01\0") && contains(&client, b"credential for this target"));
        assert!(!contains(&client, b"Retrace is shutting down") && bench.closed);
        let Some(Payload::SessionClosed(closed)) = bench.log.last().map(|event| event.payload()) else {
            panic!("the last event is {:?}", bench.events().last());
        };
        assert_eq!(closed.reason(), Reason::CredentialEnded);
    };
    let mut idle = Bench::open();
    idle.input(Input::Drain(Leave::Credential));
    told(idle, "");

    let mut busy = Bench::open();
    busy.client(&query("select 1"));
    busy.input(Input::Drain(Leave::Credential));
    // The process stops as well: what came first is what is told.
    busy.input(Input::Drain(Leave::Instance));
    assert!(!busy.closed && busy.to_client.is_empty());
    busy.target(&[complete("SELECT 1"), ready(b'I')].concat());
    told(busy, "CZ");

    let mut late = Bench::open();
    late.client(&query("select pg_sleep(1000)"));
    late.input(Input::Drain(Leave::Credential));
    late.input(Input::Shutdown(Leave::Credential));
    told(late, "");
}
