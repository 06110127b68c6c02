use proptest::prelude::*;

use super::payment_cards::with_check_digit;
use super::*;

/// Numbers of the large networks with a right check digit.
fn card() -> impl Strategy<Value = String> {
    let form = prop_oneof![
        Just(("4", 16)),
        Just(("4", 13)),
        Just(("4", 19)),
        Just(("51", 16)),
        Just(("55", 16)),
        Just(("2345", 16)),
        Just(("34", 15)),
        Just(("37", 15)),
        Just(("6011", 16)),
        Just(("36", 14)),
        Just(("3530", 16)),
        Just(("62", 17)),
        Just(("5018", 12)),
    ];
    (form, "[0-9]{19}").prop_map(|((prefix, len), digits)| {
        with_check_digit(&format!("{prefix}{digits}").as_bytes()[..len - 1])
    })
}

/// A card as people write it.
fn written_card() -> impl Strategy<Value = String> {
    let separator =
        prop_oneof![Just(""), Just(" "), Just("-"), Just("."), Just(" - "), Just("\u{a0}"), Just("%20")];
    (card(), separator).prop_map(|(card, separator)| {
        let mut written = String::new();
        for (index, digit) in card.chars().enumerate() {
            if index > 0 && index % 4 == 0 {
                written.push_str(separator);
            }
            written.push(digit);
        }
        written
    })
}

fn address() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9._+'-]{0,20}[a-z0-9]@[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z]{2,8}){1,3}"
}

/// Bytes around a value: anything, with more of what the detectors look at.
fn surroundings() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b" -.0123456789@%=+'\"\\u{}[]*a,_/".to_vec())];
    prop::collection::vec(byte, 0..80)
}

fn join(before: &[u8], value: &str, after: &[u8]) -> (Vec<u8>, Range<usize>) {
    let text = [before, value.as_bytes(), after].concat();
    (text, before.len()..before.len() + value.len())
}

fn is_covered(found: &[Range<usize>], value: &Range<usize>) -> bool {
    found.iter().any(|range| range.start <= value.start && range.end >= value.end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_card_in_any_surroundings_is_covered(
        before in surroundings(), card in written_card(), after in surroundings(),
    ) {
        // Between letters nothing can join the card or make it something else.
        let before = [&before[..], b" x:"].concat();
        let after = [b";x ", &after[..]].concat();
        let (text, value) = join(&before, &card, &after);
        prop_assert!(is_covered(&found_by(Detector::PaymentCard, &text), &value));
    }

    #[test]
    fn an_address_in_any_surroundings_is_covered(
        before in surroundings(), address in address(), after in surroundings(),
    ) {
        let (text, value) = join(&[&before[..], b" "].concat(), &address, &[b" ", &after[..]].concat());
        prop_assert!(is_covered(&found_by(Detector::Email, &text), &value));
    }

    #[test]
    fn a_replaced_card_shows_four_digits_at_most(card in written_card()) {
        let plain: Vec<u8> = canonical(Detector::PaymentCard, card.as_bytes());
        let out = masked(Detector::PaymentCard, MaskAction::Partial, card.as_bytes());
        let shown: Vec<u8> = String::from_utf8(out).expect("UTF-8").replace("%20", "").into_bytes();
        let shown: Vec<u8> = shown.into_iter().filter(u8::is_ascii_digit).collect();
        prop_assert_eq!(&shown[..], &plain[plain.len() - 4..]);
        prop_assert_eq!(masked(Detector::PaymentCard, MaskAction::Redact, card.as_bytes()), b"[payment_card]");
    }

    #[test]
    fn a_replaced_address_shows_one_character_and_the_domain(address in address()) {
        let (local, domain) = address.split_once('@').expect("an address has an at-sign");
        let out = masked(Detector::Email, MaskAction::Partial, address.as_bytes());
        let expect = format!("{}***@{domain}", &local[..1]);
        prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), expect);
    }

    #[test]
    fn findings_are_sorted_apart_and_within_bounds(text in prop::collection::vec(surroundings(), 0..6)) {
        let text = text.concat();
        for detector in Detector::ALL {
            let mut last = 0;
            for range in found_by(detector, &text) {
                prop_assert!(range.start >= last && range.start < range.end && range.end <= text.len());
                last = range.end;
            }
        }
    }

    #[test]
    fn ranges_lie_on_the_borders_of_characters(
        parts in prop::collection::vec(
            prop_oneof![
                "[ -~\u{a0}-\u{17f}\u{660}-\u{669}\u{2010}-\u{2015}]{0,20}",
                "[0-9]{1,12}[ ./\u{2013}\u{a0}-]",
                prop::sample::select(vec![
                    "eyJhbGciOiJIUzI1NiJ9.", "-----BEGIN PRIVATE KEY-----", "AKIA", "ghp_", "DE89", "ssn ", "+", "(0", "%20", "\\u0020",
                    "PuTTY-User-Key-File-", "Private-MAC: ", "secret ", "sk-", "xoxb-",
                ])
                .prop_map(str::to_owned),
            ],
            0..12,
        ),
    ) {
        let text = parts.concat();
        let mut found = Vec::new();
        Detectors::new(Detector::ALL).find(text.as_bytes(), &mut found);
        for finding in found {
            prop_assert!(text.get(finding.range.clone()).is_some(), "{finding:?} in {text:?}");
            // Whatever it is, it can be shown in part and has a canonical form.
            let matched = &text.as_bytes()[finding.range];
            let mut out = Vec::new();
            replacement(finding.detector, MaskAction::Partial, matched, &mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok() && !canonical(finding.detector, matched).is_empty());
        }
    }

    #[test]
    fn what_was_masked_is_not_found_again(
        parts in prop::collection::vec(
            prop_oneof![
                surroundings(),
                written_card().prop_map(String::into_bytes),
                address().prop_map(String::into_bytes),
                "[0-9 ]{0,30}".prop_map(String::into_bytes),
            ],
            0..8,
        ),
    ) {
        let text = parts.concat();
        for detector in [Detector::PaymentCard, Detector::Email] {
            for action in [MaskAction::Redact, MaskAction::Partial] {
                let once = masked(detector, action, &text);
                let again = masked(detector, action, &once);
                prop_assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&again));
            }
        }
    }
}
