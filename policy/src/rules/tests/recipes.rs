//! The recipes of docs/policy.md do what they say.

use super::*;
use crate::facts::Unparsable;

const DOCS: &str = include_str!("../../../../docs/policy.md");

#[test]
fn each_recipe_of_the_documentation_does_what_it_says() {
    let mut recipes = 0;
    let mut outcomes = 0;
    for part in DOCS.split("```cedar\n").skip(1) {
        let (rules, rest) = part.split_once("```").expect("the block ends");
        let policy = policy(rules);
        let (between, rest) = rest.split_once("```outcomes\n").expect("each recipe says what it comes to");
        assert_eq!(between.trim(), "", "right below it");
        let (lines, _) = rest.split_once("```").expect("the block ends");
        for line in lines.lines() {
            let [who, sql, expect] = line.splitn(3, '|').map(str::trim).collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let (principal, target) = who.split_once(' ').expect("a principal and a target");
            let (target, moment) = match target.trim().strip_suffix(" by night") {
                Some(target) => (target, NIGHT),
                None => (target.trim(), MONDAY),
            };
            assert_eq!(outcome(&policy, (principal, target), moment, sql), expect, "{line}\n{rules}");
            outcomes += 1;
        }
        recipes += 1;
    }
    assert!(recipes >= 7 && outcomes >= 30, "{recipes} recipes, {outcomes} outcomes");
}

/// The same Monday, at ten in the evening.
const NIGHT: Moment = Moment { minute_of_day: 1320, ..MONDAY };

/// `allow`, or the rule that does not.
fn outcome(policy: &Policy, (principal, target): (&str, &str), moment: Moment, sql: &str) -> String {
    let scope = policy.scope(principal, target);
    let ask = match Facts::of(sql) {
        Ok(_) => ask(sql),
        Err(why) => Ask::not_understood(why, false),
    };
    assert_ne!(ask.unparsable, Some(Unparsable::TooLarge));
    match scope.decide_statement(&Question { moment, ..question(Some(&ask)) }) {
        Ruling::Allow => "allow".to_owned(),
        Ruling::Deny(why) => {
            let rule = why.denial().rule.into_owned();
            rule.strip_prefix("policy:").map_or(rule.clone(), str::to_owned)
        }
        Ruling::Hold(terms) => format!("held by {}", terms[0].rule),
    }
}
