//! One running `retrace`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use super::{Gate, Health, PASSWORD_VARIABLE, PATIENCE, binary, set};
use crate::postgres::TARGET_PASSWORD;
use crate::run::end_of;
use crate::{port, wait_for};

/// A service that runs on a gate's folder, until this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Port of its gate on 127.0.0.1, if it has one.
    pub postgres_port: u16,
    /// Where it tells of its health, if it does and was started beside the first.
    pub health: Option<Health>,
    plan: Plan,
    starts: u32,
}

/// What a test puts around a service.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// A command that becomes the command after it, such as `nsenter`: it must not go on as another process.
    pub wrapper: Vec<String>,
    /// Further variables of the environment.
    pub environment: Vec<(String, String)>,
    /// Another `retrace` than the one beside the running test, such as that of another release.
    pub program: Option<PathBuf>,
}

/// How a service is started, each time.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) role: String,
    pub(super) config: PathBuf,
    /// Where its output goes, with a name for each start.
    pub(super) output: PathBuf,
    pub(super) surroundings: Surroundings,
}

impl Process {
    /// Starts `retrace ROLE` and waits for its `ready`; gives its standard error if it ends before.
    pub(super) fn start(plan: Plan, postgres_port: u16) -> Result<(Self, String), String> {
        let mut started = Self::spawn(plan, postgres_port);
        let ready = started.plan.wait_until_ready(&mut started.child, 1)?;
        Ok((started, ready))
    }

    /// Starts a service on a configuration of no gate, its output going to files whose names begin with `output`; gives the
    /// line that says where it serves, too.
    #[must_use]
    #[track_caller]
    pub fn of(role: &str, config: &Path, output: &Path) -> (Self, String) {
        let postgres_port = listener_port(config);
        let (config, output) = (config.to_owned(), output.to_owned());
        let plan = Plan { role: role.to_owned(), config, output, surroundings: Surroundings::default() };
        let started = Self::start(plan, postgres_port);
        started.unwrap_or_else(|error| panic!("retrace {role} ended before it was ready: {error}"))
    }

    /// Starts `retrace ROLE`; it is not ready yet.
    fn spawn(plan: Plan, postgres_port: u16) -> Self {
        Self { child: plan.spawn(1), postgres_port, health: None, plan, starts: 1 }
    }

    #[track_caller]
    fn expect_ready(mut self) -> Self {
        if let Err(error) = self.plan.wait_until_ready(&mut self.child, self.starts) {
            panic!("retrace {} ended before it was ready: {error}", self.plan.role);
        }
        self
    }

    /// The configuration it runs on.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.plan.config
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
        assert!(self.runs(), "{} ended by itself before", self.plan.role);
        self.child.kill().expect("an unreaped child can be killed");
        self.child.wait().expect("a killed child can be reaped");
    }

    /// Ends it by SIGTERM.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let status = end_of(&mut self.child, PATIENCE);
        if status.is_none() {
            let _ = self.child.kill();
        }
        status.unwrap_or_else(|| panic!("retrace {} did not stop within {PATIENCE:?}", self.plan.role))
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
        fs::read_to_string(self.plan.file(self.starts, "stderr")).unwrap_or_default()
    }

    /// Starts it again after it ended, as another `retrace`: that of `program`, or the one beside the running test.
    #[track_caller]
    pub fn restart_as(&mut self, program: Option<&Path>) {
        self.plan.surroundings.program = program.map(Path::to_owned);
        self.restart();
    }

    /// Starts it again after it ended.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(!self.runs(), "{} runs", self.plan.role);
        self.starts += 1;
        self.child = self.plan.spawn(self.starts);
        let ready = self.plan.wait_until_ready(&mut self.child, self.starts);
        let _ = ready.unwrap_or_else(|error| panic!("{}: {error}", self.plan.role));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plan {
    /// Where a start's output goes.
    fn file(&self, start: u32, stream: &str) -> PathBuf {
        let mut path = self.output.as_os_str().to_owned();
        path.push(format!("-{start}-{stream}"));
        path.into()
    }

    fn spawn(&self, start: u32) -> Child {
        let file = |stream| self.file(start, stream);
        let Surroundings { wrapper, environment, program } = &self.surroundings;
        let program = program.clone().unwrap_or_else(binary);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(wrapper).arg(program);
        command.args(service_arguments(&self.role, &self.config));
        command.env(PASSWORD_VARIABLE, TARGET_PASSWORD).env("RUST_BACKTRACE", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdout(File::create(file("stdout")).expect("the folder is writable"));
        command.stderr(File::create(file("stderr")).expect("the folder is writable"));
        command.spawn().expect("setpriv starts; util-linux has it")
    }

    /// Its `ready`, or its standard error if it ends before.
    #[track_caller]
    fn wait_until_ready(&self, child: &mut Child, start: u32) -> Result<String, String> {
        let read = |stream| fs::read_to_string(self.file(start, stream)).unwrap_or_default();
        let ready = wait_for("retrace is ready", PATIENCE, || {
            if child.try_wait().expect("a child can be waited for").is_some() {
                return Some(None);
            }
            let said = read("stdout");
            let line =
                said.split_inclusive('\n').find(|line| line.starts_with("ready") && line.ends_with('\n'));
            line.map(|line| Some(line.to_owned()))
        });
        ready.ok_or_else(|| read("stderr"))
    }
}

impl Gate {
    /// Starts one service on the gate's own configuration: `proxy`, `ingest` or `query`.
    #[must_use]
    #[track_caller]
    pub fn service(&self, role: &str) -> Process {
        self.service_within(Surroundings::default(), role)
    }

    /// The same, within `surroundings`.
    #[must_use]
    #[track_caller]
    pub fn service_within(&self, surroundings: Surroundings, role: &str) -> Process {
        self.spawn_service(role, role, self.config_file(), surroundings).expect_ready()
    }

    /// Starts several others at once: so many of each role, numbered from 1.
    #[must_use]
    #[track_caller]
    pub fn services<const N: usize>(&self, roles: [(&str, u32); N]) -> [Vec<Process>; N] {
        // Not on threads: the kernel ends a process with the thread that started it.
        let started = roles.map(|(role, count)| -> Vec<_> {
            (1..=count).map(|number| self.spawn_in(Surroundings::default(), role, number, |_| ())).collect()
        });
        started.map(|started| started.into_iter().map(Process::expect_ready).collect())
    }

    /// Starts another one, on a copy of the configuration that differs in where it listens.
    #[must_use]
    #[track_caller]
    pub fn another_service(&self, role: &str, number: u32) -> Process {
        self.service_in(Surroundings::default(), role, number, |_| ())
    }

    /// Starts another one within `surroundings`, on a copy of the configuration that differs in where it listens and in
    /// what `change` changes.
    #[must_use]
    #[track_caller]
    pub fn service_in(
        &self,
        surroundings: Surroundings,
        role: &str,
        number: u32,
        change: impl FnOnce(&mut toml::Table),
    ) -> Process {
        self.spawn_in(surroundings, role, number, change).expect_ready()
    }

    #[track_caller]
    fn spawn_in(
        &self,
        surroundings: Surroundings,
        role: &str,
        number: u32,
        change: impl FnOnce(&mut toml::Table),
    ) -> Process {
        let text = fs::read_to_string(self.config_file()).expect("init wrote it");
        let mut config: toml::Table = text.parse().expect("init writes TOML");
        for listener in
            [["proxy", "postgres", "listen"], ["query", "grpc", "listen"], ["query", "postgres", "listen"]]
        {
            set(&mut config, &listener, format!("127.0.0.1:{}", port::free()));
        }
        change(&mut config);
        let health_port = config.get("health").map(|_| port::free());
        if let Some(port) = health_port {
            set(&mut config, &["health", "listen"], format!("127.0.0.1:{port}"));
        }
        let name = format!("{role}-{number}");
        let file = self.dir().join(format!("{name}.toml"));
        fs::write(&file, config.to_string()).expect("the folder is writable");
        let mut process = self.spawn_service(role, &name, file, surroundings);
        process.health = health_port.map(Health);
        process
    }

    #[track_caller]
    fn spawn_service(&self, role: &str, name: &str, config: PathBuf, surroundings: Surroundings) -> Process {
        let postgres_port = listener_port(&config);
        let output = self.folder.path().join(name);
        let plan = Plan { role: role.to_owned(), config, output, surroundings };
        Process::spawn(plan, postgres_port)
    }
}

/// How a service is started on a configuration.
#[must_use]
pub fn service_arguments(role: &str, config: &Path) -> [OsString; 3] {
    [role.into(), "--config".into(), config.into()]
}

/// Where a configuration has clients come in.
fn listener_port(config: &Path) -> u16 {
    let text = fs::read_to_string(config).expect("the configuration is there");
    let config: toml::Table = text.parse().expect("the configuration is TOML");
    let address = config["proxy"]["postgres"]["listen"].as_str().expect("an address").to_owned();
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address ends with a port")
}
