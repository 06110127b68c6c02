//! The way a client comes: directly, or through the gate.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres::{TARGET_PASSWORD, TARGET_USER, program};
use crate::{Database, Gate};

/// Where a client goes, and as whom.
#[derive(Debug)]
pub struct Way {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// The role, or the principal.
    pub user: String,
    /// Its password, or its token.
    pub password: String,
    /// The database, or the target.
    pub database: String,
    /// The certificate authority to trust; without one the way is not encrypted.
    pub ca: Option<PathBuf>,
    folder: tempfile::TempDir,
}

impl Way {
    /// To the target as its own role.
    #[must_use]
    pub fn direct(database: Database<'_>) -> Self {
        Self {
            port: database.postgres.port(),
            user: TARGET_USER.to_owned(),
            password: TARGET_PASSWORD.to_owned(),
            database: database.name(),
            ca: None,
            folder: folder(),
        }
    }

    /// To the target `shop` as `dev`.
    #[must_use]
    pub fn through(gate: &Gate) -> Self {
        Self::through_to(gate, "shop")
    }

    /// To another target as `dev`.
    #[must_use]
    pub fn through_to(gate: &Gate, target: &str) -> Self {
        Self {
            port: gate.port(),
            user: "dev".to_owned(),
            password: gate.dev_token(),
            database: target.to_owned(),
            ca: Some(gate.ca()),
            folder: folder(),
        }
    }

    /// The same way at another port, with another authority to trust.
    #[must_use]
    pub fn at(self, port: u16, ca: PathBuf) -> Self {
        Self { port, ca: Some(ca), ..self }
    }

    /// A folder for the client's files, which goes with this.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program of PostgreSQL that comes this way.
    #[must_use]
    pub fn postgres_program(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        self.show_to(&mut command);
        command
    }

    /// Tells a program the way, by the variables that libpq reads.
    pub fn show_to(&self, command: &mut Command) {
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string());
        command.env("PGUSER", &self.user).env("PGPASSWORD", &self.password);
        command.env("PGDATABASE", &self.database).env("PGCONNECT_TIMEOUT", "30");
        match &self.ca {
            Some(ca) => command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", ca),
            None => command.env("PGSSLMODE", "disable").env_remove("PGSSLROOTCERT"),
        };
        command.current_dir(self.folder());
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("retrace-client-").tempdir().expect("a temporary folder")
}
