//! Holds under whatever else happens, in any order.

use proptest::prelude::*;
use retrace_proto::wire::{ControlReference, envelope::Payload};
use retrace_proxy_core::postgres::{Input, Leave, Reviewed};

use crate::harness::*;
use crate::holds::{extended, granted, review};
use crate::rules::ruled;

/// What may happen to a session in which commands are held.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A command that is held, or one that is not; as a simple query or not.
    Ask {
        held: bool,
        simple: bool,
    },
    /// What the shell says of the command that people were asked about last, whether or not it still waits.
    Reviewed(u8),
    /// The log takes what it was given, or takes nothing more.
    Log {
        answers: bool,
    },
    /// The target's catalogue, without which nothing passes these rules, is known or not.
    Catalogue {
        known: bool,
    },
    TargetAnswers,
    TargetFails,
    Cancel,
    Deadline,
    Kill,
    Drain,
    ClientGoes,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), any::<bool>()).prop_map(|(held, simple)| Step::Ask { held, simple }),
        8 => (0_u8..8).prop_map(Step::Reviewed),
        2 => any::<bool>().prop_map(|answers| Step::Log { answers }),
        1 => any::<bool>().prop_map(|known| Step::Catalogue { known }),
        4 => Just(Step::TargetAnswers),
        1 => Just(Step::TargetFails),
        2 => Just(Step::Cancel),
        2 => Just(Step::Deadline),
        1 => Just(Step::Kill),
        1 => Just(Step::Drain),
        1 => Just(Step::ClientGoes),
    ]
}

fn reviewed(which: u8) -> Reviewed {
    let (review_id, decision) = (review(), ControlReference::default());
    match which {
        0 => Reviewed::Asked { review_id },
        1 => Reviewed::Rejected { review_id, decision },
        2 => Reviewed::Withdrawn { review_id },
        3 => Reviewed::Lapsed { review_id },
        4 => Reviewed::Unavailable,
        _ => granted(),
    }
}

/// What a target says to messages, roughly: enough for the session to go on.
fn answers(messages: &[u8], fails: bool) -> Vec<u8> {
    let answer = |tag| match tag {
        'Q' if fails => [error("22012", "x"), ready(b'I')].concat(),
        'Q' => [complete("INSERT 0 1"), ready(b'I')].concat(),
        'S' => ready(b'I'),
        _ if fails => Vec::new(),
        'P' => PARSED.to_vec(),
        'B' => BOUND.to_vec(),
        'D' => message(b'n', b""),
        'E' => complete("INSERT 0 1"),
        _ => Vec::new(),
    };
    let tags = tags(messages);
    let failed = fails && tags.chars().any(|tag| matches!(tag, 'P' | 'B' | 'E'));
    let first = if failed { error("22012", "x") } else { Vec::new() };
    [first, tags.chars().flat_map(answer).collect()].concat()
}

/// The held texts that a target has run, by the messages that it got.
fn ran(mut messages: &[u8]) -> Vec<String> {
    let (mut ran, mut prepared) = (Vec::new(), String::new());
    while let Some((header, _)) = messages.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let body = &messages[5..length + 1];
        let text = |at: usize| {
            let text = body.split(|byte| *byte == 0).nth(at).unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        };
        match header[0] {
            b'Q' => ran.push(text(0)),
            b'P' => prepared = text(1),
            b'E' => ran.push(prepared.clone()),
            _ => {}
        }
        messages = &messages[length + 1..];
    }
    ran.retain(|text| text.starts_with("insert"));
    ran
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// However holds, decisions, lapses, cancels, kills and the ends of either side come together: what is held runs only after
    /// a grant that came while it waited, and once by one grant.
    #[test]
    fn no_command_runs_without_a_grant_and_none_twice_by_one(steps in prop::collection::vec(step(), 1..24)) {
        let mut bench = ruled();
        let known = bench.columns.clone();
        let (mut got, mut granted, mut asked) = (Vec::new(), Vec::new(), 0);
        for step in steps {
            if bench.closed {
                break;
            }
            match step {
                Step::Ask { held, simple } => {
                    asked += 1;
                    let verb = if held { format!("insert into t values ({asked})") } else { format!("select {asked}") };
                    bench.client(&if simple { query(&verb) } else { extended(&verb, &[]) });
                }
                Step::Reviewed(which) => {
                    let reviewed = reviewed(which);
                    if matches!(reviewed, Reviewed::Granted { .. }) {
                        granted.extend(bench.waits.take());
                    }
                    bench.input(Input::Reviewed(reviewed));
                }
                Step::Log { answers } => {
                    bench.log_is_healthy = answers;
                    if answers {
                        bench.make_durable();
                    }
                }
                Step::Catalogue { known: is_known } => bench.columns = known.clone().filter(|_| is_known),
                Step::TargetAnswers | Step::TargetFails => {
                    let messages = bench.take_target();
                    got.extend_from_slice(&messages);
                    bench.target(&answers(&messages, matches!(step, Step::TargetFails)));
                }
                Step::Cancel => bench.input(Input::CancelRequested(None)),
                Step::Deadline => {
                    // Not that at which the session goes on as another one, a day later.
                    let soon = bench.now.monotonic_us + 3_600_000_000;
                    if bench.session.poll_deadline().is_some_and(|due| due <= soon) {
                        bench.deadline();
                    }
                }
                Step::Kill => bench.input(Input::Killed(ControlReference::default())),
                Step::Drain => bench.input(Input::Drain(Leave::Instance)),
                Step::ClientGoes => bench.input(Input::ClientClosed),
            }
        }
        got.extend_from_slice(&bench.take_target());
        let text_of = |seq: u64| bench.log.iter().find_map(|recorded| match recorded.payload() {
            Payload::CommandReceived(received) if recorded.header().stream_seq == seq => {
                received.statement.as_ref().map(|statement| statement.text.clone())
            }
            _ => None,
        });
        let mut may_run: Vec<_> = granted.iter().filter_map(|seq| text_of(*seq)).collect();
        for text in ran(&got) {
            let at = may_run.iter().position(|may| *may == text);
            prop_assert!(at.is_some(), "{} ran, granted were {:?}", text, may_run);
            may_run.swap_remove(at.unwrap());
        }
    }
}
