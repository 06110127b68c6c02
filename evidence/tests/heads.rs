//! What is signed about streams, and what no longer holds once anything of it is changed.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use proptest::prelude::*;
use retrace_evidence::{HEADS_PER_EVENT_MAX, Head, Heads, HeadsError, Part, Place, SigningKey, TrustedKeys};
use retrace_proto::{Envelope, Event, Id, StreamWriter, Subject, wire};

const WHOLE: Part = Part { index: 0, count: 1, last: false };

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn trusting(key: &SigningKey) -> TrustedKeys {
    [key.public()].into_iter().collect()
}

fn place() -> Place {
    Place { stream_id: id(99), seq: 7, occurred_at_unix_us: 1_767_225_600_000_000 }
}

fn id(number: u64) -> Id {
    Id::from_parts(1_767_225_600_000 + number, [3; 10])
}

fn head(number: u64) -> Head {
    Head { stream_id: id(number), end_exclusive: number + 1, hash: [number.to_le_bytes()[0]; 32] }
}

fn heads(count: u64) -> Vec<Head> {
    (0..count).map(head).collect()
}

/// Whether the heads open and the key that signs here signed them.
fn holds(heads: &wire::StreamHeads) -> bool {
    Heads::open(place(), heads).is_ok_and(|opened| opened.root.is_signed_by(&trusting(&key(1))))
}

#[test]
fn a_root_of_other_heads_is_not_believed() {
    let mut signed = Heads::sign(&key(1), place(), WHOLE, &heads(2));
    assert!(holds(&signed));
    signed.root_hash = Heads::sign(&key(1), place(), WHOLE, &heads(3)).root_hash;
    assert!(!holds(&signed));
}

#[test]
fn what_was_signed_opens_and_holds() {
    for count in [0, 1, 2, 3, 100] {
        let signed = Heads::sign(&key(1), place(), WHOLE, &heads(count));
        let opened = Heads::open(place(), &signed).unwrap();
        assert_eq!(opened.heads, heads(count));
        assert_eq!((opened.root.place, opened.root.part), (place(), WHOLE));
        assert!(opened.root.is_signed_by(&trusting(&key(1))));
    }
}

#[test]
fn what_is_longer_than_any_signature_or_name_of_a_key_is_no_head() {
    let signed = Heads::sign(&key(1), place(), WHOLE, &heads(2));
    let mut long = signed.clone();
    long.signature = [&signed.signature[..], &[0]].concat().into();
    assert!(Heads::open(place(), &long).is_err());
    let long = wire::StreamHeads { key_id: format!("{}0", signed.key_id), ..signed.clone() };
    assert!(Heads::open(place(), &long).is_err());
    let unsigned = wire::StreamHeads { key_id: String::new(), signature: Bytes::new(), ..signed };
    assert!(!Heads::open(place(), &unsigned).unwrap().root.is_signed_by(&trusting(&key(1))));
}

#[test]
fn only_the_key_that_signed_is_believed() {
    let signed = Heads::sign(&key(1), place(), WHOLE, &heads(2));
    let root = Heads::open(place(), &signed).unwrap().root;
    assert!(!root.is_signed_by(&TrustedKeys::default()));
    assert!(!root.is_signed_by(&trusting(&key(2))));
    assert!(root.is_signed_by(&[key(2).public(), key(1).public()].into_iter().collect()));

    let mut renamed = Heads::sign(&key(2), place(), WHOLE, &heads(2));
    renamed.key_id = key(1).public().id();
    assert!(!Heads::open(place(), &renamed).unwrap().root.is_signed_by(&trusting(&key(1))));
}

/// The bytes of a signature: a change here makes every head that was ever signed worthless.
#[test]
fn a_signature_made_once_is_made_for_good() {
    let signed = Heads::sign(&key(1), place(), Part { index: 1, count: 3, last: true }, &heads(2));
    let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(signed.key_id, "34750f98bd59fcfc");
    assert_eq!(hex(&signed.root_hash), "2351913dcb3a6940f65f70a8a26c83cca780a58ddb976cb0f08c3190ca955b77");
    assert_eq!(
        hex(&signed.signature),
        "01066ccbe1ca7ad79680b17b1f9ba2d3c6459db6d98c28a3b006e1f7592df766\
         a966b7125b7909dea209d9fb08aec2fdfc8bb017b1c64f1cae29eb4ed7526409"
    );
}

#[test]
fn heads_signed_for_one_place_do_not_hold_at_another() {
    let signed = Heads::sign(&key(1), place(), WHOLE, &heads(2));
    let elsewhere = [
        Place { stream_id: id(98), ..place() },
        Place { seq: 8, ..place() },
        Place { occurred_at_unix_us: place().occurred_at_unix_us + 1, ..place() },
    ];
    for place in elsewhere {
        assert!(!Heads::open(place, &signed).unwrap().root.is_signed_by(&trusting(&key(1))), "{place:?}");
    }
}

#[test]
fn a_part_does_not_pass_for_another() {
    let signed = Heads::sign(&key(1), place(), WHOLE, &heads(2));
    let changes: [fn(&mut wire::StreamHeads); 3] =
        [|it| it.last = true, |it| it.part_index = 1, |it| it.parts = 2];
    for change in changes {
        let mut changed = signed.clone();
        change(&mut changed);
        assert!(
            !Heads::open(place(), &changed).unwrap().root.is_signed_by(&trusting(&key(1))),
            "{changed:?}"
        );
    }
}

#[test]
fn heads_in_another_form_are_refused() {
    let signed = Heads::sign(&key(1), place(), WHOLE, &heads(3));
    let changes: [fn(&mut wire::StreamHeads); 5] = [
        |it| it.heads.swap(0, 1),
        |it| it.heads[1] = it.heads[0].clone(),
        |it| it.heads[0].stream_id = Bytes::from_static(b"short"),
        |it| it.heads[0].hash = Bytes::from_static(&[0; 31]),
        |it| it.heads[0].end_exclusive = 0,
    ];
    for change in changes {
        let mut changed = signed.clone();
        change(&mut changed);
        assert_eq!(Heads::open(place(), &changed).unwrap_err(), HeadsError, "{changed:?}");
    }
}

#[test]
fn as_many_heads_as_an_event_may_have_fit_into_one() {
    let most: Vec<Head> = (0..HEADS_PER_EVENT_MAX as u64)
        .map(|number| Head { end_exclusive: u64::MAX, ..head(number) })
        .collect();
    let signed = Heads::sign(&key(1), place(), WHOLE, &most);
    let mut stream = StreamWriter::new(id(99), wire::StreamKind::Instance);
    let about = Subject { proxy_id: "p".repeat(256), ..Subject::default() };
    let sealed = Envelope::seal(&mut stream, &about, None, 0, Event::stream_heads(signed));
    assert!(sealed.is_ok(), "{sealed:?}");
}

proptest! {
    #[test]
    fn any_change_of_any_head_shows(count in 1..40_u64, at in any::<prop::sample::Index>(), field in 0..48_usize, bit in 0..8_u8) {
        let signed = Heads::sign(&key(1), place(), WHOLE, &heads(count));
        let mut changed = signed.clone();
        let head = &mut changed.heads[at.index(usize::try_from(count).unwrap())];
        let flip = |bytes: &Bytes, at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << bit;
            Bytes::from(bytes)
        };
        match field {
            0..8 => head.end_exclusive ^= 1 << (8 * field + usize::from(bit)),
            8..16 => head.stream_id = flip(&head.stream_id, 2 * (field - 8)),
            _ => head.hash = flip(&head.hash, field - 16),
        }
        prop_assert!(!holds(&changed));
        // Nor with the root that the changed heads have.
        if let Ok(opened) = Heads::open(place(), &changed) {
            changed.root_hash = Heads::sign(&key(2), place(), WHOLE, &opened.heads).root_hash;
            prop_assert_ne!(&changed.root_hash, &signed.root_hash);
            prop_assert!(!holds(&changed));
        }
    }

    #[test]
    fn a_head_more_or_less_shows(count in 1..40_u64, at in any::<prop::sample::Index>()) {
        let signed = Heads::sign(&key(1), place(), WHOLE, &heads(count));
        let mut less = signed.clone();
        less.heads.remove(at.index(usize::try_from(count).unwrap()));
        prop_assert!(!holds(&less));
        let mut more = signed;
        more.heads = Heads::sign(&key(1), place(), WHOLE, &heads(count + 1)).heads;
        prop_assert!(!holds(&more));
    }
}
