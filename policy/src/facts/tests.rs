//! Facts of texts, among them those that other parsers of trees give up on.

use super::*;

fn facts(sql: &str) -> Facts {
    Facts::of(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn one(sql: &str) -> StatementFacts {
    let mut facts = facts(sql);
    assert_eq!(facts.statements.len(), 1, "{sql}");
    facts.statements.remove(0)
}

/// On a stack as large as callers are told to give.
#[expect(clippy::disallowed_methods, reason = "the walk needs the stack that its documentation asks for")]
fn on_a_large_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(test).expect("a thread starts");
    thread.join().expect("the test passes");
}

#[test]
fn what_is_nested_deep_is_parsed() {
    on_a_large_stack(|| {
        for (sql, kind) in [
            // As deep as libpg_query hands over; deeper is no tree any more, whatever stack there is.
            (format!("select {}", vec!["1"; 4_990].join("+")), StatementKind::Select),
            (format!("select {}1{}", "f(".repeat(4_990), ")".repeat(4_990)), StatementKind::Select),
            (
                format!("select {}1{}", "xmlforest(".repeat(2_490), " as a)".repeat(2_490)),
                StatementKind::Select,
            ),
            (
                format!("select {}1{}", "case when true then ".repeat(1_990), " end".repeat(1_990)),
                StatementKind::Select,
            ),
            (format!("select {}1{}", "(select ".repeat(1_660), ")".repeat(1_660)), StatementKind::Unknown),
            (vec!["select 1"; 2_000].join(" union all "), StatementKind::Select),
            (format!("select 1 where {}", vec!["a = 1"; 20_000].join(" or ")), StatementKind::Select),
            (format!("insert into t values {}", vec!["(1, 'a')"; 50_000].join(",")), StatementKind::Insert),
        ] {
            assert_eq!(one(&sql).kind, kind, "{}…", &sql[..40]);
        }
    });
}

#[test]
fn what_passes_a_limit_is_unknown_or_not_parsed() {
    on_a_large_stack(|| {
        let nested = |depth: usize| {
            format!("select * from {}t{}", "(select * from ".repeat(depth), ") x".repeat(depth))
        };
        assert_eq!(one(&nested(QUERY_DEPTH_LEVELS_MAX)).kind, StatementKind::Select);
        assert_eq!(one(&nested(QUERY_DEPTH_LEVELS_MAX + 1)).kind, StatementKind::Unknown);
        let items = |count: usize| format!("select 1 from {}", vec!["t"; count].join(","));
        assert_eq!(one(&items(FROM_ITEMS_PER_STATEMENT_MAX)).kind, StatementKind::Select);
        assert_eq!(one(&items(FROM_ITEMS_PER_STATEMENT_MAX + 1)).kind, StatementKind::Unknown);
        let ctes = |count: usize| {
            let ctes: Vec<_> = (0..count).map(|index| format!("c{index} as (select 1)")).collect();
            format!("with {} select 1", ctes.join(","))
        };
        assert_eq!(one(&ctes(CTES_PER_STATEMENT_MAX)).kind, StatementKind::Select);
        assert_eq!(one(&ctes(CTES_PER_STATEMENT_MAX + 1)).kind, StatementKind::Unknown);
    });
    assert_eq!(Facts::of(&" ".repeat(STATEMENT_BYTES_MAX + 1)), Err(Unparsable::TooLarge));
    assert_eq!(Facts::of(&format!("select {}", vec!["1"; 6_000].join("+"))), Err(Unparsable::Syntax));
    assert_eq!(Facts::of("selec 1"), Err(Unparsable::Syntax));
    assert_eq!(Facts::of("select '\0'"), Err(Unparsable::Syntax));
}

#[test]
fn verbs_and_kinds_tell_what_a_statement_does() {
    use StatementKind as Kind;
    let name = || "p".to_owned();
    for (sql, verb, kind) in [
        ("select 1", "SELECT", Kind::Select),
        ("values (1)", "VALUES", Kind::Select),
        ("table t", "SELECT", Kind::Select),
        ("select 1 into t", "SELECT INTO", Kind::CreateTableAs),
        ("with a as (select 1) insert into t table a", "INSERT", Kind::Insert),
        ("update t set a = 1", "UPDATE", Kind::Update),
        ("delete from t", "DELETE", Kind::Delete),
        ("merge into t using s on true when matched then do nothing", "MERGE", Kind::Merge),
        ("begin", "BEGIN", Kind::Transaction),
        ("rollback to a", "ROLLBACK TO", Kind::Transaction),
        ("show all", "SHOW", Kind::Show),
        ("reset all", "SET", Kind::ResetAll),
        ("explain select 1", "EXPLAIN", Kind::Explain { analyze: false, inner: Box::new(Kind::Select) }),
        (
            "explain analyze select 1",
            "EXPLAIN",
            Kind::Explain { analyze: true, inner: Box::new(Kind::Select) },
        ),
        (
            "explain (analyze off) select 1",
            "EXPLAIN",
            Kind::Explain { analyze: false, inner: Box::new(Kind::Select) },
        ),
        ("prepare p as select 1", "PREPARE", Kind::Prepare { name: name(), inner: Box::new(Kind::Select) }),
        ("execute p(1)", "EXECUTE", Kind::Execute { name: name() }),
        ("deallocate p", "DEALLOCATE", Kind::Deallocate { name: Some(name()) }),
        ("deallocate all", "DEALLOCATE", Kind::Deallocate { name: None }),
        ("declare p cursor for select 1", "DECLARE CURSOR", Kind::DeclareCursor { name: name() }),
        ("fetch 5 from p", "FETCH", Kind::Fetch { name: name() }),
        ("move 5 from p", "MOVE", Kind::Move { name: "p".to_owned() }),
        ("close p", "CLOSE", Kind::ClosePortal),
        ("notify p, 'x'", "NOTIFY", Kind::Notify),
        ("do 'x'", "DO", Kind::Do),
        ("call p()", "CALL", Kind::Call),
        ("analyze t", "ANALYZE", Kind::Vacuum { analyze_only: true }),
        ("vacuum (analyze) t", "VACUUM", Kind::Vacuum { analyze_only: false }),
        ("drop table t", "DROP TABLE", Kind::Drop),
        ("create table t (a int)", "CREATE TABLE", Kind::Definition),
        ("create view v as select 1", "CREATE VIEW", Kind::CreateTableAs),
        ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW", Kind::CreateTableAs),
        ("create function f() returns int return 1", "CREATE FUNCTION", Kind::Code),
        ("alter type t add value 'x'", "ALTER", Kind::Definition),
        ("revoke all on t from public", "REVOKE", Kind::Housekeeping),
        ("alter system set work_mem = 1", "ALTER SYSTEM", Kind::SystemSetting),
    ] {
        let statement = one(sql);
        assert_eq!((statement.verb, &statement.kind), (verb, &kind), "{sql}");
    }
    assert_eq!(facts("begin; select 1").verb(), "BEGIN");
    assert_eq!(facts(" -- nothing\n").verb(), "");
}

#[test]
fn a_settings_values_are_read() {
    for (sql, name, values, local) in [
        ("set Search_Path = a, 'B'", "search_path", vec!["a", "B"], false),
        ("set local work_mem to default", "work_mem", vec![], true),
        ("reset work_mem", "work_mem", vec![], false),
        ("set names 'utf8'", "client_encoding", vec!["utf8"], false),
    ] {
        let values = values.into_iter().map(str::to_owned).collect();
        let expect = StatementKind::Set(SettingFacts { name: name.to_owned(), values, local });
        assert_eq!(one(sql).kind, expect, "{sql}");
    }
}

#[test]
fn a_cte_shadows_a_relation_within_its_scope_alone() {
    let sources = |sql: &str| -> Vec<String> {
        let describe = |item: &FromItem| match &item.source {
            Source::Relation(name) => format!("{name}"),
            Source::Cte { level, index } => format!("cte {level}.{index}"),
            Source::Level(level) => format!("level {level}"),
            other => format!("{other:?}"),
        };
        one(sql).levels.iter().flat_map(|level| level.from.iter().map(describe).collect::<Vec<_>>()).collect()
    };
    assert_eq!(
        sources("with t as (select 1 from t) select 1 from t, public.t"),
        ["cte 0.0", "public.t", "t"]
    );
    assert_eq!(sources("with recursive t as (select 1 from t) select 1 from t"), ["cte 0.0", "cte 0.0"]);
    assert_eq!(
        sources("with a as (select 1), b as (select 1 from a, c), c as (select 1) select 1"),
        ["cte 0.0", "c"]
    );
    assert_eq!(
        sources("select 1 from (with t as (select 1) select 1 from t) x, t"),
        ["level 1", "t", "cte 1.0"],
        "it ends with its level"
    );
    assert_eq!(
        sources("with t as (select 1) insert into t select * from t"),
        ["t", "cte 0.0"],
        "a target is a relation"
    );
}

#[test]
fn references_know_their_clause_and_use() {
    let statement = one(
        "select a, b as x, c.*, f(d), e + 1 from t c where g = 'x' and not (h in (1, $2) or i is null) and j < 1 \
         group by k having l group by m"
            .replace(" group by m", " > 1 order by n, 2 limit 1")
            .as_str(),
    );
    let level = &statement.levels[0];
    let shown: Vec<_> = level
        .references
        .iter()
        .map(|reference| {
            format!("{} {:?} {:?}", reference.fields.join("."), reference.clause, reference.usage)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "d Output Other",
            "e Output Other",
            "g Where ComparedWithLiterals { literals: 1 }",
            "h Where ComparedWithLiterals { literals: 2 }",
            "i Where NullTest",
            "j Where Other",
            "k Group Other",
            "l Having Other",
            "n Order Other",
        ]
    );
    assert_eq!(level.ordinals, [(Clause::Order, 2)]);
    assert_eq!(level.outputs.len(), 5);
    assert_eq!(level.outputs[1].alias.as_deref(), Some("x"));
    assert_eq!(level.outputs[2].value, OutputValue::Star(vec!["c".to_owned()]));
    assert_eq!(level.outputs[4].value, OutputValue::Expression);
}

#[test]
fn names_are_cut_folded_and_unescaped_as_the_target_does() {
    let field = |sql: &str| match &one(sql).levels[0].outputs[0].value {
        OutputValue::Column(fields) => fields.join("."),
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(field("select SsN from t"), "ssn");
    assert_eq!(field(r#"select "SsN" from t"#), "SsN");
    assert_eq!(field(r#"select U&"\0073sn" from t"#), "ssn");
    assert_eq!(field(&format!("select {} from t", "a".repeat(70))), "a".repeat(63));
    assert_eq!(field(&format!("select \"{}\" from t", "é".repeat(40))), "é".repeat(31));
}
