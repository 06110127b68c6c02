//! Groups of digits, and what is known of several of them without looking at their digits again.

use std::ops::Range;

use super::issuer::{Lengths, is_card, luhn_value};
use super::{DIGITS_MAX, DIGITS_MIN};

/// Digits that a group has at least in a number that is written as most people do, but for its last group.
pub(super) const REGULAR_GROUP_DIGITS: usize = 4;

/// Digits without a separator between them.
pub(super) struct Group {
    /// Where it stands.
    pub(super) range: Range<usize>,
    /// Where the separators before it begin; its own start if it is the first of its span.
    pub(super) separator_start: usize,
    /// How many digits.
    pub(super) count: usize,
    /// The last ones.
    pub(super) digits: LastDigits,
    /// How many digits at its end may be read as a group of their own, 0 if none: those that stay in sight after a
    /// partial mask, or those after two digits that may belong to a percent escape (`%204111…`).
    pub(super) tail: usize,
    /// Of all digits of the span up to its first and up to its last one. They are not kept over a group that is longer
    /// than any card.
    pub(super) sums_before: Sums,
    pub(super) sums: Sums,
}

/// The last digits of a group, at most [`DIGITS_MAX`], as values.
#[derive(Clone, Copy, Default)]
pub(super) struct LastDigits {
    pub(super) values: [u8; DIGITS_MAX],
    pub(super) len: usize,
}

impl std::ops::Deref for LastDigits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.values[..self.len]
    }
}

impl LastDigits {
    /// Those of a run of ASCII digits.
    pub(super) fn of_ascii(run: &[u8]) -> Self {
        let last = &run[run.len().saturating_sub(DIGITS_MAX)..];
        let mut digits = Self { len: last.len(), ..Self::default() };
        for (value, byte) in digits.values.iter_mut().zip(last) {
            *value = byte - b'0';
        }
        digits
    }

    pub(super) fn push(&mut self, digit: u8) {
        if self.len == DIGITS_MAX {
            self.values.copy_within(1.., 0);
            self.len -= 1;
        }
        self.values[self.len] = digit;
        self.len += 1;
    }
}

impl Group {
    /// Where its last `count` digits begin; rather too early than too late.
    pub(super) fn tail_start(&self, count: usize) -> usize {
        let bytes = self.range.len();
        if bytes.is_multiple_of(self.count) {
            self.range.end - count * (bytes / self.count)
        } else {
            self.range.start
        }
    }
}

/// Sums of Luhn's check over the digits from the begin of a span on. A digit counts once or doubled, by its distance from
/// the last digit of a number; so there are two sums.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) digits: usize,
    /// By the parity of the number of digits up to the last one of a number.
    pub(super) by_parity: [u32; 2],
}

impl Sums {
    pub(super) fn push(&mut self, digit: u8) {
        self.digits += 1;
        let parity = self.digits % 2;
        self.by_parity[parity] = self.by_parity[parity].wrapping_add(luhn_value(0, digit));
        self.by_parity[1 - parity] = self.by_parity[1 - parity].wrapping_add(luhn_value(1, digit));
    }
}

/// A number that is put together from its end.
#[derive(Default)]
pub(super) struct Number {
    pub(super) digits: [u8; DIGITS_MAX],
    pub(super) len: usize,
}

impl Number {
    pub(super) fn get(&self) -> &[u8] {
        &self.digits[DIGITS_MAX - self.len..]
    }

    /// Puts `digits` before what is there; false if that makes it too long.
    pub(super) fn prepend(&mut self, digits: &[u8]) -> bool {
        let end = DIGITS_MAX - self.len;
        let Some(start) = end.checked_sub(digits.len()) else { return false };
        self.digits[start..end].copy_from_slice(digits);
        self.len += digits.len();
        true
    }

    pub(super) fn is_card(&self, lengths: Lengths) -> bool {
        self.len >= DIGITS_MIN && is_card(self.get(), lengths)
    }
}

/// How many digits the groups of a span can make together at most, by the rules for groups; so that dates beside numbers
/// are not scanned for cards.
#[derive(Default)]
pub(super) struct Chain<'a> {
    /// Digits of the last group, and of the groups before it that have enough digits, or the same separators, to be
    /// of one number with it.
    pub(super) last: usize,
    pub(super) regular: usize,
    pub(super) uniform: usize,
    pub(super) separators: &'a [u8],
    pub(super) longest: usize,
}

impl<'a> Chain<'a> {
    pub(super) fn push(&mut self, separators: &'a [u8], digits: usize) {
        self.regular = digits + if self.last >= REGULAR_GROUP_DIGITS { self.regular } else { 0 };
        self.uniform = digits + if is_same(separators, self.separators) { self.uniform } else { self.last };
        (self.last, self.separators) = (digits, separators);
        self.longest = self.longest.max(self.regular).max(self.uniform);
    }
}

/// Whether two separators are the same; mostly they are one byte.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a, b) {
        ([a], [b]) => a == b,
        _ => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b),
    }
}
