//! What comes to a gate: psql, pgbench, and `retrace` itself.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Gate, PATIENCE, Process};
use crate::postgres::{PSQL_ARGUMENTS, program};
use crate::{Outcome, run};

/// How long a question may take: longer than the query service itself gives it, so that what is late is told.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);

impl Gate {
    /// Runs `retrace` with `arguments` and this gate's configuration, as `dev`.
    #[track_caller]
    pub fn retrace(&self, arguments: &[&str]) -> Outcome {
        self.retrace_as(None, arguments)
    }

    /// Runs `retrace` as the holder of `token`.
    #[track_caller]
    pub fn retrace_as(&self, token: Option<&str>, arguments: &[&str]) -> Outcome {
        run(self.retrace_command(token, arguments), b"", ANSWER_PATIENCE)
    }

    /// The command line that [`Gate::retrace_as`] runs.
    #[must_use]
    pub fn retrace_command(&self, token: Option<&str>, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(self.config_file());
        if let Some(token) = token {
            command.env("RETRACE_TOKEN", token);
        }
        command
    }

    /// The rows of `retrace sql` as `dev`.
    #[must_use]
    #[track_caller]
    pub fn sql(&self, statement: &str) -> Vec<Value> {
        self.sql_as(None, statement)
    }

    /// The rows of `retrace sql` as the holder of `token`.
    #[must_use]
    #[track_caller]
    pub fn sql_as(&self, token: Option<&str>, statement: &str) -> Vec<Value> {
        let printed = self.retrace_as(token, &["sql", "--format", "json", statement]).expect_ok();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in: {printed}"))
    }

    /// The rows of `retrace sql` as `dev`, asked of one query service; what it said if it did not answer.
    pub fn sql_of(&self, query: &Process, statement: &str) -> Result<Vec<Value>, String> {
        let mut command = self.command();
        command.args(["sql", "--format", "json", statement, "--config"]).arg(query.config_file());
        let outcome = run(command, b"", ANSWER_PATIENCE);
        if !outcome.status.success() {
            return Err(outcome.err());
        }
        let printed = outcome.out();
        Ok(serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in: {printed}")))
    }

    /// The one number that `statement` gives as its column `n`.
    #[must_use]
    #[track_caller]
    pub fn number(&self, statement: &str) -> u64 {
        let rows = self.sql(statement);
        rows.first().and_then(|row| row["n"].as_u64()).unwrap_or_else(|| panic!("no number n in {rows:?}"))
    }

    /// The items of `retrace replay SESSION --format json`.
    #[must_use]
    #[track_caller]
    pub fn replay(&self, session: &str) -> Vec<Value> {
        let printed = self.retrace(&["replay", session, "--instant", "--format", "json"]).expect_ok();
        let items = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
        items.map(|item| item.unwrap_or_else(|error| panic!("{error} in: {printed}"))).collect()
    }

    /// A psql of `dev` at the target `shop`, the gate's certificate verified in full.
    #[must_use]
    pub fn psql_command(&self) -> Command {
        self.psql_command_as("dev", &self.dev_token())
    }

    /// A psql of another principal.
    #[must_use]
    pub fn psql_command_as(&self, principal: &str, token: &str) -> Command {
        let mut command = self.client("psql", principal, token);
        command.args(["-X", "-d", "shop"]);
        command
    }

    /// Runs `script` in [`Gate::psql_command`]; rows unaligned, without headings.
    #[track_caller]
    pub fn psql(&self, script: &str) -> Outcome {
        let mut command = self.psql_command();
        command.args(PSQL_ARGUMENTS);
        run(command, script.as_bytes(), PATIENCE)
    }

    /// Runs `script` in a psql of a principal that asks the evidence.
    #[track_caller]
    pub fn psql_at_evidence(&self, principal: &str, token: &str, script: &str) -> Outcome {
        let mut command = self.psql_command_as(principal, token);
        command.args(PSQL_ARGUMENTS).args(["-p", &self.evidence_port().to_string(), "-d", "retrace"]);
        run(command, script.as_bytes(), PATIENCE)
    }

    /// Runs pgbench through the gate.
    #[track_caller]
    pub fn pgbench(&self, arguments: &[&str], patience: Duration) -> Outcome {
        run(self.pgbench_command(arguments), b"", patience)
    }

    /// A pgbench of `dev` at the target `shop`.
    #[must_use]
    pub fn pgbench_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.client("pgbench", "dev", &self.dev_token());
        command.args(arguments).arg("shop");
        command
    }

    /// A client program that comes to the gate.
    fn client(&self, name: &str, principal: &str, token: &str) -> Command {
        let mut command = Command::new(program(name));
        command.args(["-h", "127.0.0.1", "-p", &self.postgres_port.to_string(), "-U", principal]);
        command.env("PGPASSWORD", token).env("PGCONNECT_TIMEOUT", "30");
        command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", self.ca());
        command
    }
}
