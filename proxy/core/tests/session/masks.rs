//! Promise P2: what is masked is masked in every way out.

use retrace_proto::wire::response_part::Part;
use retrace_proto::wire::{MaskKind, ResultRows};

use crate::harness::*;

const CARD: &str = "4111 1111 1111 1111";
const CARD_DIGITS: &str = "4111111111111111";

fn rows(bench: &Bench) -> Vec<ResultRows> {
    bench
        .completions()
        .iter()
        .flat_map(|completed| completed.parts.clone())
        .filter_map(|part| match part.part {
            Some(Part::Rows(rows)) => Some(rows),
            _ => None,
        })
        .collect()
}

/// One row through an extended query with this column; what the client gets, and the bench.
fn through(type_oid: u32, format: u16, value: &[u8]) -> (Vec<u8>, Bench) {
    let mut bench = Bench::open();
    let asked = [parse("", "select x", &[]), bind("", 0, &[], format), describe_portal(), execute(), sync()];
    bench.client(&asked.concat());
    let answer = [
        PARSED.to_vec(),
        BOUND.to_vec(),
        row_description(&[("x", type_oid, format)]),
        row(&[Some(value)]),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    bench.target(&answer.concat());
    (bench.take_client(), bench)
}

#[test]
fn a_card_in_a_row_is_masked_for_the_client_and_for_the_record() {
    let mut bench = Bench::open();
    bench.client(&query("select card from customers"));
    let answer = [
        row_description(&[("card", 25, 0)]),
        row(&[Some(CARD.as_bytes())]),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    bench.target(&answer.concat());
    let client = bench.take_client();
    assert!(contains(&client, b"**** **** **** 1111"));
    assert!(!contains(&client, b"4111"));
    assert!(!bench.recorded("4111"));
    let rows = rows(&bench);
    assert_eq!(rows[0].cells, "**** **** **** 1111");
    let mask = &rows[0].masks[0];
    assert_eq!((mask.kind(), mask.rule.as_str()), (MaskKind::PaymentCard, "pii"));
    assert_eq!((mask.start_inclusive, mask.end_exclusive), (0, 19));
    assert_eq!(bench.completions()[0].fingerprints.len(), 1);
}

#[test]
fn the_same_value_leaves_the_same_fingerprint_however_it_is_written() {
    let (_, spaced) = through(25, 0, CARD.as_bytes());
    let (_, plain) = through(25, 0, CARD_DIGITS.as_bytes());
    assert_eq!(spaced.completions()[0].fingerprints, plain.completions()[0].fingerprints);
}

#[test]
fn values_of_other_types_become_null_where_a_mask_cannot_stand() {
    let number = 4_111_111_111_111_111_i64;
    for (type_oid, format, value) in
        [(20, 0, CARD_DIGITS.as_bytes().to_vec()), (20, 1, number.to_be_bytes().to_vec())]
    {
        let (client, bench) = through(type_oid, format, &value);
        assert!(contains(&client, &row(&[None])), "format {format}");
        assert!(!contains(&client, &value), "format {format}");
        assert!(!bench.recorded("4111"));
        assert_eq!(rows(&bench)[0].cells, "************1111");
    }
}

#[test]
fn what_a_bytea_holds_is_looked_at_in_either_format() {
    let hex = "\\x63617264203431313120313131312031313131203131313121";
    for (format, value) in [(0, hex.as_bytes()), (1, &b"card 4111 1111 1111 1111!"[..])] {
        let (client, bench) = through(17, format, value);
        assert!(contains(&client, &row(&[None])), "format {format}");
        assert_eq!(rows(&bench)[0].cells, "[payment_card]");
        assert!(!bench.recorded("34313131"));
    }
}

#[test]
fn json_stays_json() {
    let (client, _) = through(114, 0, br#"{"a":4111111111111111,"b":"jane@example.com"}"#);
    assert!(contains(&client, br#"{"a":"************1111","b":"j***@example.com"}"#));
    let (client, _) = through(3802, 1, b"\x01[4111111111111111]");
    assert!(contains(&client, b"\x01[\"************1111\"]"));
}

#[test]
fn a_binary_value_that_cannot_be_read_is_hidden_on_a_target_with_masks() {
    let composite = [0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 8, 0, 0x0e, 0x9b, 0x01, 0x9c, 0x7f, 0xc1, 0xc7];
    let (client, bench) = through(16_500, 1, &composite);
    assert!(contains(&client, &row(&[None])));
    assert_eq!(rows(&bench)[0].cells, "[unreadable]");
    assert_eq!(rows(&bench)[0].masks[0].kind(), MaskKind::Unreadable);
}

#[test]
fn errors_notices_and_names_are_masked_like_rows() {
    let mut bench = Bench::open();
    bench.client(&query("select 1"));
    let notice = message(b'N', format!("SNOTICE\0VNOTICE\0C00000\0Msee {CARD}\0\0").as_bytes());
    let detail =
        format!("SERROR\0VERROR\0C23505\0Mduplicate\0DKey (email)=(jane.doe@example.com)\0t{CARD}\0\0");
    let named = row_description(&[(CARD, 25, 0)]);
    bench.target(&[notice, named, message(b'E', detail.as_bytes()), ready(b'I')].concat());
    let client = bench.take_client();
    assert_eq!(tags(&client), "NTEZ");
    for needle in ["4111", "jane.doe@"] {
        assert!(!contains(&client, needle.as_bytes()), "{needle}");
        assert!(!bench.recorded(needle), "{needle}");
    }
    assert_eq!(bench.completions()[0].sqlstate, "23505");
}

#[test]
fn literals_and_parameters_are_masked_in_the_record_and_sent_as_they_are() {
    let mut bench = Bench::open();
    let sql = format!("select '{CARD}', {CARD_DIGITS} -- jane.doe@example.com");
    bench.client(&query(&sql));
    assert_eq!(bench.take_target(), query(&sql));
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    let values: [Option<&[u8]>; 2] = [Some(CARD.as_bytes()), Some(b"jane.doe@example.com")];
    bench.client(
        &[parse("", "select $1, $2", &[25, 25]), bind("", 0, &values, 0), execute(), sync()].concat(),
    );
    assert!(contains(&bench.take_target(), CARD.as_bytes()));
    for needle in ["4111", "jane.doe@"] {
        assert!(!bench.recorded(needle), "{needle}");
    }
    let statement = &bench.commands()[0].statement.as_ref().unwrap().text;
    assert_eq!(statement, "select '**** **** **** 1111', ************1111 -- j***@example.com");
    assert_eq!(bench.commands()[1].parameters[1].value.as_deref(), Some("j***@example.com"));
}

#[test]
fn nothing_changes_on_a_target_without_masks() {
    let mut bench = Bench::opening(false);
    bench.settle();
    bench.take_client();
    bench.client(&query("select 1"));
    let composite = [0, 0, 0, 1, 255];
    let answer = [
        row_description(&[("card", 25, 0), ("c", 16_500, 1)]),
        row(&[Some(CARD.as_bytes()), Some(&composite)]),
        complete("SELECT 1"),
        ready(b'I'),
    ]
    .concat();
    bench.target(&answer);
    assert_eq!(bench.take_client(), answer);
    assert_eq!(rows(&bench)[0].cells, format!("{CARD}\\x00000001ff"));
}

#[test]
fn a_value_larger_than_an_event_is_recorded_whole() {
    let value = "abc ".repeat(100_000);
    let mut bench = Bench::open();
    bench.client(&query("select big"));
    let answer = [
        row_description(&[("n", 25, 0), ("x", 25, 0)]),
        row(&[None, Some(value.as_bytes())]),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    bench.target(&answer.concat());
    let mut cells = String::new();
    let mut joined = Vec::new();
    for recorded in &bench.log {
        let parts = match recorded.payload() {
            retrace_proto::wire::envelope::Payload::ResponseChunk(chunk) => &chunk.parts,
            retrace_proto::wire::envelope::Payload::CommandCompleted(completed) => &completed.parts,
            _ => continue,
        };
        for part in parts {
            if let Some(Part::Rows(rows)) = &part.part {
                joined.push(rows.continued);
                cells.push_str(&rows.cells);
            }
        }
    }
    assert!(cells == value, "every byte of it");
    assert_eq!(joined, [false, true, true]);
    assert!(bench.take_client() == answer.concat());
}

#[test]
fn masks_point_to_their_rows_in_a_part_that_begins_within_one() {
    let value = "abc ".repeat(100_000);
    let mut bench = Bench::open();
    bench.client(&query("select big"));
    let answer = [
        row_description(&[("x", 25, 0)]),
        row(&[Some(value.as_bytes())]),
        row(&[Some(CARD.as_bytes())]),
        complete("SELECT 2"),
        ready(b'I'),
    ];
    bench.target(&answer.concat());
    let last = rows(&bench).pop().unwrap();
    assert!(last.continued);
    assert_eq!((last.row_count, last.cell_bytes.len()), (1, 2));
    assert_eq!((last.masks[0].row, last.masks[0].column), (1, 0), "the second cell is of the second row");
}
