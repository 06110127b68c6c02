//! The judgement on a statement before a target with masked columns.

mod deny;

use crate::catalogue::{Catalogue, ColumnRule, Resolved};
use crate::decide::Denial;
use crate::facts::{CopyFacts, Facts};
use crate::statement::Backslash;

pub use deny::*;

/// Literals that one statement may compare with masked columns.
pub const GUESSES_PER_STATEMENT_MAX: u32 = 3;

/// What is judged about a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It may not reach the target.
    Deny(Denial),
    /// It may, on these terms.
    Allow(Allowance),
}

/// The terms on which a text may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What is done with a result column whose origin is [`Origin::Unknown`](crate::catalogue::Origin::Unknown). One that is
    /// masked is masked whatever stands here.
    pub unknown_origins: UnknownOrigins,
    /// What is done with the texts of errors and notices.
    pub diagnostics: Diagnostics,
    /// Literals and parameters compared with masked columns each time the text runs, at most [`GUESSES_PER_STATEMENT_MAX`].
    pub guesses: u32,
    /// One plan for each COPY of the text that moves data to or from the client, in order.
    pub copies: Vec<CopyPlan>,
}

/// What is done with result columns of unknown origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnknownOrigins {
    /// They pass as on a target without masked columns.
    Pass,
    /// They are redacted.
    Redact,
}

/// What is done with texts of errors and notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diagnostics {
    /// They pass, with detectors alone.
    Pass,
    /// A masked relation may have had its part in them (`Key (ssn)=(…) already exists`): of the fields only severity, code
    /// and the names of schema, table, column, type and constraint are to pass.
    Redact,
}

/// The columns of a COPY's data, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// How the data is written.
    pub facts: CopyFacts,
    /// The columns, or none if they are not known; then no masked column can be among them.
    pub columns: Option<Vec<CopyColumn>>,
}

/// A column of a COPY's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyColumn {
    /// Its name.
    pub name: String,
    /// The table's OID, zero if it is an expression.
    pub table_oid: u32,
    /// The column's number.
    pub column_number: i16,
    /// The type's OID, zero if it is not known.
    pub type_oid: u32,
    /// The rule that masks it.
    pub rule: Option<ColumnRule>,
    /// Whether it is to be redacted though no rule masks it, since its origin is unknown.
    pub redact: bool,
}

/// Judges a text. `backslash` is how the target reads string constants of this session, as far as the session knows.
#[must_use]
pub fn judge(facts: &Facts, catalogue: &Catalogue, resolved: &Resolved, backslash: Backslash) -> Judgement {
    let _ = (facts, catalogue, resolved, backslash);
    Judgement::Deny(UNPARSED)
}
