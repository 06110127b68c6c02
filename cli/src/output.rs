//! The one place that writes to stdout and stderr, the shell and its pager aside.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use retrace_replay::{Look, safe};

/// What waits to be written, in bytes.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Stdout: buffered, and careful with a terminal.
pub(crate) struct Output {
    out: io::BufWriter<Box<dyn Write>>,
    is_terminal: bool,
    /// Columns of a terminal that can be moved sideways.
    columns: Option<usize>,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let out = io::BufWriter::with_capacity(BUFFER_BYTES_MAX, Box::new(stdout) as Box<dyn Write>);
        Self { out, is_terminal, columns: None }
    }

    /// What shows a text on the terminal, lines of so many columns too.
    pub(crate) fn by_way_of(pager: impl Write + 'static, columns: usize) -> Self {
        let out = io::BufWriter::with_capacity(BUFFER_BYTES_MAX, Box::new(pager) as Box<dyn Write>);
        Self { out, is_terminal: true, columns: Some(columns) }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// How texts look here: as wide as the terminal and in colours, or neither.
    pub(crate) fn look(&self) -> Look {
        if !self.is_terminal {
            return Look::default();
        }
        let of_terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Look { width: self.columns.or_else(of_terminal), color: wants_color(), ..Look::default() }
    }

    /// Text that is safe already.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Text for a program to read, which may hold anything. On a terminal, what that would obey is shown instead.
    pub(crate) fn verbatim(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal { self.text(&safe::verbatim(text)) } else { self.text(text) }
    }

    pub(crate) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line on stderr, for people. A stderr that is gone is no reason to fail.
pub(crate) fn remark(text: impl Display) {
    let _gone = writeln!(io::stderr(), "{text}");
}

/// An error with its causes, as one line on stderr.
pub(crate) fn error(error: &anyhow::Error) {
    let is_colored = io::stderr().is_terminal() && wants_color();
    let head = if is_colored { "\x1b[1;31mretrace:\x1b[0m" } else { "retrace:" };
    remark(format_args!("{head} {}", sentence(error)));
}

/// Whether it only says that whoever read our stdout has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The causes joined by colons; one that the sentence before it says already is left out.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    safe::line(&sentence)
}

/// See <https://no-color.org>.
fn wants_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_nothing_twice_and_nothing_a_terminal_obeys() {
        let inner = anyhow::anyhow!("no such \x1b[31mfile\nat all");
        let error = Err::<(), _>(inner).context("cannot read dev.token").unwrap_err();
        assert_eq!(sentence(&error), "cannot read dev.token: no such \\x1B[31mfile\\nat all");
        let inner = io::Error::other("disk full");
        let error = Err::<(), _>(inner).context("cannot write: disk full").unwrap_err();
        assert_eq!(sentence(&error), "cannot write: disk full");
    }

    #[test]
    fn a_broken_pipe_is_known_below_any_context() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let error = Err::<(), _>(broken).context("cannot write rows").unwrap_err();
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
