//! What the comparison of an engine's answers found.

use std::time::Duration;

use super::{Question, Rows};

/// Longest part of a cell that a difference shows, in bytes.
const SHOWN_BYTES_MAX: usize = 300;

/// One engine's column of the table.
#[derive(Debug)]
pub struct Report {
    /// The engine, and how it reads.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What differed, with the question's name before it.
    pub differences: Vec<String>,
    verdicts: Vec<(String, Verdict)>,
    seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Differs,
    /// There is no answer, or nothing to compare it with.
    Failed,
    NotAsked,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "DIFFERS",
            Self::Failed => "FAILED",
            Self::NotAsked => "-",
        }
    }
}

impl Report {
    pub(super) fn new(name: &str, version: &str) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { name, version, differences: Vec::new(), verdicts: Vec::new(), seconds: 0.0 }
    }

    /// Compares an answer, or what was said in its place. If no rows are expected, nothing is compared, and that is not
    /// equal.
    pub(super) fn compare(&mut self, question: &Question, expected: &Rows, found: Result<&Rows, &str>) {
        let (verdict, what) = match found {
            _ if expected.is_empty() => (Verdict::Failed, Some("there is nothing to compare".to_owned())),
            Err(why) => (Verdict::Failed, Some(shown(why).to_owned())),
            Ok(found) => match difference(question, expected, found) {
                None => (Verdict::Equal, None),
                different => (Verdict::Differs, different),
            },
        };
        self.verdicts.push((question.name.clone(), verdict));
        self.differences.extend(what.map(|what| format!("{}: {what}", question.name)));
    }

    /// This one is not asked that.
    pub(super) fn pass_over(&mut self, question: &Question) {
        self.verdicts.push((question.name.clone(), Verdict::NotAsked));
    }

    /// Why its answers are not whole, if they are not.
    pub(super) fn broken(&mut self, why: Option<&str>) {
        self.differences.extend(why.map(|why| format!("it broke off: {why}")));
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.seconds = time.as_secs_f64();
    }

    /// Whether it gave another answer to a question, and not none.
    #[must_use]
    pub fn differs_in(&self, question: &str) -> bool {
        self.verdicts.iter().any(|(name, verdict)| name == question && *verdict == Verdict::Differs)
    }
}

/// The first place where two answers differ.
fn difference(question: &Question, expected: &Rows, found: &Rows) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} rows by retrace sql, {} found", expected.len(), found.len()));
    }
    let (index, (expected, found)) =
        expected.iter().zip(found).enumerate().find(|(_, (expected, found))| expected != found)?;
    if expected.len() != found.len() {
        return Some(format!("row {index}: {} columns, {} found", expected.len(), found.len()));
    }
    let column = expected.iter().zip(found).position(|(expected, found)| expected != found)?;
    let cell = |cell: &Option<String>| {
        cell.as_deref().map_or("NULL".to_owned(), |text| format!("{:?}", shown(text)))
    };
    let name = &question.columns[column].name;
    let (expected, found) = (cell(&expected[column]), cell(&found[column]));
    Some(format!("row {index}, {name}: {expected} by retrace sql, {found} found"))
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// The table: a line for each question, a column for each engine.
#[must_use]
pub fn table(reports: &[&Report]) -> String {
    let names = |report: &Report| report.verdicts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let questions = reports.first().map(|report| names(report)).unwrap_or_default();
    let mut lines = vec![Vec::new(), Vec::new()];
    lines[0].push("question".to_owned());
    lines[1].push(String::new());
    for report in reports {
        lines[0].push(report.name.clone());
        lines[1].push(report.version.clone());
    }
    for (index, question) in questions.into_iter().enumerate() {
        let verdict =
            |report: &&Report| report.verdicts.get(index).map_or("", |(_, it)| it.word()).to_owned();
        lines.push(std::iter::once(question).chain(reports.iter().map(verdict)).collect());
    }
    let seconds = reports.iter().map(|report| format!("{:.1} s", report.seconds));
    lines.push(std::iter::once("took".to_owned()).chain(seconds).collect());
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |line: &Vec<String>| {
        let cells = line.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;

    fn question() -> Question {
        let column = |name: &str| Column { name: name.to_owned(), kind: "text".to_owned() };
        let columns = vec![column("who"), column("what")];
        Question { name: "q".to_owned(), columns, retrace: String::new(), view: None }
    }

    fn rows(rows: &[[Option<&str>; 2]]) -> Rows {
        rows.iter().map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect()).collect()
    }

    fn differences(expected: &Rows, found: Result<&Rows, &str>) -> Vec<String> {
        let mut report = Report::new("engine", "1");
        report.compare(&question(), expected, found);
        let answered = found.is_ok() && !expected.is_empty();
        assert_eq!(report.differs_in("q"), answered && !report.differences.is_empty());
        report.differences
    }

    #[test]
    fn a_difference_is_named_by_where_it_is() {
        let same = rows(&[[Some("ann"), None], [Some("bob"), Some("")]]);
        assert!(differences(&same, Ok(&same)).is_empty());
        let null = rows(&[[Some("ann"), None], [Some("bob"), None]]);
        assert_eq!(differences(&same, Ok(&null)), ["q: row 1, what: \"\" by retrace sql, NULL found"]);
        let swapped = rows(&[[Some("bob"), Some("")], [Some("ann"), None]]);
        assert_eq!(differences(&same, Ok(&swapped)).len(), 1);
        let short = rows(&[[Some("ann"), None]]);
        assert_eq!(differences(&same, Ok(&short)), ["q: 2 rows by retrace sql, 1 found"]);
    }

    #[test]
    fn no_answer_is_no_equal_answer_and_neither_is_nothing() {
        let (same, nothing) = (rows(&[[Some("ann"), None]]), Rows::new());
        assert_eq!(differences(&same, Err("no such column")), ["q: no such column"]);
        assert_eq!(differences(&nothing, Ok(&nothing)), ["q: there is nothing to compare"]);
    }

    #[test]
    fn the_table_has_a_line_for_each_question() {
        let same = rows(&[[Some("ann"), None]]);
        let (mut one, mut other) = (Report::new("one", "1.0"), Report::new("other", "2"));
        one.compare(&question(), &same, Ok(&same));
        other.pass_over(&question());
        let expected =
            "question  one    other\n          1.0    2\nq         equal  -\ntook      0.0 s  0.0 s";
        assert_eq!(table(&[&one, &other]), expected);
    }
}
