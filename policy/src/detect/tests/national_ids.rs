use super::*;

#[track_caller]
fn ids(text: &str, expect: &[&str]) {
    check(Detector::NationalId, text, expect);
}

/// Published examples and made-up numbers with right checks.
const BARE: [&str; 17] = [
    "86095742719",        // Germany
    "47036892816",        // Germany
    "255081416802538",    // France
    "12345678Z",          // Spain
    "X1234567L",          // Spain
    "RSSMRA85T10A562S",   // Italy
    "RSSMRA85T10A56NH",   // Italy, a digit as a letter
    "85073003328",        // Belgium
    "44051401359",        // Poland
    "8112189876",         // Sweden
    "198112189876",       // Sweden
    "131052-308T",        // Finland
    "010102A000Y",        // Finland
    "01010750160",        // Norway
    "11144477735",        // Brazil
    "11010519491231002X", // China
    "440524188001010014", // China
];
const WRITTEN: [&str; 11] = [
    "86 095 742 719",
    "2 55 08 14 168 025 38",
    "12345678-Z",
    "X-1234567-L",
    "85.07.30-033.28",
    "811218-9876",
    "19811218-9876",
    "010107 50160",
    "111.444.777-35",
    "943 476 5919",
    "2341 2341 2346",
];

#[test]
fn numbers_with_a_right_check_are_found() {
    for id in BARE.into_iter().chain(WRITTEN) {
        ids(id, &[id]);
        for (before, after) in
            [("id=", "&x"), ("\"", "\""), ("%3D", " "), ("\\n", "\\n"), ("(", ","), ("_", ".")]
        {
            ids(&format!("{before}{id}{after}"), &[id]);
        }
    }
}

#[test]
fn a_letter_or_digit_beside_it_or_a_longer_number_protects_it() {
    for id in BARE {
        ids(&format!("q{id}"), &[]);
        ids(&format!("{id}q"), &[]);
        ids(&format!("9{id}"), &[]);
    }
    ids("n=%2011144477735", &["11144477735"]);
    ids("2341 2341 2346 1111", &["2341 2341 2346"]);
    ids("2341-2341-2346-1111", &[]);
    ids("0.44051401359", &[]);
    ids("44051401359.5", &[]);
}

#[test]
fn weak_checks_ask_for_a_word_or_separators() {
    ids("111222333", &[]);
    ids("bsn 111222333", &["111222333"]);
    ids("1112.22.333", &["1112.22.333"]);
    ids("9434765919", &[]);
    ids("NHS number: 9434765919", &["9434765919"]);
    ids("234123412346", &[]);
    ids("aadhaar=234123412346", &["234123412346"]);
}

#[test]
fn a_wrong_check_is_left_alone() {
    for id in BARE {
        let Some(last) = id.chars().last() else { continue };
        let other = match last {
            '9' => '7',
            'X' => '0',
            digit @ '0'..='8' => char::from(digit as u8 + 1),
            'Z' => 'Y',
            letter => char::from(letter as u8 + 1),
        };
        ids(&format!("{}{other}", &id[..id.len() - 1]), &[]);
    }
}

#[test]
fn separators_and_case_do_not_change_the_value() {
    for (a, b) in [
        ("86 095 742 719", "86095742719"),
        ("12345678-z", "12345678Z"),
        ("85.07.30-033.28", "85073003328"),
        ("19811218-9876", "811218-9876"),
        ("198112189876", "8112189876"),
        ("111.444.777-35", "11144477735"),
    ] {
        assert_eq!(
            canonical(Detector::NationalId, a.as_bytes()),
            canonical(Detector::NationalId, b.as_bytes())
        );
    }
    let out = masked(Detector::NationalId, MaskAction::Partial, b"n 111.444.777-35 RSSMRA85T10A562S");
    assert_eq!(String::from_utf8_lossy(&out), "n ***.***.***-35 **************2S");
}

/// Pseudo-random digits (Knuth's MMIX generator).
fn digits(state: &mut u64, len: usize) -> String {
    (0..len)
        .map(|_| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + u8::try_from((*state >> 33) % 10).expect("a digit"))
        })
        .collect()
}

#[test]
fn of_random_digits_as_few_are_taken_as_the_documentation_says() {
    const TRIES: usize = 20_000;
    let mut state = 3;
    for len in 6..=19 {
        let per_mille_max = match len {
            11 => 30,
            10 => 15,
            _ => 2,
        };
        let taken = (0..TRIES)
            .filter(|_| !found_by(Detector::NationalId, digits(&mut state, len).as_bytes()).is_empty())
            .count();
        assert!(taken <= per_mille_max * TRIES / 1000, "{taken} of {TRIES} with {len} digits");
        if len == 11 {
            assert!(taken > 0, "some are");
        }
    }
}
