//! Telephone numbers.
//!
//! # What counts
//! * International numbers (ITU-T E.164): a plus sign (or `%2B`), 8 to 15 digits, the first one not 0, with up to two
//!   spaces, dashes, dots, slashes or brackets between two of them.
//! * Numbers of the North American plan as they are printed there, `(NXX) NXX-XXXX`, `NXX-NXX-XXXX`, also with dots or
//!   spaces: area code and exchange begin with 2 to 9, neither ends in 11, no area code has 9 in the middle.
//! * National numbers with their trunk prefix: `(0xx…) …`; 0 with two to four digits more before the first space,
//!   dash or slash, 9 to 12 digits in two or three groups (`030/1234567`, `020 7946 0958`); five pairs from 01 to 09
//!   (`01 23 45 67 89`).
//!
//! # What does not
//! Digits in one run without a plus sign: they are numbers of other kinds far more often. Short numbers, local ones
//! without an area code, `00` for the plus sign, extensions.
//!
//! # False positives
//! There is no check digit: whatever is written in one of these forms is taken, as are part numbers such as
//! `0123-456789`.

use std::ops::{Range, RangeInclusive};

use super::digits::{Run, count, grouped, is_fraction, is_whole};
use super::separators::tight;
use super::{Detector, Finding, chars};

/// Fewest digits of an international number that is recognised.
const INTERNATIONAL_DIGITS_MIN: usize = 8;
/// Most digits of an international number (E.164, section 6).
const INTERNATIONAL_DIGITS_MAX: usize = 15;
/// Fewest and most digits of a national number with its trunk prefix.
const NATIONAL_DIGITS: RangeInclusive<usize> = 9..=12;
/// Digits of a number of the North American plan.
const AMERICAN_DIGITS: usize = 10;
/// Digits that a partial mask keeps.
const VISIBLE_DIGITS: usize = 2;

/// A number whose first digits are this run and stand behind a plus sign or an opening bracket.
pub(super) fn find_signed(text: &[u8], run: &Run, found: &mut Vec<Finding>) {
    let sign = sign_before(text, run.start).filter(|sign| chars::is_word_start(text, *sign));
    let range = sign.and_then(|sign| international(text, run.start).map(|end| sign..end));
    if let Some(range) = range.or_else(|| in_brackets(text, run.start, run.end)) {
        found.push(Finding { detector: Detector::Phone, range });
    }
}

/// A number without a plus sign whose first groups have so many digits.
pub(super) fn find_written(text: &[u8], run: &Run, groups: (usize, usize), found: &mut Vec<Finding>) {
    let range = if text[run.start] == b'0' {
        with_trunk_prefix(text, run.start, run.end).filter(|range| is_whole(text, range.start, range.end))
    } else if groups == (3, 3) {
        american(text, run)
    } else {
        None
    };
    if let Some(range) = range {
        found.push(Finding { detector: Detector::Phone, range });
    }
}

/// Where the plus sign stands before `start`, an opening bracket between allowed.
fn sign_before(text: &[u8], start: usize) -> Option<usize> {
    let before = text[..start].strip_suffix(b"(").unwrap_or(&text[..start]);
    let sign = [&b"+"[..], b"%2B", b"%2b"].into_iter().find(|sign| before.ends_with(sign))?;
    Some(before.len() - sign.len())
}

fn international(text: &[u8], start: usize) -> Option<usize> {
    if text[start] == b'0' {
        return None;
    }
    let (mut digits, mut dots, mut gaps) = (0, 0, 0);
    let mut found = None;
    let mut at = start;
    loop {
        let group = count(&text[at..], INTERNATIONAL_DIGITS_MAX + 1);
        digits += group;
        if group == 0 || digits > INTERNATIONAL_DIGITS_MAX {
            break;
        }
        at += group;
        // One dot alone makes a decimal number.
        let is_decimal = gaps == 1 && dots == 1;
        if digits >= INTERNATIONAL_DIGITS_MIN && !is_decimal {
            found = Some(at);
        }
        let gap = loose_gap(&text[at..]);
        if gap == 0 {
            break;
        }
        dots += usize::from(text[at..at + gap] == *b".");
        gaps += 1;
        at += gap;
    }
    found
}

/// Up to three brackets and separators.
fn loose_gap(text: &[u8]) -> usize {
    let mut len = 0;
    for _ in 0..3 {
        len += match text.get(len) {
            Some(b'(' | b')') => 1,
            _ => tight(&text[len..]),
        };
    }
    len
}

/// A number whose area code is in brackets.
fn in_brackets(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let open = start.checked_sub(1).filter(|open| text[*open] == b'(')?;
    let rest = text[end..].strip_prefix(b")")?;
    let after = end + 1 + tight(rest);
    if text[start] == b'0' {
        let (digits, end_of_number) = groups(text, after, 4)?;
        let is_number = start + 1 < end && end - start <= 6;
        return (is_number && NATIONAL_DIGITS.contains(&(end - start + digits)))
            .then_some(open..end_of_number);
    }
    let local = grouped(text, after, &[3, 4])?;
    is_american(&text[start..end], local.digits()).then_some(open..local.end)
}

/// A number of the North American plan in groups of 3, 3 and 4 digits.
fn american(text: &[u8], run: &Run) -> Option<Range<usize>> {
    let number = grouped(text, run.start, &[3, 3, 4])?;
    let is_number =
        is_american(&text[run.start..run.end], &number.digits()[3..]) && !is_fraction(text, run.start);
    is_number.then(|| with_country_digit(text, run.start)..number.end)
}

/// Where the number begins if `1` and a separator stand before it.
fn with_country_digit(text: &[u8], start: usize) -> usize {
    match &text[..start] {
        [before @ .., b'1', b' ' | b'-' | b'.' | b'/'] if chars::is_word_start(text, before.len()) => {
            before.len()
        }
        _ => start,
    }
}

fn with_trunk_prefix(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    if !chars::is_word_start(text, start) || !matches!(text.get(start + 1), Some(b'1'..=b'9')) {
        return None;
    }
    let pairs = grouped(text, start, &[2; 5]).filter(|number| number.is_uniform);
    if let Some(number) = pairs {
        return Some(start..number.end);
    }
    let after = end + tight(&text[end..]);
    if end - start < 3 || text.get(end) == Some(&b'.') || after == end {
        return None;
    }
    let (digits, end_of_number) = groups(text, after, 2)?;
    NATIONAL_DIGITS.contains(&(end - start + digits)).then_some(start..end_of_number)
}

/// The digits of up to so many groups that begin at `at`, and where the last one ends. A group has two digits at least.
fn groups(text: &[u8], mut at: usize, groups_max: usize) -> Option<(usize, usize)> {
    let mut digits = 0;
    let mut end = None;
    for _ in 0..groups_max {
        let group = count(&text[at..], INTERNATIONAL_DIGITS_MAX);
        if group < 2 || digits + group > *NATIONAL_DIGITS.end() {
            break;
        }
        digits += group;
        end = Some(at + group);
        at += group;
        match tight(&text[at..]) {
            0 => break,
            gap => at += gap,
        }
    }
    end.map(|end| (digits, end))
}

/// Whether an area code and seven more digits, the latter as values, can be a number of the North American plan.
fn is_american(area: &[u8], local: &[u8]) -> bool {
    let [b'2'..=b'9', second, third] = area else { return false };
    let [2..=9, exchange @ ..] = local else { return false };
    *second != b'9' && (*second, *third) != (b'1', b'1') && !exchange.starts_with(&[1, 1])
}

/// Digits alone; with a plus sign and the country's code where they are known, and without a trunk prefix in brackets
/// (`+49 (0)30`).
pub(super) fn canonical(matched: &[u8]) -> Vec<u8> {
    let mut digits = Vec::with_capacity(matched.len() + 2);
    let is_international = matched.starts_with(b"+") || matched.starts_with(b"%2");
    let mut rest = if matched.starts_with(b"%2") { &matched[3..] } else { matched };
    while let Some(byte) = rest.first() {
        let len = match rest {
            [b'(', b'0', b')', ..] if is_international => 3,
            [b'0'..=b'9', ..] => {
                digits.push(*byte);
                1
            }
            _ => tight(rest).max(1),
        };
        rest = &rest[len..];
    }
    let prefix: &[u8] = match digits.first() {
        _ if is_international => b"+",
        Some(b'2'..=b'9') if digits.len() == AMERICAN_DIGITS => b"+1",
        Some(b'1') if digits.len() == AMERICAN_DIGITS + 1 => b"+",
        _ => b"",
    };
    [prefix, &digits].concat()
}

/// The last two digits; the others become `*`, the rest stays.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    super::written::hide_all_but(matched, 0, VISIBLE_DIGITS, out);
}
