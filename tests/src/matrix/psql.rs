//! psql: every family of its commands that asks the server something.

use std::time::Duration;

use super::{Transcript, Way, Workload};
use crate::run::try_run;

const PATIENCE: Duration = Duration::from_secs(60);

/// Objects of most kinds, for `\d` and its family to tell of.
pub(super) const OBJECTS: &str = include_str!("../../matrix/objects.sql");

const DESCRIBE: &str = r"
\d
\d+ app.orders
\d+ app.customers
\d app.orders_2026
\dA+
\dAc
\dAf
\da app.*
\db
\dc app.*
\dC int4
\dd app.*
\dD+ app.*
\ddp
\dE app.*
\des
\det
\deu
\dew
\df+ app.*
\dF
\dFd
\dFp
\dFt
\di+ app.*
\dl
\dL
\dm+ app.*
\dn+
\do app.*
\dO app.*
\dp app.*
\dP+ app.*
\drds
\dRp+
\dRs
\ds+ app.*
\dt+ app.*
\dT+ app.*
\dv+ app.*
\dx
\dX app.*
\dy
\dconfig work_mem
\sf+ app.total
\sv app.open_orders
\z app.*
\d no_such_table
";

const COPY: &str = r#"
CREATE TABLE c (id int PRIMARY KEY, t text, n numeric, b bytea, a text[]);
COPY c FROM STDIN;
1	one\ttab	1.5	\\x00ff	{a,"b,c"}
2	\N	\N	\N	\N
\.
COPY c FROM STDIN (FORMAT csv, HEADER);
id,t,n,b,a
3,"quo""ted, and
broken",-0.25,\x,"{}"
4,,,,
\.
COPY c TO STDOUT;
COPY (SELECT * FROM c ORDER BY id DESC) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *);
\copy c to 'c.txt'
\copy (select * from c order by id) to 'c.csv' csv header
\copy c to 'c.bin' (format binary)
\! cat c.txt c.csv; od -An -tx1 c.bin
DELETE FROM c;
\copy c from 'c.txt'
DELETE FROM c;
\copy c from 'c.csv' csv header
DELETE FROM c;
\copy c from 'c.bin' (format binary)
SELECT * FROM c ORDER BY id;
COPY c FROM STDIN;
5	good	1	\\x01	{}
six	bad	1	\\x01	{}
\.
COPY c FROM STDIN;
1	twice	1	\\x01	{}
\.
COPY c (nowhere) FROM STDIN;
COPY no_such_table TO STDOUT;
COPY (SELECT 1/(3-n) FROM generate_series(1,5) n) TO STDOUT;
BEGIN;
COPY c FROM STDIN;
7	seven	7	\N	\N
\.
SELECT count(*) FROM c;
ROLLBACK;
SELECT count(*) FROM c;
COPY c (id) FROM STDIN WHERE id > 10;
9
11
\.
SELECT id FROM c ORDER BY id;
COPY c TO STDOUT \; SELECT 'behind';
"#;

const LARGE_COPY: &str = r"
CREATE TABLE big (n int, h text, f float8);
\copy (select n, repeat(md5(n::text), 3), n / 7.0 from generate_series(1, 50000) n) to 'big.txt'
\copy big from 'big.txt'
\copy big to 'big.bin' (format binary)
\copy big from 'big.bin' (format binary)
\copy big from 'big.txt'
\! md5sum big.txt big.bin
SELECT count(*), sum(n), md5(string_agg(h, '' ORDER BY n, h)) FROM big;
";

const FETCH: &str = r"
\set FETCH_COUNT 7
SELECT n, n * n AS square FROM generate_series(1, 50) n;
\set FETCH_COUNT 11
SELECT 10 / (30 - n) FROM generate_series(1, 50) n;
BEGIN; SELECT generate_series(1, 25) AS in_transaction; COMMIT;
\x on
SELECT n, NULL AS nothing FROM generate_series(1, 15) n;
";

const COMMANDS: &str = r"
SELECT 1 AS a, 'x'::text AS b, now() AS c \gdesc
SELECT 1 AS one, 'two' AS two \gset p_
\echo :p_one :p_two
SELECT 'SELECT ' || n || ' AS made' FROM generate_series(1, 3) n \gexec
SELECT n % 3 AS r, n % 2 AS c, count(*) FROM generate_series(1, 12) n GROUP BY 1, 2 \crosstabview
SELECT 'expanded' AS how \gx
SELECT generate_series(1, 5) \g out.txt
\! cat out.txt
SELECT 1/0;
\errverbose
SELECT 'one' \; SELECT 'two' \; SELECT 1/0 \; SELECT 'never';
\set AUTOCOMMIT off
SELECT 'in a transaction' AS x;
SELECT * FROM nowhere;
ROLLBACK;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN; SELECT 1/0; SELECT 'still works' AS x; COMMIT;
\set ON_ERROR_ROLLBACK off
\if `echo true`
SELECT 'branch' AS taken;
\endif
\encoding LATIN1
SELECT chr(252) = 'ü' AS same, octet_length(convert_to(chr(252), 'LATIN1'));
\encoding UTF8
CREATE TEMP TABLE ticks (n int);
\t on
WITH tick AS (INSERT INTO ticks VALUES (1)) SELECT count(*), 1 / (5 - count(*)) FROM ticks \watch 0.02
\t off
LISTEN news; NOTIFY news, 'first'; SELECT pg_notify('news', 'second');
SELECT 'and a last word';
";

/// Large objects go by function-call messages.
const LARGE_OBJECTS: &str = r"
SELECT repeat('0123456789', 10000) \g lo.txt
\lo_import lo.txt kept
SELECT length(lo_get(:LASTOID)), md5(lo_get(:LASTOID));
\lo_export :LASTOID back.txt
\! cmp lo.txt back.txt && echo the same
\lo_unlink :LASTOID
\lo_unlink 1
";

/// Since psql 16.
const BIND: &str = r"
SELECT $1::int + $2::int AS sum \bind 1 2 \g
SELECT $1::text AS t, $2::bytea AS b \bind 'a b' '\\x00' \g
SELECT 1 / $1::int \bind 0 \g
";

/// The workload.
#[must_use]
pub fn workload() -> Workload {
    Workload::new("psql", run)
}

fn run(way: &Way) -> Transcript {
    let mut transcript = Transcript { version: super::psql::version("psql"), ..Transcript::default() };
    let mut scripts = vec![
        ("objects", OBJECTS),
        ("describe", DESCRIBE),
        ("copy", COPY),
        ("copy of 50,000 rows", LARGE_COPY),
        ("FETCH_COUNT", FETCH),
        ("commands", COMMANDS),
        ("large objects", LARGE_OBJECTS),
    ];
    if transcript.version.split('.').next().and_then(|major| major.parse().ok()) >= Some(16) {
        scripts.push(("bind", BIND));
    }
    for (name, script) in scripts {
        let mut psql = way.postgres_program("psql");
        psql.args(["-X", "-q", "-v", "VERBOSITY=verbose", "-f", "-"]);
        match try_run(psql, script.as_bytes(), PATIENCE) {
            Ok(mut outcome) => {
                outcome.stdout = without_pids(&outcome.out()).into_bytes();
                transcript.check_outcome(name, &outcome);
            }
            Err(error) => transcript.check(name, error.to_string()),
        }
    }
    transcript.asked("FETCH FORWARD 7 FROM _psql_cursor", 8);
    transcript.asked("COPY c (id) FROM STDIN WHERE id > 10;", 1);
    transcript.asked("SELECT 3 AS made", 1);
    transcript.asked("SELECT pg_notify('news', 'second');", 1);
    transcript
}

/// A notification names the process of the target that sent it, which is another one each time.
fn without_pids(printed: &str) -> String {
    const BEFORE: &str = "received from server process with PID ";
    let mut parts = printed.split(BEFORE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(BEFORE);
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// The version that a program of PostgreSQL says it has.
pub(super) fn version(name: &str) -> String {
    let mut command = std::process::Command::new(crate::postgres::program(name));
    command.arg("--version");
    let said = crate::run(command, b"", PATIENCE).expect_ok();
    let number = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number.unwrap_or_default().to_owned()
}
