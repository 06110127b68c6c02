//! What is refused when rules are loaded, and where it says so.

use super::*;

fn problems(text: &str) -> Vec<Problem> {
    Policy::load(text, &world(), TimeZone::UTC).expect_err(text)
}

/// A file of rules, where its first problem is, what it says and what to do; `PERMIT` stands for a rule that permits all.
type Case = (&'static str, (usize, usize), &'static str, &'static str);

fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (text, place, says, remedy) in cases {
        let text = text.replace("PERMIT", "permit(principal, action, resource)");
        let found = problems(&text);
        let first = &found[0];
        let told = first.problem.contains(says) && first.remedy.contains(remedy) && !first.remedy.is_empty();
        if !told || (first.line, first.column) != *place {
            wrong.push(format!("{text}\n{found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_problem_has_its_place_and_a_remedy() {
    check(&[
        ("PERMIT\n  whn { true };", (2, 3), "invalid policy condition: whn", "`when` or `unless`"),
        (
            "\npermit(principal, action == Action::\"exec\", resource);",
            (2, 29),
            "unrecognized action `Action::\"exec\"`",
            "did you mean",
        ),
        (
            "PERMIT;\npermit(principal in\n  Group::\"dbas\", action, resource);",
            (3, 3),
            "there is no Group::\"dbas\"",
            "retrace.toml has agents, dba, sre",
        ),
        (
            "PERMIT when { resource == Target::\"shopp\" };",
            (1, 56),
            "there is no Target::\"shopp\"",
            "retrace.toml has shop, test",
        ),
        (
            "PERMIT when { principal.kind == Kind::\"robot\" };",
            (1, 62),
            "\"robot\"` is not declared",
            "\"human\", \"agent\", \"service\"",
        ),
        (
            "permit(principal, action == Action::\"read\", resource) when { context.statement.vreb == \"SELECT\" };",
            (1, 62),
            "attribute `statement.vreb` in context",
            "verb",
        ),
        ("permit(principal == ?principal, action, resource);", (1, 21), "has a slot", "name the principal"),
        ("PERMIT;\nPERMIT when { principal.name == 1 };", (2, 44), "types", ""),
        ("PERMIT;\nPERMIT when { false };", (2, 1), "impossible", ""),
    ]);
}

#[test]
fn each_annotation_that_cannot_be_is_told() {
    check(&[
        ("@id(\"a\") PERMIT;\n@id(\"a\") PERMIT;", (2, 1), "there is a rule `a` before", "another @id"),
        ("@id(\"a[0]\") PERMIT;", (1, 1), "no name for a rule", "without brackets"),
        ("@holds(\"x\") forbid(principal, action, resource);", (1, 1), "@holds means nothing", "@hold,"),
        (
            "PERMIT;\n@hold(\"x\")\nforbid(principal, action, resource);",
            (2, 1),
            "nobody may decide",
            "@reviewers",
        ),
        (
            "@hold(\"x\")\n@reviewers(\"group dbas\")\nforbid(principal, action, resource);",
            (1, 1),
            "named `dbas`",
            "retrace.toml",
        ),
        (
            "@hold(\"x\") @reviewers(\"dba\") forbid(principal, action, resource);",
            (1, 1),
            "neither a group nor a principal",
            "group dba",
        ),
        (
            "@hold(\"x\") @reviewers(\"group dba\") @approvals(\"3\") forbid(principal, action, resource);",
            (1, 1),
            "asks for 3 to approve, and of its reviewers 2 are people",
            "fewer",
        ),
        (
            "@hold(\"x\") @reviewers(\"group dba\") @wait(\"2h\") forbid(principal, action, resource);",
            (1, 1),
            "@wait is not a time from 1s to 1h",
            "@wait(\"5m\")",
        ),
        (
            "@hold(\"x\") @reviewers(\"group dba\") @reason(\"please\") forbid(principal, action, resource);",
            (1, 1),
            "@reason",
            "optional",
        ),
        (
            "@hold @reviewers(\"group dba\") forbid(principal, action, resource);",
            (1, 1),
            "no text",
            "1 to 500",
        ),
        (
            "@reviewers(\"group dba\") forbid(principal, action, resource);",
            (1, 1),
            "stands without @hold",
            "add @hold",
        ),
        (
            "@hold(\"x\") @reviewers(\"group dba\") PERMIT;",
            (1, 1),
            "@hold stands at a rule that permits",
            "`forbid`",
        ),
    ]);
}

#[test]
fn all_problems_are_told_in_the_order_of_their_lines() {
    let text = "permit(principal in Group::\"a\", action, resource);\n@x forbid(principal in Group::\"b\", action, resource);";
    let lines: Vec<_> = problems(text).iter().map(|it| (it.line, it.problem.clone())).collect();
    let expect =
        [(1, "there is no Group::\"a\""), (2, "@x means nothing here"), (2, "there is no Group::\"b\"")];
    assert_eq!(lines, expect.map(|(line, problem)| (line, problem.to_owned())));
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let text = format!("// {}\n", "x".repeat(POLICY_BYTES_MAX));
    assert!(problems(&text)[0].problem.contains("bytes"));
}

#[test]
fn the_version_is_that_of_the_text() {
    let (one, other) =
        (policy("permit(principal, action, resource);"), policy("permit(principal, action, resource); "));
    assert_ne!(one.version(), other.version());
    assert_eq!(one.version().len(), 64);
}

#[test]
fn names_are_taken_as_they_are() {
    let name = "o\"h, \\ ann";
    let mut world = world();
    world.principals[0].name = name.to_owned();
    world.principals[0].targets = vec!["*".to_owned()];
    let policy = Policy::load("", &world, TimeZone::UTC).expect("it loads");
    assert_eq!(decide(&policy, name, "shop", "select 1"), Ruling::Allow);
}

#[test]
fn people_decide_for_one_run_or_many() {
    check(&[
        (
            "@hold(\"x\") @reviewers(\"group agents, principal bot\") forbid(principal, action, resource);",
            (1, 1),
            "of its reviewers 0 are people",
            "agents and services do not decide",
        ),
        (
            "@hold(\"x\") @reviewers(\"group dba\") @runs(\"twice\") forbid(principal, action, resource);",
            (1, 1),
            "neither \"once\" nor \"many\"",
            "\"once\"",
        ),
    ]);
}
