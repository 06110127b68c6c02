//! The events of reviews.

use bytes::Bytes;
use retrace_proto::wire::{self, reviewer::Who};
use retrace_proto::{Event, Masked};

use crate::{control_reference, id};

/// A command that people decided about, from its request to its run, and one that its client took back.
pub(crate) fn reviews() -> Vec<Event> {
    let requested = wire::ReviewRequested {
        review_id: id(12).to_bytes(),
        command: Some(wire::ReviewedCommand {
            stream_id: id(1).to_bytes(),
            command_seq: 2,
            chunks: 3,
            last_hash: Bytes::from_static(&[4; 32]),
        }),
        bound_to: Some(wire::KeyedHash {
            key_id: "00ee".to_owned(),
            hmac_sha256: Bytes::from_static(&[5; 32]),
        }),
        terms: vec![wire::ReviewTerms {
            rule: "ddl".to_owned(),
            text: "changes of definitions are reviewed".to_owned(),
            reviewers: [Who::Group("dba".to_owned()), Who::Principal("ann".to_owned())]
                .map(|who| wire::Reviewer { who: Some(who) })
                .to_vec(),
            approvals: 2,
            reason_required: true,
        }],
        wait_us: 6,
        open_us: 7,
        grant_us: 8,
        once: true,
        in_transaction: true,
        policy_version: "00ff".to_owned(),
        said_seqs: vec![0, 1],
        said: 9,
    };
    let decided = wire::ReviewDecided {
        review_id: id(12).to_bytes(),
        requested_hash: Bytes::from_static(&[6; 32]),
        verdict: wire::review_decided::Verdict::Approve.into(),
        reason: String::new(),
        signature: Some(wire::ReviewerSignature {
            key_id: "00aa".to_owned(),
            signature: Bytes::from_static(&[11; 64]),
        }),
    };
    let reason = || Masked::by_masking("why".to_owned());
    vec![
        Event::review_requested(requested),
        Event::review_decided(decided, reason()),
        Event::grant_used(id(12), id(1), 2),
        Event::review_withdrawn(id(13), wire::review_withdrawn::Cause::Cancelled, reason()),
    ]
}

/// What a session says of a grant that it runs by.
pub(crate) fn review_applied() -> Event {
    Event::review_applied(wire::ReviewApplied {
        review_id: id(12).to_bytes(),
        outcome: wire::review_applied::Outcome::Granted.into(),
        decision: Some(control_reference()),
        used: Some(control_reference()),
    })
}
