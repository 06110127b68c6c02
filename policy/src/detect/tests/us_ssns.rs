use super::*;

#[track_caller]
fn numbers(text: &str, expect: &[&str]) {
    check(Detector::UsSsn, text, expect);
}

#[test]
fn a_number_with_separators_is_found() {
    for number in [
        "123-45-6789",
        "001-01-0001",
        "899 99 9999",
        "123.45.6789",
        "123/45/6789",
        "123\u{2013}45\u{2013}6789",
        "123%2D45%2D6789",
        "123\u{a0}45\u{a0}6789",
        "665-12-3456",
        "667-12-3456",
    ] {
        numbers(number, &[number]);
        numbers(&format!("ssn:{number},"), &[number]);
        numbers(&format!("x{number}y"), &[number]);
        numbers(&format!("{{\"n\":\"{number}\"}}"), &[number]);
        numbers(&format!("n=%20{number}"), &[number]);
    }
    numbers("1-123-45-6789-0", &["123-45-6789"]);
    numbers("123-45-6789 234-56-7890", &["123-45-6789", "234-56-7890"]);
}

#[test]
fn what_the_administration_does_not_give_out_is_left_alone() {
    for text in [
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "999-99-9999",
        "123-00-6789",
        "123-45-0000",
        "123-45 6789",
        "1123-45-6789",
        "123-45-67890",
        "123-456-789",
        "2024-01-15",
        "123--45--6789",
        "123\n45\n6789",
        "12-345-6789",
    ] {
        numbers(text, &[]);
    }
}

#[test]
fn bare_digits_count_only_near_a_word() {
    numbers("123456789", &[]);
    numbers("order 123456789", &[]);
    for before in
        ["ssn=", "SSN: ", "Social Security number is ", "social_security_no\":\"", "userSsn\": ", "SSNs "]
    {
        numbers(&format!("{before}123456789"), &["123456789"]);
    }
    numbers("123456789 (SSN)", &["123456789"]);
    numbers("businessname 123456789", &[]);
    numbers(&format!("ssn{}123456789", " ".repeat(64)), &["123456789"]);
    numbers(&format!("ssn{}123456789", " ".repeat(65)), &[]);
    for text in ["ssn 0.123456789", "ssn 000123456", "ssn 123456789a", "ssn 1234567890"] {
        numbers(text, &[]);
    }
}

#[test]
fn separators_do_not_change_the_value_and_four_digits_stay() {
    for written in ["123-45-6789", "123 45 6789", "123456789", "123%2D45%2D6789", "123\u{2013}45\u{2013}6789"]
    {
        assert_eq!(canonical(Detector::UsSsn, written.as_bytes()), b"123456789");
    }
    assert_eq!(masked(Detector::UsSsn, MaskAction::Partial, b"a 123-45-6789 b"), b"a ***-**-6789 b");
    assert_eq!(masked(Detector::UsSsn, MaskAction::Redact, b"a 123-45-6789 b"), b"a [us_ssn] b");
}
