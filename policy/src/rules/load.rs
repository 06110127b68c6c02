//! A file of rules, checked until nothing in it can surprise while it decides.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Effect, Entities, EntityUid, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use jiff::tz::TimeZone;
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::hold::{self, ANNOTATIONS, HoldTerms, OF_HOLDS};
use super::world::{WorldPrincipal, uid};
use super::{POLICY_BYTES_MAX, Reads, SCHEMA, World};

/// The rules of a gate, and whom and what they may name.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) rules: Arc<Vec<Rule>>,
    pub(super) entities: Arc<Entities>,
    pub(super) time_zone: TimeZone,
    count: usize,
    version: String,
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) policy: cedar_policy::Policy,
    pub(super) reads: Reads,
    /// What it asks for, if it holds.
    pub(super) hold: Option<Arc<HoldTerms>>,
}

/// What is wrong with a file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Policy {
    /// The rules of a file, together with what the configuration itself permits.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of its lines.
    pub fn load(text: &str, world: &World, time_zone: TimeZone) -> Result<Self, Vec<Problem>> {
        let schema = schema();
        let source = Source { text };
        let mut rules = source.rules(world)?;
        source.validate(&rules, &schema)?;
        let count = rules.len();
        rules.extend(world.principals.iter().flat_map(of_configuration));
        let mut hash = Sha256::new();
        hash.update(text);
        Ok(Self {
            entities: Arc::new(world.entities(&schema)),
            rules: Arc::new(rules),
            time_zone,
            count,
            version: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// How many rules the file has.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.count
    }

    /// Hex SHA-256 of the file.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

pub(super) fn schema() -> Schema {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the schema is tested");
    schema
}

/// A file of rules as text.
#[derive(Clone, Copy)]
struct Source<'a> {
    text: &'a str,
}

impl Source<'_> {
    /// Reads each rule by itself, and what its annotations say.
    fn rules(self, world: &World) -> Result<Vec<Rule>, Vec<Problem>> {
        if self.text.len() > POLICY_BYTES_MAX {
            let problem = format!("the rules have more than {POLICY_BYTES_MAX} bytes");
            return Err(vec![self.at(0, problem, "make them shorter; many alike can be one over a group")]);
        }
        let set: PolicySet = self.text.parse().map_err(|errors: cedar_policy::ParseErrors| {
            let errors: Vec<_> = errors.iter().map(|error| self.diagnostic(error, 0)).collect();
            sorted(errors)
        })?;
        if let Some(template) = set.templates().next() {
            let start = self.text.find(['?']).unwrap_or(0);
            let problem = format!("`{}` has a slot, and nothing fills it", template.id());
            return Err(vec![self.at(
                start,
                problem,
                "name the principal or the resource in place of the slot",
            )]);
        }
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        let mut rules = Vec::new();
        for (start, policy) in self.in_order(&set) {
            match self.rule(start, &policy, world) {
                Ok(rule) if names.insert(rule.policy.id().clone()) => rules.push(rule),
                Ok(rule) => problems.push(self.at(
                    start,
                    format!("there is a rule `{}` before this one", rule.policy.id()),
                    "names are unique, since the record says by which rule it was decided: give another @id",
                )),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(rules) } else { Err(sorted(problems)) }
    }

    /// The rules, each with where it begins. Cedar numbers them as they stand in the text, and keeps the text of each.
    fn in_order(self, set: &PolicySet) -> Vec<(usize, cedar_policy::Policy)> {
        let number = |policy: &cedar_policy::Policy| {
            policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
        };
        let mut policies: Vec<_> = set.policies().cloned().collect();
        policies.sort_by_key(number);
        let mut end = 0;
        let place = |policy: cedar_policy::Policy| {
            let text = policy.to_cedar().unwrap_or_default();
            let start = self.text[end..].find(&text).map_or(end, |found| end + found);
            end = (start + text.len()).min(self.text.len());
            (start, policy)
        };
        policies.into_iter().map(place).collect()
    }

    fn rule(self, start: usize, policy: &cedar_policy::Policy, world: &World) -> Result<Rule, Vec<Problem>> {
        let named = policy.annotation("id").map(str::to_owned);
        let (line, column) = self.place(start);
        let at_line = if column == 1 { format!("line {line}") } else { format!("line {line}:{column}") };
        let name = named.unwrap_or(at_line);
        let mut problems = Vec::new();
        let mut wrong =
            |offset: usize, problem: String, remedy: &str| problems.push(self.at(offset, problem, remedy));
        if name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control() || c == '[') {
            wrong(start, "@id is no name for a rule".to_owned(), "give it 1 to 64 bytes, without brackets");
        }
        for (annotation, _) in policy.annotations() {
            if !ANNOTATIONS.contains(&annotation) {
                let at = self.within(start, &format!("@{annotation}"));
                let allowed = ANNOTATIONS.map(|it| format!("@{it}")).join(", ");
                wrong(at, format!("@{annotation} means nothing here"), &format!("allowed are {allowed}"));
            }
        }
        for literal in policy.entity_literals().iter().filter(|literal| !world.has(literal)) {
            let at = self.within(start, &literal.to_string());
            wrong(at, format!("there is no {literal}"), &known(literal, world));
        }
        if policy
            .annotation("advice")
            .is_some_and(|advice| advice.len() > 500 || advice.chars().any(char::is_control))
        {
            let at = self.within(start, "@advice");
            wrong(
                at,
                "@advice cannot be shown".to_owned(),
                "say what to do instead, in one line of 500 bytes at most",
            );
        }
        let holds = policy.annotation("hold").is_some();
        let terms_alone = OF_HOLDS.iter().find(|it| policy.annotation(it).is_some());
        if let Some(alone) = terms_alone.filter(|_| !holds) {
            let at = self.within(start, &format!("@{alone}"));
            wrong(
                at,
                format!("@{alone} stands without @hold"),
                "add @hold(\"what this is about\"), or leave it out",
            );
        }
        if holds && policy.effect() == Effect::Permit {
            let at = self.within(start, "@hold");
            wrong(
                at,
                "@hold stands at a rule that permits".to_owned(),
                "a hold is a `forbid` that reviewers may lift: permit it as well, and write `forbid` here",
            );
        }
        let hold = match holds.then(|| hold::terms(policy, &name, world)).transpose() {
            Ok(terms) => terms.map(Arc::new),
            Err((problem, remedy)) => {
                wrong(self.within(start, "@hold"), problem, &remedy);
                None
            }
        };
        if problems.is_empty() {
            Ok(Rule::new(policy.new_id(PolicyId::new(name)), hold))
        } else {
            Err(problems)
        }
    }

    /// Checks all rules by the schema: types, and what can never hold.
    fn validate(self, rules: &[Rule], schema: &Schema) -> Result<(), Vec<Problem>> {
        let policies = rules.iter().map(|rule| rule.policy.clone());
        let set = PolicySet::from_policies(policies).expect("their names are unique");
        let validation = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        let starts: BTreeMap<_, _> = self
            .in_order(&self.text.parse().expect("it was parsed before"))
            .into_iter()
            .zip(rules)
            .map(|((start, _), rule)| (rule.policy.id().clone(), start))
            .collect();
        let errors = validation.validation_errors().map(|it| (it.policy_id(), it as &dyn Diagnostic));
        let mut found: Vec<_> = errors.collect();
        if found.is_empty() {
            let warnings = validation.validation_warnings();
            found.extend(warnings.map(|it| (it.policy_id(), it as &dyn Diagnostic)));
        }
        // What is wrong at a place of a rule is why the rule as a whole comes to nothing.
        let placed =
            |found: &dyn Diagnostic| found.labels().is_some_and(|mut labels| labels.next().is_some());
        let rules_placed: HashSet<_> =
            found.iter().filter(|(_, it)| placed(*it)).map(|(id, _)| *id).collect();
        let told = found.iter().filter(|(id, it)| placed(*it) || !rules_placed.contains(id));
        let problems = told.map(|(id, it)| {
            let problem = self.diagnostic(*it, starts.get(*id).copied().unwrap_or(0));
            let of_rule = format!("for policy `{id}`");
            let bare = |text: &str| {
                text.strip_prefix(&of_rule).unwrap_or(text).trim_start_matches([',', ':', ' ']).to_owned()
            };
            Problem { problem: bare(&problem.problem), remedy: bare(&problem.remedy), ..problem }
        });
        let problems: Vec<_> = problems.collect();
        if problems.is_empty() { Ok(()) } else { Err(sorted(problems)) }
    }

    /// A finding of Cedar's, with the place that it labels.
    fn diagnostic(self, found: &dyn Diagnostic, otherwise: usize) -> Problem {
        let label = found.labels().and_then(|mut labels| labels.next());
        let offset = label.map_or(otherwise, |label| label.offset());
        let remedy = found.help().map_or_else(
            || "the schema of what rules may say is shown by `retrace check --schema`".to_owned(),
            |help| help.to_string(),
        );
        self.at(offset, first_line(&found.to_string()), &first_line(&remedy))
    }

    /// Where a text stands in the rule that begins at `start`, or the rule.
    fn within(self, start: usize, text: &str) -> usize {
        self.text[start..].find(text).map_or(start, |found| start + found)
    }

    fn at(self, offset: usize, problem: String, remedy: &str) -> Problem {
        let (line, column) = self.place(offset);
        Problem { line, column, problem, remedy: remedy.to_owned() }
    }

    fn place(self, offset: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        (line, column)
    }
}

impl Rule {
    fn new(policy: cedar_policy::Policy, hold: Option<Arc<HoldTerms>>) -> Self {
        // A rule that has no JSON form may read anything.
        let reads = policy.to_json().map_or(Reads::ALL, |json| Reads::of(&json));
        Self { policy, reads, hold }
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

/// Cedar's messages are of one line, but for what they quote.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What a rule may name in place of what there is not.
fn known(literal: &EntityUid, world: &World) -> String {
    let names: Vec<&str> = match literal.type_name().to_string().as_str() {
        "Group" => world.groups().into_iter().collect(),
        "Target" => world.targets.iter().map(|target| target.name.as_str()).collect(),
        _ => world.principals.iter().map(|principal| principal.name.as_str()).collect(),
    };
    const NAMES_MAX: usize = 20;
    let more = if names.len() > NAMES_MAX { ", …" } else { "" };
    let listed = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match listed.is_empty() {
        true => "retrace.toml has none".to_owned(),
        false => format!("retrace.toml has {listed}{more}"),
    }
}

/// What `targets` of a principal permits: everything there that no rule forbids.
fn of_configuration(principal: &WorldPrincipal) -> Vec<Rule> {
    let who = uid("Principal", &principal.name);
    let permit = |(index, name): (usize, &String)| {
        let resource =
            if name == "*" { " is Target".to_owned() } else { format!(" == {}", uid("Target", name)) };
        let text = format!("permit(principal == {who}, {AT_TARGETS}, resource{resource});");
        let id = PolicyId::new(format!("targets[{index}] of {who}"));
        let policy =
            cedar_policy::Policy::parse(Some(id), text).expect("names are escaped, and the rest is fixed");
        Rule::new(policy, None)
    };
    principal.targets.iter().enumerate().map(permit).collect()
}

const AT_TARGETS: &str = "action in [Action::\"connect\", Action::\"execute\"]";
