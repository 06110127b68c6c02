//! A network of its own for a process, tied to this machine's by links that can be cut.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::gate::Surroundings;
use crate::leash::{Ending, Leash};
use crate::{run, wait_for};

/// How long one step of setting it up may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace. Its links go with it, when this is dropped or the process ends, whichever way.
#[derive(Debug)]
pub struct Namespace {
    leash: Leash,
    folder: PathBuf,
}

/// A pair of interfaces, one here and one in a namespace, each with an address that only the other reaches.
#[derive(Debug)]
pub struct Link {
    /// The address here.
    pub here: String,
    /// The address in the namespace.
    pub there: String,
    name: String,
    namespace: u32,
}

impl Namespace {
    /// Makes one, without any link.
    ///
    /// # Panics
    /// Without the right to make one.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes a network namespace with links to cut, which only root may: run it as root, or in a container \
             that has CAP_NET_ADMIN and CAP_SYS_ADMIN"
        );
        let folder =
            tempfile::Builder::new().prefix("retrace-netns-").tempdir().expect("a temporary folder").keep();
        let arguments = ["--net", "sleep", "infinity"].map(str::to_owned);
        let leash = Leash::start(&folder, Path::new("unshare"), &arguments, None, Ending::Killed)
            .expect("the keeper starts");
        let namespace = Self { leash, folder };
        wait_for("the namespace is there", PATIENCE, || namespace.is_there().then_some(()));
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Ties it to this machine.
    #[must_use]
    #[track_caller]
    pub fn link(&self) -> Link {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Of the range that is set aside for trying networks out (RFC 2544), by process so that two runs do not meet.
        let process = std::process::id();
        let net = format!("198.{}.{}", 18 + process % 2, process / 2 % 256);
        let (here, there) = (format!("{net}.{}", number * 4 + 1), format!("{net}.{}", number * 4 + 2));
        let name = format!("rt{process}-{number}");
        let pid = self.leash.pid();
        ip(&["link", "add", &name, "type", "veth", "peer", "name", &name, "netns", &pid.to_string()]);
        ip(&["address", "add", &format!("{here}/30"), "dev", &name]);
        ip(&["link", "set", &name, "up"]);
        self.ip(&["address", "add", &format!("{there}/30"), "dev", &name]);
        self.ip(&["link", "set", &name, "up"]);
        Link { here, there, name, namespace: pid }
    }

    /// What runs a service in it.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        Surroundings { wrapper: enter(self.leash.pid()), ..Surroundings::default() }
    }

    /// Whether the process on the leash has left this machine's own network.
    fn is_there(&self) -> bool {
        let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(log.is_empty(), "no network namespace can be made here: {log}");
        let there = network(&self.leash.pid().to_string());
        there.is_some() && there != network("self")
    }

    #[track_caller]
    fn ip(&self, arguments: &[&str]) {
        ip_in(self.leash.pid(), arguments);
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// Cuts it: what is sent on it is lost, and nobody is told.
    #[track_caller]
    pub fn cut(&self) {
        ip_in(self.namespace, &["link", "set", &self.name, "down"]);
    }

    /// Mends it.
    #[track_caller]
    pub fn mend(&self) {
        ip_in(self.namespace, &["link", "set", &self.name, "up"]);
    }
}

/// Becomes the command after it, in the network of a process.
fn enter(pid: u32) -> Vec<String> {
    vec!["nsenter".to_owned(), format!("--net=/proc/{pid}/ns/net"), "--".to_owned()]
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let mut command = Command::new("ip");
    command.args(arguments);
    let _ = run(command, b"", PATIENCE).expect_ok();
}

#[track_caller]
fn ip_in(pid: u32, arguments: &[&str]) {
    let enter = enter(pid);
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]).arg("ip").args(arguments);
    let _ = run(command, b"", PATIENCE).expect_ok();
}
