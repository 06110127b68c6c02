//! The engines' programs, under `tests/engines`; `scripts/engines` installs what they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::matrix::Transcript;
use crate::run::try_run;
use crate::{S3, S3_ACCESS_KEY, S3_SECRET_KEY, cache, checkout};

/// How long one engine may take for all its questions. Of each minute most is Spark's start.
const PATIENCE: Duration = Duration::from_secs(240);

/// An engine and a way of reading.
#[derive(Debug)]
pub struct Engine {
    /// Both, as the table shows them.
    pub name: &'static str,
    interpreter: &'static str,
    script: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// Those that must agree: each on the folder of the table, and those that follow the table's log themselves on its copy in
/// a bucket too.
pub(super) fn engines(table: &Path, copy: &str, s3: &S3) -> Vec<Engine> {
    let folder = || table.display().to_string();
    let on = |name, interpreter, script, table| Engine {
        name,
        interpreter,
        script,
        arguments: vec![table],
        environment: Vec::new(),
    };
    vec![
        on("DuckDB", "duckdb-delta", "ask_duckdb.py", folder()),
        on("DuckDB, S3", "duckdb-delta", "ask_duckdb.py", copy.to_owned()).reaching(s3),
        on("DuckDB, files", "venv", "ask_duckdb_files.py", folder()),
        on("ClickHouse", "venv", "ask_clickhouse.py", folder()),
        on("ClickHouse, S3", "venv", "ask_clickhouse.py", copy.to_owned()).reaching(s3),
        on("Spark", "venv", "ask_spark.py", folder()).with("SPARK_JARS", jars()),
        on("Spark, S3", "venv", "ask_spark.py", copy.to_owned()).with("SPARK_JARS", jars()).reaching(s3),
    ]
}

/// The one that must not agree: it reads every file that there is.
pub(super) fn listing(table: &Path) -> Engine {
    let arguments = vec![table.display().to_string(), "listing".to_owned()];
    let (name, script) = ("by listing", "ask_duckdb_files.py");
    Engine { name, interpreter: "venv", script, arguments, environment: Vec::new() }
}

impl Engine {
    fn with(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    fn reaching(self, s3: &S3) -> Self {
        self.with("AWS_ENDPOINT_URL", s3.endpoint())
            .with("AWS_REGION", "us-east-1".to_owned())
            .with("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY.to_owned())
            .with("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY.to_owned())
    }

    /// What it says to all questions.
    pub(super) fn run(&self) -> Transcript {
        let mut command = Command::new(installed(self.interpreter).join("bin/python"));
        command.arg("-B").arg(checkout("tests/engines").join(self.script)).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let outcome = match try_run(command, b"", PATIENCE) {
            Ok(outcome) => outcome,
            Err(error) => return Transcript { broken: Some(error.to_string()), ..Transcript::default() },
        };
        let mut transcript = Transcript::read(&outcome.out());
        if !outcome.status.success() {
            let script = self.script;
            transcript.broken = Some(format!("{script} ended with {}: {}", outcome.status, outcome.err()));
        }
        transcript
    }
}

/// What `scripts/engines` installed.
fn installed(path: &str) -> PathBuf {
    let path = cache("RETRACE_ENGINES", "engines").join(path);
    assert!(path.exists(), "{} is not there; run `make matrix`", path.display());
    path
}

/// What Spark needs for Delta Lake and S3, as it takes a list.
fn jars() -> String {
    let entries = fs::read_dir(installed("jars")).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path().display().to_string());
    paths.collect::<Vec<_>>().join(",")
}
