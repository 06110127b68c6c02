use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use prost::bytes::Bytes;
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::{Mask, MaskAction, MaskKind, ResponsePart, response_part::Part};

use super::open;
use crate::fingerprint::hex;

/// `payload_mask_list(payload)`: what masking replaced in an event, as a list of structs. NULL where it replaced nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MaskList {
    signature: Signature,
}

impl MaskList {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable) }
    }
}

/// One replaced value, as a row of `masked_values` has it.
struct Found {
    place: &'static str,
    row: Option<i64>,
    position: i64,
    column: Option<String>,
    mask: Mask,
    fingerprint: Option<String>,
}

fn fields() -> Fields {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::Int64, true);
    Fields::from(vec![
        text("place"),
        number("row"),
        number("position"),
        text("column"),
        text("kind"),
        text("action"),
        text("rule"),
        text("fingerprint"),
    ])
}

impl ScalarUDFImpl for MaskList {
    fn name(&self) -> &'static str {
        "payload_mask_list"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Struct(fields()), true))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let payloads = arrays[0].as_binary::<i32>();
        let mut lists = ListBuilder::new(StructBuilder::from_fields(fields(), 0));
        for bytes in payloads {
            let found = bytes.and_then(open).map(|payload| masks_of(&payload)).unwrap_or_default();
            let is_some = !found.is_empty();
            found.into_iter().for_each(|it| append(lists.values(), it));
            lists.append(is_some);
        }
        let lists: ArrayRef = Arc::new(lists.finish());
        Ok(ColumnarValue::Array(lists))
    }
}

fn append(out: &mut StructBuilder, found: Found) {
    let Found { place, row, position, column, mask, fingerprint } = found;
    let kind = MaskKind::try_from(mask.kind).ok().map(|it| short(it.as_str_name(), "MASK_KIND_"));
    let action = MaskAction::try_from(mask.action).ok().map(|it| short(it.as_str_name(), "MASK_ACTION_"));
    let rule = (!mask.rule.is_empty()).then_some(mask.rule);
    let texts =
        [(0, Some(place.to_owned())), (3, column), (4, kind), (5, action), (6, rule), (7, fingerprint)];
    for (index, text) in texts {
        out.field_builder::<StringBuilder>(index).expect("the field is text").append_option(text);
    }
    for (index, number) in [(1, row), (2, Some(position))] {
        out.field_builder::<Int64Builder>(index).expect("the field is a number").append_option(number);
    }
    out.append(true);
}

fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn masks_of(payload: &Payload) -> Vec<Found> {
    match payload {
        Payload::CommandReceived(received) => {
            let found = |mask: &Mask| {
                let place = if mask.row == 0 { "statement" } else { "parameter" };
                let column = (mask.row > 0).then(|| format!("${}", mask.column + 1));
                found(place, column, mask, &received.fingerprints)
            };
            received.masks.iter().map(|mask| Found { row: None, ..found(mask) }).collect()
        }
        Payload::CommandChunk(chunk) => {
            let masks = chunk.copy_rows.iter().flat_map(|rows| &rows.masks);
            masks.map(|mask| found("copy", None, mask, &chunk.fingerprints)).collect()
        }
        Payload::ResponseChunk(chunk) => of_parts(&chunk.parts, &chunk.fingerprints),
        Payload::CommandCompleted(completed) => of_parts(&completed.parts, &completed.fingerprints),
        Payload::AsyncMessage(message) => of_parts(&message.parts, &message.fingerprints),
        _ => Vec::new(),
    }
}

/// A result's columns are named once, before its rows; what goes on in a further event has numbers alone.
fn of_parts(parts: &[ResponsePart], fingerprints: &[Bytes]) -> Vec<Found> {
    let mut names: &[retrace_proto::wire::Column] = &[];
    let mut all = Vec::new();
    for part in parts {
        match &part.part {
            Some(Part::Columns(columns)) => names = &columns.columns,
            Some(Part::Rows(rows)) => all.extend(rows.masks.iter().map(|mask| {
                let name = names.get(mask.column as usize).map(|column| column.name.clone());
                found("row", name, mask, fingerprints)
            })),
            Some(Part::Diagnostic(diagnostic)) => all.extend(diagnostic.masks.iter().map(|mask| {
                let field =
                    (mask.column as usize).checked_sub(1).and_then(|index| diagnostic.fields.get(index));
                let name = field.map_or_else(|| "message".to_owned(), |field| field.code.clone());
                Found { row: None, ..found("diagnostic", Some(name), mask, fingerprints) }
            })),
            _ => {}
        }
    }
    all
}

fn found(place: &'static str, column: Option<String>, mask: &Mask, fingerprints: &[Bytes]) -> Found {
    let fingerprint = mask.fingerprint_index.and_then(|index| fingerprints.get(index as usize));
    Found {
        place,
        row: Some(mask.row.into()),
        position: mask.column.into(),
        column,
        fingerprint: fingerprint.map(|bytes| hex(bytes)),
        mask: mask.clone(),
    }
}
