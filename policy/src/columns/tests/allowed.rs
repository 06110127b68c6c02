//! What must stay allowed.

use super::Expect::{Pass, Redact};
use super::{Diagnostics, Judgement, check, judged};
use crate::columns::{Session, UnknownOrigins, judge, judge_in};
use crate::facts::Facts;
use crate::statement::Backslash;

#[test]
fn plain_outputs_of_a_masked_table_are_allowed_and_nothing_unknown_passes() {
    check(&[
        ("select ssn from customers", Redact(0)),
        ("select * from customers", Redact(0)),
        ("table customers", Redact(0)),
        ("select c.* from customers c where c.id = 1 order by c.name limit 10", Redact(0)),
        ("select id, ssn as x, email from public.customers order by id", Redact(0)),
        ("select id, ssn from customers order by 1", Redact(0)),
        ("select count(*) from customers", Redact(0)),
        ("select name, count(*) from customers group by name having count(*) > 1", Redact(0)),
        ("select distinct name from customers", Redact(0)),
        (
            "select c.ssn, o.total from customers c join orders o on o.customer_id = c.id where o.total > 10",
            Redact(0),
        ),
        ("select id from customers join users using (id)", Redact(0)),
        ("select * from (select * from customers) t limit 10", Redact(0)),
        (
            "select t.id, t.ssn from (select * from customers where id < 10) t where t.name like 'a%'",
            Redact(0),
        ),
        ("with c as (select id, ssn s from customers) select s from c where id = 1", Redact(0)),
        (
            "select id from orders where exists (select * from customers c where c.id = orders.customer_id)",
            Redact(0),
        ),
        ("select id from orders where customer_id in (select id from customers where name = 'a')", Redact(0)),
        ("select id from customers union select id from orders", Redact(0)),
        ("select lower(name), name || address from customers", Redact(0)),
        ("select ssn, birth from people where birth > '2000-01-01'", Redact(0)),
        ("select id from customers for update", Redact(0)),
        ("select ctid, c.tableoid, ssn from customers c", Redact(0)),
        ("select id, row_number() over (partition by name order by id) from customers", Redact(0)),
        (
            "select u.email from users u where u.email like 'a%' and exists (select 1 from customers c where c.id = u.id)",
            Redact(0),
        ),
    ]);
}

#[test]
fn a_few_literals_are_compared_and_counted() {
    check(&[
        ("select id from customers where ssn = '123'", Redact(1)),
        ("select id from customers where $1 = ssn and id > 5", Redact(1)),
        ("select id from customers where ssn = '1'::text or not (email <> $2)", Redact(2)),
        ("select id from customers where ssn in ('1', '2', $1)", Redact(3)),
        ("select id from customers where ssn = any (array['1', '2'])", Redact(2)),
        ("select id from customers where ssn operator(pg_catalog.=) '1'", Redact(1)),
        ("select id from customers where ssn is null or email is not null", Redact(0)),
        ("select * from customers_view where secret = '1'", Redact(1)),
        ("select id from (select id, ssn s from customers) t where s = '1'", Redact(1)),
        ("update customers set name = 'x' where ssn = '1'", Redact(1)),
        ("delete from customers where email = 'a@example.com' returning id, ssn", Redact(1)),
        ("select id from orders where customer_id in (select id from customers where ssn = '1')", Redact(1)),
    ]);
}

#[test]
fn masked_columns_are_written_from_what_the_client_knows() {
    check(&[
        ("insert into customers (id, ssn) values (1, '123'), (2, $1)", Redact(0)),
        ("insert into customers values (1, 'n', '123', 'e', 'a') returning *", Redact(0)),
        ("insert into customers default values", Redact(0)),
        ("insert into customers (id, ssn) values (1, upper('a'))", Redact(0)),
        ("update customers set ssn = '123', email = default where id = 1 returning ssn", Redact(0)),
        ("update customers set (ssn, name) = ('1', lower(name))", Redact(0)),
        (
            "insert into customers (id, ssn) values (1, '2') on conflict (id) do update set ssn = excluded.ssn",
            Redact(1),
        ),
        ("insert into customers (id, name) select id, note from orders", Redact(0)),
        ("insert into orders (id) select id from customers", Redact(0)),
        (
            "insert into customers (id, name) select id, email || '' from users where email like 'a%'",
            Redact(0),
        ),
        (
            "merge into customers c using orders o on c.id = o.customer_id when matched then update set ssn = '1'",
            Redact(0),
        ),
    ]);
}

#[test]
fn tables_without_masked_columns_are_as_on_any_target() {
    check(&[
        ("select * from orders", Pass),
        ("select max(total), string_agg(note, ',') from orders group by customer_id order by 1", Pass),
        ("select o from orders o", Pass),
        ("select email || '' from users where email like 'a%'", Pass),
        ("select distinct email from users union select label from app.items", Pass),
        (
            "with recursive t(n) as (values (1) union all select n + 1 from t where n < 10) select sum(n) from t",
            Pass,
        ),
        (
            "select now(), version(), current_setting('a'), random(), current_user, pg_catalog.set_config('search_path', '', false)",
            Pass,
        ),
        ("select generate_series(1, 10)", Pass),
        ("select 1 where similarity('a', 'b') > 0.5 and 'a' <-> 'b' < 1", Pass),
        ("insert into orders select * from orders", Pass),
        ("insert into orders (note) values (uuid_generate_v4()::text)", Pass),
        ("values (1, 'a'), (2, 'b')", Pass),
        ("select nextval('orders_id_seq'), last_value from orders_id_seq", Pass),
        ("prepare p as select * from orders where id = $1", Pass),
        ("declare c cursor for select * from orders", Pass),
        ("explain select * from orders", Pass),
        ("explain (analyze) select id from customers where name = 'a'", Pass),
        ("update orders set note = lower(note) where id = 1 returning *", Pass),
        ("create table x as select * from orders", Pass),
        ("create view x as select id, total from orders", Pass),
        ("select * from order_totals where sum > 10", Redact(0)),
        ("select * from remote where id > 10 order by id", Redact(0)),
        ("select * from a_new_table where id > 10 order by id", Redact(0)),
        ("select ssn_of(1)", Redact(0)),
        ("select * from ssn_of(1)", Redact(0)),
        ("execute p(1, lower('A'))", Redact(3)),
    ]);
}

#[test]
fn what_tools_ask_of_the_system_is_allowed() {
    check(&[
        (
            "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname OPERATOR(pg_catalog.~) '^(customers)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3",
            Pass,
        ),
        (
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) \
             FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef) \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = '20001' AND a.attnum > 0 ORDER BY a.attnum",
            Pass,
        ),
        (
            "select table_name, column_name from information_schema.columns where table_name = 'customers' order by ordinal_position",
            Pass,
        ),
        ("select 'customers'::regclass::oid", Pass),
        ("select pid, state from pg_stat_activity where state <> 'idle' order by pid", Redact(0)),
        (
            "select t.typname, t.typtype from pg_type t join pg_namespace n on t.typnamespace = n.oid where t.oid = any ($1)",
            Pass,
        ),
        // JDBC's getPrimaryKeys.
        (
            "SELECT result.TABLE_CAT, result.KEY_SEQ FROM (SELECT current_database() AS TABLE_CAT, a.attname AS COLUMN_NAME, \
             (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, information_schema._pg_expandarray(i.indkey) AS KEYS, \
             a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) \
             JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) WHERE true AND ct.relname = 'customers' AND i.indisprimary) result \
             where result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_cat, result.key_seq",
            Pass,
        ),
        // Rails.
        (
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, \
             col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute a \
             LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             WHERE a.attrelid = '\"customers\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            Pass,
        ),
        // tokio-postgres and sqlx.
        (
            "SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, t.typrelid FROM pg_catalog.pg_type t \
             LEFT OUTER JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid \
             INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = $1",
            Pass,
        ),
        // Django.
        (
            "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, \
             obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') \
             AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)",
            Pass,
        ),
        // pg_dump.
        (
            "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
            Pass,
        ),
        ("select set_config('client_encoding', 'UTF8', false)", Pass),
    ]);
}

#[test]
fn sessions_go_on() {
    check(&[
        ("begin isolation level serializable", Pass),
        ("commit; rollback; savepoint a; release a; prepare transaction 'x'", Pass),
        ("set search_path = app, public; reset all; show server_version; set local work_mem = '1MB'", Pass),
        ("set time zone 'UTC'; set session characteristics as transaction read only; set role none", Pass),
        ("set client_encoding = 'UTF8'; set names 'utf-8'; set standard_conforming_strings = on", Pass),
        ("listen a; notify a, 'b'; unlisten *; discard all; deallocate all; close all", Pass),
        ("lock table customers in access share mode", Pass),
        ("truncate orders, customers; drop table customers; vacuum customers; analyze customers", Pass),
        ("grant select on customers to public; comment on table customers is 'x'", Pass),
        ("", Pass),
    ]);
}

#[test]
fn diagnostics_are_redacted_where_a_masked_value_may_stand_in_them() {
    let of = |sql| match judged(sql) {
        Judgement::Allow(allowance) => allowance.diagnostics,
        Judgement::Deny(denial) => panic!("{sql}: {denial:?}"),
    };
    for sql in [
        "select id from customers",
        "select ssn_of(1)",
        "fetch 1 from c",
        "truncate customers",
        "copy public.customers from stdin",
    ] {
        assert_eq!(of(sql), Diagnostics::Redact, "{sql}");
    }
    for sql in [
        "select 1 / 0",
        "select * from orders",
        "truncate orders",
        "select * from order_totals",
        "copy orders from stdin",
    ] {
        assert_eq!(of(sql), Diagnostics::Pass, "{sql}");
    }
}

#[test]
fn what_a_session_named_holds_by_the_strictest_that_the_name_was_given() {
    let catalogue = super::catalogue();
    let resolved = super::resolved(&catalogue);
    let mut session = Session::new(Backslash::Plain);
    let mut step = |sql: &str| {
        let facts = Facts::of(sql).expect("it parses");
        match judge_in(&session, &facts, &catalogue, &resolved) {
            Judgement::Allow(allowance) => {
                session.remember(&allowance);
                (allowance.unknown_origins, allowance.guesses)
            }
            Judgement::Deny(denial) => panic!("{sql}: {denial:?}"),
        }
    };
    let (pass, redact) = (UnknownOrigins::Pass, UnknownOrigins::Redact);
    assert_eq!(step("execute p"), (redact, 3), "never seen, so it may compare as much as any");
    assert_eq!(step("prepare p as select sum(total) from orders"), (pass, 0));
    assert_eq!(step("execute p"), (pass, 0));
    assert_eq!(step("explain execute p"), (pass, 0));
    assert_eq!(
        step("prepare p as select count(*) from customers where ssn = $1"),
        (pass, 0),
        "it compares nothing yet"
    );
    assert_eq!(step("execute p('a')"), (redact, 1));
    assert_eq!(step("deallocate p; prepare p as select 1; execute p"), (redact, 1));
    assert_eq!(step("prepare q as select 1; execute q"), (pass, 0));
    assert_eq!(step("fetch c"), (redact, 0));
    assert_eq!(step("declare c cursor for select sum(total) from orders; fetch c"), (pass, 0));
    assert_eq!(step("declare c cursor for select ssn from customers where ssn = '1'"), (pass, 1));
    assert_eq!(step("fetch c"), (redact, 0));
    session.forget();
    let facts = Facts::of("fetch c").expect("it parses");
    assert!(facts.depends_on_session());
    assert!(!Facts::of("prepare p as select 1").expect("it parses").depends_on_session());
}

#[test]
fn a_backslash_matters_only_where_the_target_reads_it_otherwise() {
    let catalogue = super::catalogue();
    let resolved = super::resolved(&catalogue);
    for (sql, backslash, allowed) in [
        (r"select '\'", Backslash::Plain, true),
        (r"select '\'", Backslash::Escape, false),
        (r"select E'\\', $$\$$", Backslash::Escape, true),
        (r"select '\' || (select ssn from customers) --'", Backslash::Escape, false),
    ] {
        let facts = Facts::of(sql).expect("it parses");
        let judgement = judge(&facts, &catalogue, &resolved, backslash);
        assert_eq!(matches!(judgement, Judgement::Allow(_)), allowed, "{sql} {backslash:?}: {judgement:?}");
    }
}
