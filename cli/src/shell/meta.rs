//! What the shell itself is told: commands that begin with a backslash.

use std::path::PathBuf;

use anyhow::bail;
use clap::ValueEnum;

use crate::args::RowFormat;

/// What `\?` shows.
pub(super) const HELP: &str = "\
A statement may take several lines and ends with a semicolon.

  \\d                   list tables and views
  \\d NAME              list the columns of one
  \\cut                 show up to where the last answer saw the log
  \\x [on|off]          a line for each column, values whole
  \\format [FORMAT]     write rows as table, csv, json or jsonl
  \\timing [on|off]     show how long each statement took
  \\pager [on|off]      show what does not fit the terminal in $PAGER, or less
  \\i FILE              run the statements of a file, up to the first error
  \\?                   this list
  \\q                   leave; so does Ctrl-D

Tab completes. Ctrl-C clears what is typed, or cancels the statement that runs.
";

/// Every command, as it is completed.
pub(super) const NAMES: [&str; 9] =
    ["\\d", "\\cut", "\\x", "\\format", "\\timing", "\\pager", "\\i", "\\?", "\\q"];

/// A command of the shell. A switch without a value turns over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meta {
    List,
    /// The name as the catalogue has it.
    Columns(String),
    Cut,
    Expanded(Option<bool>),
    /// `None` asks which it is.
    Format(Option<RowFormat>),
    Timing(Option<bool>),
    Pager(Option<bool>),
    Include(PathBuf),
    Help,
    Quit,
}

/// Whether a line is for the shell, or would like to be.
pub(super) fn is_meta(line: &str) -> bool {
    line.trim_start().starts_with('\\')
}

impl Meta {
    /// Reads a line that [`is_meta`]. A semicolon at its end is forgiven.
    ///
    /// # Errors
    /// Each says what would be understood.
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.trim_end_matches(';');
        if name == "\\i" {
            return include(rest.trim());
        }
        let mut words = rest.trim_end_matches(';').split_whitespace();
        let (value, more) = (words.next(), words.next());
        if let Some(more) = more {
            bail!("{name} takes no `{more}`: \\? lists what there is");
        }
        Ok(match (name, value) {
            ("\\d", None) => Self::List,
            ("\\d", Some(table)) => Self::Columns(folded(table)),
            ("\\x", value) => Self::Expanded(switch(name, value)?),
            ("\\timing", value) => Self::Timing(switch(name, value)?),
            ("\\pager", value) => Self::Pager(switch(name, value)?),
            ("\\format", value) => Self::Format(value.map(format).transpose()?),
            ("\\cut" | "\\?" | "\\q", Some(value)) => bail!("{name} takes no `{value}`"),
            ("\\cut", None) => Self::Cut,
            ("\\?", None) => Self::Help,
            ("\\q", None) => Self::Quit,
            _ => bail!("{name} is nothing that the shell knows: \\? lists what there is"),
        })
    }

    /// A line that means a command without a backslash, as it does to psql, where no statement is begun.
    pub(super) fn by_word(line: &str) -> Option<Self> {
        match line.trim().trim_end_matches(';').trim_end() {
            "help" => Some(Self::Help),
            "exit" | "quit" => Some(Self::Quit),
            _ => None,
        }
    }
}

fn include(file: &str) -> anyhow::Result<Meta> {
    let unquoted = file.strip_prefix('\'').and_then(|file| file.strip_suffix('\'')).unwrap_or(file);
    if unquoted.is_empty() {
        bail!("\\i takes the file to read statements from");
    }
    Ok(Meta::Include(unquoted.into()))
}

fn switch(name: &str, value: Option<&str>) -> anyhow::Result<Option<bool>> {
    match value {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(value) => bail!("{name} takes on or off, not `{value}`"),
    }
}

fn format(name: &str) -> anyhow::Result<RowFormat> {
    let Ok(format) = RowFormat::from_str(name, true) else {
        bail!("\\format takes {}, not `{name}`", format_names().join(", "));
    };
    Ok(format)
}

/// Names of the formats that rows can be written in.
pub(super) fn format_names() -> Vec<String> {
    RowFormat::value_variants().iter().map(|format| format_name(*format)).collect()
}

/// A format's name, as [`Meta::parse`] takes it.
pub(super) fn format_name(format: RowFormat) -> String {
    format.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A name as SQL reads it: in small letters unless it stands in quotes.
fn folded(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_ascii_lowercase(),
    }
}

/// Asks for what `\d` lists.
pub(super) const TABLES: &str = "\
SELECT relname AS name, CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END AS kind, relnatts AS columns \
FROM pg_catalog.pg_class WHERE relkind IN ('r', 'v') ORDER BY relname";

/// Asks for the columns of every table and view, in order: two texts for each.
pub(super) const COLUMNS: &str = "\
SELECT c.relname AS name, a.attname AS column_name FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid ORDER BY c.relname, a.attnum";

/// Asks for the columns of one.
pub(super) fn columns_of(table: &str) -> String {
    format!(
        "SELECT a.attname AS \"column\", format_type(a.atttypid, a.atttypmod) AS type FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE c.relname = '{}' ORDER BY a.attnum",
        table.replace('\'', "''")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_what_they_take() {
        let cases = [
            ("\\d", Meta::List),
            ("  \\d;", Meta::List),
            ("\\d Sessions;", Meta::Columns("sessions".to_owned())),
            ("\\d \"Odd\"\"\"", Meta::Columns("Odd\"".to_owned())),
            ("\\cut", Meta::Cut),
            ("\\x", Meta::Expanded(None)),
            ("\\x on", Meta::Expanded(Some(true))),
            ("\\timing off", Meta::Timing(Some(false))),
            ("\\pager\toff ;", Meta::Pager(Some(false))),
            ("\\format", Meta::Format(None)),
            ("\\format CSV", Meta::Format(Some(RowFormat::Csv))),
            ("\\i a file.sql", Meta::Include("a file.sql".into())),
            ("\\i 'a.sql'", Meta::Include("a.sql".into())),
            ("\\?", Meta::Help),
            ("\\q", Meta::Quit),
        ];
        for (line, expected) in cases {
            assert!(is_meta(line));
            assert_eq!(Meta::parse(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        for (line, hint) in [
            ("\\frobnicate", "\\?"),
            ("\\", "\\?"),
            ("\\d a b", "\\?"),
            ("\\x maybe", "on or off"),
            ("\\format xml", "table, csv, json, jsonl"),
            ("\\q now", "takes no `now`"),
            ("\\i", "file"),
        ] {
            let said = Meta::parse(line).unwrap_err().to_string();
            assert!(said.contains(hint), "{line}: {said}");
        }
    }

    #[test]
    fn words_of_psql_are_understood() {
        assert_eq!(Meta::by_word("quit"), Some(Meta::Quit));
        assert_eq!(Meta::by_word(" exit ;"), Some(Meta::Quit));
        assert_eq!(Meta::by_word("help"), Some(Meta::Help));
        assert_eq!(Meta::by_word("exit now"), None);
    }

    #[test]
    fn every_command_is_listed_in_the_help() {
        for name in NAMES {
            assert!(HELP.contains(&format!("  {name} ")), "{name}");
        }
        for format in format_names() {
            assert!(HELP.contains(&format), "{format}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert!(columns_of("x' OR 'a'='a").contains("relname = 'x'' OR ''a''=''a'"));
    }
}
