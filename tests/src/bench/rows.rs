//! Many rows at once, by SELECT and by COPY.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Lane, Plan, Samples};
use crate::Database;
use crate::run::end_of;

const PATIENCE: Duration = Duration::from_secs(600);

/// How long each lane took for one way of reading.
#[derive(Debug)]
pub struct Read {
    /// The way of reading.
    pub name: &'static str,
    /// Seconds, in the order of the lanes; nothing where it failed.
    pub seconds: Vec<Samples>,
    /// What a lane said that failed.
    pub failures: Vec<Option<String>>,
}

/// Makes the table that is read.
pub fn prepare(plan: &Plan, database: Database<'_>) {
    database.seed(&format!(
        "CREATE TABLE sales AS SELECT n AS id, 'customer ' || n % 5000 AS customer, md5(n::text) AS reference, n / 7.0 AS amount,
                timestamptz '2026-01-01Z' + n * interval '1 second' AS at, n % 2 = 0 AS paid FROM generate_series(1, {}) n;
         ANALYZE sales;",
        plan.rows
    ));
}

/// Reads the table through every lane, round by round.
#[must_use]
pub fn measure(plan: &Plan, lanes: &[Lane]) -> Vec<Read> {
    let statements =
        [("psql, SELECT", "SELECT * FROM sales"), ("psql, COPY TO STDOUT", "COPY sales TO STDOUT")];
    let reads = statements.map(|(name, statement)| {
        let seconds = vec![Samples::default(); lanes.len()];
        (statement, Read { name, seconds, failures: vec![None; lanes.len()] })
    });
    let mut reads = Vec::from(reads);
    for _ in 0..plan.rounds {
        for (statement, read) in &mut reads {
            for (index, lane) in lanes.iter().enumerate() {
                match timed(lane, statement) {
                    Ok(seconds) => read.seconds[index].push(seconds),
                    Err(said) => read.failures[index] = Some(said),
                }
            }
        }
    }
    reads.into_iter().map(|(_, read)| read).collect()
}

/// Seconds that psql takes with everything it gets going nowhere.
fn timed(lane: &Lane, statement: &str) -> Result<f64, String> {
    let errors = lane.way.folder().join("errors");
    let mut command: Command = lane.way.postgres_program("psql");
    command.args(["-X", "-A", "-t", "-c", statement]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(&errors).expect("the folder is writable"));
    let start = Instant::now();
    let mut child = command.spawn().expect("psql starts");
    let status = end_of(&mut child, PATIENCE);
    let seconds = start.elapsed().as_secs_f64();
    if status.is_some_and(|status| status.success()) {
        return Ok(seconds);
    }
    // Of one that ended, neither does anything.
    let _ = (child.kill(), child.wait());
    let said = std::fs::read_to_string(&errors).unwrap_or_default();
    Err(said.lines().next().unwrap_or("it did not end in time").to_owned())
}
