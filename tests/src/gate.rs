//! A gate: the folder that `retrace init` made, and the `retrace up` that runs on it.

mod clients;

mod configuration;

mod health;

mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use crate::postgres::{Database, TARGET_PASSWORD};
use crate::{port, run};
pub use health::Health;
use process::Plan;
pub use process::{Process, Surroundings, service_arguments};

use configuration::{MASK, set, target_of};

/// The environment variable that the configuration names for the target's password.
pub const PASSWORD_VARIABLE: &str = "SHOP_PASSWORD";

/// How long starting, stopping or one command line may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gate in a temporary folder. It is killed and its folder removed when this is dropped; when the test failed, what
/// the gate said last is shown first.
#[derive(Debug)]
pub struct Gate {
    folder: tempfile::TempDir,
    postgres_port: u16,
    grpc_port: u16,
    evidence_port: u16,
    up: Option<Process>,
    starts: u32,
}

impl Gate {
    /// Runs `retrace init` and points the configuration at `database`: target `shop`, payment cards and e-mail
    /// addresses masked in part, ports of its own. It does not listen yet.
    #[must_use]
    pub fn new(database: Database<'_>) -> Self {
        Self::made_by(&binary(), database)
    }

    /// The same, made by another `retrace`, such as that of another release.
    #[must_use]
    pub fn made_by(program: &Path, database: Database<'_>) -> Self {
        let folder = tempfile::Builder::new().prefix("retrace-gate-").tempdir().expect("a temporary folder");
        let [postgres_port, grpc_port, evidence_port] = [(); 3].map(|()| port::free());
        let gate = Self { folder, postgres_port, grpc_port, evidence_port, up: None, starts: 0 };
        let mut init = gate.command_of(program);
        init.arg("init").arg(gate.dir());
        let _ = run(init, b"", PATIENCE).expect_ok();
        gate.edit(|config| {
            set(config, &["proxy", "postgres", "listen"], format!("127.0.0.1:{}", gate.postgres_port));
            set(config, &["query", "grpc", "listen"], format!("127.0.0.1:{}", gate.grpc_port));
            set(config, &["query", "postgres", "listen"], format!("127.0.0.1:{}", gate.evidence_port));
        });
        gate.add(&target_of("shop", database));
        gate.add(MASK);
        gate
    }

    /// A gate that listens.
    #[must_use]
    pub fn started(database: Database<'_>) -> Self {
        let mut gate = Self::new(database);
        gate.up();
        gate
    }

    /// The folder that `retrace init` made.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("gate")
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("retrace.toml")
    }

    /// The gate's certificate authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// Where clients go on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.postgres_port
    }

    /// Where the query service listens on 127.0.0.1.
    #[must_use]
    pub fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// Where PostgreSQL clients ask the evidence on 127.0.0.1.
    #[must_use]
    pub fn evidence_port(&self) -> u16 {
        self.evidence_port
    }

    /// The token of the principal `dev`.
    #[must_use]
    pub fn dev_token(&self) -> String {
        fs::read_to_string(self.dir().join("dev.token")).expect("init wrote it").trim().to_owned()
    }

    /// Starts `retrace up` and waits for its `ready`.
    #[track_caller]
    pub fn up(&mut self) {
        self.up_within(Surroundings::default());
    }

    /// Starts `retrace up` within `surroundings` and waits for its `ready`.
    #[track_caller]
    pub fn up_within(&mut self, surroundings: Surroundings) {
        let up = self.try_up_within(surroundings);
        up.unwrap_or_else(|error| panic!("retrace up ended before it was ready: {error}"));
    }

    /// Starts `retrace up`; gives its standard error if it ends before it is ready.
    #[track_caller]
    pub fn try_up(&mut self) -> Result<(), String> {
        self.try_up_within(Surroundings::default())
    }

    #[track_caller]
    fn try_up_within(&mut self, surroundings: Surroundings) -> Result<(), String> {
        assert!(self.up.is_none(), "the gate is up already");
        self.starts += 1;
        let plan = Plan {
            role: "up".to_owned(),
            config: self.config_file(),
            output: self.folder.path().join(self.starts.to_string()),
            surroundings,
        };
        let (up, line) = Process::start(plan, self.postgres_port)?;
        let listeners =
            [("postgres", self.postgres_port), ("grpc", self.grpc_port), ("evidence", self.evidence_port)];
        for (name, port) in listeners {
            let address = format!("{name}=127.0.0.1:{port}");
            assert!(line.split_whitespace().any(|word| word == address), "{address} is not in: {line}");
        }
        self.up = Some(up);
        Ok(())
    }

    /// The process of `retrace up`.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.up.as_ref().expect("the gate is up").pid()
    }

    /// Whether `retrace up` still runs.
    pub fn runs(&mut self) -> bool {
        self.up.as_mut().is_some_and(Process::runs)
    }

    /// Ends `retrace up` by SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.up.take().expect("the gate is up").kill();
    }

    /// Ends `retrace up` by SIGTERM.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.up.take().expect("the gate is up").stop()
    }

    /// Sends `retrace up` a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.up.as_ref().expect("the gate is up").signal(signal);
    }

    /// Waits until `retrace up` has ended.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        self.up.take().expect("the gate is up").end()
    }

    /// Everything that `retrace up` wrote to standard output and standard error, over all its starts.
    #[must_use]
    pub fn said(&self) -> Vec<u8> {
        let mut files: Vec<_> = fs::read_dir(self.folder.path())
            .expect("the folder is there")
            .map(|entry| entry.expect("the folder can be read").path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        files.into_iter().flat_map(|path| fs::read(path).expect("the file can be read")).collect()
    }

    /// `retrace`, away from whatever the tests' own surroundings say of a configuration or a token.
    fn command(&self) -> Command {
        self.command_of(&binary())
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_remove("RETRACE_TOKEN").env_remove("RETRACE_CONFIG");
        command.env(PASSWORD_VARIABLE, TARGET_PASSWORD);
        command
    }
}

impl Drop for Gate {
    #[allow(clippy::print_stderr, reason = "a failed test should show what the gate said")]
    fn drop(&mut self) {
        drop(self.up.take());
        let said = String::from_utf8_lossy(&self.said()).into_owned();
        if std::thread::panicking() {
            let lines: Vec<_> = said.lines().collect();
            eprintln!("the gate said last:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        } else {
            assert!(!said.contains("panicked at"), "the gate panicked:\n{said}");
        }
    }
}

/// The `retrace` beside the running test, or the one that `RETRACE_BIN` names.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RETRACE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).expect("a folder");
    let path = folder.join("retrace");
    assert!(path.exists(), "{} is not built; run `make build`", path.display());
    path
}

/// Every file under `folder`.
#[must_use]
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
