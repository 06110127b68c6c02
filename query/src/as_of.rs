//! `AS OF`: the same answer again.
//!
//! A statement may end with `AS OF CUT '…'`, which names a cut that an answer gave, or with `AS OF TIMESTAMP '…'`. It is no part of
//! the engine's SQL: it is taken off before the statement is parsed, at every door alike, and decides which rows there are.

use std::fmt;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::{Cut, QueryError};

/// As of when a question is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// Everything that is durable when it is asked.
    #[default]
    Now,
    /// Exactly what lies below a cut.
    Cut(Cut),
    /// What the log took before a time, in microseconds since the Unix epoch.
    Time(i64),
}

/// As a statement ends with it.
impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => Ok(()),
            Self::Cut(cut) => write!(f, " AS OF CUT '{cut}'"),
            Self::Time(unix_us) => match timestamp_us_to_datetime(*unix_us) {
                Some(time) => write!(f, " AS OF TIMESTAMP '{}Z'", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
                None => Err(fmt::Error),
            },
        }
    }
}

/// Takes `AS OF` off the end of a statement. A text that does not end so is all statement, whether it is valid or not.
pub(crate) fn split(text: &str) -> Result<(&str, AsOf), QueryError> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else {
        return Ok((text, AsOf::Now));
    };
    let matters =
        |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    let mut last = tokens.iter().rev().filter(matters);
    let [Some(value), Some(kind), Some(of), Some(as_)] = [(); 4].map(|()| last.next()) else {
        return Ok((text, AsOf::Now));
    };
    let Token::SingleQuotedString(value) = &value.token else { return Ok((text, AsOf::Now)) };
    if !is_word(as_, "AS") || !is_word(of, "OF") {
        return Ok((text, AsOf::Now));
    }
    let as_of = if is_word(kind, "CUT") {
        AsOf::Cut(Cut::from_text(value).ok_or_else(not_one)?)
    } else if is_word(kind, "TIMESTAMP") {
        // Without a zone it is UTC, as everywhere.
        let nanos = string_to_timestamp_nanos(value).map_err(|_not_a_time| not_one())?;
        // What was at a whole microsecond was before the rest of it.
        AsOf::Time(nanos.div_euclid(1000) + i64::from(nanos.rem_euclid(1000) > 0))
    } else {
        return Ok((text, AsOf::Now));
    };
    let statement = text.get(..byte_of(text, as_.span.start)).unwrap_or(text);
    Ok((statement, as_of))
}

/// Whether a statement asks for the past.
pub(crate) fn is_asked(text: &str) -> bool {
    split(text).is_ok_and(|(_, as_of)| as_of != AsOf::Now)
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(it) if it.quote_style.is_none() && it.value.eq_ignore_ascii_case(word))
}

fn not_one() -> QueryError {
    QueryError::Refused(
        "AS OF takes CUT 'retrace.events[0]<1042, …', as an answer gave it, or TIMESTAMP '2026-11-29 12:00:00'"
            .to_owned(),
    )
}

/// Where a place begins that the tokenizer names by line and column, both counted in characters from 1.
fn byte_of(text: &str, at: Location) -> usize {
    let (mut line, mut column) = (1, 1);
    for (index, character) in text.char_indices() {
        if (line, column) == (at.line, at.column) {
            return index;
        }
        if character == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> AsOf {
        AsOf::Cut(Cut::from_text(text).unwrap())
    }

    #[test]
    fn it_is_taken_off_the_end_and_nothing_else_is() {
        let one = "retrace.events[0]<1042, retrace.control[3]<7";
        for (text, statement, as_of) in [
            (format!("SELECT 1 AS OF CUT '{one}'"), "SELECT 1 ", cut(one)),
            (format!("SELECT 'é'\n  as  of\ncut '{one}' ; -- again\n"), "SELECT 'é'\n  ", cut(one)),
            (
                "SELECT 1 AS OF TIMESTAMP '1970-01-01T00:00:01Z'".to_owned(),
                "SELECT 1 ",
                AsOf::Time(1_000_000),
            ),
            ("SELECT 1 AS OF TIMESTAMP '1970-01-01 01:00:00+01:00'".to_owned(), "SELECT 1 ", AsOf::Time(0)),
        ] {
            assert_eq!(split(&text).unwrap(), (statement, as_of.clone()), "{text}");
            assert_eq!(split(&format!("SELECT 1{as_of}")).unwrap(), ("SELECT 1 ", as_of));
        }
        for text in [
            "",
            "SELECT 1",
            "SELECT 'AS OF CUT'",
            "SELECT \"AS\" OF CUT 'x'",
            "SELECT as_, of FROM t WHERE kind = TIMESTAMP '2026-11-29'",
            "SELECT 1 AS OF DATE '2026-11-29'",
            "SELECT 'unterminated",
        ] {
            assert_eq!(split(text).unwrap(), (text, AsOf::Now), "{text}");
        }
    }

    #[test]
    fn what_is_no_cut_and_no_time_is_refused() {
        for text in ["CUT ''", "CUT 'retrace.events[0]'", "CUT 'orders[0]<1'", "TIMESTAMP 'yesterday'"] {
            let error = split(&format!("SELECT 1 AS OF {text}")).unwrap_err();
            assert!(matches!(error, QueryError::Refused(_)), "{text}: {error:?}");
        }
    }
}
