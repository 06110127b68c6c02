//! Rules as their authors write them, and what they come to.

mod load;
mod recipes;
mod statements;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::tz::TimeZone;
use retrace_proto::wire::PrincipalKind;

use super::*;
use crate::catalogue::{Catalogue, CatalogueBuilder, CatalogueTable};
use crate::facts::Facts;

/// Ann and Bob of the group dba, Cy of none, an agent of Ann's; a shop in production and a test.
fn world() -> World {
    let principal = |name: &str, kind, groups: &[&str]| WorldPrincipal {
        name: name.to_owned(),
        kind,
        person: if kind == PrincipalKind::Agent { "ann" } else { name }.to_owned(),
        on_behalf_of: (kind == PrincipalKind::Agent).then(|| "ann".to_owned()),
        groups: groups.iter().map(ToString::to_string).collect(),
        targets: Vec::new(),
    };
    let target = |name: &str, env: &str| WorldTarget {
        name: name.to_owned(),
        protocol: "postgres",
        labels: BTreeMap::from([("env".to_owned(), env.to_owned())]),
    };
    World {
        principals: vec![
            principal("ann", PrincipalKind::Human, &["dba", "sre"]),
            principal("bob", PrincipalKind::Human, &["dba"]),
            principal("cy", PrincipalKind::Human, &[]),
            principal("bot", PrincipalKind::Agent, &["agents"]),
        ],
        targets: vec![target("shop", "production"), target("test", "test")],
    }
}

/// A Monday at half past nine.
const MONDAY: Moment = Moment { unix_minutes: 29_671_770, weekday: Weekday::Monday, minute_of_day: 570 };

fn policy(text: &str) -> Policy {
    Policy::load(text, &world(), TimeZone::UTC).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

fn catalogue() -> Catalogue {
    let mut builder = CatalogueBuilder::default();
    let mut row = |table, cells: &[&str]| {
        let cells: Vec<_> = cells.iter().copied().map(Some).collect();
        builder.row(table, &cells).expect("the row has the form of its query");
    };
    for (oid, schema, name, kind) in [
        ("1", "public", "orders", "p"),
        ("2", "public", "orders_old", "r"),
        ("3", "public", "payments", "r"),
        ("4", "archive", "payments", "r"),
        ("5", "public", "paid", "v"),
    ] {
        row(CatalogueTable::Relations, &[oid, schema, name, kind]);
    }
    for oid in ["1", "2", "3", "4", "5"] {
        for (number, name) in [("1", "id"), ("2", "card")] {
            row(CatalogueTable::Columns, &[oid, number, name, "25", ""]);
        }
    }
    row(CatalogueTable::Links, &["inherits", "2", "1"]);
    row(CatalogueTable::Links, &["view", "5", "3"]);
    for (schema, name, volatile) in
        [("pg_catalog", "lower", "f"), ("pg_catalog", "pg_sleep", "t"), ("public", "pay_all", "t")]
    {
        row(CatalogueTable::Functions, &[schema, name, "t", volatile]);
    }
    builder.finish()
}

fn ask(sql: &str) -> Ask {
    let facts = Facts::of(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(facts.statements.len(), 1, "{sql}");
    let catalogue = catalogue();
    Ask::of(&facts.statements[0], Surroundings { catalogue: Some(&catalogue), in_transaction: false })
}

fn question(ask: Option<&Ask>) -> Question<'_> {
    Question { client_address: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))), moment: MONDAY, statement: ask }
}

fn decide(policy: &Policy, who: &str, target: &str, sql: &str) -> Ruling {
    policy.scope(who, target).decide_statement(&question(Some(&ask(sql))))
}

fn forbidden(rule: &str) -> Ruling {
    Ruling::Deny(Why::Forbidden { rule: rule.to_owned(), advice: None })
}

const NOTHING: Ruling = Ruling::Deny(Why::NothingPermits);

#[test]
fn nothing_is_allowed_that_no_rule_permits() {
    let policy = policy("permit(principal == Principal::\"ann\", action == Action::\"read\", resource);");
    assert_eq!(decide(&policy, "ann", "shop", "select 1"), Ruling::Allow);
    assert_eq!(decide(&policy, "bob", "shop", "select 1"), NOTHING);
    assert_eq!(decide(&policy, "ann", "shop", "delete from orders where id = 1"), NOTHING);
    assert_eq!(decide(&policy, "ann", "shop", "begin"), NOTHING);
    assert_eq!(policy.scope("ann", "shop").decide(Action::Connect, &question(None)), NOTHING);
    // Somebody and something that there is not.
    assert_eq!(decide(&policy, "dora", "shop", "select 1"), NOTHING);
}

#[test]
fn a_statement_must_be_allowed_all_that_it_does() {
    let policy = policy(
        "permit(principal, action == Action::\"read\", resource);
         permit(principal in Group::\"dba\", action == Action::\"write\", resource);",
    );
    let both = "with gone as (delete from orders where id = 1 returning *) select * from gone";
    assert_eq!(decide(&policy, "ann", "shop", both), Ruling::Allow);
    assert_eq!(decide(&policy, "cy", "shop", both), NOTHING);
    assert_eq!(decide(&policy, "ann", "shop", "create table copy as select * from orders"), NOTHING);
}

#[test]
fn a_hold_holds_only_what_is_permitted_and_not_forbidden_besides() {
    let policy = policy(
        r#"
        permit(principal in Group::"dba", action in Action::"execute", resource);
        @id("writes") @hold("writes are reviewed") @reviewers("group dba")
        forbid(principal, action == Action::"write", resource);
        @id("twice") @hold("two look at payments") @reviewers("group dba") @approvals("2") @wait("1m")
        forbid(principal, action, resource) when { context has statement && context.statement.relations.contains("public.payments") };
        @id("truncate")
        forbid(principal, action, resource) when { context has statement && context.statement.verb == "TRUNCATE TABLE" };
        "#,
    );
    let rules = |ruling| match ruling {
        Ruling::Hold(terms) => terms.iter().map(|it| (it.rule.clone(), it.approvals)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        rules(decide(&policy, "ann", "shop", "delete from orders where id = 1")),
        [("writes".to_owned(), 1)]
    );
    let both = [("twice".to_owned(), 2), ("writes".to_owned(), 1)];
    assert_eq!(rules(decide(&policy, "ann", "shop", "delete from payments where id = 1")), both);
    assert_eq!(decide(&policy, "ann", "shop", "select * from orders"), Ruling::Allow);
    // Not permitted at all, and forbidden by a rule that no review lifts.
    assert_eq!(decide(&policy, "cy", "shop", "delete from orders where id = 1"), NOTHING);
    assert_eq!(decide(&policy, "ann", "shop", "truncate orders"), forbidden("truncate"));
}

#[test]
fn a_rule_that_cannot_be_evaluated_denies() {
    let text = |annotations: &str| {
        format!(
            "permit(principal, action, resource);
             @id(\"production\") {annotations}
             forbid(principal, action == Action::\"write\", resource) when {{ resource.getTag(\"env\") == \"production\" }};"
        )
    };
    // The schema cannot know that a target has the label, so the rule must ask; it is refused as it is.
    let problems = Policy::load(&text(""), &world(), TimeZone::UTC).expect_err("a tag that may be absent");
    assert!(problems[0].problem.contains("tag"), "{problems:?}");
    // One that overflows passes the schema.
    let overflows = "permit(principal, action, resource);
         @id(\"sum\") forbid(principal, action == Action::\"write\", resource)
         when { 9223372036854775807 + context.now.minute_of_day > 0 };";
    let failed = Ruling::Deny(Why::Failed { rule: "sum".to_owned() });
    assert_eq!(decide(&policy(overflows), "ann", "shop", "delete from orders where id = 1"), failed);
    assert_eq!(decide(&policy(overflows), "ann", "shop", "select 1"), Ruling::Allow);
    let held = overflows.replace("@id(\"sum\")", "@id(\"sum\") @hold(\"x\") @reviewers(\"group dba\")");
    assert_eq!(decide(&policy(&held), "ann", "shop", "delete from orders where id = 1"), failed);
}

#[test]
fn what_the_configuration_permits_is_a_permission_like_any_other() {
    let mut world = world();
    world.principals[0].targets = vec!["shop".to_owned()];
    world.principals[1].targets = vec!["*".to_owned()];
    let load = |text| Policy::load(text, &world, TimeZone::UTC).expect("it loads");
    let open = load("");
    assert_eq!(decide(&open, "ann", "shop", "drop table orders"), Ruling::Allow);
    assert_eq!(decide(&open, "ann", "test", "select 1"), NOTHING);
    assert_eq!(decide(&open, "bob", "test", "select 1"), Ruling::Allow);
    assert!(open.scope("ann", "shop").is_open() && !open.scope("ann", "test").is_open());
    let closed = load("@id(\"ddl\") forbid(principal, action == Action::\"ddl\", resource);");
    assert_eq!(decide(&closed, "ann", "shop", "drop table orders"), forbidden("ddl"));
    assert_eq!(decide(&closed, "ann", "shop", "select 1"), Ruling::Allow);
    assert!(!closed.scope("ann", "shop").is_open());
}

#[test]
fn where_when_and_who_are_told() {
    for (condition, holds) in [
        ("context.client.address.isInRange(ip(\"10.0.0.0/8\"))", true),
        ("context.client.address.isInRange(ip(\"192.168.0.0/16\"))", false),
        ("context.now.weekday == Weekday::\"monday\"", true),
        ("context.now.minute_of_day < 480 || context.now.minute_of_day >= 1080", false),
        ("context.now.at < datetime(\"2026-06-02\")", true),
        ("context.now.at < datetime(\"2026-06-01\")", false),
        ("principal.kind == Kind::\"agent\"", true),
        ("principal has on_behalf_of && principal.on_behalf_of in Group::\"dba\"", true),
        ("principal in Group::\"agents\"", true),
        ("principal in Group::\"dba\"", false),
        ("resource.hasTag(\"env\") && resource.getTag(\"env\") == \"production\"", true),
        ("resource.hasTag(\"team\")", false),
    ] {
        let text =
            format!("permit(principal, action == Action::\"connect\", resource) when {{ {condition} }};");
        let ruling = policy(&text).scope("bot", "shop").decide(Action::Connect, &question(None));
        assert_eq!(ruling, if holds { Ruling::Allow } else { NOTHING }, "{condition}");
    }
}

#[test]
fn a_scope_knows_what_its_rules_read() {
    let reads = |condition: &str| {
        let text = format!(
            "permit(principal, action, resource); forbid(principal, action == Action::\"write\", resource) when {{ {condition} }};"
        );
        policy(&text).scope("ann", "shop").reads()
    };
    let verb = reads("context.statement.verb == \"DELETE\"");
    assert!(!verb.names() && !verb.time());
    assert!(reads("context.statement.relations.contains(\"public.orders\")").names());
    assert!(reads("context.statement.volatile").names());
    assert!(reads("context.now.minute_of_day < 60").time());
    // As a whole it may be read in any part.
    assert!(reads("context.statement == context.statement").names());
    assert!(
        reads("if context.statement.verb == \"DELETE\" then context.now.minute_of_day < 60 else false")
            .time()
    );
    assert!(reads("[{ Value: context.statement.functions }].isEmpty()").names());
    assert!(reads("!context.statement.names_known").names());
}

#[test]
fn a_minute_is_told_as_clocks_of_the_time_zone_show_it() {
    let berlin = TimeZone::get("Europe/Berlin").expect("it is in the database");
    // Midnight of a Sunday in UTC, in winter and in summer; and a moment before the epoch.
    for (unix_s, zone, weekday, minute) in [
        (1_767_484_800, &TimeZone::UTC, Weekday::Sunday, 0),
        (1_767_484_800, &berlin, Weekday::Sunday, 60),
        (1_783_209_599, &TimeZone::UTC, Weekday::Saturday, 1439),
        (1_783_209_599, &berlin, Weekday::Sunday, 119),
        (-1, &TimeZone::UTC, Weekday::Wednesday, 1439),
    ] {
        let moment = Moment::of(unix_s * 1_000_000, zone);
        assert_eq!((moment.weekday, moment.minute_of_day), (weekday, minute), "{unix_s}");
        assert_eq!(moment.unix_minutes, unix_s.div_euclid(60));
    }
}

#[test]
fn what_forbids_says_what_to_do() {
    let policy = policy(
        "permit(principal, action, resource);
         @id(\"drops\") @advice(\"Ask the owners to drop it.\")
         forbid(principal, action == Action::\"ddl\", resource);",
    );
    let Ruling::Deny(why) = decide(&policy, "ann", "shop", "drop table orders") else {
        panic!("it is forbidden")
    };
    let denial = why.denial();
    assert_eq!(denial.rule, "policy:drops");
    assert_eq!(denial.message, "retrace: the rule \"drops\" forbids this");
    assert_eq!(denial.hint, "Ask the owners to drop it. Nothing of this command was executed.");
}
