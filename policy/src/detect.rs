//! Detectors: what finds sensitive values in bytes, and what stands in their place.
//!
//! A detector sees a value as it is printed. It is built so that it rather finds too much than too little, but it sees
//! the value alone: a query that transforms what it reads (`substr`, `reverse`, `replace`, arithmetic, an odd
//! `to_char`) can carry a value past it. Masks by column and lineage are for that.
//!
//! Input is bytes, mostly UTF-8, sometimes Latin-1, sometimes neither; ranges are bytes and always lie on the borders
//! of characters where there are any. Work is linear in the input whatever stands in it: at each digit, at-sign or fixed
//! word a bounded number of bytes around it is looked at, or bytes that are then done with. Text with few of those is
//! passed over at the speed of vectorised scans.
//!
//! Two detectors may claim the same bytes (a telephone number that is a card's digits): both are reported.

mod chars;

mod separators;

mod digits;

mod written;

mod numbers;

mod keywords;

mod payment_card;

mod us_ssn;

mod iban;

mod iso_time;

mod phone;

mod national_id;

mod email;

mod anchors;

mod api_key;

mod private_key;

mod jwt;

pub(crate) mod base64;

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
    /// Social security numbers of the United States.
    UsSsn,
    /// International bank account numbers (ISO 13616).
    Iban,
    /// Telephone numbers as they are printed.
    Phone,
    /// Keys and tokens of programming interfaces that can be told by their form.
    ApiKey,
    /// Private keys as text (RFC 7468 and its like).
    PrivateKey,
    /// JSON Web Tokens (RFC 7519).
    Jwt,
    /// Numbers that states give to people, where they have a check.
    NationalId,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::PaymentCard,
        Self::Email,
        Self::UsSsn,
        Self::Iban,
        Self::Phone,
        Self::ApiKey,
        Self::PrivateKey,
        Self::Jwt,
        Self::NationalId,
    ];

    /// The name that the configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaymentCard => "payment_card",
            Self::Email => "email",
            Self::UsSsn => "us_ssn",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::ApiKey => "api_key",
            Self::PrivateKey => "private_key",
            Self::Jwt => "jwt",
            Self::NationalId => "national_id",
        }
    }

    /// How events name what it found.
    #[must_use]
    pub fn kind(self) -> MaskKind {
        match self {
            Self::PaymentCard => MaskKind::PaymentCard,
            Self::Email => MaskKind::Email,
            Self::UsSsn => MaskKind::UsSsn,
            Self::Iban => MaskKind::Iban,
            Self::Phone => MaskKind::Phone,
            Self::ApiKey => MaskKind::ApiKey,
            Self::PrivateKey => MaskKind::PrivateKey,
            Self::Jwt => MaskKind::Jwt,
            Self::NationalId => MaskKind::NationalId,
        }
    }
}

impl Detector {
    /// Whether its values are numbers, which are short.
    pub(crate) fn is_of_numbers(self) -> bool {
        numbers::DETECTORS.contains(&self)
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no detector has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a detector; allowed are {}", Detector::ALL.map(Detector::name).join(", "))]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detectors(u16);

impl Detectors {
    /// The set of these.
    pub fn new(set: impl IntoIterator<Item = Detector>) -> Self {
        Self(set.into_iter().fold(0, |bits, detector| bits | 1 << detector as u16))
    }

    /// Whether it would never find anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn has(&self, detector: Detector) -> bool {
        self.0 & 1 << detector as u16 != 0
    }

    fn has_any(&self, of: &[Detector]) -> bool {
        of.iter().any(|detector| self.has(*detector))
    }

    /// Appends findings in order of start. Those of one detector never overlap; those of two may.
    pub fn find(&self, text: &[u8], found: &mut Vec<Finding>) {
        if iso_time::is_time(text) {
            return;
        }
        let first_new = found.len();
        if self.has_any(&numbers::DETECTORS) {
            numbers::find(text, self, found);
        }
        if self.has(Detector::Email) {
            email::find(text, found);
        }
        if self.has_any(&anchors::DETECTORS) {
            anchors::find(text, self, found);
        }
        if found.len() > first_new + 1 {
            settle(found, first_new);
        }
    }
}

/// Puts the findings from `first` on in order. Where those of one detector overlap, they become one: both claims may be
/// true, so the union is hidden, and whichever is the real value, nothing of it stays in sight.
fn settle(found: &mut Vec<Finding>, first: usize) {
    let mut new = found.split_off(first);
    new.sort_unstable_by_key(|finding| (finding.detector, finding.range.start));
    for finding in new {
        match found[first..].last_mut() {
            Some(last) if last.detector == finding.detector && finding.range.start < last.range.end => {
                last.range.end = last.range.end.max(finding.range.end);
            }
            _ => found.push(finding),
        }
    }
    found[first..].sort_by_key(|finding| finding.range.start);
}

/// The form that fingerprints and tokens are made of: the same value written differently has the same one.
///
/// Cards and social security numbers: digits alone. E-mail: `local@domain` without quotes and escapes, in lower case.
/// Telephone numbers: digits, after a plus sign if the country is known. Account numbers and national ids: letters and
/// digits, in capitals. Private keys: without line breaks. Keys and tokens: as they are.
#[must_use]
pub fn canonical(detector: Detector, matched: &[u8]) -> Vec<u8> {
    match detector {
        Detector::PaymentCard => payment_card::canonical(matched),
        Detector::Email => email::canonical(matched),
        Detector::UsSsn | Detector::Iban => written::canonical(matched),
        Detector::Phone => phone::canonical(matched),
        Detector::NationalId => national_id::canonical(matched),
        Detector::PrivateKey => private_key::canonical(matched),
        Detector::ApiKey | Detector::Jwt => matched.to_vec(),
    }
}

/// Appends what stands in the place of a finding.
///
/// [`MaskAction::Partial`] keeps of a
/// * card its separators and last four digits, `**** **** **** 1111`;
/// * address the first character of a local part that has more than one, and the domain, `j***@example.com`;
/// * social security number the last four digits, `***-**-6789`;
/// * account number the country and the last four characters, `DE** **** **** **** **30 00`;
/// * telephone number the last two digits, `+** *** *****21`, and of a national id the last two characters;
/// * key its issuer's prefix, `ghp_***`; of a JSON Web Token the header, `eyJhbGciOiJIUzI1NiJ9.***`.
///
/// Every other action, and a private key, give `[payment_card]`, `[private_key]` and so on: what is not known how to
/// show in part is not shown. What this appends is not found again.
pub fn replacement(detector: Detector, action: MaskAction, matched: &[u8], out: &mut Vec<u8>) {
    match (action, detector) {
        (MaskAction::Partial, Detector::PaymentCard) => payment_card::partial(matched, out),
        (MaskAction::Partial, Detector::Email) => email::partial(matched, out),
        (MaskAction::Partial, Detector::UsSsn) => us_ssn::partial(matched, out),
        (MaskAction::Partial, Detector::Iban) => iban::partial(matched, out),
        (MaskAction::Partial, Detector::Phone) => phone::partial(matched, out),
        (MaskAction::Partial, Detector::ApiKey) => api_key::partial(matched, out),
        (MaskAction::Partial, Detector::Jwt) => jwt::partial(matched, out),
        (MaskAction::Partial, Detector::NationalId) => national_id::partial(matched, out),
        (_, detector) => {
            out.push(b'[');
            out.extend_from_slice(detector.name().as_bytes());
            out.push(b']');
        }
    }
}

#[cfg(test)]
mod tests;
