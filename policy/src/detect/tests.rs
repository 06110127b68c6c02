use super::*;

mod payment_cards;

mod emails;

mod us_ssns;

mod ibans;

mod phones;

mod secrets;

mod national_ids;

mod properties;

fn found_by(detector: Detector, text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    Detectors::new([detector]).find(text, &mut found);
    assert!(found.iter().all(|finding| finding.detector == detector));
    found.into_iter().map(|finding| finding.range).collect()
}

/// The text with everything replaced that one detector finds.
fn masked(detector: Detector, action: MaskAction, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for range in found_by(detector, text) {
        out.extend_from_slice(&text[at..range.start]);
        replacement(detector, action, &text[range.clone()], &mut out);
        at = range.end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

#[track_caller]
fn check(detector: Detector, text: &str, expect: &[&str]) {
    let found: Vec<_> = found_by(detector, text.as_bytes())
        .into_iter()
        .map(|range| text.get(range.clone()).expect("ranges lie on the borders of characters"))
        .collect();
    assert_eq!(found, expect, "in {text:?}");
}

#[test]
fn names_are_those_of_the_configuration() {
    for detector in Detector::ALL {
        assert_eq!(detector.name().parse(), Ok(detector));
    }
    let error = "ssn".parse::<Detector>().expect_err("no detector has this name");
    for detector in Detector::ALL {
        assert!(error.to_string().contains(detector.name()));
    }
}

#[test]
fn findings_of_two_detectors_come_in_order_of_start() {
    let text = b"4111111111111111 a@example.com 5500000000000004";
    let mut found = vec![Finding { detector: Detector::Email, range: 100..101 }];
    Detectors::new(Detector::ALL).find(text, &mut found);
    let starts: Vec<_> = found.iter().map(|finding| finding.range.start).collect();
    assert_eq!(starts, [100, 0, 17, 31]);
    assert!(Detectors::new([]).is_empty());
    assert!(!Detectors::new([Detector::Email]).is_empty());
}

#[test]
fn an_action_that_cannot_show_a_part_shows_nothing() {
    for action in [MaskAction::Redact, MaskAction::Token, MaskAction::Unspecified] {
        let card = masked(Detector::PaymentCard, action, b"x 4111-1111-1111-1111 y");
        assert_eq!(card, b"x [payment_card] y");
        let address = masked(Detector::Email, action, b"x <john@example.com> y");
        assert_eq!(address, b"x <[email]> y");
    }
}
