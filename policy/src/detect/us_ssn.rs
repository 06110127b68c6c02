//! Social security numbers of the United States.
//!
//! # What counts
//! Three, two and four digits with the same separator twice (a space, dash, dot or slash in any of their forms), as the
//! Social Security Administration gives them out: no area 000, 666 or 900 to 999, no group 00, no serial 0000. Letters
//! beside it do not protect it; a digit does.
//!
//! Nine digits without separators count only near one of the words `ssn`, `social security`, `social_security` and
//! their like in the same text: there are too many other numbers of nine digits, and the number has no check digit.
//! A column of bare numbers has no such word in its values: name the column in a mask instead.
//!
//! # What does not
//! Taxpayer numbers (ITIN, areas 900 to 999), the last four digits alone.
//!
//! # False positives
//! 88.8 % of random digits written in this form; bare ones near the words likewise.

use super::digits::{Grouped, grouped, is_fraction, values};
use super::keywords::{Keyword, Keywords};
use super::{Detector, Finding, chars};

/// Digits of a number.
pub(super) const DIGITS: usize = 9;
/// Digits that a partial mask keeps.
const VISIBLE_DIGITS: usize = 4;

/// A number with separators that begins at `start`, where the text is known to go on 3, 2.
pub(super) fn find_written(text: &[u8], start: usize, found: &mut Vec<Finding>) {
    let number = grouped(text, start, &[3, 2, 4]).filter(|number| number.is_uniform);
    if let Some(Grouped { end, .. }) = number.filter(|number| is_issued(number.digits())) {
        found.push(Finding { detector: Detector::UsSsn, range: start..end });
    }
}

/// A run of nine digits.
pub(super) fn find_bare(text: &[u8], start: usize, near: &mut Keywords<'_>, found: &mut Vec<Finding>) {
    let end = start + DIGITS;
    let is_number = values::<DIGITS>(&text[start..end]).is_some_and(|digits| is_issued(&digits))
        && !is_fraction(text, start)
        && chars::is_word_end(text, end)
        && near.has(Keyword::Ssn, start..end);
    if is_number {
        found.push(Finding { detector: Detector::UsSsn, range: start..end });
    }
}

/// Whether the administration gives out this number.
fn is_issued(digits: &[u8]) -> bool {
    let [a, b, c, d, e, serial @ ..] = digits else { return false };
    let area = u32::from(*a) * 100 + u32::from(*b) * 10 + u32::from(*c);
    !matches!(area, 0 | 666 | 900..) && (*d, *e) != (0, 0) && serial != [0; 4]
}

/// The last four digits; the others become `*`, separators stay.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    super::written::hide_all_but(matched, 0, VISIBLE_DIGITS, out);
}
