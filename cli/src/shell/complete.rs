//! What Tab offers: words of SQL, tables and views, their columns, and the shell's own commands.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::line::{Lines, is_of_a_name};
use super::meta;

/// What a statement begins with.
const BEGINNINGS: [&str; 6] = ["DESCRIBE", "EXPLAIN", "SELECT", "SHOW", "VALUES", "WITH"];

/// What else stands in one, between bars: words, and functions up to their parenthesis.
const WORDS: &str = "ALL|AND|AS|ASC|BETWEEN|BY|CASE|CAST(|COALESCE(|COUNT(|CROSS JOIN|DATE_TRUNC(|DESC|DISTINCT|ELSE|END|\
    EXCEPT|EXISTS|FALSE|FINGERPRINT(|FROM|FULL JOIN|GROUP BY|HAVING|ILIKE|IN|INTERSECT|INTERVAL|IS NOT NULL|IS NULL|JOIN|\
    LEFT JOIN|LIKE|LIMIT|MAX(|MIN(|NOT|NOW()|NULLS LAST|OFFSET|ON|OR|ORDER BY|SUM(|THEN|TRUE|UNION ALL|WHEN|WHERE";

/// What the service has, for completion: tables and views with their columns.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Named>);

#[derive(Debug)]
struct Named {
    table: String,
    columns: Vec<String>,
}

impl Names {
    /// Of rows with the name of a table and of a column each, a table's together.
    pub(super) fn of_rows(rows: impl IntoIterator<Item = Vec<Option<String>>>) -> Self {
        let mut names: Vec<Named> = Vec::new();
        for row in rows {
            let [Some(table), Some(column)]: [Option<String>; 2] = row.try_into().unwrap_or_default() else {
                continue;
            };
            match names.last_mut().filter(|last| last.table == table) {
                Some(last) => last.columns.push(column),
                None => names.push(Named { table, columns: vec![column] }),
            }
        }
        Self(names)
    }

    fn tables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|named| named.table.as_str())
    }

    /// Columns of the tables that `statement` names; of all if it names none.
    fn columns(&self, statement: &str) -> Vec<&str> {
        let words: Vec<&str> = statement.split(|c| !is_of_a_name(c)).collect();
        let is_named = |named: &&Named| words.iter().any(|word| word.eq_ignore_ascii_case(&named.table));
        let mut of: Vec<&Named> = self.0.iter().filter(is_named).collect();
        if of.is_empty() {
            of.extend(&self.0);
        }
        of.into_iter().flat_map(|named| named.columns.iter().map(String::as_str)).collect()
    }
}

/// Completes a line, knowing the lines before it.
#[derive(Debug, Default)]
pub(super) struct Completion {
    names: Names,
    before: String,
}

impl Completion {
    pub(super) fn new(names: Names) -> Self {
        Self { names, before: String::new() }
    }

    /// What was collected of the statement that the next line goes on with.
    pub(super) fn set_before(&mut self, before: &str) {
        before.clone_into(&mut self.before);
    }

    /// Where in `typed` the word begins that it ends with, and what that may become.
    fn candidates(&self, typed: &str) -> (usize, Vec<String>) {
        let mut lines = Lines::default();
        lines.push_part(&self.before);
        let is_plain = lines.is_plain();
        lines.push_part(typed);
        if is_plain && meta::is_meta(typed) {
            return self.of_meta(typed);
        }
        let begin = typed.len() - suffix_of_name(typed).len();
        if !lines.is_plain() {
            return (begin, Vec::new());
        }
        let (head, word) = typed.split_at(begin);
        let statement = lines.pending();
        let head_of_all = &statement[..statement.len().saturating_sub(word.len())];
        (begin, self.of_statement(statement, head_of_all, word, head.ends_with('.')))
    }

    fn of_meta(&self, typed: &str) -> (usize, Vec<String>) {
        let begin = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (head, word) = typed.split_at(begin);
        let known: Vec<String> = match head.trim() {
            "" => meta::NAMES.map(str::to_owned).to_vec(),
            "\\d" => self.names.tables().map(str::to_owned).collect(),
            "\\format" => meta::format_names(),
            "\\x" | "\\timing" | "\\pager" => vec!["on".to_owned(), "off".to_owned()],
            _ => Vec::new(),
        };
        (begin, those_that_begin_with(word, known.iter().map(String::as_str)))
    }

    fn of_statement(&self, statement: &str, head: &str, word: &str, is_of_table: bool) -> Vec<String> {
        let before = head.trim_end();
        if is_of_table {
            let table = suffix_of_name(&before[..before.len() - 1]);
            let known = self.names.tables().any(|name| name.eq_ignore_ascii_case(table));
            return those_that_begin_with(word, self.names.columns(if known { table } else { statement }));
        }
        if before.is_empty() {
            return words_that_begin_with(word, BEGINNINGS);
        }
        let last = suffix_of_name(before).to_ascii_uppercase();
        if ["FROM", "JOIN", "DESCRIBE"].contains(&last.as_str()) {
            return those_that_begin_with(word, self.names.tables());
        }
        let mut found = those_that_begin_with(word, self.names.columns(statement));
        found.extend(those_that_begin_with(word, self.names.tables()));
        if !word.is_empty() {
            found.extend(words_that_begin_with(word, WORDS.split('|')));
            found.extend(words_that_begin_with(word, BEGINNINGS));
        }
        found
    }
}

/// The name, or the begin of one, that a text ends with.
fn suffix_of_name(text: &str) -> &str {
    let rest = text.trim_end_matches(is_of_a_name);
    &text[rest.len()..]
}

/// Each once, in the order of the alphabet.
fn those_that_begin_with<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let fits = |name: &&str| name.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    let mut found: Vec<String> = known.into_iter().filter(fits).map(str::to_owned).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// In small letters if that is how the word is begun.
fn words_that_begin_with<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut found = those_that_begin_with(word, known);
    if word.chars().any(|c| c.is_ascii_lowercase()) {
        found.iter_mut().for_each(|word| word.make_ascii_lowercase());
    }
    found
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let (begin, mut found) = self.candidates(&line[..pos]);
        if let [only] = found.as_mut_slice()
            && only.ends_with(is_of_a_name)
            && pos == line.len()
        {
            only.push(' ');
        }
        Ok((begin, found))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(before: &str) -> Completion {
        let row = |table: &str, column: &str| vec![Some(table.to_owned()), Some(column.to_owned())];
        let rows = [
            row("commands", "seq"),
            row("commands", "statement"),
            row("sessions", "session_id"),
            row("sessions", "state"),
            vec![None, None],
            vec![],
        ];
        let mut completion = Completion::new(Names::of_rows(rows));
        completion.set_before(before);
        completion
    }

    #[test]
    fn what_stands_before_decides_what_is_offered() {
        let cases: &[(&str, &str, usize, &[&str])] = &[
            ("", "", 0, &BEGINNINGS),
            ("", "sel", 0, &["select"]),
            ("", "SELECT 1; SEL", 10, &["SELECT"]),
            ("", "SELECT * FROM ", 14, &["commands", "sessions"]),
            ("", "SELECT * FROM S", 14, &["sessions"]),
            ("SELECT *\nFROM\n", "c", 0, &["commands"]),
            ("", "SELECT s FROM sessions WHERE sta", 29, &["state"]),
            ("", "SELECT sessions.s", 16, &["session_id", "state"]),
            ("", "SELECT c.s FROM commands c WHERE c.s", 35, &["seq", "statement"]),
            ("SELECT seq FROM commands\n", "wh", 0, &["when", "where"]),
            ("SELECT seq FROM commands\n", "ORDER", 0, &["ORDER BY"]),
            ("", "SELECT 'SEL", 8, &[]),
            ("SELECT 'a\n", "FR", 0, &[]),
            ("", "SELECT -- SEL", 10, &[]),
            ("", "SELECT ü", 7, &[]),
        ];
        for (before, typed, begin, expected) in cases {
            let found = completion(before).candidates(typed);
            assert_eq!(found, (*begin, expected.iter().map(ToString::to_string).collect()), "{typed}");
        }
    }

    #[test]
    fn the_only_word_there_is_is_ended_where_the_line_ends() {
        let history = rustyline::history::MemHistory::new();
        let complete = |line: &str, pos| {
            let completed = completion("").complete(line, pos, &Context::new(&history));
            completed.unwrap().1
        };
        assert_eq!(complete("sel", 3), ["select "]);
        assert_eq!(complete("sel 1", 3), ["select"]);
        assert_eq!(complete("SELECT COU", 10), ["COUNT("]);
        assert_eq!(complete("SELECT s", 8).first().unwrap(), "seq");
    }

    #[test]
    fn commands_of_the_shell_are_completed_with_what_they_take() {
        let cases: &[(&str, usize, &[&str])] = &[
            ("\\", 0, &["\\?", "\\cut", "\\d", "\\format", "\\i", "\\pager", "\\q", "\\timing", "\\x"]),
            ("\\ti", 0, &["\\timing"]),
            ("\\d s", 3, &["sessions"]),
            ("\\format j", 8, &["json", "jsonl"]),
            ("\\x ", 3, &["off", "on"]),
            ("\\q ", 3, &[]),
        ];
        for (typed, begin, expected) in cases {
            let found = completion("").candidates(typed);
            assert_eq!(found, (*begin, expected.iter().map(ToString::to_string).collect()), "{typed}");
        }
        assert_eq!(completion("SELECT 'a\n").candidates("\\ti"), (1, Vec::new()));
    }

    #[test]
    fn without_names_words_are_offered_all_the_same() {
        let completion = Completion::default();
        assert_eq!(completion.candidates("SELECT * FR"), (9, vec!["FROM".to_owned()]));
        assert_eq!(completion.candidates("SELECT * FROM "), (14, Vec::new()));
    }
}
