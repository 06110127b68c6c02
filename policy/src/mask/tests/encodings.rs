use super::*;

/// Base64 with padding (RFC 4648), 76 characters to a line.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for (index, chunk) in bytes.chunks(3).enumerate() {
        if index > 0 && index % 19 == 0 {
            out.push('\n');
        }
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]);
            out.push(if place > chunk.len() { '=' } else { letter });
        }
    }
    out
}

fn partial(text: &str) -> String {
    every(MaskAction::Partial).mask_string(text).into_inner()
}

#[test]
fn values_in_base64_are_hidden_with_all_of_it() {
    for value in ["mail to john@example.com, please", "123-45-6789 is the number", "x 4111 1111 1111 1111"] {
        let encoded = base64(value.as_bytes());
        let kind = Detectors::new(Detector::ALL);
        let mut found = Vec::new();
        kind.find(value.as_bytes(), &mut found);
        let redacted = format!("[{}]", found[0].detector);
        for (before, after) in
            [("", ""), ("\"", "\""), ("Basic ", "\n"), ("data:text/plain;base64,", ")"), ("k=", "")]
        {
            assert_eq!(partial(&format!("{before}{encoded}{after}")), format!("{before}{redacted}{after}"));
        }
        let url_safe = encoded.replace('+', "-").replace('/', "_").replace('=', "");
        assert_eq!(partial(&url_safe), redacted);
    }
}

#[test]
fn base64_over_several_lines_is_one_value() {
    let value = format!("{} john@example.com {}", "x ".repeat(24), "y ".repeat(200));
    let encoded = base64(value.as_bytes());
    assert!(encoded.lines().count() > 3);
    assert_eq!(partial(&encoded), "[email]");
    assert_eq!(partial(&encoded.replace('\n', "\r\n")), "[email]");
    assert_eq!(partial(&encoded.replace('\n', "\\n")), "[email]");
}

#[test]
fn long_words_paths_digests_and_base64_of_other_things_are_left_alone() {
    for text in [
        "internationalization-of-applications",
        "/usr/share/locale/de/LC_MESSAGES/coreutils",
        "d41d8cd98f00b204e9800998ecf8427e",
        "ajs9UY3kq+Zb0v5nD/pA7w1LhKc2mXeT",
        "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
        &base64(b"nothing to be seen in this text"),
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(partial(text), text);
    }
}

#[test]
fn runs_are_walked_once_whatever_they_are() {
    for unit in
        ["a", "aaaaaaaaaaaaaaaa\n", "QUJDREVGR0hJSktM", "a-b/", "QUJDREVGR0hJSktM=", "aaaaaaaaaaaaaaa "]
    {
        let text = unit.repeat((1 << 18) / unit.len());
        let total: usize =
            base64::runs(text.as_bytes()).map(|(range, decoded)| range.len().max(decoded.len())).sum();
        assert!(total <= text.len());
    }
}

#[test]
fn the_share_of_random_runs_that_are_taken_for_text_is_small() {
    let mut state = 5_u64;
    let mut random = |len: usize| -> String {
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(
                    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                        [(state >> 58) as usize],
                )
            })
            .collect()
    };
    let taken = (0..20_000).filter(|_| base64::runs(random(24).as_bytes()).next().is_some()).count();
    assert!(taken <= 10, "{taken} of 20,000");
}

#[test]
fn digits_and_letters_written_as_escapes_are_read() {
    let masked = |text: &str| partial(text);
    assert_eq!(masked(r#"{"c":"\u0034111 1111 1111 1111"}"#), r#"{"c":"[payment_card]"}"#);
    let escaped: String =
        "4111111111111111".chars().map(|digit| format!("\\u{:04x}", u32::from(digit))).collect();
    assert_eq!(masked(&format!("x {escaped} y")), "x [payment_card] y");
    assert_eq!(masked(r#""\u0041KIAIOSFODNN7EXAMPLE""#), r#""[api_key]""#);
    assert_eq!(
        masked(r#""https:\/\/hooks.slack.com\/services\/T00000000\/B00000000\/XXXXXXXXXXXXXXXXXXXXXXXX""#),
        r#""https:\/\/[api_key]""#
    );
    assert_eq!(masked(r"\\u0034111111111111111"), r"\\u0034111111111111111");
    assert_eq!(masked(r"john\u0040example.com"), r"j***\u0040example.com");
    assert_eq!(masked(r"\/ j@example.com and jo@example.com"), r"\/ ***@example.com and j***@example.com");
}

#[test]
fn what_escapes_hide_has_the_fingerprint_of_the_value() {
    let key = FingerprintKey::new(b"key");
    let masker = every(MaskAction::Token);
    let plain = masker.mask_string("4111111111111111").into_inner();
    assert_eq!(masker.mask_string(r"\u0034111111111111111").into_inner(), plain);
    let mut masks = MaskList::default();
    masks.begin_value(1);
    let mut out = Vec::new();
    masker.mask_into(
        br"\u0034111111111111111",
        Sink { place: Place::default(), out: &mut out, masks: &mut masks },
    );
    assert_eq!(masks.fingerprints.order, [key.fingerprint(Detector::PaymentCard, b"4111111111111111")]);
}

#[test]
fn a_hit_over_the_end_of_a_json_string_leaves_json() {
    let masker = every(MaskAction::Redact);
    let json = |text: &str| {
        let mut out = Vec::new();
        let mut masks = MaskList::default();
        let sink = Sink { place: Place::default(), out: &mut out, masks: &mut masks };
        if masker.mask_said_into(text.as_bytes(), ColumnText::Json, sink) {
            String::from_utf8(out).expect("UTF-8")
        } else {
            text.to_owned()
        }
    };
    let begin = "-----BEGIN PRIVATE KEY-----";
    assert_eq!(
        json(&format!(r#"{{"k":"{begin}\nMIIE","n":1,"s":"x"}}"#)),
        r#"{"k":"[private_key]","[private_key]":"[private_key]","[private_key]":"[private_key]"}"#
    );
    assert_eq!(
        json(&format!(r#"["{begin}", "MIIE", "", "-----END PRIVATE KEY-----", "x"]"#)),
        r#"["[private_key]", "[private_key]", "", "[private_key]", "x"]"#
    );
    assert_eq!(json(r#"{"e":"\"john smith\"@example.com"}"#), r#"{"e":"[email]"}"#);
    assert_eq!(json(r#"{"a":4111111111111111}"#), r#"{"a":"[payment_card]"}"#);
}
