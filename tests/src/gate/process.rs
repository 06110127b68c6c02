//! One running `retrace`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use super::{Gate, PASSWORD_VARIABLE, PATIENCE, binary, set};
use crate::postgres::TARGET_PASSWORD;
use crate::run::end_of;
use crate::{port, wait_for};

/// A service that runs on a gate's folder, until this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Port of its gate on 127.0.0.1, if it has one.
    pub postgres_port: u16,
    role: String,
    config: PathBuf,
    /// Where its output goes, with a name for each start.
    output: PathBuf,
    starts: u32,
}

impl Process {
    /// Starts `retrace ROLE` and waits for its `ready`; gives its standard error if it ends before.
    pub(super) fn start(
        role: &str,
        config: &Path,
        output: &Path,
        postgres_port: u16,
    ) -> Result<(Self, String), String> {
        let (child, ready) = launch(role, config, output, 1)?;
        let (role, config, output) = (role.to_owned(), config.to_owned(), output.to_owned());
        Ok((Self { child, postgres_port, role, config, output, starts: 1 }, ready))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Ends it by SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        assert!(self.runs(), "{} ended by itself before", self.role);
        self.child.kill().expect("an unreaped child can be killed");
        self.child.wait().expect("a killed child can be reaped");
    }

    /// Ends it by SIGTERM.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = end_of(&mut self.child, PATIENCE);
        if status.is_none() {
            let _ = self.child.kill();
        }
        status.unwrap_or_else(|| panic!("retrace {} did not stop within {PATIENCE:?}", self.role))
    }

    /// Sends it a signal, such as those that pause it and wake it.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("an unreaped child can be signalled");
    }

    /// What it wrote to standard error since its last start.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(file(&self.output, self.starts, "stderr")).unwrap_or_default()
    }

    /// Starts it again after it ended.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(!self.runs(), "{} runs", self.role);
        self.starts += 1;
        let launched = launch(&self.role, &self.config, &self.output, self.starts);
        self.child = launched.unwrap_or_else(|error| panic!("{}: {error}", self.role)).0;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a start's output goes.
fn file(output: &Path, start: u32, stream: &str) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(format!("-{start}-{stream}"));
    path.into()
}

fn launch(role: &str, config: &Path, output: &Path, start: u32) -> Result<(Child, String), String> {
    let file = |stream| file(output, start, stream);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).arg(role).arg("--config").arg(config);
    command.env(PASSWORD_VARIABLE, TARGET_PASSWORD).env("RUST_BACKTRACE", "1");
    command.stdout(File::create(file("stdout")).expect("the folder is writable"));
    command.stderr(File::create(file("stderr")).expect("the folder is writable"));
    let mut child = command.spawn().expect("setpriv starts; util-linux has it");
    let ready = wait_for("retrace is ready", PATIENCE, || {
        if child.try_wait().expect("a child can be waited for").is_some() {
            return Some(None);
        }
        let said = fs::read_to_string(file("stdout")).unwrap_or_default();
        let line = said.split_inclusive('\n').find(|line| line.starts_with("ready") && line.ends_with('\n'));
        line.map(|line| Some(line.to_owned()))
    });
    match ready {
        Some(line) => Ok((child, line)),
        None => Err(fs::read_to_string(file("stderr")).unwrap_or_default()),
    }
}

impl Gate {
    /// Starts one service on the gate's own configuration: `proxy`, `ingest` or `query`.
    #[must_use]
    #[track_caller]
    pub fn service(&self, role: &str) -> Process {
        let output = self.folder.path().join(role);
        let started = Process::start(role, &self.config_file(), &output, self.port());
        started.unwrap_or_else(|error| panic!("retrace {role} ended before it was ready: {error}")).0
    }

    /// Starts another one, on a copy of the configuration that differs in where it listens.
    #[must_use]
    #[track_caller]
    pub fn another_service(&self, role: &str, number: u32) -> Process {
        let text = fs::read_to_string(self.config_file()).expect("init wrote it");
        let mut config: toml::Table = text.parse().expect("init writes TOML");
        let postgres_port = port::free();
        for (listener, port) in [
            (["proxy", "postgres", "listen"], postgres_port),
            (["query", "grpc", "listen"], port::free()),
            (["query", "postgres", "listen"], port::free()),
        ] {
            set(&mut config, &listener, format!("127.0.0.1:{port}"));
        }
        let file = self.dir().join(format!("{role}-{number}.toml"));
        fs::write(&file, config.to_string()).expect("the folder is writable");
        let output = self.folder.path().join(format!("{role}-{number}"));
        let started = Process::start(role, &file, &output, postgres_port);
        started.unwrap_or_else(|error| panic!("retrace {role} ended before it was ready: {error}")).0
    }
}
