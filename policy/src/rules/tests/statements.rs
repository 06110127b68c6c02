//! What the rules are told of a statement.

use crate::facts::Unparsable;

use super::*;

/// Whether a condition on `context.statement` holds of a statement.
fn holds(condition: &str, ask: &Ask) -> bool {
    let policy = policy(&format!(
        "permit(principal, action in Action::\"execute\", resource) when {{ {condition} }};"
    ));
    policy.scope("ann", "shop").decide_statement(&question(Some(ask))) == Ruling::Allow
}

#[test]
fn each_statement_is_one_action_or_several() {
    use Action::{Ddl, Execute, Read, Write};
    for (sql, actions) in [
        ("select * from orders", &[Read][..]),
        ("table orders", &[Read]),
        ("copy orders to stdout", &[Read]),
        ("copy (select 1) to stdout", &[Read]),
        ("declare c cursor for select 1", &[Read]),
        ("explain delete from orders", &[Read]),
        ("explain analyze delete from orders", &[Write]),
        ("explain (analyze) select 1", &[Read]),
        ("insert into orders values (1)", &[Write]),
        ("insert into orders select * from payments", &[Read, Write]),
        ("insert into orders values (1) returning id", &[Read, Write]),
        ("update orders set id = 1 from payments", &[Read, Write]),
        ("delete from orders", &[Write]),
        ("merge into orders o using payments p on o.id = p.id when matched then delete", &[Read, Write]),
        ("truncate orders", &[Write]),
        ("copy orders from stdin", &[Write]),
        ("with x as (delete from orders returning id) select * from payments", &[Read, Write]),
        ("select (with x as (select 1) select 1)", &[Read]),
        ("prepare p as delete from orders", &[Write]),
        ("create table x (id int)", &[Ddl]),
        ("create table x as select * from orders", &[Read, Ddl]),
        ("select * into x from orders", &[Read, Ddl]),
        ("create view x as select * from orders", &[Read, Ddl]),
        ("create function f() returns int language sql as 'select 1'", &[Ddl]),
        ("create rule r as on insert to orders do also delete from payments", &[Ddl]),
        ("drop table orders", &[Ddl]),
        ("alter table orders add column x int", &[Ddl]),
        ("grant select on orders to public", &[Ddl]),
        ("alter system set fsync = off", &[Ddl]),
        ("comment on table orders is 'x'", &[Ddl]),
        ("vacuum orders", &[Ddl]),
        ("begin", &[Execute]),
        ("set role postgres", &[Execute]),
        ("show all", &[Execute]),
        ("lock orders", &[Execute]),
        ("do 'begin end'", &[Execute, Read, Write, Ddl]),
        ("call pay_all()", &[Execute, Read, Write, Ddl]),
        ("insert into orders select * from payments as old", &[Read, Write]),
        ("update orders set id = 1 from payments excluded", &[Read, Write]),
        ("insert into orders values (1) on conflict (id) do update set card = excluded.card", &[Write]),
        ("execute p", &[Execute]),
        ("listen x", &[Execute]),
        ("checkpoint", &[Execute]),
    ] {
        assert_eq!(ask(sql).actions, actions.iter().copied().collect(), "{sql}");
    }
}

/// What a rule that forbids comes to, where everything else is permitted.
fn forbids(condition: &str, ask: &Ask) -> Ruling {
    let text = format!(
        "permit(principal, action, resource);
         @id(\"rule\") forbid(principal, action in Action::\"execute\", resource) when {{ {condition} }};"
    );
    policy(&text).scope("ann", "shop").decide_statement(&question(Some(ask)))
}

#[test]
fn what_is_not_known_is_denied_by_every_rule_that_asks_for_it() {
    let unread = Ask::not_understood(Unparsable::Syntax, false);
    assert_eq!(unread.actions.len(), Action::OF_STATEMENTS.len());
    let read_only = policy("permit(principal, action == Action::\"read\", resource);");
    let Ruling::Deny(why) = read_only.scope("ann", "shop").decide_statement(&question(Some(&unread))) else {
        panic!("it may be anything")
    };
    assert_eq!(why.denial().rule, "policy.default");
    assert!(why.denial().message.ends_with(": it could not be read as PostgreSQL 18 reads SQL"));
    for asks in [
        "context.statement.verb == \"DELETE\"",
        "context.statement.verbs.contains(\"DELETE\")",
        "!context.statement.has_where",
        "context.statement.relations.contains(\"public.payments\")",
        "context.statement.volatile",
        "context.statement.settings.contains(\"role\")",
    ] {
        let Ruling::Deny(why) = forbids(asks, &unread) else { panic!("{asks}") };
        assert_eq!(why.denial().rule, "policy:rule", "{asks}");
    }
    for passes in [
        "context.statement.understood && context.statement.verb == \"DELETE\"",
        "context.statement.names_known && context.statement.volatile",
        "context.statement.in_transaction",
    ] {
        assert_eq!(forbids(passes, &unread), Ruling::Allow, "{passes}");
    }
    assert_ne!(forbids("!context.statement.understood", &unread), Ruling::Allow);
}

#[test]
fn what_reaches_further_than_its_text_says_is_denied_by_every_rule_that_asks_for_names() {
    for sql in [
        "do 'begin end'",
        "call pay_all()",
        "truncate orders cascade",
        "drop table orders cascade",
        "drop schema archive",
        "alter schema archive rename to x",
        "drop owned by ann",
        "grant select on all tables in schema public to public",
        "truncate U&\"pay\\006dents\"",
        "vacuum",
        "select query_to_xml('select * from payments', true, false, '')",
        "select table_to_xml('payments', true, false, '')",
    ] {
        let ask = ask(sql);
        let Ruling::Deny(why) = forbids("context.statement.relations.contains(\"public.payments\")", &ask)
        else {
            panic!("{sql}")
        };
        assert!(
            why.denial().message.ends_with("does not tell what it reaches"),
            "{sql}: {}",
            why.denial().message
        );
        let guarded =
            "context.statement.names_known && context.statement.relations.contains(\"public.payments\")";
        assert_eq!(forbids(guarded, &ask), Ruling::Allow, "{sql}");
    }
}

#[test]
fn names_mean_every_relation_that_they_may_mean() {
    for (sql, relation) in [
        ("select * from payments", "public.payments"),
        ("select * from payments", "archive.payments"),
        ("select * from \"payments\"", "archive.payments"),
        ("select * from archive.payments", "archive.payments"),
        // A schema that is not there may be another database's word for one that is.
        ("select * from nowhere.payments", "public.payments"),
        ("select * from paid", "public.payments"),
        ("delete from paid", "public.payments"),
        ("select * from orders", "public.orders_old"),
        ("select * from orders_old", "public.orders"),
        ("create policy p on payments", "public.payments"),
        ("create trigger g before insert on payments execute function f()", "public.payments"),
        ("select 1 where exists (select 1 from payments)", "public.payments"),
        ("with payments as (table payments) table payments", "public.payments"),
        ("drop table payments", "public.payments"),
        ("alter table payments rename to x", "public.payments"),
        ("create rule r as on insert to orders do also delete from payments", "public.payments"),
        ("truncate orders, payments", "public.payments"),
        ("copy payments to stdout", "public.payments"),
        ("lock payments", "public.payments"),
        ("select * from unknown_one", "?.unknown_one"),
        ("select * from pg_authid", "pg_catalog.pg_authid"),
    ] {
        assert!(
            holds(&format!("context.statement.relations.contains(\"{relation}\")"), &ask(sql)),
            "{sql}: {relation}"
        );
    }
    for (sql, relation) in [
        ("select * from public.payments", "archive.payments"),
        ("with payments as (select 1) table payments", "public.payments"),
        ("select 'payments'", "public.payments"),
        ("select * from payments", "public.paid"),
    ] {
        assert!(
            !holds(&format!("context.statement.relations.contains(\"{relation}\")"), &ask(sql)),
            "{sql}: {relation}"
        );
    }
}

#[test]
fn what_is_written_is_told_from_what_is_read() {
    for (sql, written) in [
        ("delete from payments where id = 1", true),
        ("insert into payments select * from orders", true),
        ("insert into orders select * from payments", false),
        ("with x as (update payments set id = 1 returning 1) select * from orders", true),
        ("truncate payments", true),
        ("copy payments from stdin", true),
        ("copy payments to stdout", false),
        ("select * from payments for update", false),
    ] {
        assert_eq!(
            holds("context.statement.writes.contains(\"public.payments\")", &ask(sql)),
            written,
            "{sql}"
        );
    }
}

#[test]
fn columns_of_what_a_view_reads_are_all_of_them() {
    let column = "context.statement.columns.contains(\"public.payments.card\")";
    assert!(holds(column, &ask("select id from paid")));
}

#[test]
fn columns_are_those_that_are_named_and_all_behind_a_star() {
    for (sql, read) in [
        ("select card from payments", true),
        ("select p.card from payments p", true),
        ("select * from payments", true),
        ("select payments from payments", true),
        ("select p from payments p", true),
        ("select count(*) from payments where card like '4%'", true),
        ("select id from payments natural join orders", true),
        ("select a from payments as p (a, b)", true),
        ("select (select p) from payments p", true),
        ("select 1 from payments p, lateral (select to_json(p)) j", true),
        ("select p.lower from payments p", true),
        ("select p.id from payments p", false),
        ("select p.id from (select id from payments) p", false),
        ("update payments set card = ''", true),
        ("insert into payments values (1, '')", true),
        ("copy payments to stdout", true),
        ("copy payments (id) to stdout", false),
        ("select id from payments", false),
        ("select count(*) from payments where id = 7", false),
    ] {
        let column = "context.statement.columns.contains(\"public.payments.card\")";
        assert_eq!(holds(column, &ask(sql)), read, "{sql}");
    }
}

#[test]
fn functions_and_their_effects_are_told() {
    for (sql, volatile) in [
        ("select lower('A')", false),
        ("select pg_sleep(1)", true),
        ("select pay_all()", true),
        ("select public.pay_all()", true),
        ("select * from pay_all()", true),
        ("select 1 from orders where pay_all() is null", true),
        ("select not_known(1)", true),
        ("create table x (id int default pay_all())", true),
        ("select random()", true),
        ("select o.pay_all from orders o", true),
        ("select o.id, o.lower from orders o", false),
        ("select id from orders", false),
    ] {
        assert_eq!(holds("context.statement.volatile", &ask(sql)), volatile, "{sql}");
    }
    assert!(holds("context.statement.functions.contains(\"public.pay_all\")", &ask("select pay_all()")));
    assert!(holds("context.statement.functions.contains(\"?.not_known\")", &ask("select not_known()")));
    assert!(holds("context.statement.functions.contains(\"pg_catalog.lower\")", &ask("select lower('A')")));
}

#[test]
fn conditions_are_told_by_how_far_they_narrow() {
    for (sql, has_where, narrow) in [
        ("delete from orders", false, false),
        ("delete from orders where true", false, false),
        ("delete from orders where 1 = 1", false, false),
        ("delete from orders where now() > '2020-01-01'", false, false),
        ("delete from orders where id = id", true, false),
        ("delete from orders where id is not null", true, false),
        ("delete from orders where id <> 0", true, false),
        ("delete from orders where id = 1 or true", false, false),
        ("delete from orders where id = 1 or id = id", true, false),
        ("delete from orders where not (id = 1)", true, false),
        ("delete from orders where exists (select 1 from payments where id = 7)", true, false),
        ("delete from orders where id in (select id from payments)", true, false),
        ("delete from orders where id <> all (select id from payments where id = 7)", true, false),
        ("delete from orders where card not like 'x'", true, false),
        ("delete from orders where card !~ 'x'", true, false),
        ("delete from orders using payments p where p.id = 1", false, false),
        ("delete from orders using payments p where id = 1", false, false),
        ("delete from orders o using payments p where o.id = p.id and p.id = 1", true, false),
        ("delete from orders o using payments p where o.id = 1", true, true),
        (
            "merge into orders o using payments p on o.id = 1 when not matched by source then delete",
            false,
            false,
        ),
        ("delete from orders where id = 1", true, true),
        ("delete from orders where 1 = id and card = card", true, true),
        ("delete from orders where id in (1, 2)", true, true),
        ("delete from orders where id = any($1)", true, true),
        ("delete from orders where id between 1 and 2", true, true),
        ("delete from orders where card like '4%'", true, true),
        ("delete from orders where id < 5 - 1", true, true),
        ("delete from orders where id in (select id from payments where card = '')", true, true),
        ("delete from orders where current of c", true, true),
        ("update orders set id = 1", false, false),
        ("update orders set id = 1 where id = 2", true, true),
        ("update orders o set id = 1 from payments p where o.id = p.id", true, false),
        ("insert into orders values (1) on conflict (id) do update set card = ''", true, true),
        ("with x as (delete from orders) delete from payments where id = 1", false, false),
        ("merge into orders using payments on true when matched then delete", false, false),
        ("truncate orders", false, false),
        ("insert into orders values (1)", true, true),
        ("select * from orders", true, true),
    ] {
        let ask = ask(sql);
        assert_eq!(holds("context.statement.has_where", &ask), has_where, "{sql}");
        assert_eq!(holds("context.statement.narrow", &ask), narrow, "{sql}");
    }
}

#[test]
fn the_rest_of_a_statement_is_told() {
    for (sql, condition) in [
        ("select * from orders limit 5", "has_limit"),
        ("select * from orders limit all", "!has_limit"),
        ("select * from orders limit null::int", "!has_limit"),
        ("select * from orders limit $1", "!has_limit"),
        ("select * from orders fetch first row only", "has_limit"),
        ("select * from orders for share", "locks_rows"),
        ("set search_path = x", "settings.contains(\"search_path\")"),
        ("SET LOCAL \"Role\" to x", "settings.contains(\"role\")"),
        ("reset all", "settings.contains(\"all\")"),
        ("discard all", "settings.contains(\"all\")"),
        ("select set_config('Role', 'x', false)", "settings.contains(\"role\")"),
        ("select 1", "settings.isEmpty()"),
        ("copy orders from stdin", "verb == \"COPY FROM\""),
        ("explain analyze delete from orders", "verb == \"EXPLAIN ANALYZE\" && S.verbs.contains(\"DELETE\")"),
        ("explain select 1", "verb == \"EXPLAIN\""),
        ("prepare p as delete from orders", "verb == \"DELETE\""),
        ("with x as (delete from orders) select 1", "verb == \"SELECT\" && S.verbs.contains(\"DELETE\")"),
        ("copy (delete from orders returning 1) to stdout", "verbs.contains(\"DELETE\")"),
        (
            "merge into orders o using payments p on o.id = p.id when matched then delete",
            "verbs.contains(\"DELETE\")",
        ),
        (
            "insert into orders values (1) on conflict (id) do update set card = ''",
            "verbs.contains(\"UPDATE\")",
        ),
        (
            "insert into orders values (1) on conflict do nothing",
            "verb == \"INSERT\" && !S.verbs.contains(\"UPDATE\")",
        ),
        ("select 1", "understood && S.names_known && !S.in_transaction"),
    ] {
        let condition = match condition.strip_prefix('!') {
            Some(rest) => format!("!context.statement.{rest}"),
            None => format!("context.statement.{condition}"),
        };
        let condition = condition.replace("S.", "context.statement.");
        assert!(holds(&condition, &ask(sql)), "{sql}: {condition}");
    }
    let unknown = ask("select set_config($1, 'x', false)");
    assert_ne!(forbids("context.statement.settings.contains(\"role\")", &unknown), Ruling::Allow);
}

#[test]
fn without_a_catalogue_no_name_is_known() {
    let facts = Facts::of("select lower(card) from payments").expect("it parses");
    let ask = Ask::of(&facts.statements[0], Surroundings { catalogue: None, in_transaction: false });
    assert_ne!(forbids("context.statement.volatile", &ask), Ruling::Allow);
    assert_ne!(forbids("context.statement.relations.contains(\"public.orders\")", &ask), Ruling::Allow);
    assert_eq!(forbids("context.statement.verb == \"DELETE\"", &ask), Ruling::Allow);
}

#[test]
fn a_statement_that_names_too_much_is_one_whose_names_are_not_known() {
    let mut builder = CatalogueBuilder::default();
    let mut row = |table, cells: &[&str]| {
        let cells: Vec<_> = cells.iter().copied().map(Some).collect();
        builder.row(table, &cells).expect("the row has the form of its query");
    };
    for oid in 1..=20_001 {
        row(CatalogueTable::Relations, &[&oid.to_string(), "public", &format!("t{oid}"), "r"]);
    }
    for oid in 2..=20_001 {
        row(CatalogueTable::Links, &["inherits", &oid.to_string(), "1"]);
    }
    let catalogue = builder.finish();
    let ask = |sql: &str| {
        let facts = Facts::of(sql).expect("it parses");
        Ask::of(&facts.statements[0], Surroundings { catalogue: Some(&catalogue), in_transaction: false })
    };
    assert!(holds("context.statement.relations.contains(\"public.t1\")", &ask("select 1 from t7")));
    assert!(!holds("context.statement.relations.contains(\"public.t8\")", &ask("select 1 from t7")));
    assert!(holds("!context.statement.names_known", &ask("select 1 from t1")));
}
