//! Control records: who may order what, and whether somebody who may wrote it.
//!
//! Whoever can write to the log could otherwise order a gateway about. So each record is signed by a key, each key belongs
//! to a role, and each kind of record says which roles may sign it. The signature covers the whole envelope and the topic
//! partition it was written for, so nothing of it can be changed, and it means nothing elsewhere or in the log of another
//! gateway. A copy in the same topic partition is known by its place in its stream, which only ever grows.

use std::collections::HashMap;

use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::wire::{self, KeyRole};
use retrace_proto::{Id, Recorded};

use crate::key::{SigningKey, TrustedKeys};
use crate::reviews::{ReviewDecision, ReviewRequest, Run};

/// What begins the bytes that are signed, so that the signature means nothing anywhere else.
const SIGNED_CONTEXT: &[u8] = b"retrace control v1\0";

/// How long a control record is good for after it was written, in microseconds: 30 days. What is older is not obeyed, and
/// what was ordered so long ago must be in the configuration by then.
pub const CONTROL_LIFETIME_US_MAX: i64 = 30 * 24 * 3600 * 1_000_000;

/// How long a cancel is good for, by the clocks of its writer, the log and the reader, in microseconds. What a session does
/// later is something else.
pub const CANCEL_LIFETIME_US_MAX: i64 = 60 * 1_000_000;

/// How much earlier than its writer's clock says the log may have taken a record, in microseconds: clocks differ.
const CLOCK_DIFFERENCE_US_MAX: i64 = 3600 * 1_000_000;

/// Longest id of a token, in bytes.
const TOKEN_ID_BYTES_MAX: usize = 64;

/// Longest name of what a hold is on, in bytes. A record with a longer one is obeyed by nobody.
pub const HOLD_NAME_BYTES_MAX: usize = 256;

/// Streams of a role whose last place is remembered. Each is one start of a process that wrote a control record.
const STREAMS_MAX: usize = 65_536;

/// Signs the control records of one process.
#[derive(Debug)]
pub struct ControlSigner {
    key: SigningKey,
    role: KeyRole,
    topic_id: Id,
}

impl ControlSigner {
    /// Signs in a role, for the control topic of one log.
    #[must_use]
    pub fn new(key: SigningKey, role: KeyRole, topic_id: Id) -> Self {
        Self { key, role, topic_id }
    }

    /// The signature over an envelope that has none yet and that goes to this partition of the topic.
    #[must_use]
    pub fn sign(&self, partition: u32, unsigned: &[u8]) -> wire::ControlSignature {
        let signature = self.key.sign(&signed_bytes(self.role, (self.topic_id, partition), unsigned));
        wire::ControlSignature {
            role: self.role.into(),
            key_id: self.key.public().id(),
            signature: signature.to_vec().into(),
        }
    }
}

/// The public keys of each role.
#[derive(Clone, Debug, Default)]
pub struct ControlKeys {
    /// Of proxies.
    pub proxy: TrustedKeys,
    /// Of query services.
    pub query: TrustedKeys,
}

impl ControlKeys {
    fn of(&self, role: KeyRole) -> Option<&TrustedKeys> {
        match role {
            KeyRole::Unspecified => None,
            KeyRole::Proxy => Some(&self.proxy),
            KeyRole::Query => Some(&self.query),
        }
    }
}

/// What a control record orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End a session.
    Kill {
        /// Which.
        session_id: Id,
        /// Only if it is this principal's.
        only_principal: Option<String>,
    },
    /// Take a token no longer, and end what it began.
    RevokeToken {
        /// Which.
        token_id: String,
    },
    /// Cancel what a session does.
    Cancel {
        /// As the session's client knows it.
        process_id: u32,
        /// Of the session, if its client's protocol has room for it.
        connection_id: Option<Id>,
    },
    /// Keep evidence whatever its age. It concerns whoever removes evidence, and no process that serves.
    SetHold {
        /// Which hold.
        hold_id: Id,
        /// Whose evidence.
        on: HeldOn,
    },
    /// Keep it no longer.
    LiftHold {
        /// Which hold.
        hold_id: Id,
    },
    /// Have a command decided about.
    RequestReview(Box<ReviewRequest>),
    /// Count a decision.
    DecideReview(ReviewDecision),
    /// Take no further decision, and let what was granted count no more.
    WithdrawReview {
        /// Which review.
        review_id: Id,
    },
    /// Give a grant that is good for one run to this one.
    UseGrant {
        /// Of which review.
        review_id: Id,
        /// Whose.
        run: Run,
    },
}

/// Whose evidence a hold keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldOn {
    /// Everything about a session.
    Session(Id),
    /// Everything that a principal did, or somebody on its behalf.
    Principal(String),
    /// Everything that was done at a target.
    Target(String),
}

/// Why a record of the control topic is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotObeyed {
    /// Nobody signed it.
    #[error("it is not signed")]
    NotSigned,
    /// It orders nothing that this version knows, or not in full.
    #[error("it orders nothing that is known here")]
    NoOrder,
    /// It is signed in a role that may not order this.
    #[error("its role may not order this")]
    Role,
    /// No trusted key of its role signed it as it stands, for this place.
    #[error("its signature does not hold")]
    Signature,
    /// Something at this place of its stream or behind it was obeyed already.
    #[error("it is a copy of an earlier record, or overtaken by a later one")]
    Copied,
    /// It was written longer ago than such a record is good for, or is dated after the log took it.
    #[error("it is out of date, or the clocks of its writer and of the log differ by too much")]
    OutOfDate,
    /// It stands among records that are read from the beginning, though it is good for a moment, or the other way round.
    #[error("it stands in a partition of the topic where such records do not belong")]
    Misplaced,
}

/// Where and when the log has a control record.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The partition of the topic.
    pub partition: u32,
    /// Whether cancels belong there, and nothing else does. `None` if the topic has one partition, for everything.
    pub is_for_cancels: Option<bool>,
    /// When the log took it, in microseconds since the Unix epoch.
    pub appended_at_unix_us: i64,
    /// The reader's clock.
    pub now_unix_us: i64,
}

/// Reads the control topic of one gateway, each topic partition in order and from its beginning.
#[derive(Debug)]
pub struct ControlReader {
    keys: ControlKeys,
    topic_id: Id,
    /// The last place that was obeyed of each stream, by the role and key that sign it: nobody's record comes in the way of
    /// another's, whatever it says of its stream.
    last: HashMap<KeyRole, HashMap<(String, Id), Place>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    seq: u64,
    occurred_at_unix_us: i64,
}

impl ControlReader {
    /// A reader that has read nothing yet.
    #[must_use]
    pub fn new(keys: ControlKeys, topic_id: Id) -> Self {
        Self { keys, topic_id, last: HashMap::new() }
    }

    /// What the next record of a partition orders.
    ///
    /// # Errors
    /// If it is not to be obeyed. What is read after it stands as if it had not been there.
    pub fn read(&mut self, recorded: &Recorded, standing: Standing) -> Result<Order, NotObeyed> {
        let signature = recorded.signature().ok_or(NotObeyed::NotSigned)?;
        let (order, may_sign) = order(recorded)?;
        let role = signature.role();
        let keys = self.keys.of(role).filter(|_| may_sign.contains(&role)).ok_or(NotObeyed::Role)?;
        let is_cancel = matches!(order, Order::Cancel { .. });
        if standing.is_for_cancels.is_some_and(|is_for_cancels| is_for_cancels != is_cancel) {
            return Err(NotObeyed::Misplaced);
        }
        // Asked before the signature, which costs more: there may be many.
        let header = recorded.header();
        if !standing.is_good(header.occurred_at_unix_us, is_cancel) {
            return Err(NotObeyed::OutOfDate);
        }
        let place = (self.topic_id, standing.partition);
        let message = signed_bytes(role, place, &recorded.unsigned_bytes());
        if !keys.verify(&signature.key_id, &message, &signature.signature) {
            return Err(NotObeyed::Signature);
        }
        let place = Place { seq: header.stream_seq, occurred_at_unix_us: header.occurred_at_unix_us };
        self.go_to(role, (signature.key_id.clone(), recorded.stream_id()), place)?;
        Ok(order)
    }

    /// A stream goes forward only.
    fn go_to(&mut self, role: KeyRole, stream: (String, Id), place: Place) -> Result<(), NotObeyed> {
        let last = self.last.entry(role).or_default();
        if last.get(&stream).is_some_and(|last| last.seq >= place.seq) {
            return Err(NotObeyed::Copied);
        }
        if last.len() >= STREAMS_MAX && !last.contains_key(&stream) {
            // Copies of what is forgotten are out of date: whoever could write so many streams in 30 days has a key.
            let newest = last.values().map(|last| last.occurred_at_unix_us).max().unwrap_or(0);
            last.retain(|_, last| newest - last.occurred_at_unix_us <= CONTROL_LIFETIME_US_MAX);
            if last.len() >= STREAMS_MAX {
                return Err(NotObeyed::Copied);
            }
        }
        last.insert(stream, place);
        Ok(())
    }
}

impl Standing {
    /// Whether a record that was written then is still good.
    fn is_good(&self, occurred_at_unix_us: i64, is_cancel: bool) -> bool {
        let lifetime_us_max = if is_cancel { CANCEL_LIFETIME_US_MAX } else { CONTROL_LIFETIME_US_MAX };
        let age_us = self.appended_at_unix_us.saturating_sub(occurred_at_unix_us);
        let kept_us = self.now_unix_us.saturating_sub(self.appended_at_unix_us);
        (-CLOCK_DIFFERENCE_US_MAX..=lifetime_us_max).contains(&age_us)
            && (!is_cancel || kept_us <= lifetime_us_max)
    }
}

/// What a record orders, and the roles that may.
pub(crate) fn order(recorded: &Recorded) -> Result<(Order, &'static [KeyRole]), NotObeyed> {
    match recorded.payload() {
        Payload::KillRequested(kill) => {
            let session_id = recorded.session_id().ok_or(NotObeyed::NoOrder)?;
            let only_principal = Some(kill.only_principal.clone()).filter(|name| !name.is_empty());
            Ok((Order::Kill { session_id, only_principal }, &[KeyRole::Query]))
        }
        Payload::TokenRevoked(revoked) if revoked.token_id.len() <= TOKEN_ID_BYTES_MAX => {
            Ok((Order::RevokeToken { token_id: revoked.token_id.clone() }, &[KeyRole::Query]))
        }
        Payload::CancelRequested(cancel) => {
            let connection_id = match &cancel.connection_id[..] {
                [] => None,
                id => Some(Id::from_slice(id).map_err(|_| NotObeyed::NoOrder)?),
            };
            Ok((Order::Cancel { process_id: cancel.process_id, connection_id }, &[KeyRole::Proxy]))
        }
        Payload::LegalHoldSet(hold) => {
            let hold_id = Id::from_slice(&hold.hold_id).map_err(|_| NotObeyed::NoOrder)?;
            let on = hold.on.as_ref().and_then(held_on).ok_or(NotObeyed::NoOrder)?;
            Ok((Order::SetHold { hold_id, on }, &[KeyRole::Query]))
        }
        Payload::LegalHoldLifted(hold) => {
            let hold_id = Id::from_slice(&hold.hold_id).map_err(|_| NotObeyed::NoOrder)?;
            Ok((Order::LiftHold { hold_id }, &[KeyRole::Query]))
        }
        Payload::ReviewRequested(requested) => {
            let request = ReviewRequest::read(requested).ok_or(NotObeyed::NoOrder)?;
            Ok((Order::RequestReview(Box::new(request)), &[KeyRole::Proxy]))
        }
        Payload::ReviewDecided(decided) => {
            let decision = ReviewDecision::read(decided).ok_or(NotObeyed::NoOrder)?;
            Ok((Order::DecideReview(decision), &[KeyRole::Query]))
        }
        Payload::ReviewWithdrawn(withdrawn) => {
            let review_id = Id::from_slice(&withdrawn.review_id).map_err(|_| NotObeyed::NoOrder)?;
            Ok((Order::WithdrawReview { review_id }, &[KeyRole::Proxy, KeyRole::Query]))
        }
        Payload::GrantUsed(used) => {
            let id = |bytes| Id::from_slice(bytes).map_err(|_| NotObeyed::NoOrder);
            let run = Run { stream_id: id(&used.stream_id)?, command_seq: used.command_seq };
            Ok((Order::UseGrant { review_id: id(&used.review_id)?, run }, &[KeyRole::Proxy]))
        }
        _ => Err(NotObeyed::NoOrder),
    }
}

fn held_on(on: &On) -> Option<HeldOn> {
    let is_name = |name: &str| !name.is_empty() && name.len() <= HOLD_NAME_BYTES_MAX;
    match on {
        On::SessionId(id) => Id::from_slice(id).ok().map(HeldOn::Session),
        On::Principal(name) => is_name(name).then(|| HeldOn::Principal(name.clone())),
        On::Target(name) => is_name(name).then(|| HeldOn::Target(name.clone())),
    }
}

/// Whether a trusted key of a role that may signed a record as it stands, for this place. How old it is does not matter.
pub(crate) fn signed_order(
    keys: &ControlKeys,
    place: (Id, u32),
    recorded: &Recorded,
) -> Result<Order, NotObeyed> {
    let signature = recorded.signature().ok_or(NotObeyed::NotSigned)?;
    let (order, may_sign) = order(recorded)?;
    let role = signature.role();
    let keys = keys.of(role).filter(|_| may_sign.contains(&role)).ok_or(NotObeyed::Role)?;
    let message = signed_bytes(role, place, &recorded.unsigned_bytes());
    if keys.verify(&signature.key_id, &message, &signature.signature) {
        Ok(order)
    } else {
        Err(NotObeyed::Signature)
    }
}

/// Context string and fields of fixed length, then the envelope: no two meanings have the same bytes.
fn signed_bytes(role: KeyRole, (topic_id, partition): (Id, u32), unsigned: &[u8]) -> Vec<u8> {
    let role = i32::from(role).to_be_bytes();
    [SIGNED_CONTEXT, &role, topic_id.as_bytes(), &partition.to_be_bytes(), unsigned].concat()
}
