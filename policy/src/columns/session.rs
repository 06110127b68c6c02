//! What a session has set and named, as far as a judgement needs it.

use std::collections::HashMap;

use super::deny::LEXED_OTHERWISE;
use super::harmless::runs_text;
use super::{Allowance, Diagnostics, GUESSES_PER_STATEMENT_MAX, UnknownOrigins};
use crate::decide::Denial;
use crate::facts::{FunctionUse, Level, SettingFacts, Source, StatementFacts, StatementKind, Words};
use crate::statement::Backslash;

/// Names of prepared statements and cursors that a session is remembered to have made. Those beyond are as unknown as those
/// never seen.
pub const NAMES_PER_SESSION_MAX: usize = 4_096;

/// The terms on which what a name stands for was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// As in [`Allowance::unknown_origins`].
    pub unknown_origins: UnknownOrigins,
    /// As in [`Allowance::diagnostics`].
    pub diagnostics: Diagnostics,
    /// Literals compared with masked columns by each EXECUTE.
    pub guesses: u32,
}

impl Terms {
    /// Those of a name that nothing is known of.
    pub(super) const UNKNOWN: Self =
        Self { unknown_origins: UnknownOrigins::Redact, diagnostics: Diagnostics::Redact, guesses: 0 };
}

/// A name in a session: prepared statements and cursors are named apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionName {
    /// A prepared statement, by PREPARE or by the message Parse; they share their names.
    Prepared(String),
    /// A cursor.
    Cursor(String),
}

impl SessionName {
    /// What a statement names anew, if it does.
    pub(super) fn made_by(kind: &StatementKind) -> Option<Self> {
        match kind {
            StatementKind::Prepare { name, .. } => Some(Self::Prepared(name.clone())),
            StatementKind::DeclareCursor { name } => Some(Self::Cursor(name.clone())),
            _ => None,
        }
    }
}

/// A session's state. It belongs to one catalogue and its masks: with another version begin with [`Session::forget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// How the target reads string constants, as far as is known.
    pub backslash: Backslash,
    names: HashMap<SessionName, Terms>,
}

impl Session {
    /// One that has named nothing.
    #[must_use]
    pub fn new(backslash: Backslash) -> Self {
        Self { backslash, names: HashMap::new() }
    }

    /// Remembers what an allowed text named. Call it before the text is forwarded.
    pub fn remember(&mut self, allowance: &Allowance) {
        for (name, terms) in &allowance.names {
            self.remember_name(name, *terms);
        }
    }

    /// Remembers one name, such as that of a Parse message.
    ///
    /// The target may refuse to make it and keep what the name stood for, so the strictest of all that a name was ever given
    /// holds, whatever was deallocated between.
    pub fn remember_name(&mut self, name: &SessionName, terms: Terms) {
        if let Some(held) = self.names.get_mut(name) {
            held.unknown_origins = held.unknown_origins.max(terms.unknown_origins);
            held.diagnostics = held.diagnostics.max(terms.diagnostics);
            held.guesses = held.guesses.max(terms.guesses);
        } else if self.names.len() < NAMES_PER_SESSION_MAX {
            self.names.insert(name.clone(), terms);
        }
    }

    /// Trusts no name any more: what they stand for was judged on another catalogue. What they compare by they compare by still.
    pub fn forget(&mut self) {
        for held in self.names.values_mut() {
            held.unknown_origins = UnknownOrigins::Redact;
            held.diagnostics = Diagnostics::Redact;
        }
    }

    pub(super) fn terms(&self, name: &SessionName) -> Terms {
        self.names.get(name).copied().unwrap_or(match name {
            // It may compare as much as any statement may.
            SessionName::Prepared(_) => Terms { guesses: GUESSES_PER_STATEMENT_MAX, ..Terms::UNKNOWN },
            // What it compares by was counted when it was declared.
            SessionName::Cursor(_) => Terms::UNKNOWN,
        })
    }
}

/// Whether a session may set a setting. DEFAULT and RESET are what the session began with, which it was let in with.
pub(super) fn may_set(setting: &SettingFacts) -> Result<(), Denial> {
    let allowed = match setting.values.as_slice() {
        [] => true,
        [value] => may(&setting.name, value),
        _ => !is_lexical(&setting.name),
    };
    if allowed { Ok(()) } else { Err(LEXED_OTHERWISE) }
}

/// Whether `set_config` may be called with these arguments, of which those that are no constants are absent.
pub(super) fn may_configure(arguments: &[Option<String>]) -> bool {
    match arguments {
        [Some(name), value, ..] => {
            let name = name.to_ascii_lowercase();
            match value {
                Some(value) => may(&name, value),
                None => !is_lexical(&name),
            }
        }
        // No boolean and no encoding is as long as this.
        [None, Some(value), ..] => folded(value).len() > 15,
        _ => false,
    }
}

/// Whether the target reads what comes after a statement as it read what came before. A function that runs SQL given as text
/// may have it read otherwise.
#[must_use]
pub fn keeps_lexing(statement: &StatementFacts) -> bool {
    let sets = match &statement.kind {
        StatementKind::Set(setting) => may_set(setting).is_err(),
        _ => false,
    };
    let configures =
        |function: &FunctionUse| function.name.name == "set_config" && !may_configure(&function.texts);
    let sets_by_code = |name: &str| name == "set_config" || runs_text(name);
    let defines = |words: &Words| words.unreadable || words.called.iter().any(|name| sets_by_code(name));
    let from = statement.levels.iter().flat_map(|level| &level.from).flat_map(|item| match &item.source {
        Source::Functions(names) => names.as_slice(),
        _ => &[],
    });
    let called = statement.functions.iter().map(|function| &function.name).chain(from);
    !sets
        && !called.into_iter().any(|function| runs_text(&function.name))
        && !statement.functions.iter().any(configures)
        && !writes_settings(statement)
        && !statement.words.as_ref().is_some_and(defines)
}

/// Whether a statement writes to the view that a rule of the system turns into calls of set_config, or makes a view over it
/// to write to.
pub(super) fn writes_settings(statement: &StatementFacts) -> bool {
    let writes = |level: &Level| {
        let target = level.write.as_ref().and_then(|write| level.from.get(write.target));
        target
            .is_some_and(|item| matches!(&item.source, Source::Relation(name) if name.name == "pg_settings"))
    };
    let defines = |words: &Words| words.names.iter().any(|name| name == "pg_settings");
    statement.levels.iter().any(writes) || statement.words.as_ref().is_some_and(defines)
}

fn is_lexical(name: &str) -> bool {
    matches!(name, "standard_conforming_strings" | "client_encoding" | "names")
}

fn may(name: &str, value: &str) -> bool {
    match name {
        "standard_conforming_strings" => matches!(folded(value).as_str(), "on" | "true" | "yes" | "1"),
        // Encodings in which every byte of a statement is read as the parser reads it.
        "client_encoding" | "names" => matches!(folded(value).as_str(), "utf8" | "unicode" | "sqlascii"),
        _ => true,
    }
}

/// As the target compares names of encodings (`clean_encoding_name`).
fn folded(value: &str) -> String {
    value.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect()
}
