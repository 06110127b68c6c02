//! What the text of a definition names.

use std::collections::BTreeSet;

use super::Words;
use crate::statement::{Backslash, TokenKind, tokens};

/// Reads the names, the names before a bracket, and the operators of a text.
pub(super) fn words(sql: &str) -> Words {
    let bytes = sql.as_bytes();
    let mut names = BTreeSet::new();
    let mut called = BTreeSet::new();
    let mut operators = BTreeSet::new();
    let mut unreadable = false;
    let mut last: Option<String> = None;
    let mut operator = String::new();
    let mut end = 0;
    for token in tokens(bytes, Backslash::Plain) {
        let text = sql.get(token.range.clone()).unwrap_or_default();
        let adjacent = token.range.start == end;
        end = token.range.end;
        if !operator.is_empty() && !(adjacent && is_operator(token.kind, text)) {
            operators.insert(std::mem::take(&mut operator));
        }
        match token.kind {
            TokenKind::Comment => continue,
            TokenKind::Word | TokenKind::QuotedName => match folded(text) {
                Some(name) => {
                    names.insert(name.clone());
                    last = Some(name);
                    continue;
                }
                None => unreadable = true,
            },
            TokenKind::Other if text == "(" => called.extend(last.take()),
            TokenKind::Other if is_operator(token.kind, text) => operator.push_str(text),
            _ => {}
        }
        last = None;
    }
    operators.extend((!operator.is_empty()).then_some(operator));
    Words {
        names: names.into_iter().collect(),
        called: called.into_iter().collect(),
        operators: operators.into_iter().collect(),
        unreadable,
    }
}

/// Whether a string constant without a prefix holds a backslash: only such are read differently when
/// `standard_conforming_strings` is off, and the first difference needs one.
pub(super) fn backslash_matters(sql: &str) -> bool {
    let bytes = sql.as_bytes();
    bytes.contains(&b'\\')
        && tokens(bytes, Backslash::Plain).any(|token| {
            let text = &bytes[token.range];
            token.kind == TokenKind::String && matches!(text[0], b'\'' | b'n' | b'N') && text.contains(&b'\\')
        })
}

fn is_operator(kind: TokenKind, text: &str) -> bool {
    kind == TokenKind::Other && matches!(text.as_bytes(), [byte] if b"+-*/<>=~!@#%^&|`?".contains(byte))
}

/// A name as the target folds it: unquoted in lower case, of letters beyond ASCII nothing changed.
fn folded(text: &str) -> Option<String> {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match quoted {
        Some(inner) => Some(inner.replace("\"\"", "\"")),
        // U&"…" holds escapes, whose sign a clause behind it may choose.
        None if text.contains('"') => None,
        None => Some(text.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_quotes_resolved() {
        let words = words(r#"CREATE INDEX i ON "Cust""omers" (Lower ( Name )) WHERE a @@ 'b' -- "x""#);
        assert_eq!(words.names, ["Cust\"omers", "a", "create", "i", "index", "lower", "name", "on", "where"]);
        assert_eq!(words.called, ["Cust\"omers", "lower"]);
        assert_eq!(words.operators, ["@@"]);
        assert!(!words.unreadable);
        assert!(super::words(r#"DROP TABLE U&"c\0075st""#).unreadable);
    }

    #[test]
    fn only_plain_constants_with_a_backslash_are_read_in_two_ways() {
        for (sql, matters) in [
            (r"SELECT 'a\b'", true),
            (r"SELECT N'a\b'", true),
            (r"SELECT E'a\b'", false),
            (r"SELECT $$a\b$$", false),
            (r"SELECT U&'\0061'", false),
            (r"SELECT 'a' /* \ */", false),
            (r#"SELECT "a\b""#, false),
        ] {
            assert_eq!(backslash_matters(sql), matters, "{sql}");
        }
    }
}
