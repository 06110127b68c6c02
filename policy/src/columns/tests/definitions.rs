//! Definitions, code, and settings.

use super::Expect::{Deny, Pass};
use super::check;

#[test]
fn definitions_over_masked_relations_are_denied() {
    check(&[
        ("create view v as select * from customers", Deny("columns.defined")),
        ("create view v as select id from customers", Deny("columns.defined")),
        ("create materialized view v as select a from view_of_view", Deny("columns.defined")),
        ("create table t (like customers including all)", Deny("columns.defined")),
        ("create table t () inherits (customers)", Deny("columns.defined")),
        (
            "create table t partition of people for values from ('2026-01-01') to ('2027-01-01')",
            Deny("columns.defined"),
        ),
        ("create index i on customers ((1 / (ascii(ssn) - 49)))", Deny("columns.defined")),
        ("create unique index concurrently i on public.customers (ssn)", Deny("columns.defined")),
        ("create statistics s on ssn, email from customers", Deny("columns.defined")),
        ("alter table customers add check (ssn like '1%')", Deny("columns.defined")),
        ("alter table customers alter ssn type int using ssn::int", Deny("columns.defined")),
        (
            "alter table customers add column x text generated always as (substr(ssn, 1, 3)) stored",
            Deny("columns.defined"),
        ),
        ("alter table customers rename ssn to x", Deny("columns.defined")),
        ("alter table customers rename to x", Deny("columns.defined")),
        ("alter table orders rename to customers", Deny("columns.defined")),
        ("alter table public.customers set schema app", Deny("columns.defined")),
        ("alter table people detach partition people_2025", Deny("columns.defined")),
        ("alter table orders attach partition customers default", Deny("columns.defined")),
        ("alter table U&\"c\\0075stomers\" add check (ssn > '5')", Deny("columns.defined")),
        ("alter table \"customers\" add unique (ssn)", Deny("columns.defined")),
        ("create temp table customers (ssn text)", Deny("columns.defined")),
        ("create table t (a text default ssn_of(1))", Deny("columns.defined")),
        ("create domain d as text check (lookup(value) > 1)", Deny("columns.defined")),
        (
            "create table t (a xml default query_to_xml('select ssn from customers', true, true, ''))",
            Deny("columns.dynamic"),
        ),
        ("create table t (a int check (a === 1))", Deny("columns.defined")),
        ("create table x as select * from ssn_of(1)", Deny("columns.defined")),
        ("create table x as select most_common_vals from pg_stats", Deny("columns.defined")),
        ("refresh materialized view customers_copy", Deny("columns.defined")),
        ("reindex table customers", Deny("columns.defined")),
    ]);
}

#[test]
fn code_and_ways_elsewhere_are_denied() {
    check(&[
        ("do $$ begin raise notice '%', (select ssn from customers limit 1); end $$", Deny("columns.code")),
        (
            "create function f() returns text language sql as 'select ssn from customers'",
            Deny("columns.code"),
        ),
        ("create procedure p() language sql as 'select 1'", Deny("columns.code")),
        ("create trigger t before insert on orders for each row execute function f()", Deny("columns.code")),
        ("create rule r as on insert to orders do also notify a", Deny("columns.code")),
        ("create operator ==== (leftarg = text, rightarg = text, function = texteq)", Deny("columns.code")),
        ("create aggregate a (text) (sfunc = textcat, stype = text)", Deny("columns.code")),
        ("create cast (text as int) with inout", Deny("columns.code")),
        ("create extension dblink", Deny("columns.code")),
        ("create policy p on customers using (ssn > '5')", Deny("columns.code")),
        ("create publication p for all tables", Deny("columns.code")),
        ("create subscription s connection '' publication p", Deny("columns.code")),
        ("import foreign schema a from server b into c", Deny("columns.code")),
        ("create schema s create view v as select ssn from customers", Deny("columns.code")),
        ("call p()", Deny("columns.code")),
        ("load 'x'", Deny("columns.code")),
        ("alter system set standard_conforming_strings = off", Deny("columns.code")),
        ("alter role current_user set client_encoding = 'sjis'", Deny("columns.code")),
        ("security label on column customers.ssn is 'x'", Deny("columns.code")),
    ]);
}

#[test]
fn settings_that_change_how_statements_are_read_are_denied() {
    check(&[
        ("set standard_conforming_strings = off", Deny("columns.session")),
        ("set local standard_conforming_strings to 0", Deny("columns.session")),
        ("set client_encoding = 'SJIS'", Deny("columns.session")),
        ("set names 'GBK'", Deny("columns.session")),
        ("select set_config('standard_conforming_strings', 'off', false)", Deny("columns.session")),
        ("select set_config('standard_conforming_' || 'strings', 'off', false)", Deny("columns.session")),
        ("select set_config(name, 'off', false) from pg_settings", Deny("columns.session")),
        ("select set_config('client_encoding', $1, false)", Deny("columns.session")),
        (
            "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
            Deny("columns.session"),
        ),
        ("create view v as select * from pg_settings", Deny("columns.session")),
        (
            "with x as (update pg_catalog.pg_settings set setting = 'off' returning 1) select 1",
            Deny("columns.session"),
        ),
        (
            "select set_config(is_local => false, setting_name => 'client_encoding', new_value => 'big5')",
            Deny("columns.session"),
        ),
    ]);
}

#[test]
fn definitions_over_other_relations_are_allowed() {
    check(&[
        (
            "create table t (id int primary key, note varchar(20) default lower('A') check (length(note) > 1), unique (note))",
            Pass,
        ),
        ("create table t (id serial, at timestamptz default now(), u uuid default gen_random_uuid())", Pass),
        (
            "alter table orders add column x int, drop column note, add foreign key (customer_id) references users (id)",
            Pass,
        ),
        ("create index concurrently on orders (lower(note), id desc) where total > 1", Pass),
        (
            "create sequence s; create schema app2; create type e as enum ('a'); create domain d as int check (value > 0)",
            Pass,
        ),
        (
            "alter table orders rename note to remark; alter table orders set schema app; alter table orders owner to x",
            Pass,
        ),
        ("create temp table x (id int) on commit drop; cluster orders; reindex table orders", Pass),
    ]);
}
