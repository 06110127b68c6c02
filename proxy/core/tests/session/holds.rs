//! Commands that wait for people: nothing but a grant lets one pass, and what happens meanwhile ends in its refusal.

use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proto::wire::command_refused::Reason;
use retrace_proto::wire::decision::Effect;
use retrace_proto::wire::review_applied::Outcome;
use retrace_proto::wire::{self, ControlReference, envelope::Payload};
use retrace_proto::{Id, Masked};
use retrace_proxy_core::postgres::{HeldCommand, Input, Leave, Reviewed};

use crate::harness::*;
use crate::rules::{RULES, ruled, ruled_by, ruled_with};

pub(crate) const HELD: &str = "insert into t values (1)";

pub(crate) fn review() -> Id {
    Id::from_parts(1_700_000_000_000, [9; 10])
}

pub(crate) fn granted() -> Reviewed {
    let [decision, used] = [7, 8].map(|offset| ControlReference { offset, ..ControlReference::default() });
    Reviewed::Granted { review_id: review(), decision, used: Some(used) }
}

/// A session in which this was asked, and people were asked about it.
fn holding(asked: &[u8]) -> Bench {
    let mut bench = ruled();
    bench.client(asked);
    assert_eq!(bench.asked.len(), 1, "people are asked once");
    assert_eq!(bench.take_client(), b"", "not told before the review is on record");
    bench.input(Input::Reviewed(Reviewed::Asked { review_id: review() }));
    assert_eq!(tags(&bench.to_client), "N");
    bench
}

pub(crate) fn extended(sql: &str, values: &[Option<&[u8]>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", 0, values, 0), execute(), sync()].concat()
}

fn reasons(bench: &Bench) -> Vec<Reason> {
    bench.refusals().iter().map(|refused| refused.reason()).collect()
}

fn applied(bench: &Bench) -> Vec<&wire::ReviewApplied> {
    let of = bench.log.iter().filter_map(|recorded| match recorded.payload() {
        Payload::ReviewApplied(applied) => Some(applied),
        _ => None,
    });
    of.collect()
}

#[test]
fn what_is_granted_is_forwarded_once_that_is_on_record_and_what_is_behind_it_in_order() {
    let mut bench = holding(&[query(HELD), query("select 2")].concat());
    assert_eq!(bench.take_target(), b"");
    let notice = bench.take_client();
    for said in
        [&b"SNOTICE\0"[..], b"new rows are reviewed", review().to_string().as_bytes(), b"principal ann"]
    {
        assert!(contains(&notice, said));
    }
    let decision = bench.commands()[0].decision.clone().unwrap();
    assert_eq!((decision.effect(), decision.rule.as_str()), (Effect::Hold, "policy:inserts"));

    bench.log_is_healthy = false;
    bench.input(Input::Reviewed(granted()));
    assert_eq!(bench.take_target(), b"", "not before the grant is on record");
    bench.make_durable();
    bench.log_is_healthy = true;
    bench.make_durable();
    assert_eq!(tags(&bench.take_target()), "QQ");
    assert_eq!(bench.commands().len(), 2, "nothing is recorded twice");
    let applied = applied(&bench)[0];
    assert_eq!((applied.outcome(), applied.decision.as_ref().unwrap().offset), (Outcome::Granted, 7));
    assert_eq!(applied.used.as_ref().unwrap().offset, 8);
    bench.target(&[complete("INSERT 0 1"), ready(b'I'), complete("SELECT 1"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZCZ");
    assert!(bench.refusals().is_empty());
    // It was granted once.
    bench.client(&query(HELD));
    assert_eq!((bench.asked.len(), bench.take_target()), (2, Vec::new()));
}

#[test]
fn nobody_is_asked_about_what_is_not_on_record() {
    let mut bench = ruled();
    bench.log_is_healthy = false;
    bench.client(&query(HELD));
    assert!(bench.asked.is_empty());
    // What comes too early, or from nowhere, is no grant.
    bench.input(Input::Reviewed(granted()));
    bench.make_durable();
    assert_eq!((bench.asked.len(), bench.take_target()), (1, Vec::new()));
}

#[test]
fn the_log_that_does_not_answer_ends_the_session_before_anybody_is_asked() {
    let mut bench = ruled();
    bench.log_is_healthy = false;
    bench.client(&query(HELD));
    bench.deadline();
    assert!(bench.closed && bench.asked.is_empty());
    assert!(contains(&bench.take_client(), b"C57P03\0"));
}

#[test]
fn nothing_of_its_batch_is_forwarded_while_it_waits() {
    let mut bench = holding(&extended(HELD, &[]));
    assert_eq!(bench.take_target(), b"");
    bench.take_client();
    bench.input(Input::Reviewed(granted()));
    assert_eq!(tags(&bench.take_target()), "PBDES");
    let answers = [PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), complete("INSERT 0 1"), ready(b'I')];
    bench.target(&answers.concat());
    assert_eq!(tags(&bench.take_client()), "12CZ");
    assert_eq!((bench.commands().len(), bench.completions().len()), (1, 1));
}

#[test]
fn everything_else_ends_in_its_refusal() {
    let decision = ControlReference::default();
    for (reviewed, reason, sqlstate) in [
        (Reviewed::Rejected { review_id: review(), decision }, Reason::Rejected, "42501"),
        (Reviewed::Withdrawn { review_id: review() }, Reason::Withdrawn, "57014"),
        (Reviewed::Lapsed { review_id: review() }, Reason::Lapsed, "57014"),
        (Reviewed::Unavailable, Reason::LogUnavailable, "57P03"),
        (Reviewed::TooMany, Reason::LimitExceeded, "54000"),
    ] {
        let mut bench = holding(&[query(HELD), query("select 2")].concat());
        bench.take_client();
        bench.input(Input::Reviewed(reviewed.clone()));
        assert_eq!(
            tags(&bench.take_target()),
            "BSQ",
            "the refusal is made real, and what is behind it goes on"
        );
        bench.target(&[error("26000", "x"), ready(b'E')].concat());
        let client = bench.take_client();
        assert!(contains(&client, format!("C{sqlstate}\0").as_bytes()), "{reviewed:?}");
        assert_eq!((reasons(&bench), bench.left), (vec![reason], 1));

        let mut bench = holding(&extended(HELD, &[]));
        bench.input(Input::Reviewed(reviewed));
        assert_eq!(tags(&bench.take_target()), "PBBS", "what led to it is a command of its own");
        assert_eq!(reasons(&bench), [reason]);
        // Late news changes nothing.
        bench.input(Input::Reviewed(granted()));
        assert_eq!(bench.take_target(), b"");
    }
}

#[test]
fn the_wait_ends() {
    let mut bench = holding(&query(HELD));
    bench.take_client();
    bench.deadline();
    assert_eq!(tags(&bench.take_target()), "BS");
    assert_eq!((reasons(&bench), bench.left, bench.withdrawn), (vec![Reason::Lapsed], 1, 0));
    bench.input(Input::Reviewed(granted()));
    assert_eq!(bench.take_target(), b"");
}

#[test]
fn a_cancel_withdraws_it_and_is_not_forwarded() {
    for asked in [query(HELD), extended(HELD, &[])] {
        let mut bench = holding(&asked);
        bench.take_client();
        bench.input(Input::CancelRequested(None));
        assert_eq!((bench.cancels, bench.withdrawn, bench.left), (0, 1, 1));
        assert!(tags(&bench.take_target()).ends_with("BS"));
        assert_eq!(reasons(&bench), [Reason::Withdrawn]);
    }
}

#[test]
fn a_client_that_goes_has_nothing_run_for_it() {
    for asked in [query(HELD), extended(HELD, &[])] {
        let mut bench = holding(&[asked, query("delete from secrets")].concat());
        assert!(bench.session.wants_client_bytes(), "or nobody would notice");
        bench.input(Input::ClientClosed);
        assert_eq!(tags(&bench.take_target()), "X");
        assert_eq!((reasons(&bench), bench.left, bench.withdrawn), (vec![Reason::Withdrawn], 1, 0));
        bench.input(Input::Reviewed(granted()));
        assert_eq!(bench.take_target(), b"");
    }
}

#[test]
fn a_kill_and_a_drain_end_it() {
    let mut bench = holding(&query(HELD));
    bench.input(Input::Killed(ControlReference::default()));
    assert!(bench.closed && bench.take_target().is_empty());
    assert_eq!((reasons(&bench), bench.left), (vec![Reason::Killed], 1));

    let mut bench = holding(&extended(HELD, &[]));
    bench.input(Input::Drain(Leave::Instance));
    assert!(bench.closed && bench.take_target().is_empty(), "a drain does not wait for people");
    assert_eq!((reasons(&bench), bench.left), (vec![Reason::Cancelled], 1));
}

#[test]
fn what_its_batch_has_failed_is_skipped() {
    let run = |sql: &str| [parse("", sql, &[]), bind("", 0, &[], 0), execute()].concat();
    let mut bench = holding(&[run("select 1"), run(HELD), sync(), query("select 2")].concat());
    assert_eq!(tags(&bench.take_target()), "PBDE");
    bench.target(&error("22012", "division by zero"));
    assert_eq!((reasons(&bench), bench.left), (vec![Reason::Skipped], 1));
    bench.target(&ready(b'I'));
    assert_eq!(tags(&bench.take_target()), "SQ");
}

#[test]
fn what_forbids_it_meanwhile_forbids_it() {
    let mut bench = holding(&query(HELD));
    bench.columns = None;
    bench.now.monotonic_us += 6_000_000;
    bench.input(Input::Reviewed(granted()));
    assert_eq!(tags(&bench.take_target()), "BS");
    assert_eq!(bench.refusals()[0].rule, "policy.catalogue");
}

#[test]
fn several_statements_of_a_text_wait_together() {
    let mut bench = holding(&query("select 1; insert into t values (1); insert into t values (2)"));
    assert_eq!(bench.asked[0].terms.len(), 1, "what one rule asks for twice is asked once");
    bench.input(Input::Reviewed(granted()));
    assert_eq!(tags(&bench.take_target()), "Q", "{:?} {:?}", bench.refusals(), bench.events());
    // What is forbidden is refused at once, wherever it stands.
    let mut bench = ruled();
    bench.client(&query("insert into t values (1); delete from t"));
    assert!(bench.asked.is_empty());
    assert_eq!(bench.refusals()[0].rule, "policy:deletes");
}

/// What a grant for the last of these would be for.
fn bound(said: &[&[u8]]) -> HeldCommand {
    let rules = RULES.replace("== \"INSERT\"", "== \"INSERT\" || context.statement.verb == \"EXECUTE\"");
    let rules = rules
        .lines()
        .filter(|line| !line.contains("secrets") && !line.contains("when { context.statement.rel"));
    let mut bench = ruled_by(&rules.collect::<Vec<_>>().join("\n"));
    for bytes in said {
        bench.client(bytes);
        bench.target(&[complete("SET"), ready(b'I')].concat());
    }
    bench.asked.pop().unwrap()
}

#[test]
fn a_grant_is_for_the_same_text_and_values_where_they_mean_the_same() {
    let plain = bound(&[&query(HELD)]);
    assert_eq!(bound(&[&query("select 1"), &query("begin"), &query(HELD)]).bound_to, plain.bound_to);
    let one = bound(&[&extended("insert into t values ($1)", &[Some(b"1")])]);
    for (said, other) in [
        (bound(&[&query("insert into t values (2)")]), &plain),
        (bound(&[&query("set search_path = other"), &query(HELD)]), &plain),
        (bound(&[&query("select set_config('search_path', 'other', false)"), &query(HELD)]), &plain),
        (bound(&[&query("create temp table t (id int)"), &query(HELD)]), &plain),
        (bound(&[&extended("insert into t values ($1)", &[Some(b"2")])]), &one),
        (bound(&[&extended("insert into t values ($1)", &[None])]), &one),
        (bound(&[&extended("insert into t values ($1)", &[Some(b"1"), Some(b"2")])]), &one),
    ] {
        assert_ne!(said.bound_to, other.bound_to);
    }
    // What runs a name, and what comes after something that may have given it another meaning, is granted where it waits alone.
    for before in ["prepare p as insert into t values (1)", "set search_path = other", "select of_whoever()"]
    {
        let run = if before.starts_with("prepare") { "execute p" } else { HELD };
        let one = bound(&[&query(before), &query(run)]);
        assert_ne!(
            bound(&[&query(before), &query("select 1"), &query(run)]).bound_to,
            one.bound_to,
            "{before}"
        );
    }
}

#[test]
fn a_grant_is_one_persons_at_one_place_who_came_the_same_way() {
    let asked = |change: &dyn Fn(&mut retrace_proxy_core::postgres::Opening)| {
        let mut bench = ruled_with(RULES, change);
        bench.client(&query(HELD));
        bench.asked.pop().unwrap().bound_to
    };
    let plain = asked(&|_| {});
    assert_eq!(asked(&|_| {}), plain);
    let says = |name: &str, value: &str| {
        let masker = Masker::everything(FingerprintKey::new(b"key"));
        Masked::from_iter([masker.mask_asserted(name, value)])
    };
    assert_eq!(asked(&|opening| opening.asserted = says("application_name", "x")), plain);
    for other in [
        asked(&|opening| opening.subject.target = "other".to_owned()),
        asked(&|opening| {
            opening.subject.principal =
                Some(wire::Principal { name: "jo".to_owned(), ..wire::Principal::default() });
        }),
        asked(&|opening| opening.asserted = says("options", "-c search_path=other")),
        asked(&|opening| opening.rules.as_mut().unwrap().grants_key = HashKey::of_grants(b"another")),
    ] {
        assert_ne!(other, plain);
    }
}

/// A portal with a name can be run by SQL, whatever becomes of the name here: FETCH, MOVE, functions of the system.
#[test]
fn what_is_held_cannot_be_bound_to_a_name() {
    let bind_named = message(b'B', b"p\0\0\0\0\0\0\0\0");
    let mut bench = ruled();
    bench.client(&[parse("", HELD, &[]), bind_named.clone(), sync()].concat());
    assert_eq!(tags(&bench.take_target()), "PBS", "the Bind is not forwarded, but one that must fail");
    assert_eq!(bench.refusals()[0].rule, "policy.held");
    assert_eq!(bench.commands().last().unwrap().decision.as_ref().unwrap().effect(), Effect::Deny);
    // A rule that forbids what is done in a transaction counts whether or not one is open yet.
    let mut bench = ruled_by(&RULES.replace("action == Action::\"ddl\"", "action == Action::\"read\""));
    bench.client(&[parse("", "select 1", &[]), bind_named, sync()].concat());
    assert_eq!(bench.refusals()[0].rule, "policy:in transactions");
}

#[test]
fn what_nobody_could_be_shown_is_refused() {
    // A statement that SQL prepared: which one, the gate cannot tell for certain.
    let rules = RULES.lines().filter(|line| !line.contains("ecrets")).collect::<Vec<_>>().join("\n");
    let rules = rules.replace("== \"INSERT\"", "== \"INSERT\" || !context.statement.understood");
    let mut bench = ruled_by(&format!(
        "{rules}\n@id(\"code\") @hold(\"code is reviewed\") @reviewers(\"principal ann\")
         forbid(principal, action in Action::\"execute\", resource) unless {{ context.statement.understood }};"
    ));
    bench.client(&query("prepare s as insert into t values (1)"));
    bench.target(&[complete("PREPARE"), ready(b'I')].concat());
    bench.take_target();
    bench.client(&[bind("s", 0, &[], 0), execute(), sync()].concat());
    assert!(bench.asked.is_empty() && !bench.refusals().is_empty(), "{:?}", bench.commands().last());
    // A value of which the record has a text that it need not be.
    for type_oids in [&[][..], &[0], &[705]] {
        let mut bench = ruled();
        let values = [
            parse("", "insert into t values ($1)", type_oids),
            bind("", 1, &[Some(b"1000")], 0),
            execute(),
            sync(),
        ];
        bench.client(&values.concat());
        assert_eq!((bench.asked.len(), bench.refusals()[0].rule.as_str()), (0, "policy.held"));
    }
    let mut bench = ruled();
    let values =
        [parse("", "insert into t values ($1)", &[23]), bind("", 1, &[Some(b"1000")], 0), execute(), sync()];
    bench.client(&values.concat());
    assert_eq!(bench.commands()[0].parameters[0].value.as_deref(), Some("825241648"));
    assert_eq!(bench.asked.len(), 1);
}

/// A log that is late refuses what waits, and what is held behind it, and leaves no grant for what comes then.
#[test]
fn a_late_log_refuses_what_is_held_behind_what_is_late() {
    let run = |sql: &str| [parse("", sql, &[]), bind("", 0, &[], 0), execute()].concat();
    for behind in [[run(HELD), sync()].concat(), [sync(), run(HELD), sync()].concat(), query(HELD)] {
        let mut bench = ruled();
        bench.log_is_healthy = false;
        bench.client(&[run("select 1"), if behind.starts_with(b"Q") { sync() } else { Vec::new() }].concat());
        bench.now.monotonic_us += 1_000;
        bench.client(&behind);
        bench.deadline();
        assert!(!bench.closed && bench.asked.is_empty());
        assert_eq!(reasons(&bench), [Reason::LogUnavailable; 2]);
        bench.log_is_healthy = true;
        bench.make_durable();
        for tag in tags(&bench.take_target()).chars() {
            match tag {
                'B' => bench.target(&error("26000", "x")),
                'S' => bench.target(&ready(b'I')),
                _ => panic!("nothing else was forwarded: {tag}"),
            }
        }
        bench.client(&query("insert into t values (3)"));
        bench.input(Input::Reviewed(Reviewed::Asked { review_id: review() }));
        assert_eq!(tags(&bench.take_target()).matches('Q').count(), 0);
        assert_eq!(bench.commands().len(), 3, "it has its record");
    }
}
