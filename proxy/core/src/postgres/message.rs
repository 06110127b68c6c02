//! The messages that the gate looks into, decoded, and those that it makes itself.

use bytes::{BufMut, Bytes, BytesMut};
use retrace_proto::wire::{Column, WireFormat};

use super::frame::{MalformedBody, Reader};

/// Tag and length.
pub(crate) const HEADER_BYTES: usize = 5;

/// A Parse message.
#[derive(Debug)]
pub(crate) struct Parse<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) sql: &'a [u8],
    pub(crate) type_oids: Vec<u32>,
}

impl<'a> Parse<'a> {
    /// The statement alone.
    pub(crate) fn sql(body: &'a [u8]) -> Result<&'a [u8], MalformedBody> {
        let mut reader = Reader::new(body);
        let _name = reader.c_str()?;
        reader.c_str()
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, MalformedBody> {
        let mut reader = Reader::new(body);
        let name = reader.c_str()?;
        let sql = reader.c_str()?;
        let count = reader.count(4)?;
        let type_oids = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { name, sql, type_oids })
    }
}

/// A Bind message; values and formats are read again from `values` when they are recorded.
#[derive(Debug)]
pub(crate) struct Bind<'a> {
    pub(crate) portal: &'a [u8],
    pub(crate) statement: &'a [u8],
    pub(crate) formats: Formats,
    pub(crate) values: Vec<Option<&'a [u8]>>,
}

impl<'a> Bind<'a> {
    /// The name of the prepared statement alone.
    pub(crate) fn statement_name(body: &'a [u8]) -> Result<&'a [u8], MalformedBody> {
        let mut reader = Reader::new(body);
        let _portal = reader.c_str()?;
        reader.c_str()
    }

    /// What stands behind the two names: the values, and in which formats they come and are wanted back.
    pub(crate) fn behind_names(body: &'a [u8]) -> Result<&'a [u8], MalformedBody> {
        let mut reader = Reader::new(body);
        let _portal = reader.c_str()?;
        let _statement = reader.c_str()?;
        Ok(reader.rest())
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, MalformedBody> {
        let mut reader = Reader::new(body);
        let portal = reader.c_str()?;
        let statement = reader.c_str()?;
        let formats = Formats::read(&mut reader)?;
        let count = reader.count(4)?;
        let values = (0..count).map(|_| reader.value()).collect::<Result<_, _>>()?;
        let _result_formats = Formats::read(&mut reader)?;
        reader.end()?;
        Ok(Self { portal, statement, formats, values })
    }
}

/// Format codes: none means all text, one means the same for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats(Vec<WireFormat>);

impl Formats {
    fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedBody> {
        let count = reader.count(2)?;
        (0..count).map(|_| format(reader.u16()?)).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn of(&self, index: usize) -> WireFormat {
        match self.0.as_slice() {
            [] => WireFormat::Text,
            [all] => *all,
            each => each.get(index).copied().unwrap_or(WireFormat::Text),
        }
    }
}

fn format(code: u16) -> Result<WireFormat, MalformedBody> {
    match code {
        0 => Ok(WireFormat::Text),
        1 => Ok(WireFormat::Binary),
        _ => Err(MalformedBody),
    }
}

/// What Describe and Close name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    Statement(&'a [u8]),
    Portal(&'a [u8]),
}

impl<'a> Named<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, MalformedBody> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.c_str()?;
        reader.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(MalformedBody),
        }
    }
}

/// An Execute message.
#[derive(Debug)]
pub(crate) struct Execute<'a> {
    pub(crate) portal: &'a [u8],
    pub(crate) row_limit: u32,
}

impl<'a> Execute<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, MalformedBody> {
        let mut reader = Reader::new(body);
        let portal = reader.c_str()?;
        let row_limit = reader.u32()?;
        reader.end()?;
        Ok(Self { portal, row_limit })
    }
}

/// A FunctionCall message.
#[derive(Debug)]
pub(crate) struct FunctionCall<'a> {
    pub(crate) function_oid: u32,
    pub(crate) formats: Formats,
    pub(crate) arguments: Vec<Option<&'a [u8]>>,
}

impl<'a> FunctionCall<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, MalformedBody> {
        let mut reader = Reader::new(body);
        let function_oid = reader.u32()?;
        let formats = Formats::read(&mut reader)?;
        let count = reader.count(4)?;
        let arguments = (0..count).map(|_| reader.value()).collect::<Result<_, _>>()?;
        format(reader.u16()?)?;
        reader.end()?;
        Ok(Self { function_oid, formats, arguments })
    }
}

/// The value of a FunctionCallResponse.
pub(crate) fn function_result(body: &[u8]) -> Result<Option<&[u8]>, MalformedBody> {
    let mut reader = Reader::new(body);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

/// The statement of a simple query.
pub(crate) fn query(body: &[u8]) -> Result<&[u8], MalformedBody> {
    let mut reader = Reader::new(body);
    let sql = reader.c_str()?;
    reader.end()?;
    Ok(sql)
}

/// The columns of a RowDescription with their names as sent.
pub(crate) fn row_description(body: &[u8]) -> Result<Vec<(Column, &[u8])>, MalformedBody> {
    let mut reader = Reader::new(body);
    let count = reader.count(19)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.c_str()?;
        let origin_table_oid = reader.u32()?;
        let origin_column = u32::from(reader.u16()?);
        let type_oid = reader.u32()?;
        let _type_size = reader.u16()?;
        let type_modifier = reader.u32()?.cast_signed();
        let wire_format = format(reader.u16()?)?.into();
        let column = Column {
            name: String::new(),
            type_oid,
            type_modifier,
            origin_table_oid,
            origin_column,
            wire_format,
        };
        columns.push((column, name));
    }
    reader.end()?;
    Ok(columns)
}

/// A RowDescription with other names.
pub(crate) fn rename_columns(body: &[u8], names: &[Vec<u8>]) -> Result<Bytes, MalformedBody> {
    let mut reader = Reader::new(body);
    let count = reader.count(19)?;
    let mut out = MessageWriter::new(b'T');
    out.bytes.put_u16(u16::try_from(count).expect("read as one"));
    for name in names {
        reader.c_str()?;
        out.c_str(name);
        for _ in 0..3 {
            out.bytes.put_u32(reader.u32()?);
            out.bytes.put_u16(reader.u16()?);
        }
    }
    Ok(out.finish())
}

/// The type OIDs of a ParameterDescription.
pub(crate) fn parameter_description(body: &[u8]) -> Result<Vec<u32>, MalformedBody> {
    let mut reader = Reader::new(body);
    let count = reader.count(4)?;
    let type_oids = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(type_oids)
}

/// The fields of an ErrorResponse or NoticeResponse.
pub(crate) fn diagnostic(body: &[u8]) -> Result<Vec<(u8, &[u8])>, MalformedBody> {
    let mut reader = Reader::new(body);
    let mut fields = Vec::new();
    loop {
        match reader.u8()? {
            0 => break,
            code => fields.push((code, reader.c_str()?)),
        }
    }
    reader.end()?;
    Ok(fields)
}

/// Writes one message; the length is set at the end.
pub(crate) struct MessageWriter {
    pub(crate) bytes: BytesMut,
}

impl MessageWriter {
    pub(crate) fn new(tag: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u8(tag);
        bytes.put_u32(0);
        Self { bytes }
    }

    pub(crate) fn c_str(&mut self, text: &[u8]) {
        self.bytes.put_slice(text);
        self.bytes.put_u8(0);
    }

    pub(crate) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.bytes.len() - 1).expect("bounded by the limit on frames");
        self.bytes[1..5].copy_from_slice(&length.to_be_bytes());
        self.bytes.freeze()
    }
}

/// An ErrorResponse (`E`) or NoticeResponse (`N`) with these fields.
pub(crate) fn with_fields<'a>(tag: u8, fields: impl IntoIterator<Item = (u8, &'a [u8])>) -> Bytes {
    let mut out = MessageWriter::new(tag);
    for (code, text) in fields {
        out.bytes.put_u8(code);
        out.c_str(text);
    }
    out.bytes.put_u8(0);
    out.finish()
}

/// How an error of the gate's own ends: the statement, or the session too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement fails.
    Error,
    /// The connection ends.
    Fatal,
}

/// An ErrorResponse of the gate's own.
#[must_use]
pub fn error_response(severity: Severity, sqlstate: &str, message: &str, hint: &str) -> Bytes {
    let severity: &[u8] = match severity {
        Severity::Error => b"ERROR",
        Severity::Fatal => b"FATAL",
    };
    let mut fields =
        vec![(b'S', severity), (b'V', severity), (b'C', sqlstate.as_bytes()), (b'M', message.as_bytes())];
    if !hint.is_empty() {
        fields.push((b'H', hint.as_bytes()));
    }
    with_fields(b'E', fields)
}

/// A NoticeResponse of the gate's own.
pub(crate) fn notice_response(sqlstate: &str, message: &str, detail: &str, hint: &str) -> Bytes {
    let texts =
        [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', sqlstate), (b'M', message), (b'D', detail), (b'H', hint)];
    with_fields(b'N', texts.map(|(code, text)| (code, text.as_bytes())))
}

/// A ParameterStatus.
pub(crate) fn parameter_status(name: &[u8], value: &[u8]) -> Bytes {
    let mut out = MessageWriter::new(b'S');
    out.c_str(name);
    out.c_str(value);
    out.finish()
}

/// A NotificationResponse.
pub(crate) fn notification(process_id: u32, channel: &[u8], payload: &[u8]) -> Bytes {
    let mut out = MessageWriter::new(b'A');
    out.bytes.put_u32(process_id);
    out.c_str(channel);
    out.c_str(payload);
    out.finish()
}

/// A FunctionCallResponse.
pub(crate) fn function_call_response(value: Option<&[u8]>) -> Bytes {
    let mut out = MessageWriter::new(b'V');
    match value {
        None => out.bytes.put_i32(-1),
        Some(value) => {
            out.bytes.put_u32(u32::try_from(value.len()).expect("bounded by the limit on frames"));
            out.bytes.put_slice(value);
        }
    }
    out.finish()
}

/// CopyData.
pub(crate) fn copy_data(data: &[u8]) -> Bytes {
    let mut out = MessageWriter { bytes: BytesMut::with_capacity(HEADER_BYTES + data.len()) };
    out.bytes.put_u8(b'd');
    out.bytes.put_u32(0);
    out.bytes.put_slice(data);
    out.finish()
}

/// CopyFail, with the reason that the target's error will name.
pub(crate) fn copy_fail(reason: &[u8]) -> Bytes {
    let mut out = MessageWriter::new(b'f');
    out.c_str(reason);
    out.finish()
}

/// A CommandComplete.
pub(crate) fn command_complete(tag: &[u8]) -> Bytes {
    let mut out = MessageWriter::new(b'C');
    out.c_str(tag);
    out.finish()
}

/// What a client cancels with: a process id, and a secret that is 4 bytes long in protocol 3.0 and up to 256 from 3.2 on.
/// It does not print.
#[derive(Clone, Default)]
pub struct CancelKey {
    /// The id of the process, or what stands for one.
    pub process_id: u32,
    /// What only the connection's own client knows.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CancelKey([secret])")
    }
}

/// BackendKeyData.
#[must_use]
pub(crate) fn backend_key_data(key: &CancelKey) -> Bytes {
    let mut out = MessageWriter::new(b'K');
    out.bytes.put_u32(key.process_id);
    out.bytes.put_slice(&key.secret);
    out.finish()
}

/// A Sync.
pub(crate) fn sync() -> Bytes {
    Bytes::from_static(b"S\x00\x00\x00\x04")
}

/// A Flush.
pub(crate) fn flush() -> Bytes {
    Bytes::from_static(b"H\x00\x00\x00\x04")
}

/// A Terminate.
pub(crate) fn terminate() -> Bytes {
    Bytes::from_static(b"X\x00\x00\x00\x04")
}

/// A Bind that must fail: it names a prepared statement that does not exist.
pub(crate) fn impossible_bind(statement: &str) -> Bytes {
    let mut out = MessageWriter::new(b'B');
    out.c_str(b"");
    out.c_str(statement.as_bytes());
    out.bytes.put_u16(0);
    out.bytes.put_u16(0);
    out.bytes.put_u16(0);
    out.finish()
}

/// A Describe of a portal.
pub(crate) fn describe_portal(name: &[u8]) -> Bytes {
    let mut out = MessageWriter::new(b'D');
    out.bytes.put_u8(b'P');
    out.c_str(name);
    out.finish()
}
