//! Which control records are obeyed: those of a key whose role may, as they were written, where and when they were.

use retrace_evidence::{
    CONTROL_LIFETIME_US_MAX, ControlKeys, ControlReader, ControlSigner, NotObeyed, Order, SigningKey,
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
        .map(|recorded| reader.read(PARTITION, &recorded, NOW_UNIX_US));
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
        assert_eq!(reader.read(PARTITION, &recorded, NOW_UNIX_US), Err(NotObeyed::Role));
    }
    let opened = proxy.write(Event::instance_started(Default::default()));
    assert_eq!(reader.read(PARTITION, &opened, NOW_UNIX_US), Err(NotObeyed::NoOrder));
}

#[test]
fn what_is_not_signed_or_by_another_key_or_for_another_place_is_not_obeyed() {
    let mut reader = reader();
    let mut stream = StreamWriter::new(id(2), StreamKind::Instance);
    let plain = Envelope::seal(&mut stream, &Subject::default(), None, NOW_UNIX_US, kill());
    let plain = opened(plain.expect("small"));
    assert_eq!(reader.read(PARTITION, &plain, NOW_UNIX_US), Err(NotObeyed::NotSigned));

    // The proxy's key under the name of the query service's role.
    let strange =
        [ControlSigner::new(key(KeyRole::Proxy), KeyRole::Query, id(1)), signer(KeyRole::Query, id(2))];
    for signer in strange {
        let mut writer = Writer { signer, stream: StreamWriter::new(id(2), StreamKind::Instance) };
        assert_eq!(reader.read(PARTITION, &writer.write(kill()), NOW_UNIX_US), Err(NotObeyed::Signature));
    }
    let recorded = Writer::new(KeyRole::Query, 2).write(kill());
    assert_eq!(reader.read(PARTITION + 1, &recorded, NOW_UNIX_US), Err(NotObeyed::Signature));
    assert!(reader.read(PARTITION, &recorded, NOW_UNIX_US).is_ok(), "none of them counted");
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
            assert!(reader().read(PARTITION, &changed, NOW_UNIX_US).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert!(opened > 500, "{opened} were envelopes");
}

#[test]
fn a_copy_is_not_obeyed_and_nothing_before_what_was() {
    let mut reader = reader();
    let mut writer = Writer::new(KeyRole::Query, 2);
    let [first, second] = [writer.write(kill()), writer.write(revoke())];
    let mut read = |recorded| reader.read(PARTITION, recorded, NOW_UNIX_US);
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
        let read = reader().read(PARTITION, &recorded, appended_at);
        assert_eq!(read.is_ok(), obeyed, "{appended_at}: {read:?}");
    }
}
