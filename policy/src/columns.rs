//! The judgement on a statement before a target with masked columns.
//!
//! [`judge`] is the seam: it takes what is known of a text, of the target and of the masks, and says whether the text may run
//! and what is then done with its results. Lineage, which would say of each output from which columns its value comes, will
//! take its place behind the same signature; until then what cannot be followed is refused.
//!
//! # What it stops
//! A masked column may be put out as it is, whereupon the origin in the row description says which mask it gets, through
//! sub-queries and CTEs, renamed or not. It may be compared in WHERE with [`GUESSES_PER_STATEMENT_MAX`] literals by `=`, `<>`
//! and IN, and tested for NULL. Every other use is denied: expressions, calls, casts, joins, orders, groups, DISTINCT and set
//! operations, windows, whole rows, conditions that are not equality, and writes of what is read. Views on masked tables,
//! functions of unknown effect and relations that the system keeps values in count as masked in every column. A name means
//! every relation of that name in any schema, since `search_path` is not known here. Definitions that name masked relations,
//! and everything that makes the target run code or SQL given as text, are denied.
//!
//! # What it does not stop
//! * A guess: three literals per statement tell three bits. [`Allowance::guesses`] is counted so that a rate can be limited.
//! * A unique or foreign key on a masked column tells by failing whether a value is there, one statement at a time.
//! * How many rows there are, how long a statement takes, and where a row lies (`ctid`).
//! * What the target's owner wrote to show masked values: triggers, rules, defaults, checks, functions declared immutable and
//!   compiled, and views through functions of the system itself, which leave no trace in `pg_depend`.
//! * Columns that hold copies of what is masked, and were not named as masked themselves.
//! * Relations that another session made after the catalogue was read; their columns of a masked column's name count as masked,
//!   and their results are redacted.

mod copy;
mod deny;
mod harmless;
mod query;
mod scope;
mod session;
mod statement;
#[cfg(test)]
mod tests;

use crate::catalogue::{Catalogue, ColumnRule, Resolved};
use crate::decide::Denial;
use crate::facts::{CopyFacts, Facts};
use crate::statement::Backslash;

pub use deny::*;
pub use harmless::is_plain_function;
pub(crate) use harmless::{calls_sql_in_text, without_effect};
pub use session::{NAMES_PER_SESSION_MAX, Session, SessionName, Terms, keeps_lexing};

use session::writes_settings;

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
    /// What the text gives a name, with the terms that hold when the name is used: for [`Session::remember`].
    pub names: Vec<(SessionName, Terms)>,
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

impl Allowance {
    /// Everything passes.
    fn pass() -> Self {
        Self {
            unknown_origins: UnknownOrigins::Pass,
            diagnostics: Diagnostics::Pass,
            guesses: 0,
            copies: Vec::new(),
            names: Vec::new(),
        }
    }

    /// What a name stands for, used.
    fn of(terms: Terms) -> Self {
        let Terms { unknown_origins, diagnostics, guesses } = terms;
        Self { unknown_origins, diagnostics, guesses, ..Self::pass() }
    }

    /// The terms on which a use of what this text named will be allowed.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { unknown_origins: self.unknown_origins, diagnostics: self.diagnostics, guesses: self.guesses }
    }

    /// The stricter of both.
    fn and(mut self, other: Self) -> Self {
        self.unknown_origins = self.unknown_origins.max(other.unknown_origins);
        self.diagnostics = self.diagnostics.max(other.diagnostics);
        self.guesses = self.guesses.saturating_add(other.guesses);
        self.copies.extend(other.copies);
        self.names.extend(other.names);
        self
    }
}

/// Judges a text of a session that has named nothing: what EXECUTE and FETCH bring is then redacted where its origin is unknown.
/// See [`judge_in`].
#[must_use]
pub fn judge(facts: &Facts, catalogue: &Catalogue, resolved: &Resolved, backslash: Backslash) -> Judgement {
    judge_in(&Session::new(backslash), facts, catalogue, resolved)
}

/// Judges a text, all its statements together: one that is denied denies all, and the strictest terms hold.
///
/// `resolved` must be made from `catalogue`. The work is bounded and needs no large stack. If
/// [`Facts::depends_on_session`] is false, the judgement may be kept for the text, `backslash` and the catalogue's version.
#[must_use]
pub fn judge_in(session: &Session, facts: &Facts, catalogue: &Catalogue, resolved: &Resolved) -> Judgement {
    match judged(session, facts, catalogue, resolved) {
        Ok(allowance) => Judgement::Allow(allowance),
        Err(denial) => Judgement::Deny(denial),
    }
}

fn judged(
    session: &Session,
    facts: &Facts,
    catalogue: &Catalogue,
    resolved: &Resolved,
) -> Result<Allowance, Denial> {
    if resolved.is_empty() {
        return Ok(Allowance::pass());
    }
    if session.backslash == Backslash::Escape && facts.backslash_matters {
        return Err(LEXED_OTHERWISE);
    }
    // A name may be made and used by one text.
    let mut session = std::borrow::Cow::Borrowed(session);
    let mut allowance = Allowance::pass();
    for statement in &facts.statements {
        if writes_settings(statement) {
            return Err(LEXED_OTHERWISE);
        }
        let one = statement::judge(&session, statement, catalogue, resolved)?;
        if !one.names.is_empty() {
            session.to_mut().remember(&one);
        }
        allowance = allowance.and(one);
    }
    // The literals of all statements count together, or a text of many would guess many.
    if allowance.guesses > GUESSES_PER_STATEMENT_MAX { Err(GUESSED) } else { Ok(allowance) }
}
