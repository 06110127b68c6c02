//! A TCP load balancer: a real HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::leash::{Ending, Leash};
use crate::{port, wait_for};

/// How long it may take to start, or to find that a server serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server to which clients are led.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where it is: an address and a port.
    pub address: String,
    /// Where `/readyz` says whether it takes clients; if nowhere, that it takes connections must do.
    pub readiness: Option<String>,
}

impl Backend {
    /// A server on 127.0.0.1 that says nothing of its readiness.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self { address: format!("127.0.0.1:{port}"), readiness: None }
    }
}

/// A balancer that leads each connection to the server with the fewest, of those that are ready. It goes when this is
/// dropped or the process ends, whichever way.
#[derive(Debug)]
pub struct HaProxy {
    port: u16,
    folder: PathBuf,
    _leash: Leash,
}

impl HaProxy {
    /// Starts one on 127.0.0.1.
    #[must_use]
    #[track_caller]
    pub fn before(backends: &[Backend]) -> Self {
        Self::listening("127.0.0.1", backends)
    }

    /// Starts one on another address of this machine.
    #[must_use]
    #[track_caller]
    pub fn listening(address: &str, backends: &[Backend]) -> Self {
        let folder =
            tempfile::Builder::new().prefix("retrace-haproxy-").tempdir().expect("a temporary folder").keep();
        let port = port::free();
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration(&folder, &format!("{address}:{port}"), backends))
            .expect("the folder is writable");
        let arguments = haproxy_arguments(&file.display().to_string());
        let leash =
            Leash::start(&folder, &program(), &arguments, None, Ending::Killed).expect("the keeper starts");
        let haproxy = Self { port, folder, _leash: leash };
        for server in 0..backends.len() {
            haproxy.wait_until_up(server);
        }
        haproxy
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it leads clients to the server, counted from 0.
    #[track_caller]
    pub fn wait_until_up(&self, server: usize) {
        wait_for("the balancer finds the server up", PATIENCE, || {
            self.states().get(server).is_some_and(|status| status == "UP").then_some(())
        });
    }

    /// The state of each server; of none as long as the balancer does not answer.
    fn states(&self) -> Vec<String> {
        let said = self.command("show stat");
        let mut lines = said.lines();
        let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
        let Some(index) = names.iter().position(|name| *name == "status") else { return Vec::new() };
        let rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
        let servers = rows.filter(|row| row.len() > index && row[1] != "FRONTEND" && row[1] != "BACKEND");
        servers.map(|row| row[index].to_owned()).collect()
    }

    fn command(&self, command: &str) -> String {
        let Ok(mut socket) = UnixStream::connect(self.folder.join("admin")) else { return String::new() };
        let mut said = String::new();
        let asked = socket.write_all(format!("{command}\n").as_bytes());
        let _ = asked.and_then(|()| socket.read_to_string(&mut said));
        said
    }
}

fn program() -> PathBuf {
    let packaged = Path::new("/usr/sbin/haproxy");
    assert!(packaged.exists(), "{} is not there; run `make test`", packaged.display());
    packaged.to_owned()
}

/// The load balancer of docker-compose.yml. What comes before its addresses is every balancer's: a client that a server
/// did not take, for one, is led to another one without a pause.
const DEPLOYED: &str = include_str!("../../deploy/haproxy.cfg");

/// How a balancer is started on a configuration.
#[must_use]
pub fn haproxy_arguments(file: &str) -> [String; 3] {
    ["-db", "-f", file].map(str::to_owned)
}

fn configuration(folder: &Path, listen: &str, backends: &[Backend]) -> String {
    let (every, _) = DEPLOYED.split_once("\nresolvers ").expect("addresses come last");
    let asks = backends.iter().any(|backend| backend.readiness.is_some());
    let mut lines = Vec::new();
    for line in every.lines().filter(|line| asks || !line.contains("option httpchk")) {
        lines.push(line.to_owned());
        if line == "global" {
            lines.push(format!("    stats socket {} level admin", folder.join("admin").display()));
        }
    }
    lines.extend(["listen servers".to_owned(), format!("    bind {listen}")]);
    for (index, Backend { address, readiness }) in backends.iter().enumerate() {
        let asked = readiness.as_ref().map(|address| format!(" addr {}", address.replace(':', " port ")));
        lines.push(format!("    server s{index} {address} check{}", asked.unwrap_or_default()));
    }
    lines.join("\n") + "\n"
}
