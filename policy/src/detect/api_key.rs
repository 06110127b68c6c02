//! Keys and tokens of programming interfaces.
//!
//! # What counts
//! What begins with a prefix that its issuer chose so that it can be found, followed by enough characters of a key
//! ([`FORMS`]): AWS access key ids, GitHub, GitLab, Slack (also webhook addresses), Google, Stripe, npm, PyPI, OpenAI,
//! Anthropic, and this gate's own tokens. No letter or digit stands before the prefix. Checksums that some of them
//! carry are not asked for: a key with a typing error in it is still nearly the key.
//!
//! Secret access keys of AWS have no prefix: 40 characters of base64 with capitals and small letters count if they
//! stand within [`SECRET_BYTES_MAX`] bytes after the word `secret` or after an access key id.
//!
//! # What does not
//! Keys without a prefix, passwords, keys of other issuers, publishable keys (`pk_live_`).
//!
//! # False positives
//! Names that begin like a key; a digest in base64 after the word `secret`.

use super::{Detector, Finding, chars};

/// How far behind its keyword a secret access key may begin, in bytes.
const SECRET_BYTES_MAX: usize = 96;
/// Characters of a secret access key.
const SECRET_CHARS: usize = 40;
/// What stands for the hidden part.
const HIDDEN: &[u8] = b"***";

/// Which characters go on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Capitals and digits.
    Upper,
    /// Letters and digits.
    Alnum,
    /// Letters, digits and underscores.
    Word,
    /// Letters, digits, underscores and dashes.
    Url,
    /// The same and dots.
    Dotted,
    /// The same as `Url` and slashes.
    Path,
    /// Base64.
    Base64,
}

impl Body {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Path => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
        }
    }
}

/// A kind of key: its prefix, what follows, and how much of that at least.
pub(super) struct Form {
    pub(super) prefix: &'static str,
    body: Body,
    chars_min: usize,
}

const fn form(prefix: &'static str, body: Body, chars_min: usize) -> Form {
    Form { prefix, body, chars_min }
}

/// How many forms there are.
pub(super) const FORMS_COUNT: usize = 31;

/// The issuers' own documents name the prefixes; the lengths are somewhat shorter than any key that was seen.
pub(super) const FORMS: [Form; FORMS_COUNT] = [
    // AWS: long-lived and temporary access keys, bearer tokens, context-specific credentials.
    form("AKIA", Body::Upper, 16),
    form("ASIA", Body::Upper, 16),
    form("ABIA", Body::Upper, 16),
    form("ACCA", Body::Upper, 16),
    // GitHub: personal, OAuth, user, server and refresh tokens, fine-grained ones.
    form("ghp_", Body::Word, 30),
    form("gho_", Body::Word, 30),
    form("ghu_", Body::Word, 30),
    form("ghs_", Body::Word, 30),
    form("ghr_", Body::Word, 30),
    form("github_pat_", Body::Word, 20),
    // GitLab: personal, runner, deploy and trigger tokens.
    form("glpat-", Body::Dotted, 20),
    form("glrt-", Body::Dotted, 20),
    form("gldt-", Body::Dotted, 20),
    form("glptt-", Body::Dotted, 20),
    // Slack: one letter and a dash follow.
    form("xox", Body::Url, 12),
    form("xapp-", Body::Url, 12),
    form("hooks.slack.com/", Body::Path, 20),
    // Google: API keys, client secrets, access tokens.
    form("AIza", Body::Url, 35),
    form("GOCSPX-", Body::Url, 20),
    form("ya29.", Body::Dotted, 20),
    // Stripe.
    form("sk_live_", Body::Word, 10),
    form("sk_test_", Body::Word, 10),
    form("rk_live_", Body::Word, 10),
    form("rk_test_", Body::Word, 10),
    form("whsec_", Body::Base64, 16),
    // Package registries.
    form("npm_", Body::Alnum, 30),
    form("pypi-", Body::Url, 40),
    // OpenAI, Anthropic and who took over the form.
    form("sk-", Body::Url, 20),
    // This gate: a name and a secret.
    form("rt_", Body::Word, 30),
    // What a secret access key stands behind.
    form("ecret", Body::Alnum, 0),
    form("ECRET", Body::Alnum, 0),
];

/// The key of a form whose prefix begins at `start`. Returns where to look for the next one of this form.
pub(super) fn find_at(text: &[u8], start: usize, index: usize, found: &mut Vec<Finding>) -> usize {
    let form = &FORMS[index];
    let body = start + form.prefix.len();
    if form.chars_min == 0 {
        push_secret(text, body, found);
        return body;
    }
    if !chars::is_word_start(text, start) {
        return body;
    }
    let end = body + chars::run(&text[body..], usize::MAX, |byte| form.body.has(byte));
    if end - body >= form.chars_min && is_key(form.prefix, &text[body..end]) {
        found.push(Finding { detector: Detector::ApiKey, range: start..end });
        if form.body == Body::Upper {
            push_secret(text, end, found);
        }
    }
    end
}

/// What a form asks for beyond characters and length.
fn is_key(prefix: &str, body: &[u8]) -> bool {
    match prefix {
        "xox" => matches!(body, [b'a'..=b'e' | b'p' | b'r' | b's', b'-', ..]),
        // Names in style sheets begin like this too.
        "sk-" => body.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
        "rt_" => {
            body.iter().take(8).all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                && body.get(8) == Some(&b'_')
        }
        _ => true,
    }
}

/// The secret access key that begins within [`SECRET_BYTES_MAX`] bytes from `from`.
fn push_secret(text: &[u8], from: usize, found: &mut Vec<Finding>) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let last = text.len().min(from + SECRET_BYTES_MAX);
    let mut at = from;
    while at < last {
        let len = chars::run(&text[at..], SECRET_CHARS + 1, is_part);
        let run = &text[at..at + len];
        let is_secret = len == SECRET_CHARS
            && run.iter().any(u8::is_ascii_uppercase)
            && run.iter().any(u8::is_ascii_lowercase);
        if is_secret {
            found.push(Finding { detector: Detector::ApiKey, range: at..at + len });
            return;
        }
        at += len + 1;
        if len > SECRET_CHARS {
            return;
        }
    }
}

/// The issuer's prefix, which says what kind of key it is; nothing of a secret access key.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    let prefix = FORMS.iter().filter(|form| form.chars_min > 0).map(|form| form.prefix.as_bytes());
    let longer = [&b"sk-ant-"[..], b"sk-proj-"];
    let shown = longer.into_iter().chain(prefix).find(|prefix| matched.starts_with(prefix)).unwrap_or(b"");
    out.extend_from_slice(shown);
    out.extend_from_slice(HIDDEN);
}
