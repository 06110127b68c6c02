//! What a statement is before it runs: denied, or allowed on terms.
//!
//! Most statements need no more than a glance. Those that may begin a COPY, and all of them on a target with masked columns,
//! need their facts first, which the shell finds out elsewhere (parsing can take long and a large stack). Until they are
//! there the client's next message waits.

use std::sync::Arc;

use bytes::Bytes;
use retrace_policy::catalogue::{Catalogue, Resolved};
use retrace_policy::columns::{self, CopyColumn, Diagnostics, Judgement, SessionName, UnknownOrigins};
use retrace_policy::decide::{self, Denial, Verdict};
use retrace_policy::facts::{self, CopyFacts, CopyHeader, Facts, Unparsable};
use retrace_policy::statement::Backslash;
use retrace_proto::wire::CopyFormat;

use super::expect::{Expect, Portal};
use super::refuse::Fault;
use super::rules::Run;
use super::{Output, Session};
use crate::Now;
use crate::postgres::copy::{CopyDirection, CopyForm};
use crate::postgres::frame::Frame;
use crate::postgres::message::{self, Parse};

/// How old the catalogue may be by which a statement is judged, in microseconds.
const CATALOGUE_AGE_US_MAX: u64 = 5_000_000;

/// A target's catalogue, and what its column masks come to on it.
#[derive(Debug)]
pub struct Columns {
    /// What the names of the target mean.
    pub catalogue: Catalogue,
    /// Which columns are masked.
    pub resolved: Resolved,
    /// Hex SHA-256 of the catalogue.
    pub version: String,
}

/// What the shell found out about a statement.
#[derive(Clone, Debug)]
pub struct Analysed {
    /// The statement with its facts; `None` if the machine asked for the catalogue alone.
    pub facts: Option<(Bytes, Result<Arc<Facts>, Unparsable>)>,
    /// The catalogue as it is now; `None` if it cannot be read or lacks a masked column. Not looked at on a target without
    /// masked columns.
    pub columns: Option<Arc<Columns>>,
}

/// What is known of the catalogue.
#[derive(Debug)]
pub(super) struct ColumnState {
    /// Whether the target has masked columns at all.
    pub(super) has_masks: bool,
    /// The catalogue by which statements are judged.
    pub(super) now: Option<Arc<Columns>>,
    /// Since when; `None` if it must be asked for.
    read_us: Option<u64>,
    /// Whether an answer of the shell is on its way.
    asked: bool,
    /// Whether the catalogue became old while that answer was on its way.
    old_since_asked: bool,
    /// A statement and its facts, which are of no use for any other.
    facts: Option<(Bytes, Result<Arc<Facts>, Unparsable>)>,
    /// What the names stand for that SQL and Parse messages made.
    pub(super) names: columns::Session,
    /// Whether a definition was changed in the transaction that is open.
    pub(super) defines: bool,
    /// Whether texts of errors may hold values of masked columns until the transaction ends.
    pub(super) tainted: bool,
}

impl ColumnState {
    pub(super) fn new(has_masks: bool) -> Self {
        Self {
            has_masks,
            now: None,
            read_us: None,
            asked: false,
            old_since_asked: false,
            facts: None,
            names: columns::Session::new(Backslash::Plain),
            defines: false,
            tainted: false,
        }
    }
}

/// On what terms a statement may run.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) unknown_origins: UnknownOrigins,
    pub(super) diagnostics: Diagnostics,
    /// Literals compared with masked columns each time it runs.
    pub(super) guesses: u32,
    /// How the data is written of each COPY between client and target, in order.
    pub(super) copies: Vec<Arc<CopyForm>>,
    /// Which of them is the last from the client.
    pub(super) last_copy_in: Option<usize>,
    /// The columns of the data of the one COPY on a target with masked columns, if they are known.
    pub(super) copy_columns: Option<Vec<CopyColumn>>,
}

static STRICTEST: Terms = Terms::STRICTEST;

impl Terms {
    /// Those of a statement that is not known here. They matter on a target with masked columns.
    pub(super) const STRICTEST: Self = Self {
        unknown_origins: UnknownOrigins::Redact,
        diagnostics: Diagnostics::Redact,
        guesses: columns::GUESSES_PER_STATEMENT_MAX,
        copies: Vec::new(),
        last_copy_in: None,
        copy_columns: None,
    };

    fn open(copies: Vec<Arc<CopyForm>>) -> Self {
        Self {
            last_copy_in: copies.iter().rposition(|form| form.direction == CopyDirection::In),
            unknown_origins: UnknownOrigins::Pass,
            diagnostics: Diagnostics::Pass,
            guesses: 0,
            copies,
            copy_columns: None,
        }
    }
}

/// A statement that was understood.
#[derive(Clone, Debug)]
pub(super) struct Understood {
    pub(super) verdict: Verdict,
    pub(super) terms: Arc<Terms>,
    /// Its facts, to be judged again when it runs, or why there are none.
    pub(super) facts: Result<Arc<Facts>, Unparsable>,
    /// What it gives a name, with the terms that hold when the name is used.
    names: Vec<(SessionName, columns::Terms)>,
}

impl Understood {
    fn denied(denial: Denial) -> Self {
        Self {
            verdict: Verdict::Deny(denial),
            terms: Arc::new(Terms::STRICTEST),
            facts: Err(Unparsable::Syntax),
            names: Vec::new(),
        }
    }

    fn allowed(terms: Terms, facts: Result<Arc<Facts>, Unparsable>) -> Self {
        Self { verdict: Verdict::Allow, terms: Arc::new(terms), facts, names: Vec::new() }
    }
}

impl Session {
    pub(super) fn has_column_masks(&self) -> bool {
        self.columns.has_masks
    }

    /// Whether nothing may run whose facts are not known.
    fn needs_facts(&self) -> bool {
        self.columns.has_masks || self.rules.govern()
    }

    /// Whether nothing may run without knowing what the target's names mean.
    fn needs_catalogue(&self) -> bool {
        self.columns.has_masks || self.rules.needs_names
    }

    /// Takes in what the shell found out.
    pub(super) fn handle_analysed(&mut self, now: Now, analysed: Analysed) {
        self.columns.asked = false;
        self.columns.facts = analysed.facts;
        let is_old = std::mem::take(&mut self.columns.old_since_asked);
        self.columns.read_us = (!is_old).then_some(now.monotonic_us);
        if self.needs_catalogue() {
            let version = |columns: &Option<Arc<Columns>>| columns.as_ref().map(|it| it.version.clone());
            if version(&self.columns.now) != version(&analysed.columns) {
                self.columns.names.forget();
            }
            self.columns.now = analysed.columns;
        }
    }

    /// Remembers what a statement gives a name, before it is forwarded.
    pub(super) fn remember_names(&mut self, understood: &Understood) {
        for (name, terms) in &understood.names {
            self.columns.names.remember_name(name, *terms);
        }
        if let Ok(facts) = &understood.facts {
            self.rules.remember_text(facts);
        }
    }

    /// Remembers what a Parse message gives a name: SQL can execute it too.
    pub(super) fn remember_parsed(&mut self, name: &[u8], understood: &Understood) {
        if let Ok(name) = std::str::from_utf8(name)
            && self.columns.has_masks
            && !name.is_empty()
        {
            let Terms { unknown_origins, diagnostics, guesses, .. } = *understood.terms;
            let terms = columns::Terms { unknown_origins, diagnostics, guesses };
            self.columns.names.remember_name(&SessionName::Prepared(name.to_owned()), terms);
        }
        self.rules.remember_parsed(name, understood.facts.as_ref().ok());
        self.remember_names(understood);
    }

    /// Whether a message needs to know more than is known. If so, the shell is asked, and the message is to wait.
    pub(super) fn must_be_analysed(&mut self, now: Now, frame: &Frame) -> Result<bool, Fault> {
        if self.columns.asked {
            return Ok(true);
        }
        let sql = match frame.tag() {
            b'Q' => Some(message::query(frame.body()).map_err(|_| Fault::ClientMessage)?),
            b'P' => Some(Parse::sql(frame.body()).map_err(|_| Fault::ClientMessage)?),
            b'B' | b'E' | b'F' if self.needs_catalogue() => None,
            _ => return Ok(false),
        };
        let has_facts =
            sql.is_some_and(|sql| self.columns.facts.as_ref().is_some_and(|(known, _)| known == sql));
        let needs_facts = !has_facts && sql.is_some_and(|sql| self.needs_facts() || decide::may_copy(sql));
        let fresh = self
            .columns
            .read_us
            .is_some_and(|read_us| now.monotonic_us.saturating_sub(read_us) < CATALOGUE_AGE_US_MAX);
        // Facts come with the catalogue.
        let needs_catalogue = self.needs_catalogue() && !fresh && !has_facts;
        if !needs_facts && !needs_catalogue {
            return Ok(false);
        }
        let sql = sql.filter(|_| needs_facts).map(Bytes::copy_from_slice);
        self.outputs.push_back(Output::Analyse { sql });
        self.columns.asked = true;
        Ok(true)
    }

    /// Understands a statement whose facts are there, if it needs any.
    pub(super) fn understand(&mut self, sql: &[u8]) -> Understood {
        let facts = self.columns.facts.take().filter(|(known, _)| known == sql).map(|(_, facts)| facts);
        if self.columns.has_masks {
            return match facts.unwrap_or(Err(Unparsable::Syntax)) {
                Ok(facts) => self.judge(&facts),
                Err(_) => Understood::denied(columns::UNPARSED),
            };
        }
        if !decide::may_copy(sql) {
            return Understood::allowed(Terms::open(Vec::new()), facts.unwrap_or(Err(Unparsable::Syntax)));
        }
        let facts = facts.unwrap_or(Err(Unparsable::Syntax));
        let masks = self.content.masks_anything();
        match decide::decide_copy(facts.as_deref().map_err(|error| *error), masks) {
            Ok(copies) if masks && !self.encoding_is_utf8 && !copies.is_empty() => {
                Understood::denied(decide::COPY_ENCODING)
            }
            Err(denial) => Understood::denied(denial),
            Ok(copies) => match copies.into_iter().map(|copy| form(copy).map(Arc::new)).collect() {
                Some(forms) => Understood::allowed(Terms::open(forms), facts),
                None => Understood::denied(decide::COPY_UNREADABLE),
            },
        }
    }

    /// Judges facts by the catalogue as it is now.
    pub(super) fn judge(&self, facts: &Arc<Facts>) -> Understood {
        let Some(columns) = self.columns.now.as_deref() else {
            return Understood::denied(decide::CATALOGUE);
        };
        let copy = match decide::decide_copy(Ok(facts), true) {
            Ok(copies) => copies.first().copied(),
            // Without any COPY, backslashes are the judgement's to weigh.
            Err(_) if !facts.statements.iter().any(|it| matches!(it.kind, facts::StatementKind::Copy(_))) => {
                None
            }
            Err(denial) => return Understood::denied(denial),
        };
        let mut allowance =
            match columns::judge_in(&self.columns.names, facts, &columns.catalogue, &columns.resolved) {
                Judgement::Deny(denial) => return Understood::denied(denial),
                Judgement::Allow(allowance) => allowance,
            };
        let (mut copies, mut copy_columns) = (Vec::new(), None);
        if let Some(copy) = copy {
            // Other encodings may have bytes of ASCII within their characters, which would cut the data elsewhere.
            if !self.encoding_is_utf8 {
                return Understood::denied(decide::COPY_ENCODING);
            }
            let Some(form) = form(copy) else { return Understood::denied(decide::COPY_UNREADABLE) };
            copies.push(Arc::new(form));
            copy_columns = allowance.copies.pop().and_then(|plan| plan.columns);
        }
        let terms = Terms {
            unknown_origins: allowance.unknown_origins,
            diagnostics: allowance.diagnostics,
            guesses: allowance.guesses,
            copy_columns,
            ..Terms::open(copies)
        };
        Understood { names: allowance.names, ..Understood::allowed(terms, Ok(facts.clone())) }
    }

    /// What is understood of a prepared statement, by the catalogue as it is now. One that SQL prepared, or a cursor, is not
    /// known here: it was judged when it was made.
    pub(super) fn understood_now(&self, portal: Option<&Portal>) -> Understood {
        let statement = portal.and_then(|portal| portal.statement.as_ref());
        match statement.map(|statement| &statement.understood) {
            // A cursor's guesses were counted when it was declared.
            None if portal.is_none() => {
                Understood::allowed(Terms { guesses: 0, ..Terms::STRICTEST }, Err(Unparsable::Syntax))
            }
            None => Understood::allowed(Terms::STRICTEST, Err(Unparsable::Syntax)),
            Some(Understood { facts: Ok(facts), .. }) if self.columns.has_masks => self.judge(facts),
            Some(understood) => understood.clone(),
        }
    }

    /// Whether a statement that is to be prepared may be.
    pub(super) fn may_prepare(&self, now: Now, understood: &Understood) -> Verdict {
        match &understood.verdict {
            Verdict::Allow => self.ruled(now, understood.facts.as_ref().map_err(|why| *why), Run::Later),
            verdict => verdict.clone(),
        }
    }

    /// Whether a statement may run now, with the literals counted that it compares with masked columns.
    pub(super) fn may_run(&self, now: Now, understood: &Understood) -> Verdict {
        let verdict = match &understood.verdict {
            Verdict::Allow => self.ruled(now, understood.facts.as_ref().map_err(|why| *why), Run::Now),
            verdict => verdict.clone(),
        };
        let verdict = self.granted(verdict);
        let allowed = self.columns.has_masks && verdict == Verdict::Allow;
        if allowed && !self.guesses.try_take(now.monotonic_us, understood.terms.guesses) {
            return Verdict::Deny(decide::GUESSES_SPENT);
        }
        verdict
    }

    /// The terms of the Execute or query that answers next.
    pub(super) fn terms_that_apply(&self) -> &Terms {
        self.expected
            .iter()
            .find_map(|expected| match &expected.expect {
                Expect::Query(ran) | Expect::Execute(ran) => Some(&*ran.terms),
                _ => None,
            })
            .unwrap_or(&STRICTEST)
    }

    /// Whether the texts of errors and notices that come now may hold values of masked columns.
    pub(super) fn diagnostics_are_hidden(&self) -> bool {
        if !self.columns.has_masks {
            return false;
        }
        let of_front = match self.expected.front().map(|expected| &expected.expect) {
            Some(Expect::Query(ran) | Expect::Execute(ran)) => ran.terms.diagnostics,
            Some(Expect::Parse(statement) | Expect::DescribeStatement(Some(statement))) => {
                statement.understood.terms.diagnostics
            }
            Some(Expect::Bind(portal)) => portal
                .statement
                .as_ref()
                .map_or(Diagnostics::Redact, |statement| statement.understood.terms.diagnostics),
            _ => Diagnostics::Pass,
        };
        self.columns.tainted || of_front == Diagnostics::Redact
    }

    /// A statement ended with this tag. One that may have changed a definition makes the catalogue old.
    pub(super) fn note_tag(&mut self, tag: &[u8]) {
        if self.needs_catalogue() && !LEAVES_CATALOGUE.iter().any(|verb| tag.starts_with(verb)) {
            self.columns.defines = true;
            self.catalogue_is_old();
        }
    }

    /// Others see what a transaction defined once it ends.
    pub(super) fn note_transaction_end(&mut self) {
        self.columns.tainted = false;
        if std::mem::take(&mut self.columns.defines) {
            self.catalogue_is_old();
        }
    }

    /// The catalogue is asked for anew before anything is decided by it.
    pub(super) fn catalogue_is_unread(&mut self) {
        self.columns.read_us = None;
        self.columns.old_since_asked |= self.columns.asked;
    }

    fn catalogue_is_old(&mut self) {
        self.columns.read_us = None;
        self.columns.old_since_asked |= self.columns.asked;
        self.outputs.push_back(Output::CatalogueIsOld);
    }
}

/// How the tags of statements begin that change no definition.
const LEAVES_CATALOGUE: [&[u8]; 28] = [
    b"SELECT",
    b"INSERT",
    b"UPDATE",
    b"DELETE",
    b"MERGE",
    b"FETCH",
    b"MOVE",
    b"COPY",
    b"BEGIN",
    b"START",
    b"COMMIT",
    b"SAVEPOINT",
    b"RELEASE",
    b"SET",
    b"RESET",
    b"SHOW",
    b"PREPARE",
    b"DEALLOCATE",
    b"DECLARE",
    b"CLOSE",
    b"LISTEN",
    b"NOTIFY",
    b"UNLISTEN",
    b"ROLLBACK",
    b"EXPLAIN",
    b"LOCK",
    b"ANALYZE",
    b"VACUUM",
];

/// How the data of a COPY is written; `None` if the gate does not read it so.
fn form(copy: &CopyFacts) -> Option<CopyForm> {
    if copy.unknown_option {
        return None;
    }
    let byte = |option: &Option<String>, default: u8| match option.as_deref().map(str::as_bytes) {
        None => Some(default),
        Some([byte]) => Some(*byte),
        Some(_) => None,
    };
    let (format, delimiter, null) = match copy.format {
        facts::CopyFormat::Text => (CopyFormat::Text, b'\t', "\\N"),
        facts::CopyFormat::Csv => (CopyFormat::Csv, b',', ""),
        facts::CopyFormat::Binary => (CopyFormat::Binary, 0, ""),
    };
    let quote = byte(&copy.quote, b'"')?;
    let escape = byte(&copy.escape, quote)?;
    let delimiter = byte(&copy.delimiter, delimiter)?;
    let null = copy.null.as_deref().unwrap_or(null).as_bytes().to_vec();
    let is_text = format == CopyFormat::Text;
    // Line ends that quote, and backslashes that end a field, would cut the data elsewhere than it reads here.
    let cuts = |byte: u8| matches!(byte, b'\n' | b'\r' | 0);
    if format != CopyFormat::Binary && (cuts(quote) || cuts(escape) || cuts(delimiter))
        || is_text && null != b"\\N" && null.contains(&b'\\')
        || null.iter().any(|byte| cuts(*byte))
    {
        return None;
    }
    Some(CopyForm {
        direction: match copy.direction {
            facts::CopyDirection::To => CopyDirection::Out,
            facts::CopyDirection::From => CopyDirection::In,
        },
        format,
        delimiter,
        null,
        header: copy.header != CopyHeader::Absent,
        quote,
        escape,
        columns: copy.columns.clone(),
    })
}
