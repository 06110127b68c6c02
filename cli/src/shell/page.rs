//! An answer on a terminal: as it is if it fits, else in a pager.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use retrace_replay::safe;
use tokio::sync::watch;

use crate::output;

/// Text that waits for the pager to take it, in pieces of at most 64 KiB: so far an answer runs ahead of its reader, whom
/// the service would not wait for.
const WAITING_PIECES_MAX: usize = 1024;
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Text kept back while nobody knows whether it fits, in bytes: more does not.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// Lines of the terminal that an answer must leave free: for the next prompt, and for how long it took.
const LINES_LEFT_FREE: usize = 2;

/// What shows a text page by page where PAGER names nothing else.
const PAGER: &str = "less -S";

/// How `less` behaves unless LESS says otherwise: colours are shown, and what was read stays on the screen. It is started
/// for nothing that fits, so it must not leave by itself (`F`): it would, on lines that are few and wide.
const LESS: &str = "RX";

/// What a shell says of a command that it cannot find.
const NOT_FOUND: i32 = 127;

/// The size of a terminal, in columns and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) columns: usize,
    pub(super) lines: usize,
}

impl Room {
    /// That of the terminal on stdout; `None` if it is none, or does not say.
    pub(super) fn of_terminal() -> Option<Self> {
        let (columns, lines) = terminal_size::terminal_size()?;
        Some(Self { columns: columns.0.into(), lines: lines.0.into() })
    }
}

/// Takes the text of one answer. Clones are the same page.
#[derive(Clone, Debug)]
pub(super) struct Page(Rc<RefCell<Sheet>>);

#[derive(Debug)]
struct Sheet {
    to: To,
    pager: String,
    /// Whether a pager shows it.
    shown: watch::Sender<Shown>,
}

#[derive(Debug)]
enum To {
    /// It may fit yet.
    Held(Held),
    Screen,
    Pager(SyncSender<Vec<u8>>),
    /// A pager had it.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    No,
    Yes,
    Left { is_found: bool },
}

impl Page {
    /// A page of which `pager`, a command of `sh`, shows what has no room.
    pub(super) fn new(room: Room, pager: String) -> Self {
        let to = To::Held(Held { room, text: Vec::new(), measured: 0, lines: 0 });
        let shown = watch::Sender::new(Shown::No);
        Self(Rc::new(RefCell::new(Sheet { to, pager, shown })))
    }

    /// Whether a pager has the terminal now, and with it what is typed.
    pub(super) fn is_shown(&self) -> bool {
        *self.0.borrow().shown.borrow() == Shown::Yes
    }

    /// Whether a pager shows it, or has shown it.
    pub(super) fn is_paged(&self) -> bool {
        *self.0.borrow().shown.borrow() != Shown::No
    }

    /// Waits until the reader has left the pager. Does not end if there is none.
    pub(super) fn left(&self) -> impl Future<Output = ()> + use<> {
        let mut shown = self.0.borrow().shown.subscribe();
        async move {
            if shown.wait_for(|shown| matches!(shown, Shown::Left { .. })).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Ends the text, and waits for the reader if there is one.
    pub(super) async fn close(self) -> io::Result<()> {
        let to = std::mem::replace(&mut self.0.borrow_mut().to, To::Closed);
        match to {
            To::Held(held) => {
                io::stdout().write_all(&held.text)?;
                io::stdout().flush()
            }
            To::Screen => io::stdout().flush(),
            To::Closed => Ok(()),
            To::Pager(text) => {
                drop(text);
                self.left().await;
                let sheet = self.0.borrow();
                if *sheet.shown.borrow() == (Shown::Left { is_found: false }) {
                    let pager = safe::line(&sheet.pager);
                    output::remark(format_args!("there is no pager `{pager}`: set PAGER, or \\pager off"));
                }
                Ok(())
            }
        }
    }
}

impl Write for Page {
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] once the reader has left the pager.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let sheet = &mut *self.0.borrow_mut();
        match &mut sheet.to {
            To::Screen => return io::stdout().write(text),
            To::Pager(pager) => {
                let piece = &text[..text.len().min(PIECE_BYTES_MAX)];
                pager.send(piece.to_vec()).map_err(|_left| io::ErrorKind::BrokenPipe)?;
                return Ok(piece.len());
            }
            To::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
            To::Held(held) => {
                held.text.extend_from_slice(text);
                if !held.is_too_large() {
                    return Ok(text.len());
                }
            }
        }
        sheet.show()?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sheet {
    /// Starts the pager with what was held; without one that goes to the screen.
    fn show(&mut self) -> io::Result<()> {
        let To::Held(Held { text, .. }) = std::mem::replace(&mut self.to, To::Screen) else { return Ok(()) };
        let (sender, pieces) = sync_channel(WAITING_PIECES_MAX);
        if let Err(error) = start(&self.pager, pieces, self.shown.clone()) {
            output::remark(format_args!("the pager cannot be started: {error}"));
            return io::stdout().write_all(&text);
        }
        self.to = To::Pager(sender.clone());
        for piece in text.chunks(PIECE_BYTES_MAX) {
            sender.send(piece.to_vec()).map_err(|_left| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

/// Starts a pager, a thread that feeds it, and one that waits for its end.
fn start(pager: &str, pieces: Receiver<Vec<u8>>, shown: watch::Sender<Shown>) -> io::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", pager]).stdin(Stdio::piped()).env_remove("RETRACE_TOKEN");
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", LESS);
    }
    shown.send_replace(Shown::Yes);
    let child = command.spawn().and_then(|mut child| {
        let mut stdin = child.stdin.take().expect("it is piped");
        let feed = move || while pieces.recv().is_ok_and(|piece| stdin.write_all(&piece).is_ok()) {};
        thread::Builder::new().name("pager-feed".to_owned()).spawn(feed)?;
        Ok(child)
    });
    let is_left = shown.clone();
    let waiting = child.and_then(|child| {
        thread::Builder::new().name("pager".to_owned()).spawn(move || is_left.send_replace(end_of(child)))
    });
    if waiting.is_err() {
        shown.send_replace(Shown::No);
    }
    waiting.map(drop)
}

fn end_of(mut child: Child) -> Shown {
    let is_found = child.wait().map_or(true, |status| status.code() != Some(NOT_FOUND));
    Shown::Left { is_found }
}

/// The pager that the environment asks for; `None` if it asks for none, or there is none.
pub(super) fn pager() -> Option<String> {
    match std::env::var("PAGER") {
        Ok(pager) => (!pager.trim().is_empty()).then_some(pager),
        Err(_) => is_installed("less").then(|| PAGER.to_owned()),
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

/// Text that is on no screen yet.
#[derive(Debug)]
struct Held {
    room: Room,
    text: Vec<u8>,
    /// Bytes of it, whole lines, that were measured.
    measured: usize,
    lines: usize,
}

impl Held {
    /// Whether the whole lines of it have no room.
    fn is_too_large(&mut self) -> bool {
        while let Some(length) = self.text[self.measured..].iter().position(|byte| *byte == b'\n') {
            let line = &self.text[self.measured..self.measured + length];
            self.measured += length + 1;
            self.lines += 1;
            if width(line) > self.room.columns || self.lines + LINES_LEFT_FREE > self.room.lines {
                return true;
            }
        }
        self.text.len() > HELD_BYTES_MAX
    }
}

/// Columns that a line takes, its colours aside.
fn width(line: &[u8]) -> usize {
    let line = String::from_utf8_lossy(line);
    let mut parts = line.split('\x1b');
    let plain = parts.next().map_or(0, safe::width);
    let colored = parts.map(|part| part.split_once('m').map_or(0, |(_, text)| safe::width(text)));
    plain + colored.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &[&str]) -> bool {
        let room = Room { columns: 10, lines: 5 };
        let mut held = Held { room, text: Vec::new(), measured: 0, lines: 0 };
        text.iter().any(|part| {
            held.text.extend_from_slice(part.as_bytes());
            held.is_too_large()
        })
    }

    #[test]
    fn what_is_higher_or_wider_than_the_terminal_does_not_fit() {
        assert!(!held(&["a\nb\n", "c\n"]));
        assert!(held(&["a\nb\n", "c\nd\n"]));
        assert!(!held(&["0123456789\n"]));
        assert!(held(&["01234", "567890", "\n"]));
        assert!(!held(&["漢字漢字漢\n"]));
        assert!(held(&["漢字漢字漢字\n"]));
        assert!(!held(&["\x1b[2m012345\x1b[0m6789\n"]));
        assert!(held(&["\x1b[2m012345\x1b[0m67890\n"]));
    }

    fn small() -> Room {
        Room { columns: 80, lines: 4 }
    }

    #[tokio::test]
    async fn a_pager_gets_all_of_what_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("paged");
        let mut page = Page::new(small(), format!("cat > '{}'", file.display()));
        let text: String = (0..50_000).map(|number| format!("{number}\n")).collect();
        page.write_all(text.as_bytes()).unwrap();
        page.close().await.unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }

    #[tokio::test]
    async fn a_reader_who_leaves_ends_the_text() {
        let mut page = Page::new(small(), "head -n 1 > /dev/null".to_owned());
        page.write_all(b"1\n2\n3\n4\n").unwrap();
        page.left().await;
        assert!(!page.is_shown());
        let more = vec![b'\n'; 4 * PIECE_BYTES_MAX];
        let refused = loop {
            // A piece may still be taken after the reader has gone.
            if let Err(error) = page.write_all(&more) {
                break error;
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        page.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_pager_that_is_not_there_is_no_failure() {
        let mut page = Page::new(small(), "retrace-no-such-pager 2> /dev/null".to_owned());
        page.write_all(b"1\n2\n3\n4\n").unwrap();
        page.close().await.unwrap();
    }
}
