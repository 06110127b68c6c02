//! `retrace sql` without a statement: a prompt on a terminal; elsewhere the statements of stdin, one after the other.
//!
//! The way through it, in reading order: `line` cuts lines into statements, `meta` reads what the shell itself is told,
//! `connection` is the way to the evidence, `page` shows an answer, `prompt` is the terminal, with `history` and
//! `complete`.

mod line;

mod meta;

mod connection;

mod page;

mod prompt;

mod complete;
mod history;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::args::{Reach, RowFormat};
use crate::config::Config;
use crate::output::{self, Output};
use crate::rows::{self, Shape};
use crate::sql;
use complete::Names;
use connection::Connection;
use line::Lines;
use meta::Meta;
use page::{Page, Room};

/// Longest line of a file or of stdin, in bytes.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// How deep files may name files.
const INCLUDED_FILES_MAX: usize = 8;

/// Columns of a table that a pager shows: the widest columns give way beyond.
const PAGED_COLUMNS_MAX: usize = 4096;

/// How long the first prompt waits for the names that Tab completes.
const NAMES_WAIT_MAX: Duration = Duration::from_secs(5);

/// Runs a prompt or a script, to its end.
///
/// # Errors
/// If the evidence cannot be reached. Of a script also the first error of a statement.
pub(crate) async fn shell(config: &Config, reach: &Reach, format: RowFormat) -> anyhow::Result<()> {
    let is_prompt = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut shell = Shell {
        connection: Connection::new(config, reach),
        shape: Shape::from(format),
        is_prompt,
        is_timed: false,
        is_paged: true,
        files: 0,
        seen: None,
    };
    let ended = if is_prompt {
        Box::pin(prompt::run(&mut shell)).await
    } else {
        Box::pin(shell.script(io::stdin().lock(), "stdin")).await.map(|_flow| ())
    };
    let closed = shell.connection.close().await;
    ended.and(closed)
}

/// The shell, and what it was told.
struct Shell<'a> {
    connection: Connection<'a>,
    shape: Shape,
    /// A person types, so that Ctrl-C cancels a statement and an error is not the end.
    is_prompt: bool,
    is_timed: bool,
    is_paged: bool,
    /// Files that are being read, each named by the one before it.
    files: usize,
    /// Up to where the last answer saw the log, in words.
    seen: Option<String>,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Quit,
}

/// A person pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled;

impl Shell<'_> {
    /// Runs the statements of a text, line by line, up to the first error. What has no semicolon at its end is one too.
    async fn script(&mut self, mut text: impl BufRead, name: &str) -> anyhow::Result<Flow> {
        let mut lines = Lines::default();
        while let Some(line) = next_line(&mut text).with_context(|| format!("cannot read {name}"))? {
            if self.take_line(&mut lines, &line).await? == Flow::Quit {
                return Ok(Flow::Quit);
            }
        }
        if let Some(statement) = lines.finish() {
            self.ask(&statement).await?;
        }
        Ok(Flow::Next)
    }

    /// Does what a line says, with the lines before it.
    async fn take_line(&mut self, lines: &mut Lines, line: &str) -> anyhow::Result<Flow> {
        if lines.is_plain() && meta::is_meta(line) {
            return self.obey(Meta::parse(line)?).await;
        }
        if let Some(meta) = Meta::by_word(line).filter(|_| lines.is_empty()) {
            return self.obey(meta).await;
        }
        for statement in lines.push(line)? {
            match self.ask(&statement).await {
                Err(error) if self.goes_on_after(&error) => output::error(&error),
                asked => {
                    asked?;
                }
            }
        }
        Ok(Flow::Next)
    }

    /// Whether the next statement of a line is run after one that failed.
    fn goes_on_after(&self, error: &anyhow::Error) -> bool {
        self.is_prompt && self.files == 0 && !error.is::<Cancelled>() && !output::is_broken_pipe(error)
    }

    async fn obey(&mut self, meta: Meta) -> anyhow::Result<Flow> {
        match meta {
            Meta::List => {
                self.ask(meta::TABLES).await?;
            }
            Meta::Columns(table) => {
                if self.ask(&meta::columns_of(&table)).await? == Some(0) {
                    bail!("there is no table or view `{table}`: \\d lists them");
                }
            }
            Meta::Cut => match &self.seen {
                Some(seen) => output::remark(seen),
                None => bail!("nothing was answered yet"),
            },
            Meta::Expanded(value) => {
                self.shape.is_expanded = value.unwrap_or(!self.shape.is_expanded);
                say_switch("expanded rows", self.shape.is_expanded);
            }
            Meta::Format(format) => {
                self.shape.format = format.unwrap_or(self.shape.format);
                output::remark(format_args!("format: {}", meta::format_name(self.shape.format)));
            }
            Meta::Timing(value) => {
                self.is_timed = value.unwrap_or(!self.is_timed);
                say_switch("timing", self.is_timed);
            }
            Meta::Pager(value) => {
                self.is_paged = value.unwrap_or(!self.is_paged);
                say_switch("pager", self.is_paged);
            }
            Meta::Include(file) => return Box::pin(self.include(&file)).await,
            Meta::Help => {
                let mut out = Output::stdout();
                out.text(meta::HELP)?;
                out.flush()?;
            }
            Meta::Quit => return Ok(Flow::Quit),
        }
        Ok(Flow::Next)
    }

    async fn include(&mut self, file: &Path) -> anyhow::Result<Flow> {
        if self.files == INCLUDED_FILES_MAX {
            bail!("files name each other more than {INCLUDED_FILES_MAX} deep: {}", file.display());
        }
        let name = file.display().to_string();
        let text = File::open(file).with_context(|| format!("cannot read {name}"))?;
        self.files += 1;
        let ended = self.script(BufReader::new(text), &name).await;
        self.files -= 1;
        ended
    }

    /// Asks a statement and writes its rows; gives how many there were, `None` if nobody waited for the last.
    async fn ask(&mut self, statement: &str) -> anyhow::Result<Option<u64>> {
        let began = Instant::now();
        let asked =
            if self.is_prompt { self.show(statement).await } else { self.print(statement).await.map(Some) };
        if self.is_timed && asked.is_ok() {
            output::remark(format_args!("time: {:.3} ms", began.elapsed().as_secs_f64() * 1000.0));
        }
        asked
    }

    /// Writes the rows to stdout, as `retrace sql STATEMENT` does.
    async fn print(&mut self, statement: &str) -> anyhow::Result<u64> {
        let answer = self.connection.sql(statement).await?;
        let seen = sql::seen(&answer);
        let rows = rows::write(answer, self.shape, &mut Output::stdout()).await?;
        if self.shape.format == RowFormat::Table {
            output::remark(&seen);
        }
        self.seen = Some(seen);
        Ok(rows)
    }

    /// Shows the rows on the terminal, until a person cancels the statement or leaves the pager.
    async fn show(&mut self, statement: &str) -> anyhow::Result<Option<u64>> {
        let pager = page::pager().filter(|_| self.is_paged);
        let page = Room::of_terminal().zip(pager).map(|(room, pager)| Page::new(room, pager));
        let mut out = match &page {
            Some(page) => Output::by_way_of(page.clone(), PAGED_COLUMNS_MAX),
            None => Output::stdout(),
        };
        let (connection, seen, shape) = (&mut self.connection, &mut self.seen, self.shape);
        let answered = async {
            let answer = connection.sql(statement).await?;
            *seen = Some(sql::seen(&answer));
            rows::write(answer, shape, &mut out).await
        };
        let asked = tokio::select! {
            answered = Box::pin(answered) => answered,
            () = left(page.as_ref()) => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            () = cancelled(page.as_ref()) => Err(Cancelled.into()),
        };
        // Before the errors, if any: what of the answer was not written yet, and whoever reads it.
        drop(out);
        let is_paged = page.as_ref().is_some_and(Page::is_paged);
        if let Some(page) = page {
            page.close().await?;
        }
        self.connection.rest(&asked).await?;
        match asked {
            // Who leaves the pager has seen enough.
            Err(error) if is_paged && output::is_broken_pipe(&error) => Ok(None),
            asked => asked.map(Some),
        }
    }

    /// The names that Tab completes; none if the service does not tell them.
    ///
    /// # Errors
    /// If the evidence cannot be reached.
    async fn names(&mut self) -> anyhow::Result<Names> {
        self.connection.open().await?;
        let told = tokio::time::timeout(NAMES_WAIT_MAX, self.connection.texts(meta::COLUMNS)).await;
        let told = told.map_err(anyhow::Error::new).flatten();
        self.connection.rest(&told).await?;
        Ok(Names::of_rows(told.unwrap_or_default()))
    }
}

/// Resolves when the reader has left the pager.
async fn left(page: Option<&Page>) {
    match page {
        Some(page) => page.left().await,
        None => std::future::pending().await,
    }
}

/// Resolves at a Ctrl-C that is not the pager's.
async fn cancelled(page: Option<&Page>) {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            // Then Ctrl-C ends the process, as it does to every other command.
            std::future::pending::<()>().await;
        }
        if !page.is_some_and(Page::is_shown) {
            return;
        }
    }
}

fn say_switch(name: &str, is_on: bool) {
    output::remark(format_args!("{name}: {}", if is_on { "on" } else { "off" }));
}

/// The next line, without its end; `None` after the last.
fn next_line(text: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    if text.by_ref().take(LINE_BYTES_MAX + 1).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LINE_BYTES_MAX {
        bail!("a line is longer than {LINE_BYTES_MAX} bytes");
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_without_their_ends_and_are_bounded() {
        let mut text = "a\r\n\nb".as_bytes();
        let read: Vec<_> = std::iter::from_fn(|| next_line(&mut text).unwrap()).collect();
        assert_eq!(read, ["a", "", "b"]);
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 1);
        assert!(next_line(&mut long.as_bytes()).is_err());
    }
}
