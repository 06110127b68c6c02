//! Sealing and opening: what goes in comes out, and what was never sealed does not pass for an event.
#![allow(clippy::disallowed_methods, reason = "a test vouches for its own values")]

use bytes::Bytes;
use proptest::prelude::*;
use retrace_proto::limits::EVENT_BYTES_MAX;
use retrace_proto::wire::{self, envelope::Payload};
use retrace_proto::{
    CommandReceived, CommandTexts, Envelope, Event, Id, Masked, OpenError, SealError, StreamWriter, Subject,
};

fn stream() -> StreamWriter {
    StreamWriter::new(Id::from_parts(1, [0; 10]), wire::StreamKind::Session)
}

fn command(text: String) -> Event {
    let texts = CommandTexts { statement: wire::Text { text, escaped: false }, ..CommandTexts::default() };
    Event::command_received(CommandReceived::default(), Masked::by_masking(texts))
}

fn seal(stream: &mut StreamWriter, event: Event) -> Result<Envelope, SealError> {
    Envelope::seal(stream, &Subject::default(), None, 0, event)
}

#[test]
fn an_event_too_large_is_refused_and_leaves_no_gap() {
    let mut stream = stream();
    seal(&mut stream, command("a".to_owned())).expect("small");
    let refused = seal(&mut stream, command("x".repeat(EVENT_BYTES_MAX)));
    assert!(matches!(refused, Err(SealError::TooLarge { bytes }) if bytes > EVENT_BYTES_MAX));
    let next = seal(&mut stream, command("b".to_owned())).expect("small");
    assert_eq!(next.seq(), 1);
}

#[test]
fn what_is_no_envelope_says_why() {
    let mut stream = stream();
    let sealed = seal(&mut stream, command("a".to_owned())).expect("small");
    let newer = {
        use prost::Message;
        let mut envelope = wire::Envelope::decode(sealed.bytes().clone()).expect("decodes");
        envelope.header.as_mut().expect("has one").schema_version = 99;
        Bytes::from(envelope.encode_to_vec())
    };
    for (bytes, expect) in [
        (Bytes::new(), OpenError::NoHeader),
        (Bytes::from_static(b"\xff\xff\xff"), OpenError::NotAnEnvelope),
        (Bytes::from(vec![0; EVENT_BYTES_MAX + 1]), OpenError::TooLarge { bytes: EVENT_BYTES_MAX + 1 }),
        (newer, OpenError::NewerSchema { version: 99 }),
    ] {
        assert_eq!(Envelope::open(bytes).expect_err("no envelope"), expect);
    }
}

#[test]
fn a_signature_is_over_everything_else_of_its_envelope() {
    let signature = |unsigned: &[u8]| wire::ControlSignature {
        role: wire::KeyRole::Query.into(),
        key_id: "00".to_owned(),
        signature: Bytes::copy_from_slice(unsigned),
    };
    let event = || Event::token_revoked("abcd".to_owned(), Masked::default());
    let sealed = Envelope::seal_signed(&mut stream(), &Subject::default(), 5, event(), &signature);
    let opened = Envelope::open(sealed.expect("small").bytes().clone()).expect("opens");
    let plain = Envelope::seal(&mut stream(), &Subject::default(), None, 5, event()).expect("small");
    assert_eq!(opened.signature(), Some(&signature(plain.bytes())));
    assert_eq!(opened.unsigned_bytes(), plain.bytes()[..]);
    assert!(opened.hash() != plain.hash(), "the chain is over the signature too");
    assert_eq!(Envelope::open(plain.bytes().clone()).expect("opens").signature(), None);
}

proptest! {
    #[test]
    fn what_is_sealed_opens_as_it_was(
        texts in proptest::collection::vec(".{0,50}", 1..20),
        target in ".{0,20}",
        occurred_at in any::<i64>(),
        session in any::<[u8; 10]>(),
    ) {
        let mut stream = stream();
        let subject = Subject {
            session_id: Some(Id::from_parts(5, session)),
            target: target.clone(),
            ..Subject::default()
        };
        let mut prev_hash = Bytes::new();
        for (seq, text) in texts.into_iter().enumerate() {
            let envelope =
                Envelope::seal(&mut stream, &subject, Some(7), occurred_at, command(text.clone())).unwrap();
            let recorded = Envelope::open(envelope.bytes().clone()).unwrap();
            let header = recorded.header();
            prop_assert_eq!(header.stream_seq, seq as u64);
            prop_assert_eq!(&header.prev_hash, &prev_hash);
            prop_assert_eq!(header.occurred_at_unix_us, occurred_at);
            prop_assert_eq!(&header.target, &target);
            prop_assert_eq!(recorded.session_id(), subject.session_id);
            let Payload::CommandReceived(received) = recorded.payload() else { panic!("another payload") };
            prop_assert_eq!(&received.statement.as_ref().unwrap().text, &text);
            prev_hash = Bytes::copy_from_slice(recorded.hash().as_bytes());
        }
    }

    #[test]
    fn any_bytes_open_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Envelope::open(Bytes::from(bytes));
    }

    #[test]
    fn one_changed_byte_breaks_the_chain_or_the_envelope(index in any::<proptest::sample::Index>(), flip in 1_u8..) {
        let mut stream = stream();
        let first = seal(&mut stream, command("select 1".to_owned())).unwrap();
        let second = seal(&mut stream, command("select 2".to_owned())).unwrap();
        let mut bytes = first.bytes().to_vec();
        let at = index.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(changed) = Envelope::open(Bytes::from(bytes)) {
            let second = Envelope::open(second.bytes().clone()).unwrap();
            prop_assert!(second.header().prev_hash[..] != changed.hash().as_bytes()[..]);
        }
    }
}
