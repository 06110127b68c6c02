//! What of a question rules read, so that the rest need not be found out.

use std::ops::BitOrAssign;

use serde_json::Value;

/// Which values of `context` a rule reads, each a bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads(u32);

/// The values by the way to them; the bit of each is its place.
const PATHS: [&[&str]; 10] = [
    &["client", "address"],
    &["now", "at"],
    &["now", "weekday"],
    &["now", "minute_of_day"],
    &["statement", "names_known"],
    &["statement", "relations"],
    &["statement", "writes"],
    &["statement", "columns"],
    &["statement", "functions"],
    &["statement", "volatile"],
];

impl Reads {
    /// Everything there is.
    pub const ALL: Self = Self(u32::MAX);

    /// What a rule reads, by its JSON form: <https://docs.cedarpolicy.com/policies/json-format.html>.
    pub(super) fn of(rule: &Value) -> Self {
        let mut reads = Self::default();
        reads.walk(rule);
        reads
    }

    /// Whether one value is read.
    pub(super) fn has(self, path: &[&str]) -> bool {
        match PATHS.iter().position(|known| *known == path) {
            Some(index) => self.0 & (1 << index) != 0,
            // Those without a bit of their own are cheap, and always given.
            None => true,
        }
    }

    /// Whether the target's catalogue is needed: what names mean, or whether a function may have an effect.
    #[must_use]
    pub fn names(self) -> bool {
        PATHS.iter().filter(|path| path[0] == "statement").any(|path| self.has(path))
    }

    /// Whether the time of day matters.
    #[must_use]
    pub fn time(self) -> bool {
        PATHS.iter().filter(|path| path[0] == "now").any(|path| self.has(path))
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(path) = path(value) {
                    self.read(&path);
                    return;
                }
                fields.values().for_each(|field| self.walk(field));
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }

    /// Everything at and below a path.
    fn read(&mut self, path: &[&str]) {
        for (index, known) in PATHS.iter().enumerate() {
            let common = known.len().min(path.len());
            if known[..common] == path[..common] {
                self.0 |= 1 << index;
            }
        }
    }
}

impl BitOrAssign for Reads {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The way from `context` that an expression takes, if it takes one: `context.now.at` and `context.now has at` alike.
fn path(value: &Value) -> Option<Vec<&str>> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    if fields.get("Var").and_then(Value::as_str) == Some("context") {
        return Some(Vec::new());
    }
    let step = fields.get(".").or_else(|| fields.get("has"))?;
    let mut path = path(step.get("left")?)?;
    // An attribute of another form may be any.
    path.extend(step.get("attr").and_then(Value::as_str));
    Some(path)
}
