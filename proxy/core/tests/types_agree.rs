//! Values in binary format are printed as PostgreSQL itself prints them: `data/types.sql` says where the table is from.

use retrace_proxy_core::postgres::types::{Settings, print_binary};

/// Undoes the escapes of COPY's text format.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next().expect("an escape has two characters") {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'v' => '\u{b}',
                'f' => '\u{c}',
                'b' => '\u{8}',
                other => other,
            },
            other => other,
        });
    }
    text
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn every_value_of_the_table_prints_as_postgresql_prints_it() {
    let mut values = 0;
    let mut wrong = Vec::new();
    for line in include_str!("data/types.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [oid, bytes, date_style, interval_style, time_zone, printed] = fields[..] else {
            panic!("six columns: {line}");
        };
        let mut settings = Settings::default();
        settings.apply("DateStyle", date_style);
        settings.apply("IntervalStyle", interval_style);
        settings.apply("TimeZone", time_zone);
        let mut out = b"before".to_vec();
        let result = print_binary(oid.parse().expect("an OID"), &from_hex(bytes), &settings, &mut out);
        let expected = format!("before{}", unescape(printed));
        values += 1;
        if result.is_err() || out != expected.as_bytes() {
            wrong.push(format!("{line}\n  got {result:?} {}", String::from_utf8_lossy(&out)));
        }
    }
    assert!(wrong.is_empty(), "{} of {values}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(values >= 1_500, "{values} values");
}
