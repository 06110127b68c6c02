//! P7: clients work unchanged. What a client gets through the gate is what it gets without.

use futures::future::try_join_all;
use retrace_tests::{Gate, Postgres, client};
use tokio_postgres::types::{Oid, Type};

use crate::common::{assert_nothing_lost_nothing_twice, code};

/// Scripts whose every byte of output must be the same with and without the gate; no value in them is masked.
const SCRIPTS: &[&str] = &[
    "SELECT 1, NULL, '', 'ü', E'a\\tb\\nc', true, 1.50, '{1,NULL,3}'::int[], '\\x00ff'::bytea, now() IS NULL;",
    "SELECT generate_series(1, 3) AS n; ; SELECT 'two' \\; SELECT 'at once';",
    "CREATE TABLE t (n int PRIMARY KEY, s text DEFAULT 'd'); INSERT INTO t VALUES (1), (2) RETURNING *; UPDATE t SET s = 'x' WHERE n = 1;",
    "INSERT INTO t VALUES (1); SELECT * FROM nowhere; SELECT 1 +; SELECT 'x'::int; SELECT 1/0;",
    "BEGIN; SELECT 1; SELECT 1/0; SELECT 2; COMMIT; SELECT 3;",
    "BEGIN; SAVEPOINT a; SELECT 1/0; ROLLBACK TO a; INSERT INTO t VALUES (3); COMMIT; SELECT n FROM t ORDER BY n;",
    "DO $$ BEGIN RAISE NOTICE 'n %', 1; RAISE WARNING 'w'; END $$;",
    "\\d t\n\\dt\n\\d+ t\n\\df no_such\n\\l no_such",
    "SELECT 1 AS a, 'x'::text AS b \\gdesc\nSELECT n, s FROM t ORDER BY n \\gset p_\n\\echo :p_n :p_s",
    "SET datestyle = 'SQL, DMY'; SELECT date '2026-11-24'; SET client_encoding = 'LATIN1'; SELECT 'ü'; RESET client_encoding;",
    "PREPARE p (int) AS SELECT $1 + 1; EXECUTE p(41); DEALLOCATE p; EXECUTE p(1);",
    "BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 10); FETCH 3 FROM c; MOVE 5 IN c; FETCH ALL FROM c; COMMIT;",
    "SELECT current_database() IS NULL, session_user, current_user, current_schema;",
    "SELECT repeat('0123456789abcdef', 100000);",
    "SELECT n, md5(n::text) FROM generate_series(1, 20000) n;",
    "SELECT;",
    "VACUUM t; CREATE INDEX CONCURRENTLY i ON t (s); DROP TABLE t;",
];

#[test]
fn p7_psql_gets_every_byte_it_gets_without_the_gate() {
    let (direct, through) = (Postgres::shared().database(), Postgres::shared().database());
    let gate = Gate::started(through);
    for script in SCRIPTS {
        let expected = direct.psql(script);
        let found = gate.psql(script);
        assert_eq!(found.out(), expected.out(), "{script}");
        assert_eq!(found.err(), expected.err(), "{script}");
        assert_eq!(found.status.code(), expected.status.code(), "{script}");
    }
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_driver_gets_binary_values_of_many_types() {
    let gate = Gate::started(Postgres::shared().database());
    let client = client::connect(&gate).await.client;
    let row = client
        .query_one(
            "SELECT $1::bool, $2::int2, $3::int4, $4::int8, $5::float4, $6::float8, $7::text, $8::bytea, $9::oid,
                    $10::int4[], $11::text[], NULL::text, $3::int4 + 1",
            &[
                &true,
                &-2_i16,
                &3_i32,
                &i64::MIN,
                &1.5_f32,
                &f64::NEG_INFINITY,
                &"ünïcode\n",
                &[0_u8, 255].as_slice(),
                &Oid::MAX,
                &vec![Some(1), None],
                &vec!["a,b", "\"c\""],
            ],
        )
        .await
        .expect("it is answered");
    assert!(row.get::<_, bool>(0));
    assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (-2, 3, i64::MIN));
    assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, f64::NEG_INFINITY));
    assert_eq!((row.get::<_, &str>(6), row.get::<_, &[u8]>(7)), ("ünïcode\n", &[0_u8, 255][..]));
    assert_eq!(row.get::<_, Oid>(8), Oid::MAX);
    assert_eq!(row.get::<_, Vec<Option<i32>>>(9), [Some(1), None]);
    assert_eq!(row.get::<_, Vec<String>>(10), ["a,b", "\"c\""]);
    assert_eq!((row.get::<_, Option<String>>(11), row.get::<_, i32>(12)), (None, 4));
    let recorded = gate.sql("SELECT response_text FROM responses WHERE response_text LIKE 't\t-2\t3%'");
    assert_eq!(recorded.len(), 1, "binary values are on record as PostgreSQL prints them");
    let text = recorded[0]["response_text"].as_str().expect("a text");
    assert!(text.contains("-9223372036854775808\t1.5\t-Infinity"), "{text}");
    assert!(text.contains("\\x00ff\t4294967295\t{1,NULL}\t{\"a,b\",\"\\\"c\\\"\"}"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_driver_may_pipeline_and_each_answer_finds_its_question() {
    let gate = Gate::started(Postgres::shared().database());
    let client = client::connect(&gate).await.client;
    let statement =
        client.prepare_typed("SELECT $1 * 2, $2", &[Type::INT4, Type::TEXT]).await.expect("it is prepared");
    let parameters: Vec<(i32, String)> =
        (0..500).map(|n| (n, "x".repeat(usize::try_from(n).expect("small")))).collect();
    let answers = try_join_all(parameters.iter().map(async |(number, text)| {
        let row = client.query_one(&statement, &[number, text]).await?;
        Ok::<_, tokio_postgres::Error>((row.get::<_, i32>(0), row.get::<_, String>(1)))
    }))
    .await
    .expect("each is answered");
    for ((number, text), answer) in parameters.iter().zip(answers) {
        assert_eq!(answer, (number * 2, text.clone()));
    }
    let recorded = gate.number("SELECT count(*) AS n FROM commands WHERE statement LIKE 'SELECT $1 * 2%' AND status = 'ok' AND command_tag = 'SELECT 1'");
    assert_eq!(recorded, 500);
    assert_nothing_lost_nothing_twice(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_an_error_in_a_pipeline_ends_its_own_part_of_it_alone() {
    let gate = Gate::started(Postgres::shared().database());
    let client = client::connect(&gate).await.client;
    let divide = client.prepare_typed("SELECT 10 / $1", &[Type::INT4]).await.expect("it is prepared");
    let divisors: Vec<i32> = (-20..20).collect();
    let answers = futures::future::join_all(divisors.iter().map(|divisor| {
        let (client, divide) = (&client, &divide);
        async move { client.query_one(divide, &[divisor]).await }
    }))
    .await;
    for (divisor, answer) in divisors.iter().zip(answers) {
        match answer {
            Ok(row) => assert_eq!(row.get::<_, i32>(0), 10 / divisor),
            Err(error) => assert_eq!((*divisor, code(&error).as_str()), (0, "22012")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_portals_with_a_row_limit_give_their_rows_in_parts() {
    let gate = Gate::started(Postgres::shared().database());
    let mut client = client::connect(&gate).await.client;
    let transaction = client.transaction().await.expect("it begins");
    let portal = transaction.bind("SELECT generate_series(1, 1000)", &[]).await.expect("it is bound");
    let mut next = 1;
    loop {
        let rows = transaction.query_portal(&portal, 300).await.expect("it is answered");
        for row in &rows {
            assert_eq!(row.get::<_, i32>(0), next);
            next += 1;
        }
        if rows.len() < 300 {
            break;
        }
    }
    assert_eq!(next, 1001);
    transaction.rollback().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_large_statements_parameters_and_results_pass_and_are_on_record() {
    let database = Postgres::shared().database();
    database.seed("CREATE TABLE big (content text)");
    let gate = Gate::started(database);
    let client = client::connect(&gate).await.client;
    let content = "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(60_000);
    client.execute("INSERT INTO big VALUES ($1)", &[&content]).await.expect("a large parameter passes");
    client
        .batch_execute(&format!("INSERT INTO big VALUES ('{content}')"))
        .await
        .expect("a large statement passes");
    for row in client.query("SELECT content FROM big", &[]).await.expect("a large result passes") {
        assert_eq!(row.get::<_, &str>(0), content);
    }
    let rows = gate.sql("SELECT sum(length(response_text)) AS n FROM responses");
    assert!(rows[0]["n"].as_u64().is_some_and(|bytes| bytes >= 2 * content.len() as u64), "{rows:?}");
    assert_nothing_lost_nothing_twice(&gate);
}
