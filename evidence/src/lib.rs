//! Proof without I/O: what was signed about streams, and what the streams that are there make of it.
//!
//! The way through this crate, in reading order:
//!
//! * [`tree_hash`]: the Merkle tree hash of RFC 9162, section 2.1.
//! * [`SigningKey`], [`PublicKey`], [`TrustedKeys`]: Ed25519 (RFC 8032). Whoever checks needs only public keys.
//! * [`Heads`]: where the open streams of an instance stand, signed by it, and what exactly the signature covers.
//! * [`Stream`], [`Witness`], [`SessionState`]: a stream as it is found, what signed heads say of it, and what follows.
//! * [`ControlSigner`], [`ControlReader`], [`Order`]: what a control record orders, and whether it is to be obeyed.
//! * [`Holds`]: whose evidence must be kept, by all control records that there are.
//! * [`Reviews`]: what people are asked to decide, what they decided, and whether a grant is good.
//!
//! No I/O, no clock, no randomness: keys, times and rows are arguments.

mod tree;

mod key;

mod heads;

mod state;

mod control;

mod holds;

mod reviews;

pub use control::{
    CANCEL_LIFETIME_US_MAX, CONTROL_LIFETIME_US_MAX, ControlKeys, ControlReader, ControlSigner,
    HOLD_NAME_BYTES_MAX, HeldOn, NotObeyed, Order, Standing,
};
pub use heads::{HEADS_PER_EVENT_MAX, Head, Heads, HeadsError, Part, Place, SignedRoot};
pub use holds::{HoldChange, Holds};
pub use key::{KeyError, PublicKey, SEED_BYTES, SigningKey, TrustedKeys};
pub use reviews::{
    Decided, Person, REVIEWS_MAX, Review, ReviewDecision, ReviewRequest, ReviewStatus, ReviewTerms, Reviewer,
    Reviews, Run, Written, sign_decision,
};
pub use state::{HEADS_INTERVAL_US, InstanceSeen, SILENCE_US_MAX, SessionState, Stream, Witness};
pub use tree::tree_hash;
