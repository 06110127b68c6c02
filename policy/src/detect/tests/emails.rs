use super::*;

#[track_caller]
fn emails(text: &str, expect: &[&str]) {
    check(Detector::Email, text, expect);
}

#[track_caller]
fn whole(address: &str) {
    emails(address, &[address]);
    emails(&format!("write to {address}, please"), &[address]);
    emails(&format!("<{address}>"), &[address]);
    emails(&format!("mailto:{address}?subject=x"), &[address]);
    emails(&format!("{{{address},{address}}}"), &[address, address]);
    emails(&format!("('{address}')"), &[address]);
    emails(&format!(r#"{{"e":"{address}"}}"#), &[address]);
    emails(&format!("email={address}&x=y"), &[address]);
    emails(&format!("{address}."), &[address]);
}

#[test]
fn addresses_in_use_are_found_whole() {
    for address in [
        "a@b.co",
        "john@example.com",
        "john.q.public+tag@mail.example.co.uk",
        "o'brien@example.ie",
        "user_name-1@sub-domain.example.org",
        "x!y#z@example.com",
        "JOHN@EXAMPLE.COM",
        "jörg@müller.de",
        "иван@почта.рф",
        "user@xn--mller-kva.de",
        "user@example.xn--p1ai",
        "用户@例子.中国",
        "user@example.中国",
        "root@[192.0.2.1]",
        "root@[IPv6:2001:db8::1]",
        "bounce+john=example.com@lists.org",
        "a@my_host.example.com",
        "john＠example.com",
    ] {
        whole(address);
    }
}

#[test]
fn an_at_sign_in_another_notation_is_one() {
    emails("email%3Djohn%40example.com%26", &["john%40example.com"]);
    emails("a%2Bb%40example.com", &["a%2Bb%40example.com"]);
    emails(r#""john\u0040example.com""#, &[r"john\u0040example.com"]);
    emails("john&#64;example.com john&#x40;example.com", &["john&#64;example.com", "john&#x40;example.com"]);
    emails("john&commat;example.com", &["john&commat;example.com"]);
    for written in
        ["John%40example.com", r"john\u0040Example.com", "john&#64;example.com", "john＠example.com"]
    {
        assert_eq!(canonical(Detector::Email, written.as_bytes()), b"john@example.com");
    }
}

#[test]
fn escapes_beside_an_address_are_not_part_of_it() {
    emails(r"x\njohn@example.com\n", &["john@example.com"]);
    emails(r"\u003cjohn@example.com\u003e", &["john@example.com"]);
    emails("&lt;john@example.com&gt;", &["john@example.com"]);
    emails(r"j\u00f6rg@m\u00fcller.de", &[r"j\u00f6rg@m\u00fcller.de"]);
    assert_eq!(canonical(Detector::Email, br"J\u00d6rg@m\u00fcller.de"), "jörg@müller.de".as_bytes());
    emails("请联系john@example.com谢谢", &["john@example.com"]);
    emails("«john@example.com»", &["john@example.com"]);
    assert_eq!(found_by(Detector::Email, b"\xab j\xf6rg@m\xfcller.de \xbb").first(), Some(&(2..16)));
}

#[test]
fn quoted_local_parts_are_found_with_their_quotes() {
    emails(r#"x "john smith"@example.com"#, &[r#""john smith"@example.com"#]);
    emails(r#"{"e":"\"john smith\"@example.com"}"#, &[r#"\"john smith\"@example.com"#]);
    emails(r#"{"handle":"@example.com"}"#, &[]);
    emails(r#"["a","@example.com"]"#, &[]);
    assert_eq!(canonical(Detector::Email, br#""John Smith"@example.com"#), b"john smith@example.com");
}

#[test]
fn what_is_no_address_is_left_alone() {
    for text in [
        "",
        "@",
        "a@b",
        "@example.com",
        "a@",
        "a@.com",
        "a@b.c",
        "lodash@4.17.21",
        "root@10.0.0.1",
        "a @ example.com",
        "user@host",
        "a@-b.com",
        "[email]",
        "50%40",
        "100 % @ 3.5",
        "a@b..com",
        "***@example.com",
        "j***@example.com",
    ] {
        emails(text, &[]);
    }
    emails("john***@example.com", &["john***@example.com"]);
}

#[test]
fn a_partial_mask_keeps_one_character_and_the_domain() {
    for (text, expect) in [
        ("john@example.com", "j***@example.com"),
        ("a@example.com", "***@example.com"),
        ("ab@example.com", "a***@example.com"),
        ("jörg@müller.de", "j***@müller.de"),
        ("özil@example.com", "ö***@example.com"),
        (r#""john smith"@example.com"#, "j***@example.com"),
        (r"\u00f6zil@example.com", "***@example.com"),
        ("john%40example.com", "j***%40example.com"),
        ("a@b.com@c.com", "a***@c.com"),
        ("x=john@example.com;y", "x=j***@example.com;y"),
    ] {
        let out = masked(Detector::Email, MaskAction::Partial, text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), expect);
        assert!(found_by(Detector::Email, &out).is_empty(), "in {expect}");
    }
}

#[test]
fn long_adversarial_input_is_scanned_to_its_end() {
    const BYTES: usize = 1 << 20;
    for unit in
        ["a@", "a", "@", "a.", "a@b.c", "%40", "\\u0040", "\"", "\"@", "a@a.com@", "é", "例@", "&#64;a"]
    {
        let mut text = unit.repeat(BYTES / unit.len());
        text.push_str(" ; john@example.com");
        let found = found_by(Detector::Email, text.as_bytes());
        assert_eq!(found.last().map(|range| range.end), Some(text.len()), "after {unit:?}");
    }
}
