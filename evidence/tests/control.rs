//! Which control records are obeyed: those of a key whose role may, as they were written, where and when they were.

use retrace_evidence::{
    CONTROL_LIFETIME_US_MAX, ControlKeys, ControlReader, ControlSigner, NotObeyed, Order, SigningKey,
    Standing,
};
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

fn reader() -> ControlReader {
    let keys = ControlKeys {
        proxy: [key(KeyRole::Proxy).public()].into_iter().collect(),
        query: [key(KeyRole::Query).public()].into_iter().collect(),
    };
    ControlReader::new(keys, id(1))
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
