//! Judgements as data: a text, and what is said of it.

mod allowed;
mod copies;
mod definitions;
mod extraction;
mod fixture;

use super::*;
use crate::facts::Facts;
use fixture::{catalogue, resolved};

/// What a text is expected to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Denied by this rule.
    Deny(&'static str),
    /// Allowed, and results of unknown origin pass.
    Pass,
    /// Allowed with this many guesses, and results of unknown origin are redacted.
    Redact(u32),
}

fn judged(sql: &str) -> Judgement {
    let facts = Facts::of(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let catalogue = catalogue();
    judge(&facts, &catalogue, &resolved(&catalogue), Backslash::Plain)
}

fn found(sql: &str) -> Expect {
    match judged(sql) {
        Judgement::Deny(denial) => match denial.rule {
            std::borrow::Cow::Borrowed(rule) => Expect::Deny(rule),
            std::borrow::Cow::Owned(rule) => panic!("{rule} is a rule of nobody"),
        },
        Judgement::Allow(allowance) => match allowance.unknown_origins {
            UnknownOrigins::Pass => {
                assert_eq!(allowance.guesses, 0, "guesses only where a masked column is named: {sql}");
                Expect::Pass
            }
            UnknownOrigins::Redact => Expect::Redact(allowance.guesses),
        },
    }
}

/// Checks a table of texts whole, so that one run tells of every difference.
#[track_caller]
fn check(table: &[(&str, Expect)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(sql, expect)| {
            let found = found(sql);
            (found != *expect).then(|| format!("{sql}\n    found {found:?}, expected {expect:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}
