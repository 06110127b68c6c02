//! What may be done with a statement on a target without masked columns, before there is a policy: everything but a few
//! forms of COPY that would move data past the gate.

use std::borrow::Cow;
use std::sync::Arc;

use crate::facts::{CopyDirection, CopyEndpoint, CopyFacts, Facts, StatementKind, Unparsable};
use crate::rules::HoldTerms;
use crate::statement::{Backslash, first_words};

/// What is decided about a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may reach its target.
    Allow,
    /// It may not.
    Deny(Denial),
    /// It may once people have approved it, as all of these ask for; at least one does.
    Hold(Vec<Arc<HoldTerms>>),
}

impl Verdict {
    /// What holds for two things that may only be done together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (denied @ Self::Deny(_), _) | (_, denied @ Self::Deny(_)) => denied,
            (Self::Allow, other) | (other, Self::Allow) => other,
            (Self::Hold(mut terms), Self::Hold(others)) => {
                for other in others {
                    if !terms.contains(&other) {
                        terms.push(other);
                    }
                }
                Self::Hold(terms)
            }
        }
    }
}

/// Why a command is denied, in the words its client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The rule that says so.
    pub rule: Cow<'static, str>,
    /// The code of the protocol (SQLSTATE).
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: Cow<'static, str>,
    /// What to do about it.
    pub hint: Cow<'static, str>,
}

impl Denial {
    /// One that is always the same.
    pub(crate) const fn fixed(
        rule: &'static str,
        sqlstate: &'static str,
        message: &'static str,
        hint: &'static str,
    ) -> Self {
        Self {
            rule: Cow::Borrowed(rule),
            sqlstate,
            message: Cow::Borrowed(message),
            hint: Cow::Borrowed(hint),
        }
    }
}

/// A COPY whose data the gate could not tell apart into rows.
pub const COPY_UNREADABLE: Denial = Denial::fixed(
    "builtin.copy_unreadable",
    "0A000",
    "retrace: this COPY could not be read to see how its data is written",
    "Send COPY as a statement of its own, with the documented options of the formats text, csv or binary; \
           nothing of it was executed.",
);

/// COPY beside other statements in one simple query, which may change how its data is written.
pub const COPY_AMONG_OTHERS: Denial = Denial::fixed(
    "builtin.copy_among_others",
    "0A000",
    "retrace: this target has masks, and COPY to or from the client must be the only statement of its query",
    "Send the statements one by one; nothing of them was executed.",
);

/// COPY of a file or program on the server.
pub const COPY_ON_SERVER: Denial = Denial::fixed(
    "builtin.copy_on_server",
    "42501",
    "retrace: COPY to or from a file or program of the server moves data past this gate",
    "Use STDIN or STDOUT (\\copy in psql); nothing of this command was executed.",
);

/// Binary COPY to the client where something may have to be masked.
pub const COPY_BINARY: Denial = Denial::fixed(
    "builtin.copy_binary",
    "0A000",
    "retrace: this target has masks, and binary COPY data does not say what it holds",
    "Use the format text or csv; nothing of this command was executed.",
);

/// COPY in another encoding where something may have to be masked.
pub const COPY_ENCODING: Denial = Denial::fixed(
    "builtin.copy_encoding",
    "0A000",
    "retrace: this target has masks, and they are looked for in UTF8 alone",
    "Leave out ENCODING or use UTF8; nothing of this command was executed.",
);

/// The function-call message names functions by OID, unseen by any rule.
pub const FUNCTION_CALL: Denial = Denial::fixed(
    "columns.function_call",
    "42501",
    "retrace: this target has masked columns, and the function-call message does not say what it reads",
    "Call the function with SELECT; nothing of this command was executed.",
);

/// The catalogue by which masked columns are known cannot be had.
pub const CATALOGUE: Denial = Denial::fixed(
    "columns.catalogue",
    "57P03",
    "retrace: this target has masked columns, and its catalogue could not be read or lacks one of them",
    "Try again; if this goes on, ask whoever runs the gate, whose log says which. Nothing of this command was executed.",
);

/// A setting that would have the target read later statements otherwise than the rules do.
pub const LEXING: Denial = Denial::fixed(
    "policy.lexing",
    "42501",
    "retrace: rules decide here about statements, which must be read as the target reads them",
    "Keep standard_conforming_strings on and client_encoding at UTF8, and send SQL itself, not as text for a function to run; \
           nothing of this command was executed.",
);

/// The catalogue by which rules know what names mean cannot be had.
pub const NAMES: Denial = Denial::fixed(
    "policy.catalogue",
    "57P03",
    "retrace: rules decide here by the target's catalogue, which could not be read",
    "Try again; if this goes on, ask whoever runs the gate, whose log says why. Nothing of this command was executed.",
);

/// A command that a rule holds, where nobody can be asked.
pub const HELD: Denial = Denial::fixed(
    "policy.held",
    "42501",
    "retrace: a rule holds this for a review, and what runs so cannot wait for one",
    "Send the statement itself, not by FETCH of a portal and not as a function call; nothing of this command was executed.",
);

/// What was approved is not what would run.
pub const CHANGED: Denial = Denial::fixed(
    "policy.changed",
    "42501",
    "retrace: the rules changed while this waited for its review, and ask for more than was approved",
    "Send it again for another review; nothing of this command was executed.",
);

/// More literals were compared with masked columns than an hour allows.
pub const GUESSES_SPENT: Denial = Denial::fixed(
    "columns.guesses_spent",
    "54000",
    "retrace: too many values were compared with masked columns of this target within the hour",
    "Try again later, or look for the rows by another column; nothing of this command was executed.",
);

/// Prepared statements whose texts would take more memory than a session may.
pub const STATEMENTS_TOO_LARGE: Denial = Denial::fixed(
    "builtin.prepared_statements",
    "54000",
    "retrace: the prepared statements and bound values of this session are too large",
    "Close prepared statements that are no longer needed.",
);

/// Whether a text may hold a COPY, so that its facts are needed to decide about it.
///
/// A statement on its way to the target may be overtaken by a change of how the target reads backslashes, so it is read
/// both ways.
#[must_use]
pub fn may_copy(sql: &[u8]) -> bool {
    let spells_it = sql.windows(4).any(|word| word.eq_ignore_ascii_case(b"copy"));
    spells_it
        && [Backslash::Plain, Backslash::Escape]
            .into_iter()
            .any(|backslash| first_words(sql, backslash).any(|word| word.eq_ignore_ascii_case(b"copy")))
}

/// Decides about a text that may hold a COPY. `masks`: whether anything may have to be masked on its target.
///
/// Gives the facts of each COPY between client and target, in order.
///
/// # Errors
/// The denial.
pub fn decide_copy(facts: Result<&Facts, Unparsable>, masks: bool) -> Result<Vec<&CopyFacts>, Denial> {
    let facts = facts.map_err(|_| COPY_UNREADABLE)?;
    if facts.backslash_matters {
        return Err(COPY_UNREADABLE);
    }
    let copies = facts.statements.iter().filter_map(|statement| match &statement.kind {
        StatementKind::Copy(copy) => Some(&**copy),
        _ => None,
    });
    let copies: Vec<_> = copies.collect();
    if copies.iter().any(|copy| copy.endpoint != CopyEndpoint::Client) {
        return Err(COPY_ON_SERVER);
    }
    let [copy] = copies[..] else {
        return if masks && !copies.is_empty() { Err(COPY_AMONG_OTHERS) } else { Ok(copies) };
    };
    if masks && facts.statements.len() > 1 {
        return Err(COPY_AMONG_OTHERS);
    }
    let is_utf8 = |name: &String| {
        matches!(name.to_ascii_lowercase().replace(['-', '_'], "").as_str(), "utf8" | "unicode")
    };
    if masks && !copy.encoding.as_ref().is_none_or(is_utf8) {
        return Err(COPY_ENCODING);
    }
    if masks && copy.direction == CopyDirection::To && copy.format == crate::facts::CopyFormat::Binary {
        return Err(COPY_BINARY);
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_is_seen_wherever_it_begins_a_statement() {
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
            assert!(may_copy(sql.as_bytes()), "{sql}");
        }
        for sql in
            ["select 'copy t'", "select copy from t", "-- copy t to stdout", "", "update copy set a = 1"]
        {
            assert!(!may_copy(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn copy_between_client_and_target_says_how_its_data_is_written_and_stands_alone_where_masks_are() {
        for (sql, masks, expect) in [
            ("copy t to stdout", true, None),
            ("copy t from stdin (format csv, encoding 'utf-8')", true, None),
            ("copy t to stdout binary", false, None),
            ("copy t from stdin binary", true, None),
            ("copy t to stdout binary", true, Some(COPY_BINARY)),
            ("copy t to stdout (encoding 'latin1')", true, Some(COPY_ENCODING)),
            ("copy t to stdout; select 1", false, None),
            ("copy t to stdout; select 1", true, Some(COPY_AMONG_OTHERS)),
            ("copy t to stdout; copy t to stdout", true, Some(COPY_AMONG_OTHERS)),
            ("select 1; copy t to '/tmp/x'", false, Some(COPY_ON_SERVER)),
            ("copy t from program 'x'", false, Some(COPY_ON_SERVER)),
            (r"select 'a\'; copy t to stdout --'", false, Some(COPY_UNREADABLE)),
            ("copy t too stdout", false, Some(COPY_UNREADABLE)),
        ] {
            let facts = Facts::of(sql);
            let decided = decide_copy(facts.as_ref().map_err(|error| *error), masks);
            match expect {
                None => assert!(decided.is_ok_and(|copies| copies.len() == 1), "{sql}"),
                Some(denial) => assert_eq!(decided, Err(denial), "{sql}"),
            }
        }
    }
}
