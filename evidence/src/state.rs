use std::fmt;

use crate::heads::Head;

/// How often an instance signs its heads, in microseconds.
pub const HEADS_INTERVAL_US: i64 = 10_000_000;

/// How long an instance may say nothing before it is taken to be gone, in microseconds: three intervals. A new event has
/// as long to be covered by a signed head.
pub const SILENCE_US_MAX: i64 = 3 * HEADS_INTERVAL_US;

/// The stream of a session as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its events are numbered from 0 without a gap, each names the hash of the one before, and none follows the end of
    /// the session.
    pub is_whole: bool,
    /// One more than the highest number among its events.
    pub end_exclusive: u64,
    /// Whether the last event closes the session.
    pub is_closed: bool,
    /// The hash of the last event that the signed head covers is the head's. `None` if that event is not there, or there
    /// is no head.
    pub agrees_with_head: Option<bool>,
    /// When the log took its first event, in microseconds since the Unix epoch.
    pub first_appended_at_unix_us: i64,
    /// When the log took its last event, likewise.
    pub last_appended_at_unix_us: i64,
    /// It began so early that retention removes it, unless a legal hold is on it.
    pub may_expire: bool,
}

/// What heads say of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// None names it.
    None,
    /// The one that goes furthest is not signed by a trusted key.
    Unsigned,
    /// This is the one that goes furthest.
    Signed {
        /// Where the stream stood.
        head: Head,
        /// When that was said, in microseconds since the Unix epoch.
        at_unix_us: i64,
        /// Whether the instance then stopped.
        last: bool,
    },
}

/// The newest signed heads of the instance that wrote a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceSeen {
    /// Their time, in microseconds since the Unix epoch.
    pub at_unix_us: i64,
    /// Whether the instance then stopped.
    pub last: bool,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It goes on.
    Open,
    /// It ended, and a signed head covers its end.
    Closed,
    /// It never ended, and its instance is gone or no longer counts it among its own.
    Lost,
    /// No signature says that what is there is all there was.
    Unverified,
    /// Something is missing or was changed.
    Damaged,
    /// Something is missing, and retention removes what is as old.
    Expired,
}

impl SessionState {
    /// As the view `sessions` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Unverified => "unverified",
            Self::Damaged => "damaged",
            Self::Expired => "expired",
        }
    }

    /// Judges a stream at the reader's time `now_unix_us`. The first that holds:
    ///
    /// 1. *damaged*: the stream has a gap, a hash that is not the next event's, or an event after its end; or a signed
    ///    head says that it had more events, or another last one. *expired* instead, if retention removes what began so early: it
    ///    removes a session file by file, and one whose last command took days in two parts.
    /// 2. *unverified*: heads name it, and the one that goes furthest is not signed by a trusted key.
    /// 3. If it is closed: *closed* when a signed head covers all of it, or when its last event is younger than
    ///    [`SILENCE_US_MAX`] and its head may be on the way; else *unverified*.
    /// 4. If it is not, and a signed head names it: *lost* when the newest such head is the instance's last word or older
    ///    than [`SILENCE_US_MAX`], since an open stream is named every time; else *open*.
    /// 5. If none names it: *open* while it is younger than [`SILENCE_US_MAX`]; then *lost* if its instance has signed
    ///    before and is silent now, else *unverified*. An instance that stopped makes it *lost* at once.
    ///
    /// The reader's clock decides, not the newest event's: where everything has stopped, no event comes to show it.
    #[must_use]
    pub fn judge(
        stream: &Stream,
        witness: &Witness,
        instance: Option<InstanceSeen>,
        now_unix_us: i64,
    ) -> Self {
        match Self::judge_whole(stream, witness, instance, now_unix_us) {
            Self::Damaged if stream.may_expire => Self::Expired,
            state => state,
        }
    }

    fn judge_whole(
        stream: &Stream,
        witness: &Witness,
        instance: Option<InstanceSeen>,
        now_unix_us: i64,
    ) -> Self {
        let is_old = |at_unix_us: i64| now_unix_us.saturating_sub(at_unix_us) > SILENCE_US_MAX;
        if !stream.is_whole {
            return Self::Damaged;
        }
        let covered = match witness {
            Witness::None => false,
            Witness::Unsigned => return Self::Unverified,
            Witness::Signed { head, .. } if stream.end_exclusive < head.end_exclusive => {
                return Self::Damaged;
            }
            Witness::Signed { .. } if stream.agrees_with_head != Some(true) => return Self::Damaged,
            Witness::Signed { head, .. } => stream.end_exclusive == head.end_exclusive,
        };
        if stream.is_closed {
            let settled = covered || !is_old(stream.last_appended_at_unix_us);
            return if settled { Self::Closed } else { Self::Unverified };
        }
        if let Witness::Signed { at_unix_us, last, .. } = witness {
            return if *last || is_old(*at_unix_us) { Self::Lost } else { Self::Open };
        }
        match instance {
            Some(InstanceSeen { last: true, .. }) => Self::Lost,
            _ if !is_old(stream.first_appended_at_unix_us) => Self::Open,
            Some(seen) if is_old(seen.at_unix_us) => Self::Lost,
            _ => Self::Unverified,
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
