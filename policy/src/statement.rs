//! The tokens of a SQL statement, as PostgreSQL's own scanner (`scan.l`) would cut them.
//!
//! This is no parser. It knows where literals, names and comments begin and end, which is what masking needs so that
//! nothing is replaced across tokens, and what the first word of each statement is. Anything it is unsure of it cuts
//! where PostgreSQL might, so that a rule sees more statements rather than fewer.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A keyword or an unquoted name.
    Word,
    /// A name in double quotes, with its quotes.
    QuotedName,
    /// A string constant in any of its forms, with prefix and quotes.
    String,
    /// A numeric constant.
    Number,
    /// A comment.
    Comment,
    /// `$1` and the like.
    Parameter,
    /// The end of a statement.
    Semicolon,
    /// An operator or a bracket, one character each.
    Other,
}

/// One token, by its place in the statement's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands.
    pub range: Range<usize>,
}

/// How the target reads a backslash in a plain string constant: the setting `standard_conforming_strings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backslash {
    /// As itself (the default since PostgreSQL 9.1).
    Plain,
    /// As an escape.
    Escape,
}

/// Cuts a statement into tokens. White space is left out. Linear in the statement's length.
pub fn tokens(sql: &[u8], backslash: Backslash) -> impl Iterator<Item = Token> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while sql.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if at >= sql.len() {
            return None;
        }
        let start = at;
        let (kind, end) = next_token(sql, start, backslash);
        debug_assert!(end > start, "a token has at least one byte");
        at = end;
        Some(Token { kind, range: start..end })
    })
}

/// The first word of each statement in `sql`, as written. Empty statements have none.
pub fn first_words(sql: &[u8], backslash: Backslash) -> impl Iterator<Item = &[u8]> {
    let mut begins = true;
    tokens(sql, backslash).filter_map(move |token| match token.kind {
        TokenKind::Comment => None,
        TokenKind::Semicolon => {
            begins = true;
            None
        }
        // An opening bracket may stand before the first word: `(SELECT …)`.
        TokenKind::Other if begins && sql[token.range.start] == b'(' => None,
        kind => {
            let first = std::mem::replace(&mut begins, false);
            (first && kind == TokenKind::Word).then(|| &sql[token.range])
        }
    })
}

/// The names that PREPARE and DEALLOCATE among the statements of `sql` give another meaning, in order, as PostgreSQL reads
/// them: folded to lower case unless quoted. `ALL` is no name and stands among them as `all`; so does a name that
/// may be read in several ways, by escapes, an encoding, or its length.
pub fn redefined_names(sql: &[u8], backslash: Backslash) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut words: Option<usize> = Some(0);
    for token in tokens(sql, backslash).filter(|token| token.kind != TokenKind::Comment) {
        let text = &sql[token.range.clone()];
        let is = |word: &[u8]| token.kind == TokenKind::Word && text.eq_ignore_ascii_case(word);
        words = match words {
            _ if token.kind == TokenKind::Semicolon => Some(0),
            Some(0) if is(b"deallocate") || is(b"prepare") => Some(1),
            // DEALLOCATE PREPARE name.
            Some(1) if is(b"prepare") => Some(1),
            Some(1) => {
                names.push(name(text, token.kind));
                None
            }
            _ => None,
        };
    }
    names
}

/// Longest name, in bytes; longer ones are cut (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;

fn name(text: &[u8], kind: TokenKind) -> Vec<u8> {
    let escaped = kind == TokenKind::QuotedName && !text.starts_with(b"\"");
    if escaped || !text.is_ascii() || text.len() > NAME_BYTES_MAX {
        return b"all".to_vec();
    }
    if kind != TokenKind::QuotedName {
        return text.to_ascii_lowercase();
    }
    let inner = text.strip_prefix(b"\"").unwrap_or(text);
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    let mut name = Vec::with_capacity(inner.len());
    let mut quote_before = false;
    for &byte in inner {
        quote_before = byte == b'"' && !quote_before;
        if !quote_before {
            name.push(byte);
        }
    }
    name
}

fn next_token(sql: &[u8], start: usize, backslash: Backslash) -> (TokenKind, usize) {
    let byte = sql[start];
    let after = sql.get(start + 1).copied();
    match byte {
        b'\'' => (TokenKind::String, string_end(sql, start, backslash == Backslash::Escape)),
        b'"' => (TokenKind::QuotedName, quoted_end(sql, start, false)),
        b'-' if after == Some(b'-') => (TokenKind::Comment, line_end(sql, start)),
        b'/' if after == Some(b'*') => (TokenKind::Comment, block_comment_end(sql, start)),
        b'$' => dollar(sql, start),
        b';' => (TokenKind::Semicolon, start + 1),
        b'0'..=b'9' => (TokenKind::Number, number_end(sql, start)),
        b'.' if after.is_some_and(|byte| byte.is_ascii_digit()) => {
            (TokenKind::Number, number_end(sql, start))
        }
        _ if is_word_start(byte) => word(sql, start, backslash),
        _ => (TokenKind::Other, start + 1),
    }
}

/// A word, or a string constant that a word-like prefix begins.
fn word(sql: &[u8], start: usize, backslash: Backslash) -> (TokenKind, usize) {
    let next = sql.get(start + 1).copied();
    match (sql[start].to_ascii_lowercase(), next) {
        (b'e', Some(b'\'')) => return (TokenKind::String, string_end(sql, start + 1, true)),
        (b'b' | b'x', Some(b'\'')) => return (TokenKind::String, string_end(sql, start + 1, false)),
        (b'n', Some(b'\'')) => {
            return (TokenKind::String, string_end(sql, start + 1, backslash == Backslash::Escape));
        }
        (b'u', Some(b'&')) => match sql.get(start + 2) {
            Some(b'\'') => return (TokenKind::String, string_end(sql, start + 2, false)),
            Some(b'"') => return (TokenKind::QuotedName, quoted_end(sql, start + 2, false)),
            _ => {}
        },
        _ => {}
    }
    let length = sql[start..].iter().take_while(|byte| is_word_part(**byte)).count();
    (TokenKind::Word, start + length)
}

/// The end of a string constant. One that is followed by white space with a line break and another quote goes on there,
/// in the same form (SQL standard; `quotecontinue` of `scan.l`).
fn string_end(sql: &[u8], open: usize, backslash_escapes: bool) -> usize {
    let mut end = quoted_end(sql, open, backslash_escapes);
    while let Some(next) = continuation(sql, end) {
        end = quoted_end(sql, next, backslash_escapes);
    }
    end
}

/// The quote by which a string that ended at `end` goes on.
fn continuation(sql: &[u8], end: usize) -> Option<usize> {
    let mut at = end;
    let mut line_broken = false;
    loop {
        match sql.get(at)? {
            b'\'' => return line_broken.then_some(at),
            b'\n' | b'\r' => line_broken = true,
            b'-' if sql.get(at + 1) == Some(&b'-') => {
                at = line_end(sql, at);
                continue;
            }
            byte if is_space(*byte) => {}
            _ => return None,
        }
        at += 1;
    }
}

/// The end of what is quoted from `open` on; a doubled quote does not end it. The end of `sql` if nothing does.
fn quoted_end(sql: &[u8], open: usize, backslash_escapes: bool) -> usize {
    let quote = sql[open];
    let mut at = open + 1;
    while at < sql.len() {
        match sql[at] {
            b'\\' if backslash_escapes => at += 2,
            byte if byte == quote => {
                if sql.get(at + 1) != Some(&quote) {
                    return at + 1;
                }
                at += 2;
            }
            _ => at += 1,
        }
    }
    sql.len()
}

fn line_end(sql: &[u8], start: usize) -> usize {
    memchr::memchr2(b'\n', b'\r', &sql[start..]).map_or(sql.len(), |length| start + length)
}

/// Block comments nest, as the standard asks and PostgreSQL does.
fn block_comment_end(sql: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < sql.len() {
        match (sql[at], sql.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    sql.len()
}

/// A parameter, a dollar-quoted string, or a lone dollar.
fn dollar(sql: &[u8], start: usize) -> (TokenKind, usize) {
    let digits = sql[start + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        return (TokenKind::Parameter, start + 1 + digits);
    }
    let tag =
        sql[start + 1..].iter().take_while(|byte| is_word_start(**byte) || byte.is_ascii_digit()).count();
    let body = start + tag + 2;
    if sql.get(body - 1) != Some(&b'$') {
        return (TokenKind::Other, start + 1);
    }
    let delimiter = &sql[start..body];
    let end = memchr::memmem::find(&sql[body..], delimiter)
        .map_or(sql.len(), |length| body + length + delimiter.len());
    (TokenKind::String, end)
}

/// Digits, fraction, exponent, and the forms of other bases; letters that follow are taken along.
fn number_end(sql: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = sql.get(at) {
        let part_of_exponent = matches!(byte, b'+' | b'-')
            && matches!(sql[at - 1], b'e' | b'E')
            && at > start
            && sql.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || part_of_exponent) {
            break;
        }
        at += 1;
    }
    at
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: &[(TokenKind, &str)]) {
        let found: Vec<_> =
            tokens(sql.as_bytes(), Backslash::Plain).map(|token| (token.kind, &sql[token.range])).collect();
        assert_eq!(found, expect);
    }

    #[track_caller]
    fn check_first(sql: &str, expect: &[&str]) {
        let found: Vec<_> = first_words(sql.as_bytes(), Backslash::Plain)
            .map(|word| std::str::from_utf8(word).expect("ASCII"))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn strings_of_every_form_are_one_token() {
        use TokenKind::{Number, Other, QuotedName, String, Word};
        check("select 'a''b'", &[(Word, "select"), (String, "'a''b'")]);
        check(r"E'a\'b' c", &[(String, r"E'a\'b'"), (Word, "c")]);
        check(r"'a\' c", &[(String, r"'a\'"), (Word, "c")]);
        check("U&'d!0061' u&\"x\"", &[(String, "U&'d!0061'"), (QuotedName, "u&\"x\"")]);
        check("$$it's$$ $t$a$$b$t$", &[(String, "$$it's$$"), (String, "$t$a$$b$t$")]);
        check("x$$y", &[(Word, "x$$y")]);
        check("1.5e-3-2", &[(Number, "1.5e-3"), (Other, "-"), (Number, "2")]);
        check("'never ends", &[(String, "'never ends")]);
    }

    #[test]
    fn a_string_goes_on_behind_a_line_break_in_the_same_form() {
        use TokenKind::{String, Word};
        check("'a'\n  'b' c", &[(String, "'a'\n  'b'"), (Word, "c")]);
        check("'a' 'b'", &[(String, "'a'"), (String, "'b'")]);
        check("E'a' -- x\n'b\\' , ' c", &[(String, "E'a' -- x\n'b\\' , '"), (Word, "c")]);
        check_first("select E'a'\n'b\\' , '; copy t to stdout --'", &["select", "copy"]);
    }

    #[test]
    fn a_backslash_escapes_where_the_setting_says_so() {
        let sql = br"'a\'; copy t to stdout --'";
        let plain = first_words(sql, Backslash::Plain).count();
        let escaped = first_words(sql, Backslash::Escape).count();
        assert_eq!((plain, escaped), (1, 0));
    }

    #[test]
    fn names_that_sql_gives_another_meaning_are_read_as_postgresql_reads_them() {
        for (sql, expect) in [
            ("deallocate S1", &["s1"][..]),
            ("DEALLOCATE PREPARE \"S\"\"1\"; select 1; /* x */ prepare b (int) as select $1", &["S\"1", "b"]),
            ("deallocate all", &["all"]),
            (r#"deallocate U&"\0073""#, &["all"]),
            ("deallocate \"é\"; prepare É as select 1", &["all", "all"]),
            ("deallocate a23456789b23456789c23456789d23456789e23456789f23456789g23456789h2345", &["all"]),
            ("select 'deallocate x'; execute prepare", &[]),
        ] {
            let names = redefined_names(sql.as_bytes(), Backslash::Plain);
            let names: Vec<_> = names.iter().map(|name| std::str::from_utf8(name).expect("ASCII")).collect();
            assert_eq!(names, expect, "{sql}");
        }
    }

    #[test]
    fn each_statement_has_its_first_word() {
        check_first("select 1; copy t to stdout", &["select", "copy"]);
        check_first("/* a /* nested */ ; */ -- ;\n COPY t from stdin;;", &["COPY"]);
        check_first("select ';copy' ; (values (1))", &["select", "values"]);
        check_first("$f$ ; copy $f$", &[]);
        check_first("", &[]);
    }

    proptest::proptest! {
        #[test]
        fn tokens_cover_any_bytes_in_order(sql in proptest::collection::vec(0_u8..=255, 0..200)) {
            for backslash in [Backslash::Plain, Backslash::Escape] {
                let mut last = 0;
                for token in tokens(&sql, backslash) {
                    proptest::prop_assert!(token.range.start >= last && token.range.end <= sql.len());
                    proptest::prop_assert!(!token.range.is_empty());
                    last = token.range.end;
                }
            }
        }
    }
}
