//! What the comparison of a workload's two transcripts found.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Transcript;
use crate::Gate;

/// Longest part of a value that a difference shows, in bytes.
const SHOWN_BYTES_MAX: usize = 600;

/// One client's line of the table.
#[derive(Debug)]
pub struct Report {
    /// The client.
    pub name: &'static str,
    /// Its version.
    pub version: String,
    /// Checks that were compared.
    pub checks: usize,
    /// Commands that were looked for in the evidence.
    pub commands: u64,
    /// What differed.
    pub differences: Vec<String>,
}

impl Report {
    pub(super) fn new(name: &'static str, expected: &Transcript) -> Self {
        let version = expected.version.clone();
        Self { name, version, checks: expected.checks.len(), commands: 0, differences: Vec::new() }
    }

    /// Compares check by check. A transcript that is empty or cut is a difference too.
    pub(super) fn compare(&mut self, expected: &Transcript, found: &Transcript) {
        for (way, transcript) in [("direct", expected), ("through the gate", found)] {
            self.differences.extend(transcript.broken.iter().map(|why| format!("{way}: {why}")));
        }
        if expected.checks.is_empty() {
            self.differences.push("it checked nothing".to_owned());
        }
        let of_gate: BTreeMap<_, _> = found.checks.iter().map(|(name, got)| (name.as_str(), got)).collect();
        for (name, direct) in &expected.checks {
            match of_gate.get(name.as_str()) {
                Some(through) if *through == direct => {}
                Some(through) => self.differences.push(difference(name, direct, through)),
                None => self.differences.push(format!("{name}: nothing came through the gate")),
            }
        }
    }

    /// Whether the evidence has each statement as often as it was asked, and no gap.
    pub(super) fn ask_the_evidence(&mut self, found: &Transcript, gate: &Gate) {
        if found.recorded.is_empty() {
            self.differences.push("it names no statement to look for in the evidence".to_owned());
            return;
        }
        let quoted = |statement: &String| format!("'{}'", statement.replace('\'', "''"));
        let asked: Vec<_> = found.recorded.iter().map(|(statement, _)| quoted(statement)).collect();
        // Only what is looked for: a workload asks more than one answer of `retrace sql` holds.
        let rows = gate.sql(&format!(
            "SELECT statement, count(*) AS n FROM commands WHERE kind <> 'prepare' AND statement IN ({})
             GROUP BY statement",
            asked.join(", ")
        ));
        let on_record: BTreeMap<_, _> =
            rows.iter().filter_map(|row| Some((row["statement"].as_str()?, row["n"].as_u64()?))).collect();
        for (statement, times) in &found.recorded {
            self.commands += times;
            let count = on_record.get(statement.as_str()).copied().unwrap_or(0);
            if count != *times {
                self.differences.push(format!(
                    "evidence: `{}` was asked {times} times and is on record {count} times",
                    shown(statement)
                ));
            }
        }
        let gaps = gate.number(
            "SELECT count(*) AS n FROM (SELECT stream_id FROM events GROUP BY stream_id
             HAVING count(*) <> max(stream_seq) + 1 OR count(DISTINCT stream_seq) <> count(*)) AS uneven",
        );
        if gaps > 0 {
            self.differences.push(format!("evidence: {gaps} streams with gaps or repetitions"));
        }
    }
}

/// The first place where two values differ.
fn difference(path: &str, direct: &Value, through: &Value) -> String {
    match (direct, through) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            let key = one.keys().find(|key| one[*key] != other[*key]).expect("they differ");
            difference(&format!("{path}.{key}"), &one[key], &other[key])
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let index = (0..one.len()).find(|index| one[*index] != other[*index]).expect("they differ");
            difference(&format!("{path}[{index}]"), &one[index], &other[index])
        }
        (Value::String(one), Value::String(other)) => {
            let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let from = one[..one.floor_char_boundary(same)].rfind('\n').map_or(0, |newline| newline + 1);
            format!("{path}: direct {:?}, through the gate {:?}", shown(&one[from..]), shown(&other[from..]))
        }
        _ => format!(
            "{path}: direct {}, through the gate {}",
            shown(&direct.to_string()),
            shown(&through.to_string())
        ),
    }
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// The table of all clients.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut lines = vec![format!(
        "{:<16} {:<12} {:>7} {:>9}   {}",
        "client", "version", "checks", "commands", "through the gate"
    )];
    for Report { name, version, checks, commands, differences } in reports {
        let result = match differences.len() {
            0 => "equal".to_owned(),
            count => format!("{count} differences"),
        };
        lines.push(format!("{name:<16} {version:<12} {checks:>7} {commands:>9}   {result}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn transcript(got: Value) -> Transcript {
        let mut transcript = Transcript::default();
        transcript.check("rows", got);
        transcript
    }

    fn differences(expected: &Transcript, found: &Transcript) -> Vec<String> {
        let mut report = Report::new("client", expected);
        report.compare(expected, found);
        report.differences
    }

    #[test]
    fn a_difference_is_named_by_where_it_is() {
        let same = transcript(json!({"rows": [[1, "a\nb"], [2, null]]}));
        assert!(differences(&same, &same).is_empty());
        let other = transcript(json!({"rows": [[1, "a\nc"], [2, null]]}));
        assert_eq!(differences(&same, &other), ["rows.rows[0][1]: direct \"b\", through the gate \"c\""]);
    }

    #[test]
    fn nothing_is_not_equal() {
        let (same, nothing) = (transcript(json!(1)), Transcript::default());
        assert_eq!(differences(&same, &nothing), ["rows: nothing came through the gate"]);
        assert_eq!(differences(&nothing, &nothing), ["it checked nothing"]);
        let broken = Transcript { broken: Some("cut".to_owned()), ..same.clone() };
        assert_eq!(differences(&same, &broken), ["through the gate: cut"]);
    }
}
