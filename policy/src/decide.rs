//! What may be done with a statement before there is a policy: everything but what the gate cannot yet take part in.

use crate::statement::{Backslash, first_words};

/// What is decided about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may reach its target.
    Allow,
    /// It may not.
    Deny(Denial),
}

/// Why a command is denied, in the words its client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The rule that says so.
    pub rule: &'static str,
    /// The code of the protocol (SQLSTATE).
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

/// COPY streams rows past the masks of rows.
pub const COPY: Denial = Denial {
    rule: "builtin.copy",
    sqlstate: "0A000",
    message: "retrace: COPY is not supported through this gate",
    hint: "Use SELECT to read and INSERT to write; nothing of this command was executed.",
};

/// The function-call message names functions by OID, unseen by any rule.
pub const FUNCTION_CALL: Denial = Denial {
    rule: "builtin.function_call",
    sqlstate: "0A000",
    message: "retrace: the function-call message is not supported through this gate",
    hint: "Call the function with SELECT; nothing of this command was executed.",
};

/// Prepared statements whose texts would take more memory than a session may.
pub const STATEMENTS_TOO_LARGE: Denial = Denial {
    rule: "builtin.prepared_statements",
    sqlstate: "54000",
    message: "retrace: the prepared statements and bound values of this session are too large",
    hint: "Close prepared statements that are no longer needed.",
};

/// Decides about a statement, or about several that come as one simple query: they are decided whole.
///
/// A statement on its way to the target may be overtaken by a change of how the target reads backslashes, so it is read
/// both ways.
#[must_use]
pub fn decide(sql: &[u8]) -> Verdict {
    let copies = [Backslash::Plain, Backslash::Escape]
        .into_iter()
        .any(|backslash| first_words(sql, backslash).any(|word| word.eq_ignore_ascii_case(b"copy")));
    if copies { Verdict::Deny(COPY) } else { Verdict::Allow }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_is_denied_wherever_it_stands() {
        for sql in [
            "copy t to stdout",
            "COPY t FROM stdin",
            "select 1; /* x */ Copy t to stdout",
            "-- copy\n copy (select 1) to program 'x'",
            "begin;copy t to stdout;commit",
            "select $$a$$; copy t to stdout",
            r"select 'a\'; copy t to stdout --'",
            r"select 'a\''; copy t to stdout --'",
        ] {
            assert_eq!(decide(sql.as_bytes()), Verdict::Deny(COPY), "{sql}");
        }
        for sql in
            ["select 'copy t'", "select copy from t", "-- copy t to stdout", "", "update copy set a = 1"]
        {
            assert_eq!(decide(sql.as_bytes()), Verdict::Allow, "{sql}");
        }
    }
}
