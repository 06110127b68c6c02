//! Promise P1: nothing moves before its record is durable.

use retrace_proto::wire::command_completed::Status;
use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{self, envelope::Payload};
use retrace_proxy_core::postgres::Input;

use crate::harness::*;

#[test]
fn the_client_is_let_in_once_its_session_is_recorded() {
    let mut bench = Bench::opening(true);
    bench.log_is_healthy = false;
    bench.settle();
    assert_eq!(bench.to_client, b"");
    bench.make_durable();
    assert_eq!(tags(&bench.take_client()), "RSSKZ");
}

#[test]
fn a_command_waits_for_its_record_and_its_response_for_its_own() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&query("select 1"));
    assert_eq!(bench.events(), ["command_received"]);
    assert_eq!(bench.to_target, b"", "the record is not durable");

    bench.make_durable();
    assert_eq!(bench.take_target(), query("select 1"), "byte for byte");

    let answer =
        [row_description(&[("a", 23, 0)]), row(&[Some(b"1")]), complete("SELECT 1"), ready(b'I')].concat();
    bench.target(&answer);
    assert_eq!(bench.events(), ["command_received", "command_completed"], "two events, no more");
    assert_eq!(bench.to_client, b"", "the record is not durable");

    bench.make_durable();
    assert_eq!(bench.take_client(), answer, "byte for byte");
}

#[test]
fn the_answer_is_the_same_wherever_the_bytes_are_split() {
    let asked = [query("select 'x'"), query("select 2")].concat();
    let answered = [
        row_description(&[("a", 25, 0)]),
        row(&[Some(b"4111 1111 1111 1111")]),
        complete("SELECT 1"),
        ready(b'I'),
        row_description(&[("b", 23, 0)]),
        row(&[None]),
        complete("SELECT 1"),
        ready(b'I'),
    ]
    .concat();
    let whole = {
        let mut bench = Bench::open();
        bench.client(&asked);
        bench.target(&answered);
        (bench.take_client(), bench.completions().len())
    };
    for step in [1, 2, 3, 7] {
        let mut bench = Bench::open();
        asked.chunks(step).for_each(|piece| bench.client(piece));
        answered.chunks(step).for_each(|piece| bench.target(piece));
        assert_eq!((bench.take_client(), bench.completions().len()), whole, "pieces of {step}");
    }
}

#[test]
fn a_pipeline_is_recorded_command_by_command() {
    let mut bench = Bench::open();
    let one =
        [parse("", "select $1::int", &[23]), bind("", 0, &[Some(b"7")], 0), describe_portal(), execute()];
    let two = [bind("", 1, &[Some(&[0, 0, 0, 8])], 0), execute()];
    bench.client(&[one.concat(), two.concat(), sync()].concat());
    assert_eq!(
        tags(&bench.take_target()),
        "PBDEBDES",
        "each Execute has its portal described right before it"
    );
    let commands = bench.commands();
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0].statement.as_ref().unwrap().text, "select $1::int");
    assert_eq!(commands[0].parameters[0].value.as_deref(), Some("7"));
    assert_eq!(commands[1].parameters[0].value.as_deref(), Some("8"), "binary is recorded as printed");

    let described = row_description(&[("a", 23, 0)]);
    let first =
        [PARSED.to_vec(), BOUND.to_vec(), described.clone(), row(&[Some(b"7")]), complete("SELECT 1")];
    let second = [row(&[Some(b"8")]), complete("SELECT 1"), ready(b'I')].concat();
    bench.target(&[first.concat(), BOUND.to_vec(), described, second.clone()].concat());
    let expect = [first.concat(), BOUND.to_vec(), second].concat();
    assert_eq!(bench.take_client(), expect, "but for the answer that the client did not ask for");
    let completions = bench.completions();
    assert_eq!(completions.len(), 2);
    for completed in completions {
        assert_eq!(completed.status(), Status::Ok);
        assert_eq!(completed.rows, 1);
        let columns = completed.parts.iter().filter(|part| matches!(part.part, Some(Part::Columns(_))));
        assert_eq!(columns.count(), 1, "each record names its columns");
    }
}

#[test]
fn columns_that_the_client_does_not_ask_for_the_gate_asks_for_itself() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "select 1", &[]), bind("", 0, &[], 1), execute(), sync()].concat());
    assert_eq!(tags(&bench.take_target()), "PBDES");
    let described = row_description(&[("a", 23, 1)]);
    let tail = [row(&[Some(&[0, 0, 0, 9])]), complete("SELECT 1"), ready(b'I')].concat();
    bench.target(&[PARSED.to_vec(), BOUND.to_vec(), described, tail.clone()].concat());
    assert_eq!(bench.take_client(), [PARSED.to_vec(), BOUND.to_vec(), tail].concat());
    let Some(Part::Rows(rows)) = bench.completions()[0].parts.iter().find_map(|part| match &part.part {
        Some(part @ Part::Rows(_)) => Some(part.clone()),
        _ => None,
    }) else {
        panic!("no rows recorded")
    };
    assert_eq!(rows.cells, "9");
}

#[test]
fn preparing_alone_is_a_command_of_its_own() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&[parse("s", "select secret()", &[]), sync()].concat());
    assert_eq!(bench.to_target, b"");
    bench.make_durable();
    assert_eq!(tags(&bench.take_target()), "PS");
    assert_eq!(bench.commands()[0].statement.as_ref().unwrap().text, "select secret()");
    assert_eq!(bench.commands()[0].statement_name, "s");
}

#[test]
fn a_long_response_goes_out_in_recorded_pieces_and_stops_being_read_when_the_log_lags() {
    let mut bench = Bench::open();
    bench.client(&query("select big"));
    bench.take_target();
    bench.log_is_healthy = false;
    bench.target(&row_description(&[("a", 25, 0)]));
    let value = "x".repeat(10_000);
    let mut sent_rows = 0;
    while bench.session.wants_target_bytes(0) {
        bench.target(&row(&[Some(value.as_bytes())]));
        sent_rows += 1;
        assert!(sent_rows < 200, "reading the target must stop");
    }
    assert!(sent_rows > 50, "up to a mebibyte is read ahead");
    assert_eq!(bench.to_client, b"");
    bench.make_durable();
    assert!(bench.session.wants_target_bytes(0));
    bench.log_is_healthy = true;
    bench.target(&[complete("SELECT"), ready(b'I')].concat());
    let client = bench.take_client();
    assert_eq!(tags(&client).matches('D').count(), sent_rows);
    let chunks = bench.events().iter().filter(|event| **event == "response_chunk").count();
    assert!(chunks >= 3);
    assert_eq!(bench.completions()[0].chunks as usize, chunks);
    assert_eq!(bench.completions()[0].rows as usize, sent_rows);
}

#[test]
fn a_silent_target_has_what_it_said_recorded_and_passed_on() {
    let mut bench = Bench::open();
    bench.client(&query("select 1; select pg_sleep(60)"));
    let first = [row_description(&[("a", 23, 0)]), row(&[Some(b"1")]), complete("SELECT 1")].concat();
    bench.target(&first);
    assert_eq!(bench.to_client, b"");
    bench.deadline();
    assert_eq!(bench.take_client(), first);
    assert_eq!(bench.events(), ["command_received", "response_chunk"]);
}

#[test]
fn what_the_target_says_unasked_is_recorded_first_too() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.target(&message(b'A', b"\0\0\0\x05news\0jane.doe@example.com\0"));
    assert_eq!(bench.events(), ["async_message"]);
    assert_eq!(bench.to_client, b"");
    bench.make_durable();
    let client = bench.take_client();
    assert_eq!(tags(&client), "A");
    assert!(!contains(&client, b"jane.doe@"));
    assert!(!bench.recorded("jane.doe@"));
}

#[test]
fn a_cancel_is_recorded_before_it_is_forwarded() {
    let mut bench = Bench::open();
    bench.client(&query("select pg_sleep(60)"));
    bench.log_is_healthy = false;
    bench.input(Input::CancelRequested(None));
    assert_eq!((bench.cancels, bench.events().last().copied()), (0, Some("cancel_applied")));
    bench.make_durable();
    assert_eq!(bench.cancels, 1);
}

#[test]
fn a_kill_cancels_what_runs_lets_nothing_more_through_and_says_so() {
    let control = || wire::ControlReference { partition: 1, offset: 2, ..wire::ControlReference::default() };
    let mut bench = Bench::open();
    bench.client(&query("select pg_sleep(60)"));
    bench.take_client();
    bench.take_target();
    bench.log_is_healthy = false;
    bench.client(&query("delete from t"));
    bench.input(Input::Killed(control()));
    assert_eq!(bench.cancels, 1, "that it is wanted is durable already");
    let applied = bench.log.iter().find_map(|recorded| match recorded.payload() {
        Payload::KillApplied(applied) => applied.control.clone(),
        _ => None,
    });
    assert_eq!(applied, Some(control()));
    bench.make_durable();
    assert!(bench.closed && bench.take_target().is_empty(), "what waited for its record is not forwarded");
    let told = bench.take_client();
    assert_eq!(tags(&told), "E");
    assert!(contains(&told, b"C57P01\0") && contains(&told, b"killed"));
    let events = bench.events();
    let ends = ["kill_applied", "command_refused", "command_completed", "session_closed"];
    assert_eq!(events[events.len() - 4..], ends);
    assert_eq!(bench.refusals()[0].reason(), wire::command_refused::Reason::Killed);
    let Some(Payload::SessionClosed(closed)) = bench.log.last().map(|last| last.payload()) else { panic!() };
    assert_eq!(closed.reason(), wire::session_closed::Reason::Killed);
    // A second one, or a late cancel, finds nothing to do.
    bench.input(Input::Killed(control()));
    assert_eq!(bench.cancels, 1);
}

#[test]
fn a_session_that_waits_for_nothing_waits_while_orders_may_be_unknown() {
    let mut bench =
        Bench::opening_with(true, |opening| opening.subject.durability = wire::Durability::Relaxed);
    bench.log_is_healthy = false;
    bench.client(&query("select 1"));
    assert_eq!(bench.take_target(), query("select 1"), "nothing waits");
    bench.target(&[complete("SELECT 1"), ready(b'I')].concat());
    bench.make_durable();
    bench.take_client();
    bench.input(Input::OrdersKnown(false));
    bench.client(&query("select 2"));
    assert_eq!(bench.take_target(), b"");
    bench.deadline();
    assert!(!contains(&bench.take_target(), b"select 2"));
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    assert!(contains(&bench.take_client(), b"C57P03\0"), "it is refused");
    bench.input(Input::OrdersKnown(true));
    bench.make_durable();
    bench.client(&query("select 3"));
    assert!(contains(&bench.take_target(), b"select 3"), "and the session goes on");
}

#[test]
fn a_kill_of_a_session_in_which_nothing_runs_cancels_nothing() {
    let mut bench = Bench::open();
    bench.input(Input::Killed(wire::ControlReference::default()));
    assert_eq!((bench.cancels, bench.closed), (0, true));
    assert_eq!(bench.events(), ["kill_applied", "session_closed"]);
}

#[test]
fn a_client_that_goes_leaves_its_commands_to_be_carried_out_and_recorded() {
    let mut bench = Bench::open();
    bench.client(&query("insert into t values (1)"));
    bench.input(Input::ClientClosed);
    assert_eq!(tags(&bench.take_target()), "QX");
    bench.target(&[complete("INSERT 0 1"), ready(b'I')].concat());
    bench.input(Input::TargetClosed);
    assert_eq!(bench.events(), ["command_received", "command_completed", "session_closed"]);
    assert_eq!(bench.completions()[0].command_tag, "INSERT 0 1");
    assert!(bench.closed);
    assert_eq!(bench.to_client, b"");
}

#[test]
fn a_client_that_goes_is_not_answered_without_end() {
    let mut bench = Bench::open();
    bench.client(&query("select * from large"));
    bench.client(&query("insert into t values (1)"));
    bench.input(Input::ClientClosed);
    let _ = bench.take_target();
    let megabyte = row(&[Some(&[b'x'; 1024 * 1024])]);
    bench.target(&row_description(&[("content", 25, 0)]));
    for _ in 0..7 {
        bench.target(&megabyte);
    }
    assert!(!bench.closed, "what it asked is carried out");
    bench.target(&megabyte);
    assert!(bench.closed, "but not for ever");
    assert_eq!(bench.events().last(), Some(&"session_closed"));
    assert_eq!(bench.events().iter().filter(|event| **event == "command_received").count(), 2);
    let abandoned = |completed: &&&wire::CommandCompleted| completed.status() == Status::Abandoned;
    assert_eq!(bench.completions().iter().filter(abandoned).count(), 2, "and nothing is said of the outcome");
    assert_eq!(bench.to_client, b"");
}

#[test]
fn a_long_session_goes_on_as_another_one_between_two_exchanges() {
    let mut bench = Bench::opening_with(true, |opening| opening.limits.session_events_max = 3);
    bench.settle();
    bench.take_client();
    bench.client(&query("select 1"));
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZ");
    assert_eq!(bench.streams, [4]);
    assert_eq!(bench.events()[2..], ["session_closed", "session_opened"]);
    let (before, after) = (bench.log[3].header(), bench.log[4].header());
    assert_eq!((after.stream_seq, after.prev_hash.is_empty()), (0, true));
    assert_eq!(before.connection_id, after.connection_id);
    let Payload::SessionOpened(opened) = bench.log[4].payload() else { panic!("another payload") };
    assert_eq!(opened.continues, before.stream_id);
    let Payload::SessionClosed(closed) = bench.log[3].payload() else { panic!("another payload") };
    assert_eq!((closed.reason(), closed.commands), (wire::session_closed::Reason::Rolled, 1));

    bench.log_is_healthy = false;
    bench.take_target();
    bench.client(&query("select 2"));
    assert_eq!(bench.to_target, b"", "a command waits for its record in the new stream");
    bench.make_durable();
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(bench.to_client, b"", "the gate goes on counting in the new stream");
    bench.make_durable();
    assert_eq!(tags(&bench.take_client()), "CZ");
}

#[test]
fn an_old_session_goes_on_as_another_one_though_it_is_idle() {
    let mut bench = Bench::open();
    bench.deadline();
    assert_eq!(bench.streams.len(), 1);
}
