//! Statements out of lines: where one ends, and what the prompt says of one that has not.

/// Longest statement that is collected, in bytes; the service takes less.
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// Lines that add up to a statement longer than anyone takes. What was collected is gone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a statement is longer than {STATEMENT_BYTES_MAX} bytes: is a quote or a parenthesis still open?")]
pub(super) struct TooLong;

/// Collects lines and gives the statements that end in them. One ends at a semicolon that stands in no quotes, comment
/// or parentheses.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The statement so far, its lines ended by line feeds.
    text: String,
    /// Bytes of it that were looked at.
    seen: usize,
    place: Place,
    parentheses: usize,
    /// Whether there is more than white space and comments.
    is_begun: bool,
}

/// What the end of the text stands in.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Plain,
    /// Ended by the same character again, which stands for itself when doubled. In `E'…'` a backslash takes along what
    /// follows it.
    Quotes { end: char, escapes: bool },
    /// Ended by its tag, such as `$$` or `$body$`.
    Dollars { tag: String },
    /// To the end of the line.
    LineComment,
    /// Those within it end first.
    Comment { depth: usize },
}

impl Lines {
    /// Takes a line, without its line feed; gives the statements that end in it, without their semicolons.
    ///
    /// # Errors
    /// [`TooLong`]; then the next line begins a statement.
    pub(super) fn push(&mut self, line: &str) -> Result<Vec<String>, TooLong> {
        if self.text.len() + line.len() >= STATEMENT_BYTES_MAX {
            self.clear();
            return Err(TooLong);
        }
        let statements = self.push_part(line);
        let more = self.push_part("\n");
        debug_assert!(more.is_empty(), "a line feed ends no statement");
        if self.place == Place::Plain && !self.is_begun {
            self.clear();
        }
        Ok(statements)
    }

    /// Takes a part of a line.
    pub(super) fn push_part(&mut self, part: &str) -> Vec<String> {
        let mut text = std::mem::take(&mut self.text);
        text.push_str(part);
        let mut statements = Vec::new();
        let (mut begin, mut at) = (0, self.seen);
        while let Some(next) = text[at..].chars().next() {
            if next == ';' && self.place == Place::Plain && self.parentheses == 0 {
                if std::mem::take(&mut self.is_begun) {
                    statements.push(text[begin..at].trim().to_owned());
                }
                at += 1;
                begin = at;
            } else {
                at += self.step(&text[begin..at], &text[at..], next);
            }
        }
        self.seen = text.len() - begin;
        self.text = text.split_off(begin);
        statements
    }

    /// What was collected of a statement without an end, as a statement.
    pub(super) fn finish(&mut self) -> Option<String> {
        let text = std::mem::take(self).text;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Forgets what was collected.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What was collected of a statement without an end.
    pub(super) fn pending(&self) -> &str {
        &self.text
    }

    /// Whether nothing was collected.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether what comes next stands in no quotes and no comment, so that it may be a command of the shell.
    pub(super) fn is_plain(&self) -> bool {
        self.place == Place::Plain
    }

    /// What to ask for the next line with: its sign says what is open.
    pub(super) fn prompt(&self) -> &'static str {
        match &self.place {
            Place::Plain | Place::LineComment if self.parentheses > 0 => "retrace(> ",
            Place::Plain | Place::LineComment if self.text.is_empty() => "retrace=> ",
            Place::Plain | Place::LineComment => "retrace-> ",
            Place::Quotes { end: '\'', .. } => "retrace'> ",
            Place::Quotes { end: '"', .. } => "retrace\"> ",
            Place::Quotes { .. } => "retrace`> ",
            Place::Dollars { .. } => "retrace$> ",
            Place::Comment { .. } => "retrace*> ",
        }
    }

    /// Looks at what `rest` begins with, its first character being `next`; gives how many bytes that is. No step goes
    /// beyond a line feed.
    fn step(&mut self, before: &str, rest: &str, next: char) -> usize {
        let one = next.len_utf8();
        match &mut self.place {
            Place::Plain => return self.step_plain(before, rest, next),
            Place::Quotes { escapes: true, .. } if next == '\\' => {
                return one + rest[one..].chars().next().map_or(0, char::len_utf8);
            }
            Place::Quotes { end, .. } if next == *end => {
                if rest[one..].starts_with(*end) {
                    return 2 * one;
                }
                self.place = Place::Plain;
            }
            Place::Dollars { tag } if rest.starts_with(tag.as_str()) => {
                let length = tag.len();
                self.place = Place::Plain;
                return length;
            }
            Place::LineComment if next == '\n' => self.place = Place::Plain,
            Place::Comment { depth } if rest.starts_with("/*") => {
                *depth += 1;
                return 2;
            }
            Place::Comment { depth } if rest.starts_with("*/") => {
                *depth -= 1;
                if *depth == 0 {
                    self.place = Place::Plain;
                }
                return 2;
            }
            Place::Quotes { .. } | Place::Dollars { .. } | Place::LineComment | Place::Comment { .. } => {}
        }
        one
    }

    fn step_plain(&mut self, before: &str, rest: &str, next: char) -> usize {
        if rest.starts_with("--") {
            self.place = Place::LineComment;
            return 2;
        }
        if rest.starts_with("/*") {
            self.place = Place::Comment { depth: 1 };
            return 2;
        }
        self.is_begun |= !next.is_whitespace();
        match next {
            '\'' | '"' | '`' => {
                self.place = Place::Quotes { end: next, escapes: next == '\'' && is_escape_prefix(before) };
            }
            '$' if !before.ends_with(is_of_a_name) => {
                if let Some(tag) = dollar_tag(rest) {
                    self.place = Place::Dollars { tag: tag.to_owned() };
                    return tag.len();
                }
            }
            '(' => self.parentheses += 1,
            ')' => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
        next.len_utf8()
    }
}

/// Whether a character can stand in a name without quotes.
pub(super) fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Whether a quote after `before` is that of `E'…'`.
fn is_escape_prefix(before: &str) -> bool {
    before.strip_suffix(['e', 'E']).is_some_and(|name| !name.ends_with(is_of_a_name))
}

/// The tag that `rest` begins with, both of its signs included.
fn dollar_tag(rest: &str) -> Option<&str> {
    let name = &rest[1..];
    let length = name.find('$')?;
    let is_name = name[..length].chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then(|| &rest[..length + 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(lines: &[&str]) -> (Vec<String>, &'static str) {
        let mut collected = Lines::default();
        let mut statements = Vec::new();
        for line in lines {
            statements.extend(collected.push(line).unwrap());
        }
        (statements, collected.prompt())
    }

    #[test]
    fn a_statement_ends_at_a_semicolon_that_stands_in_nothing() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["SELECT 1;"], &["SELECT 1"]),
            (&["SELECT 1; SELECT 2 ;"], &["SELECT 1", "SELECT 2"]),
            (&["SELECT", " 1", ";"], &["SELECT\n 1"]),
            (&["SELECT 'a;b', 'it''s;';"], &["SELECT 'a;b', 'it''s;'"]),
            (&["SELECT 'a", "b;", "c';"], &["SELECT 'a\nb;\nc'"]),
            (&["SELECT E'it\\'s;', 'a\\';"], &["SELECT E'it\\'s;', 'a\\'"]),
            (&["SELECT name'x\\';"], &["SELECT name'x\\'"]),
            (&["SELECT \"a;\"\"b\", `c;`;"], &["SELECT \"a;\"\"b\", `c;`"]),
            (&["SELECT $$a;'$$, $t$;$$;$t$;"], &["SELECT $$a;'$$, $t$;$$;$t$"]),
            (&["SELECT $1;", "SELECT a$b$;"], &["SELECT $1", "SELECT a$b$"]),
            (&["SELECT 1 -- no; 'end", ";"], &["SELECT 1 -- no; 'end"]),
            (&["SELECT /* a; /* b; */ ' */ 1;"], &["SELECT /* a; /* b; */ ' */ 1"]),
            (&["SELECT (1;", "2);"], &["SELECT (1;\n2)"]),
            (&[" ;; -- nothing", "/* nothing */;"], &[]),
            (&["-- a word before", "SELECT 'ü';"], &["SELECT 'ü'"]),
            (&["SELECT )1;"], &["SELECT )1"]),
        ];
        for (lines, expected) in cases {
            assert_eq!(split(lines), (expected.iter().map(ToString::to_string).collect(), "retrace=> "));
        }
    }

    #[test]
    fn the_prompt_says_what_is_open() {
        for (line, prompt) in [
            ("", "retrace=> "),
            ("-- nothing", "retrace=> "),
            ("SELECT 1; SELECT", "retrace-> "),
            ("SELECT 1 -- (", "retrace-> "),
            ("SELECT 'a", "retrace'> "),
            ("SELECT \"a", "retrace\"> "),
            ("SELECT $a$ $b$", "retrace$> "),
            ("SELECT /* /* */", "retrace*> "),
            ("/* nothing", "retrace*> "),
            ("SELECT ((1)", "retrace(> "),
        ] {
            assert_eq!(split(&[line]).1, prompt, "{line}");
        }
    }

    #[test]
    fn what_has_no_end_is_a_statement_when_nothing_comes_after_it() {
        let mut lines = Lines::default();
        assert_eq!(lines.push("SELECT 1; SELECT 2").unwrap(), ["SELECT 1"]);
        assert!(lines.is_plain() && !lines.is_empty());
        assert_eq!(lines.pending(), " SELECT 2\n");
        assert_eq!(lines.finish(), Some("SELECT 2".to_owned()));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn lines_without_an_end_are_bounded() {
        let mut lines = Lines::default();
        let line = "x".repeat(STATEMENT_BYTES_MAX / 4);
        for _ in 0..3 {
            assert_eq!(lines.push(&line), Ok(Vec::new()));
        }
        assert_eq!(lines.push(&line), Err(TooLong));
        assert_eq!(lines.push("SELECT 1;"), Ok(vec!["SELECT 1".to_owned()]));
    }
}
