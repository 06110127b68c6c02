//! pg_dump and pg_restore: what is dumped, in each format, and what is restored from it.

use std::time::Duration;

use super::{Transcript, Way, Workload, psql};
use crate::run::try_run;

const PATIENCE: Duration = Duration::from_secs(120);

/// More than one message of COPY holds, a row longer than a record, and a large object, which is read by function calls.
const MORE: &str = "
CREATE TABLE app.many AS SELECT n, md5(n::text) AS h, n / 7.0 AS f FROM generate_series(1, 20000) n;
CREATE TABLE app.wide AS SELECT 1 AS n, repeat('wide ', 200000) AS t, decode(repeat('00ff', 100000), 'hex') AS b;
SELECT lo_from_bytea(4242, decode(repeat('cafe', 50000), 'hex'));
";

/// Dumps: what they are called and their arguments. The schema alone, since the database's extensions are not its owner's.
const DUMPS: &[(&str, &[&str])] = &[
    ("plain", &["-n", "app", "-b"]),
    ("schema only", &["-n", "app", "-s"]),
    (
        "data only, as inserts",
        &["-n", "app", "-a", "--rows-per-insert=50", "-T", "app.many", "-T", "app.wide"],
    ),
    ("column inserts of one table", &["-t", "app.customers", "--column-inserts"]),
    ("by a serializable snapshot", &["-n", "app", "-a", "--serializable-deferrable"]),
    ("no such table", &["-t", "nowhere"]),
];

/// The workload.
#[must_use]
pub fn workload() -> Workload {
    Workload::new("pg_dump", run)
}

fn run(way: &Way) -> Transcript {
    let mut transcript = Transcript { version: psql::version("pg_dump"), ..Transcript::default() };
    let seed = format!("{}{MORE}", psql::OBJECTS);
    std::fs::write(way.folder().join("seed.sql"), seed).expect("the folder is writable");
    tool(way, &mut transcript, "seed", "psql", &["-Xq", "-v", "ON_ERROR_STOP=1", "-f", "seed.sql"]);
    // Dumps of nothing would be equal too.
    if transcript.checks[0].1["exit"] != 0 {
        transcript.broken = Some(format!("the seed failed: {}", transcript.checks[0].1["err"]));
        return transcript;
    }
    for (name, arguments) in DUMPS {
        tool(way, &mut transcript, name, "pg_dump", arguments);
    }
    for (name, format, jobs) in [("custom", "c", "1"), ("directory, two jobs", "d", "2"), ("tar", "t", "1")] {
        let dumped: [&str; 9] = ["-n", "app", "-b", "-F", format, "-j", jobs, "-f", format];
        tool(way, &mut transcript, &format!("{name}: dump"), "pg_dump", &dumped);
        tool(way, &mut transcript, &format!("{name}: as text"), "pg_restore", &["-f", "-", format]);
        let gone = "SET client_min_messages = error; DROP SCHEMA app CASCADE; SELECT lo_unlink(4242);";
        tool(way, &mut transcript, &format!("{name}: drop"), "psql", &["-Xq", "-c", gone]);
        let database = way.database.as_str();
        tool(
            way,
            &mut transcript,
            &format!("{name}: restore"),
            "pg_restore",
            &["-e", "-d", database, "-j", jobs, format],
        );
        tool(
            way,
            &mut transcript,
            &format!("{name}: dump of what was restored"),
            "pg_dump",
            &["-n", "app", "-b"],
        );
    }
    // Two of the first dumps have its rows, and of each format both: before and after it was restored.
    transcript.asked("COPY app.many (n, h, f) TO stdout;", 8);
    transcript
}

fn tool(way: &Way, transcript: &mut Transcript, name: &str, program: &str, arguments: &[&str]) {
    let mut command = way.postgres_program(program);
    command.args(arguments);
    match try_run(command, b"", PATIENCE) {
        Ok(mut outcome) => {
            outcome.stdout = without_keys(&outcome.out()).into_bytes();
            transcript.check_outcome(name, &outcome);
        }
        Err(error) => transcript.check(name, error.to_string()),
    }
}

/// Takes out the random word that guards a dump against what it restricts psql from.
fn without_keys(dump: &str) -> String {
    let guards = |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
    dump.lines().filter(|line| !guards(line)).fold(String::new(), |mut out, line| {
        out.push_str(line);
        out.push('\n');
        out
    })
}
