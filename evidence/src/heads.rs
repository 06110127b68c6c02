use bytes::Bytes;
use retrace_proto::limits::CHUNK_BYTES_MAX;
use retrace_proto::{Hash, Id, wire};

use crate::key::{KEY_ID_BYTES, SIGNATURE_BYTES, SigningKey, TrustedKeys};
use crate::tree::{HASH_BYTES, tree_hash};

/// What begins a leaf, so that it means nothing anywhere else.
const LEAF_CONTEXT: &[u8] = b"retrace stream head v1\0";

/// What begins the bytes that are signed, so that the signature means nothing anywhere else.
const SIGNED_CONTEXT: &[u8] = b"retrace stream heads v1\0";

/// Most bytes that a head takes in an event: an id, a hash, a number, and the tags before them.
const HEAD_BYTES_MAX: usize = 72;

/// Heads in one event; further ones go on in the next, so that no event is too large to be sealed.
pub const HEADS_PER_EVENT_MAX: usize = CHUNK_BYTES_MAX / HEAD_BYTES_MAX;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which stream.
    pub stream_id: Id,
    /// Every event below is there; at least 1.
    pub end_exclusive: u64,
    /// The hash of the last of them.
    pub hash: [u8; HASH_BYTES],
}

impl Head {
    /// A head from a sealed envelope's own hash.
    #[must_use]
    pub fn new(stream_id: Id, end_exclusive: u64, hash: Hash) -> Self {
        Self { stream_id, end_exclusive, hash: *hash.as_bytes() }
    }

    fn leaf(&self) -> Vec<u8> {
        let end = self.end_exclusive.to_be_bytes();
        [LEAF_CONTEXT, self.stream_id.as_bytes(), &end, &self.hash].concat()
    }

    fn to_wire(self) -> wire::StreamHead {
        wire::StreamHead {
            stream_id: self.stream_id.to_bytes(),
            end_exclusive: self.end_exclusive,
            hash: Bytes::copy_from_slice(&self.hash),
        }
    }

    fn from_wire(head: &wire::StreamHead) -> Option<Self> {
        Some(Self {
            stream_id: Id::from_slice(&head.stream_id).ok()?,
            end_exclusive: (head.end_exclusive > 0).then_some(head.end_exclusive)?,
            hash: head.hash.as_ref().try_into().ok()?,
        })
    }
}

/// The event that carries heads: its place and its time are signed with them, so that it cannot be shown again elsewhere
/// or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stream of the instance that signs.
    pub stream_id: Id,
    /// The event's number in it.
    pub seq: u64,
    /// The event's time, in microseconds since the Unix epoch.
    pub occurred_at_unix_us: i64,
}

/// Which part of an instance's heads an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// 0-based.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// Whether the instance stops.
    pub last: bool,
}

/// Heads in another form than the one they are written in: an id or a hash of the wrong length, a head of no events, or
/// heads out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the heads are malformed")]
pub struct HeadsError;

/// Heads as somebody wrote them. Whether they are signed is still to be asked: [`SignedRoot::is_signed_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// By stream id, rising, no stream twice.
    pub heads: Vec<Head>,
    /// What was signed.
    pub root: SignedRoot,
}

/// What a signature over heads covers, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRoot {
    /// Where the event stands that carries it.
    pub place: Place,
    /// Which part it is.
    pub part: Part,
    count: u64,
    /// Of the heads that are there: a signature over other ones does not hold.
    root: [u8; HASH_BYTES],
    names_its_root: bool,
    key_id: String,
    signature: Bytes,
}

impl Heads {
    /// Signs heads into the payload of the event at `place`.
    ///
    /// `heads` must be sorted by stream id and name no stream twice: only then does [`Heads::open`] take them.
    #[must_use]
    pub fn sign(key: &SigningKey, place: Place, part: Part, heads: &[Head]) -> wire::StreamHeads {
        let root = tree_hash(heads.iter().map(Head::leaf));
        let signature = key.sign(&signed_bytes(place, part, heads.len() as u64, &root));
        wire::StreamHeads {
            heads: heads.iter().map(|head| head.to_wire()).collect(),
            root_hash: Bytes::copy_from_slice(&root),
            key_id: key.public().id(),
            signature: Bytes::copy_from_slice(&signature),
            last: part.last,
            part_index: part.index,
            parts: part.count,
        }
    }

    /// Reads the payload of the event at `place`.
    ///
    /// # Errors
    /// If the heads are not in the one form they are written in.
    pub fn open(place: Place, wire: &wire::StreamHeads) -> Result<Self, HeadsError> {
        let heads: Option<Vec<Head>> = wire.heads.iter().map(Head::from_wire).collect();
        let heads = heads.ok_or(HeadsError)?;
        if !heads.is_sorted_by(|one, next| one.stream_id < next.stream_id) {
            return Err(HeadsError);
        }
        // Neither is longer in any that holds, and whoever keeps many keeps no more than that of each.
        if wire.key_id.len() > 2 * KEY_ID_BYTES || wire.signature.len() > SIGNATURE_BYTES {
            return Err(HeadsError);
        }
        let root = tree_hash(heads.iter().map(Head::leaf));
        let part = Part { index: wire.part_index, count: wire.parts, last: wire.last };
        let root = SignedRoot {
            place,
            part,
            count: heads.len() as u64,
            root,
            names_its_root: wire.root_hash == root[..],
            key_id: wire.key_id.clone(),
            signature: wire.signature.clone(),
        };
        Ok(Self { heads, root })
    }
}

impl SignedRoot {
    /// Whether one of these keys signed the heads, all of them and no other. An Ed25519 check, some 50 µs.
    #[must_use]
    pub fn is_signed_by(&self, keys: &TrustedKeys) -> bool {
        let message = signed_bytes(self.place, self.part, self.count, &self.root);
        self.names_its_root && keys.verify(&self.key_id, &message, &self.signature)
    }
}

/// Context string, then numbers of fixed length, most significant byte first: no two meanings have the same bytes.
fn signed_bytes(place: Place, part: Part, count: u64, root: &[u8; HASH_BYTES]) -> Vec<u8> {
    [
        SIGNED_CONTEXT,
        place.stream_id.as_bytes(),
        &place.seq.to_be_bytes(),
        &place.occurred_at_unix_us.to_be_bytes(),
        &part.index.to_be_bytes(),
        &part.count.to_be_bytes(),
        &[u8::from(part.last)],
        &count.to_be_bytes(),
        root,
    ]
    .concat()
}
