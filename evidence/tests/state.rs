//! What follows from a stream and the heads that name it.

use retrace_evidence::SessionState::{Closed, Damaged, Expired, Lost, Open, Unverified};
use retrace_evidence::{Head, InstanceSeen, SILENCE_US_MAX, SessionState, Stream, Witness};
use retrace_proto::Id;

const NOW: i64 = 1_767_225_600_000_000;
const YOUNG: i64 = NOW - SILENCE_US_MAX;
const OLD: i64 = YOUNG - 1;

/// A whole stream of five events, old, that the head agrees with as far as that goes.
fn stream(is_closed: bool) -> Stream {
    Stream {
        is_whole: true,
        end_exclusive: 5,
        is_closed,
        agrees_with_head: Some(true),
        first_appended_at_unix_us: OLD,
        may_expire: false,
        last_appended_at_unix_us: OLD,
    }
}

fn signed(end_exclusive: u64, at_unix_us: i64, last: bool) -> Witness {
    let head = Head { stream_id: Id::from_parts(0, [0; 10]), end_exclusive, hash: [0; 32] };
    Witness::Signed { head, at_unix_us, last }
}

fn check(stream: &Stream, witness: &Witness, instance: Option<InstanceSeen>, expected: SessionState) {
    let state = SessionState::judge(stream, witness, instance, NOW);
    assert_eq!(state, expected, "{stream:?}\n{witness:?}\n{instance:?}");
}

#[test]
fn a_closed_session_is_closed_once_a_head_covers_all_of_it() {
    check(&stream(true), &signed(5, OLD, false), None, Closed);
    check(&stream(true), &signed(5, OLD, true), None, Closed);
    check(&stream(true), &signed(4, OLD, false), None, Unverified);
    check(&stream(true), &Witness::None, None, Unverified);
}

#[test]
fn the_head_of_a_session_that_just_closed_may_be_on_the_way() {
    let young = Stream { last_appended_at_unix_us: YOUNG, ..stream(true) };
    check(&young, &Witness::None, None, Closed);
    check(&young, &signed(4, OLD, false), None, Closed);
}

#[test]
fn a_session_is_open_while_its_instance_names_it_and_then_lost() {
    check(&stream(false), &signed(5, YOUNG, false), None, Open);
    check(&stream(false), &signed(3, YOUNG, false), None, Open);
    check(&stream(false), &signed(5, OLD, false), None, Lost);
    check(&stream(false), &signed(5, YOUNG, true), None, Lost);
    // The instance lives and no longer counts it among its own.
    let alive = Some(InstanceSeen { at_unix_us: NOW, last: false });
    check(&stream(false), &signed(5, OLD, false), alive, Lost);
    // Events of its own that nobody signed do not keep it alive.
    let busy = Stream { last_appended_at_unix_us: NOW, ..stream(false) };
    check(&busy, &signed(4, OLD, false), None, Lost);
}

#[test]
fn a_session_that_no_head_names_is_judged_by_its_instance() {
    let seen = |at_unix_us, last| Some(InstanceSeen { at_unix_us, last });
    let young = Stream { first_appended_at_unix_us: YOUNG, ..stream(false) };
    for (stream, instance, expected) in [
        (young, None, Open),
        (young, seen(OLD, false), Open),
        (young, seen(YOUNG, true), Lost),
        (stream(false), None, Unverified),
        (stream(false), seen(YOUNG, false), Unverified),
        (stream(false), seen(OLD, false), Lost),
        (stream(false), seen(YOUNG, true), Lost),
    ] {
        check(&stream, &Witness::None, instance, expected);
    }
}

#[test]
fn an_unsigned_head_leaves_a_session_unverified_however_young() {
    let young = |is_closed| Stream {
        first_appended_at_unix_us: NOW,
        last_appended_at_unix_us: NOW,
        ..stream(is_closed)
    };
    check(&young(true), &Witness::Unsigned, None, Unverified);
    check(&young(false), &Witness::Unsigned, None, Unverified);
}

#[test]
fn what_is_missing_or_changed_is_damage_whatever_else_is_so() {
    for is_closed in [true, false] {
        let broken = Stream { is_whole: false, ..stream(is_closed) };
        for witness in [Witness::None, Witness::Unsigned, signed(5, NOW, false)] {
            check(&broken, &witness, None, Damaged);
        }
        check(&stream(is_closed), &signed(6, NOW, false), None, Damaged);
        for agrees_with_head in [Some(false), None] {
            let changed = Stream { agrees_with_head, ..stream(is_closed) };
            check(&changed, &signed(5, NOW, false), None, Damaged);
        }
    }
}

#[test]
fn what_retention_removes_is_not_damaged_but_expired() {
    let expiring = |is_closed| Stream { may_expire: true, ..stream(is_closed) };
    for is_closed in [false, true] {
        let cut = Stream { is_whole: false, ..expiring(is_closed) };
        for witness in [Witness::None, signed(5, NOW, false)] {
            check(&cut, &witness, None, Expired);
        }
        check(&expiring(is_closed), &signed(6, NOW, false), None, Expired);
    }
    check(&expiring(true), &signed(5, NOW, false), None, Closed);
}
