//! Commands and conditions with deadlines.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a command left.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output of a command that succeeded; panics with what it said if it did not.
    #[must_use]
    #[track_caller]
    pub fn expect_ok(&self) -> String {
        assert!(self.status.success(), "{}\nstdout: {}\nstderr: {}", self.status, self.out(), self.err());
        self.out()
    }

    /// Standard error of a command that failed; panics if it succeeded.
    #[must_use]
    #[track_caller]
    pub fn expect_failure(&self) -> String {
        assert!(!self.status.success(), "it succeeded\nstdout: {}\nstderr: {}", self.out(), self.err());
        self.err()
    }
}

/// Runs `command` to its end, with `stdin` as its input; kills it and panics after `patience`.
#[track_caller]
pub fn run(command: Command, stdin: &[u8], patience: Duration) -> Outcome {
    try_run(command, stdin, patience).unwrap_or_else(|error| panic!("{error}"))
}

/// Why there is no outcome: the command does not start, or it was killed when patience ended.
#[derive(Debug)]
pub(crate) struct NoOutcome(String);

impl std::fmt::Display for NoOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// [`run`], for a caller that goes on without an outcome.
pub(crate) fn try_run(mut command: Command, stdin: &[u8], patience: Duration) -> Result<Outcome, NoOutcome> {
    let name = format!("{:?}", command.get_program());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| NoOutcome(format!("{name} does not start: {error}")))?;
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    let mut input = child.stdin.take().expect("stdin is piped");
    // A command may end without reading its input; that is its business.
    let _ = input.write_all(stdin);
    drop(input);
    let status = end_of(&mut child, patience);
    if status.is_none() {
        child.kill().expect("an unreaped child can be killed");
        child.wait().expect("a killed child can be reaped");
    }
    let (stdout, stderr) = (stdout.join().expect("drained"), stderr.join().expect("drained"));
    let Some(status) = status else {
        return Err(NoOutcome(format!(
            "{name} did not end within {patience:?}\nstdout: {}\nstderr: {}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        )));
    };
    Ok(Outcome { status, stdout, stderr })
}

/// Reads all of `pipe` on a thread of its own, so that a child never waits for its reader.
fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still what it wrote.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Waits for the end of `child`; `None` if `patience` ran out first.
pub(crate) fn end_of(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("a child of this process can be waited for") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks until `condition` gives something; panics naming `what` after `patience`.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}
