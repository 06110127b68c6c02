mod masks;

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Builder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use prost::Message;
use retrace_proto::Id;
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::{self, ResponsePart, response_part::Part};

/// The functions that read what the table does not lift out of `payload` into a column of its own.
///
/// Each gives NULL for an event that has no such thing, and for bytes that are no payload: a view must not fail over
/// one row that another writer left.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let text = |name, read| ScalarUDF::new_from_impl(PayloadFunction::new(name, Reads::Text(read)));
    let number = |name, read| ScalarUDF::new_from_impl(PayloadFunction::new(name, Reads::Number(read)));
    vec![
        text("payload_client_address", client_address),
        text("payload_continues", continues),
        text("payload_target_user", target_user),
        text("payload_parameters", parameters),
        text("payload_columns", columns),
        number("payload_chunk", chunk),
        number("payload_count", count),
        number("payload_first_unix_us", first_unix_us),
        number("payload_last_unix_us", last_unix_us),
        number("payload_masks", masks),
        number("payload_data_bytes", data_bytes),
        number("payload_omitted_bytes", omitted_bytes),
        number("payload_omitted_rows", omitted_rows),
        ScalarUDF::new_from_impl(masks::MaskList::new()),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Reads {
    Text(fn(&Payload) -> Option<String>),
    Number(fn(&Payload) -> Option<i64>),
}

/// A function of one binary argument, the column `payload` or `raw`. The name identifies it.
#[derive(Debug)]
struct PayloadFunction {
    name: &'static str,
    reads: Reads,
    signature: Signature,
}

impl PayloadFunction {
    fn new(name: &'static str, reads: Reads) -> Self {
        let signature = Signature::exact(vec![DataType::Binary], Volatility::Immutable);
        Self { name, reads, signature }
    }
}

impl PartialEq for PayloadFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PayloadFunction {}

impl Hash for PayloadFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for PayloadFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.reads {
            Reads::Text(_) => DataType::Utf8,
            Reads::Number(_) => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let payloads = arrays[0].as_binary::<i32>();
        let opened = payloads.iter().map(|bytes| bytes.and_then(open));
        let array: ArrayRef = match self.reads {
            Reads::Text(read) => {
                let mut out = StringBuilder::new();
                opened.for_each(|payload| out.append_option(payload.as_ref().and_then(read)));
                Arc::new(out.finish())
            }
            Reads::Number(read) => {
                let mut out = Int64Builder::with_capacity(payloads.len());
                opened.for_each(|payload| out.append_option(payload.as_ref().and_then(read)));
                Arc::new(out.finish())
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The column `payload` holds an envelope without its header, `raw` a whole one.
fn open(bytes: &[u8]) -> Option<Payload> {
    wire::Envelope::decode(bytes).ok()?.payload
}

fn client_address(payload: &Payload) -> Option<String> {
    match payload {
        Payload::SessionOpened(opened) => Some(opened.client_address.clone()),
        Payload::LoginRefused(refused) => Some(refused.client_address.clone()),
        _ => None,
    }
}

fn continues(payload: &Payload) -> Option<String> {
    let Payload::SessionOpened(opened) = payload else { return None };
    Id::from_slice(&opened.continues).ok().map(|id| id.to_string())
}

/// `None` if it was recorded before that was.
fn target_user(payload: &Payload) -> Option<String> {
    let Payload::SessionOpened(opened) = payload else { return None };
    Some(opened.target_user.clone()).filter(|user| !user.is_empty())
}

fn parameters(payload: &Payload) -> Option<String> {
    let Payload::CommandReceived(received) = payload else { return None };
    if received.parameters.is_empty() {
        return None;
    }
    let values: Vec<Option<&str>> =
        received.parameters.iter().map(|parameter| parameter.value.as_deref()).collect();
    serde_json::to_string(&values).ok()
}

fn columns(payload: &Payload) -> Option<String> {
    let mut named = parts(payload)?.iter().filter_map(|part| match &part.part {
        Some(Part::Columns(columns)) => Some(&columns.columns),
        _ => None,
    });
    let first = named.next()?;
    let names: Vec<&str> = first.iter().chain(named.flatten()).map(|column| column.name.as_str()).collect();
    serde_json::to_string(&names).ok()
}

fn chunk(payload: &Payload) -> Option<i64> {
    match payload {
        Payload::ResponseChunk(chunk) => Some(chunk.chunk_index.into()),
        Payload::CommandChunk(chunk) => Some(chunk.chunk_index.into()),
        Payload::CommandCompleted(completed) => Some(completed.chunks.into()),
        _ => None,
    }
}

/// How many refused logins the event stands for. Before it could be several, nothing was counted.
fn count(payload: &Payload) -> Option<i64> {
    let Payload::LoginRefused(refused) = payload else { return None };
    i64::try_from(refused.count.max(1)).ok()
}

/// When the first of several refused logins came.
fn first_unix_us(payload: &Payload) -> Option<i64> {
    let Payload::LoginRefused(refused) = payload else { return None };
    Some(refused.first_unix_us).filter(|at| *at != 0)
}

/// When the last of several did.
fn last_unix_us(payload: &Payload) -> Option<i64> {
    let Payload::LoginRefused(refused) = payload else { return None };
    Some(refused.last_unix_us).filter(|at| *at != 0)
}

/// Bytes of COPY data that the event keeps.
fn data_bytes(payload: &Payload) -> Option<i64> {
    match payload {
        Payload::CommandChunk(chunk) => i64::try_from(chunk.data_bytes).ok().filter(|bytes| *bytes > 0),
        _ => None,
    }
}

/// Bytes that were passed on and not kept.
fn omitted_bytes(payload: &Payload) -> Option<i64> {
    match payload {
        Payload::CommandOmitted(omitted) => i64::try_from(omitted.data_bytes).ok(),
        Payload::ResponseOmitted(omitted) => i64::try_from(omitted.row_bytes).ok(),
        _ => None,
    }
}

fn omitted_rows(payload: &Payload) -> Option<i64> {
    match payload {
        Payload::ResponseOmitted(omitted) => i64::try_from(omitted.rows).ok(),
        _ => None,
    }
}

fn masks(payload: &Payload) -> Option<i64> {
    if let Payload::CommandReceived(received) = payload {
        return i64::try_from(received.masks.len()).ok();
    }
    let masks = parts(payload)?.iter().map(|part| match &part.part {
        Some(Part::Rows(rows)) => rows.masks.len(),
        Some(Part::Diagnostic(diagnostic)) => diagnostic.masks.len(),
        _ => 0,
    });
    i64::try_from(masks.sum::<usize>()).ok()
}

fn parts(payload: &Payload) -> Option<&[ResponsePart]> {
    match payload {
        Payload::ResponseChunk(chunk) => Some(&chunk.parts),
        Payload::CommandCompleted(completed) => Some(&completed.parts),
        Payload::AsyncMessage(message) => Some(&message.parts),
        _ => None,
    }
}
