//! Where runs of digits begin: the one pass over a text that all detectors of numbers share.

use super::chars;

/// Bytes that are looked at together: one bit each.
const BLOCK_BYTES: usize = 64;

/// Runs of ASCII digits, and every place where a digit of another script may stand.
///
/// A block at a time: where a run begins and ends is read off the bits of its digits, since lengths that differ from run
/// to run are what a loop over them guesses wrong.
pub(super) struct Runs<'a> {
    text: &'a [u8],
    /// Where the current block begins.
    block: usize,
    /// The starts in it that were not yet handed out.
    starts: u64,
    /// Its digits.
    ascii: u64,
    next_block: usize,
}

impl<'a> Runs<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, block: 0, starts: 0, ascii: 0, next_block: 0 }
    }

    /// Where digits that reach the end of the block end.
    fn end_behind(&self, start: usize) -> usize {
        let rest = self.text.get(self.next_block..).unwrap_or(&[]);
        (self.next_block + count(rest, usize::MAX)).min(self.text.len()).max(start)
    }
}

impl Iterator for Runs<'_> {
    /// Start and length in bytes, 0 if it is not an ASCII digit that stands there.
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        while self.starts == 0 {
            let rest = self.text.get(self.next_block..).filter(|rest| !rest.is_empty())?;
            let digits = match rest.first_chunk::<BLOCK_BYTES>() {
                Some(block) => block_mask(block),
                None => {
                    let mut block = [0; BLOCK_BYTES];
                    block[..rest.len()].copy_from_slice(rest);
                    block_mask(&block)
                }
            };
            let carry = self.ascii >> 63;
            self.ascii = digits.ascii;
            self.starts = digits.ascii & !(digits.ascii << 1 | carry) | digits.other;
            self.block = self.next_block;
            self.next_block += BLOCK_BYTES;
        }
        let offset = self.starts.trailing_zeros();
        self.starts &= self.starts - 1;
        let start = self.block + offset as usize;
        let len = (self.ascii >> offset).trailing_ones();
        let end = if offset + len == u64::BITS { self.end_behind(start) } else { start + len as usize };
        Some((start, end - start))
    }
}

struct Mask {
    ascii: u64,
    /// Where a digit of another script may begin.
    other: u64,
}

fn block_mask(block: &[u8; BLOCK_BYTES]) -> Mask {
    // Made to be vectorised: most blocks of most texts have none.
    if !block.iter().fold(false, |any, byte| any | chars::may_be_digit(*byte)) {
        return Mask { ascii: 0, other: 0 };
    }
    let mut ascii = 0;
    for (index, word) in block.as_chunks::<WORD_BYTES>().0.iter().enumerate() {
        let bits = !others(*word) & HIGH_BITS;
        ascii |= ((bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (index * WORD_BYTES);
    }
    let mut other = 0;
    if block.iter().fold(false, |any, byte| any | may_begin_other_digit(*byte)) {
        for (index, byte) in block.iter().enumerate() {
            other |= u64::from(may_begin_other_digit(*byte)) << index;
        }
    }
    Mask { ascii, other }
}

/// Bytes that are looked at in one number.
const WORD_BYTES: usize = 8;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The highest bit of each byte that is no ASCII digit; the other bits say nothing.
fn others(word: [u8; WORD_BYTES]) -> u64 {
    // A digit becomes 0 to 9, and only that stays below 128 when 118 is added.
    let from_zero = u64::from_le_bytes(word) ^ 0x3030_3030_3030_3030;
    ((from_zero & !HIGH_BITS) + 0x7676_7676_7676_7676) | from_zero
}

fn may_begin_other_digit(byte: u8) -> bool {
    (byte >= 0x80) & chars::may_be_digit(byte)
}

/// Digits of ASCII without anything between, and the byte before them.
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    /// A space if there is none.
    pub(super) before: u8,
}

/// How many ASCII digits `text` begins with, counting up to `max`.
pub(super) fn count(text: &[u8], max: usize) -> usize {
    match text.first_chunk::<WORD_BYTES>() {
        // Without a loop, since its end would be guessed wrong more often than not.
        Some(word) if max <= WORD_BYTES => {
            ((others(*word) & HIGH_BITS).trailing_zeros() as usize / WORD_BYTES).min(max)
        }
        _ => chars::run(text, max, |byte| byte.is_ascii_digit()),
    }
}

/// Whether a run of digits is the fraction of a decimal number.
pub(super) fn is_fraction(text: &[u8], start: usize) -> bool {
    start >= 2 && text[start - 1] == b'.' && text[start - 2].is_ascii_digit()
}

/// Most digits of a number that is written in groups.
const GROUPED_DIGITS_MAX: usize = 20;

/// A number in groups: its digits as values, and where it ends.
pub(super) struct Grouped {
    digits: [u8; GROUPED_DIGITS_MAX],
    len: usize,
    pub(super) end: usize,
    /// Whether the same separator stands everywhere.
    pub(super) is_uniform: bool,
}

impl Grouped {
    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

/// Reads groups of exactly so many digits, 20 in all at most, one separator between two, and no digit after them.
pub(super) fn grouped(text: &[u8], start: usize, counts: &[usize]) -> Option<Grouped> {
    let mut number = Grouped { digits: [0; GROUPED_DIGITS_MAX], len: 0, end: start, is_uniform: true };
    let mut first_gap: Option<&[u8]> = None;
    for (index, wanted) in counts.iter().enumerate() {
        if index > 0 {
            let len = super::separators::tight(&text[number.end..]);
            if len == 0 {
                return None;
            }
            let gap = &text[number.end..number.end + len];
            number.is_uniform &= *first_gap.get_or_insert(gap) == gap;
            number.end += len;
        }
        if count(&text[number.end..], wanted + 1) != *wanted {
            return None;
        }
        for digit in &text[number.end..number.end + wanted] {
            number.digits[number.len] = digit - b'0';
            number.len += 1;
        }
        number.end += wanted;
    }
    Some(number)
}

/// Whether what stands between `start` and `end` is not part of a longer number in groups.
pub(super) fn is_whole(text: &[u8], start: usize, end: usize) -> bool {
    let goes_on = match super::separators::tight(&text[end..]) {
        0 => false,
        // A space or the end of a sentence often stands between two things.
        len => text[end] != b' ' && text.get(end + len).is_some_and(u8::is_ascii_digit),
    };
    let began =
        start >= 2 && matches!(text[start - 1], b'-' | b'.' | b'/') && text[start - 2].is_ascii_digit();
    !goes_on && !began
}

/// The digits of a run as values; nothing if it has another length.
pub(super) fn values<const N: usize>(run: &[u8]) -> Option<[u8; N]> {
    let mut digits: [u8; N] = run.try_into().ok()?;
    for digit in &mut digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        *digit -= b'0';
    }
    Some(digits)
}
