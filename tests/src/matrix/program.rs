//! Clients that are programs of their own, under `tests/matrix`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Transcript, Way, Workload};
use crate::run::try_run;
use crate::{cache, checkout};

/// How long one client may take for all its checks.
const PATIENCE: Duration = Duration::from_secs(180);

/// psycopg 3, which `scripts/clients` installs.
#[must_use]
pub fn psycopg() -> Workload {
    python("psycopg", "psycopg_client.py")
}

/// asyncpg.
#[must_use]
pub fn asyncpg() -> Workload {
    python("asyncpg", "asyncpg_client.py")
}

/// node-postgres with its cursors and streams.
#[must_use]
pub fn node_postgres() -> Workload {
    Workload::new("node-postgres", |way| {
        let mut command = Command::new("node");
        command.arg(source("node/client.js")).env("NODE_PATH", installed("node/node_modules"));
        transcript_of(command, way)
    })
}

/// sqlx.
#[must_use]
pub fn sqlx() -> Workload {
    Workload::new("sqlx", |way| transcript_of(Command::new(installed("sqlx/debug/sqlx-client")), way))
}

fn python(name: &'static str, script: &'static str) -> Workload {
    Workload::new(name, move |way| {
        let mut command = Command::new(installed("venv/bin/python"));
        command.arg("-B").arg(source("python").join(script));
        transcript_of(command, way)
    })
}

fn transcript_of(mut command: Command, way: &Way) -> Transcript {
    way.show_to(&mut command);
    let program = PathBuf::from(command.get_program());
    let outcome = match try_run(command, b"", PATIENCE) {
        Ok(outcome) => outcome,
        Err(error) => return Transcript { broken: Some(error.to_string()), ..Transcript::default() },
    };
    let mut transcript = Transcript::read(&outcome.out());
    if !outcome.status.success() {
        let program = program.display();
        transcript.broken = Some(format!("{program} ended with {}: {}", outcome.status, outcome.err()));
    }
    transcript
}

/// A client of this project's own.
fn source(path: &str) -> PathBuf {
    checkout("tests/matrix").join(path)
}

/// What `scripts/clients` installed.
fn installed(path: &str) -> PathBuf {
    let path = cache("RETRACE_CLIENTS", "clients").join(path);
    assert!(path.exists(), "{} is not there; run `make matrix` or `make test`", path.display());
    path
}
