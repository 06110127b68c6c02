//! What came of it, as `docs/day.md` has it.

use std::fmt::Write;

use super::Plan;
use super::bounds::{binds_memory, memory_mib_max};
use super::evidence::Counted;
use super::files::small_files_max;
use super::measures::{BYTES, COLUMNS, FILES_OF_A_KIND, Looks, PROCESSES, heading};
use crate::bench::numbers::{header, machine, number, row};

/// Rows that are written out. Of more, every second, third and so on is.
const ROWS_MAX: usize = 240;

/// Everything that is told.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) looks: &'a Looks,
    /// `None` if it was not come to.
    pub(super) counted: Option<Counted>,
}

impl Report<'_> {
    /// The document.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("a String takes all");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Plan { minutes, .. } = self.plan;
        let title = if self.plan.is_a_day() { "A day's load in an hour" } else { "A day's load, tried out" };
        writeln!(out, "# {title}\n\n`make day` writes this file and its picture. {}\n", machine())?;
        self.write_load(out)?;
        writeln!(
            out,
            "\nEvery {} s, for {minutes} minutes, everything is looked at, and the same questions are asked by clients that \
             stay connected, one after the other.\n",
            self.plan.look_every.as_secs()
        )?;
        self.write_counts(out)?;
        self.write_quarters(out)?;
        writeln!(out, "## Curves\n\n![Memory, files, lag and times of answers by the minute](day.svg)\n")?;
        write_meaning(out)?;
        self.write_rows(out)
    }

    fn write_load(&self, out: &mut String) -> std::fmt::Result {
        let Plan {
            commands,
            commands_per_second,
            commands_per_second_on_average,
            seats,
            session_commands,
            ..
        } = self.plan;
        let build = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
        writeln!(
            out,
            "{commands} commands came evenly, {commands_per_second} a second, by {seats} clients at once: what a day has that \
             has {commands_per_second_on_average} a second on average comes in an hour. Sessions are of {session_commands} \
             commands, and every tenth client keeps its own until the end. Four principals insert, look rows up by key, \
             read pages of 200 rows and rows with values that are masked, make errors, and are refused, at two targets of the \
             retention classes `standard` and `short`."
        )?;
        if let Some(Counted { events, sessions, merged, .. }) = self.counted {
            let mib = number(self.looks.largest(BYTES));
            writeln!(
                out,
                "They became {sessions} sessions and, with what services write of themselves, {events} events, {mib} MiB of data \
                 files; {merged:.0} files were merged into others."
            )?;
        }
        writeln!(
            out,
            "\nTwo proxies, two ingests and a query service ({build}), three brokers, an S3 server, PostgreSQL and the clients \
             share the machine. Durability is `exchange`; files are merged, and it is looked for what has expired, as ever."
        )
    }

    fn write_counts(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## What has to hold\n\nThe run fails if one of these does not.\n")?;
        header(out, &["what", "at most, or as many as", "found"].map(str::to_owned))?;
        let mut line = |what: &str, bound: String, found: String| row(out, &[what.to_owned(), bound, found]);
        if let Some(Counted { inserts, commands, refused, events, .. }) = self.counted {
            let rows = format!("{inserts} rows of the target");
            line("inserts on record with their answer", rows, inserts.to_string())?;
            line(
                "commands on record",
                format!("{commands} that were asked or prepared"),
                commands.to_string(),
            )?;
            line("refusals on record", format!("{refused} that clients were told"), refused.to_string())?;
            line("events that are lost or there twice", "0".to_owned(), format!("0 of {events}"))?;
            line("records on their way into the table, after the load", "0".to_owned(), "0".to_owned())?;
        }
        let most = self.looks.largest(FILES_OF_A_KIND).unwrap_or_default();
        let most = format!("{most:.0}");
        line("small files of one day, class and topic partition", small_files_max().to_string(), most)?;
        for process in PROCESSES.into_iter().filter(|_| binds_memory(self.plan)) {
            let [second, last] = [2, 4].map(|quarter| self.looks.quarter(process, quarter).median());
            let what = format!("MiB of {process} in the last quarter");
            line(&what, number(second.map(memory_mib_max)), number(last))?;
        }
        writeln!(out)
    }

    fn write_quarters(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## The last quarter beside the second\n\nMedians (smallest–largest). Times are of this machine, so they are \
             compared with each other only.\n"
        )?;
        header(out, &["what", "unit", "second quarter", "last quarter", "last / second"].map(str::to_owned))?;
        for column in &COLUMNS {
            let [second, last] = [2, 4].map(|quarter| self.looks.quarter(column.name, quarter));
            let ratio = last.ratio_to(&second).filter(|ratio| ratio.is_finite());
            let (second, last) = (second.to_string(), last.to_string());
            row(out, &[column.name.to_owned(), column.unit.to_owned(), second, last, number(ratio)])?;
        }
        writeln!(out)
    }

    /// Every look, as the CSV has it.
    fn write_rows(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "<details><summary>Every look</summary>\n\n```csv\n{}", heading())?;
        let all = self.looks.all();
        for sample in all.iter().step_by(all.len().div_ceil(ROWS_MAX).max(1)) {
            writeln!(out, "{}", sample.row())?;
        }
        writeln!(out, "```\n\n</details>")
    }
}

fn write_meaning(out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "## What it means\n\n\
         * **Flat is what must not grow with the evidence**: memory, live files, records on their way, and the questions whose \
         bounds or ids say in which files their rows are. Files are merged by size, so that of each size there are fewer \
         than eight for each day, class and topic partition, and those that come meanwhile.\n\
         * **What was recorded grows**: the bytes of live files. Objects in the bucket grow faster, since what was merged is kept \
         for a day, and so is the file that the table's own log has for each commit; no hour shows the end of that.\n\
         * **A question that reads every session takes longer the more there are.** Bound it by time or by ids, which begin with \
         their time: `session_id >= '…'`.\n"
    )
}
