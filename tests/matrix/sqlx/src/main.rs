//! sqlx: typed queries, streams, transactions, COPY, notifications, a pool.

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Value, json};
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgListener, PgPoolCopyExt, PgPoolOptions, PgRow, PgSslMode,
};
use sqlx::types::chrono::{DateTime, NaiveDate, Utc};
use sqlx::types::{Decimal, Json, Uuid};
use sqlx::{Column, Connection, Either, Error, Executor, PgPool, Row, TypeInfo, ValueRef};

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Sad,
    Ok,
}

#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "pair")]
struct Pair {
    a: i32,
    m: Mood,
}

fn say(entry: &Value) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{entry}").expect("the caller reads");
}

fn told(error: &Error) -> Value {
    let Some(said) = error.as_database_error() else {
        return json!(error.to_string());
    };
    let said = said.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    json!([
        format!("{:?}", said.severity()),
        said.code(),
        said.message(),
        said.detail(),
        said.hint(),
        said.r#where(),
        said.table(),
        said.constraint()
    ])
}

fn answer<T: serde::Serialize>(result: Result<T, Error>) -> Value {
    result.map_or_else(|error| told(&error), |got| json!(got))
}

/// The values of a row as they came: name, type, bytes.
fn raw(row: &PgRow) -> Value {
    let columns = row.columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            let value = row.try_get_raw(index).expect("the column is there");
            let bytes = if value.is_null() { None } else { value.as_bytes().ok() };
            let hex = bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            json!([column.name(), column.type_info().name(), hex])
        })
        .collect()
}

async fn values(connection: &mut PgConnection) -> Result<Value, Error> {
    let row = sqlx::query(
        "SELECT true, 1::int2, -2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 12345.6789::numeric, 't'::text, 'b'::char(3), '\\x00ff'::bytea,
         '2026-11-24'::date, '12:34:56.789'::time, '2026-11-24 12:34:56'::timestamp, '2026-11-24 12:34:56+00'::timestamptz,
         '1 mon -3 days 04:05:06'::interval, '{\"a\":[1,null]}'::jsonb, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '10.0.0.0/8'::cidr,
         B'101'::varbit, '[1,5)'::int4range, '{1,NULL,3}'::int4[], '{{a,b},{c,d}}'::text[], NULL::int, ROW(1, 'x')",
    )
    .fetch_one(connection)
    .await?;
    Ok(raw(&row))
}

async fn parameters(connection: &mut PgConnection) -> Result<Value, Error> {
    let at = DateTime::<Utc>::from_timestamp(1_700_000_000, 0).expect("a time");
    let row = sqlx::query("SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10")
        .bind(true)
        .bind(7_i64)
        .bind(-0.0_f64)
        .bind("ünï\n")
        .bind(vec![0_u8, 255])
        .bind(Decimal::new(12345, 3))
        .bind(Uuid::from_u128(7))
        .bind(Json(json!({"a": [1, null]})))
        .bind(at)
        .bind(NaiveDate::from_ymd_opt(2026, 11, 24))
        .fetch_one(&mut *connection)
        .await?;
    let lists = sqlx::query("SELECT $1::int[], $2::text[], $3::int")
        .bind(vec![Some(1), None])
        .bind(vec!["a,b", "\"c\""])
        .bind(None::<i32>)
        .fetch_one(connection)
        .await?;
    Ok(json!([raw(&row), raw(&lists)]))
}

async fn own_types(connection: &mut PgConnection) -> Result<Value, Error> {
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, m mood)").await?;
    let row = sqlx::query("SELECT $1::mood, $2::pair, 'sad'::mood, ROW(5, 'ok')::pair")
        .bind(Mood::Ok)
        .bind(Pair { a: 3, m: Mood::Sad })
        .fetch_one(connection)
        .await?;
    let (pair, other): (Pair, Pair) = (row.try_get(1)?, row.try_get(3)?);
    let moods = (row.try_get::<Mood, _>(0)?, row.try_get::<Mood, _>(2)?);
    Ok(json!([format!("{moods:?}"), format!("{pair:?} {} {:?}", pair.a, pair.m), format!("{other:?}")]))
}

async fn cached_statements(connection: &mut PgConnection) -> Result<Value, Error> {
    let mut answers = Vec::new();
    for n in 0..50_i32 {
        answers.push(
            sqlx::query_scalar::<_, i32>("SELECT $1 * 2 AS cached")
                .bind(n)
                .fetch_one(&mut *connection)
                .await?,
        );
    }
    connection.clear_cached_statements().await?;
    Ok(json!(answers))
}

async fn streams(connection: &mut PgConnection) -> Result<Value, Error> {
    let mut sum = 0;
    let mut rows =
        sqlx::query("SELECT n, md5(n::text) FROM generate_series(1, 20000) n").fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        sum += i64::from(row.try_get::<i32, _>(0)?);
    }
    drop(rows);
    let mut parts = Vec::new();
    let script = "SELECT 1; CREATE TABLE st (n int); INSERT INTO st VALUES (1), (2); SELECT n FROM st; UPDATE st SET n = 0";
    let mut steps = connection.fetch_many(script);
    while let Some(step) = steps.try_next().await? {
        parts.push(match step {
            Either::Left(done) => json!({ "rows": done.rows_affected() }),
            Either::Right(row) => raw(&row),
        });
    }
    Ok(json!([sum, parts]))
}

async fn errors(connection: &mut PgConnection) -> Result<Value, Error> {
    connection.execute("CREATE TABLE e (n int PRIMARY KEY CHECK (n > 0))").await?;
    let mut answers = Vec::new();
    for statement in [
        "SELECT 1/0",
        "SELECT 'x'::int",
        "SELECT * FROM nowhere",
        "SELECT 1 +",
        "INSERT INTO e VALUES (0)",
        "INSERT INTO e VALUES (1)",
        "INSERT INTO e VALUES (1)",
    ] {
        let done = sqlx::query(statement).execute(&mut *connection).await;
        answers.push(answer(done.map(|done| done.rows_affected())));
    }
    Ok(json!(answers))
}

async fn transactions(connection: &mut PgConnection) -> Result<Value, Error> {
    connection.execute("CREATE TABLE tx (n int)").await?;
    let mut outer = connection.begin().await?;
    outer.execute("INSERT INTO tx VALUES (1)").await?;
    let mut inner = outer.begin().await?;
    inner.execute("INSERT INTO tx VALUES (2)").await?;
    let failed = answer(inner.execute("SELECT 1/0").await.map(|_| ()));
    let refused = answer(inner.execute("SELECT 1").await.map(|_| ()));
    inner.rollback().await?;
    outer.commit().await?;
    let dropped = connection.begin().await?;
    drop(dropped);
    let rows: Vec<i32> = sqlx::query_scalar("SELECT n FROM tx").fetch_all(connection).await?;
    Ok(json!([failed, refused, rows]))
}

async fn copies(connection: &mut PgConnection) -> Result<Value, Error> {
    connection.execute("CREATE TABLE cp (n int, t text)").await?;
    let mut into = connection.copy_in_raw("COPY cp FROM STDIN (FORMAT csv)").await?;
    for n in 0..2000 {
        into.send(format!("{n},\"row {n}\"\n").into_bytes()).await?;
    }
    let written = into.finish().await?;
    let text: Vec<u8> = collect(connection.copy_out_raw("COPY cp TO STDOUT").await?).await?;
    let binary: Vec<u8> =
        collect(connection.copy_out_raw("COPY cp TO STDOUT (FORMAT binary)").await?).await?;
    let mut bad = connection.copy_in_raw("COPY cp FROM STDIN").await?;
    let failed = match bad.send("1\tgood\ntwo\tbad\n".as_bytes()).await {
        Ok(_) => answer(bad.finish().await),
        Err(error) => {
            drop(bad);
            told(&error)
        }
    };
    let aborted = connection.copy_in_raw("COPY cp FROM STDIN").await?.abort("given up").await;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM cp").fetch_one(connection).await?;
    Ok(json!([written, String::from_utf8_lossy(&text), binary, failed, answer(aborted), count]))
}

async fn collect<B: AsRef<[u8]>>(
    parts: impl futures::Stream<Item = Result<B, Error>>,
) -> Result<Vec<u8>, Error> {
    parts
        .try_fold(Vec::new(), |mut all, part| async move {
            all.extend_from_slice(part.as_ref());
            Ok(all)
        })
        .await
}

async fn notifications(pool: &PgPool) -> Result<Value, Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("news").await?;
    for n in 0..10 {
        sqlx::query("SELECT pg_notify('news', $1)").bind(n.to_string()).execute(pool).await?;
    }
    let mut heard = Vec::new();
    for _ in 0..10 {
        heard.push(listener.recv().await?.payload().to_owned());
    }
    Ok(json!(heard))
}

async fn pooled(pool: &PgPool) -> Result<Value, Error> {
    let answers = futures::future::try_join_all(
        (0..60_i32).map(|n| sqlx::query_scalar::<_, i32>("SELECT $1 AS pooled").bind(n).fetch_one(pool)),
    );
    let answers = answers.await?;
    let mut into = pool.copy_in_raw("COPY cp FROM STDIN").await?;
    into.send("1\tby the pool\n".as_bytes()).await?;
    Ok(json!([answers, into.finish().await?]))
}

async fn bounded(name: &str, check: impl Future<Output = Result<Value, Error>>) {
    let got = match tokio::time::timeout(PATIENCE, check).await {
        Ok(got) => answer(got),
        Err(_) => json!(format!("not within {PATIENCE:?}")),
    };
    say(&json!({ "check": name, "got": got }));
}

macro_rules! with_connections {
    ($options:expr, $($check:ident),+) => {
        $(bounded(stringify!($check), async {
            let mut connection = PgConnection::connect_with($options).await?;
            let got = $check(&mut connection).await;
            let _ = connection.close().await;
            got
        }).await;)+
    };
}

#[tokio::main]
async fn main() {
    // Host, port, user, password, database and TLS are in the variables that libpq reads.
    let mut options = PgConnectOptions::new();
    if std::env::var_os("PGSSLROOTCERT").is_none() {
        options = options.ssl_mode(PgSslMode::Disable);
    }
    say(&json!({ "version": "0.8" }));
    with_connections!(
        &options,
        values,
        parameters,
        own_types,
        cached_statements,
        streams,
        errors,
        transactions,
        copies
    );
    let pool = PgPoolOptions::new().max_connections(5).connect_lazy_with(options);
    bounded("notifications", notifications(&pool)).await;
    bounded("a pool", pooled(&pool)).await;
    pool.close().await;
    say(&json!({ "recorded": "SELECT $1 * 2 AS cached", "times": 50 }));
    say(&json!({ "recorded": "SELECT $1 AS pooled", "times": 60 }));
    say(&json!({ "recorded": "COPY cp TO STDOUT (FORMAT binary)", "times": 1 }));
    say(&json!({ "end": true }));
}
