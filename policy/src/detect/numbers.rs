//! The one pass over the digits of a text that all detectors of numbers share.

use super::digits::{Starts, count};
use super::keywords::Keywords;
use super::payment_card::Scanner;
use super::separators::tight;
use super::{Detector, Detectors, Finding, iban, national_id, phone, us_ssn};

/// Whose values this looks for; all but the first by themselves.
pub(super) const DETECTORS: [Detector; 5] =
    [Detector::PaymentCard, Detector::UsSsn, Detector::Iban, Detector::Phone, Detector::NationalId];

/// Shortest text that can have a number in it: seven digits in groups and a plus sign.
const TEXT_BYTES_MIN: usize = 8;
/// Most digits that a run has in a number of any kind but a card.
const RUN_DIGITS_MAX: usize = 18;
/// Most digits that a group has in a number that is written in groups.
const GROUP_DIGITS_MAX: usize = 8;

/// Appends every card, social security number, account number, telephone number and national id.
///
/// Linear: at each run of digits a bounded number of bytes around it is looked at, and a card's digits go on from the
/// last number's.
pub(super) fn find(text: &[u8], set: &Detectors, found: &mut Vec<Finding>) {
    if text.len() < TEXT_BYTES_MIN {
        return;
    }
    let mut finder = Finder { text, set, near: Keywords::new(text), found };
    let mut cards = set.has(Detector::PaymentCard).then(|| Scanner::new(text));
    let has_others = set.has_any(&DETECTORS[1..]);
    for start in Starts::new(text) {
        if let Some(scanner) = &mut cards {
            scanner.scan_at(start, |range| {
                finder.found.push(Finding { detector: Detector::PaymentCard, range });
            });
        }
        if has_others {
            finder.run(start);
        }
    }
}

struct Finder<'a, 'f> {
    text: &'a [u8],
    set: &'a Detectors,
    near: Keywords<'a>,
    found: &'f mut Vec<Finding>,
}

impl Finder<'_, '_> {
    /// A run of digits begins at `start`.
    fn run(&mut self, start: usize) {
        let len = count(&self.text[start..], RUN_DIGITS_MAX + 5);
        self.digits(start, len);
        // The first digits may be the end of an escape: `%20`, `\u0020`.
        for (sign, escape) in [(&b"%"[..], 2), (b"\\u", 4)] {
            if len > escape && self.text[..start].ends_with(sign) {
                self.digits(start + escape, len - escape);
            }
        }
    }

    fn digits(&mut self, start: usize, len: usize) {
        if len >= 2 && self.set.has(Detector::Iban) && start >= 2 && self.text[start - 1].is_ascii_alphabetic() {
            iban::find_at(self.text, start, self.found);
        }
        if len == 0 || len > RUN_DIGITS_MAX {
            return;
        }
        let end = start + len;
        if self.set.has(Detector::NationalId) {
            national_id::find_bare(self.text, start, end, &mut self.near, self.found);
        }
        if len == 9 && self.set.has(Detector::UsSsn) {
            us_ssn::find_bare(self.text, start, &mut self.near, self.found);
        }
        if self.set.has(Detector::Phone) {
            phone::find_at(self.text, start, end, self.found);
        }
        if len <= GROUP_DIGITS_MAX {
            self.groups(start, end);
        }
    }

    /// Numbers in groups whose first group this is.
    fn groups(&mut self, start: usize, end: usize) {
        let gap = tight(&self.text[end..]);
        if gap == 0 {
            return;
        }
        let groups = (end - start, count(&self.text[end + gap..], GROUP_DIGITS_MAX + 1));
        if groups == (3, 2) && self.set.has(Detector::UsSsn) {
            us_ssn::find_written(self.text, start, self.found);
        }
        if self.set.has(Detector::NationalId) {
            national_id::find_written(self.text, start, groups, self.found);
        }
    }
}
