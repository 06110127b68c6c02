use std::ops::Range;

use memchr::memchr_iter;

/// A text with the escapes of JSON (RFC 8259, section 7) undone that stand for characters of ASCII and that nothing asks for:
/// `\u0034` is `4`, `\/` is `/`. Other escapes stay: the detectors know them.
pub(super) struct Unescaped {
    pub(super) text: Vec<u8>,
    /// Behind which byte of the text an escape stood, and how many bytes were left out up to there.
    left_out: Vec<(usize, usize)>,
}

impl Unescaped {
    /// `None` if there are none.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let mut unescaped = Self { text: Vec::new(), left_out: Vec::new() };
        let mut done = 0;
        let mut left_out = 0;
        for at in memchr_iter(b'\\', text) {
            if at < done {
                continue;
            }
            let (character, len) = match escape(&text[at..]) {
                Some(escape) => escape,
                // An escaped backslash: what follows is no escape.
                None if text.get(at + 1) == Some(&b'\\') => {
                    unescaped.text.extend_from_slice(&text[done..at + 2]);
                    done = at + 2;
                    continue;
                }
                None => continue,
            };
            unescaped.text.extend_from_slice(&text[done..at]);
            unescaped.text.push(character);
            done = at + len;
            left_out += len - 1;
            unescaped.left_out.push((unescaped.text.len(), left_out));
        }
        if unescaped.left_out.is_empty() {
            return None;
        }
        unescaped.text.extend_from_slice(&text[done..]);
        Some(unescaped)
    }

    /// Where a part of the text stands as it was written.
    pub(super) fn written(&self, range: &Range<usize>) -> Range<usize> {
        self.before(range.start)..self.before(range.end)
    }

    fn before(&self, at: usize) -> usize {
        let index = self.left_out.partition_point(|(behind, _)| *behind <= at);
        at + index.checked_sub(1).map_or(0, |last| self.left_out[last].1)
    }
}

/// The character that an escape at the begin of `text` stands for, and its length.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', b'/', ..] => Some((b'/', 2)),
        [b'\\', b'u', b'0', b'0', high @ b'0'..=b'7', low, ..] => {
            let low = char::from(*low).to_digit(16)?;
            let character = (high - b'0') << 4 | u8::try_from(low).ok()?;
            // What must be escaped in a string ends a word like its escape does.
            (character >= b' ' && !matches!(character, b'"' | b'\\')).then_some((character, 6))
        }
        _ => None,
    }
}
