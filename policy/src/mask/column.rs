//! Values of masked columns: hidden whole, whatever stands in them.

use retrace_proto::wire::{Mask, MaskAction, MaskKind};

use super::cell::{Cell, ClientText, ColumnText};
use super::content::ContentBuilder;
use super::{FingerprintKey, Place, TokenDomain, bounded, into_text};
use crate::catalogue::ColumnRule;

/// What stands for a value that is hidden whole.
pub const HIDDEN: &str = "[masked]";

/// Characters of a value that `partial` leaves, at its end, and how many more the value must have.
const PARTIAL_CHARS: usize = 4;

/// Why a column's values are hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HiddenColumn {
    /// A rule names the column.
    Rule(ColumnRule),
    /// It is not known to be free of a masked column's values.
    UnknownOrigin,
}

impl HiddenColumn {
    fn action(&self) -> MaskAction {
        match self {
            Self::Rule(rule) => rule.action,
            Self::UnknownOrigin => MaskAction::Redact,
        }
    }

    fn kind(&self) -> MaskKind {
        match self {
            Self::Rule(_) => MaskKind::Column,
            Self::UnknownOrigin => MaskKind::UnknownOrigin,
        }
    }

    /// The rule's name, which is also the domain of its fingerprints and tokens: equal values have equal ones in all the
    /// columns that one rule names.
    fn rule(&self) -> &str {
        match self {
            Self::Rule(rule) => &rule.name,
            Self::UnknownOrigin => "",
        }
    }
}

impl FingerprintKey {
    /// The fingerprint of a column's value: the first 128 bits of HMAC(key, `column` ‖ 0 ‖ rule ‖ 0 ‖ value).
    #[must_use]
    pub fn of_column(&self, rule: &str, value: &[u8]) -> [u8; 16] {
        self.mac([b"column\0", rule.as_bytes(), &[0], value])
    }
}

impl ContentBuilder {
    /// The next cell of the row, in a column that is hidden.
    pub fn hidden_cell(&mut self, cell: Cell<'_>, column: &HiddenColumn) -> ClientText<'_> {
        let (value, allows) = match cell {
            Cell::Null => return self.cell(Cell::Null),
            Cell::Printed(text, allows) => (text, allows),
            Cell::Opaque(bytes) => (bytes, ColumnText::Typed),
        };
        let mut shown = Vec::new();
        let quote = allows == ColumnText::Json;
        if quote {
            shown.push(b'"');
        }
        self.replacement(value, column, &mut shown);
        if quote {
            shown.push(b'"');
        }
        let fingerprint =
            matches!(column, HiddenColumn::Rule(_)).then(|| self.masker.key.of_column(column.rule(), value));
        let place = self.begin_hidden();
        if self.masks.has_place() {
            let index = fingerprint.map(|fingerprint| self.masks.fingerprints.index_of(fingerprint));
            self.masks.masks.push(mask(place, shown.len(), column, index));
        } else {
            self.masks.omitted += 1;
        }
        self.end_cell(Some(&shown), true);
        if allows == ColumnText::Typed {
            return ClientText::Null;
        }
        self.replaced = shown;
        ClientText::Replaced(&self.replaced)
    }

    fn replacement(&self, value: &[u8], column: &HiddenColumn, out: &mut Vec<u8>) {
        match column.action() {
            MaskAction::Token => {
                self.masker.key.token(TokenDomain::Column(column.rule()), value, out);
            }
            MaskAction::Partial => out.extend_from_slice(partial(&into_text(value).0).as_bytes()),
            MaskAction::Redact | MaskAction::Unspecified => out.extend_from_slice(HIDDEN.as_bytes()),
        }
    }
}

fn mask(place: Place, bytes: usize, column: &HiddenColumn, fingerprint_index: Option<u32>) -> Mask {
    Mask {
        row: place.row,
        column: place.column,
        start_inclusive: 0,
        end_exclusive: bounded(bytes),
        kind: column.kind().into(),
        action: column.action().into(),
        rule: column.rule().to_owned(),
        fingerprint_index,
    }
}

/// The last characters of a value, if it has at least as many before them. How long it is is not told.
fn partial(text: &str) -> String {
    let count = text.chars().count();
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | ' ' | '@' | '_');
    if count < 2 * PARTIAL_CHARS || !text.chars().all(safe) {
        return HIDDEN.to_owned();
    }
    let tail: String = text.chars().skip(count - PARTIAL_CHARS).collect();
    format!("****{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_shows_the_end_of_long_plain_values_alone() {
        for (value, shown) in [
            ("078-05-1120", "****1120"),
            ("1234567", HIDDEN),
            ("", HIDDEN),
            ("{\"a\":\"1234\"}", HIDDEN),
            ("Ürümqi-straße", "****raße"),
        ] {
            assert_eq!(partial(value), shown, "{value}");
        }
    }
}
