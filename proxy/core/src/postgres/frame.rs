//! Cutting the byte stream of either side into frames ("Message Formats", PostgreSQL documentation, chapter 55.7).

use bytes::{Buf, Bytes, BytesMut};

use super::message::HEADER_BYTES;

/// Longest frame of a client, tag included, in bytes.
pub const CLIENT_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest frame of a target, tag included, in bytes. A row must fit one.
pub const TARGET_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One message as it stood on the wire: tag, length, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
}

impl Frame {
    /// What kind of message it is.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.bytes[0]
    }

    /// What follows the length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The whole of it.
    #[must_use]
    pub fn wire_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole of it, to be forwarded as it came.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The whole of it, shared.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// How long it is, tag and length included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Cuts frames out of what has arrived. It keeps no more than has arrived, whatever a length claims.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Framer {
    /// Frames longer than `frame_bytes_max` are an error.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// Takes bytes in, split anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets what came and was not cut.
    pub fn clear(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// Bytes that are not yet a whole frame.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame, or `None` until more arrives.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            if self.buffer.is_empty() {
                // A session that waits keeps no memory of what was large.
                self.buffer = BytesMut::new();
            }
            return Ok(None);
        };
        let [tag, a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !tag.is_ascii_alphanumeric() || length < 4 {
            return Err(FrameError::Malformed);
        }
        if length >= self.frame_bytes_max {
            return Err(FrameError::TooLong { frame_bytes_max: self.frame_bytes_max });
        }
        if self.buffer.len() <= length {
            return Ok(None);
        }
        Ok(Some(Frame { bytes: self.buffer.split_to(length + 1).freeze() }))
    }
}

/// Why a byte stream cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No message of the protocol begins so.
    #[error("not a message of the PostgreSQL protocol")]
    Malformed,
    /// The length is above the limit.
    #[error("a message is longer than {frame_bytes_max} bytes")]
    TooLong {
        /// The limit.
        frame_bytes_max: usize,
    },
}

/// Reads the fields of a message's body; every count is checked against the bytes that are left.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// The body does not hold what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message does not hold what its kind says")]
pub struct MalformedBody;

impl<'a> Reader<'a> {
    /// Begins at the start of a body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, MalformedBody> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, MalformedBody> {
        self.take(2).map(|mut bytes| bytes.get_u16())
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, MalformedBody> {
        self.take(4).map(|mut bytes| bytes.get_u32())
    }

    /// A string up to its zero byte, which is read too.
    pub fn c_str(&mut self) -> Result<&'a [u8], MalformedBody> {
        let end = memchr::memchr(0, self.rest).ok_or(MalformedBody)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// A value behind its length; -1 is NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, MalformedBody> {
        match self.u32()?.cast_signed() {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| MalformedBody)?).map(Some),
        }
    }

    /// How many items of at least `item_bytes_min` bytes follow.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, MalformedBody> {
        let count = usize::from(self.u16()?);
        if count.saturating_mul(item_bytes_min) > self.rest.len() {
            return Err(MalformedBody);
        }
        Ok(count)
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The body must end here.
    pub fn end(self) -> Result<(), MalformedBody> {
        if self.rest.is_empty() { Ok(()) } else { Err(MalformedBody) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedBody> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(MalformedBody)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_the_bytes_are_split() {
        let wire = b"Q\x00\x00\x00\x06a\x00S\x00\x00\x00\x04";
        for cut in 0..wire.len() {
            let mut framer = Framer::new(100);
            let mut tags = Vec::new();
            for piece in [&wire[..cut], &wire[cut..]] {
                framer.push(piece);
                while let Some(frame) = framer.poll_frame().expect("well-formed") {
                    tags.push((frame.tag(), frame.wire_len()));
                }
            }
            assert_eq!(tags, [(b'Q', 7), (b'S', 5)], "cut at {cut}");
            assert_eq!(framer.pending_bytes(), 0);
        }
    }

    #[test]
    fn lying_lengths_are_refused_before_anything_is_kept() {
        for (wire, expect) in [
            (&b"Q\x00\x00\x00\x03"[..], FrameError::Malformed),
            (b"Q\xff\xff\xff\xff", FrameError::TooLong { frame_bytes_max: 100 }),
            (b"Q\x00\x00\x00\x64", FrameError::TooLong { frame_bytes_max: 100 }),
            (b"\x00\x00\x00\x00\x08", FrameError::Malformed),
        ] {
            let mut framer = Framer::new(100);
            framer.push(wire);
            assert_eq!(framer.poll_frame(), Err(expect));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_within_their_bounds(body in proptest::collection::vec(0_u8..=255, 0..64)) {
            let mut reader = Reader::new(&body);
            while reader.c_str().is_ok() && reader.value().is_ok() && reader.count(4).is_ok() {}
        }
    }
}
