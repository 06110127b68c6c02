//! Binary values printed, for every type, whatever their bytes are.

use retrace_proxy_core::postgres::types::{Settings, TypeClass, class, print_binary, printed_bytes_max};

/// Settings that change how values print.
const SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "SQL, DMY"),
    ("DateStyle", "Postgres, MDY"),
    ("DateStyle", "German, DMY"),
    ("IntervalStyle", "postgres_verbose"),
    ("IntervalStyle", "sql_standard"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Europe/Lisbon"),
    ("TimeZone", "<-03:30>+03:30"),
];

/// The first four bytes name a type, the fifth the settings; the rest is a value, or a setting's text.
pub fn run(input: &[u8]) {
    let Some((&[a, b, c, d, chosen], value)) = input.split_first_chunk::<5>() else {
        return;
    };
    // Types that are built in have small numbers: most inputs should be one of them.
    let type_oid =
        if a < 128 { u32::from_be_bytes([0, 0, c, d]) % 8192 } else { u32::from_be_bytes([a, b, c, d]) };
    let mut settings = Settings::default();
    for (index, (name, setting)) in SETTINGS.iter().enumerate() {
        if chosen & (1 << index) != 0 {
            settings.apply(name, setting);
        }
    }
    if b == 0xff {
        let text = String::from_utf8_lossy(value);
        ["DateStyle", "IntervalStyle", "TimeZone"].iter().for_each(|name| settings.apply(name, &text));
    }
    let mut out = b"before".to_vec();
    match print_binary(type_oid, value, &settings, &mut out) {
        Ok(()) => check(type_oid, value, &out[6..]),
        Err(_) => assert_eq!(out, b"before", "what failed left something"),
    }
    assert!(out.starts_with(b"before"), "what stood before is gone");
}

fn check(type_oid: u32, value: &[u8], printed: &[u8]) {
    // A numeric of a few bytes can print as 131,072 digits before the point and 16,383 behind it, in each element.
    let most = printed_bytes_max(value.len()).max((value.len() / 8 + 1) * 160_000);
    assert!(printed.len() <= most, "{} bytes printed as {}", value.len(), printed.len());
    // Text is in the client's encoding and passed on as it is; all else is written here, in ASCII.
    let may_hold_text = class(type_oid) != TypeClass::Other || is_text_in_disguise(type_oid);
    assert!(may_hold_text || printed.is_ascii(), "a type of ASCII printed something else");
}

/// Arrays, whose elements may be texts, and `"char"`, which is any byte.
fn is_text_in_disguise(type_oid: u32) -> bool {
    let mut out = Vec::new();
    let empty_array = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23];
    type_oid == 18
        || print_binary(type_oid, &empty_array, &Settings::default(), &mut out).is_ok() && out == b"{}"
}
