//! The one pass over the digits of a text that all detectors of numbers share.

use std::ops::Range;

use super::digits::{Run, Runs, count};
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
/// Most digits that are counted of the group after the first: one more than any number has there, but for cards.
const SECOND_DIGITS_MAX: usize = 8;
/// Digits of the longest escape: `\u0020`.
const ESCAPE_DIGITS_MAX: usize = 4;

/// Appends every card, social security number, account number, telephone number and national id.
///
/// Linear: at each run of digits a bounded number of bytes around it is looked at, and a card's digits go on from the
/// last number's.
pub(super) fn find(text: &[u8], set: &Detectors, found: &mut Vec<Finding>) {
    if text.len() < TEXT_BYTES_MIN {
        return;
    }
    let mut finder = Finder {
        text,
        has_ssn: set.has(Detector::UsSsn),
        has_iban: set.has(Detector::Iban),
        has_phone: set.has(Detector::Phone),
        has_id: set.has(Detector::NationalId),
        near: Keywords::new(text),
        found,
    };
    let mut cards = set.has(Detector::PaymentCard).then(|| Scanner::new(text));
    let has_others = set.has_any(&DETECTORS[1..]);
    for (start, len) in Runs::new(text) {
        if let Some(scanner) = &mut cards {
            scanner.handle_run(start, len, |range| finder.push_card(range));
        }
        if has_others && len > 0 {
            finder.run(start, len);
        }
    }
    if let Some(scanner) = &mut cards {
        scanner.finish(|range| finder.push_card(range));
    }
}

struct Finder<'a, 'f> {
    text: &'a [u8],
    has_ssn: bool,
    has_iban: bool,
    has_phone: bool,
    has_id: bool,
    near: Keywords<'a>,
    found: &'f mut Vec<Finding>,
}

impl Finder<'_, '_> {
    fn push_card(&mut self, range: Range<usize>) {
        self.found.push(Finding { detector: Detector::PaymentCard, range });
    }

    /// A run of digits.
    fn run(&mut self, start: usize, len: usize) {
        self.digits(start, len);
        // The first digits may be the end of an escape: `%20`, `\u0020`.
        match self.text[..start] {
            [.., b'%'] if len > 2 => self.digits(start + 2, len - 2),
            [.., b'\\', b'u'] if len > ESCAPE_DIGITS_MAX => {
                self.digits(start + ESCAPE_DIGITS_MAX, len - ESCAPE_DIGITS_MAX);
            }
            _ => {}
        }
    }

    fn digits(&mut self, start: usize, len: usize) {
        let before = start.checked_sub(1).map_or(b' ', |before| self.text[before]);
        if self.has_iban && len >= 2 && before.is_ascii_alphabetic() {
            iban::find_at(self.text, start, self.found);
        }
        if len > RUN_DIGITS_MAX {
            return;
        }
        let run = Run { start, end: start + len, before };
        if self.has_id {
            national_id::find_bare(self.text, &run, &mut self.near, self.found);
        }
        if self.has_ssn && len == us_ssn::DIGITS {
            us_ssn::find_bare(self.text, start, &mut self.near, self.found);
        }
        if self.has_phone && matches!(before, b'+' | b'(' | b'B' | b'b') {
            phone::find_signed(self.text, &run, self.found);
        }
        if len <= GROUP_DIGITS_MAX {
            self.groups(&run);
        }
    }

    /// Numbers in groups whose first group this is.
    fn groups(&mut self, run: &Run) {
        let gap = tight(&self.text[run.end..]);
        if gap == 0 {
            return;
        }
        let second = count(&self.text[run.end + gap..], SECOND_DIGITS_MAX);
        let groups = (run.end - run.start, second);
        if self.has_ssn && groups == (3, 2) {
            us_ssn::find_written(self.text, run.start, self.found);
        }
        if self.has_id {
            national_id::find_written(self.text, run.start, groups, self.found);
        }
        if self.has_phone && second >= 2 {
            phone::find_written(self.text, run, groups, self.found);
        }
    }
}
