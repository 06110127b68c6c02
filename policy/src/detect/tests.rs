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

/// Each of these makes one of the detectors look far, or often, if nothing bounds it. A quadratic scan does not end here.
#[test]
fn input_made_to_be_slow_is_scanned_to_its_end() {
    const BYTES: usize = 1 << 20;
    const LAST: &str = " ; john@example.com";
    for unit in [
        "1",
        "1 ",
        "1-",
        "123-",
        "12.",
        "0123 ",
        "+1",
        "+1 ",
        "(0",
        "(030) ",
        "DE89",
        "DE89 ",
        "AA",
        "ssn",
        "ssn 123456789 ",
        "123456789 ",
        "eyJ",
        "eyJ.",
        "-eyJ",
        "eyJhbGciOiJIUzI1NiJ9.",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
        "sk-",
        "sk-sk_live_",
        "AKIA",
        "ecret",
        "secret ",
        "ghp_",
        "xoxb-",
        "rt_0a1b2c3d_",
        "PRIVATE",
        "PRIVATE KEY",
        "BEGIN ",
        "-",
        "- ",
        "END PRIVATE",
        "AGE-SECRET-KEY-1",
        "Private-",
        "%20",
        "\\u0020",
        "\\",
        "&nbsp;",
        "4111 ",
        "0000000000",
    ] {
        let mut text = unit.repeat(BYTES / unit.len());
        text.push_str(LAST);
        let mut found = Vec::new();
        Detectors::new(Detector::ALL).find(text.as_bytes(), &mut found);
        assert!(found.iter().any(|finding| finding.range.end == text.len()), "after {unit:?}");
    }
    for (begin, unit) in [
        ("-----BEGIN PRIVATE KEY-----", "END "),
        ("PuTTY-User-Key-File-3", "Private-"),
        ("", "PuTTY-User-Key-File-"),
    ] {
        let text = format!("{begin}{}", unit.repeat(BYTES / unit.len()));
        assert_eq!(found_by(Detector::PrivateKey, text.as_bytes()), [Range { start: 0, end: text.len() }]);
    }
}
