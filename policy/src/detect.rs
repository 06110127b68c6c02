//! Detectors: what finds sensitive values in bytes, and what stands in their place.
//!
//! A detector sees a value as it is printed. It is built so that it rather finds too much than too little, but it sees
//! the value alone: a query that transforms what it reads (`substr`, `reverse`, `replace`, arithmetic, an odd
//! `to_char`) can carry a value past it. Masks by column and lineage are for that.
//!
//! Input is bytes, mostly UTF-8, sometimes Latin-1, sometimes neither; ranges are bytes and always lie on the borders
//! of characters where there are any. Work is linear in the input whatever stands in it, and text without an at-sign
//! and with few digits is passed over at the speed of a vectorised scan.

mod chars;

mod email;

mod payment_card;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use retrace_proto::wire::{MaskAction, MaskKind};

/// One kind of sensitive value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detector {
    /// Numbers of payment cards (ISO/IEC 7812): known issuer, possible length, right check digit.
    PaymentCard,
    /// E-mail addresses (RFC 5321, 5322 and 6531 as they are used).
    Email,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::PaymentCard, Self::Email];

    /// The name that the configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaymentCard => "payment_card",
            Self::Email => "email",
        }
    }

    /// How events name what it found.
    #[must_use]
    pub fn kind(self) -> MaskKind {
        match self {
            Self::PaymentCard => MaskKind::PaymentCard,
            Self::Email => MaskKind::Email,
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no detector has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a detector; allowed are payment_card, email")]
pub struct UnknownDetector {
    /// What was asked for.
    pub name: String,
}

impl FromStr for Detector {
    type Err = UnknownDetector;

    fn from_str(name: &str) -> Result<Self, UnknownDetector> {
        Self::ALL
            .into_iter()
            .find(|detector| detector.name() == name)
            .ok_or_else(|| UnknownDetector { name: name.to_owned() })
    }
}

/// Something a detector found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which detector.
    pub detector: Detector,
    /// Where, in bytes of the input; never empty.
    pub range: Range<usize>,
}

/// A set of detectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detectors {
    payment_card: bool,
    email: bool,
}

impl Detectors {
    /// The set of these.
    pub fn new(set: impl IntoIterator<Item = Detector>) -> Self {
        let mut detectors = Self::default();
        for detector in set {
            match detector {
                Detector::PaymentCard => detectors.payment_card = true,
                Detector::Email => detectors.email = true,
            }
        }
        detectors
    }

    /// Whether it would never find anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.payment_card && !self.email
    }

    /// Appends findings in order of start. Those of one detector never overlap; those of two may.
    pub fn find(&self, text: &[u8], found: &mut Vec<Finding>) {
        let first_new = found.len();
        if self.payment_card {
            payment_card::find(text, found);
        }
        let first_email = found.len();
        if self.email {
            email::find(text, found);
        }
        if first_email > first_new && found.len() > first_email {
            found[first_new..].sort_by_key(|finding| finding.range.start);
        }
    }
}

/// Appends a finding; if it overlaps earlier ones of the same detector (those from `first` on), they become one.
///
/// Both claims may be true, so the union is hidden: whichever is the real value, nothing of it stays in sight.
fn push_merged(found: &mut Vec<Finding>, first: usize, detector: Detector, mut range: Range<usize>) {
    while found.len() > first {
        let last = &found[found.len() - 1].range;
        if last.end <= range.start {
            break;
        }
        range = range.start.min(last.start)..range.end.max(last.end);
        found.pop();
    }
    found.push(Finding { detector, range });
}

/// The form that fingerprints are made of: the same value written differently has the same one.
///
/// Cards: ASCII digits alone. E-mail: `local@domain` without quotes and escapes, in lower case.
#[must_use]
pub fn canonical(detector: Detector, matched: &[u8]) -> Vec<u8> {
    match detector {
        Detector::PaymentCard => payment_card::canonical(matched),
        Detector::Email => email::canonical(matched),
    }
}

/// Appends what stands in the place of a finding.
///
/// [`MaskAction::Partial`] keeps of a card its separators and last four digits, `**** **** **** 1111`; of an address
/// the first character of a local part that has more than one, and the domain, `j***@example.com`. Every other action
/// gives `[payment_card]` or `[email]`: what is not known how to show in part is not shown. What this appends is not
/// found again.
pub fn replacement(detector: Detector, action: MaskAction, matched: &[u8], out: &mut Vec<u8>) {
    match (action, detector) {
        (MaskAction::Partial, Detector::PaymentCard) => payment_card::partial(matched, out),
        (MaskAction::Partial, Detector::Email) => email::partial(matched, out),
        (_, Detector::PaymentCard) => out.extend_from_slice(b"[payment_card]"),
        (_, Detector::Email) => out.extend_from_slice(b"[email]"),
    }
}

#[cfg(test)]
mod tests;
