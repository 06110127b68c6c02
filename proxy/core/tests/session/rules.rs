//! Rules about statements: decided when they run, by what runs, however it comes.

use std::sync::Arc;

use retrace_policy::catalogue::{CatalogueBuilder, CatalogueTable, Resolved};
use retrace_policy::keyed::HashKey;
use retrace_policy::rules::{Policy, TimeZone, World, WorldPrincipal, WorldTarget};
use retrace_proto::wire::PrincipalKind;
use retrace_proto::wire::command_refused::Reason;
use retrace_proto::wire::decision::Effect;
use retrace_proxy_core::postgres::{Columns, Opening, SessionRules};

use crate::harness::*;

/// Everything but DELETE, and INSERT by review; nothing on `public.secrets`, so nothing that is not understood either.
pub(crate) const RULES: &str = r#"
permit(principal, action, resource);
@id("deletes") forbid(principal, action == Action::"write", resource) when { context.statement.verb == "DELETE" };
@id("secrets") forbid(principal, action in Action::"execute", resource)
when { context.statement.relations.contains("public.secrets") };
@id("inserts") @hold("new rows are reviewed") @reviewers("principal ann")
forbid(principal, action == Action::"write", resource) when { context.statement.verb == "INSERT" };
@id("in transactions") forbid(principal, action == Action::"ddl", resource) when { context.statement.in_transaction };
"#;

fn world() -> World {
    let principal = |name: &str| WorldPrincipal {
        name: name.to_owned(),
        kind: PrincipalKind::Human,
        on_behalf_of: None,
        person: name.to_owned(),
        groups: Vec::new(),
        targets: Vec::new(),
    };
    let shop = WorldTarget { name: "shop".to_owned(), protocol: "postgres", labels: [].into() };
    World { principals: vec![principal("ann"), principal("bot")], targets: vec![shop] }
}

pub(crate) fn ruled() -> Bench {
    ruled_by(RULES)
}

pub(crate) fn ruled_by(rules: &str) -> Bench {
    ruled_with(rules, |_| {})
}

/// The same with something else changed.
pub(crate) fn ruled_with(rules: &str, change: impl FnOnce(&mut Opening)) -> Bench {
    let policy = Policy::load(rules, &world(), TimeZone::UTC).unwrap();
    let mut catalogue = CatalogueBuilder::default();
    let mut add = |table, cells: &[&str]| {
        let cells: Vec<_> = cells.iter().map(|cell| Some(*cell)).collect();
        catalogue.row(table, &cells).unwrap();
    };
    add(CatalogueTable::Relations, &["16400", "public", "t", "r"]);
    add(CatalogueTable::Relations, &["16401", "public", "secrets", "r"]);
    let catalogue = catalogue.finish();
    let resolved = Resolved::new(&[], &catalogue).unwrap();
    let mut bench = Bench::opening_with(false, |opening| {
        opening.rules = Some(SessionRules {
            scope: Arc::new(policy.scope("bot", "shop")),
            client_address: None,
            grants_key: HashKey::of_grants(b"key"),
        });
        change(opening);
    });
    bench.columns = Some(Arc::new(Columns { catalogue, resolved, version: "1".to_owned() }));
    bench.settle();
    bench.take_client();
    bench
}

/// What the target got, once it has answered a refusal if there is one.
fn after(bench: &mut Bench) -> String {
    let got = tags(&bench.take_target());
    bench.target(&[error("26000", "x"), ready(b'I')].concat());
    got
}

fn rules_that_refused(bench: &Bench) -> Vec<&str> {
    bench.refusals().iter().filter(|it| it.reason() != Reason::Skipped).map(|it| it.rule.as_str()).collect()
}

#[test]
fn a_statement_that_a_rule_forbids_is_not_forwarded_and_says_which_rule() {
    let mut bench = ruled();
    bench.client(&query("delete from t where id = 1"));
    assert_eq!(after(&mut bench), "BS");
    let client = bench.take_client();
    assert!(contains(&client, b"C42501\0") && contains(&client, b"the rule \"deletes\" forbids this"));
    let decision = bench.commands()[0].decision.as_ref().unwrap();
    assert_eq!((decision.effect(), decision.rule.as_str()), (Effect::Deny, "policy:deletes"));
    assert_eq!(rules_that_refused(&bench), ["policy:deletes"]);
    bench.client(&query("select 1"));
    assert_eq!(tags(&bench.take_target()), "Q");
}

#[test]
fn every_way_of_asking_is_decided() {
    let extended = |sql: &str| [parse("", sql, &[]), bind("", 0, &[], 0), execute(), sync()].concat();
    for (asked, rule) in [
        (query("select 1; delete from t"), "policy:deletes"),
        (query("with x as (delete from t returning 1) select * from secrets"), "policy:secrets"),
        (query("explain analyze delete from secrets"), "policy:secrets"),
        (query("prepare p as delete from t"), "policy:deletes"),
        (query("select * from (select 1) t, other.secrets"), "policy:secrets"),
        (query("not sql at all"), "policy:secrets"),
        (query("do 'begin end'"), "policy:secrets"),
        (query("execute unheard_of"), "policy:secrets"),
        (query("explain execute unheard_of"), "policy:secrets"),
        (query("create table x as execute unheard_of"), "policy:secrets"),
        (query("update pg_settings set setting = 'off'"), "policy.lexing"),
        (query("select query_to_xml('select 1', true, true, '')"), "policy.lexing"),
        (query("select * from pg_catalog.ts_stat('select 1')"), "policy.lexing"),
        (query("select cursor_to_xml('p', 1, true, true, '')"), "policy.lexing"),
        (query("set standard_conforming_strings = off"), "policy.lexing"),
        (query("select set_config('client_encoding', 'sjis', false)"), "policy.lexing"),
        (query("begin; drop table t"), "policy:in transactions"),
        (extended("delete from t"), "policy:deletes"),
        (extended("table secrets"), "policy:secrets"),
        (message(b'F', &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..]].concat()), "policy:secrets"),
    ] {
        let mut bench = ruled();
        bench.client(&asked);
        after(&mut bench);
        assert_eq!(rules_that_refused(&bench), [rule], "{asked:?}");
    }
}

#[test]
fn what_sql_prepared_is_decided_at_each_execute() {
    let mut bench =
        ruled_by(&RULES.replace("== \"DELETE\"", "== \"UPDATE\" && context.statement.in_transaction"));
    bench.client(&query("prepare p as update t set id = 1"));
    bench.target(&[complete("PREPARE"), ready(b'I')].concat());
    bench.client(&query("execute p"));
    bench.target(&[complete("UPDATE 1"), ready(b'I')].concat());
    assert!(bench.refusals().is_empty());
    bench.client(&query("begin"));
    bench.client(&query("execute p"));
    assert_eq!(tags(&bench.take_target()), "QQQBS", "the answer to BEGIN is not awaited");
    assert_eq!(rules_that_refused(&bench), ["policy:deletes"]);
}

#[test]
fn a_name_stands_for_all_that_it_was_ever_given() {
    let mut bench = ruled();
    bench.client(&query("prepare p as select * from t"));
    bench.target(&[complete("PREPARE"), ready(b'I')].concat());
    // The target refuses this one and keeps the other, or the other way round; who knows.
    bench.client(&[parse("p", "insert into t values (1)", &[]), sync()].concat());
    bench.target(&[error("42P05", "exists"), ready(b'I')].concat());
    assert!(bench.refusals().is_empty(), "to prepare what is held is no refusal");
    bench.take_target();
    bench.client(&query("execute p"));
    assert_eq!((bench.asked.len(), bench.take_target()), (1, Vec::new()));
    // What it stands for is told within one text, too.
    let mut bench = ruled();
    bench.client(&query("prepare q as insert into t values (1); execute q"));
    assert_eq!((bench.asked.len(), bench.take_target()), (1, Vec::new()));
}

#[test]
fn a_portal_of_what_is_held_cannot_be_fetched_from() {
    let mut bench = ruled();
    let bound = message(b'B', b"c\0s\0\0\0\0\0\0\0");
    let fetch = [parse("", "fetch all from c", &[]), bind("", 0, &[], 0), execute(), sync()].concat();
    bench.client(&[parse("s", "insert into t values (1) returning 1", &[]), bound, fetch].concat());
    assert_eq!(rules_that_refused(&bench), ["policy.held"]);
    // A cursor of SQL was decided about when it was declared.
    let mut bench = ruled();
    bench.client(&query("begin; declare c cursor for select 1; fetch all from c"));
    assert!(bench.refusals().is_empty());
}

#[test]
fn a_name_that_a_batch_gives_another_meaning_is_not_taken_for_what_it_was() {
    let mut bench = ruled();
    bench.client(&[parse("s", "select 1", &[]), sync()].concat());
    bench.target(&[PARSED.to_vec(), ready(b'I')].concat());
    let run = |sql: &str| [parse("", sql, &[]), bind("", 0, &[], 0), execute()].concat();
    let again = [run("deallocate s"), run("prepare s as insert into t values (1)")].concat();
    bench.client(&[again, bind("s", 0, &[], 0), execute(), sync()].concat());
    assert_eq!(rules_that_refused(&bench), ["policy:secrets"], "what it stands for is not known");
}

#[test]
fn what_a_definition_may_have_made_of_names_is_not_known_until_its_transaction_ends() {
    let rules = RULES.lines().filter(|line| !line.contains("in transactions")).collect::<Vec<_>>().join("\n");
    for (texts, refused) in [
        (&["begin; alter table t rename to t2; table t2"][..], &["policy:secrets"][..]),
        (&["create view v as select 1; table v"], &["policy:secrets"]),
        (&["begin; create table x (id int); select * from x"], &[]),
    ] {
        let mut bench = ruled_by(&rules);
        texts.iter().for_each(|text| bench.client(&query(text)));
        assert_eq!(rules_that_refused(&bench), refused, "{texts:?}");
    }
    let mut bench = ruled_by(&rules);
    bench.client(&query("begin"));
    bench.target(&[complete("BEGIN"), ready(b'T')].concat());
    bench.client(&query("alter table t rename to t2"));
    bench.target(&[complete("ALTER TABLE"), ready(b'T')].concat());
    bench.client(&query("table t2"));
    assert_eq!(rules_that_refused(&bench), ["policy:secrets"]);
    bench.target(&[error("26000", "x"), ready(b'E')].concat());
    bench.client(&query("rollback"));
    bench.target(&[complete("ROLLBACK"), ready(b'I')].concat());
    bench.client(&query("table t"));
    assert_eq!(bench.refusals().len(), 1);
}

#[test]
fn what_was_begun_may_be_left_whatever_the_rules_are() {
    let mut bench = ruled_by(
        "permit(principal, action == Action::\"read\", resource) when { context.statement.volatile };",
    );
    bench.columns = None;
    bench.client(&query("rollback"));
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.client(&query("rollback; select 1"));
    assert_eq!(rules_that_refused(&bench), ["policy.catalogue"]);
}

#[test]
fn whether_a_transaction_is_open_is_asked_both_ways_where_it_is_not_known() {
    let unless = "permit(principal, action, resource);
         @id(\"outside\") forbid(principal, action == Action::\"write\", resource) unless { context.statement.in_transaction };
         @id(\"inside\") forbid(principal, action == Action::\"ddl\", resource) when { context.statement.in_transaction };";
    for (texts, refused) in [
        (&["begin", "delete from t"][..], &["policy:outside"][..]),
        (&["begin; delete from t"], &[]),
        (&["begin; commit; delete from t"], &["policy:outside"]),
        (&["begin; commit and chain; drop table t"], &["policy:inside"]),
        (&["drop table t"], &[]),
    ] {
        let mut bench = ruled_by(unless);
        texts.iter().for_each(|text| bench.client(&query(text)));
        assert_eq!(rules_that_refused(&bench), refused, "{texts:?}");
    }
    // Between the end of BEGIN and ReadyForQuery nobody has said it yet.
    let mut bench = ruled_by(unless);
    bench.client(&[parse("", "begin", &[]), bind("", 0, &[], 0), execute(), message(b'H', b"")].concat());
    bench.target(&[PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), complete("BEGIN")].concat());
    bench.client(&[parse("", "drop table t", &[]), bind("", 0, &[], 0), execute(), sync()].concat());
    assert_eq!(rules_that_refused(&bench), ["policy:inside"]);
}

#[test]
fn what_the_target_may_read_otherwise_is_not_understood() {
    let mut bench = ruled();
    bench.target(&message(b'S', b"client_encoding\0SJIS\0"));
    bench.client(&query("select 'é'"));
    after(&mut bench);
    bench.client(&query("select 'e'"));
    assert_eq!(rules_that_refused(&bench), ["policy:secrets"]);
    let mut bench = ruled();
    bench.target(&message(b'S', b"standard_conforming_strings\0off\0"));
    bench.client(&query(r"select 'a\'"));
    after(&mut bench);
    assert_eq!(rules_that_refused(&bench), ["policy:secrets"]);
}

#[test]
fn nothing_is_asked_of_a_session_that_no_rule_can_concern() {
    let mut bench = ruled_by("permit(principal, action, resource);");
    bench.columns = None;
    bench.client(&query("not sql at all"));
    assert_eq!(tags(&bench.take_target()), "Q");
}

#[test]
fn without_a_catalogue_nothing_passes_rules_that_go_by_names() {
    let mut bench = ruled();
    bench.columns = None;
    bench.client(&query("select * from secrets"));
    after(&mut bench);
    assert_eq!(rules_that_refused(&bench), ["policy.catalogue"]);
}
