use super::*;

/// Examples of the registry, in print.
const EXAMPLES: [&str; 18] = [
    "DE89 3704 0044 0532 0130 00",
    "GB29 NWBK 6016 1331 9268 19",
    "FR14 2004 1010 0505 0001 3M02 606",
    "ES91 2100 0418 4502 0005 1332",
    "IT60 X054 2811 1010 0000 0123 456",
    "NL91 ABNA 0417 1643 00",
    "BE68 5390 0754 7034",
    "CH93 0076 2011 6238 5295 7",
    "AT61 1904 3002 3457 3201",
    "SE45 5000 0000 0583 9825 7466",
    "NO93 8601 1117 947",
    "PL61 1090 1014 0000 0712 1981 2874",
    "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    "SA03 8000 0000 6080 1016 7519",
    "BR18 0036 0305 0000 1000 9795 493C 1",
    "TR33 0006 1005 1978 6457 8413 26",
    "IE29 AIBK 9311 5212 3456 78",
    "LC55 HEMM 0001 0001 0012 0012 0002 3015",
];

#[track_caller]
fn numbers(text: &str, expect: &[&str]) {
    check(Detector::Iban, text, expect);
}

#[test]
fn the_examples_of_the_registry_are_found_in_print_and_in_one_run() {
    for printed in EXAMPLES {
        let electronic = printed.replace(' ', "");
        for written in [
            printed.to_owned(),
            electronic.clone(),
            electronic.to_lowercase(),
            printed.replace(' ', "-"),
            printed.replace(' ', "\u{a0}"),
            printed.replace(' ', "%20"),
        ] {
            numbers(&written, &[&written]);
            numbers(&format!("IBAN:{written}; x"), &[&written]);
            numbers(&format!("iban=%20{written}"), &[&written]);
            numbers(&format!("(1,{written},2)"), &[&written]);
            assert_eq!(canonical(Detector::Iban, written.as_bytes()), electronic.as_bytes());
        }
    }
}

#[test]
fn a_wrong_check_length_or_country_is_left_alone() {
    for text in [
        "DE88370400440532013000",
        "DE8937040044053201300",
        "DE893704004405320130000",
        "XX89370400440532013000",
        "DE89 37040044 0532 0130 00",
        "xDE89370400440532013000",
        "DE89370400440532013000x",
        "DEAB370400440532013000",
        "DE89",
        "",
        "at 10 people and some more came",
        "89370400440532013000",
    ] {
        numbers(text, &[]);
    }
}

#[test]
fn a_changed_digit_is_noticed() {
    let number = EXAMPLES[0].replace(' ', "");
    for at in 2..number.len() {
        for other in b'0'..=b'9' {
            let mut changed = number.clone().into_bytes();
            if changed[at] != other {
                changed[at] = other;
                assert!(found_by(Detector::Iban, &changed).is_empty());
            }
        }
    }
}

#[test]
fn country_and_four_characters_stay() {
    let out = masked(Detector::Iban, MaskAction::Partial, EXAMPLES[0].as_bytes());
    assert_eq!(String::from_utf8_lossy(&out), "DE** **** **** **** **30 00");
}
