use std::io;

use crate::{ErrorKind, QueryError};

/// Something that did not work, as PostgreSQL's clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// See appendix A of PostgreSQL's manual.
    pub(super) sqlstate: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The connection ends with it.
    pub(super) is_fatal: bool,
    /// There is nobody to tell.
    pub(super) is_gone: bool,
}

impl Failure {
    pub(super) fn new(sqlstate: &'static str, message: String) -> Self {
        Self { sqlstate, message, hint: None, is_fatal: false, is_gone: false }
    }

    pub(super) fn fatal(sqlstate: &'static str, message: String) -> Self {
        Self { is_fatal: true, ..Self::new(sqlstate, message) }
    }

    /// The client went away, or takes nothing any more.
    pub(super) fn gone() -> Self {
        Self { is_gone: true, ..Self::fatal("08006", "the connection ended".to_owned()) }
    }

    pub(super) fn hinting(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }

    pub(super) fn cancelled() -> Self {
        Self::new("57014", "canceling statement due to user request".to_owned())
    }

    pub(super) fn stopping() -> Self {
        Self::fatal("57P01", QueryError::Stopping.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(_error: io::Error) -> Self {
        Self::gone()
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::new(sqlstate(&error), error.to_string())
    }
}

fn sqlstate(error: &QueryError) -> &'static str {
    match error {
        QueryError::Statement(message) => statement_sqlstate(message),
        QueryError::Refused(_) => "0A000",
        QueryError::StatementTooLong { .. } => "54000",
        QueryError::Execution(_) => "22000",
        QueryError::Unreadable(_) => "58030",
        QueryError::Memory { .. } => "53200",
        QueryError::Busy { .. } => "53300",
        _ => match error.kind() {
            ErrorKind::Unauthenticated => "28000",
            ErrorKind::Denied => "42501",
            ErrorKind::FixTheCall => "42000",
            ErrorKind::Limit => "53400",
            ErrorKind::Deadline => "57014",
            ErrorKind::Unavailable => "57P03",
            ErrorKind::Internal => "XX000",
        },
    }
}

/// The engine says what is wrong in words alone, and these are its words for what drivers tell apart.
fn statement_sqlstate(message: &str) -> &'static str {
    let lower = message.to_ascii_lowercase();
    let has = |words: &str| lower.contains(words);
    if has("table '") && has("not found") || has("table not found") {
        "42P01"
    } else if has("no field named") || has("ambiguous reference") {
        "42703"
    } else if has("invalid function") || has("no function matches") || has("failed to coerce arguments") {
        "42883"
    } else if has("group by") {
        "42803"
    } else if has("cannot coerce") || has("cannot infer common") || has("cannot cast") {
        "42804"
    } else {
        "42601"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_code_that_drivers_know_it_by() {
        let deny = QueryError::Denied { principal: "bob".to_owned() };
        for (error, expected) in [
            (deny, "42501"),
            (QueryError::Deadline { ms_max: 1 }, "57014"),
            (QueryError::Busy { running_max: 1 }, "53300"),
            (QueryError::Memory { bytes_max: 1 }, "53200"),
            (QueryError::Refused(String::new()), "0A000"),
            (QueryError::Statement("table 'retrace.public.x' not found".to_owned()), "42P01"),
            (QueryError::Statement("No field named x. Did you mean y?".to_owned()), "42703"),
            (QueryError::Statement("sql parser error: Expected …".to_owned()), "42601"),
            (QueryError::RecordTooSlow, "57P03"),
            (QueryError::Internal, "XX000"),
        ] {
            assert_eq!(Failure::from(error).sqlstate, expected);
        }
    }
}
