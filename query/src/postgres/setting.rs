//! What drivers say before and between their questions: settings, transaction blocks, clean-up. None of it changes
//! anything that is read, so each is answered as PostgreSQL would and forgotten.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use super::error::Failure;

/// Settings that a client is told at its login, and that do not change.
pub(super) const REPORTED: [(&str, &str); 11] = [
    ("server_version", SERVER_VERSION),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "off"),
    ("default_transaction_read_only", "on"),
    ("in_hot_standby", "off"),
];

/// Of PostgreSQL 15 in what it speaks; the name tells people what they talk to.
const SERVER_VERSION: &str = concat!("15.0 (Retrace ", env!("CARGO_PKG_VERSION"), ")");

/// What SHOW answers besides.
const SHOWN: [(&str, &str); 9] = [
    ("transaction_isolation", "serializable"),
    ("transaction isolation level", "serializable"),
    ("default_transaction_isolation", "serializable"),
    ("transaction_read_only", "on"),
    ("search_path", "public"),
    ("max_identifier_length", "63"),
    ("server_version_num", "150000"),
    ("statement_timeout", "0"),
    ("extra_float_digits", "1"),
];

/// The longest text that is looked at for one of these.
const STATEMENT_BYTES_MAX: usize = 4 * 1024;

/// A statement that is about the connection and not about the evidence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// Does nothing; its tag.
    Nothing(&'static str),
    Begin,
    /// COMMIT or ROLLBACK, with its tag.
    End(&'static str),
    /// DISCARD ALL, DEALLOCATE ALL: the prepared statements go.
    Forget(&'static str),
    Deallocate(String),
    Show(String),
}

/// Tells what a statement is; `None` for one that asks the evidence.
pub(super) fn parse(statement: &str) -> Option<Result<Setting, Failure>> {
    if statement.len() > STATEMENT_BYTES_MAX {
        return None;
    }
    let bare = without_comments(statement);
    let words: Vec<String> = bare
        .trim_end_matches(';')
        .split_whitespace()
        .map(|word| word.trim_matches(';').to_lowercase())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Some(Ok(match words.as_slice() {
        ["begin", ..] | ["start", "transaction", ..] => Setting::Begin,
        ["commit" | "end", ..] => Setting::End("COMMIT"),
        ["rollback" | "abort", "to", ..] | ["rollback", "work" | "transaction", "to", ..] => {
            Setting::Nothing("ROLLBACK")
        }
        ["rollback" | "abort", ..] => Setting::End("ROLLBACK"),
        ["savepoint", ..] => Setting::Nothing("SAVEPOINT"),
        ["release", ..] => Setting::Nothing("RELEASE"),
        ["set", rest @ ..] => return Some(set(rest)),
        ["reset", ..] => Setting::Nothing("RESET"),
        ["discard", "all" | "plans"] => Setting::Forget("DISCARD ALL"),
        ["discard", ..] => Setting::Nothing("DISCARD"),
        ["deallocate", "all"] | ["deallocate", "prepare", "all"] => Setting::Forget("DEALLOCATE ALL"),
        ["deallocate", "prepare", name] | ["deallocate", name] => {
            Setting::Deallocate(name.trim_matches('"').to_owned())
        }
        ["close", ..] => Setting::Nothing("CLOSE CURSOR"),
        ["unlisten", ..] => Setting::Nothing("UNLISTEN"),
        ["show", rest @ ..]
            if !matches!(rest, ["tables" | "columns" | "functions" | "create" | "all", ..]) =>
        {
            Setting::Show(rest.join(" "))
        }
        _ => return None,
    }))
}

/// Everything may be set and nothing comes of it, but another encoding would show the client something else.
fn set(words: &[&str]) -> Result<Setting, Failure> {
    let words = match words {
        ["session" | "local", rest @ ..] => rest,
        all => all,
    };
    let joined = words.join(" ").replace(['=', '\'', '"'], " ");
    let mut parts = joined.split_whitespace();
    let encoding = match (parts.next(), parts.next()) {
        (Some("client_encoding"), Some("to")) => parts.next(),
        (Some("client_encoding"), value) | (Some("names"), value) => value,
        _ => None,
    };
    match encoding {
        Some(name) if !is_utf8(name) => {
            Err(Failure::new("22023", "this server speaks UTF8 alone".to_owned())
                .hinting("Set client_encoding to UTF8."))
        }
        _ => Ok(Setting::Nothing("SET")),
    }
}

fn is_utf8(name: &str) -> bool {
    matches!(name.replace('-', "").as_str(), "utf8" | "unicode" | "default" | "sql_ascii" | "auto")
}

/// The one row of SHOW. `application_name` is what the client said of itself.
pub(super) fn show(name: &str, application_name: &str) -> Result<RecordBatch, Failure> {
    let name = name.trim_matches('"');
    let known = REPORTED.iter().chain(&SHOWN).find(|(known, _)| known.eq_ignore_ascii_case(name));
    let value = match known {
        Some((_, value)) => value,
        None if name == "application_name" => application_name,
        None => {
            let problem = format!("unrecognized configuration parameter \"{name}\"");
            return Err(Failure::new("42704", problem));
        }
    };
    let column: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let column_name = name.replace(' ', "_");
    RecordBatch::try_from_iter([(column_name, column)])
        .map_err(|_| Failure::new("XX000", "a setting could not be shown".to_owned()))
}

/// Comments before the first word; drivers and tools mark their statements with them.
fn without_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if let Some(line) = text.strip_prefix("--") {
            text = line.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(block) = text.strip_prefix("/*") {
            let Some((_, rest)) = block.split_once("*/") else { return text };
            text = rest;
        } else {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_say_between_questions_is_known() {
        for (statement, expected) in [
            ("BEGIN", Setting::Begin),
            ("begin isolation level serializable read only;", Setting::Begin),
            ("START TRANSACTION", Setting::Begin),
            ("COMMIT;", Setting::End("COMMIT")),
            ("ROLLBACK TO SAVEPOINT a", Setting::Nothing("ROLLBACK")),
            ("/* pool */ -- check\n ROLLBACK", Setting::End("ROLLBACK")),
            ("SET extra_float_digits = 3", Setting::Nothing("SET")),
            ("SET client_encoding TO 'UTF8'", Setting::Nothing("SET")),
            ("DISCARD ALL", Setting::Forget("DISCARD ALL")),
            ("DEALLOCATE \"s1\"", Setting::Deallocate("s1".to_owned())),
            ("SHOW TRANSACTION ISOLATION LEVEL", Setting::Show("transaction isolation level".to_owned())),
        ] {
            assert_eq!(parse(statement), Some(Ok(expected)), "{statement}");
        }
        for evidence in ["SELECT 1", "SHOW TABLES", "WITH begin AS (SELECT 1) SELECT * FROM begin", ""] {
            assert_eq!(parse(evidence), None, "{evidence}");
        }
    }

    #[test]
    fn another_encoding_is_refused() {
        for statement in
            ["SET client_encoding = 'LATIN1'", "set session client_encoding to latin1", "SET NAMES 'x'"]
        {
            assert_eq!(parse(statement).unwrap().unwrap_err().sqlstate, "22023", "{statement}");
        }
    }

    #[test]
    fn show_gives_a_row_and_refuses_what_there_is_not() {
        assert_eq!(show("timezone", "").unwrap().num_rows(), 1);
        assert_eq!(show("no_such", "").unwrap_err().sqlstate, "42704");
    }
}
