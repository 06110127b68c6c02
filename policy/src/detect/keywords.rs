//! Words that say what a bare number beside them is.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// How far before a number its word may end, in bytes.
const BEFORE_BYTES_MAX: usize = 64;
/// How far after a number its word may begin, in bytes.
const AFTER_BYTES_MAX: usize = 24;

/// What a word speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// A social security number of the United States.
    Ssn,
    /// A Dutch citizen service number.
    Bsn,
    /// A number of the British National Health Service.
    Nhs,
    /// An Indian Aadhaar number.
    Aadhaar,
}

/// In any case of letters.
const WORDS: [(&str, Keyword); 16] = [
    ("ssn", Keyword::Ssn),
    ("social security", Keyword::Ssn),
    ("social_security", Keyword::Ssn),
    ("social-security", Keyword::Ssn),
    ("socialsecurity", Keyword::Ssn),
    ("social sec", Keyword::Ssn),
    ("soc sec", Keyword::Ssn),
    ("bsn", Keyword::Bsn),
    ("burgerservice", Keyword::Bsn),
    ("sofinummer", Keyword::Bsn),
    ("sofi", Keyword::Bsn),
    ("nhs", Keyword::Nhs),
    ("national health", Keyword::Nhs),
    ("aadhaar", Keyword::Aadhaar),
    ("aadhar", Keyword::Aadhaar),
    ("uidai", Keyword::Aadhaar),
];

static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(WORDS.map(|(word, _)| word))
        .expect("a few short words make a small automaton")
});

/// The words of one text, looked for when the first number asks.
pub(super) struct Keywords<'a> {
    text: &'a [u8],
    places: Option<Vec<(Range<usize>, Keyword)>>,
}

impl<'a> Keywords<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, places: None }
    }

    /// Whether such a word stands near this range.
    pub(super) fn has(&mut self, keyword: Keyword, number: Range<usize>) -> bool {
        let places = self.places.get_or_insert_with(|| places(self.text));
        let first = number.start.saturating_sub(BEFORE_BYTES_MAX);
        let last = number.end + AFTER_BYTES_MAX;
        let from = places.partition_point(|(place, _)| place.end < first);
        places[from..].iter().take_while(|(place, _)| place.start <= last).any(|(_, found)| *found == keyword)
    }
}

/// Where words stand that are not part of another one (`businessname`); `userSsn` and `ssns` do count.
fn places(text: &[u8]) -> Vec<(Range<usize>, Keyword)> {
    let is_word = |range: &Range<usize>| {
        let begins = match text[..range.start].last() {
            Some(before) if before.is_ascii_lowercase() => text[range.start].is_ascii_uppercase(),
            Some(before) => !before.is_ascii_uppercase(),
            None => true,
        };
        let rest = &text[range.end..];
        let rest = rest.strip_prefix(b"s").or_else(|| rest.strip_prefix(b"S")).unwrap_or(rest);
        begins && (range.len() > 4 || rest.first().is_none_or(|after| !after.is_ascii_lowercase()))
    };
    FINDER
        .find_iter(text)
        .map(|found| (found.range(), WORDS[found.pattern().as_usize()].1))
        .filter(|(range, _)| is_word(range))
        .collect()
}
