//! Other engines that read the table as it is. Each is asked the same questions as `retrace sql`, over the same rows, and
//! has to give the same answers, cell by cell.
//!
//! [`Evidence`] is a table that a gate wrote: its files were merged, its log has a checkpoint, and nothing writes it any
//! more. [`Question`]s are in `tests/engines/questions.toml`, each engine's program beside them. [`compare`] asks everybody.

mod evidence;
mod program;
mod question;
mod report;

use std::time::Instant;

use crate::S3;

pub use evidence::Evidence;
pub use program::Engine;
pub use question::{Column, Question, Rows, questions};
pub use report::{Report, table};

/// What `retrace sql` says, which the others are compared with.
type Expected<'a> = Vec<(&'a Question, Rows)>;

/// Asks `retrace sql` and then everybody else. The first reports are of those that must agree; the last is of a reader that
/// ignores the table's log, and must not.
#[must_use]
pub fn compare(evidence: &Evidence, s3: &S3) -> (Vec<Report>, Report) {
    let questions = questions();
    let cut = evidence.cut();
    let expected: Expected<'_> = questions
        .iter()
        .map(|question| (question, evidence.ask(question, &question.retrace, &cut)))
        .collect();
    let mut reports = vec![views(evidence, &expected, &cut)];
    let copy = evidence.copy_into(s3);
    for engine in program::engines(&evidence.table(), &copy, s3) {
        reports.push(engine_report(&engine, &expected));
    }
    let listing = engine_report(&program::listing(&evidence.table()), &expected);
    (reports, listing)
}

/// The documented views against the same questions asked of `events`.
fn views(evidence: &Evidence, expected: &Expected<'_>, cut: &str) -> Report {
    let began = Instant::now();
    let mut report = Report::new("views", env!("CARGO_PKG_VERSION"));
    for (question, rows) in expected {
        match &question.view {
            Some(view) => report.compare(question, rows, Ok(&evidence.ask(question, view, cut))),
            None => report.pass_over(question),
        }
    }
    report.took(began.elapsed());
    report
}

fn engine_report(engine: &Engine, expected: &Expected<'_>) -> Report {
    let began = Instant::now();
    let transcript = engine.run();
    let mut report = Report::new(engine.name, &transcript.version);
    report.broken(transcript.broken.as_deref());
    for (question, rows) in expected {
        let got = transcript.checks.iter().find(|(name, _)| *name == question.name).map(|(_, got)| got);
        match question::rows_of(got) {
            Ok(found) => report.compare(question, rows, Ok(&found)),
            Err(why) => report.compare(question, rows, Err(&why)),
        }
    }
    report.took(began.elapsed());
    report
}
