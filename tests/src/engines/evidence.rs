//! A table for other engines to read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Question, Rows};
use crate::postgres::PSQL_ARGUMENTS;
use crate::{Gate, Health, Postgres, S3, customers, files_under, run, wait_for};

/// What an agent asks in each round: masked columns and values, a prepared statement, COPY, errors of which one quotes a
/// card, a join that guesses and is refused, and a transaction. The pause leaves the machine to others.
const OF_SHOP: &str = "\
SELECT id, name, email, card, ssn FROM customers ORDER BY id LIMIT 20;
PREPARE in_city AS SELECT id, name FROM customers WHERE city = $1 ORDER BY id LIMIT 5;
EXECUTE in_city('Oslo');
COPY (SELECT id, card, ssn FROM customers WHERE id <= 300) TO STDOUT (FORMAT csv);
SELECT 1/0;
SELECT 'card 4000079190000170'::int;
SELECT name FROM nowhere;
SELECT c.name FROM generate_series(0, 9) n JOIN customers c ON c.ssn = n::text;
BEGIN; UPDATE customers SET city = 'Bergen' WHERE id = 7; ROLLBACK;
SELECT pg_sleep(1);
";

/// What a person asks: JSON, what has to be quoted, NULL beside nothing, data that is copied in, and an answer without rows.
const OF_BOOKS: &str = r#"
SELECT '{"a": [1, null, "é"], "b\t": "日本"}'::jsonb AS json, E'tab\there \\ "quoted"\nline' AS quoted, NULL AS nothing, '' AS empty;
CREATE TEMP TABLE notes (id int, note text);
COPY notes FROM STDIN;
1	ada@example.com wrote, and paid by 4111 1111 1111 1111
2	\N
\.
SELECT * FROM notes WHERE id > 7;
"#;

/// An answer of several parts.
const LARGE: &str = "SELECT n, md5(n::text), repeat('x', 60), n / 7.0 FROM generate_series(1, 20000) n;";

/// A column that only its mask hides.
const SSN: &str = "\
ALTER TABLE customers ADD COLUMN ssn text;
UPDATE customers SET ssn = '078-' || lpad((id * 37 % 90 + 10)::text, 2, '0') || '-' || lpad((id * 7919 % 10000)::text, 4, '0');
";

const MORE: &str = r#"
[[principal]]
name = "agent-7"
kind = "agent"
on_behalf_of = "ann"
targets = ["shop"]
evidence = "own"

[[mask]]
name = "ssn"
targets = ["shop"]
columns = ["public.customers.ssn"]
action = "token"
"#;

/// Eight commits, five seconds apart, make a merge due, and some more a checkpoint.
const LOAD_MAX: Duration = Duration::from_secs(150);

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A table that a gate has written and left, and the gate's folder, where `retrace sql` reads table and log.
#[derive(Debug)]
pub struct Evidence {
    gate: Gate,
}

impl Evidence {
    /// Lets a gate write until files of the table were merged and a checkpoint of its log was written after that. Then the
    /// gate stops, so that all that was in the log is in files.
    ///
    /// # Panics
    /// If that does not come about.
    #[must_use]
    pub fn write() -> Self {
        let mut gate = gate();
        let health = gate.tell_health();
        // The first start makes the table.
        gate.up();
        assert!(gate.stop().success(), "a clean end");
        let table = gate.dir().join("data/lake");
        have_checkpoints_often(&table);
        gate.up();
        let agent = gate.new_token("agent-7");
        revoke_a_token(&gate);
        let _ = psql(gate.psql_command(), &["-d", "books"], LARGE);
        wait_for("files were merged", LOAD_MAX, || {
            round(&gate, &agent);
            is_merged(health).then_some(())
        });
        let before = checkpoints(&table);
        wait_for("there is a checkpoint after that", LOAD_MAX, || {
            round(&gate, &agent);
            (checkpoints(&table) > before).then_some(())
        });
        let seen = gate.number("SELECT count(*) AS n FROM events");
        assert!(gate.stop().success(), "a clean end");
        let evidence = Self { gate };
        let rows: u64 = evidence.ends().values().sum();
        assert!(rows >= seen, "{rows} rows are in files, and {seen} were seen before");
        evidence
    }

    /// What there is to read.
    #[must_use]
    pub fn summary(&self) -> String {
        let files = files_under(&self.table()).iter().filter(|file| range_end(file).is_some()).count();
        let (rows, checkpoints) = (self.ends().values().sum::<u64>(), checkpoints(&self.table()));
        format!("{rows} rows, {files} data files in the folder, {checkpoints} checkpoints of the table's log")
    }

    /// The table's folder.
    #[must_use]
    pub fn table(&self) -> PathBuf {
        self.gate.dir().join("data/lake")
    }

    /// Puts a copy of it into a bucket.
    pub(super) fn copy_into(&self, s3: &S3) -> String {
        let (table, url) = (self.table(), s3.url());
        for file in files_under(&table) {
            let path = file.strip_prefix(&table).expect("it was found there");
            s3.put(&file, &format!("{url}/{}", path.display()));
        }
        url
    }

    /// The cut that the table ends at. What is asked of the evidence from now on is on record behind it.
    pub(super) fn cut(&self) -> String {
        let mut cut = String::new();
        for ((topic, partition), end) in self.ends() {
            let comma = if cut.is_empty() { "" } else { ", " };
            write!(cut, "{comma}{topic}[{partition}]<{end}").expect("a String takes all");
        }
        cut
    }

    /// What `retrace sql` says as of the cut.
    #[track_caller]
    pub(super) fn ask(&self, question: &Question, statement: &str, cut: &str) -> Rows {
        question.answer(&self.gate.sql(&format!("{} AS OF CUT '{cut}'", statement.trim_end())))
    }

    /// The offset after the last row of each topic partition, by the names of the data files.
    fn ends(&self) -> BTreeMap<(String, String), u64> {
        let mut ends = BTreeMap::new();
        for file in files_under(&self.table()) {
            let Some((at, end)) = range_end(&file) else { continue };
            let known = ends.entry(at).or_insert(end);
            *known = end.max(*known);
        }
        ends
    }
}

/// The topic partition of a data file, and the offset after its last row.
fn range_end(file: &Path) -> Option<((String, String), u64)> {
    let mut fields = file.file_name()?.to_str()?.strip_suffix(".parquet")?.splitn(5, '-');
    let mut field = || fields.next();
    let (topic, partition, _first, last) = (field()?, field()?, field()?, field()?);
    Some(((topic.to_owned(), partition.to_owned()), last.parse::<u64>().ok()? + 1))
}

/// Two targets whose rows are kept for different times, an agent, and masks of values and of a column.
fn gate() -> Gate {
    let (shop, books) = (Postgres::shared().database(), Postgres::shared().database());
    shop.seed(&customers(1000));
    shop.seed(SSN);
    let gate = Gate::new(shop);
    gate.add_target("books", books, "relaxed");
    gate.add(MORE);
    gate.edit(|config| {
        let targets = config["target"].as_array_mut().expect("a list of tables");
        let books = targets.last_mut().and_then(toml::Value::as_table_mut).expect("a table");
        books.insert("retention_class".to_owned(), "long".into());
    });
    gate
}

/// One session at each target, two logins that are refused, and one question to the evidence.
fn round(gate: &Gate, agent: &str) {
    let _ = psql(gate.psql_command_as("agent-7", agent), &[], OF_SHOP);
    let _ = psql(gate.psql_command(), &["-d", "books"], OF_BOOKS);
    for (principal, token) in [("agent-7", "rt_nobody_knows"), ("nobody", agent)] {
        let mut psql = gate.psql_command_as(principal, token);
        psql.args(["-c", "SELECT 1"]);
        let _ = run(psql, b"", PATIENCE).expect_failure();
    }
    let _ = gate.sql("SELECT principal, count(*) AS n FROM commands GROUP BY principal");
}

fn psql(mut command: Command, arguments: &[&str], script: &str) -> String {
    command.args(PSQL_ARGUMENTS).args(arguments);
    run(command, script.as_bytes(), PATIENCE).expect_ok()
}

/// An order, so that the control topic has rows too.
fn revoke_a_token(gate: &Gate) {
    let token = gate.new_token("dev");
    let id = token.split('_').nth(1).expect("rt_<id>_<secret>");
    let _ = gate.retrace(&["kill", "--token", id, "--reason", "it was seen in a ticket"]).expect_ok();
}

fn is_merged(health: Health) -> bool {
    health.metric("retrace_compaction_files_merged_total") >= 8.0
}

/// Has a checkpoint written with every fifth version of the table, and not with every hundredth: by a version that changes
/// the table's own setting, as any tool for Delta tables writes it. Nothing else may write meanwhile.
fn have_checkpoints_often(table: &Path) {
    let log = table.join("_delta_log");
    let first = fs::read_to_string(version_file(&log, 0)).expect("the table has a first version");
    let actions = first.lines().map(|line| serde_json::from_str::<Value>(line).expect("an action is JSON"));
    let mut metadata =
        actions.into_iter().find(|action| action.get("metaData").is_some()).expect("its metadata");
    metadata["metaData"]["configuration"]["delta.checkpointInterval"] = "5".into();
    let next = (0..).find(|version| !version_file(&log, *version).exists()).expect("versions have an end");
    fs::write(version_file(&log, next), format!("{metadata}\n")).expect("the folder is writable");
}

fn version_file(log: &Path, version: u64) -> PathBuf {
    log.join(format!("{version:020}.json"))
}

fn checkpoints(table: &Path) -> usize {
    let files = files_under(&table.join("_delta_log"));
    files.iter().filter(|file| file.to_string_lossy().ends_with(".checkpoint.parquet")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_files_name_says_how_far_it_goes() {
        let name = "retrace.events-3-00000000000000000010-00000000000000000035-05191e3d-54d8-4d40-9ccf-d7b25405b351.parquet";
        let at = ("retrace.events".to_owned(), "3".to_owned());
        assert_eq!(range_end(&Path::new("session_date=2026-11-29").join(name)), Some((at, 36)));
        assert_eq!(range_end(Path::new("_delta_log/00000000000000000010.checkpoint.parquet")), None);
        assert_eq!(range_end(Path::new("_delta_log/00000000000000000010.json")), None);
    }
}
