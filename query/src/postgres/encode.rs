//! Rows of the engine as DataRow messages, in text and in binary.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::temporal_conversions::{date32_to_datetime, time64us_to_time, timestamp_us_to_datetime};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};

use super::message::{put, put_text};
use super::types::Wire;

/// PostgreSQL counts from the year 2000.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = 946_684_800_000_000;

/// What a column is like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) wire: Wire,
    pub(super) is_binary: bool,
}

/// The columns of a schema in the formats that a client asks for: none is text, one is for all.
pub(super) fn columns(schema: &SchemaRef, formats: &[u16]) -> Vec<Column> {
    let is_binary = |index: usize| {
        let format = if formats.len() == 1 { formats.first() } else { formats.get(index) };
        format == Some(&1)
    };
    let fields = schema.fields().iter().enumerate();
    fields
        .map(|(index, field)| Column { wire: Wire::of(field.data_type()), is_binary: is_binary(index) })
        .collect()
}

/// RowDescription.
pub(super) fn put_description(out: &mut BytesMut, schema: &SchemaRef, columns: &[Column]) {
    put(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (field, column) in schema.fields().iter().zip(columns) {
            put_text(out, field.name());
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column.wire.oid());
            out.put_i16(column.wire.size());
            out.put_i32(-1);
            out.put_u16(u16::from(column.is_binary));
        }
    });
}

/// The rows of one batch, each column brought to the type it goes out as.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<(Column, ArrayRef)>,
    rows: usize,
    next: usize,
}

impl Rows {
    pub(super) fn new(batch: &RecordBatch, columns: &[Column]) -> Result<Self, ArrowError> {
        let brought = columns.iter().zip(batch.columns());
        let brought = brought.map(|(column, array)| Ok((*column, bring(array, column.wire)?)));
        Ok(Self { columns: brought.collect::<Result<_, ArrowError>>()?, rows: batch.num_rows(), next: 0 })
    }

    /// Appends the next row; `false` after the last one.
    pub(super) fn put_next(&mut self, out: &mut BytesMut) -> bool {
        if self.next == self.rows {
            return false;
        }
        let row = self.next;
        self.next += 1;
        put(out, b'D', |out| {
            out.put_u16(u16::try_from(self.columns.len()).unwrap_or(u16::MAX));
            for (column, array) in &self.columns {
                put_cell(out, *column, array, row);
            }
        });
        true
    }
}

fn bring(array: &ArrayRef, wire: Wire) -> Result<ArrayRef, ArrowError> {
    let wanted = wire.data_type();
    if let DataType::Duration(_) = array.data_type() {
        return bring(&interval_of(array)?, wire);
    }
    if can_cast_types(array.data_type(), &wanted) {
        return cast(array, &wanted);
    }
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
    let text = |row| array.is_valid(row).then(|| formatter.value(row).to_string());
    Ok(std::sync::Arc::new((0..array.len()).map(text).collect::<StringArray>()))
}

fn interval_of(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let exact = cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
    let us = cast(&exact, &DataType::Int64)?;
    let interval = |us: i64| IntervalMonthDayNano::new(0, 0, us.saturating_mul(1_000));
    let intervals = us.as_primitive::<Int64Type>().unary::<_, IntervalMonthDayNanoType>(interval);
    Ok(std::sync::Arc::new(intervals))
}

fn put_cell(out: &mut BytesMut, column: Column, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        return out.put_i32(-1);
    }
    let begin = out.len();
    out.put_u32(0);
    if column.is_binary {
        put_binary(out, column.wire, array, row);
    } else {
        put_as_text(out, column.wire, array, row);
    }
    let length = u32::try_from(out.len() - begin - 4).expect("a cell is far smaller than 4 GiB");
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_binary(out: &mut BytesMut, wire: Wire, array: &ArrayRef, row: usize) {
    match wire {
        Wire::Bool => out.put_u8(array.as_boolean().value(row).into()),
        Wire::Bytea => out.put_slice(array.as_binary::<i32>().value(row)),
        Wire::Int8 => out.put_i64(array.as_primitive::<Int64Type>().value(row)),
        Wire::Int2 => out.put_i16(array.as_primitive::<Int16Type>().value(row)),
        Wire::Int4 => out.put_i32(array.as_primitive::<Int32Type>().value(row)),
        Wire::Text => out.put_slice(array.as_string::<i32>().value(row).as_bytes()),
        Wire::Float4 => out.put_f32(array.as_primitive::<Float32Type>().value(row)),
        Wire::Float8 => out.put_f64(array.as_primitive::<Float64Type>().value(row)),
        Wire::Date => {
            out.put_i32(array.as_primitive::<Date32Type>().value(row).saturating_sub(EPOCH_DAYS));
        }
        Wire::Time => out.put_i64(array.as_primitive::<Time64MicrosecondType>().value(row)),
        Wire::Timestamp | Wire::Timestamptz => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            out.put_i64(us.saturating_sub(EPOCH_US));
        }
        Wire::Interval => {
            let interval = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            out.put_i64(interval.nanoseconds / 1_000);
            out.put_i32(interval.days);
            out.put_i32(interval.months);
        }
        Wire::Numeric => put_numeric(out, array.as_string::<i32>().value(row)),
        Wire::TextArray | Wire::Int8Array => {
            let element = wire.element().expect("an array has elements");
            let values = array.as_list::<i32>().value(row);
            out.put_u32(u32::from(!values.is_empty()));
            out.put_u32(u32::from(values.null_count() > 0));
            out.put_u32(element.oid());
            if !values.is_empty() {
                out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
                out.put_u32(1);
            }
            let column = Column { wire: element, is_binary: true };
            (0..values.len()).for_each(|index| put_cell(out, column, &values, index));
        }
    }
}

/// A number in base 10,000: digits, weight of the first, sign, and digits after the point.
fn put_numeric(out: &mut BytesMut, text: &str) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    let lead = whole.len().next_multiple_of(4) - whole.len();
    let trail = fraction.len().next_multiple_of(4) - fraction.len();
    let decimal = format!("{}{whole}{fraction}{}", "0".repeat(lead), "0".repeat(trail));
    let groups = decimal.as_bytes().chunks(4).map(|four| {
        four.iter().fold(0_u16, |number, digit| number * 10 + u16::from(digit.saturating_sub(b'0')))
    });
    let mut digits: Vec<u16> = groups.collect();
    let mut weight = i16::try_from(whole.len().div_ceil(4)).unwrap_or(i16::MAX) - 1;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..zeros);
    weight -= i16::try_from(zeros).unwrap_or(0);
    out.put_u16(u16::try_from(digits.len()).unwrap_or(u16::MAX));
    out.put_i16(if digits.is_empty() { 0 } else { weight });
    out.put_u16(if negative && !digits.is_empty() { 0x4000 } else { 0 });
    out.put_u16(u16::try_from(fraction.len()).unwrap_or(u16::MAX));
    digits.into_iter().for_each(|digit| out.put_u16(digit));
}

fn put_as_text(out: &mut BytesMut, wire: Wire, array: &ArrayRef, row: usize) {
    match wire {
        Wire::Bool => out.put_u8(if array.as_boolean().value(row) { b't' } else { b'f' }),
        Wire::Bytea => {
            out.put_slice(b"\\x");
            array
                .as_binary::<i32>()
                .value(row)
                .iter()
                .for_each(|byte| print(out, format_args!("{byte:02x}")));
        }
        Wire::Int8 => print(out, format_args!("{}", array.as_primitive::<Int64Type>().value(row))),
        Wire::Int2 => print(out, format_args!("{}", array.as_primitive::<Int16Type>().value(row))),
        Wire::Int4 => print(out, format_args!("{}", array.as_primitive::<Int32Type>().value(row))),
        Wire::Text | Wire::Numeric => put_without_zeros(out, array.as_string::<i32>().value(row)),
        Wire::Float4 => put_float(out, array.as_primitive::<Float32Type>().value(row)),
        Wire::Float8 => put_float(out, array.as_primitive::<Float64Type>().value(row)),
        Wire::Date => {
            let date = date32_to_datetime(array.as_primitive::<Date32Type>().value(row));
            print_or(out, date.map(|date| date.date()));
        }
        Wire::Time => {
            print_or(out, time64us_to_time(array.as_primitive::<Time64MicrosecondType>().value(row)));
        }
        Wire::Timestamp | Wire::Timestamptz => {
            print_or(
                out,
                timestamp_us_to_datetime(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            );
            if wire == Wire::Timestamptz {
                out.put_slice(b"+00");
            }
        }
        Wire::Interval => put_interval(out, array.as_primitive::<IntervalMonthDayNanoType>().value(row)),
        Wire::TextArray | Wire::Int8Array => put_array(out, wire, &array.as_list::<i32>().value(row)),
    }
}

/// A text cannot hold a zero in PostgreSQL, and clients end at one.
fn put_without_zeros(out: &mut BytesMut, text: &str) {
    if text.contains('\0') {
        out.put_slice(text.replace('\0', "").as_bytes())
    } else {
        out.put_slice(text.as_bytes())
    }
}

fn print(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("the buffer grows");
}

/// A point in time without the zeros at the end of its fraction.
fn print_or(out: &mut BytesMut, time: Option<impl std::fmt::Display>) {
    let Some(time) = time else { return out.put_slice(b"infinity") };
    let text = time.to_string();
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    out.put_slice(short.as_bytes());
}

fn put_float(out: &mut BytesMut, value: impl Into<f64> + std::fmt::Display + std::fmt::LowerExp + Copy) {
    let wide: f64 = value.into();
    let is_plain = wide == 0.0 || (1e-5..1e15).contains(&wide.abs());
    match () {
        () if wide.is_nan() => out.put_slice(b"NaN"),
        () if wide.is_infinite() => out.put_slice(if wide > 0.0 { b"Infinity" } else { b"-Infinity" }),
        () if is_plain => print(out, format_args!("{value}")),
        () => print(out, format_args!("{value:e}")),
    }
}

fn put_interval(out: &mut BytesMut, interval: IntervalMonthDayNano) {
    let (years, months) = (interval.months / 12, interval.months % 12);
    for (count, unit) in [(years, "year"), (months, "mon"), (interval.days, "day")] {
        if count != 0 {
            print(out, format_args!("{count} {unit}{} ", if count == 1 { "" } else { "s" }));
        }
    }
    let us = interval.nanoseconds.unsigned_abs() / 1_000;
    let sign = if interval.nanoseconds < 0 { "-" } else { "" };
    let (s, us) = (us / 1_000_000, us % 1_000_000);
    let fraction = format!(".{us:06}");
    let fraction = if us == 0 { "" } else { fraction.trim_end_matches('0') };
    print(out, format_args!("{sign}{:02}:{:02}:{:02}{fraction}", s / 3_600, s / 60 % 60, s % 60));
}

fn put_array(out: &mut BytesMut, wire: Wire, values: &ArrayRef) {
    out.put_u8(b'{');
    for index in 0..values.len() {
        if index > 0 {
            out.put_u8(b',');
        }
        if values.is_null(index) {
            out.put_slice(b"NULL");
        } else if wire == Wire::Int8Array {
            put_as_text(out, Wire::Int8, values, index);
        } else {
            let quoted = values.as_string::<i32>().value(index).replace('\\', "\\\\").replace('"', "\\\"");
            out.put_u8(b'"');
            put_without_zeros(out, &quoted);
            out.put_u8(b'"');
        }
    }
    out.put_u8(b'}');
}

#[cfg(test)]
mod tests;
