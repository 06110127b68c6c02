//! Promise P6: when the log cannot answer, the client is told, in its protocol, what became of its command.

use proptest::prelude::*;
use retrace_proto::Recorded;
use retrace_proto::wire;
use retrace_proto::wire::command_refused::{Forwarded, Reason};
use retrace_proto::wire::envelope::Payload;
use retrace_proxy_core::postgres::{Input, Leave, LogFailure};

use crate::harness::*;

#[test]
fn a_log_that_is_late_before_forwarding_gives_57p03_and_the_session_goes_on() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    bench.client(&query("insert into t values (1)"));
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "BS", "made real at the target, and not the command");
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    let client = bench.take_client();
    assert_eq!(tags(&client), "EZ");
    assert!(contains(&client, b"C57P03\0") && contains(&client, b"not executed"));
    assert_eq!(bench.refusals()[0].reason(), Reason::LogUnavailable, "queued behind what is late");
    assert!(!bench.closed);

    bench.make_durable();
    assert_eq!(bench.to_target, b"", "a refused command never runs, however late its record is");
    bench.log_is_healthy = true;
    bench.client(&query("select 1"));
    assert_eq!(bench.take_target(), query("select 1"));
}

#[test]
fn a_login_whose_record_is_late_is_told_that_nothing_was_executed() {
    let mut bench = Bench::opening(true);
    bench.log_is_healthy = false;
    bench.settle();
    bench.deadline();
    let client = bench.take_client();
    assert_eq!(tags(&client), "E");
    assert!(contains(&client, b"VFATAL\0C57P03\0"));
    assert!(bench.closed);
}

#[test]
fn a_pipeline_that_is_late_is_refused_once_up_to_its_sync() {
    let mut bench = Bench::open();
    bench.log_is_healthy = false;
    let one = [parse("", "select 1", &[]), bind("", 0, &[], 0), execute()].concat();
    bench.client(&[one.clone(), one, sync(), query("select 2")].concat());
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "BSBS");
    bench.target(&[error("26000", "x"), ready(b'I'), error("26000", "x"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "EZEZ");
    assert_eq!(bench.refusals().len(), 3);
}

#[test]
fn a_log_that_is_late_after_forwarding_gives_08007_and_the_end() {
    let mut bench = Bench::open();
    bench.client(&query("insert into t values (1)"));
    bench.log_is_healthy = false;
    bench.target(&[complete("INSERT 0 1"), ready(b'I')].concat());
    bench.deadline();
    let client = bench.take_client();
    assert_eq!(tags(&client), "E");
    assert!(contains(&client, b"VFATAL\0C08007\0") && contains(&client, b"outcome unknown"));
    assert!(bench.closed);
}

#[test]
fn a_log_that_fails_for_good_ends_the_session_with_the_answer_that_is_true() {
    for (forwarded, expect) in [(false, &b"C57P03\0"[..]), (true, b"C08007\0")] {
        let mut bench = Bench::open();
        bench.log_is_healthy = forwarded;
        bench.client(&query("insert into t values (1)"));
        bench.log_is_healthy = false;
        let events = bench.log.len();
        bench.input(Input::LogFailed(LogFailure::Permanent));
        let client = bench.take_client();
        assert!(contains(&client, b"VFATAL\0") && contains(&client, expect), "forwarded: {forwarded}");
        assert!(bench.closed);
        assert_eq!(bench.log.len(), events, "a poisoned stream gets nothing more");
        if !forwarded {
            assert_eq!(bench.to_target, b"");
        }
    }
}

#[test]
fn a_response_that_is_not_recorded_never_reaches_the_client() {
    let mut bench = Bench::open();
    bench.client(&query("select secret"));
    bench.log_is_healthy = false;
    let answer =
        [row_description(&[("a", 25, 0)]), row(&[Some(b"the secret")]), complete("SELECT 1"), ready(b'I')];
    bench.target(&answer.concat());
    bench.input(Input::LogFailed(LogFailure::Permanent));
    assert!(!contains(&bench.take_client(), b"the secret"));
}

#[test]
fn a_last_word_that_cannot_be_recorded_is_told_as_a_failure_of_the_log() {
    let mut bench = Bench::open();
    bench.client(&query("select 1"));
    bench.log_is_healthy = false;
    bench.target(&[row_description(&[("a", 23, 0)]), row(&[Some(b"1")])].concat());
    bench.input(Input::TargetClosed);
    assert_eq!(bench.to_client, b"");
    bench.input(Input::LogFailed(LogFailure::Permanent));
    let client = bench.take_client();
    assert_eq!(tags(&client), "E");
    assert!(contains(&client, b"C08007\0") && bench.closed);
}

#[test]
fn a_target_that_goes_without_a_word_is_spoken_for() {
    let mut bench = Bench::open();
    bench.client(&query("select 1"));
    bench.input(Input::TargetClosed);
    assert!(contains(&bench.take_client(), b"C08006\0"));
    assert_eq!(bench.events(), ["command_received", "command_completed", "session_closed"]);
    assert!(bench.closed);
}

#[test]
fn an_instance_that_stops_says_so() {
    let mut bench = Bench::open();
    bench.input(Input::Shutdown(Leave::Instance));
    assert!(contains(&bench.take_client(), b"C57P01\0"));
    assert!(bench.closed);
}

#[test]
fn lying_lengths_end_the_session_with_a_word() {
    let mut bench = Bench::open();
    bench.client(b"Q\xff\xff\xff\xff");
    assert!(contains(&bench.take_client(), b"C54000\0"));
    assert!(bench.closed);
}

/// Anything a peer may do.
#[derive(Clone, Debug)]
enum Step {
    Client(Vec<u8>),
    Target(Vec<u8>),
    Durable,
    Deadline,
    Cancel,
    Kill,
    Drain,
    OrdersKnown(bool),
    ClientClosed,
    TargetClosed,
}

fn client_messages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(query("select '4111 1111 1111 1111'")),
        Just(query("copy t to stdout")),
        Just(parse("s", "select $1", &[])),
        Just(parse("", "copy t to stdout", &[])),
        Just(bind("s", 0, &[Some(b"x")], 0)),
        Just(describe_portal()),
        Just(execute()),
        Just(message(b'C', b"Ss\0")),
        Just(sync()),
        Just(message(b'H', b"")),
        Just(message(b'F', b"\0\0\0\x01\0\0\0\0\0\0")),
        Just(message(b'X', b"")),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

fn target_messages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(PARSED.to_vec()),
        Just(BOUND.to_vec()),
        Just(message(b'3', b"")),
        Just(message(b'n', b"")),
        Just(message(b't', b"\0\x01\0\0\0\x17")),
        Just(row_description(&[("a", 25, 0)])),
        Just(row(&[Some(b"4111 1111 1111 1111")])),
        Just(complete("SELECT 1")),
        Just(error("26000", "jane.doe@example.com")),
        Just(ready(b'I')),
        Just(ready(b'T')),
        Just(message(b'A', b"\0\0\0\x05news\0jane.doe@example.com\0")),
        Just(message(b'H', b"\0\0\0")),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => client_messages().prop_map(Step::Client),
        5 => target_messages().prop_map(Step::Target),
        4 => Just(Step::Durable),
        1 => Just(Step::Deadline),
        1 => Just(Step::Cancel),
        1 => Just(Step::Kill),
        1 => Just(Step::Drain),
        1 => any::<bool>().prop_map(Step::OrdersKnown),
        1 => Just(Step::ClientClosed),
        1 => Just(Step::TargetClosed),
    ];
    proptest::collection::vec(step, 0..40)
}

/// How often a command ended, as what followed it in its stream says.
fn endings(stream: &[Recorded], command: &Recorded) -> usize {
    let (of, seq) = (command.header().stream_id.clone(), command.header().stream_seq);
    let ends = |recorded: &&Recorded| {
        let is_of_it = recorded.header().stream_id == of && recorded.header().command_seq == Some(seq);
        let ends = match recorded.payload() {
            Payload::CommandCompleted(_) => true,
            // One of which a part was forwarded is completed as well.
            Payload::CommandRefused(refused) => refused.forwarded() == Forwarded::No,
            _ => false,
        };
        is_of_it && ends
    };
    stream.iter().filter(ends).count()
}

proptest! {
    /// Whatever order things come in, with a pace or without: no panic, no planted value goes to the client or into the record,
    /// and each command on record ends at most once, and once if the session has ended.
    #[test]
    fn nothing_leaks_and_nothing_panics_whatever_happens(steps in steps(), is_paced in any::<bool>()) {
        let mut bench = if is_paced { crate::pacing::open(&crate::pacing::commands(1, 1)) } else { Bench::open() };
        bench.log_is_healthy = false;
        for step in steps {
            if bench.closed {
                break;
            }
            match step {
                Step::Client(bytes) => bench.client(&bytes),
                Step::Target(bytes) => bench.target(&bytes),
                Step::Durable => bench.make_durable(),
                Step::Deadline if bench.session.poll_deadline().is_some() => bench.deadline(),
                Step::Deadline => {}
                Step::Cancel => bench.input(Input::CancelRequested(None)),
                Step::Kill => bench.input(Input::Killed(wire::ControlReference::default())),
                Step::Drain => bench.input(Input::Drain(Leave::Instance)),
                Step::OrdersKnown(known) => bench.input(Input::OrdersKnown(known)),
                Step::ClientClosed => bench.input(Input::ClientClosed),
                Step::TargetClosed => bench.input(Input::TargetClosed),
            }
        }
        for needle in [&b"4111"[..], b"jane.doe@"] {
            prop_assert!(!contains(&bench.to_client, needle));
            prop_assert!(!bench.log.iter().any(|recorded| contains(recorded.bytes(), needle)));
        }
        // Deadlines can be those of a day, after which a session goes on in another stream.
        let mut begins = bench.streams.clone();
        begins.insert(0, 0);
        for (index, recorded) in bench.log.iter().enumerate() {
            let begin = begins.iter().rev().find(|begin| **begin <= index).expect("the first begins at 0");
            prop_assert_eq!(recorded.header().stream_seq, (index - begin) as u64);
            if let Payload::CommandReceived(_) = recorded.payload() {
                let endings = endings(&bench.log[*begin..], recorded);
                prop_assert!(endings == 1 || (endings == 0 && !bench.closed), "{} endings", endings);
            }
        }
    }
}
