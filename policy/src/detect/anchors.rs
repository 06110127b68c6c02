//! The one pass over a text that all detectors share whose values have fixed words in them.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{Detector, Detectors, Finding, api_key, jwt, private_key};

/// Whose values this looks for.
pub(super) const DETECTORS: [Detector; 3] = [Detector::ApiKey, Detector::Jwt, Detector::PrivateKey];

/// Shortest value without white space in it: a token of Slack.
const VALUE_BYTES_MIN: usize = 15;
/// Texts shorter than this are looked over for such a value before the search is set up for them.
const SHORT_BYTES: usize = 64;

/// Whose anchors begin at which pattern.
const JWT_FIRST: usize = api_key::FORMS_COUNT;
const PRIVATE_KEY_FIRST: usize = JWT_FIRST + jwt::ANCHORS.len();

static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let forms = api_key::FORMS.iter().map(|form| form.prefix);
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(forms.chain(jwt::ANCHORS).chain(private_key::ANCHORS))
        .expect("a few short words make a small automaton")
});

/// Appends every API key, JSON Web Token and private key.
///
/// Linear: each form goes on behind what it has looked at, and looks forward or a bounded number of bytes back.
pub(super) fn find(text: &[u8], set: &Detectors, found: &mut Vec<Finding>) {
    if text.len() < SHORT_BYTES && !may_hold_a_value(text) {
        return;
    }
    let mut next_key = [0; api_key::FORMS_COUNT];
    let (mut next_token, mut next_private) = (0, 0);
    for anchor in FINDER.find_iter(text) {
        let (at, pattern) = (anchor.start(), anchor.pattern().as_usize());
        if pattern < JWT_FIRST {
            if set.has(Detector::ApiKey) && at >= next_key[pattern] {
                next_key[pattern] = api_key::find_at(text, at, pattern, found);
            }
        } else if pattern < PRIVATE_KEY_FIRST {
            if set.has(Detector::Jwt) && at >= next_token {
                next_token = jwt::find_at(text, at, found);
            }
        } else if set.has(Detector::PrivateKey) && at >= next_private {
            next_private = private_key::find_at(text, at, found);
        }
    }
}

/// Whether a text has so many bytes without white space as every value needs, or the words that begin a block.
fn may_hold_a_value(text: &[u8]) -> bool {
    let mut start = 0;
    while let Some(window) = text.get(start..start + VALUE_BYTES_MIN) {
        match window.iter().rposition(|byte| *byte <= b' ') {
            Some(space) => start += space + 1,
            None => return true,
        }
    }
    text.len() > VALUE_BYTES_MIN && memchr::memmem::find(text, b"PRIVATE").is_some()
}
