//! PostgreSQL's messages (protocol 3, its manual's chapter 55), those that this door takes and gives.
//!
//! This is ours rather than a library's, because what a client sends must arrive here exactly or not at all: the one
//! there is replaces what is not UTF-8, and takes messages of a gigabyte.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::Failure;

/// Longest message of a client, in bytes: a statement of the longest allowed with its parameters.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// A message of a client that is logged in.
#[derive(Debug)]
pub(super) enum Frontend {
    Query {
        text: String,
    },
    Parse {
        name: String,
        text: String,
        type_oids: Vec<u32>,
    },
    Bind(Bind),
    Describe(Named),
    Execute {
        portal: String,
        rows_max: u32,
    },
    Close(Named),
    Flush,
    Sync,
    Terminate,
    /// Of COPY, which never begins here, so that they are left over from an error and mean nothing.
    Copy,
}

#[derive(Debug)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<u16>,
    pub(super) values: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<u16>,
}

/// What Describe and Close speak of.
#[derive(Debug)]
pub(super) enum Named {
    Statement(String),
    Portal(String),
}

/// Reads one message; `None` at the end of the connection.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Option<(u8, Bytes)>, Failure> {
    let mut head = [0; 5];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let Some(length) = length.checked_sub(4) else { return Err(malformed()) };
    if length > bytes_max {
        let problem = format!("a message has at most {bytes_max} bytes, and this one has {length}");
        return Err(Failure::fatal("54000", problem));
    }
    let mut body = BytesMut::zeroed(length);
    stream.read_exact(&mut body).await?;
    Ok(Some((head[0], body.freeze())))
}

/// Takes a message apart.
pub(super) fn parse(kind: u8, body: Bytes) -> Result<Frontend, Failure> {
    let mut body = Body(body);
    let message = match kind {
        b'Q' => Frontend::Query { text: body.text()? },
        b'P' => {
            let (name, text, count) = (body.text()?, body.text()?, body.count(4)?);
            let type_oids = (0..count).map(|_| body.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { name, text, type_oids }
        }
        b'B' => Frontend::Bind(body.bind()?),
        b'D' => Frontend::Describe(body.named()?),
        b'E' => Frontend::Execute { portal: body.text()?, rows_max: body.u32()? },
        b'C' => Frontend::Close(body.named()?),
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'd' | b'c' | b'f' => return Ok(Frontend::Copy),
        b'F' => return Err(Failure::fatal("0A000", "there are no functions to call by their number".into())),
        _ => return Err(malformed()),
    };
    if body.0.is_empty() { Ok(message) } else { Err(malformed()) }
}

pub(super) fn malformed() -> Failure {
    Failure::fatal("08P01", "a message is malformed".to_owned())
}

/// What is left of a message.
struct Body(Bytes);

impl Body {
    fn text(&mut self) -> Result<String, Failure> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| {
            Failure::fatal("22021", "a text is not UTF-8, which is what this server speaks".into())
        })
    }

    fn u16(&mut self) -> Result<u16, Failure> {
        self.0.try_get_u16().map_err(|_| malformed())
    }

    fn u32(&mut self) -> Result<u32, Failure> {
        self.0.try_get_u32().map_err(|_| malformed())
    }

    /// A count of things of at least so many bytes each, which must be there.
    fn count(&mut self, bytes_each: usize) -> Result<usize, Failure> {
        let count = usize::from(self.u16()?);
        if count * bytes_each > self.0.len() { Err(malformed()) } else { Ok(count) }
    }

    fn u16s(&mut self) -> Result<Vec<u16>, Failure> {
        let count = self.count(2)?;
        (0..count).map(|_| self.u16()).collect()
    }

    fn value(&mut self) -> Result<Option<Bytes>, Failure> {
        let length = self.u32()?;
        if length == u32::MAX {
            return Ok(None);
        }
        let length = length as usize;
        if length > self.0.len() {
            return Err(malformed());
        }
        Ok(Some(self.0.split_to(length)))
    }

    fn bind(&mut self) -> Result<Bind, Failure> {
        let (portal, statement, formats) = (self.text()?, self.text()?, self.u16s()?);
        let count = self.count(4)?;
        let values = (0..count).map(|_| self.value()).collect::<Result<_, _>>()?;
        Ok(Bind { portal, statement, formats, values, result_formats: self.u16s()? })
    }

    fn named(&mut self) -> Result<Named, Failure> {
        match self.0.try_get_u8().map_err(|_| malformed())? {
            b'S' => Ok(Named::Statement(self.text()?)),
            b'P' => Ok(Named::Portal(self.text()?)),
            _ => Err(malformed()),
        }
    }
}

/// Appends a message: its kind, its length, and what `body` puts.
pub(super) fn put(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let begin = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - begin).expect("a message is far smaller than 4 GiB");
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    // A zero would end the text early for the client.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

/// A message that is nothing but its kind.
pub(super) fn put_bare(out: &mut BytesMut, kind: u8) {
    put(out, kind, |_| {});
}

/// ReadyForQuery: in a transaction block or not. None ever fails, since none does anything.
pub(super) fn put_ready(out: &mut BytesMut, in_transaction: bool) {
    put(out, b'Z', |out| out.put_u8(if in_transaction { b'T' } else { b'I' }));
}

pub(super) fn put_complete(out: &mut BytesMut, tag: &str) {
    put(out, b'C', |out| put_text(out, tag));
}

/// ParameterStatus.
pub(super) fn put_setting(out: &mut BytesMut, name: &str, value: &str) {
    put(out, b'S', |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// ErrorResponse.
pub(super) fn put_error(out: &mut BytesMut, failure: &Failure) {
    let severity = if failure.is_fatal { "FATAL" } else { "ERROR" };
    put(out, b'E', |out| {
        for (field, value) in [(b'S', severity), (b'V', severity), (b'C', failure.sqlstate)] {
            out.put_u8(field);
            put_text(out, value);
        }
        out.put_u8(b'M');
        put_text(out, &failure.message);
        if let Some(hint) = &failure.hint {
            out.put_u8(b'H');
            put_text(out, hint);
        }
        out.put_u8(0);
    });
}

/// Says something beside an answer.
pub(super) fn put_notice(out: &mut BytesMut, message: &str) {
    put(out, b'N', |out| {
        for (field, value) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', message)] {
            out.put_u8(field);
            put_text(out, value);
        }
        out.put_u8(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(kind: u8, body: &[u8]) -> Result<Frontend, Failure> {
        parse(kind, Bytes::copy_from_slice(body))
    }

    #[test]
    fn a_count_that_the_message_cannot_hold_is_refused_before_anything_is_made_of_it() {
        for (kind, body) in [
            (b'P', &b"\0SELECT 1\0\xff\xff\0\0\0\x19"[..]),
            (b'B', b"\0\0\0\0\xff\xff\0\0\0\0"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xffab\0\0"),
            (b'B', b"\0\0\xff\xff"),
        ] {
            assert_eq!(parsed(kind, body).unwrap_err().sqlstate, "08P01", "{body:?}");
        }
    }

    #[test]
    fn a_message_is_taken_whole_or_not_at_all() {
        assert!(
            matches!(parsed(b'Q', b"SELECT 1\0").unwrap(), Frontend::Query { text } if text == "SELECT 1")
        );
        for (body, sqlstate) in
            [(&b"SELECT 1"[..], "08P01"), (b"SELECT 1\0more", "08P01"), (b"SELECT '\xff'\0", "22021")]
        {
            assert_eq!(parsed(b'Q', body).unwrap_err().sqlstate, sqlstate);
        }
        let Frontend::Bind(bind) =
            parsed(b'B', b"p\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\0").unwrap()
        else {
            panic!("a Bind is a Bind");
        };
        assert_eq!(bind.values, [None, Some(Bytes::from_static(b"x"))]);
        assert_eq!((bind.formats.as_slice(), bind.result_formats.len()), (&[1][..], 0));
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_refused_by_its_length_alone() {
        let mut bytes: &[u8] = b"Q\x7f\xff\xff\xff";
        assert_eq!(read(&mut bytes, MESSAGE_BYTES_MAX).await.unwrap_err().sqlstate, "54000");
        let mut bytes: &[u8] = b"Q\0\0\0\x03";
        assert_eq!(read(&mut bytes, MESSAGE_BYTES_MAX).await.unwrap_err().sqlstate, "08P01");
        let mut bytes: &[u8] = b"";
        assert!(read(&mut bytes, MESSAGE_BYTES_MAX).await.unwrap().is_none());
    }
}
