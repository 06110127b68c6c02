//! A principal that asks for more than it may: its sessions are slowed down, and lose nothing.

use std::num::NonZeroU64;
use std::sync::Arc;

use retrace_proto::wire::command_refused as refused;
use retrace_proto::wire::{ControlReference, session_closed::Reason};
use retrace_proxy_core::postgres::{Input, Leave, Slowed};
use retrace_proxy_core::{Buckets, Pace};

use crate::harness::*;

const SECOND_US: u64 = 1_000_000;

/// Buckets from the moment on at which a bench begins.
fn buckets(pace: Pace) -> Arc<Buckets> {
    let buckets = Arc::<Buckets>::default();
    buckets.set(1_000_000, pace);
    buckets
}

pub(crate) fn commands(per_second: u64, burst: u64) -> Arc<Buckets> {
    buckets(Pace {
        commands_per_second_max: NonZeroU64::new(per_second),
        commands_burst_max: NonZeroU64::new(burst),
        ..Pace::default()
    })
}

fn bytes(per_second: u64) -> Arc<Buckets> {
    buckets(Pace { bytes_per_second_max: NonZeroU64::new(per_second), ..Pace::default() })
}

pub(crate) fn open(buckets: &Arc<Buckets>) -> Bench {
    let mut bench = Bench::opening_with(true, |opening| opening.buckets = buckets.clone());
    bench.settle();
    assert_eq!(tags(&bench.take_client()), "RSSKZ");
    bench
}

fn answer() -> Vec<u8> {
    [complete("SELECT 1"), ready(b'I')].concat()
}

#[test]
fn commands_beyond_the_pace_wait_unrecorded_and_go_in_order() {
    let mut bench = open(&commands(2, 2));
    let asked: Vec<_> = (0..5).map(|number| query(&format!("select {number}"))).collect();
    bench.client(&asked.concat());
    assert_eq!(bench.take_target(), asked[..2].concat(), "the burst");
    assert_eq!(bench.commands().len(), 2, "what waits was not taken up");
    assert!(!bench.session.wants_client_bytes() && bench.session.wants_target_bytes(0));
    let began_us = bench.now.monotonic_us;
    for sql in &asked[2..] {
        bench.deadline();
        assert_eq!(bench.take_target(), *sql);
    }
    assert_eq!(bench.now.monotonic_us - began_us, 3 * SECOND_US / 2);
    assert!(bench.session.wants_client_bytes());
    bench.target(&answer().repeat(5));
    assert_eq!(bench.take_client(), answer().repeat(5));
    let texts: Vec<_> = bench.commands().iter().map(|it| it.statement.clone().unwrap().text).collect();
    assert_eq!(texts, (0..5).map(|number| format!("select {number}")).collect::<Vec<_>>());
    assert_eq!(bench.completions().len(), 5);
    let tally = bench.session.tally();
    assert_eq!(tally.slowed, [Slowed::ByCommands; 3]);
    assert_eq!(tally.waited_us, [(Slowed::ByCommands, SECOND_US / 2); 3]);
}

#[test]
fn a_command_whose_turn_came_still_waits_for_its_record() {
    let mut bench = open(&commands(1, 1));
    bench.client(&query("select 1"));
    bench.take_target();
    bench.log_is_healthy = false;
    bench.client(&query("select 2"));
    bench.deadline();
    assert_eq!(bench.commands().len(), 2);
    assert_eq!(bench.to_target, b"", "the record is not durable");
    bench.make_durable();
    assert_eq!(bench.take_target(), query("select 2"));
}

#[test]
fn what_is_prepared_bound_and_run_together_is_one_command() {
    let mut bench = open(&commands(1, 2));
    let one =
        [parse("", "select 1", &[]), bind("", 0, &[], 0), describe_portal(), execute(), sync()].concat();
    bench.client(&one.repeat(3));
    assert_eq!(tags(&bench.take_target()), "PBDES".repeat(2));
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "PBDES");
    assert_eq!(bench.commands().len(), 3);
}

#[test]
fn what_is_prepared_alone_has_a_turn_of_its_own() {
    let mut bench = open(&commands(1, 1));
    let prepared = [parse("a", "select 1", &[]), sync()].concat();
    bench.client(&prepared.repeat(2));
    assert_eq!(tags(&bench.take_target()), "PS");
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "PS");
}

#[test]
fn the_data_of_a_copy_is_no_command() {
    let mut bench = open(&commands(1, 1));
    bench.client(&query("copy t from stdin"));
    bench.take_target();
    bench.target(&message(b'G', &[0, 0, 1, 0, 0]));
    bench.client(&[message(b'd', b"a\n").repeat(10), message(b'c', b"")].concat());
    assert_eq!(tags(&bench.take_target()), "dc");
}

#[test]
fn a_farewell_needs_no_turn() {
    let mut bench = open(&commands(1, 1));
    bench.client(&query("select 1"));
    bench.target(&answer());
    bench.client(&message(b'X', b""));
    assert_eq!(tags(&bench.take_target()), "QX");
}

#[test]
fn a_kill_and_a_cancel_do_not_wait_for_the_turn() {
    let mut bench = open(&commands(1, 1));
    bench.client(&[query("select 1"), query("select 2")].concat());
    bench.input(Input::CancelRequested(None));
    assert_eq!(bench.cancels, 1);
    bench.input(Input::Killed(ControlReference::default()));
    let client = bench.take_client();
    assert!(contains(&client, b"57P01") && bench.closed);
    assert_eq!(tags(&bench.take_target()), "Q", "the other one never went");
    assert_eq!(bench.session.tally().closed, [Reason::Killed]);
    assert_eq!(bench.session.tally().waited_us, [(Slowed::ByCommands, 0)]);
    assert_eq!(bench.session.poll_deadline(), None);
}

fn impossible_bind() -> Vec<u8> {
    message(b'B', format!("\0{IMPOSSIBLE}\0\0\0\0\0\0\0").as_bytes())
}

/// A bench whose first command is answered, so that the next one waits for its turn.
fn out_of_turns() -> Bench {
    let mut bench = open(&commands(1, 1));
    bench.client(&query("select 1"));
    bench.target(&answer());
    assert_eq!((tags(&bench.take_target()), tags(&bench.take_client())), ("Q".to_owned(), "CZ".to_owned()));
    bench
}

fn only_refusal(bench: &Bench) -> (refused::Reason, refused::Forwarded, String) {
    let refusals = bench.refusals();
    assert_eq!(refusals.len(), 1);
    (refusals[0].reason(), refusals[0].forwarded(), refusals[0].sqlstate.clone())
}

fn cancelled() -> (refused::Reason, refused::Forwarded, String) {
    (refused::Reason::Cancelled, refused::Forwarded::No, "57014".to_owned())
}

#[test]
fn a_command_that_is_cancelled_while_it_waits_is_recorded_and_does_not_run() {
    let mut bench = out_of_turns();
    bench.client(&query("insert into t values (1)"));
    bench.input(Input::CancelRequested(None));
    assert_eq!(bench.cancels, 0, "the target would find nothing, or the command after it");
    assert_eq!(bench.take_target(), [impossible_bind(), sync()].concat());
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    let client = bench.take_client();
    assert!(tags(&client) == "EZ" && contains(&client, b"C57014\0"), "{client:?}");
    assert_eq!(bench.commands()[1].statement.clone().unwrap().text, "insert into t values (1)");
    assert_eq!((only_refusal(&bench), bench.completions().len()), (cancelled(), 1));
    // Its turn is spent, and no other command is withdrawn.
    let began_us = bench.now.monotonic_us;
    bench.client(&query("select 2"));
    while bench.to_target.is_empty() {
        bench.deadline();
    }
    assert_eq!(bench.now.monotonic_us - began_us, 2 * SECOND_US);
    assert_eq!(bench.take_target(), query("select 2"));
}

#[test]
fn a_batch_that_is_cancelled_at_its_first_message_is_refused_up_to_its_sync() {
    let one =
        [parse("", "delete from t where a = 1", &[]), bind("", 0, &[], 0), describe_portal(), execute()];
    let prepared = [parse("a", "select 1", &[]), parse("b", "select 2", &[]), parse("c", "select 3", &[])];
    for (asked, reasons) in [
        (one.concat(), vec![refused::Reason::Cancelled, refused::Reason::Skipped]),
        (prepared.concat(), vec![refused::Reason::Cancelled]),
        ([bind("", 0, &[], 0), query("select 1")].concat(), vec![refused::Reason::Cancelled]),
    ] {
        let mut bench = out_of_turns();
        bench.client(&asked);
        assert_eq!(bench.commands().len(), 1, "it waits");
        bench.input(Input::CancelRequested(None));
        assert_eq!(bench.take_target(), impossible_bind());
        bench.target(&error("26000", "x"));
        assert!(contains(&bench.take_client(), b"C57014\0"));
        bench.client(&sync());
        while bench.to_target.is_empty() {
            // What would run is recorded as skipped, which has its turn too.
            bench.deadline();
        }
        assert_eq!(bench.take_target(), sync());
        bench.target(&ready(b'I'));
        assert_eq!(tags(&bench.take_client()), "Z");
        assert_eq!(bench.refusals().iter().map(|refused| refused.reason()).collect::<Vec<_>>(), reasons);
        assert_eq!(bench.completions().len(), 1, "of the command before");
    }
}

#[test]
fn a_cancelled_execute_is_on_record_with_what_it_would_have_run() {
    let mut bench = open(&commands(1, 1));
    bench.client(&[parse("", "delete from t where a = $1", &[23]), bind("", 0, &[Some(b"7")], 0)].concat());
    bench.client(&[execute(), sync()].concat());
    assert_eq!(tags(&bench.take_target()), "PBDES");
    let answer = [PARSED, BOUND, &message(b'n', b""), &complete("DELETE 1"), &ready(b'T')];
    bench.target(&answer.concat());
    assert_eq!(tags(&bench.take_client()), "12CZ");
    bench.client(&[execute(), sync()].concat());
    bench.input(Input::CancelRequested(None));
    assert_eq!(bench.take_target(), [impossible_bind(), sync()].concat());
    assert_eq!(only_refusal(&bench), cancelled());
    let command = bench.commands().pop().unwrap();
    assert_eq!(command.statement.clone().unwrap().text, "delete from t where a = $1");
    assert_eq!(command.parameters.len(), 1);
}

#[test]
fn a_cancel_while_a_statement_is_analysed_withdraws_the_batch_that_it_is_of() {
    let mut bench = Bench::open();
    bench.client(&describe_portal());
    bench.session.handle(bench.now, Input::ClientBytes(&parse("", "copy t to stdout", &[])));
    bench.session.handle(bench.now, Input::CancelRequested(None));
    bench.settle();
    bench.make_durable();
    assert_eq!((bench.cancels, bench.take_target()), (0, impossible_bind()));
    bench.client(&[bind("", 0, &[], 0), execute(), sync()].concat());
    assert_eq!(bench.take_target(), sync());
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "EZ");
    let reasons: Vec<_> = bench.refusals().iter().map(|refused| refused.reason()).collect();
    assert_eq!(reasons, [refused::Reason::Cancelled, refused::Reason::Skipped]);
}

#[test]
fn a_cancel_is_for_what_runs_and_not_for_what_was_asked_behind_it() {
    let mut bench = open(&commands(1, 1));
    bench.client(&[query("select 1"), query("select 2")].concat());
    bench.input(Input::CancelRequested(None));
    bench.target(&answer());
    bench.deadline();
    assert_eq!((bench.cancels, bench.take_target()), (1, [query("select 1"), query("select 2")].concat()));
}

#[test]
fn a_cancel_takes_no_batch_with_it_that_is_not_what_runs() {
    let mut bench = open(&commands(1, 2));
    let one = [parse("", "select 1", &[]), bind("", 0, &[], 0), describe_portal(), execute()].concat();
    bench.client(&[query("select 0"), one.clone(), one, sync()].concat());
    assert_eq!(tags(&bench.take_target()), "QPBDE");
    bench.input(Input::CancelRequested(None));
    assert_eq!((bench.cancels, bench.refusals().len()), (1, 0));
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "PBDES");
}

#[test]
fn a_cancel_that_comes_while_one_before_it_is_not_on_record_still_withdraws() {
    let mut bench = open(&commands(1, 1));
    bench.client(&query("select 1"));
    bench.take_target();
    bench.log_is_healthy = false;
    bench.input(Input::CancelRequested(None));
    bench.target(&answer());
    bench.client(&query("select 2"));
    bench.input(Input::CancelRequested(None));
    bench.make_durable();
    assert_eq!(only_refusal(&bench), cancelled());
}

#[test]
fn a_cancel_takes_the_whole_batch_with_it() {
    let mut bench = open(&commands(1, 1));
    let one = [parse("", "select 1", &[]), bind("", 0, &[], 0), describe_portal(), execute()].concat();
    bench.client(&[one.clone(), one, sync()].concat());
    assert_eq!(tags(&bench.take_target()), "PBDE");
    bench.input(Input::CancelRequested(None));
    assert_eq!((bench.cancels, bench.take_target()), (1, impossible_bind()));
    while bench.to_target.is_empty() {
        bench.deadline();
    }
    assert_eq!(bench.take_target(), sync());
    let reasons: Vec<_> = bench.refusals().iter().map(|refused| refused.reason()).collect();
    assert_eq!(reasons, [refused::Reason::Cancelled, refused::Reason::Skipped]);
}

#[test]
fn who_always_waits_for_a_turn_goes_on_as_another_session_all_the_same() {
    let pace = commands(1, 1);
    let mut bench = Bench::opening_with(true, |opening| {
        opening.buckets = pace;
        opening.limits.session_events_max = 6;
    });
    bench.settle();
    bench.client(&query("select 1").repeat(6));
    for _ in 0..5 {
        bench.target(&answer());
        assert!(!bench.session.wants_client_bytes(), "the next one waits");
        bench.deadline();
    }
    bench.target(&answer());
    assert!(bench.streams.len() >= 2, "{:?}", bench.streams);
    assert_eq!((bench.commands().len(), bench.completions().len()), (6, 6));
    assert_eq!(bench.take_target(), query("select 1").repeat(6));
}

#[test]
fn who_waits_for_a_turn_is_answered_before_the_instance_stops() {
    let mut bench = open(&commands(1, 1));
    bench.client(&[query("select 1"), query("select 2")].concat());
    bench.input(Input::Drain(Leave::Instance));
    bench.target(&answer());
    assert!(!bench.closed);
    bench.deadline();
    bench.target(&answer());
    assert_eq!(tags(&bench.take_client()), "CZCZE");
    assert!(bench.closed);
}

#[test]
fn the_sessions_of_a_principal_share_its_turns() {
    let shared = commands(1, 1);
    let [mut first, mut second] = [(); 2].map(|()| open(&shared));
    first.client(&query("select 1"));
    second.client(&query("select 2"));
    assert_eq!((tags(&first.take_target()).as_str(), second.to_target.len()), ("Q", 0));
    first.client(&query("select 3"));
    second.deadline();
    assert_eq!(tags(&second.take_target()), "Q");
    first.now = second.now;
    first.input(Input::DeadlinePassed);
    assert_eq!(first.to_target, b"", "it asked later");
    first.deadline();
    assert_eq!(tags(&first.take_target()), "Q");
}

#[test]
fn a_new_pace_counts_within_a_second() {
    let shared = commands(1, 1);
    let mut bench = open(&shared);
    bench.client(&query("select 1"));
    let _ = shared.commands.take(bench.now.monotonic_us, 1000);
    bench.take_target();
    bench.client(&query("select 2"));
    let began_us = bench.now.monotonic_us;
    shared.set(began_us, Pace::default());
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "Q");
    assert_eq!(bench.now.monotonic_us - began_us, SECOND_US);
}

#[test]
fn bytes_are_paid_for_before_either_side_is_read_again() {
    let mut bench = open(&bytes(100));
    let asked = query("select 'of 100 bytes and more'");
    let long = [row(&[Some(&[b'x'; 200])]), complete("SELECT 1"), ready(b'I')].concat();
    bench.client(&asked);
    assert!(bench.session.wants_client_bytes() && bench.session.wants_target_bytes(0), "the burst");
    let whole = [row_description(&[("a", 25, 0)]), long].concat();
    bench.target(&whole);
    assert!(!bench.session.wants_client_bytes() && !bench.session.wants_target_bytes(0));
    assert_eq!(bench.take_client(), whole, "what was read passes");
    let began_us = bench.now.monotonic_us;
    while !bench.session.wants_target_bytes(0) {
        bench.deadline();
    }
    let debt = (asked.len() + whole.len() - 100) as u64;
    assert_eq!(bench.now.monotonic_us - began_us, debt * SECOND_US / 100);
    assert!(bench.session.wants_client_bytes());
    let tally = bench.session.tally();
    assert_eq!(tally.slowed, [Slowed::ByBytes]);
    assert_eq!(tally.waited_us, [(Slowed::ByBytes, debt * SECOND_US / 100)]);
}

#[test]
fn a_session_that_opens_waits_for_what_others_owe() {
    let shared = bytes(100);
    let mut first = open(&shared);
    first.client(&query(&format!("select '{}'", "x".repeat(200))));
    let mut second = open(&shared);
    assert!(!second.session.wants_client_bytes());
    while !second.session.wants_client_bytes() {
        second.deadline();
    }
    assert!(second.now.monotonic_us > SECOND_US + SECOND_US);
    second.input(Input::Drain(Leave::Instance));
    assert!(second.closed, "nothing is under way");
}
