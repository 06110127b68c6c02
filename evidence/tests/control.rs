//! Which control records are obeyed: those of a key whose role may, as they were written, where and when they were.

use retrace_evidence::{
    CONTROL_LIFETIME_US_MAX, ControlKeys, ControlReader, ControlSigner, HeldOn, HoldChange, Holds, NotObeyed,
    Order, SigningKey, Standing,
};
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::wire::{KeyRole, StreamKind};
use retrace_proto::{Envelope, Event, Id, Masked, Recorded, StreamWriter, Subject};

const NOW_UNIX_US: i64 = 1_800_000_000_000_000;
const PARTITION: u32 = 3;

fn id(last: u8) -> Id {
    Id::from_parts(1_800_000_000_000, [last; 10])
}

fn key(role: KeyRole) -> SigningKey {
    SigningKey::from_seed(&[u8::try_from(i32::from(role)).expect("few roles"); 32]).expect("a seed")
}

fn signer(role: KeyRole, topic: Id) -> ControlSigner {
    ControlSigner::new(key(role), role, topic)
}

fn keys() -> ControlKeys {
    ControlKeys {
        proxy: [key(KeyRole::Proxy).public()].into_iter().collect(),
        query: [key(KeyRole::Query).public()].into_iter().collect(),
    }
}

fn reader() -> ControlReader {
    ControlReader::new(keys(), id(1))
}

/// Where all of them stand, just written.
fn now() -> Standing {
    Standing {
        partition: PARTITION,
        is_for_cancels: None,
        appended_at_unix_us: NOW_UNIX_US,
        now_unix_us: NOW_UNIX_US,
    }
}

/// A process that writes control records.
struct Writer {
    signer: ControlSigner,
    stream: StreamWriter,
}

impl Writer {
    fn new(role: KeyRole, stream: u8) -> Self {
        let stream = StreamWriter::new(id(stream), StreamKind::Instance);
        Self { signer: signer(role, id(1)), stream }
    }

    fn write(&mut self, event: Event) -> Recorded {
        let about = Subject { session_id: Some(id(9)), ..Subject::default() };
        let sign = |unsigned: &[u8]| self.signer.sign(PARTITION, unsigned);
        let sealed = Envelope::seal_signed(&mut self.stream, &about, NOW_UNIX_US, event, &sign);
        opened(sealed.expect("small"))
    }
}

fn opened(envelope: Envelope) -> Recorded {
    Envelope::open(envelope.bytes().clone()).expect("just sealed")
}

fn kill() -> Event {
    Event::kill_requested(None, Masked::default())
}

fn revoke() -> Event {
    Event::token_revoked("abcd".to_owned(), Masked::default())
}

fn cancel() -> Event {
    Event::cancel_requested(7, Some(id(8)))
}

#[test]
fn an_order_of_a_role_that_may_is_obeyed() {
    let mut reader = reader();
    let (mut query, mut proxy) = (Writer::new(KeyRole::Query, 2), Writer::new(KeyRole::Proxy, 3));
    let only = Event::kill_requested(Some("jo".to_owned()), Masked::default());
    let read = [query.write(kill()), query.write(only), query.write(revoke()), proxy.write(cancel())]
        .map(|recorded| reader.read(&recorded, now()));
    let kill = |only_principal| Order::Kill { session_id: id(9), only_principal };
    assert_eq!(read[0], Ok(kill(None)));
    assert_eq!(read[1], Ok(kill(Some("jo".to_owned()))));
    assert_eq!(read[2], Ok(Order::RevokeToken { token_id: "abcd".to_owned() }));
    assert_eq!(read[3], Ok(Order::Cancel { process_id: 7, connection_id: Some(id(8)) }));
}

#[test]
fn a_role_orders_nothing_but_its_own() {
    let mut reader = reader();
    let (mut query, mut proxy) = (Writer::new(KeyRole::Query, 2), Writer::new(KeyRole::Proxy, 3));
    for recorded in [proxy.write(kill()), proxy.write(revoke()), query.write(cancel())] {
        assert_eq!(reader.read(&recorded, now()), Err(NotObeyed::Role));
    }
    let opened = proxy.write(Event::instance_started(Default::default()));
    assert_eq!(reader.read(&opened, now()), Err(NotObeyed::NoOrder));
}

#[test]
fn what_is_not_signed_or_by_another_key_or_for_another_place_is_not_obeyed() {
    let mut reader = reader();
    let mut stream = StreamWriter::new(id(2), StreamKind::Instance);
    let plain = Envelope::seal(&mut stream, &Subject::default(), None, NOW_UNIX_US, kill());
    let plain = opened(plain.expect("small"));
    assert_eq!(reader.read(&plain, now()), Err(NotObeyed::NotSigned));

    // The proxy's key under the name of the query service's role.
    let strange =
        [ControlSigner::new(key(KeyRole::Proxy), KeyRole::Query, id(1)), signer(KeyRole::Query, id(2))];
    for signer in strange {
        let mut writer = Writer { signer, stream: StreamWriter::new(id(2), StreamKind::Instance) };
        assert_eq!(reader.read(&writer.write(kill()), now()), Err(NotObeyed::Signature));
    }
    let recorded = Writer::new(KeyRole::Query, 2).write(kill());
    assert_eq!(
        reader.read(&recorded, Standing { partition: PARTITION + 1, ..now() }),
        Err(NotObeyed::Signature)
    );
    assert!(reader.read(&recorded, now()).is_ok(), "none of them counted");
}

/// Every byte of a record, changed: it is no record any more, or not obeyed.
#[test]
fn no_byte_of_a_control_record_can_be_changed() {
    use bytes::Bytes;
    let recorded = Writer::new(KeyRole::Query, 2).write(kill());
    let mut opened = 0;
    for at in 0..recorded.bytes().len() {
        for bit in 0..8 {
            let mut bytes = recorded.bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let Ok(changed) = Envelope::open(Bytes::from(bytes)) else { continue };
            opened += 1;
            assert!(reader().read(&changed, now()).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert!(opened > 500, "{opened} were envelopes");
}

#[test]
fn a_copy_is_not_obeyed_and_nothing_before_what_was() {
    let mut reader = reader();
    let mut writer = Writer::new(KeyRole::Query, 2);
    let [first, second] = [writer.write(kill()), writer.write(revoke())];
    let mut read = |recorded| reader.read(recorded, now());
    assert!(read(&first).is_ok());
    assert_eq!(read(&first), Err(NotObeyed::Copied));
    assert!(read(&second).is_ok());
    assert_eq!(read(&first), Err(NotObeyed::Copied));
}

#[test]
fn what_is_older_than_a_control_record_may_be_is_not_obeyed() {
    for (appended_at, obeyed) in [
        (NOW_UNIX_US, true),
        (NOW_UNIX_US + CONTROL_LIFETIME_US_MAX, true),
        (NOW_UNIX_US + CONTROL_LIFETIME_US_MAX + 1, false),
        (NOW_UNIX_US - 3600 * 1_000_000, true),
        (NOW_UNIX_US - 3600 * 1_000_000 - 1, false),
        (i64::MIN, false),
    ] {
        let recorded = Writer::new(KeyRole::Query, 2).write(kill());
        let read = reader().read(&recorded, Standing { appended_at_unix_us: appended_at, ..now() });
        assert_eq!(read.is_ok(), obeyed, "{appended_at}: {read:?}");
    }
}

#[test]
fn a_key_of_one_role_does_not_come_in_the_way_of_another() {
    let mut reader = reader();
    let (mut query, mut proxy) = (Writer::new(KeyRole::Query, 2), Writer::new(KeyRole::Proxy, 2));
    // The proxy signs for the stream of the query service, far ahead of it.
    let ahead: Vec<_> = (0..100).map(|_| proxy.write(cancel())).collect();
    assert!(reader.read(&ahead[99], now()).is_ok());
    assert!(reader.read(&query.write(kill()), now()).is_ok());
    assert!(reader.read(&query.write(revoke()), now()).is_ok());
}

#[test]
fn a_cancel_is_good_for_a_moment_by_every_clock() {
    let second = 1_000_000;
    for (appended_after, read_after, obeyed) in [
        (0, 0, true),
        (60 * second, 60 * second, true),
        (60 * second + 1, 0, false),
        (0, 60 * second + 1, false),
        // A reader whose clock is behind.
        (0, -3600 * second, true),
    ] {
        let recorded = Writer::new(KeyRole::Proxy, 2).write(cancel());
        let appended_at_unix_us = NOW_UNIX_US + appended_after;
        let now_unix_us = appended_at_unix_us + read_after;
        let read = reader().read(&recorded, Standing { appended_at_unix_us, now_unix_us, ..now() });
        assert_eq!(read.is_ok(), obeyed, "{appended_after} {read_after}");
    }
    let late = Standing { now_unix_us: NOW_UNIX_US + CONTROL_LIFETIME_US_MAX, ..now() };
    assert!(reader().read(&Writer::new(KeyRole::Query, 2).write(revoke()), late).is_ok(), "read at a start");
}

#[test]
fn cancels_and_other_orders_have_partitions_of_their_own() {
    for (is_for_cancels, [kills, cancels]) in
        [(None, [true, true]), (Some(false), [true, false]), (Some(true), [false, true])]
    {
        let standing = Standing { is_for_cancels, ..now() };
        let (mut query, mut proxy) = (Writer::new(KeyRole::Query, 2), Writer::new(KeyRole::Proxy, 3));
        assert_eq!(reader().read(&query.write(kill()), standing).is_ok(), kills);
        assert_eq!(reader().read(&proxy.write(cancel()), standing).is_ok(), cancels);
    }
}

fn set(hold: u8, on: On) -> Event {
    Event::legal_hold_set(id(hold), on, Masked::default())
}

fn lift(hold: u8) -> Event {
    Event::legal_hold_lifted(id(hold), Masked::default())
}

fn in_force(records: &[Recorded]) -> Vec<(Id, HeldOn)> {
    let mut holds = Holds::default();
    for recorded in records {
        let _ = holds.read(&keys(), (id(1), PARTITION), recorded);
    }
    holds.in_force().map(|(hold, on)| (hold, on.clone())).collect()
}

#[test]
fn a_hold_counts_until_it_is_lifted_however_its_records_are_read() {
    let mut query = Writer::new(KeyRole::Query, 2);
    let mut records = [
        query.write(set(10, On::SessionId(id(9).to_bytes()))),
        query.write(set(11, On::Principal("jo".to_owned()))),
        query.write(set(12, On::Target("shop".to_owned()))),
        query.write(lift(11)),
    ];
    let expected = [(id(10), HeldOn::Session(id(9))), (id(12), HeldOn::Target("shop".to_owned()))];
    assert_eq!(in_force(&records), expected);
    let again = [records[0].clone(), records[3].clone(), records[1].clone(), records[2].clone()];
    assert_eq!(in_force(&again), expected);
    records.reverse();
    assert_eq!(in_force(&records), expected);
    // Whoever serves takes them for orders that are none of its business.
    let mut reader = reader();
    records.reverse();
    let read = records.map(|recorded| reader.read(&recorded, now()));
    assert_eq!(read[3], Ok(Order::LiftHold { hold_id: id(11) }));
    assert!(read.iter().all(Result::is_ok), "{read:?}");
}

#[test]
fn nobody_lifts_a_hold_by_writing_to_the_log_and_whoever_set_it_it_counts() {
    let on = || On::Target("shop".to_owned());
    let (mut query, mut proxy) = (Writer::new(KeyRole::Query, 2), Writer::new(KeyRole::Proxy, 3));
    let mut strange = Writer {
        signer: ControlSigner::new(key(KeyRole::Proxy), KeyRole::Query, id(1)),
        stream: StreamWriter::new(id(4), StreamKind::Instance),
    };
    let mut stream = StreamWriter::new(id(5), StreamKind::Instance);
    let mut plain = |event| {
        let sealed = Envelope::seal(&mut stream, &Subject::default(), None, NOW_UNIX_US, event);
        opened(sealed.expect("small"))
    };
    let held = [(id(10), HeldOn::Target("shop".to_owned()))];
    let first = query.write(set(10, on()));
    for (lifting, reason) in [
        (proxy.write(lift(10)), NotObeyed::Role),
        (strange.write(lift(10)), NotObeyed::Signature),
        (plain(lift(10)), NotObeyed::NotSigned),
    ] {
        let mut holds = Holds::default();
        holds.read(&keys(), (id(1), PARTITION), &first).expect("it sets a hold");
        assert_eq!(holds.read(&keys(), (id(1), PARTITION), &lifting), Err(reason));
        assert_eq!(in_force(&[first.clone(), lifting]), held);
    }
    // A record that lifts counts where it was written for.
    let lifting = query.write(lift(10));
    let mut holds = Holds::default();
    holds.read(&keys(), (id(1), PARTITION), &first).expect("it sets a hold");
    assert_eq!(holds.read(&keys(), (id(1), PARTITION + 1), &lifting), Err(NotObeyed::Signature));
    assert_eq!(holds.read(&keys(), (id(2), PARTITION), &lifting), Err(NotObeyed::Signature));
    let change = holds.read(&keys(), (id(1), PARTITION), &lifting);
    assert_eq!(change, Ok(Some(HoldChange::Lifted(id(10)))));
    assert_eq!(holds.in_force().count(), 0);
    // One whose key is not known any more is a hold all the same.
    assert_eq!(in_force(&[strange.write(set(10, on()))]), held);
    assert_eq!(in_force(&[plain(set(10, on()))]), held);
}

#[test]
fn a_hold_on_nothing_is_none() {
    let mut query = Writer::new(KeyRole::Query, 2);
    let long = "x".repeat(257);
    for on in [On::SessionId(vec![1; 15].into()), On::Principal(String::new()), On::Target(long)] {
        let recorded = query.write(set(10, on));
        assert_eq!(reader().read(&recorded, now()), Err(NotObeyed::NoOrder));
        assert_eq!(in_force(&[recorded]), []);
    }
}
