use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMicrosecondArray, Float64Array,
    Int64Array, ListArray, TimestampMicrosecondArray, UInt64Array,
};

use super::*;

fn cell(array: ArrayRef, is_binary: bool) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable([("a", array, true)]).unwrap();
    let columns = columns(&batch.schema(), &[u16::from(is_binary)]);
    let mut rows = Rows::new(&batch, &columns).unwrap();
    let mut out = BytesMut::new();
    assert!(rows.put_next(&mut out));
    assert!(!rows.put_next(&mut out), "there is one row");
    assert_eq!(out[..7], [b'D', 0, 0, 0, u8::try_from(out.len() - 1).unwrap(), 0, 1]);
    out[7..].to_vec()
}

fn text(array: impl Array + 'static) -> String {
    let cell = cell(Arc::new(array), false);
    assert_eq!(u32::from_be_bytes(cell[..4].try_into().unwrap()) as usize, cell.len() - 4);
    String::from_utf8(cell[4..].to_vec()).unwrap()
}

fn binary(array: impl Array + 'static) -> Vec<u8> {
    cell(Arc::new(array), true)[4..].to_vec()
}

#[test]
fn cells_look_as_postgresql_prints_them() {
    assert_eq!(text(Int64Array::from(vec![-7])), "-7");
    assert_eq!(text(BooleanArray::from(vec![true])), "t");
    assert_eq!(text(BinaryArray::from_vec(vec![b"\x00\xff"])), "\\x00ff");
    assert_eq!(text(UInt64Array::from(vec![u64::MAX])), "18446744073709551615");
    assert_eq!(text(Date32Array::from(vec![10_958])), "2000-01-02");
    let at = TimestampMicrosecondArray::from(vec![946_684_801_500_000]);
    assert_eq!(text(at.clone()), "2000-01-01 00:00:01.5");
    assert_eq!(text(at.with_timezone("UTC")), "2000-01-01 00:00:01.5+00");
    assert_eq!(text(DurationMicrosecondArray::from(vec![-3_661_000_000])), "-01:01:01");
    for (value, expected) in
        [(1.5, "1.5"), (1.0, "1"), (1e300, "1e300"), (f64::NAN, "NaN"), (f64::NEG_INFINITY, "-Infinity")]
    {
        assert_eq!(text(Float64Array::from(vec![value])), expected);
    }
    assert_eq!(text(StringArray::from(vec!["a\0b"])), "ab", "a zero ends a text for clients");
    assert_eq!(cell(Arc::new(StringArray::new_null(1)), false), [255; 4]);
}

#[test]
fn binary_cells_are_as_drivers_read_them() {
    assert_eq!(binary(Int64Array::from(vec![7])), [0, 0, 0, 0, 0, 0, 0, 7]);
    let at = TimestampMicrosecondArray::from(vec![946_684_801_000_000]).with_timezone("UTC");
    assert_eq!(binary(at), 1_000_000_i64.to_be_bytes());
    assert_eq!(binary(Date32Array::from(vec![10_956])), (-1_i32).to_be_bytes());
    let numeric =
        |value: i128, scale| Decimal128Array::from(vec![value]).with_precision_and_scale(20, scale).unwrap();
    assert_eq!(binary(numeric(1_234_560, 2)), b"\0\x03\0\x01\0\0\0\x02\0\x01\x09\x29\x17\x70");
    assert_eq!(binary(numeric(-5, 2)), b"\0\x01\xff\xff\x40\0\0\x02\x01\xf4");
    assert_eq!(binary(numeric(0, 0)), b"\0\0\0\0\0\0\0\0");
    assert_eq!(binary(numeric(100_000_000, 0)), b"\0\x01\0\x02\0\0\0\0\0\x01");
}

#[test]
fn lists_of_texts_and_numbers_are_arrays() {
    let numbers = || ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
    assert_eq!(text(numbers()), "{1,NULL}");
    let mut expected = b"\0\0\0\x01\0\0\0\x01\0\0\0\x14\0\0\0\x02\0\0\0\x01".to_vec();
    expected.extend(b"\0\0\0\x08\0\0\0\0\0\0\0\x01\xff\xff\xff\xff");
    assert_eq!(binary(numbers()), expected);
    let mut texts = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    texts.values().append_value("a\"b,c");
    texts.append(true);
    assert_eq!(text(texts.finish()), "{\"a\\\"b,c\"}");
}
