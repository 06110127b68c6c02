//! tokio-postgres: pipelining, portals, COPY both ways, types, notifications, cancelling.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, SinkExt, TryStreamExt};
use serde_json::{Value, json};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, Kind, ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls, Row, SimpleQueryMessage};

use super::{Transcript, Way, Workload};
use crate::client::{Connection, Tls, connect_with};

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Executions of one prepared statement.
const PIPELINED: u64 = 300;

/// A value of each type as text, to be asked for in binary.
const VALUES: &str = "SELECT true, 'c'::\"char\", 'n'::name, 1::int2, -2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 12345.678900::numeric,
    '-1e-20'::numeric, 't'::text, 'v'::varchar, 'b'::char(3), '\\x00ff'::bytea, '2026-11-24'::date, 'infinity'::date, '12:34:56.789'::time,
    '12:34:56+02'::timetz, '2026-11-24 12:34:56.789'::timestamp, '2026-11-24 12:34:56.789+00'::timestamptz,
    '1 year 2 mons -3 days 04:05:06.7'::interval, '{\"a\":1}'::json, '{\"a\":[1,null]}'::jsonb,
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '10.0.0.0/8'::cidr, '::1'::inet, '08:00:2b:01:02:03'::macaddr,
    '08:00:2b:01:02:03:04:05'::macaddr8, B'101'::bit(3), B'10101'::varbit, 4294967295::oid, '16/B374D848'::pg_lsn, '(1,2)'::tid,
    '(1,2)'::point, '[1,5)'::int4range, '{1,NULL,3}'::int4[], '{{a,b},{c,d}}'::text[], '12.34'::money, 'cat & rat'::tsquery,
    'a fat cat'::tsvector, 'pg_class'::regclass, ROW(1, 'x'), '<a/>'::xml, '{2026-01-01}'::date[], NULL::int";

/// The workload.
#[must_use]
pub fn workload() -> Workload {
    Workload::new("tokio-postgres", |way| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(run(way))
    })
}

type Check = for<'a> fn(&'a Way, Connection) -> BoxFuture<'a, Result<Value, Error>>;

const CHECKS: &[(&str, Check)] = &[
    ("binary values of many types", |_, c| values(c.client).boxed()),
    ("the text of many types", |_, c| simple(c.client).boxed()),
    ("a type of its own", |_, c| own_types(c.client).boxed()),
    ("pipelining", |_, c| pipelining(c.client).boxed()),
    ("errors in a pipeline", |_, c| errors(c.client).boxed()),
    ("a portal in parts", |_, c| portal(c.client).boxed()),
    ("COPY in and out", |_, c| copy(c.client).boxed()),
    ("binary COPY", |_, c| binary_copy(c.client).boxed()),
    ("COPY that fails", |_, c| failing_copy(c.client).boxed()),
    ("transactions", |_, c| transactions(c.client).boxed()),
    ("notices and notifications", |way, c| unasked(way, c).boxed()),
    ("a cancelled statement", |way, c| cancelled(way, c.client).boxed()),
    ("a large parameter and a large result", |_, c| large(c.client).boxed()),
];

async fn run(way: &Way) -> Transcript {
    let mut transcript = Transcript { version: "0.7".to_owned(), ..Transcript::default() };
    for (name, check) in CHECKS {
        let whole = async {
            let connection = connect(way).await?;
            check(way, connection).await
        };
        match tokio::time::timeout(PATIENCE, whole).await {
            Ok(Ok(got)) => transcript.check(name, got),
            Ok(Err(error)) => transcript.check(name, told(&error)),
            Err(_) => transcript.check(name, format!("not within {PATIENCE:?}")),
        }
    }
    transcript.asked("SELECT $1::int * 2 AS twice, $2::text AS said", PIPELINED);
    transcript.asked("COPY copied FROM STDIN (FORMAT csv)", 1);
    transcript.asked("COPY copied_binary TO STDOUT (FORMAT binary)", 1);
    transcript.asked("SELECT pg_sleep(60)", 1);
    transcript
}

async fn connect(way: &Way) -> Result<Connection, Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(way.port).user(&way.user).password(&way.password).dbname(&way.database);
    match &way.ca {
        Some(ca) => {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            connect_with(config, Tls::trusting(ca)).await
        }
        None => connect_with(config, NoTls).await,
    }
}

/// Any value, as its bytes.
#[derive(Debug)]
struct Raw(String);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn bytes_of(row: &Row) -> Value {
    let columns = row.columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            let value = row.get::<_, Option<Raw>>(index).map(|raw| raw.0);
            json!([column.name(), column.type_().oid(), value])
        })
        .collect()
}

fn told(error: &Error) -> Value {
    error.as_db_error().map_or_else(|| json!(error.to_string()), |said| json!(format!("{said:?}")))
}

async fn values(client: Client) -> Result<Value, Error> {
    Ok(bytes_of(&client.query_one(VALUES, &[]).await?))
}

async fn simple(client: Client) -> Result<Value, Error> {
    let messages = client.simple_query(&format!("{VALUES}; SELECT 'two'; CREATE TABLE s (n int); INSERT INTO s SELECT generate_series(1, 5); UPDATE s SET n = 0; SELECT;")).await?;
    let told = messages.iter().map(|message| match message {
        SimpleQueryMessage::Row(row) => (0..row.len()).map(|index| json!(row.get(index))).collect(),
        SimpleQueryMessage::CommandComplete(rows) => json!({ "complete": rows }),
        SimpleQueryMessage::RowDescription(columns) => {
            columns.iter().map(|column| json!(column.name())).collect()
        }
        _ => json!("another message"),
    });
    Ok(told.collect())
}

async fn own_types(client: Client) -> Result<Value, Error> {
    client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, m mood); CREATE DOMAIN small AS int CHECK (VALUE < 9)",
        )
        .await?;
    let statement = client
        .prepare("SELECT 'ok'::mood, ROW(1, 'sad')::pair, ARRAY['ok']::mood[], 3::small, int4range(1, 3)")
        .await?;
    let kinds: Vec<_> = statement
        .columns()
        .iter()
        .map(|column| match column.type_().kind() {
            Kind::Enum(labels) => json!(labels),
            Kind::Composite(fields) => {
                json!(fields.iter().map(|field| (field.name(), field.type_().name())).collect::<Vec<_>>())
            }
            Kind::Array(of) => json!({ "array of": of.name() }),
            Kind::Range(of) => json!({ "range of": of.name() }),
            Kind::Domain(of) => json!({ "domain of": of.name() }),
            _ => json!(column.type_().name()),
        })
        .collect();
    let row = client.query_one(&statement, &[]).await?;
    let mut values: Vec<_> = (0..5).map(|index| row.get::<_, Option<Raw>>(index).map(|raw| raw.0)).collect();
    // The OID of the type `mood`, which each database gives anew: in the pair behind a count and a first field of 12 bytes,
    // in the array behind two words.
    for (index, at) in [(1, 32), (2, 16)] {
        if let Some(value) = &mut values[index] {
            value.replace_range(at..at + 8, "the OID.");
        }
    }
    Ok(json!([kinds, values]))
}

async fn pipelining(client: Client) -> Result<Value, Error> {
    let statement = client.prepare("SELECT $1::int * 2 AS twice, $2::text AS said").await?;
    let numbers: Vec<i32> = (0..i32::try_from(PIPELINED).expect("few")).collect();
    let answers = join_all(numbers.iter().map(async |number| {
        let said = "x".repeat(usize::try_from(*number).expect("not negative"));
        let row = client.query_one(&statement, &[number, &said]).await?;
        Ok::<_, Error>((row.get::<_, i32>(0), row.get::<_, String>(1).len()))
    }))
    .await;
    Ok(json!(answers.into_iter().collect::<Result<Vec<_>, _>>()?))
}

async fn errors(client: Client) -> Result<Value, Error> {
    // A statement is prepared as soon as it is asked for, so what it names is there before.
    client.batch_execute("CREATE TABLE e (n int PRIMARY KEY CHECK (n > 0))").await?;
    let statements = [
        "SELECT 1/0",
        "SELECT 'x'::int",
        "SELECT * FROM nowhere",
        "SELECT 1 +",
        "SELECT 1",
        "DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'ZZ123'; END $$",
        "INSERT INTO e VALUES (0)",
        "INSERT INTO e VALUES (1)",
        "INSERT INTO e VALUES (1)",
        "INSERT INTO e VALUES (NULL)",
    ];
    let answers = join_all(statements.iter().map(|statement| client.execute(*statement, &[]))).await;
    Ok(answers.iter().map(|answer| answer.as_ref().map_or_else(told, |rows| json!(rows))).collect())
}

async fn portal(mut client: Client) -> Result<Value, Error> {
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT n, md5(n::text) FROM generate_series(1, 1000) n", &[]).await?;
    let mut parts = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 64).await?;
        parts.push(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>());
        if rows.len() < 64 {
            break;
        }
    }
    transaction.rollback().await?;
    Ok(json!(parts))
}

async fn copy(client: Client) -> Result<Value, Error> {
    client.batch_execute("CREATE TABLE copied (n int, t text)").await?;
    let mut sink = pin!(client.copy_in::<_, Bytes>("COPY copied FROM STDIN (FORMAT csv)").await?);
    for part in 0..50 {
        let rows: String =
            (0..200).map(|n| format!("{},\"row {n}, of part {part}\"\n", part * 200 + n)).collect();
        sink.send(Bytes::from(rows)).await?;
    }
    let written = sink.as_mut().finish().await?;
    let parts: Vec<Bytes> =
        client.copy_out("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT").await?.try_collect().await?;
    let count: i64 = client.query_one("SELECT count(*) FROM copied", &[]).await?.get(0);
    Ok(json!([written, count, String::from_utf8_lossy(&parts.concat())]))
}

async fn binary_copy(client: Client) -> Result<Value, Error> {
    client.batch_execute("CREATE TABLE copied_binary (n int8, t text, b bytea)").await?;
    let sink = client.copy_in("COPY copied_binary FROM STDIN (FORMAT binary)").await?;
    let types = [Type::INT8, Type::TEXT, Type::BYTEA];
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for n in 0..1000_i64 {
        let (text, bytes) = (format!("row {n}"), n.to_be_bytes().to_vec());
        let row: [&(dyn ToSql + Sync); 3] = [&n, &text, &bytes];
        writer.as_mut().write(&row).await?;
    }
    let written = writer.finish().await?;
    let stream = client.copy_out("COPY copied_binary TO STDOUT (FORMAT binary)").await?;
    let rows: Vec<_> = BinaryCopyOutStream::new(stream, &types).try_collect().await?;
    let sum: i64 = rows.iter().map(|row| row.get::<i64>(0)).sum();
    Ok(json!([written, rows.len(), sum, rows[999].get::<String>(1)]))
}

async fn failing_copy(client: Client) -> Result<Value, Error> {
    client.batch_execute("CREATE TABLE failing (n int)").await?;
    let mut told_all = Vec::new();
    for rows in ["1\n2\nthree\n4\n", "5\n"] {
        let mut sink = pin!(client.copy_in::<_, Bytes>("COPY failing FROM STDIN").await?);
        // The error may come while rows are still being sent, or at the end.
        let sent = sink.send(Bytes::from(rows)).await;
        let ended = match sent {
            Ok(()) => sink.as_mut().finish().await,
            Err(error) => Err(error),
        };
        told_all.push(ended.map_or_else(|error| told(&error), |rows| json!(rows)));
    }
    // A sink that is dropped says CopyFail.
    drop(client.copy_in::<_, Bytes>("COPY failing FROM STDIN").await?);
    let count: i64 = client.query_one("SELECT count(*) FROM failing", &[]).await?.get(0);
    Ok(json!([told_all, count]))
}

async fn transactions(mut client: Client) -> Result<Value, Error> {
    client.batch_execute("CREATE TABLE tx (n int)").await?;
    let mut transaction = client.transaction().await?;
    transaction.execute("INSERT INTO tx VALUES (1)", &[]).await?;
    let savepoint = transaction.savepoint("inner").await?;
    savepoint.execute("INSERT INTO tx VALUES (2)", &[]).await?;
    let failed = told(&savepoint.execute("SELECT 1/0", &[]).await.expect_err("it fails"));
    let refused = told(&savepoint.execute("SELECT 1", &[]).await.expect_err("the transaction failed"));
    savepoint.rollback().await?;
    transaction.commit().await?;
    let transaction = client.build_transaction().read_only(true).start().await?;
    let read_only =
        told(&transaction.execute("INSERT INTO tx VALUES (3)", &[]).await.expect_err("it only reads"));
    drop(transaction);
    let rows: Vec<i32> = client.query("SELECT n FROM tx", &[]).await?.iter().map(|row| row.get(0)).collect();
    Ok(json!([failed, refused, read_only, rows]))
}

async fn unasked(way: &Way, connection: Connection) -> Result<Value, Error> {
    let other = connect(way).await?;
    connection
        .client
        .batch_execute("LISTEN news; DO $$ BEGIN RAISE NOTICE 'heard %', 1; RAISE WARNING 'w'; END $$")
        .await?;
    other.client.batch_execute("NOTIFY news, 'one'; SELECT pg_notify('news', 'two')").await?;
    loop {
        // Notifications of others come behind an answer at the latest.
        connection.client.batch_execute("SELECT 1").await?;
        let said = connection.unasked.lock().expect("nobody panics holding it");
        if said.iter().filter(|said| said.starts_with("news: ")).count() == 2 {
            return Ok(json!(*said));
        }
    }
}

async fn cancelled(way: &Way, client: Client) -> Result<Value, Error> {
    let token = client.cancel_token();
    let watcher = connect(way).await?.client;
    let canceller = async {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(60)' AND state = 'active'";
        while watcher.query_one(asleep, &[]).await?.get::<_, i64>(0) == 0 {}
        match &way.ca {
            Some(ca) => token.cancel_query(Tls::trusting(ca)).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    let (slept, asked) = tokio::join!(client.batch_execute("SELECT pg_sleep(60)"), canceller);
    asked?;
    let after: i32 = client.query_one("SELECT 1", &[]).await?.get(0);
    Ok(json!([slept.map_or_else(|error| told(&error), |()| json!("it slept")), after]))
}

async fn large(client: Client) -> Result<Value, Error> {
    let content = "0123456789abcdef\n".repeat(150_000);
    let row = client.query_one("SELECT length($1::text), md5($1), $1 || $1", &[&content]).await?;
    let back = row.get::<_, String>(2);
    let many = client.query("SELECT n, md5(n::text) FROM generate_series(1, 50000) n", &[]).await?;
    let sum: i64 = many.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum();
    Ok(json!([row.get::<_, i32>(0), row.get::<_, String>(1), back.len(), back == content.repeat(2), sum]))
}
