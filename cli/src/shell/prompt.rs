//! The terminal: lines with editing, history and completion.

use anyhow::Context;
use rustyline::config::CompletionType;
use rustyline::error::ReadlineError;
use rustyline::history::{History, MemHistory};
use rustyline::{Config, Editor};
use tokio::signal::unix::{SignalKind, signal};

use super::complete::Completion;
use super::history::{self, HISTORY_ENTRIES_MAX, Kept};
use super::line::Lines;
use super::meta;
use super::{Flow, Shell};
use crate::output;

/// Reads lines and does what they say, until Ctrl-D or `\q`.
///
/// # Errors
/// If the evidence cannot be reached at all, or the terminal is gone. Errors of statements are said and not the end.
pub(super) async fn run(shell: &mut Shell<'_>) -> anyhow::Result<()> {
    let names = Box::pin(shell.names()).await?;
    let mut terminal = Terminal::open(Completion::new(names))?;
    output::remark(format_args!(
        "retrace {}: \\? says what can be asked, Ctrl-D leaves",
        env!("CARGO_PKG_VERSION")
    ));
    // From here on Ctrl-C ends what is under way, not the shell.
    let _interrupts = signal(SignalKind::interrupt())?;
    let mut lines = Lines::default();
    // What was typed since the last statement's end, for the history.
    let mut typed = String::new();
    loop {
        let line = match terminal.read(&lines) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                lines.clear();
                typed.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("cannot read the terminal"),
        };
        if lines.is_plain() && meta::is_meta(&line) {
            terminal.remember(line.trim());
        } else {
            typed.push_str(&line);
            typed.push('\n');
        }
        let taken = Box::pin(shell.take_line(&mut lines, &line)).await;
        if lines.is_empty() {
            terminal.remember(typed.trim());
            typed.clear();
        }
        match taken {
            Ok(Flow::Next) => {}
            Ok(Flow::Quit) => return Ok(()),
            Err(error) if output::is_broken_pipe(&error) => return Err(error),
            Err(error) => output::error(&error),
        }
    }
}

struct Terminal {
    editor: Editor<Completion, MemHistory>,
    kept: Kept,
}

impl Terminal {
    fn open(completion: Completion) -> anyhow::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY_ENTRIES_MAX)?
            .history_ignore_dups(true)?
            .completion_type(CompletionType::List)
            .build();
        let kept = Kept::open(history::file(), &config, output::remark);
        let memory = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, memory)?;
        for entry in kept.entries() {
            editor.history_mut().add(entry)?;
        }
        editor.set_helper(Some(completion));
        Ok(Self { editor, kept })
    }

    /// The next line that is typed after `lines`.
    fn read(&mut self, lines: &Lines) -> Result<String, ReadlineError> {
        if let Some(completion) = self.editor.helper_mut() {
            completion.set_before(lines.pending());
        }
        self.editor.readline(lines.prompt())
    }

    /// Offers it again by the arrow keys: now, and, if it may be kept, the next time.
    fn remember(&mut self, entry: &str) {
        if entry.is_empty() {
            return;
        }
        // In memory this cannot fail.
        let _is_new = self.editor.add_history_entry(entry);
        self.kept.add(entry, output::remark);
    }
}
