use bytes::Bytes;
use prost::Message;

use crate::limits::{EVENT_BYTES_MAX, SCHEMA_VERSION};
use crate::wire::{self, envelope::Payload};
use crate::{Event, Hash, Id};

/// The one writer of a stream: it gives out the sequence numbers and chains the hashes.
///
/// It cannot be cloned. Dropping it ends the stream for good, since nobody else knows where it stood.
#[derive(Debug)]
pub struct StreamWriter {
    stream_id: Id,
    kind: wire::StreamKind,
    next_seq: u64,
    prev_hash: Option<Hash>,
}

impl StreamWriter {
    /// Begins a new stream.
    #[must_use]
    pub fn new(stream_id: Id, kind: wire::StreamKind) -> Self {
        Self { stream_id, kind, next_seq: 0, prev_hash: None }
    }

    /// The stream's id.
    #[must_use]
    pub fn stream_id(&self) -> Id {
        self.stream_id
    }

    /// The sequence number that the next event will get.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The hash of the last event, which the next one will name; `None` before the first.
    #[must_use]
    pub fn prev_hash(&self) -> Option<Hash> {
        self.prev_hash
    }
}

/// What the events of one stream say again and again: whom and what they are about.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The session it is about.
    pub session_id: Option<Id>,
    /// The client connection it came on.
    pub connection_id: Option<Id>,
    /// The instance that writes.
    pub proxy_id: String,
    /// Who acts.
    pub principal: Option<wire::Principal>,
    /// Name of the target.
    pub target: String,
    /// What is spoken.
    pub protocol: wire::Protocol,
    /// What the gate waits for.
    pub durability: wire::Durability,
    /// How long the lake keeps it.
    pub retention_class: wire::RetentionClass,
}

/// A sealed event: the bytes the log keeps, and where they stand in their stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    bytes: Bytes,
    stream_id: Id,
    seq: u64,
    hash: Hash,
}

/// Signs the bytes of an envelope.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> wire::ControlSignature;

impl Envelope {
    /// Seals `event` as the next one of `stream`. On an error the stream stands where it stood.
    pub fn seal(
        stream: &mut StreamWriter,
        subject: &Subject,
        command_seq: Option<u64>,
        occurred_at_unix_us: i64,
        event: Event,
    ) -> Result<Self, SealError> {
        Self::seal_with(stream, (subject, command_seq, occurred_at_unix_us), event, None)
    }

    /// Seals a control record: `sign` is given the envelope as it is without a signature.
    pub fn seal_signed(
        stream: &mut StreamWriter,
        subject: &Subject,
        occurred_at_unix_us: i64,
        event: Event,
        sign: Sign<'_>,
    ) -> Result<Self, SealError> {
        Self::seal_with(stream, (subject, None, occurred_at_unix_us), event, Some(sign))
    }

    fn seal_with(
        stream: &mut StreamWriter,
        (subject, command_seq, occurred_at_unix_us): (&Subject, Option<u64>, i64),
        event: Event,
        sign: Option<Sign<'_>>,
    ) -> Result<Self, SealError> {
        let seq = stream.next_seq;
        let header = wire::Header {
            schema_version: event.schema_version(),
            stream_id: stream.stream_id.to_bytes(),
            stream_kind: stream.kind.into(),
            stream_seq: seq,
            prev_hash: stream
                .prev_hash
                .map(|hash| Bytes::copy_from_slice(hash.as_bytes()))
                .unwrap_or_default(),
            session_id: subject.session_id.map(Id::to_bytes).unwrap_or_default(),
            connection_id: subject.connection_id.map(Id::to_bytes).unwrap_or_default(),
            command_seq,
            channel: None,
            occurred_at_unix_us,
            proxy_id: subject.proxy_id.clone(),
            principal: subject.principal.clone(),
            target: subject.target.clone(),
            protocol: subject.protocol.into(),
            durability: subject.durability.into(),
            retention_class: subject.retention_class.into(),
        };
        let payload = Some(event.into_payload());
        let mut envelope = wire::Envelope { header: Some(header), signature: None, payload };
        if let Some(sign) = sign {
            envelope.signature = Some(sign(&envelope.encode_to_vec()));
        }
        let bytes_len = envelope.encoded_len();
        if bytes_len > EVENT_BYTES_MAX {
            return Err(SealError::TooLarge { bytes: bytes_len });
        }
        let bytes = Bytes::from(envelope.encode_to_vec());
        let hash = Hash::of(&bytes);
        stream.next_seq = seq + 1;
        stream.prev_hash = Some(hash);
        Ok(Self { bytes, stream_id: stream.stream_id, seq, hash })
    }

    /// Reads a record of the log. Anything may stand there, so every part is checked.
    pub fn open(bytes: Bytes) -> Result<Recorded, OpenError> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(OpenError::TooLarge { bytes: bytes.len() });
        }
        let hash = Hash::of(&bytes);
        let envelope = wire::Envelope::decode(bytes.clone()).map_err(|_| OpenError::NotAnEnvelope)?;
        let header = envelope.header.ok_or(OpenError::NoHeader)?;
        if header.schema_version == 0 {
            return Err(OpenError::NoHeader);
        }
        if header.schema_version > SCHEMA_VERSION {
            return Err(OpenError::NewerSchema { version: header.schema_version });
        }
        let payload = envelope.payload.ok_or(OpenError::UnknownPayload)?;
        let stream_id = Id::from_slice(&header.stream_id).map_err(|_| OpenError::BadHeader)?;
        let session_id = optional_id(&header.session_id)?;
        let connection_id = optional_id(&header.connection_id)?;
        let chained = if header.stream_seq == 0 { 0 } else { 32 };
        if header.prev_hash.len() != chained {
            return Err(OpenError::BadHeader);
        }
        let signature = envelope.signature;
        Ok(Recorded { header, signature, payload, stream_id, session_id, connection_id, hash, bytes })
    }

    /// What the log keeps.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The stream it belongs to; the log keeps the order of one stream's records.
    #[must_use]
    pub fn stream_id(&self) -> Id {
        self.stream_id
    }

    /// Its place in the stream.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// SHA-256 of [`Envelope::bytes`].
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

fn optional_id(bytes: &[u8]) -> Result<Option<Id>, OpenError> {
    match bytes.len() {
        0 => Ok(None),
        _ => Id::from_slice(bytes).map(Some).map_err(|_| OpenError::BadHeader),
    }
}

/// The read side of an event. It comes from [`Envelope::open`] alone and never becomes an [`Event`] again.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    header: wire::Header,
    signature: Option<wire::ControlSignature>,
    payload: Payload,
    stream_id: Id,
    session_id: Option<Id>,
    connection_id: Option<Id>,
    hash: Hash,
    bytes: Bytes,
}

impl Recorded {
    /// Who, what, when.
    #[must_use]
    pub fn header(&self) -> &wire::Header {
        &self.header
    }

    /// The fact itself.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Header, signature and payload, for whoever takes them apart.
    #[must_use]
    pub fn into_parts(self) -> (wire::Header, Option<wire::ControlSignature>, Payload) {
        (self.header, self.signature, self.payload)
    }

    /// The signature of a control record. Whether it holds is still to be asked.
    #[must_use]
    pub fn signature(&self) -> Option<&wire::ControlSignature> {
        self.signature.as_ref()
    }

    /// What a signature is over: the envelope without it. Fields that this version does not know are missing, so that what
    /// has some does not pass for signed.
    #[must_use]
    pub fn unsigned_bytes(&self) -> Vec<u8> {
        let header = Some(self.header.clone());
        let payload = Some(self.payload.clone());
        wire::Envelope { header, signature: None, payload }.encode_to_vec()
    }

    /// The stream it stands in.
    #[must_use]
    pub fn stream_id(&self) -> Id {
        self.stream_id
    }

    /// The session it is about.
    #[must_use]
    pub fn session_id(&self) -> Option<Id> {
        self.session_id
    }

    /// The client connection it came on.
    #[must_use]
    pub fn connection_id(&self) -> Option<Id> {
        self.connection_id
    }

    /// SHA-256 of the sealed bytes, as the next event of the stream names it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The sealed bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload's name, for example `command_received`.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        crate::event_type(&self.payload)
    }
}

/// Why an event could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Whoever made the event should have cut it into chunks.
    #[error("the event is {bytes} bytes sealed, the limit is {EVENT_BYTES_MAX}")]
    TooLarge {
        /// Its size, sealed.
        bytes: usize,
    },
}

/// Why a record is not an envelope: it becomes a dead letter, kept with this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// More than any writer seals.
    #[error("the record is {bytes} bytes, the limit is {EVENT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not protobuf, or not ours.
    #[error("the record is not an envelope")]
    NotAnEnvelope,
    /// An envelope without a header.
    #[error("the envelope has no header")]
    NoHeader,
    /// An id or hash of the wrong length.
    #[error("the envelope's header has an id or a hash of the wrong length")]
    BadHeader,
    /// A payload this version does not know.
    #[error("the envelope has no payload that schema version {SCHEMA_VERSION} knows")]
    UnknownPayload,
    /// Written by a newer version.
    #[error(
        "the envelope has schema version {version}, this reader knows up to {SCHEMA_VERSION}: upgrade it first"
    )]
    NewerSchema {
        /// The version it names.
        version: u32,
    },
}
