//! What a workload got.

use serde_json::{Value, json};

use crate::Outcome;

/// What a workload got, and what it says it asked.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// The client's version.
    pub version: String,
    /// Each check's name and what it gave, in order.
    pub checks: Vec<(String, Value)>,
    /// Statements that were asked, and how often.
    pub recorded: Vec<(String, u64)>,
    /// Why it is not whole, if it is not.
    pub broken: Option<String>,
}

impl Transcript {
    /// Adds what a check gave.
    pub fn check(&mut self, name: &str, got: impl Into<Value>) {
        self.checks.push((name.to_owned(), got.into()));
    }

    /// Adds all that a program left.
    pub fn check_outcome(&mut self, name: &str, outcome: &Outcome) {
        let got = json!({ "exit": outcome.status.code(), "out": outcome.out(), "err": outcome.err() });
        self.check(name, got);
    }

    /// Says that a statement was asked.
    pub fn asked(&mut self, statement: &str, times: u64) {
        self.recorded.push((statement.to_owned(), times));
    }

    /// Reads what a program printed: a JSON object a line, `{"version"}`, `{"check", "got"}`, `{"recorded", "times"}`
    /// and, last, `{"end"}`.
    #[must_use]
    pub fn read(printed: &str) -> Self {
        let mut transcript = Self::default();
        let mut ended = false;
        for line in printed.lines() {
            let Ok(mut entry) = serde_json::from_str::<Value>(line) else {
                transcript.broken = Some(format!("not an entry: {line}"));
                continue;
            };
            if let Some(version) = entry["version"].as_str() {
                version.clone_into(&mut transcript.version);
            } else if let Some(name) = entry["check"].as_str().map(str::to_owned) {
                transcript.check(&name, entry["got"].take());
            } else if let Some(statement) = entry["recorded"].as_str() {
                transcript.asked(statement, entry["times"].as_u64().unwrap_or(0));
            } else {
                ended |= entry.get("end").is_some();
            }
        }
        if !ended && transcript.broken.is_none() {
            transcript.broken = Some("it did not come to its end".to_owned());
        }
        transcript
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_read_and_one_that_was_cut_says_so() {
        let printed =
            "{\"version\":\"1\"}\n{\"check\":\"a\",\"got\":[1]}\n{\"recorded\":\"SELECT 1\",\"times\":2}\n";
        let cut = Transcript::read(printed);
        assert!(cut.broken.is_some());
        let whole = Transcript::read(&format!("{printed}{{\"end\":true}}\n"));
        assert_eq!((whole.version.as_str(), whole.broken), ("1", None));
        assert_eq!(whole.checks, [("a".to_owned(), json!([1]))]);
        assert_eq!(whole.recorded, [("SELECT 1".to_owned(), 2)]);
        assert!(Transcript::read("oh\n{\"end\":true}\n").broken.is_some());
    }
}
