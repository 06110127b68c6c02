use retrace_proto::wire::WireFormat;

use super::super::command::{CommandIn, ParameterIn, ParameterText};
use super::*;
use crate::statement::Backslash;

const CARD: &str = "4111 1111 1111 1111";

fn token(text: &str) -> String {
    every(MaskAction::Token).mask_string(text).into_inner()
}

#[test]
fn a_token_says_its_kind_and_nothing_else_and_has_128_bits() {
    let token = token(CARD);
    let letters = token.strip_prefix("tok_payment_card_").expect("the kind is readable");
    assert_eq!(letters.len(), 22);
    assert!(letters.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let mut out = Vec::new();
    token::write("x", [0xff; 16], &mut out);
    assert_eq!(out, b"tok_x_7n42DGM5Tflk9n8mt7Fhc7", "2^128 - 1 in base 62");
    out.clear();
    token::write("x", [0; 16], &mut out);
    assert_eq!(out, b"tok_x_0000000000000000000000");
}

#[test]
fn equal_values_have_equal_tokens_however_they_are_written() {
    assert_eq!(token(CARD), token("4111-1111-1111-1111"));
    assert_eq!(token("John@Example.com"), token("john@example.com"));
    assert_ne!(token(CARD), token("5500 0000 0000 0004"));
    let text = token(&format!("{CARD} and {CARD}"));
    let (a, b) = text.split_once(" and ").expect("what is between stays");
    assert_eq!(a, b);
    let other = Masker::new(
        &[Rule { name: "r".to_owned(), detectors: Detector::ALL.to_vec(), action: MaskAction::Token }],
        FingerprintKey::new(b"other key"),
    );
    assert_ne!(other.mask_string(CARD).into_inner(), token(CARD));
}

#[test]
fn domains_are_apart_from_each_other_and_from_fingerprints() {
    let key = FingerprintKey::new(b"key");
    let token = |domain: TokenDomain<'_>, value: &[u8]| {
        let mut out = Vec::new();
        key.token(domain, value, &mut out);
        out[out.len() - 22..].to_vec()
    };
    let value = b"4111111111111111";
    let all = [
        token(TokenDomain::Detector(Detector::PaymentCard), value),
        token(TokenDomain::Detector(Detector::NationalId), value),
        token(TokenDomain::Column("payment_card"), value),
        token(TokenDomain::Column("a"), b"b\0c"),
        token(TokenDomain::Column("a\0b"), b"c"),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one));
    }
    assert!(
        Detector::ALL.iter().all(|detector| detector.name() != "token"),
        "a fingerprint would begin like a token"
    );
    let mut fingerprint = Vec::new();
    token::write("x", key.fingerprint(Detector::PaymentCard, value), &mut fingerprint);
    assert!(!all.iter().any(|token| fingerprint.ends_with(token)));
}

#[test]
fn redact_is_stricter_than_token_and_token_than_partial() {
    use MaskAction::{Partial, Redact, Token};
    let shown = |actions: &[MaskAction]| {
        let rules: Vec<(&[Detector], MaskAction)> =
            actions.iter().map(|action| (&[Detector::PaymentCard][..], *action)).collect();
        masker(&rules).mask_string(CARD).into_inner()
    };
    for actions in [[Redact, Token, Partial], [Partial, Token, Redact], [Token, Redact, Partial]] {
        assert_eq!(shown(&actions), "[payment_card]");
    }
    assert!(shown(&[Partial, Token]).starts_with("tok_"));
    assert!(shown(&[Token, Partial]).starts_with("tok_"));
}

#[test]
fn where_two_detectors_claim_the_same_bytes_there_is_no_token() {
    // A card that is an international telephone number too.
    assert_eq!(token("+378282246310005"), "[payment_card]".replace("payment_card", "phone"));
}

#[test]
fn what_stands_in_the_place_of_a_value_is_not_found_again() {
    for text in [CARD, "a@b.co", "123-45-6789", "DE89 3704 0044 0532 0130 00", "+14155552671", "11144477735"]
    {
        let once = token(text);
        assert_eq!(token(&once), once);
    }
}

#[test]
fn commands_and_parameters_get_tokens_with_their_fingerprints() {
    let parameter = ParameterIn {
        type_oid: 25,
        wire_format: WireFormat::Text,
        text: ParameterText::Printed(CARD.as_bytes()),
    };
    let command = CommandIn {
        statement: b"select * from t where card = '4111111111111111' -- 4111111111111111",
        backslash: Backslash::Plain,
        statement_name: b"",
        portal_name: b"",
        parameters: &[parameter],
    };
    let texts = every(MaskAction::Token).mask_command(&command).texts.into_inner();
    let token = token(CARD);
    assert_eq!(texts.statement.text, format!("select * from t where card = '{token}' -- {token}"));
    assert_eq!(texts.parameters[0].value.as_deref(), Some(token.as_str()));
    assert_eq!(texts.fingerprints.len(), 1);
    assert!(
        texts
            .masks
            .iter()
            .all(|mask| mask.action() == MaskAction::Token && mask.fingerprint_index == Some(0))
    );
    let mask = &texts.masks[0];
    let range = mask.start_inclusive as usize..mask.end_exclusive as usize;
    assert_eq!(texts.statement.text[range], token);
}

#[test]
fn json_stays_json() {
    let masker = every(MaskAction::Token);
    let mut out = Vec::new();
    let mut masks = MaskList::default();
    let sink = Sink { place: Place::default(), out: &mut out, masks: &mut masks };
    assert!(masker.mask_said_into(
        br#"{"a":4111111111111111,"b":"4111 1111 1111 1111"}"#,
        ColumnText::Json,
        sink
    ));
    let token = token(CARD);
    assert_eq!(String::from_utf8(out).expect("UTF-8"), format!(r#"{{"a":"{token}","b":"{token}"}}"#));
}
