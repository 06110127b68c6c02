use std::collections::VecDeque;
use std::ops::Range;

use super::group::{Chain, Group, LastDigits, Number, REGULAR_GROUP_DIGITS, Sums, is_same};
use super::issuer::{Lengths, is_card};
use super::{DIGITS_MAX, DIGITS_MIN, VISIBLE_DIGITS};
use crate::detect::chars;
use crate::detect::separators::separators;

/// Shortest number that zeros may pad.
const PADDED_DIGITS_MIN: usize = 14;
/// Shortest card and security code in one run: 15 and 3 digits.
const WITH_CODE_DIGITS_MIN: usize = 18;
/// Longest number that is left alone after a plus sign.
const TELEPHONE_DIGITS_MAX: usize = 13;
/// Groups that are remembered: one more than a number can have, to see what stands before it.
const GROUPS_MAX: usize = DIGITS_MAX + 1;

/// The state of one scan: the groups of the current span, which is digits and separators without anything between.
pub(in crate::detect) struct Scanner<'a> {
    text: &'a [u8],
    /// Where the current span begins and ends, and how many digits it has so far.
    span: Range<usize>,
    chain: Chain<'a>,
    groups: VecDeque<Group>,
    /// Where the last card of the current span ended.
    card_end: usize,
    /// The run of hex digits that was looked at last.
    hex: Range<usize>,
}

impl<'a> Scanner<'a> {
    pub(in crate::detect) fn new(text: &'a [u8]) -> Self {
        Self { text, span: 0..0, chain: Chain::default(), groups: VecDeque::new(), card_end: 0, hex: 0..0 }
    }

    /// The next run of ASCII digits, or the next place where another digit may stand if `len` is 0. Reports every card of
    /// the span before if this begins another one, in order of their ends.
    pub(in crate::detect) fn handle_run(
        &mut self,
        start: usize,
        len: usize,
        report: impl FnMut(Range<usize>),
    ) {
        if start < self.span.end {
            return;
        }
        let Some(at) = self.continuation(start) else {
            self.finish(report);
            self.begin(start, len);
            return;
        };
        if len == 0 {
            self.handle_other_digits(at);
        } else if start + len > at {
            let separators = &self.text[self.span.end..at];
            self.chain.push(separators, start + len - at);
            self.span.end = start + len;
        }
    }

    fn begin(&mut self, start: usize, len: usize) {
        self.span = start..start + len;
        self.chain = Chain { last: len, regular: len, uniform: len, longest: len, separators: &[] };
        if len == 0 {
            self.handle_other_digits(start);
        }
    }

    /// Beyond ASCII a digit has more than one byte, and others may follow it at once.
    fn handle_other_digits(&mut self, at: usize) {
        let (digits, end) = self.span(at);
        if digits > 0 {
            self.chain.longest += digits;
            self.chain.last = digits;
            self.span.end = end;
        }
    }

    /// Reports every card of the last span.
    pub(in crate::detect) fn finish(&mut self, mut report: impl FnMut(Range<usize>)) {
        if self.chain.longest >= DIGITS_MIN {
            self.scan_span(self.span.start, &mut report);
        }
        self.chain.longest = 0;
    }

    /// Where digits go on after separators behind the span, if those reach up to `start`. They may reach beyond it: the
    /// digits of an escape are none of the number.
    fn continuation(&self, start: usize) -> Option<usize> {
        if self.chain.last == 0 {
            return None;
        }
        let at = self.span.end + separators(&self.text[self.span.end..]);
        (at >= start).then_some(at)
    }

    /// How many digits the span at `start` has and where it ends; one byte further if there is none.
    fn span(&self, start: usize) -> (usize, usize) {
        let mut digits = 0;
        let mut end = start;
        let mut at = start;
        loop {
            let (count, len) = digit_run(&self.text[at..]);
            if count == 0 {
                return (digits, end.max(start + 1));
            }
            digits += count;
            end = at + len;
            at = end + separators(&self.text[end..]);
        }
    }

    fn scan_span(&mut self, start: usize, report: &mut impl FnMut(Range<usize>)) {
        self.groups.clear();
        self.card_end = start;
        let mut separator_start = start;
        let mut at = start;
        while let Some(group) = self.group(separator_start, at) {
            separator_start = group.range.end;
            at = separator_start + separators(&self.text[separator_start..]);
            if self.groups.len() == GROUPS_MAX {
                self.groups.pop_front();
            }
            self.groups.push_back(group);
            if let Some(range) = self.card_that_ends_here() {
                self.note_visible();
                self.card_end = range.end;
                report(range);
            }
        }
    }

    /// Reads the group at `start`.
    fn group(&self, separator_start: usize, start: usize) -> Option<Group> {
        let (count, len) = digit_run(&self.text[start..]);
        let run = &self.text[start..start + len];
        let digits = if count == len { LastDigits::of_ascii(run) } else { last_digits(run) };
        let begins_escaped =
            self.text[..start].ends_with(b"%") && chars::percent_escape(&self.text[start - 1..]).is_some();
        let tail = if begins_escaped && (3..=DIGITS_MAX + 2).contains(&count) { count - 2 } else { 0 };
        let sums_before = self.groups.back().map_or_else(Sums::default, |group| group.sums);
        let mut sums = sums_before;
        digits.iter().for_each(|digit| sums.push(*digit));
        let range = start..start + len;
        (count > 0).then_some(Group { range, separator_start, count, digits, tail, sums_before, sums })
    }

    /// Everything that a card hides which ends with the last group.
    fn card_that_ends_here(&mut self) -> Option<Range<usize>> {
        let last = self.groups.len() - 1;
        let end = self.groups[last].range.end;
        let start = self.start_of_sequence(last);
        let alone = self.padded(last) || self.joined(last);
        let start = match (start, alone) {
            (Some(start), true) => Some(start.min(self.groups[last].range.start)),
            (None, true) => Some(self.groups[last].range.start),
            (start, false) => start,
        };
        match (start, self.exponent(last)) {
            (start, Some(whole)) => {
                Some(start.map_or(whole.start, |start| start.min(whole.start))..whole.end)
            }
            (Some(start), None) => Some(start..end),
            (None, None) => None,
        }
    }

    /// Where the longest sequence of groups begins that is a card and ends with the last group.
    fn start_of_sequence(&mut self, last: usize) -> Option<usize> {
        let (mut regular, mut uniform) = (true, true);
        let mut len = 0;
        let mut found = None;
        for index in (0..=last).rev() {
            if index < last {
                uniform &= is_same(self.separators_before(index + 1), self.separators_before(last));
            }
            if !regular && !uniform {
                break;
            }
            let group = &self.groups[index];
            let (tail, count, start) = (group.tail, group.count, group.range.start);
            if tail > 0 {
                let tail_start = group.tail_start(tail);
                let lengths = lengths(regular && (index == last || tail >= REGULAR_GROUP_DIGITS));
                if self.number(index, tail, last).is_some_and(|number| number.is_card(lengths))
                    && !self.is_other(index..=last, tail_start, len + tail)
                {
                    found = Some(tail_start);
                }
            }
            len += count;
            if len > DIGITS_MAX {
                break;
            }
            regular &= index == last || count >= REGULAR_GROUP_DIGITS;
            let passes = len >= DIGITS_MIN && self.passes_luhn(index, last);
            if passes
                && self.number(index, count, last).is_some_and(|number| number.is_card(lengths(regular)))
                && !self.is_other(index..=last, start, len)
            {
                found = Some(start);
            }
        }
        found
    }

    /// Whether the digits of these groups pass the check, by sums that were made once for every digit.
    fn passes_luhn(&self, first: usize, last: usize) -> bool {
        let end = &self.groups[last].sums;
        let parity = end.digits % 2;
        let sum = end.by_parity[parity].wrapping_sub(self.groups[first].sums_before.by_parity[parity]);
        sum.is_multiple_of(10)
    }

    /// The last `tail` digits of one group and all of those behind it.
    fn number(&self, first: usize, tail: usize, last: usize) -> Option<Number> {
        let mut number = Number::default();
        for index in (first + 1..=last).rev() {
            if !number.prepend(&self.groups[index].digits) {
                return None;
            }
        }
        let digits = &self.groups[first].digits;
        number.prepend(&digits[digits.len() - tail..]).then_some(number)
    }

    /// Whether the group is a card with zeros before it.
    fn padded(&mut self, last: usize) -> bool {
        let group = &self.groups[last];
        let (count, start) = (group.count, group.range.start);
        let zeros = group.digits.iter().take_while(|digit| **digit == 0).count();
        zeros > 0
            && count <= DIGITS_MAX
            && count - zeros >= PADDED_DIGITS_MIN
            && is_card(&group.digits[zeros..], Lengths::All)
            && !self.is_other(last..=last, start, count)
    }

    /// Whether the group is too long for a card, but one begins or ends it; or has just the digits that a card and its
    /// security code have together.
    fn joined(&mut self, last: usize) -> bool {
        let group = &self.groups[last];
        let (count, start, end) = (group.count, group.range.start, group.range.end);
        let heads = match count {
            WITH_CODE_DIGITS_MIN => 15..=15,
            DIGITS_MAX => 15..=16,
            0..DIGITS_MAX => return false,
            _ => DIGITS_MIN..=DIGITS_MAX,
        };
        // Zeros before a card are another case.
        if group.tail > 0 || count <= DIGITS_MAX && group.digits[0] == 0 {
            return false;
        }
        let mut head = Vec::with_capacity(DIGITS_MAX);
        let mut at = start;
        while let Some((digit, len)) = chars::digit(&self.text[at..end]) {
            at += len;
            if digit != 0 || !head.is_empty() {
                head.push(digit);
            }
            if head.len() == DIGITS_MAX {
                break;
            }
        }
        let tail = &group.digits;
        let is_joined = heads.into_iter().any(|len| {
            head.get(..len).is_some_and(|head| is_card(head, Lengths::Usual))
                || count > DIGITS_MAX && is_card(&tail[DIGITS_MAX - len..], Lengths::Usual)
        });
        is_joined && !self.is_other(last..=last, start, count)
    }

    /// The whole of a decimal number with an exponent, if it is a card's.
    fn exponent(&self, last: usize) -> Option<Range<usize>> {
        let end = self.groups[last].range.end;
        let rest = self.text[end..].strip_prefix(b"e").or_else(|| self.text[end..].strip_prefix(b"E"))?;
        let digits = rest.strip_prefix(b"+").unwrap_or(rest);
        let [b'1', units @ b'1'..=b'8', ..] = digits else { return None };
        if digits.get(2).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let integer = if self.is_fraction(last) { last - 1 } else { last };
        if self.groups[integer].count != 1 || self.groups[last].count >= DIGITS_MAX {
            return None;
        }
        let mut number = Vec::with_capacity(DIGITS_MAX);
        for index in integer..=last {
            number.extend_from_slice(&self.groups[index].digits);
        }
        let len = usize::from(units - b'0') + 11;
        if number.len() > len {
            return None;
        }
        number.resize(len, 0);
        let whole_end = self.text.len() - digits.len() + 2;
        is_card(&number, Lengths::All).then_some(self.groups[integer].range.start..whole_end)
    }

    /// Notes which group will be cut by what a partial mask leaves in sight of the card that ends here.
    fn note_visible(&mut self) {
        let mut left = VISIBLE_DIGITS;
        for group in self.groups.iter_mut().rev() {
            if group.count > left {
                group.tail = left;
                break;
            }
            left -= group.count;
        }
    }

    /// Whether digits that look like a card are known to be something else.
    fn is_other(&mut self, groups: std::ops::RangeInclusive<usize>, start: usize, digits: usize) -> bool {
        let (first, last) = groups.into_inner();
        let end = self.groups[last].range.end;
        let decimal = last - first <= 1 && self.is_fraction(last);
        let telephone = digits <= TELEPHONE_DIGITS_MAX && start > 0 && self.text[start - 1] == b'+';
        decimal || telephone || is_in_uuid(self.text, start..end) || self.is_in_hex(start..end)
    }

    /// Whether a group is the fraction of a decimal number: one dot before it, none before that nor after it. Behind a card
    /// the dot stands between two numbers.
    fn is_fraction(&self, index: usize) -> bool {
        let dot_follows = self.text[self.groups[index].range.end..]
            .strip_prefix(b".")
            .is_some_and(|rest| chars::digit(rest).is_some());
        index > 0
            && self.separators_before(index) == b"."
            && self.separators_before(index - 1) != b"."
            && self.groups[index - 1].range.end != self.card_end
            && !dot_follows
    }

    fn separators_before(&self, index: usize) -> &[u8] {
        let group = &self.groups[index];
        &self.text[group.separator_start..group.range.start]
    }

    /// Whether a range lies in hex digits that are a digest's or those of a `bytea`. A run is walked once.
    fn is_in_hex(&mut self, range: Range<usize>) -> bool {
        if !self.hex.contains(&range.start) {
            let floor = if self.hex.end <= range.start { self.hex.end } else { 0 };
            self.hex = chars::run_around(self.text, range.start, floor, |byte| byte.is_ascii_hexdigit());
        }
        range.end <= self.hex.end
            && (matches!(self.hex.len(), 32 | 40 | 56 | 64 | 96 | 128)
                || self.text[..self.hex.start].ends_with(b"\\x"))
            && self.text[self.hex.clone()].iter().any(u8::is_ascii_alphabetic)
    }
}

fn lengths(regular: bool) -> Lengths {
    if regular { Lengths::All } else { Lengths::Usual }
}

/// How many digits `text` begins with, and their bytes.
fn digit_run(text: &[u8]) -> (usize, usize) {
    let mut count = 0;
    let mut len = 0;
    loop {
        match text.get(len) {
            Some(b'0'..=b'9') => len += 1,
            Some(0x80..) => match chars::digit(&text[len..]) {
                Some((_, bytes)) => len += bytes,
                None => return (count, len),
            },
            _ => return (count, len),
        }
        count += 1;
    }
}

/// The last digits of a run in which not all are ASCII.
fn last_digits(run: &[u8]) -> LastDigits {
    let mut digits = LastDigits::default();
    let mut at = 0;
    while let Some((digit, len)) = chars::digit(&run[at..]) {
        digits.push(digit);
        at += len;
    }
    digits
}

/// Whether a range lies in a UUID with a letter in it.
fn is_in_uuid(text: &[u8], range: Range<usize>) -> bool {
    const BYTES: usize = 36;
    let first = range.end.saturating_sub(BYTES);
    (first..=range.start).any(|start| {
        text.get(start..start + BYTES).is_some_and(|uuid| {
            uuid.iter().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            }) && uuid.iter().any(u8::is_ascii_alphabetic)
        })
    })
}
