use super::*;

#[track_caller]
fn cards(text: &str, expect: &[&str]) {
    check(Detector::PaymentCard, text, expect);
}

#[track_caller]
fn whole(card: &str) {
    cards(card, &[card]);
    cards(&format!("before {card}; after"), &[card]);
    cards(&format!("x{card}y"), &[card]);
}

#[test]
fn published_test_numbers_of_every_network_are_found() {
    for card in [
        "4111111111111111",
        "4012888888881881",
        "4222222222222",
        "4000000000000000006",
        "5555555555554444",
        "5105105105105100",
        "2223003122003222",
        "2720992222222226",
        "378282246310005",
        "371449635398431",
        "6011111111111117",
        "6500000000000002",
        "30569309025904",
        "36227206271667",
        "38520000023237",
        "3530111333300000",
        "3566002020360505",
        "6200000000000005",
        "6205500000000000004",
        "6759649826438453",
        "676770000008",
        "5018000000000009",
        "2200770239097761",
        "6521111111111117",
        "8171999927660000",
        "9792000000000001",
    ] {
        let digits: Vec<u8> = card.bytes().collect();
        // Some networks publish a number without its check digit; ours has one.
        let card = with_check_digit(&digits[..digits.len() - 1]);
        whole(&card);
    }
}

/// Completes digits to a number with a right check digit.
pub(super) fn with_check_digit(digits: &[u8]) -> String {
    let mut number = String::from_utf8(digits.to_vec()).expect("digits");
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| {
            let value = u32::from(digit - b'0') * if index % 2 == 0 { 2 } else { 1 };
            value / 10 + value % 10
        })
        .sum();
    number.push(char::from(b'0' + u8::try_from((10 - sum % 10) % 10).expect("a digit")));
    number
}

#[test]
fn separators_do_not_hide_a_card() {
    for separator in [
        " ", "-", ".", "/", "_", "+", "\n", "\r\n", "\t", " - ", "    ", "\u{a0}", "\u{2009}", "\u{202f}",
        "\u{2010}", "\u{2013}", "\u{2212}", "\u{3000}", "\u{200b}", "%20", "%2D", "\\n", "\\u00a0", "&nbsp;",
        "&#160;",
    ] {
        whole(&["4111", "1111", "1111", "1111"].join(separator));
        whole(&["3782", "822463", "10005"].join(separator));
        whole(
            &["4", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1"].join(separator),
        );
        whole(&["41", "111111111", "11111"].join(separator));
    }
    cards("4111 1111-1111.1111", &["4111 1111-1111.1111"]);
    cards("4111     1111 1111 1111", &[]);
    cards("{4111,1111,1111,1111}", &[]);
    assert_eq!(
        found_by(Detector::PaymentCard, b"\xe4 4111\xa01111\xa01111\xa01111 \xff").first(),
        Some(&(2..21))
    );
    assert_eq!(found_by(Detector::PaymentCard, b"4111\x961111\x971111\xad1111").first(), Some(&(0..19)));
}

#[test]
fn digits_of_other_scripts_count() {
    whole("４１１１１１１１１１１１１１１１");
    whole("٤١١١ ١١١١ ١١١١ ١١١١");
    whole("۴۱۱۱۱۱۱۱۱۱۱۱۱۱۱۱");
    whole("४१११११११११११११११");
    whole("4111 １１１１ 1111 １１１１");
    whole("4111１１１１1111１１１１");
    whole("4111１１１１ 1111 １１１１");
    assert_eq!(
        canonical(Detector::PaymentCard, "٤١١١ １１１１%201111&#160;1111".as_bytes()),
        b"4111111111111111"
    );
}

#[test]
fn a_card_among_other_groups_is_found() {
    cards("12 4111 1111 1111 1111 99", &["4111 1111 1111 1111"]);
    cards("on 2024-01-15 4111111111111111 12/27", &["4111111111111111"]);
    cards("(4111111111111111)5500000000000004", &["4111111111111111", "5500000000000004"]);
    cards("4111111111111111=25121010000012345678", &["4111111111111111"]);
    cards("[4111111111111111,378282246310005]", &["4111111111111111", "378282246310005"]);
    cards("+4111111111111111", &["4111111111111111"]);
    cards("card=%204111111111111111", &["4111111111111111"]);
    cards("%224111-1111-1111-1111%22", &["4111-1111-1111-1111"]);
    cards("100%4111111111111111", &["4111111111111111"]);
}

#[test]
fn padding_exponents_and_appended_digits_do_not_hide_a_card() {
    cards("0004111111111111111", &["0004111111111111111"]);
    cards("4111111111111111.00", &["4111111111111111"]);
    cards("4.111111111111111e+15", &["4.111111111111111e+15"]);
    cards("5.1051051051051E+15", &["5.1051051051051E+15"]);
    cards("41111111111111111225", &["41111111111111111225"]);
    cards("4111111111111111225", &["4111111111111111225"]);
    cards("3782822463100051234", &["3782822463100051234"]);
    cards("378282246310005123", &["378282246310005123"]);
    cards("41111111111111112", &[]);
    cards("202401154111111111111111", &["202401154111111111111111"]);
    for written in ["0004111111111111111", "4.111111111111111e+15", "4111-1111-1111-1111"] {
        assert_eq!(canonical(Detector::PaymentCard, written.as_bytes()), b"4111111111111111");
    }
    assert_eq!(canonical(Detector::PaymentCard, b"5.1051051051051E+15"), b"5105105105105100");
    // No number is that large; what is found in other text may still be written so.
    assert_eq!(canonical(Detector::PaymentCard, b"4e99999999999999999999999999"), b"4000000000000000000");
}

#[test]
fn what_is_known_to_be_something_else_is_left_alone() {
    cards("4111111111111112", &[]);
    cards("1234567890123452", &[]);
    cards("0.4111111111111111", &[]);
    // A dot behind a card stands between two numbers, not within one.
    cards("4000000000000002.4000000000000002", &["4000000000000002", "4000000000000002"]);
    cards("4000000000000002.4000000000000003", &["4000000000000002"]);
    cards("-12.4111111111111111 3.5", &[]);
    cards("+4222222222222", &[]);
    cards("4222222222222", &["4222222222222"]);
    cards("f47ac10b-4111-1111-1111-1111deadbeef", &[]);
    cards("d41d8cd98f00b204e9801998ecff4111111111111111aa42", &["4111111111111111"]);
    cards("4111111111111111e9801998ecf8427e", &[]);
    cards("\\x4111111111111111ff", &[]);
    cards("2024-01-15 10:22:33.123456+00", &[]);
    cards("", &[]);
}

#[test]
fn a_partial_mask_keeps_separators_and_the_last_four_digits() {
    for (text, expect) in [
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("4111-1111-1111-1111", "****-****-****-1111"),
        ("id:3782 822463 10005.", "id:**** ****** *0005."),
        ("٤١١١١١١١١١١١١١١١", "************١١١١"),
        ("4111%201111%201111%201234", "4111%201111%201111%201234"),
        ("4111%201111%201111%201111", "****%20****%20****%201111"),
    ] {
        let out = masked(Detector::PaymentCard, MaskAction::Partial, text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }
}

#[test]
fn overlapping_claims_are_hidden_together() {
    // Both 4242…4242 and what its visible end begins are cards.
    cards("4242424242424242 4242 4242 4242", &["4242424242424242 4242 4242 4242"]);
}

#[test]
fn a_number_may_stand_anywhere_between_blocks() {
    for before in 0..200 {
        for card in ["4111111111111111", "4111&nbsp;&nbsp;1111&nbsp;&nbsp;1111&nbsp;&nbsp;1111"] {
            let text = format!("{}{card}{}", "x".repeat(before), "y".repeat(100));
            cards(&text, &[card]);
        }
    }
}

#[test]
fn long_adversarial_input_is_scanned_to_its_end() {
    const BYTES: usize = 1 << 20;
    for unit in
        ["1 ", "1", "4 ", "4111 ", "41111111111111111111.", "a4111111111111111", "\\x", "4.4e+15", "４"]
    {
        let mut text = unit.repeat(BYTES / unit.len());
        text.push_str(" ; 4111111111111111");
        let found = found_by(Detector::PaymentCard, text.as_bytes());
        assert_eq!(found.last().map(|range| range.end), Some(text.len()), "after {unit:?}");
    }
}
